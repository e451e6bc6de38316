//! The words everything else is written in: ids, offsets, batches, extents and limits.

pub mod batch;
pub mod extent;
pub mod fold;
pub mod ids;
pub mod limits;
pub mod offset;
pub mod profile;
pub mod topic_config;
