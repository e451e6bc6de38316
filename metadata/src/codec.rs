//! Bytes of journal entries, and the frame that entries and snapshots share.
//!
//! ```text
//!  0  format version   u16 LE
//!  2  crc32c of 6..    u32 LE
//!  6  body
//! ```
//!
//! The body of an entry is one protobuf message (`codec/wire.rs`). A reader that meets a newer version, or a command of a
//! number it does not know, stops with an error instead of guessing.

mod fold;
pub mod run;
mod swap;
mod wire;

use prost::Message;
use uuid::Uuid;

use crate::class::{Classify, ErrorClass};
use crate::command::{
    AdvertisedListener, Command, CommitOffsets, CommitSegment, CommittedOffset, CreateTopic, Entry, OpenSession,
    PartitionCommit, SaveGroup,
};
use crate::model::batch::{BatchSummary, ProducerStamp};
use crate::model::extent::ObjectId;
use crate::model::ids::{Lsn, NodeId, ProducerId, SessionId, TopicId, TopicName, TopicPartition};
use crate::model::offset::Offset;

/// Newest format of [`encode_entry`]; raised when its meaning changes. A new kind of command needs no new version.
///
/// 1: the first. 2: with [`Entry::follows`]; entries without it are still written as 1.
pub const ENTRY_VERSION: u16 = 2;
const ENTRY_VERSION_ALONE: u16 = 1;

const ENTRY: &str = "journal entry";
const VERSION_LEN: usize = 2;
const FRAME_LEN: usize = 6;

/// Bytes that cannot be read as what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Written by a newer build. Upgrade this one.
    #[error("{what} has format version {found}, this build knows up to {known}: upgrade it")]
    Newer {
        /// What was read.
        what: &'static str,
        /// The version it has.
        found: u32,
        /// The newest version this build reads.
        known: u32,
    },
    /// A command of a number this build does not know: written by a newer build. Upgrade this one.
    #[error("an entry holds a command this build does not know: upgrade it")]
    UnknownCommand,
    /// The checksum does not match.
    #[error("{what} is corrupt: its checksum does not match")]
    Checksum {
        /// What was read.
        what: &'static str,
    },
    /// The bytes are not the message they should be.
    #[error("{what} is corrupt: {why}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl CodecError {
    pub(crate) fn malformed(what: &'static str, why: impl ToString) -> Self {
        Self::Malformed { what, why: why.to_string() }
    }
}

impl Classify for CodecError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Newer { .. } | Self::UnknownCommand => ErrorClass::Rejected,
            Self::Checksum { .. } | Self::Malformed { .. } => ErrorClass::Corrupt,
        }
    }
}

/// The bytes of an entry.
pub fn encode_entry(entry: &Entry) -> Vec<u8> {
    let commands = entry.commands.iter().map(|command| wire::Command { kind: Some(kind_to_wire(command)) }).collect();
    let Entry { session, sequence, time_ms, follows, commands: _ } = entry;
    let version = if follows.is_some() { ENTRY_VERSION } else { ENTRY_VERSION_ALONE };
    let (session, follows) = (session.0, follows.map(|lsn| lsn.0));
    let entry = wire::Entry { session, sequence: *sequence, time_ms: *time_ms, commands, follows };
    frame(version, entry.encode_to_vec())
}

/// The entry that bytes stand for. Total: any bytes give an entry or an error, and allocate in proportion to their length.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    decode_entry_body(unframe(ENTRY, ENTRY_VERSION, bytes)?)
}

fn decode_entry_body(body: &[u8]) -> Result<Entry, CodecError> {
    let entry = wire::Entry::decode(body).map_err(|why| CodecError::malformed(ENTRY, why))?;
    let kinds = entry.commands.into_iter().map(|command| command.kind.ok_or(CodecError::UnknownCommand));
    Ok(Entry {
        session: SessionId(entry.session),
        sequence: entry.sequence,
        time_ms: entry.time_ms,
        commands: kinds.map(|kind| command_from_wire(kind?)).collect::<Result<_, _>>()?,
        follows: entry.follows.map(Lsn),
    })
}

