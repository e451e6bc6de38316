//! Builds every part once, in order, and stops them in reverse.

pub mod doors;
mod journal;
mod membership;
pub mod store;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metadata::archive::Archiver;
use metadata::clock::SystemClock;
use metadata::command::OpenSession;
use metadata::error::SubmitError;
use metadata::handle::{Metadata, MetadataParts};
use metadata::metrics::JournalMetrics;
use metadata::model::ids::NodeId;
use metadata::state::FEATURE_LEVEL;
use prometheus_client::registry::Registry;
use storage::blob::purpose::{Purpose, Stores};
use storage::cache::disk::DiskCache;
use storage::cache::tail::TailCache;
use storage::metrics::StorageMetrics;
use storage::options::UpkeepOptions;
use storage::reader::{Reader, ReaderParts};
use storage::upkeep::{ConfigOf, Upkeep, UpkeepParts};
use storage::writer::{Writer, WriterParts};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::doors::Door;
use crate::admin::console::Console;
use crate::admin::{self, Admin};
use crate::claim;
use crate::coordinator::groups::Groups;
use crate::coordinator::options::GroupOptions;
use crate::cost::CostMeter;
use crate::dispatch::Dispatch;
use crate::fetch::session::FetchSessions;
use crate::limits;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::net::permits::Permits;
use crate::net::shared::Shared;
use crate::options::kafka::KafkaSettings;
use crate::options::load::OptionsError;
use crate::options::{JournalPlace, Options};
use crate::producer_ids::ProducerIds;
use crate::services::Services;
use crate::snapshots::BucketSnapshots;

