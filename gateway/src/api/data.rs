//! Records in and out, and where they stand.

pub mod describe_producers;
pub mod fetch;
pub mod init_producer_id;
pub mod list_offsets;
pub mod offset_for_leader_epoch;
pub mod produce;
