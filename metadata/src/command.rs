//! What can be written into the journal, and what each command comes to when applied.
//!
//! Commands carry facts, never decisions: whether one takes effect is decided by `State::apply`,
//! in journal order. A refusal is an [`Outcome`], never an error. New kinds of commands are added at the end with a new
//! number (see `codec`); a rule may change only behind a feature level.

use crate::model::batch::BatchSummary;
use crate::model::extent::ObjectId;
use crate::model::fold::RunHash;
use crate::model::ids::{Lsn, NodeId, ProducerId, SessionId, TopicId, TopicName, TopicPartition};
use crate::model::offset::Offset;

/// One append to the journal: commands of one session, applied together and in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Who wrote it.
    pub session: SessionId,
    /// Counts the entries of that session from 1; `apply` ignores one it has seen, so an append may be repeated.
    pub sequence: u64,
    /// Wall clock of the writer, ms since the epoch. State time never runs backwards.
    pub time_ms: i64,
    /// What it says.
    pub commands: Vec<Command>,
    /// Takes effect only if the entry before it of the same session stands at this position. Said by a writer that has
    /// several entries on their way at once: if one of them is lost, those behind it are without effect, so that nothing
    /// overtakes. `None`: whatever stands before.
    pub follows: Option<Lsn>,
}

/// One thing said in the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A gateway starts a life. The first command of every session.
    OpenSession(OpenSession),
    /// A gateway leaves of its own will.
    CloseSession,
    /// Another gateway has seen nothing of `session` since `last_seen` for the session timeout.
    ExpireSession {
        /// The silent session.
        session: SessionId,
        /// Position of its last entry as the proposer knew it; refused if there is a newer one.
        last_seen: Lsn,
    },
    /// Makes a topic.
    CreateTopic(CreateTopic),
    /// Removes a topic with all its records, producers and committed offsets.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// Raises the number of partitions.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// The new total; must be larger than the present one.
        total: i32,
    },
    /// Sets or removes (`None`) explicit configs of a topic. Validated before it is submitted.
    SetTopicConfigs {
        /// The topic.
        topic: TopicId,
        /// Config name and new value, in order.
        changes: Vec<(String, Option<String>)>,
    },
    /// Reserves producer ids.
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
    /// Gives the batches of one segment their offsets and makes them visible.
    CommitSegment(CommitSegment),
    /// Moves the start of logs forward (retention, DeleteRecords); what lies before is gone.
    AdvanceLogStart {
        /// Partition and new first offset; past the high watermark is refused.
        starts: Vec<(TopicPartition, Offset)>,
    },
    /// These objects are deleted from the bucket; the ledger may forget them.
    ForgetObjects {
        /// The objects.
        objects: Vec<ObjectId>,
    },
    /// Saves what must survive of a group.
    SaveGroup(SaveGroup),
    /// Deletes a group and its committed offsets.
    DeleteGroup {
        /// The group.
        group: String,
        /// The version the coordinator saw; refused if it has changed.
        expected_version: u64,
    },
    /// Commits offsets of a group.
    CommitOffsets(CommitOffsets),
    /// Deletes committed offsets of a group.
    DeleteOffsets {
        /// The group.
        group: String,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// Forgets what has passed its time: idle producers, offsets of empty groups. Proposed by upkeep, decided by state time.
    ExpireState {
        /// Producers idle for longer are forgotten, ms.
        producer_idle_ms: i64,
        /// Offsets of groups empty for longer are forgotten, ms.
        offsets_retention_ms: i64,
    },
    /// A rule change every live session supports may be used from here on.
    RaiseFeatureLevel {
        /// The new level.
        level: u32,
    },
    /// Puts extents of a new object in the place of old ones (merge, compact).
    SwapExtents(SwapExtents),
    /// The gateway of the session is about to leave: clients are sent to others, and groups go to others, as long as there
    /// are any. What it says still takes effect until [`Command::CloseSession`]. Feature level 1.
    LeaveSoon,
    /// The gateways are to compare their states as of this entry; changes nothing. Feature level 1.
    MarkState,
    /// What the state of the session's gateway hashed to at a mark; changes nothing. Feature level 1.
    SayStateHash {
        /// Position of the entry with [`Command::MarkState`].
        at: Lsn,
        /// [`crate::state::State::hash`] with that entry applied.
        hash: u64,
    },
    /// Puts references to runs in a manifest object in the place of the oldest extents of logs. Feature level 2.
    FoldExtents(FoldExtents),
    /// Tells what a folded run holds: its extents come back into the log, or are let go of if the log has let go of the fold.
    /// Feature level 2.
    UnfoldExtents(UnfoldExtents),
}

