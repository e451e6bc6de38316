//! A pool of bytes that all connections share, so that memory is bounded whoever sends or reads.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The pool. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    /// The right to grow beyond the pool; one holder at a time.
    overdraft: Arc<Semaphore>,
    cap: u32,
    taken: Gauge,
}

/// Bytes taken from the pool; given back when dropped.
#[derive(Debug)]
pub struct Hold {
    permit: OwnedSemaphorePermit,
    overdraft: Option<OwnedSemaphorePermit>,
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
        Self { bytes: Arc::new(Semaphore::new(cap as usize)), overdraft: Arc::new(Semaphore::new(1)), cap, taken }
    }

    /// Takes bytes, waiting in line until they are there. More than the pool holds counts as the whole pool: it is had
    /// alone. Dropping the future gives up the place in line.
    pub async fn take(&self, bytes: usize) -> Hold {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.cap);
        let permit = Arc::clone(&self.bytes).acquire_many_owned(bytes).await;
        let permit = permit.expect("the pool is never closed");
        self.taken.inc_by(i64::from(bytes));
        Hold { permit, overdraft: None, taken: self.taken.clone() }
    }

    /// Makes a hold larger, up to `bytes` in all, waiting in line. Who holds some and waits for more could wait for others
    /// that do the same; so one at a time need not wait, and goes beyond the pool until its hold ends.
    pub async fn grow(&self, hold: &mut Hold, bytes: usize) {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.cap);
        let more = wanted.saturating_sub(u32::try_from(hold.permit.num_permits()).unwrap_or(u32::MAX));
        if more == 0 || hold.overdraft.is_some() {
            return;
        }
        tokio::select! {
            biased;
            permit = Arc::clone(&self.bytes).acquire_many_owned(more) => {
                hold.permit.merge(permit.expect("the pool is never closed"));
                self.taken.inc_by(i64::from(more));
            }
            overdraft = Arc::clone(&self.overdraft).acquire_owned() => {
                hold.overdraft = Some(overdraft.expect("the right is never closed"));
            }
        }
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

    #[tokio::test]
    async fn one_of_those_who_wait_for_each_other_goes_on() {
        let taken = Gauge::default();
        let pool = Budget::new(10, taken.clone());
        let (mut one, mut two) = (pool.take(4).await, pool.take(4).await);
        pool.grow(&mut one, 6).await;
        assert_eq!(taken.get(), 10);
        pool.grow(&mut one, 8).await;
        pool.grow(&mut one, 100).await;
        let mut waits = Box::pin(pool.grow(&mut two, 8));
        assert!((&mut waits).now_or_never().is_none(), "one at a time");
        drop(one);
        waits.await;
        drop(two);
        assert_eq!(taken.get(), 0);
        assert_eq!(pool.overdraft.available_permits(), 1);
    }
}
