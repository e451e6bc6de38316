//! The bytes of StreamHouse: objects and their stores, segments, the writer, the reader, caches and upkeep.
//!
//! Stands on `metadata`, the truth; nothing here knows the Kafka wire.

pub mod blob;
pub mod cache;
pub mod codec;
pub mod cost;
pub mod entries;
pub mod error;
pub mod folds;
pub mod metrics;
pub mod options;
mod pace;
pub mod reader;
#[cfg(test)]
mod sample;
pub mod segment;
#[cfg(test)]
mod testbed;
pub mod upkeep;
pub mod writer;
