//! Three lanes into one store, each with permits of its own: what is slow in one cannot stop what is urgent in another.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{BlobError, BlobStore, ObjectMeta, Payload};

/// What one lane may have under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneOptions {
    /// Requests at once.
    pub requests: usize,
    /// Bytes of payloads and ranges at once; a larger one passes alone.
    pub bytes: usize,
}

/// The three lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanesOptions {
    /// Uploads of the writer and reads near the end of a log; default 128 requests, 512 MiB.
    pub hot: LaneOptions,
    /// Reads of lagging consumers; default 64 requests, 256 MiB.
    pub cold: LaneOptions,
    /// Merge, compaction, sweep, snapshots; default 8 requests, 64 MiB.
    pub upkeep: LaneOptions,
}

impl Default for LanesOptions {
    fn default() -> Self {
        Self {
            hot: LaneOptions { requests: 128, bytes: 512 << 20 },
            cold: LaneOptions { requests: 64, bytes: 256 << 20 },
            upkeep: LaneOptions { requests: 8, bytes: 64 << 20 },
        }
    }
}

/// The same store three times.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Uploads of the writer and reads near the end of a log.
    pub hot: Arc<Lane>,
    /// Reads of lagging consumers.
    pub cold: Arc<Lane>,
    /// Merge, compaction, sweep, snapshots.
    pub upkeep: Arc<Lane>,
}

impl Lanes {
    /// Splits `inner`.
    pub fn new(inner: &Arc<dyn BlobStore>, options: &LanesOptions) -> Self {
        let lane = |options| Arc::new(Lane::new(Arc::clone(inner), options));
        Self { hot: lane(options.hot), cold: lane(options.cold), upkeep: lane(options.upkeep) }
    }
}

/// Bytes are counted in these, so that any sum fits a semaphore.
const BYTES_UNIT: usize = 1024;

/// A store that lets only so much through at once; the rest waits in order of arrival.
#[derive(Debug)]
pub struct Lane {
    inner: Arc<dyn BlobStore>,
    requests: Semaphore,
    bytes: Semaphore,
    bytes_max: u32,
}

impl Lane {
    /// Wraps `inner`. A lane of no requests would stand still: at least one passes.
    pub fn new(inner: Arc<dyn BlobStore>, options: LaneOptions) -> Self {
        let bytes_max = u32::try_from((options.bytes / BYTES_UNIT).max(1)).unwrap_or(u32::MAX);
        Self {
            inner,
            requests: Semaphore::new(options.requests.clamp(1, Semaphore::MAX_PERMITS)),
            bytes: Semaphore::new(bytes_max as usize),
            bytes_max,
        }
    }

    async fn enter(&self, bytes: u64) -> (SemaphorePermit<'_>, SemaphorePermit<'_>) {
        let units = u32::try_from(bytes.div_ceil(BYTES_UNIT as u64)).unwrap_or(u32::MAX).min(self.bytes_max);
        let never = "the semaphores of a lane are never closed";
        // Bytes first: who waits for many bytes holds up no smaller request that is already through.
        let bytes = self.bytes.acquire_many(units).await.expect(never);
        (bytes, self.requests.acquire().await.expect(never))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Lane {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let _permits = self.enter(payload.len()).await;
        self.inner.put(key, payload).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let _permits = self.enter(payload.len()).await;
        self.inner.put_new(key, payload).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let _permits = self.enter(range.end.saturating_sub(range.start)).await;
        self.inner.get_range(key, range).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        // Its size is not known before, and only snapshots are read whole.
        let _permits = self.enter(0).await;
        self.inner.get(key).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        let _permits = self.enter(0).await;
        self.inner.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        let _permits = self.enter(0).await;
        self.inner.list(prefix, after, limit).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        let _permits = self.enter(0).await;
        self.inner.delete_many(keys).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::blob::contract;
    use crate::blob::faulty::{Delay, Faults, Faulty};
    use crate::blob::memory::MemoryStore;

    fn slow(delay_ms: u64) -> Arc<dyn BlobStore> {
        let faults = Arc::new(Faults::new(1));
        faults.set(|plan| plan.delay = Delay::Fixed(Duration::from_millis(delay_ms)));
        Arc::new(Faulty::new(Arc::new(MemoryStore::new()), faults))
    }

    #[tokio::test]
    async fn keeps_the_contract() {
        let inner: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        contract::all(&*Lanes::new(&inner, &LanesOptions::default()).upkeep).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_and_bytes_than_allowed_pass_at_once() {
        let elapsed = async |options, size: usize| {
            let lane = Lane::new(slow(100), options);
            let start = Instant::now();
            let keys: Vec<_> = (0..12).map(|i| format!("k{i}")).collect();
            join_all(keys.iter().map(|key| lane.put(key, Payload::from(vec![0; size])))).await;
            start.elapsed().as_millis()
        };
        assert_eq!(elapsed(LaneOptions { requests: 4, bytes: 1 << 20 }, 10).await, 300);
        assert_eq!(elapsed(LaneOptions { requests: 99, bytes: 6 << 10 }, 1024).await, 200);
        // Each larger than the lane: one by one, but they pass.
        assert_eq!(elapsed(LaneOptions { requests: 99, bytes: 6 << 10 }, 10 << 10).await, 1200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_does_not_stop_another() {
        let options = LaneOptions { requests: 1, bytes: 1 << 20 };
        let lanes = Lanes::new(&slow(1000), &LanesOptions { hot: options, cold: options, upkeep: options });
        let cold = Arc::clone(&lanes.cold);
        let lagging = tokio::spawn(async move { join_all((0..50).map(|_| cold.head("k"))).await.len() });
        tokio::task::yield_now().await;
        let hot = timeout(Duration::from_millis(1001), lanes.hot.put("k", Payload::default())).await;
        assert_eq!(hot, Ok(Ok(())));
        assert!(!lagging.is_finished());
        assert_eq!(lagging.await.unwrap(), 50);
    }
}
