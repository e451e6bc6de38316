//! A gateway without its sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gateway::coordinator::groups::Groups;
use gateway::coordinator::options::GroupOptions;
use gateway::options::kafka::KafkaSettings;
use metadata::clock::Clock;
use metadata::handle::{Metadata, MetadataParts};
use metadata::journal::memory::MemoryJournal;
use metadata::snapshot::MemorySnapshots;
use metadata::state::FEATURE_LEVEL;
use storage::blob::BlobStore;
use storage::blob::faulty::{Faults, Faulty};
use storage::blob::lanes::{Lane, LanePermits, LanesOptions, ReadLanes};
use storage::blob::memory::MemoryStore;
use storage::blob::retry::{Retry, RetryOptions};
use storage::cache::tail::TailCache;
use storage::metrics::StorageMetrics;
use storage::options::{MergeOptions, ReaderOptions, UpkeepOptions, WriterOptions};
use storage::reader::{Reader, ReaderParts};
use storage::upkeep::{ConfigOf, Upkeep, UpkeepParts};
use storage::writer::{Writer, WriterParts};
use tokio::sync::watch;
use tokio::time::Instant;

use super::log::{Log, LoggedBucket};
use super::wire::{Way, Wired};

/// Of the sessions.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(2);
const EPOCH_MS: i64 = 1_700_000_000_000;
/// By so much, times its number, a gateway's reads of the journal take longer.
const LAG: Duration = Duration::from_millis(10);
/// Objects stay this long after their last reference went.
const GRACE: Duration = Duration::from_secs(10);

/// What all gateways share.
#[derive(Debug)]
pub struct World {
    /// The journal.
    pub journal: Arc<MemoryJournal>,
    /// The bucket as it is.
    pub bucket: MemoryStore,
    /// Snapshots, which never fail.
    pub snapshots: Arc<MemorySnapshots>,
    /// Decides about everything random.
    pub seed: u64,
    /// Where everything is noted.
    pub log: Arc<Log>,
}

/// One life of a gateway.
#[derive(Debug)]
pub struct Node {
    /// What it knows.
    pub metadata: Metadata,
    /// What it writes with.
    pub writer: Writer,
    /// What it reads with.
    pub reader: Reader,
    /// The groups it coordinates.
    pub groups: Arc<Groups>,
    /// Its way to the journal.
    pub journal: Arc<Wired>,
    /// Its way to the bucket.
    pub store: Arc<Faults>,
    upkeep: Upkeep,
    is_dead: watch::Sender<bool>,
}

/// Simulated time of day, from when it was made; wrong by a little on each gateway.
#[derive(Debug)]
pub struct SimulatedClock {
    began: Instant,
    wrong_by_ms: i64,
}

impl SimulatedClock {
    /// A clock that is wrong by so much.
    pub fn wrong_by_ms(wrong_by_ms: i64) -> Arc<dyn Clock> {
        Arc::new(Self { began: Instant::now(), wrong_by_ms })
    }
}

impl Clock for SimulatedClock {
    fn now_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX / 2) + self.wrong_by_ms
    }
}

impl World {
    /// Starts a gateway; `life` tells its lives apart.
    ///
    /// # Errors
    /// If it does not come up; the text says why.
    pub async fn start(&self, number: i32, life: u64) -> Result<Node, String> {
        self.log.note(format_args!("life {life} begins: gateway {number}"));
        let (shared, lag) = (Arc::clone(&self.journal), LAG * number.unsigned_abs());
        let journal = Arc::new(Wired::new(shared, lag, Arc::clone(&self.log), life));
        let store = Arc::new(Faults::new(self.seed ^ (u64::from(number.unsigned_abs()) << 32) ^ life));
        let clock = SimulatedClock::wrong_by_ms(i64::from(number) * 700 - 1_400);
        let parts = MetadataParts::for_tests(number, Arc::clone(&journal) as _, Arc::clone(&self.snapshots) as _);
        let mut options = parts.options.clone();
        options.session_timeout_ms = Some(SESSION_TIMEOUT.as_millis() as u64);
        options.snapshot_entries = 150;
        let mut session = parts.session.clone();
        session.feature_level = FEATURE_LEVEL;
        let parts = MetadataParts { clock: Arc::clone(&clock), options: options.shared(), session, ..parts };
        let metadata = Metadata::start(parts).await.map_err(|error| error.to_string())?;
        Ok(self.assemble(metadata, journal, store, clock, life))
    }