impl Command {
    /// The feature level a reader must have to know this command. A builder of commands says none above the level in force
    /// ([`crate::state::State::feature_level`]), so that an older gateway beside it never meets one.
    pub fn feature_level(&self) -> u32 {
        match self {
            Self::OpenSession(_)
            | Self::CloseSession
            | Self::ExpireSession { .. }
            | Self::CreateTopic(_)
            | Self::DeleteTopic { .. }
            | Self::CreatePartitions { .. }
            | Self::SetTopicConfigs { .. }
            | Self::AllocateProducerIds { .. }
            | Self::CommitSegment(_)
            | Self::AdvanceLogStart { .. }
            | Self::ForgetObjects { .. }
            | Self::SaveGroup(_)
            | Self::DeleteGroup { .. }
            | Self::CommitOffsets(_)
            | Self::DeleteOffsets { .. }
            | Self::ExpireState { .. }
            | Self::RaiseFeatureLevel { .. }
            | Self::SwapExtents(_) => 0,
            Self::LeaveSoon | Self::MarkState | Self::SayStateHash { .. } => 1,
            Self::FoldExtents(_) | Self::UnfoldExtents(_) => 2,
        }
    }
}

/// See [`Command::OpenSession`].
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSession {
    /// The broker id clients see.
    pub node: NodeId,
    /// Name, host and port of each advertised listener.
    pub listeners: Vec<AdvertisedListener>,
    /// Zone of the gateway, if it has one.
    pub rack: Option<String>,
    /// Highest feature level this build knows.
    pub feature_level: u32,
    /// Identity to give the cluster if it has none: the first session's proposal wins for ever.
    pub cluster_id: String,
    /// With one gateway per journal: every older session is expired by this one.
    pub fence_others: bool,
}

/// Where clients of one listener find a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvertisedListener {
    /// Listener name, as in Kafka's `advertised.listeners`.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// See [`Command::CreateTopic`].
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTopic {
    /// Identity, drawn by the proposer.
    pub id: TopicId,
    /// Name; refused if taken, or if it collides with another by '.' and '_'.
    pub name: TopicName,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Explicit configs, validated.
    pub configs: Vec<(String, String)>,
}

/// See [`Command::CommitSegment`].
#[derive(Debug, Clone, PartialEq)]
pub struct CommitSegment {
    /// The object, durable in the bucket before this is submitted.
    pub object: ObjectId,
    /// Its whole size, bytes.
    pub object_bytes: u64,
    /// The batches by partition, in the order they stand in the object.
    pub partitions: Vec<PartitionCommit>,
}

/// The batches of one partition in a segment; they stand back to back from `position` on.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// Where in the object the first batch starts, bytes.
    pub position: u64,
    /// The batches, in submission order.
    pub batches: Vec<BatchSummary>,
}

/// See [`Command::SwapExtents`].
#[derive(Debug, Clone, PartialEq)]
pub struct SwapExtents {
    /// The object, durable in the bucket before this is submitted, and of the proposer's session.
    pub object: ObjectId,
    /// Its whole size, bytes.
    pub object_bytes: u64,
    /// How often its bytes have been merged; see [`crate::state::objects::ObjectRecord::level`].
    pub level: u32,
    /// What is replaced; decided one by one, in this order.
    pub partitions: Vec<PartitionSwap>,
}

