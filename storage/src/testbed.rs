//! A gateway's bytes' side for tests: writer, reader and upkeep over a store that follows a script and a journal in memory.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use metadata::clock::ManualClock;
use metadata::command::{BatchOutcome, Command, CreateTopic, Outcome};
use metadata::handle::{Metadata, MetadataParts};
use metadata::journal::memory::MemoryJournal;
use metadata::journal::object::ObjectJournal;
use metadata::model::batch::{BatchIter, BatchView};
use metadata::model::extent::ObjectId;
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::model::offset::Offset;
use metadata::snapshot::MemorySnapshots;

use crate::blob::hedge::PaidHedges;
use crate::blob::lanes::{Lane, LanePermits, LanesOptions, ReadLanes};
use crate::blob::memory::MemoryStore;
use crate::blob::retry::{Retry, RetryOptions};
use crate::blob::{BlobError, BlobStore, ObjectMeta, Payload};
use crate::cache::tail::TailCache;
use crate::entries::BlobEntries;
use crate::error::WriteError;
use crate::metrics::StorageMetrics;
use crate::options::{ProfileNumbers, ReaderOptions, UpkeepOptions, WriterOptions};
use crate::reader::{ReadRequest, ReadResult, Reader, ReaderParts};
use crate::sample::{batch_of, summary_of};
use crate::upkeep::{ConfigOf, Upkeep, UpkeepParts};
use crate::writer::ticket::ProduceTicket;
use crate::writer::{Submission, Writer, WriterParts};

/// What happens to one PUT.
#[derive(Debug, Clone)]
pub enum PutFault {
    /// Nothing but time.
    Slow(Duration),
    /// Not done, and told so.
    Refused,
    /// Done, but the answer is lost.
    AnswerLost,
    /// Not answered; done after this long.
    Late(Duration),
}

/// What happens to one GET.
#[derive(Debug, Clone)]
pub enum GetFault {
    /// One bit of what comes is wrong.
    FlipBit,
    /// What comes is from one byte further on.
    Shifted,
    /// Fails.
    Refused,
}

/// What the store does next.
#[derive(Debug, Default)]
pub struct Script {
    /// Time of every PUT.
    pub put_delay: Duration,
    /// Time of every GET.
    pub get_delay: Duration,
    /// Faults of the next PUTs.
    pub puts: VecDeque<PutFault>,
    /// Keys whose PUTs are not done, and told so.
    pub refused_keys: BTreeSet<String>,
    /// Faults of the next GETs.
    pub gets: VecDeque<GetFault>,
    /// How many of the next deletes fail.
    pub failing_deletes: usize,
    /// Nothing is answered.
    pub is_away: bool,
    /// PUTs so far.
    pub put_count: usize,
    /// GETs so far.
    pub get_count: usize,
    /// GETs under way, and the most there ever were.
    pub gets_now: (usize, usize),
}

/// A store in memory that follows a script.
#[derive(Debug, Default)]
pub struct Stage {
    /// What is really there.
    pub store: MemoryStore,
    script: Mutex<Script>,
}

impl Stage {
    /// Another way to the same bucket, with a script of its own.
    pub fn beside(&self) -> Self {
        Self { store: self.store.clone(), script: Mutex::default() }
    }

    /// The script, to be changed.
    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    async fn unless_away(&self) {
        if self.script().is_away {
            std::future::pending::<()>().await;
        }
    }

    /// A PUT as the script says, create-only or not.
    async fn scripted(&self, key: &str, payload: Payload, is_new: bool) -> Result<(), BlobError> {
        let (delay, fault) = {
            let mut script = self.script();
            script.put_count += 1;
            let is_refused = script.refused_keys.contains(key);
            (script.put_delay, if is_refused { Some(PutFault::Refused) } else { script.puts.pop_front() })
        };
        self.unless_away().await;
        let lost = || BlobError::Unknown("the answer was lost".into());
        match fault {
            None => tokio::time::sleep(delay).await,
            Some(PutFault::Slow(delay)) => tokio::time::sleep(delay).await,
            Some(PutFault::Refused) => {
                tokio::time::sleep(delay).await;
                return Err(BlobError::Unavailable("503".into()));
            }
            Some(PutFault::AnswerLost) => {
                keep(self.store.clone(), key.to_owned(), payload, is_new).await?;
                return Err(lost());
            }
            Some(PutFault::Late(after)) => {
                let put = keep(self.store.clone(), key.to_owned(), payload, is_new);
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    put.await
                });
                return Err(lost());
            }
        }
        keep(self.store.clone(), key.to_owned(), payload, is_new).await
    }

    fn done<T>(&self, result: T) -> T {
        self.script().gets_now.0 -= 1;
        result
    }
}