    fn assemble(
        &self,
        metadata: Metadata,
        journal: Arc<Wired>,
        store: Arc<Faults>,
        clock: Arc<dyn Clock>,
        life: u64,
    ) -> Node {
        let bucket = LoggedBucket { bucket: self.bucket.clone(), log: Arc::clone(&self.log), life };
        let faulty = Arc::new(Faulty::new(Arc::new(bucket), Arc::clone(&store)));
        let options = RetryOptions { deadline: Duration::from_secs(10), ..RetryOptions::default() };
        let blobs: Arc<dyn BlobStore> = Arc::new(Retry::new(faulty, options));
        let metrics = StorageMetrics::unregistered();
        let tail = Arc::new(TailCache::new(256 << 10, metrics.tail.clone()));
        let writer = Writer::start(WriterParts {
            blobs: Arc::clone(&blobs),
            metadata: metadata.clone(),
            tail: Arc::clone(&tail),
            clock: Arc::clone(&clock),
            metrics: metrics.writer.clone(),
            options: WriterOptions::default(),
        });
        let lanes = LanesOptions::default();
        let lane = |options| Arc::new(Lane::new(Arc::clone(&blobs), LanePermits::new(options)));
        let reader = Reader::new(ReaderParts {
            lanes: ReadLanes { tail: lane(lanes.hot), catch_up: lane(lanes.cold) },
            metadata: metadata.clone(),
            tail: Arc::clone(&tail),
            disk: None,
            metrics: metrics.clone(),
            options: ReaderOptions::default(),
        });
        let upkeep = Upkeep::start(UpkeepParts {
            blobs: Arc::clone(&blobs),
            merge_blobs: Arc::clone(&blobs),
            compact_blobs: Arc::clone(&blobs),
            metadata: metadata.clone(),
            writer: writer.clone(),
            tail,
            clock,
            configs: ConfigOf::explicit(),
            metrics: metrics.upkeep,
            options: upkeep_options(),
        });
        let groups = Groups::start(metadata.clone(), group_options());
        Node { metadata, writer, reader, groups, journal, store, upkeep, is_dead: watch::Sender::new(false) }
    }
}

fn group_options() -> GroupOptions {
    let options = GroupOptions::new(&KafkaSettings::new(&BTreeMap::new()));
    GroupOptions { initial_rebalance_delay_ms: 200, min_session_timeout_ms: 1_000, ..options }
}

fn upkeep_options() -> UpkeepOptions {
    let second = Duration::from_secs(1);
    UpkeepOptions {
        retain_every: second * 5,
        sweep_every: second,
        list_every: second * 3,
        grace: GRACE,
        merge: MergeOptions { every: second, objects_min: 12, age_min: second, ..MergeOptions::default() },
        ..UpkeepOptions::default()
    }
}

impl Node {
    /// Dies as a process does: from here on nothing of it reaches anybody. What was on its way may have arrived.
    pub fn kill(&self) {
        self.journal.set(Way::Held);
        self.store.black_hole(true);
        self.is_dead.send_replace(true);
    }

    /// Leaves in order.
    pub async fn leave(&self) {
        self.groups.stop();
        self.upkeep.shutdown().await;
        self.writer.shutdown().await;
        self.metadata.shutdown().await;
        self.is_dead.send_replace(true);
    }

    /// Returns when it is dead: whoever has a connection to it loses that. Cancel safe.
    pub async fn dead(&self) {
        let _ = self.is_dead.subscribe().wait_for(|is_dead| *is_dead).await; // the sender lives in self
    }
}
