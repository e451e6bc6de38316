//! The cluster as clients see it.

pub mod api_versions;
pub mod describe_cluster;
pub mod describe_log_dirs;
pub mod describe_topic_partitions;
pub mod list_partition_reassignments;
pub mod metadata;
