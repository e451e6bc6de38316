//! How long a fetch waits: until enough bytes are there, something is wrong, or its time is over.

use metadata::watch::Watch;
use storage::reader::{ReadRequest, Reader};
use tokio::time::{Instant, timeout_at};

/// Returns once at least `min_bytes` lie behind the requests, one of them has an error to tell, or `deadline` is reached.
/// `watch` is over their partitions: woken by apply, not by a timer; holds no task per partition. May be dropped at any time.
pub async fn enough(watch: &mut Watch, reader: &Reader, requests: &[ReadRequest], min_bytes: u64, deadline: Instant) {
    watch.renew();
    loop {
        let available = reader.available(requests);
        let done = available.has_error || available.bytes >= min_bytes;
        if done || timeout_at(deadline, watch.changed()).await.is_err() {
            return;
        }
    }
}
