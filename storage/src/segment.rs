//! Segments: the one file format of ours in the bucket.

pub mod builder;
pub mod format;
pub mod parser;
