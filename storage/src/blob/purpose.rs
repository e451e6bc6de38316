//! One bucket, handed out by what it is used for: requests are counted and paid for by purpose, and pass in the lane of their
//! purpose, so that nothing slow can hold up what is urgent.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;

use super::BlobStore;
use super::hedge::PaidHedges;
use super::lanes::{Lane, LanePermits, LanesOptions, ReadLanes};
use super::retry::{Retry, RetryOptions};

/// What a request to the store is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Segments on their way in; an ack waits for them.
    Produce,
    /// Bytes on their way to consumers.
    Fetch,
    /// Many mixed objects into few.
    Merge,
    /// `cleanup.policy=compact`.
    Compact,
    /// Entries of the journal; acks wait for them.
    Journal,
    /// The whole state at an LSN.
    Snapshot,
    /// Listing, sweeping, and whose bucket it is.
    Upkeep,
}

impl Purpose {
    /// Every purpose, in the order of [`Purpose::index`].
    pub const ALL: [Self; 7] =
        [Self::Produce, Self::Fetch, Self::Merge, Self::Compact, Self::Journal, Self::Snapshot, Self::Upkeep];

    /// Place in tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Fetch => "fetch",
            Self::Merge => "merge",
            Self::Compact => "compact",
            Self::Journal => "journal",
            Self::Snapshot => "snapshot",
            Self::Upkeep => "upkeep",
        }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One bucket, once for each purpose. Clones share lanes.
///
/// Produce and journal have a lane each, which their own caps keep from ever being full; readers have two
/// ([`Stores::for_readers`]); merge, compaction, snapshots and upkeep share one, so that together they stay small.
#[derive(Debug, Clone)]
pub struct Stores {
    by_purpose: [Arc<Lane>; Purpose::ALL.len()],
    catch_up: Arc<Lane>,
    upload_hedges: Arc<PaidHedges>,
}

impl Stores {
    /// Puts lanes and retries before the stores that `of` gives, each of which counts for its purpose.
    ///
    /// Only readers' GETs are hedged here, if at all, and counted in `hedged`; PUTs are hedged by the writer's budget.
    pub fn new(
        lanes: &LanesOptions,
        retry: &RetryOptions,
        hedged: &Counter,
        of: impl Fn(Purpose) -> Arc<dyn BlobStore>,
    ) -> Self {
        let tried = Purpose::ALL.map(|purpose| -> Arc<dyn BlobStore> {
            let options = RetryOptions { hedge: retry.hedge && purpose == Purpose::Fetch, ..retry.clone() };
            Arc::new(Retry::hedging(of(purpose), options, hedged.clone()))
        });
        let upkeep = LanePermits::new(lanes.upkeep);
        let by_purpose = Purpose::ALL.map(|purpose| {
            let permits = match purpose {
                Purpose::Produce | Purpose::Journal | Purpose::Fetch => LanePermits::new(lanes.hot),
                Purpose::Merge | Purpose::Compact | Purpose::Snapshot | Purpose::Upkeep => Arc::clone(&upkeep),
            };
            Arc::new(Lane::new(Arc::clone(&tried[purpose.index()]), permits))
        });
        let fetch = Arc::clone(&tried[Purpose::Fetch.index()]);
        let catch_up = Arc::new(Lane::new(fetch, LanePermits::new(lanes.cold)));
        Self { by_purpose, catch_up, upload_hedges: Arc::default() }
    }

    /// The bucket for one purpose.
    pub fn for_purpose(&self, purpose: Purpose) -> Arc<dyn BlobStore> {
        Arc::clone(&self.by_purpose[purpose.index()]) as _
    }

    /// Second requests beside slow uploads of segments that carry their commit; the writer decides about them
    /// ([`Writer::decide_hedges`](crate::writer::Writer::decide_hedges)).
    pub fn upload_hedges(&self) -> &Arc<PaidHedges> {
        &self.upload_hedges
    }

    /// The bucket for readers: a lane for those near the end of their logs, and one for those that catch up.
    pub fn for_readers(&self) -> ReadLanes {
        ReadLanes { tail: Arc::clone(&self.by_purpose[Purpose::Fetch.index()]), catch_up: Arc::clone(&self.catch_up) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;
    use tokio::time::timeout;

    use super::*;
    use crate::blob::faulty::{Delay, Faults, Faulty};
    use crate::blob::lanes::LaneOptions;
    use crate::blob::measured::{BlobMetrics, Measured, Meter};
    use crate::blob::memory::MemoryStore;
    use crate::blob::{Operation, Payload, contract};

    fn stores(lanes: &LanesOptions, inner: &Arc<dyn BlobStore>, metrics: &BlobMetrics) -> Stores {
        Stores::new(lanes, &RetryOptions::default(), &Counter::default(), |purpose| {
            Arc::new(Measured::new(Arc::clone(inner), Meter::new(metrics.clone(), "memory", purpose)))
        })
    }

    #[tokio::test]
    async fn every_purpose_keeps_the_contract() {
        let inner: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        let stores = stores(&LanesOptions::default(), &inner, &BlobMetrics::default());
        contract::all(&*stores.for_purpose(Purpose::Merge)).await;
        contract::all(&*stores.for_readers().catch_up).await;
    }

    #[tokio::test]
    async fn requests_are_counted_by_purpose() {
        let inner: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        let metrics = BlobMetrics::default();
        let stores = stores(&LanesOptions::default(), &inner, &metrics);
        for purpose in Purpose::ALL {
            for _ in 0..=purpose.index() {
                stores.for_purpose(purpose).put(purpose.name(), Payload::from(&b"12345"[..])).await.unwrap();
            }
        }
        for purpose in Purpose::ALL {
            let count = purpose.index() as u64 + 1;
            assert_eq!(metrics.requests("memory", Operation::Put, purpose, "ok"), count, "{purpose}");
            assert_eq!(metrics.bytes("memory", Operation::Put, purpose), 5 * count, "{purpose}");
        }
        stores.for_readers().catch_up.get("fetch").await.unwrap();
        stores.for_readers().tail.get("fetch").await.unwrap();
        assert_eq!(metrics.requests("memory", Operation::Get, Purpose::Fetch, "ok"), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_lane_does_not_stop_another() {
        let faults = Arc::new(Faults::new(1));
        faults.set(|plan| plan.delay = Delay::Fixed(Duration::from_secs(1)));
        let inner: Arc<dyn BlobStore> = Arc::new(Faulty::new(Arc::new(MemoryStore::new()), faults));
        let one = LaneOptions { requests: 1, bytes: 1 << 20 };
        let lanes = LanesOptions { hot: one, cold: one, upkeep: one };
        let stores = stores(&lanes, &inner, &BlobMetrics::default());
        let many =
            |store: Arc<dyn BlobStore>| tokio::spawn(async move { join_all((0..50).map(|_| store.head("k"))).await });
        let busy =
            [stores.for_readers().catch_up as _, stores.for_readers().tail as _, stores.for_purpose(Purpose::Merge)];
        let busy = busy.map(many);
        tokio::task::yield_now().await;
        let in_time = Duration::from_millis(1_001);
        for purpose in [Purpose::Produce, Purpose::Journal] {
            let put = timeout(in_time, stores.for_purpose(purpose).put("k", Payload::default())).await;
            assert_eq!(put, Ok(Ok(())), "{purpose}");
        }
        let late = timeout(in_time, stores.for_purpose(Purpose::Compact).put("k", Payload::default())).await;
        assert!(late.is_err(), "what upkeep does shares one lane");
        assert!(busy.iter().all(|busy| !busy.is_finished()));
    }
}