/// Puts version and checksum before a body.
pub(crate) fn frame(version: u16, body: Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FRAME_LEN + body.len());
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The body of a frame whose version is known and whose checksum matches.
pub(crate) fn unframe<'a>(what: &'static str, known: u16, bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
    let (Some((version, rest)), true) = (bytes.split_first_chunk::<VERSION_LEN>(), bytes.len() >= FRAME_LEN) else {
        return Err(CodecError::malformed(what, "it is cut off"));
    };
    let found = u16::from_le_bytes(*version);
    if found > known {
        return Err(CodecError::Newer { what, found: found.into(), known: known.into() });
    }
    if found == 0 {
        return Err(CodecError::malformed(what, "it has no format version"));
    }
    let (crc, body) = rest.split_at(FRAME_LEN - VERSION_LEN);
    if crc != crc32c::crc32c(body).to_le_bytes() {
        return Err(CodecError::Checksum { what });
    }
    Ok(body)
}

fn kind_to_wire(command: &Command) -> wire::Kind {
    use wire::Kind;
    match command {
        Command::OpenSession(open) => Kind::OpenSession(open_session_to_wire(open)),
        Command::CloseSession => Kind::CloseSession(wire::CloseSession {}),
        Command::ExpireSession { session, last_seen } => {
            Kind::ExpireSession(wire::ExpireSession { session: session.0, last_seen: last_seen.0 })
        }
        Command::CreateTopic(create) => {
            let configs = create.configs.iter().map(|(name, value)| config_to_wire(name, Some(value)));
            Kind::CreateTopic(wire::CreateTopic {
                id: Some(topic_to_wire(create.id)),
                name: create.name.to_string(),
                partitions: create.partitions,
                configs: configs.collect(),
            })
        }
        Command::DeleteTopic { topic } => Kind::DeleteTopic(wire::DeleteTopic { topic: Some(topic_to_wire(*topic)) }),
        Command::CreatePartitions { topic, total } => {
            Kind::CreatePartitions(wire::CreatePartitions { topic: Some(topic_to_wire(*topic)), total: *total })
        }
        Command::SetTopicConfigs { topic, changes } => {
            let changes = changes.iter().map(|(name, value)| config_to_wire(name, value.as_ref())).collect();
            Kind::SetTopicConfigs(wire::SetTopicConfigs { topic: Some(topic_to_wire(*topic)), changes })
        }
        Command::AllocateProducerIds { count } => Kind::AllocateProducerIds(*count),
        Command::CommitSegment(commit) => Kind::CommitSegment(commit_segment_to_wire(commit)),
        Command::AdvanceLogStart { starts } => {
            let start = |&(tp, offset): &(TopicPartition, Offset)| wire::LogStart {
                partition: Some(partition_to_wire(tp)),
                offset: offset_to_wire(offset),
            };
            Kind::AdvanceLogStart(wire::AdvanceLogStart { starts: starts.iter().map(start).collect() })
        }
        Command::ForgetObjects { objects } => {
            Kind::ForgetObjects(wire::ForgetObjects { objects: objects.iter().copied().map(object_to_wire).collect() })
        }
        Command::SaveGroup(save) => Kind::SaveGroup(wire::SaveGroup {
            group: save.group.clone(),
            expected_version: save.expected_version,
            protocol_type: save.protocol_type.clone(),
            generation: save.generation,
            is_empty: save.is_empty,
            record: save.record.clone(),
        }),
        Command::DeleteGroup { group, expected_version } => {
            Kind::DeleteGroup(wire::DeleteGroup { group: group.clone(), expected_version: *expected_version })
        }
        Command::CommitOffsets(commit) => Kind::CommitOffsets(commit_offsets_to_wire(commit)),
        Command::DeleteOffsets { group, partitions } => Kind::DeleteOffsets(wire::DeleteOffsets {
            group: group.clone(),
            partitions: partitions.iter().copied().map(partition_to_wire).collect(),
        }),
        Command::ExpireState { producer_idle_ms, offsets_retention_ms } => Kind::ExpireState(wire::ExpireState {
            producer_idle_ms: *producer_idle_ms,
            offsets_retention_ms: *offsets_retention_ms,
        }),
        Command::RaiseFeatureLevel { level } => Kind::RaiseFeatureLevel(*level),
        Command::SwapExtents(swap) => Kind::SwapExtents(swap::to_wire(swap)),
        Command::FoldExtents(fold) => Kind::FoldExtents(fold::to_wire(fold)),
        Command::UnfoldExtents(unfold) => Kind::UnfoldExtents(fold::unfold_to_wire(unfold)),
        Command::LeaveSoon => Kind::LeaveSoon(wire::LeaveSoon {}),
        Command::MarkState => Kind::MarkState(wire::MarkState {}),
        Command::SayStateHash { at, hash } => Kind::SayStateHash(wire::SayStateHash { at: at.0, hash: *hash }),
    }
}

