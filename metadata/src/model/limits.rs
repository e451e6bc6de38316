//! Every hard cap of the house, each with its unit. Past a cap the client gets a Kafka error or waits; memory does not grow.

/// Longest topic name, bytes (Kafka's `Topic.MAX_NAME_LENGTH`).
pub const TOPIC_NAME_MAX_LEN: usize = 249;
/// Most partitions a topic may have; Kafka has no such cap and dies slowly instead.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 10_000;
/// Most topics of one cell.
pub const TOPICS_MAX: usize = 100_000;
/// Batches remembered per producer and partition to recognise repetitions (Kafka's `ProducerStateEntry`).
pub const PRODUCER_WINDOW_BATCHES: usize = 5;
/// Most producers remembered per partition; past it the least recently active is forgotten.
pub const PRODUCERS_PER_PARTITION_MAX: usize = 10_000;
/// Most entries on their way to a journal in a bucket at once; past it commands wait.
pub const ENTRIES_UNDER_WAY_MAX: usize = 64;
/// Commands that may wait for the journal at once; past it submitters wait.
pub const JOURNAL_QUEUE_COMMANDS: usize = 4_096;
/// Most commands of one journal entry.
pub const ENTRY_COMMANDS_MAX: usize = 1_024;
/// Bytes of commands that may wait for the journal at once; past it submitters wait.
pub const JOURNAL_QUEUE_BYTES: usize = 64 << 20;
/// Most bytes of one journal entry, unless a single command is larger.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Most bytes of one command; a larger one is refused. Above the largest value that a command may carry.
pub const COMMAND_BYTES_MAX: usize = GROUP_RECORD_MAX_BYTES + ENTRY_BYTES_MAX;
/// Longest group id, client id or metadata string kept in the state, bytes.
pub const GROUP_STRING_MAX_LEN: usize = 32 << 10;
/// Largest value of a group saved in the state (members, subscriptions, assignments), bytes.
pub const GROUP_RECORD_MAX_BYTES: usize = 16 << 20;
/// Longest topic config value, bytes.
pub const CONFIG_VALUE_MAX_LEN: usize = 32 << 10;
/// Longest topic config name, bytes.
pub const CONFIG_NAME_MAX_LEN: usize = 249;
/// Most explicit configs of one topic.
pub const CONFIGS_PER_TOPIC_MAX: usize = 256;
/// Most partitions of one cell, all topics together.
pub const PARTITIONS_MAX: usize = 500_000;
/// Most groups of one cell.
pub const GROUPS_MAX: usize = 200_000;
/// Most committed offsets of one cell, all groups together.
pub const COMMITTED_OFFSETS_MAX: usize = 5_000_000;
/// Most live sessions of one cell; past it new ones are refused.
pub const SESSIONS_MAX: usize = 1_024;
/// Expired sessions remembered; past it the one that expired first is forgotten.
pub const EXPIRED_SESSIONS_MAX: usize = 10_000;
/// Largest object a commit may name, bytes: positions in the index are 32 bits wide.
pub const OBJECT_BYTES_MAX: u64 = u32::MAX as u64;
/// Most extents of one folded run: it is loaded as a whole, and comes back by one command.
pub const FOLD_EXTENTS_MAX: u32 = 4_096;
