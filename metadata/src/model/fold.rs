//! A run of a log's oldest extents that lies in a manifest object, and what the state keeps of it.

use super::extent::ObjectId;
use super::offset::Offset;

/// SHA-256 of the bytes of a run.
pub type RunHash = [u8; 32];

/// What stands in a log in the place of neighbouring extents. The extents themselves are the run: `length` bytes at `position`
/// of the manifest `object`, and nothing else than bytes of this hash is ever taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Offset of the first record.
    pub base: Offset,
    /// Offset after the last record (exclusive).
    pub end: Offset,
    /// How many extents.
    pub extents: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Largest record timestamp in them, ms; -1 if no record has one.
    pub max_timestamp: i64,
    /// Age of the extent that is the oldest by its newest record, ms; of records without timestamps, when they were committed.
    pub oldest_ms: i64,
    /// The same of the youngest extent, ms.
    pub newest_ms: i64,
    /// The manifest.
    pub object: ObjectId,
    /// Where in the manifest the run starts, bytes.
    pub position: u32,
    /// Bytes of the run.
    pub length: u32,
    /// Hash of the run.
    pub hash: RunHash,
}

impl Fold {
    /// What names a run for ever.
    pub fn place(&self) -> (ObjectId, u32) {
        (self.object, self.position)
    }
}
