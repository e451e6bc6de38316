//! How many bytes commands will take in the journal, without encoding them: for caps, queues and budgets.

use crate::command::{Command, CommitSegment, Entry, PartitionSwap};

/// Bytes of an entry without commands: frame, session, sequence, time, what it follows.
const ENTRY_FIXED_BYTES: usize = 60;
/// Bytes of the fixed part of any command.
const COMMAND_FIXED_BYTES: usize = 64;
/// Bytes of a topic id, a partition and a number or two.
const PARTITION_BYTES: usize = 48;
/// Bytes of what a commit says of one batch.
const BATCH_BYTES: usize = 64;
/// Bytes of an extent that is replaced: object and position.
const OLD_EXTENT_BYTES: usize = 32;
/// Bytes of an extent that replaces others.
const NEW_EXTENT_BYTES: usize = 64;
/// Bytes of a hash and what stands beside it.
const HASH_BYTES: usize = 48;
/// Bytes of a committed offset besides its metadata.
const OFFSET_BYTES: usize = 40;

/// About how many bytes an entry takes in the journal; rather too many than too few.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_FIXED_BYTES + entry.commands.iter().map(command_bytes).sum::<usize>()
}

/// About how many bytes a commit takes in an entry, besides what every command takes.
pub(crate) fn commit_bytes(commit: &CommitSegment) -> usize {
    commit.partitions.iter().map(|p| PARTITION_BYTES + BATCH_BYTES * p.batches.len()).sum()
}

