//! How long a fetch waits: until enough bytes are there, something is wrong, or its time is over.

use std::future::Future;

use metadata::handle::Metadata;
use storage::reader::{ReadRequest, Reader};
use tokio::time::Instant;

/// Returns once at least `min_bytes` lie behind the requests, one of them has an error to tell, or `deadline` is reached.
/// Woken by apply, not by a timer; holds no task per partition. May be dropped at any time.
pub fn enough(
    metadata: &Metadata,
    reader: &Reader,
    requests: Vec<ReadRequest>,
    min_bytes: u64,
    deadline: Instant,
) -> impl Future<Output = ()> + Send + use<> {
    let mut watch = metadata.watch(requests.iter().map(|request| request.partition));
    let reader = reader.clone();
    async move {
        loop {
            let available = reader.available(&requests);
            let done = available.has_error || available.bytes >= min_bytes;
            if done || tokio::time::timeout_at(deadline, watch.changed()).await.is_err() {
                return;
            }
        }
    }
}