fn open_session_to_wire(open: &OpenSession) -> wire::OpenSession {
    let listener = |listener: &AdvertisedListener| wire::Listener {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port.into(),
    };
    wire::OpenSession {
        node: open.node.0,
        listeners: open.listeners.iter().map(listener).collect(),
        rack: open.rack.clone(),
        feature_level: open.feature_level,
        cluster_id: open.cluster_id.clone(),
        fence_others: open.fence_others,
    }
}

fn commit_segment_to_wire(commit: &CommitSegment) -> wire::CommitSegment {
    let batch = |batch: &BatchSummary| wire::Batch {
        records: batch.records,
        length: batch.length,
        max_timestamp: batch.max_timestamp,
        stamp: batch.stamp.map(|stamp| wire::Stamp {
            producer: stamp.id.0,
            epoch: stamp.epoch.into(),
            base_sequence: stamp.base_sequence,
            transactional: stamp.transactional,
        }),
    };
    let part = |part: &PartitionCommit| wire::PartitionCommit {
        partition: Some(partition_to_wire(part.partition)),
        position: part.position,
        batches: part.batches.iter().map(batch).collect(),
    };
    wire::CommitSegment {
        object: Some(object_to_wire(commit.object)),
        object_bytes: commit.object_bytes,
        partitions: commit.partitions.iter().map(part).collect(),
    }
}

fn commit_offsets_to_wire(commit: &CommitOffsets) -> wire::CommitOffsets {
    let offset = |(tp, offset): &(TopicPartition, CommittedOffset)| wire::OffsetOfPartition {
        partition: Some(partition_to_wire(*tp)),
        offset: offset_to_wire(offset.offset),
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata.clone(),
        commit_ms: offset.commit_ms,
        expire_ms: offset.expire_ms,
    };
    wire::CommitOffsets {
        group: commit.group.clone(),
        expected_version: commit.expected_version,
        offsets: commit.offsets.iter().map(offset).collect(),
    }
}

fn topic_to_wire(topic: TopicId) -> wire::TopicId {
    let (high, low) = topic.0.as_u64_pair();
    wire::TopicId { high, low }
}

fn partition_to_wire(tp: TopicPartition) -> wire::TopicPartition {
    let (topic_high, topic_low) = tp.topic.0.as_u64_pair();
    wire::TopicPartition { topic_high, topic_low, partition: tp.partition }
}

fn object_to_wire(object: ObjectId) -> wire::ObjectId {
    wire::ObjectId { session: object.session.0, counter: object.counter }
}

fn config_to_wire(name: &str, value: Option<&String>) -> wire::Config {
    wire::Config { name: name.to_owned(), value: value.cloned() }
}

