//! Commits of segments, timed from submit to outcome: the journal and the state, without sockets or objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use metadata::clock::SystemClock;
use metadata::command::{Command, CommitSegment, CreateTopic, Outcome, PartitionCommit};
use metadata::handle::{Metadata, MetadataParts};
use metadata::journal::Journal;
use metadata::model::batch::BatchSummary;
use metadata::model::extent::ObjectId;
use metadata::model::ids::{SessionId, TopicId, TopicName, TopicPartition};
use metadata::snapshot::MemorySnapshots;

use super::report::Result;

/// Batches of a segment that has some of every partition.
pub const MANY: u32 = 1_600;
const SEGMENT_BYTES: u32 = MANY * 1_024;
const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));

/// The metadata of one gateway, with a session of its own.
#[derive(Debug, Clone)]
pub struct Committer {
    metadata: Metadata,
    counter: Arc<AtomicU64>,
}

impl Committer {
    /// Opens the one session of a journal.
    pub async fn alone(journal: Arc<dyn Journal>) -> Result<Self> {
        Self::start(MetadataParts::for_tests(1, journal, Arc::new(MemorySnapshots::default()))).await
    }

    /// Opens a session as this node, which is renewed and watches the others as in a cluster.
    pub async fn among_others(node: i32, journal: Arc<dyn Journal>) -> Result<Self> {
        let parts = MetadataParts::for_tests(node, journal, Arc::new(MemorySnapshots::default()));
        let options = parts.options.shared();
        Self::start(MetadataParts { options, ..parts }).await
    }

    async fn start(parts: MetadataParts) -> Result<Self> {
        let metadata = Metadata::start(MetadataParts { clock: Arc::new(SystemClock), ..parts }).await?;
        Ok(Self { metadata, counter: Arc::default() })
    }

    /// Makes the topic of all commits; one of those who share a journal does.
    pub async fn create_topic(&self) -> Result<()> {
        let name = "wide".parse::<TopicName>()?;
        let create = CreateTopic { id: TOPIC, name, partitions: MANY as i32, configs: Vec::new() };
        match self.metadata.submit(Command::CreateTopic(create)).await? {
            Outcome::Done => Ok(()),
            outcome => Err(format!("no topic: {outcome:?}").into()),
        }
    }

    /// Commits a segment with a batch for each of so many partitions; how long that took.
    pub async fn commit(&self, partitions: u32) -> Result<Duration> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let command = segment(self.metadata.session(), counter, partitions);
        let began = Instant::now();
        match self.metadata.submit(command).await? {
            Outcome::Segment(_) => Ok(began.elapsed()),
            outcome => Err(format!("not committed: {outcome:?}").into()),
        }
    }

    /// Commits of one batch and of [`MANY`] in turn, so many of each.
    pub async fn in_turn(&self, rounds: usize) -> Result<(Vec<Duration>, Vec<Duration>)> {
        let (mut one, mut many) = (Vec::with_capacity(rounds), Vec::with_capacity(rounds));
        for _ in 0..rounds {
            one.push(self.commit(1).await?);
            many.push(self.commit(MANY).await?);
        }
        Ok((one, many))
    }

    /// Closes the session.
    pub async fn end(self) {
        self.metadata.shutdown().await;
    }
}

/// The commit of a segment of always the same size, with a batch for each of so many partitions.
pub fn segment(session: SessionId, counter: u64, partitions: u32) -> Command {
    let bytes = SEGMENT_BYTES / partitions;
    let summary = BatchSummary { records: 1, length: bytes, max_timestamp: 1, stamp: None };
    let part = |partition: u32| PartitionCommit {
        partition: TopicPartition { topic: TOPIC, partition: partition as i32 },
        position: 8 + u64::from(partition * bytes),
        batches: vec![summary],
    };
    Command::CommitSegment(CommitSegment {
        object: ObjectId { session, counter },
        object_bytes: 2 << 20,
        partitions: (0..partitions).map(part).collect(),
    })
}
