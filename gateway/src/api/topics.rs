//! Making, growing and removing topics, and removing records.

pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
