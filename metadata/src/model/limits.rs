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
/// Commands that may wait for the journal at once; past it submitters wait.
pub const JOURNAL_QUEUE_COMMANDS: usize = 4_096;
/// Most commands of one journal entry.
pub const ENTRY_COMMANDS_MAX: usize = 1_024;
/// Most bytes of one journal entry.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Longest group id, client id or metadata string kept in the state, bytes.
pub const GROUP_STRING_MAX_LEN: usize = 32 << 10;
/// Largest value of a group saved in the state (members, subscriptions, assignments), bytes.
pub const GROUP_RECORD_MAX_BYTES: usize = 16 << 20;
/// Longest topic config value, bytes.
pub const CONFIG_VALUE_MAX_LEN: usize = 32 << 10;