fn offset_to_wire(offset: Offset) -> u64 {
    offset.since(Offset::ZERO)
}

fn command_from_wire(kind: wire::Kind) -> Result<Command, CodecError> {
    use wire::Kind;
    Ok(match kind {
        Kind::OpenSession(open) => Command::OpenSession(open_session_from_wire(open)?),
        Kind::CloseSession(wire::CloseSession {}) => Command::CloseSession,
        Kind::ExpireSession(expire) => {
            Command::ExpireSession { session: SessionId(expire.session), last_seen: Lsn(expire.last_seen) }
        }
        Kind::CreateTopic(create) => Command::CreateTopic(create_topic_from_wire(create)?),
        Kind::DeleteTopic(delete) => Command::DeleteTopic { topic: topic_from_wire(delete.topic)? },
        Kind::CreatePartitions(create) => {
            Command::CreatePartitions { topic: topic_from_wire(create.topic)?, total: create.total }
        }
        Kind::SetTopicConfigs(set) => Command::SetTopicConfigs {
            topic: topic_from_wire(set.topic)?,
            changes: set.changes.into_iter().map(|config| (config.name, config.value)).collect(),
        },
        Kind::AllocateProducerIds(count) => Command::AllocateProducerIds { count },
        Kind::CommitSegment(commit) => Command::CommitSegment(commit_segment_from_wire(commit)?),
        Kind::AdvanceLogStart(advance) => {
            let start =
                |start: wire::LogStart| Ok((partition_from_wire(start.partition)?, offset_from_wire(start.offset)?));
            Command::AdvanceLogStart { starts: advance.starts.into_iter().map(start).collect::<Result<_, _>>()? }
        }
        Kind::ForgetObjects(forget) => {
            Command::ForgetObjects { objects: forget.objects.into_iter().map(object_from_wire).collect() }
        }
        Kind::SaveGroup(save) => Command::SaveGroup(SaveGroup {
            group: save.group,
            expected_version: save.expected_version,
            protocol_type: save.protocol_type,
            generation: save.generation,
            is_empty: save.is_empty,
            record: save.record,
        }),
        Kind::DeleteGroup(delete) => {
            Command::DeleteGroup { group: delete.group, expected_version: delete.expected_version }
        }
        Kind::CommitOffsets(commit) => Command::CommitOffsets(CommitOffsets {
            group: commit.group,
            expected_version: commit.expected_version,
            offsets: commit.offsets.into_iter().map(committed_from_wire).collect::<Result<_, _>>()?,
        }),
        Kind::DeleteOffsets(delete) => {
            let partitions = delete.partitions.into_iter().map(|tp| partition_from_wire(Some(tp)));
            Command::DeleteOffsets { group: delete.group, partitions: partitions.collect::<Result<_, _>>()? }
        }
        Kind::ExpireState(expire) => Command::ExpireState {
            producer_idle_ms: expire.producer_idle_ms,
            offsets_retention_ms: expire.offsets_retention_ms,
        },
        Kind::RaiseFeatureLevel(level) => Command::RaiseFeatureLevel { level },
        Kind::SwapExtents(swap) => Command::SwapExtents(swap::from_wire(swap)?),
        Kind::FoldExtents(fold) => Command::FoldExtents(fold::from_wire(fold)?),
        Kind::UnfoldExtents(unfold) => Command::UnfoldExtents(fold::unfold_from_wire(unfold)?),
        Kind::LeaveSoon(wire::LeaveSoon {}) => Command::LeaveSoon,
        Kind::MarkState(wire::MarkState {}) => Command::MarkState,
        Kind::SayStateHash(said) => Command::SayStateHash { at: Lsn(said.at), hash: said.hash },
    })
}

