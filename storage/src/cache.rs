//! Bytes of logs in memory. Objects never change, so what is cached never lies; batches are patched once, when they enter.

pub mod block;
pub mod blocks;
pub mod disk;
pub mod single_flight;
pub mod tail;