async fn keep(store: MemoryStore, key: String, payload: Payload, is_new: bool) -> Result<(), BlobError> {
    if is_new { store.put_new(&key, payload).await } else { store.put(&key, payload).await }
}

#[async_trait]
impl BlobStore for Stage {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.scripted(key, payload, false).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        if key.starts_with(ObjectId::JOURNAL_PREFIX) {
            return self.scripted(key, payload, true).await;
        }
        self.store.put_new(key, payload).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let (delay, fault) = {
            let mut script = self.script();
            script.get_count += 1;
            script.gets_now.0 += 1;
            script.gets_now.1 = script.gets_now.1.max(script.gets_now.0);
            (script.get_delay, script.gets.pop_front())
        };
        self.unless_away().await;
        tokio::time::sleep(delay).await;
        let result = match fault {
            None => self.store.get_range(key, range).await,
            Some(GetFault::Refused) => Err(BlobError::Unavailable("503".into())),
            Some(GetFault::Shifted) => self.store.get_range(key, range.start + 1..range.end + 1).await,
            Some(GetFault::FlipBit) => self.store.get_range(key, range).await.map(|bytes| {
                let mut bytes = bytes.to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 0x10;
                bytes.into()
            }),
        };
        self.done(result)
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        self.store.get(key).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        self.store.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        self.store.list(prefix, after, limit).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        let failing = {
            let mut script = self.script();
            let failing = script.failing_deletes.min(keys.len());
            script.failing_deletes -= failing;
            failing
        };
        let mut failed = self.store.delete_many(&keys[failing..]).await?;
        let refused = keys[..failing].iter().map(|key| (key.clone(), BlobError::Unavailable("503".into())));
        failed.extend(refused);
        Ok(failed)
    }
}

/// What several gateways of a test share.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// The bucket.
    pub stage: Arc<Stage>,
    /// The journal, unless it lies in the bucket.
    pub journal: Arc<MemoryJournal>,
    /// Whether it does.
    pub is_in_bucket: bool,
    /// Whether its gateways watch each other, and begin another session when one is over.
    pub is_shared: bool,
    /// Snapshots, of all gateways one after the other, where the journal lies in the bucket.
    pub snapshots: Arc<MemorySnapshots>,
    /// Second requests beside slow uploads into it, if there are to be any.
    pub upload_hedges: Option<Arc<PaidHedges>>,
    /// After so many entries a snapshot is due, if not as many as usual.
    pub snapshot_entries: Option<u64>,
    /// Size of its gateways' tail caches, bytes, if not as usual.
    pub tail_bytes: Option<usize>,
    /// What its gateways know, if more than the first commands.
    pub feature_level: u32,
}

/// One gateway.
pub struct Bed {
    pub world: World,
    pub metadata: Metadata,
    pub writer: Writer,
    pub reader: Reader,
    pub tail: Arc<TailCache>,
    pub clock: Arc<ManualClock>,
    pub metrics: StorageMetrics,
}

/// The wall clock of all gateways at their start.
pub const NOW_MS: i64 = 1_700_000_000_000;

impl Bed {
    /// A gateway in a world of its own.
    pub async fn new() -> Self {
        Self::with(WriterOptions::default()).await
    }

    /// A gateway in a world of its own.
    pub async fn with(options: WriterOptions) -> Self {
        World::default().gateway(1, options).await
    }

    /// A gateway in a world of its own, whose journal lies in the bucket.
    pub async fn carrying(options: WriterOptions) -> Self {
        World { is_in_bucket: true, ..World::default() }.gateway(1, options).await
    }

    /// Makes a topic and waits until it is known here.
    pub async fn topic(&self, topic: u128, partitions: i32) {
        self.topic_with(topic, partitions, &[]).await;
    }