fn open_session_from_wire(open: wire::OpenSession) -> Result<OpenSession, CodecError> {
    let listener = |listener: wire::Listener| {
        let port = u16::try_from(listener.port).map_err(|why| CodecError::malformed(ENTRY, why))?;
        Ok(AdvertisedListener { name: listener.name, host: listener.host, port })
    };
    Ok(OpenSession {
        node: NodeId(open.node),
        listeners: open.listeners.into_iter().map(listener).collect::<Result<_, _>>()?,
        rack: open.rack,
        feature_level: open.feature_level,
        cluster_id: open.cluster_id,
        fence_others: open.fence_others,
    })
}

fn create_topic_from_wire(create: wire::CreateTopic) -> Result<CreateTopic, CodecError> {
    let config = |config: wire::Config| {
        let value = config.value.ok_or_else(|| CodecError::malformed(ENTRY, "a config of a new topic has no value"))?;
        Ok((config.name, value))
    };
    Ok(CreateTopic {
        id: topic_from_wire(create.id)?,
        name: create.name.parse::<TopicName>().map_err(|why| CodecError::malformed(ENTRY, why))?,
        partitions: create.partitions,
        configs: create.configs.into_iter().map(config).collect::<Result<_, _>>()?,
    })
}

fn commit_segment_from_wire(commit: wire::CommitSegment) -> Result<CommitSegment, CodecError> {
    let stamp = |stamp: wire::Stamp| {
        let epoch = i16::try_from(stamp.epoch).map_err(|why| CodecError::malformed(ENTRY, why))?;
        let (base_sequence, transactional) = (stamp.base_sequence, stamp.transactional);
        Ok(ProducerStamp { id: ProducerId(stamp.producer), epoch, base_sequence, transactional })
    };
    let batch = |batch: wire::Batch| {
        let (records, length, max_timestamp) = (batch.records, batch.length, batch.max_timestamp);
        Ok(BatchSummary { records, length, max_timestamp, stamp: batch.stamp.map(stamp).transpose()? })
    };
    let part = |part: wire::PartitionCommit| {
        let batches = part.batches.into_iter().map(batch).collect::<Result<_, CodecError>>()?;
        Ok(PartitionCommit { partition: partition_from_wire(part.partition)?, position: part.position, batches })
    };
    Ok(CommitSegment {
        object: commit.object.map(object_from_wire).ok_or_else(|| missing("object"))?,
        object_bytes: commit.object_bytes,
        partitions: commit.partitions.into_iter().map(part).collect::<Result<_, CodecError>>()?,
    })
}

fn committed_from_wire(offset: wire::OffsetOfPartition) -> Result<(TopicPartition, CommittedOffset), CodecError> {
    let committed = CommittedOffset {
        offset: offset_from_wire(offset.offset)?,
        leader_epoch: offset.leader_epoch,
        metadata: offset.metadata,
        commit_ms: offset.commit_ms,
        expire_ms: offset.expire_ms,
    };
    Ok((partition_from_wire(offset.partition)?, committed))
}

fn topic_from_wire(topic: Option<wire::TopicId>) -> Result<TopicId, CodecError> {
    topic.map(|id| TopicId(Uuid::from_u64_pair(id.high, id.low))).ok_or_else(|| missing("topic"))
}

fn partition_from_wire(tp: Option<wire::TopicPartition>) -> Result<TopicPartition, CodecError> {
    let tp = tp.ok_or_else(|| missing("partition"))?;
    Ok(TopicPartition { topic: TopicId(Uuid::from_u64_pair(tp.topic_high, tp.topic_low)), partition: tp.partition })
}

fn object_from_wire(object: wire::ObjectId) -> ObjectId {
    ObjectId { session: SessionId(object.session), counter: object.counter }
}

fn offset_from_wire(offset: u64) -> Result<Offset, CodecError> {
    Offset::ZERO.checked_add(offset).ok_or_else(|| CodecError::malformed(ENTRY, "an offset is negative"))
}

fn missing(field: &str) -> CodecError {
    CodecError::malformed(ENTRY, format_args!("it lacks a {field}"))
}

#[cfg(test)]
mod tests;
