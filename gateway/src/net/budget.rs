//! A pool of bytes that all connections share, so that memory is bounded whoever sends or reads.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The pool. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    cap: u32,
    taken: Gauge,
}

/// Bytes taken from the pool; given back when dropped.
#[derive(Debug)]
pub struct Hold {
    permit: OwnedSemaphorePermit,
    taken: Gauge,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.taken.dec_by(self.permit.num_permits() as i64);
    }
}

impl Budget {
    /// A pool of this many bytes, at most 4 GiB. `taken` shows how many are taken.
    pub fn new(bytes: usize, taken: Gauge) -> Self {
        let cap = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { bytes: Arc::new(Semaphore::new(cap as usize)), cap, taken }
    }

    /// Takes bytes, waiting in line until they are there. More than the pool holds counts as the whole pool: it is had
    /// alone. Dropping the future gives up the place in line.
    pub async fn take(&self, bytes: usize) -> Hold {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.cap);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        let permit = permit.expect("the pool is never closed");
        self.taken.inc_by(i64::from(bytes));
        Hold { permit, taken: self.taken.clone() }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn past_the_pool_takers_wait_in_line() {
        let taken = Gauge::default();
        let pool = Budget::new(10, taken.clone());
        let first = pool.take(8).await;
        let mut large = Box::pin(pool.take(100));
        assert!((&mut large).now_or_never().is_none());
        assert!(pool.take(1).now_or_never().is_none(), "a small taker does not pass a large one");
        drop(first);
        let large = large.await;
        assert_eq!(taken.get(), 10);
        drop(large);
        assert_eq!(taken.get(), 0);
    }
}
