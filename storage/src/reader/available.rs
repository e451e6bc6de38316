//! How much there is to read, told without reading: what a waiting fetch asks each time it is woken.

use super::locate::{EXTENTS_PER_PARTITION_MAX, bytes_of};
use super::{ReadRequest, Reader};

/// What a read would find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Available {
    /// Bytes, by estimate exact to a batch, each partition counted up to its `max_bytes`.
    pub bytes: u64,
    /// A partition is unknown or an offset out of range: there is nothing to wait for.
    pub has_error: bool,
}

impl Reader {
    /// How many bytes a read of these partitions would find now. Looks at the index only.
    pub fn available(&self, requests: &[ReadRequest]) -> Available {
        self.metadata.read(|state| {
            let mut available = Available::default();
            for request in requests {
                let log = state.log(request.partition);
                let log = log.filter(|l| l.log_start() <= request.offset && request.offset <= l.high_watermark());
                let Some(log) = log else {
                    available.has_error = true;
                    continue;
                };
                let limit = u64::from(request.max_bytes);
                let mut found = 0;
                for part in log.parts(request.offset).take(EXTENTS_PER_PARTITION_MAX) {
                    found += bytes_of(&part, request.offset);
                    if found >= limit {
                        break;
                    }
                }
                available.bytes += found.min(limit);
            }
            available
        })
    }
}
