//! How many bytes commands will take in the journal, without encoding them: for caps, queues and budgets.

use crate::command::{Command, Entry};

/// Bytes of an entry without commands: frame, session, sequence, time.
const ENTRY_FIXED_BYTES: usize = 48;
/// Bytes of the fixed part of any command.
const COMMAND_FIXED_BYTES: usize = 64;
/// Bytes of a topic id, a partition and a number or two.
const PARTITION_BYTES: usize = 48;
/// Bytes of what a commit says of one batch.
const BATCH_BYTES: usize = 64;
/// Bytes of a committed offset besides its metadata.
const OFFSET_BYTES: usize = 40;

/// About how many bytes an entry takes in the journal; rather too many than too few.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_FIXED_BYTES + entry.commands.iter().map(command_bytes).sum::<usize>()
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
            Command::CommitSegment(commit) => {
                commit.partitions.iter().map(|p| PARTITION_BYTES + BATCH_BYTES * p.batches.len()).sum()
            }
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
            | Command::ExpireSession { .. }
            | Command::DeleteTopic { .. }
            | Command::CreatePartitions { .. }
            | Command::AllocateProducerIds { .. }
            | Command::ExpireState { .. }
            | Command::RaiseFeatureLevel { .. } => 0,
        }
}