/// Why a gateway does not start. The text says what to do; nothing was acknowledged to anyone.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// An address is taken or not ours.
    #[error("cannot listen on {address} for {what}: {source}; choose another with {flag}")]
    Listen {
        /// The address, as it was asked for.
        address: String,
        /// Clients or admin.
        what: &'static str,
        /// The flag that sets it.
        flag: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data folder cannot be used.
    #[error("cannot use the data folder {folder}: {reason}; choose another with --data")]
    Data {
        /// The folder.
        folder: String,
        /// What is wrong.
        reason: String,
    },
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] metadata::journal::sqlite::OpenError),
    /// The journal in the bucket cannot be opened.
    #[error(transparent)]
    ObjectJournal(#[from] metadata::journal::object::OpenError),
    /// The journal in PostgreSQL cannot be opened.
    #[error(transparent)]
    PostgresJournal(#[from] metadata::journal::postgres::OpenError),
    /// The bucket cannot be used.
    #[error("cannot use {place}: {source}")]
    Store {
        /// Bucket or folder.
        place: String,
        /// What it said.
        source: storage::blob::BlobError,
    },
    /// The bucket is another cluster's.
    #[error(transparent)]
    Claim(#[from] claim::ClaimError),
    /// The metadata cannot be loaded.
    #[error("cannot load the metadata: {0}")]
    Metadata(#[from] metadata::error::StartError),
}

/// A running gateway.
pub struct App {
    /// Where Kafka clients are served, by the first listener.
    pub address: SocketAddr,
    /// Every listener; at least one.
    pub doors: Vec<Door>,
    /// Where the admin listener stands.
    pub admin_address: SocketAddr,
    /// Identity of the cluster.
    pub cluster_id: String,
    admin: Arc<Admin>,
    admin_stop: CancellationToken,
    shared: Arc<Shared>,
    listening: Vec<JoinHandle<()>>,
    services: Arc<Services>,
    upkeep: Upkeep,
    archiver: Option<Archiver>,
}

impl App {
    /// Starts everything; when it returns, clients are served.
    pub async fn start(options: Options) -> Result<Self, AppError> {
        options.validate()?;
        // Addresses first: a port in use leaves everything else untouched.
        let (listeners, doors) = doors::open(&options.listeners()?).await?;
        let (admin_listener, admin_address) = bind_admin(options.admin_address()?).await?;
        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&mut registry));
        let storage_metrics = StorageMetrics::register(&mut registry);
        let (stores, blob_metrics) = store::open(&options, &mut registry).await?;
        let (metadata, cluster_id, archiver) = start_metadata(&options, &doors, &stores, &mut registry).await?;
        let prices = options.cost.prices(options.bucket.is_some())?;
        let writer_metrics = storage_metrics.writer.clone();
        let cost = CostMeter::register(&mut registry, prices, blob_metrics, writer_metrics, metadata.clone());
        let disk = store::open_cache(&options, &cluster_id, storage_metrics.disk.clone()).await?;
        let (services, upkeep) = assemble(options, metadata, &stores, disk, storage_metrics, metrics)?;
        let shared = Arc::new(network(&services));
        let admin = Admin::new(registry, cost, Console::new(Arc::clone(&services)));
        let admin_stop = CancellationToken::new();
        tokio::spawn(Arc::clone(&admin).serve(admin_listener, admin_stop.clone()));
        tokio::spawn(membership::take_part(services.metadata.clone(), admin_stop.clone()));
        let listening = listeners.into_iter().map(|door| tokio::spawn(door.run(Arc::clone(&shared)))).collect();
        admin.set_ready(true);
        let address = doors.first().expect("options have at least one listener").address;
        Ok(Self {
            address,
            doors,
            admin_address,
            cluster_id,
            admin,
            admin_stop,
            shared,
            listening,
            services,
            upkeep,
            archiver,
        })
    }

    /// Waits until the metadata is of no more use and tells why; the gateway must then stop.
    pub async fn ended(&self) -> SubmitError {
        self.services.metadata.ended().await
    }

    /// Stops in reverse order: sends clients to other gateways if there are any, takes no new request, answers what is in
    /// flight, flushes, leaves the cluster. Bounded in time.
    pub async fn stop(self) {
        self.admin.set_ready(false);
        membership::send_clients_away(&self.services).await;
        // Who waits in a rebalance would hold the drain up.
        self.services.groups.stop();
        let drained = self.shared.drain(limits::DRAIN_DEADLINE).await;
        if !drained {
            tracing::warn!(
                seconds = limits::DRAIN_DEADLINE.as_secs(),
                "some connections were closed with answers outstanding"
            );
        }
        for listening in self.listening {
            let _ = listening.await;
        }
        self.upkeep.shutdown().await;
        self.services.writer.shutdown().await;
        self.services.metadata.shutdown().await;
        if let Some(archiver) = self.archiver {
            archiver.finish().await;
        }
        self.admin_stop.cancel();
    }
}

async fn bind_admin(address: SocketAddr) -> Result<(tokio::net::TcpListener, SocketAddr), AppError> {
    let failed =
        |source| AppError::Listen { address: address.to_string(), what: "the admin listener", flag: "--admin", source };
    let listener = admin::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn start_metadata(
    options: &Options,
    doors: &[Door],
    stores: &Stores,
    registry: &mut Registry,
) -> Result<(Metadata, String, Option<Archiver>), AppError> {
    let place = options.journal_place()?;
    let journal = journal::open(options, place, stores).await?;
    let bucket = stores.for_purpose(Purpose::Upkeep);
    let session = OpenSession {
        node: NodeId(options.node_id.unwrap_or(1)),
        listeners: doors.iter().map(Door::told).collect(),
        rack: options.rack.clone(),
        feature_level: FEATURE_LEVEL,
        cluster_id: cluster_id(),
        // Elsewhere the journal is of one gateway: its file is locked, or the bucket knows only one row of entries, and the
        // last to open a session in it goes on.
        fence_others: place != JournalPlace::Postgres,
    };
    let snapshots = BucketSnapshots::new(stores.for_purpose(Purpose::Snapshot), options.metadata.restore_window());
    let is_copied = journal::copied_every(options, place).is_some();
    let metadata = Metadata::start(MetadataParts {
        journal: Arc::clone(&journal),
        snapshots: Arc::new(if is_copied { snapshots.with_copies() } else { snapshots }),
        clock: Arc::new(SystemClock),
        session,
        allot_node: options.node_id.is_none() && place == JournalPlace::Postgres,
        options: options.metadata()?,
        metrics: JournalMetrics::register(registry),
    })
    .await?;
    if place == JournalPlace::Object {
        claim::check_restored(&bucket, &metadata).await?;
    }
    let cluster_id = metadata.read(|state| state.cluster_id().to_owned());
    claim::claim(&bucket, &cluster_id, place).await?;
    // Not sooner: it writes into the bucket, which may turn out to be another cluster's.
    let archiver = journal::archiver(options, place, stores, &journal, &metadata);
    Ok((metadata, cluster_id, archiver))
}

/// A new cluster id in Kafka's form: 22 characters of URL-safe base64.
fn cluster_id() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = uuid::Uuid::new_v4().as_u128();
    let mut text = String::with_capacity(22);
    for _ in 0..22 {
        text.push(char::from(LETTERS[(bits & 63) as usize]));
        bits >>= 6;
    }
    // Kafka's own ids never begin with a dash: tools take it for a flag.
    if text.starts_with('-') { text.replacen('-', "A", 1) } else { text }
}

fn assemble(
    options: Options,
    metadata: Metadata,
    stores: &Stores,
    disk: Option<Arc<DiskCache>>,
    storage_metrics: StorageMetrics,
    metrics: Arc<Metrics>,
) -> Result<(Arc<Services>, Upkeep), AppError> {
    let clock = Arc::new(SystemClock);
    let kafka = Arc::new(KafkaSettings::new(&options.kafka));
    let reader_options = options.storage.reader(options.bucket.is_some());
    let tail = Arc::new(TailCache::new(reader_options.tail_bytes, storage_metrics.tail.clone()));
    let writer = Writer::start(WriterParts {
        blobs: stores.for_purpose(Purpose::Produce),
        metadata: metadata.clone(),
        tail: Arc::clone(&tail),
        clock: clock.clone(),
        metrics: storage_metrics.writer.clone(),
        options: options.writer()?,
    });
    writer.decide_hedges(stores.upload_hedges());
    let reader = Reader::new(ReaderParts {
        lanes: stores.for_readers(),
        metadata: metadata.clone(),
        tail: Arc::clone(&tail),
        disk,
        metrics: storage_metrics.clone(),
        options: reader_options,
    });
    let settings = Arc::clone(&kafka);
    let upkeep = Upkeep::start(UpkeepParts {
        blobs: stores.for_purpose(Purpose::Upkeep),
        merge_blobs: stores.for_purpose(Purpose::Merge),
        compact_blobs: stores.for_purpose(Purpose::Compact),
        metadata: metadata.clone(),
        writer: writer.clone(),
        tail,
        clock: clock.clone(),
        configs: ConfigOf::new(move |topic| settings.topic_config(topic.configs())),
        metrics: storage_metrics.upkeep,
        options: {
            let upkeep = options.storage.upkeep(&kafka, options.bucket.is_some());
            // Whoever restores an earlier state finds its objects.
            let grace = upkeep.grace.max(options.metadata.restore_window());
            UpkeepOptions { grace, ..upkeep }
        },
    });
    let slots = usize::try_from(kafka.number("max.incremental.fetch.session.cache.slots")).unwrap_or(0);
    let services = Services {
        answer_memory: Budget::new(limits::ANSWER_MEMORY_BYTES, metrics.answer_memory.clone()),
        producer_ids: ProducerIds::new(metadata.clone()),
        fetch_sessions: FetchSessions::new(slots),
        groups: Groups::start(metadata.clone(), GroupOptions::new(&kafka)),
        leaving: CancellationToken::new(),
        options: Arc::new(options),
        metadata,
        writer,
        reader,
        kafka,
        metrics,
        clock,
    };
    Ok((Arc::new(services), upkeep))
}

fn network(services: &Arc<Services>) -> Shared {
    let kafka = &services.kafka;
    let number = |name: &str| usize::try_from(kafka.number(name)).unwrap_or(usize::MAX);
    let metrics = Arc::clone(&services.metrics);
    let dispatch = Arc::new(Dispatch::new(Arc::clone(services)));
    let mut shared = Shared::new(dispatch, Arc::clone(&metrics), services.answer_memory.clone());
    shared.request_memory = Budget::new(number("queued.max.request.bytes"), metrics.request_memory.clone());
    shared.permits = Permits::new(number("max.connections"), number("max.connections.per.ip"));
    shared.deadlines.idle = Duration::from_millis(number("connections.max.idle.ms") as u64);
    shared
}