/// A run of neighbouring extents of one partition and what takes their place.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionSwap {
    /// The partition.
    pub partition: TopicPartition,
    /// Where the first of the old extents begins.
    pub base: Offset,
    /// Where the last of the old extents ends.
    pub end: Offset,
    /// The old extents, all of the run in order: object and position name an extent for ever. Refused if the log has
    /// others there, more or fewer.
    pub old: Vec<(ObjectId, u64)>,
    /// The new ones, in order and between `base` and `end`. None removes the range.
    pub new: Vec<NewExtent>,
}

/// An extent of the new object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewExtent {
    /// Offset of its first record.
    pub base: Offset,
    /// Offset after its last one.
    pub end: Offset,
    /// Where in the object it starts, bytes.
    pub position: u64,
    /// Bytes.
    pub length: u32,
    /// Largest record timestamp in it, ms; -1 if no record has one.
    pub max_timestamp: i64,
    /// See [`crate::model::extent::Extent`].
    pub sparse: bool,
}

/// See [`Command::FoldExtents`].
#[derive(Debug, Clone, PartialEq)]
pub struct FoldExtents {
    /// The manifest, durable in the bucket before this is submitted, and of the proposer's session.
    pub object: ObjectId,
    /// Its whole size, bytes.
    pub object_bytes: u64,
    /// What is folded, in the order in which the runs stand in the manifest; decided one by one.
    pub runs: Vec<PartitionFold>,
}

/// The oldest extents of one partition that are not folded yet, and where they stand in the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionFold {
    /// The partition.
    pub partition: TopicPartition,
    /// How many extents, at least one; the last one of a log is never folded.
    pub extents: u32,
    /// Where in the manifest the run starts, bytes.
    pub position: u64,
    /// Bytes of the run.
    pub length: u32,
    /// Hash of the run. Refused if the extents that the log has there come to another: nothing else than what was there can be
    /// folded.
    pub hash: RunHash,
}

/// See [`Command::UnfoldExtents`].
#[derive(Debug, Clone, PartialEq)]
pub struct UnfoldExtents {
    /// The partition whose newest fold this is; `None` if it is a dropped one.
    pub partition: Option<TopicPartition>,
    /// The manifest.
    pub object: ObjectId,
    /// Where in the manifest the run starts, bytes.
    pub position: u64,
    /// The run; refused if its hash is not the fold's.
    pub run: Vec<u8>,
}

/// See [`Command::SaveGroup`].
#[derive(Debug, Clone, PartialEq)]
pub struct SaveGroup {
    /// The group.
    pub group: String,
    /// The version the coordinator read; refused if another was saved since. 0 for a new group.
    pub expected_version: u64,
    /// "consumer" for groups of consumers, else what the members call it.
    pub protocol_type: String,
    /// Generation; never goes backwards.
    pub generation: i32,
    /// Whether the group has no members (its offsets may then expire).
    pub is_empty: bool,
    /// The coordinator's own record of members and assignment; opaque here.
    pub record: Vec<u8>,
}

/// See [`Command::CommitOffsets`].
#[derive(Debug, Clone, PartialEq)]
pub struct CommitOffsets {
    /// The group.
    pub group: String,
    /// Version of the group the coordinator holds, so that a stale coordinator's commit is refused; `None` when the
    /// group has no members here (a plain offset store).
    pub expected_version: Option<u64>,
    /// What is committed.
    pub offsets: Vec<(TopicPartition, CommittedOffset)>,
}

/// One committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: Offset,
    /// Leader epoch of the last record read; -1 if the client did not say.
    pub leader_epoch: i32,
    /// The client's own words.
    pub metadata: String,
    /// State time of the commit, ms; set by apply.
    pub commit_ms: i64,
    /// When it expires if the client asked for its own retention (OffsetCommit v2-4), ms.
    pub expire_ms: Option<i64>,
}