    /// Makes a topic with configs.
    pub async fn topic_with(&self, topic: u128, partitions: i32, configs: &[(&str, &str)]) {
        let create = CreateTopic {
            id: TopicId(uuid::Uuid::from_u128(topic)),
            name: format!("topic-{topic}").parse().unwrap(),
            partitions,
            configs: configs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        assert_eq!(self.metadata.submit(Command::CreateTopic(create)).await, Ok(Outcome::Done));
    }

    /// Submits batches as one request.
    pub fn submit(&self, batches: Vec<(TopicPartition, Vec<u8>)>) -> ProduceTicket {
        let bytes = batches.iter().map(|(_, batch)| batch.len()).sum();
        let permit = self.writer.admit(bytes).now_or_never().expect("there is memory").unwrap();
        self.writer.submit(permit, submissions(batches))
    }

    /// Appends one batch of `records` records and tells its base offset.
    pub async fn append(&self, partition: TopicPartition, records: usize, fill: u64) -> i64 {
        base_of(self.submit(vec![(partition, batch_of(records, fill))]).await)
    }

    /// A reader with empty caches.
    pub fn cold_reader(&self) -> Reader {
        self.cold_reader_with(ReaderOptions::default())
    }

    /// A reader with empty caches.
    pub fn cold_reader_with(&self, options: ReaderOptions) -> Reader {
        self.cold_reader_by(options, self.world.lanes(&LanesOptions::default()))
    }

    /// A reader with empty caches on lanes of its own.
    pub fn cold_reader_by(&self, options: ReaderOptions, lanes: ReadLanes) -> Reader {
        Reader::new(self.cold_parts(options, lanes))
    }

    /// What a reader with empty caches is made of.
    pub fn cold_parts(&self, options: ReaderOptions, lanes: ReadLanes) -> ReaderParts {
        let metrics = StorageMetrics::unregistered();
        ReaderParts {
            lanes,
            metadata: self.metadata.clone(),
            tail: Arc::new(TailCache::new(0, metrics.tail.clone())),
            disk: None,
            metrics,
            options,
        }
    }

    /// Upkeep that does nothing by itself for a long time.
    pub fn upkeep(&self, options: UpkeepOptions) -> Upkeep {
        Upkeep::start(UpkeepParts {
            blobs: Arc::clone(&self.world.stage) as _,
            merge_blobs: Arc::clone(&self.world.stage) as _,
            compact_blobs: Arc::clone(&self.world.stage) as _,
            metadata: self.metadata.clone(),
            writer: self.writer.clone(),
            tail: Arc::clone(&self.tail),
            clock: Arc::clone(&self.clock) as _,
            configs: ConfigOf::explicit(),
            metrics: self.metrics.upkeep.clone(),
            options,
        })
    }

    /// Keys of all segments in the bucket.
    pub fn objects(&self) -> Vec<String> {
        self.world.stage.store.keys()
    }
}

impl World {
    /// Lanes into the bucket.
    pub fn lanes(&self, options: &LanesOptions) -> ReadLanes {
        let lane = |options| Arc::new(Lane::new(Arc::clone(&self.stage) as _, LanePermits::new(options)));
        ReadLanes { tail: lane(options.hot), catch_up: lane(options.cold) }
    }

    /// What the metadata of a gateway is made of. A journal in the bucket is of one gateway: it fences all before it.
    pub async fn metadata_parts(&self, node: i32) -> MetadataParts {
        if !self.is_in_bucket {
            let snapshots = Arc::new(MemorySnapshots::default());
            let mut parts = MetadataParts::for_tests(node, Arc::clone(&self.journal) as _, snapshots);
            parts.session.feature_level = self.feature_level;
            if self.is_shared {
                parts.options.session_timeout_ms = Some(60_000);
                // Late enough for a fence to come before it.
                (parts.options.retry_initial_ms, parts.options.retry_max_ms) = (1_000, 1_000);
                parts.options = parts.options.shared();
            }
            return parts;
        }
        let retried = Retry::new(Arc::clone(&self.stage) as _, RetryOptions::default());
        let mut entries = BlobEntries::new(Arc::new(retried));
        if let Some(hedges) = &self.upload_hedges {
            entries = entries.hedging(Arc::clone(hedges));
        }
        let journal = ObjectJournal::open(Arc::new(entries)).await.unwrap();
        let mut parts = MetadataParts::for_tests(node, Arc::new(journal), Arc::clone(&self.snapshots) as _);
        parts.session.fence_others = true;
        parts.session.feature_level = self.feature_level;
        parts.options.snapshot_entries = self.snapshot_entries.unwrap_or(parts.options.snapshot_entries);
        parts
    }