/// About how many bytes a command takes in an entry; rather too many than too few.
pub(crate) fn command_bytes(command: &Command) -> usize {
    let strings = |pairs: &[(String, String)]| pairs.iter().map(|(k, v)| 8 + k.len() + v.len()).sum::<usize>();
    COMMAND_FIXED_BYTES
        + match command {
            Command::OpenSession(open) => {
                let listeners = open.listeners.iter().map(|l| 16 + l.name.len() + l.host.len());
                open.cluster_id.len() + open.rack.as_ref().map_or(0, String::len) + listeners.sum::<usize>()
            }
            Command::CreateTopic(create) => create.name.as_str().len() + strings(&create.configs),
            Command::SetTopicConfigs { topic: _, changes } => {
                changes.iter().map(|(k, v)| 8 + k.len() + v.as_ref().map_or(0, String::len)).sum()
            }
            Command::CommitSegment(commit) => commit_bytes(commit),
            Command::SwapExtents(swap) => {
                let of = |p: &PartitionSwap| {
                    PARTITION_BYTES + 2 * OFFSET_BYTES + OLD_EXTENT_BYTES * p.old.len() + NEW_EXTENT_BYTES * p.new.len()
                };
                swap.partitions.iter().map(of).sum()
            }
            Command::FoldExtents(fold) => (PARTITION_BYTES + HASH_BYTES) * fold.runs.len(),
            Command::UnfoldExtents(unfold) => PARTITION_BYTES + unfold.run.len(),
            Command::AdvanceLogStart { starts } => PARTITION_BYTES * starts.len(),
            Command::ForgetObjects { objects } => PARTITION_BYTES * objects.len(),
            Command::SaveGroup(save) => save.group.len() + save.protocol_type.len() + save.record.len(),
            Command::DeleteGroup { group, expected_version: _ } => group.len(),
            Command::CommitOffsets(commit) => {
                let offsets = commit.offsets.iter().map(|(_, o)| PARTITION_BYTES + OFFSET_BYTES + o.metadata.len());
                commit.group.len() + offsets.sum::<usize>()
            }
            Command::DeleteOffsets { group, partitions } => group.len() + PARTITION_BYTES * partitions.len(),
            Command::CloseSession
            | Command::LeaveSoon
            | Command::MarkState
            | Command::SayStateHash { .. }
            | Command::ExpireSession { .. }
            | Command::DeleteTopic { .. }
            | Command::CreatePartitions { .. }
            | Command::AllocateProducerIds { .. }
            | Command::ExpireState { .. }
            | Command::RaiseFeatureLevel { .. } => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode_entry;
    use crate::command::{
        AdvertisedListener, CommitOffsets, CommittedOffset, CreateTopic, FoldExtents, NewExtent, OpenSession,
        PartitionCommit, PartitionFold, SaveGroup, SwapExtents, UnfoldExtents,
    };
    use crate::model::batch::{BatchSummary, ProducerStamp};
    use crate::model::extent::ObjectId;
    use crate::model::ids::{Lsn, NodeId, ProducerId, SessionId, TopicId, TopicPartition};
    use crate::model::offset::Offset;

    /// Each with the largest numbers it can carry, for those take the most bytes.
    fn commands() -> Vec<Command> {
        let partition = TopicPartition { topic: TopicId::random(), partition: i32::MAX };
        let offset = Offset::new(i64::MAX).unwrap();
        let object = ObjectId { session: SessionId(u64::MAX), counter: u64::MAX };
        let stamp =
            ProducerStamp { id: ProducerId(i64::MAX), epoch: i16::MAX, base_sequence: i32::MAX, transactional: true };
        let batch = BatchSummary { records: u32::MAX, length: u32::MAX, max_timestamp: i64::MIN, stamp: Some(stamp) };
        let committed = CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "where I was".into(),
            commit_ms: i64::MAX,
            expire_ms: Some(i64::MAX),
        };
        let listener = AdvertisedListener { name: "PLAINTEXT".into(), host: "a.host.example".into(), port: u16::MAX };
        let text = || "a text of some length".to_owned();
        vec![
            Command::OpenSession(OpenSession {
                node: NodeId(i32::MAX),
                listeners: vec![listener; 5],
                rack: Some(text()),
                feature_level: u32::MAX,
                cluster_id: text(),
                fence_others: true,
            }),
            Command::CloseSession,
            Command::ExpireSession { session: SessionId(u64::MAX), last_seen: Lsn(u64::MAX) },
            Command::CreateTopic(CreateTopic {
                id: TopicId::random(),
                name: "a-topic".parse().unwrap(),
                partitions: i32::MAX,
                configs: vec![(text(), text()); 9],
            }),
            Command::DeleteTopic { topic: TopicId::random() },
            Command::CreatePartitions { topic: TopicId::random(), total: i32::MAX },
            Command::SetTopicConfigs {
                topic: TopicId::random(),
                changes: vec![(text(), Some(text())), (text(), None)],
            },
            Command::AllocateProducerIds { count: u32::MAX },
            Command::CommitSegment(CommitSegment {
                object,
                object_bytes: u64::MAX,
                partitions: vec![PartitionCommit { partition, position: u64::MAX, batches: vec![batch; 7] }; 9],
            }),
            Command::AdvanceLogStart { starts: vec![(partition, offset); 9] },
            Command::ForgetObjects { objects: vec![object; 9] },
            Command::SaveGroup(SaveGroup {
                group: text(),
                expected_version: u64::MAX,
                protocol_type: text(),
                generation: i32::MAX,
                is_empty: true,
                record: vec![1; 500],
            }),
            Command::DeleteGroup { group: text(), expected_version: u64::MAX },
            Command::CommitOffsets(CommitOffsets {
                group: text(),
                expected_version: Some(u64::MAX),
                offsets: vec![(partition, committed); 9],
            }),
            Command::DeleteOffsets { group: text(), partitions: vec![partition; 9] },
            Command::ExpireState { producer_idle_ms: i64::MAX, offsets_retention_ms: i64::MAX },
            Command::RaiseFeatureLevel { level: u32::MAX },
            Command::SwapExtents(SwapExtents {
                object,
                object_bytes: u64::MAX,
                level: u32::MAX,
                partitions: vec![swap(partition, offset, object); 9],
            }),
            Command::FoldExtents(FoldExtents { object, object_bytes: u64::MAX, runs: vec![fold(partition); 9] }),
            Command::UnfoldExtents(UnfoldExtents {
                partition: Some(partition),
                object,
                position: u64::MAX,
                run: vec![1; 500],
            }),
        ]
    }

    fn fold(partition: TopicPartition) -> PartitionFold {
        PartitionFold { partition, extents: u32::MAX, position: u64::MAX, length: u32::MAX, hash: [255; 32] }
    }

    fn swap(partition: TopicPartition, offset: Offset, object: ObjectId) -> PartitionSwap {
        let (position, length, max_timestamp) = (u64::MAX, u32::MAX, i64::MIN);
        let new = NewExtent { base: offset, end: offset, position, length, max_timestamp, sparse: true };
        PartitionSwap { partition, base: offset, end: offset, old: vec![(object, u64::MAX); 7], new: vec![new; 3] }
    }

    /// The caps of queue and entry hold only if no command is larger than it seems.
    #[test]
    fn no_command_is_larger_than_it_seems() {
        for command in commands() {
            let entry = Entry {
                session: SessionId(u64::MAX),
                sequence: u64::MAX,
                time_ms: i64::MAX,
                commands: vec![command],
                follows: None,
            };
            let (seems, is) = (entry_bytes(&entry), encode_entry(&entry).len());
            assert!(seems >= is, "seems {seems}, is {is}: {:?}", entry.commands);
            assert!(seems <= 3 * is + 128, "seems {seems}, is {is}: {:?}", entry.commands);
        }
    }
}