/// What a command came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It took effect.
    Done,
    /// First of the reserved producer ids.
    ProducerIds(ProducerId),
    /// Per partition and batch, in the order of the command.
    Segment(Vec<Vec<BatchOutcome>>),
    /// Per partition: the log start now in force, or why it was refused.
    LogStarts(Vec<Result<Offset, Refusal>>),
    /// The group's new version.
    GroupSaved {
        /// Expect this one at the next save.
        version: u64,
    },
    /// Per partition of a CommitOffsets, in order.
    Offsets(Vec<Result<(), Refusal>>),
    /// Per partition of a SwapExtents or a FoldExtents, in order. What was refused is as it was.
    Swapped(Vec<Result<(), Refusal>>),
    /// It did not take effect, and will not.
    Refused(Refusal),
}

/// What became of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Visible from here on.
    Appended {
        /// Offset of its first record.
        base: Offset,
        /// Start of the log at that moment.
        log_start: Offset,
    },
    /// The same batch was appended before; success to the client.
    Duplicate {
        /// Offset of its first record, then.
        base: Offset,
        /// Start of the log at this moment.
        log_start: Offset,
        /// The first append's max timestamp, ms.
        max_timestamp: i64,
    },
    /// Not visible, not referenced.
    Refused(Refusal),
}

/// Why apply did not do what a command asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The session that said it has expired or closed.
    #[error("the session is fenced")]
    SessionFenced,
    /// An entry of the session that was to stand before this one was lost.
    #[error("an entry before it was not written")]
    Displaced,
    /// The silent session spoke meanwhile.
    #[error("the session is alive")]
    SessionAlive,
    /// No such topic (any more).
    #[error("unknown topic")]
    UnknownTopic,
    /// No such partition.
    #[error("unknown partition")]
    UnknownPartition,
    /// The name is taken.
    #[error("the topic exists")]
    TopicExists,
    /// The name equals another's once '.' and '_' are taken for one (Kafka's metric collision rule).
    #[error("the topic name collides with another")]
    TopicCollides,
    /// Partition count not above the present one, below 1, or beyond the cap.
    #[error("invalid number of partitions")]
    InvalidPartitions,
    /// A cap of the state was reached.
    #[error("a limit was reached")]
    LimitReached,
    /// Offset before the log's start or past its end.
    #[error("offset out of range")]
    OffsetOutOfRange,
    /// The producer's epoch is below the stored one.
    #[error("producer epoch is fenced")]
    InvalidProducerEpoch,
    /// A gap in the producer's sequence, or a repetition too old to recognise.
    #[error("out of order sequence number")]
    OutOfOrderSequence,
    /// Transactional batch without an open transaction, or the reverse.
    #[error("invalid transaction state")]
    InvalidTxnState,
    /// The group has changed since the coordinator read it.
    #[error("the group was changed by another coordinator")]
    StaleGroup,
    /// No such group.
    #[error("unknown group")]
    UnknownGroup,
    /// The group has members.
    #[error("the group is not empty")]
    GroupNotEmpty,
    /// The same object was committed before, by an entry applied earlier.
    #[error("the segment was committed before")]
    ObjectCommitted,
    /// Feature level not above the present one, or not known to every live session; or a session that does not know the
    /// level in force.
    #[error("feature level is not supported")]
    FeatureLevel,
    /// An object that extents still point to cannot be forgotten.
    #[error("the object is referenced")]
    ObjectReferenced,
    /// The log has other extents now than those to be replaced.
    #[error("the extents have changed")]
    ExtentsChanged,
    /// The command contradicts itself (a batch of no records, bytes past the object's end, an object of another session).
    /// Only a faulty proposer writes it.
    #[error("the command contradicts itself")]
    Malformed,
}