    /// A gateway of this world.
    pub async fn gateway(&self, node: i32, options: WriterOptions) -> Bed {
        let metadata = Metadata::start(self.metadata_parts(node).await).await.unwrap();
        let metrics = StorageMetrics::unregistered();
        let tail_bytes = self.tail_bytes.unwrap_or_else(|| ReaderOptions::default().tail_bytes);
        let tail = Arc::new(TailCache::new(tail_bytes, metrics.tail.clone()));
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let writer = Writer::start(WriterParts {
            blobs: Arc::clone(&self.stage) as _,
            metadata: metadata.clone(),
            tail: Arc::clone(&tail),
            clock: Arc::clone(&clock) as _,
            metrics: metrics.writer.clone(),
            options,
        });
        self.upload_hedges.iter().for_each(|hedges| writer.decide_hedges(hedges));
        let reader = Reader::new(ReaderParts {
            lanes: self.lanes(&LanesOptions::default()),
            metadata: metadata.clone(),
            tail: Arc::clone(&tail),
            disk: None,
            metrics: metrics.clone(),
            options: ReaderOptions::default(),
        });
        Bed { world: self.clone(), metadata, writer, reader, tail, clock, metrics }
    }
}

/// The same with segments of another size.
pub fn segments_of(bytes: usize, options: WriterOptions) -> WriterOptions {
    options.with(|numbers| ProfileNumbers { segment_bytes: bytes, ..numbers })
}

/// Batches as submissions.
pub fn submissions(batches: Vec<(TopicPartition, Vec<u8>)>) -> Vec<Submission> {
    let submission = |(partition, batch): (TopicPartition, Vec<u8>)| {
        let summary = summary_of(&batch);
        Submission { partition, batch: batch.into(), summary, profile: None }
    };
    batches.into_iter().map(submission).collect()
}

/// The base offset of an answer about one batch that was appended.
pub fn base_of(answer: Result<Vec<BatchOutcome>, WriteError>) -> i64 {
    match answer.as_deref() {
        Ok([BatchOutcome::Appended { base, .. }]) => base.get(),
        other => panic!("not one appended batch: {other:?}"),
    }
}

/// A request to read.
pub fn want(partition: TopicPartition, offset: i64, max_bytes: u32) -> ReadRequest {
    ReadRequest { partition, offset: Offset::new(offset).unwrap(), max_bytes }
}

/// Reads one partition, up to a MiB.
pub async fn read(reader: &Reader, partition: TopicPartition, offset: i64) -> ReadResult {
    let mut results = reader.read(&[want(partition, offset, 1 << 20)], 1 << 20).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// Everything of a partition from an offset on, by as many reads as it takes: base offset and records of each batch.
pub async fn read_all(reader: &Reader, tp: TopicPartition, from: i64) -> Vec<(i64, Vec<u8>)> {
    let (mut all, mut next) = (Vec::new(), from);
    loop {
        let found = read(reader, tp, next).await;
        assert_eq!(found.error, None, "{tp} at {next}");
        if found.records.is_empty() {
            assert_eq!(found.high_watermark.get(), next, "{tp}: a reader stands before the end and is given nothing");
            return all;
        }
        let joined: Vec<u8> = found.records.concat();
        let last = BatchIter::new(&joined).last().unwrap().unwrap();
        next = last.base_offset() + i64::from(last.last_offset_delta()) + 1;
        all.extend(batches(&found));
    }
}

/// Base offset and records' bytes of each batch; all of them must be intact.
pub fn batches(result: &ReadResult) -> Vec<(i64, Vec<u8>)> {
    let mut batches = Vec::new();
    for bytes in &result.records {
        for batch in BatchIter::new(bytes) {
            let batch = batch.unwrap();
            assert!(batch.crc_is_valid());
            batches.push((batch.base_offset(), batch.records().to_vec()));
        }
    }
    batches
}

/// The records' bytes of a batch as a producer makes it.
pub fn records_of(batch: &[u8]) -> Vec<u8> {
    BatchView::first(batch).unwrap().records().to_vec()
}
