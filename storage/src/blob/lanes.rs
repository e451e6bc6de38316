//! Lanes into one store, each with permits of its own: what is slow in one cannot stop what is urgent in another.

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

/// The lanes of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanesOptions {
    /// Uploads of the writer, the journal, and reads near the end of a log, each by itself; default 256 requests, 256 MiB.
    pub hot: LaneOptions,
    /// Reads of lagging consumers; default 64 requests, 128 MiB.
    pub cold: LaneOptions,
    /// Merge, compaction, sweep, snapshots, all together; default 8 requests, 64 MiB.
    pub upkeep: LaneOptions,
}

impl Default for LanesOptions {
    fn default() -> Self {
        Self {
            hot: LaneOptions { requests: 256, bytes: 256 << 20 },
            cold: LaneOptions { requests: 64, bytes: 128 << 20 },
            upkeep: LaneOptions { requests: 8, bytes: 64 << 20 },
        }
    }
}

/// The two lanes of readers.
#[derive(Debug, Clone)]
pub struct ReadLanes {
    /// Reads near the end of a log.
    pub tail: Arc<Lane>,
    /// Reads of lagging consumers.
    pub catch_up: Arc<Lane>,
}

/// Bytes are counted in these, so that any sum fits a semaphore.
const BYTES_UNIT: usize = 1024;

/// What may be under way at once in a lane; shared by all stores of it.
#[derive(Debug)]
pub struct LanePermits {
    requests: Semaphore,
    requests_max: usize,
    bytes: Semaphore,
    bytes_max: u32,
}

impl LanePermits {
    /// A lane of no requests would stand still: at least one passes.
    pub fn new(options: LaneOptions) -> Arc<Self> {
        let bytes_max = u32::try_from((options.bytes / BYTES_UNIT).max(1)).unwrap_or(u32::MAX);
        let requests_max = options.requests.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            requests: Semaphore::new(requests_max),
            requests_max,
            bytes: Semaphore::new(bytes_max as usize),
            bytes_max,
        })
    }

    async fn enter(&self, bytes: u64) -> (SemaphorePermit<'_>, SemaphorePermit<'_>) {
        let units = u32::try_from(bytes.div_ceil(BYTES_UNIT as u64)).unwrap_or(u32::MAX).min(self.bytes_max);
        let never = "the semaphores of a lane are never closed";
        // Bytes first: who waits for many bytes holds up no smaller request that is already through.
        let bytes = self.bytes.acquire_many(units).await.expect(never);
        (bytes, self.requests.acquire().await.expect(never))
    }
}

/// A store that lets only so much through at once; the rest waits in order of arrival.
///
/// Stands before the retries: a request keeps its permits while it waits to be tried again, so a store that is away is not
/// stormed by all who wait.
#[derive(Debug)]
pub struct Lane {
    inner: Arc<dyn BlobStore>,
    permits: Arc<LanePermits>,
}

impl Lane {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn BlobStore>, permits: Arc<LanePermits>) -> Self {
        Self { inner, permits }
    }

    /// Whether more than half of the lane is free: what no one waits for may then pass too.
    pub fn is_half_free(&self) -> bool {
        let LanePermits { requests, requests_max, bytes, bytes_max } = &*self.permits;
        requests.available_permits() * 2 > *requests_max && bytes.available_permits() * 2 > *bytes_max as usize
    }

    async fn enter(&self, bytes: u64) -> (SemaphorePermit<'_>, SemaphorePermit<'_>) {
        self.permits.enter(bytes).await
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
    use tokio::time::Instant;

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
        contract::all(&Lane::new(inner, LanePermits::new(LanesOptions::default().upkeep))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_and_bytes_than_allowed_pass_at_once() {
        let elapsed = async |options, size: usize| {
            let lane = Lane::new(slow(100), LanePermits::new(options));
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

    #[tokio::test]
    async fn a_lane_says_when_it_is_half_full() {
        let lane = Lane::new(slow(0), LanePermits::new(LaneOptions { requests: 4, bytes: 10 << 10 }));
        assert!(lane.is_half_free());
        let one = lane.enter(4 << 10).await;
        assert!(lane.is_half_free());
        let two = lane.enter(0).await;
        assert!(!lane.is_half_free(), "by requests");
        drop(two);
        assert!(lane.is_half_free());
        let two = lane.enter(1 << 10).await;
        drop(one);
        let one = lane.enter(4 << 10).await;
        assert!(!lane.is_half_free(), "by bytes");
        drop((one, two));
    }
}
