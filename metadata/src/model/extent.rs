//! Where the bytes of a log lie.

use std::fmt;

use super::ids::SessionId;
use super::offset::Offset;

/// Identity of a segment object: who wrote it and as which one of its own. Never reused, so a repeated PUT is harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ObjectId {
    /// The session that wrote the object.
    pub session: SessionId,
    /// Counts the objects of that session, from 0.
    pub counter: u64,
}

impl ObjectId {
    /// Folder of all segments below the bucket's prefix.
    pub const PREFIX: &'static str = "segments/";

    /// Key of the object below the bucket's prefix.
    pub fn key(self) -> String {
        format!("{}{:016x}-{:016x}.seg", Self::PREFIX, self.session.0, self.counter)
    }

    /// The identity a key stands for; `None` for keys that are not of segments.
    pub fn from_key(key: &str) -> Option<Self> {
        let (session, counter) = key.strip_prefix(Self::PREFIX)?.strip_suffix(".seg")?.split_once('-')?;
        let hex = |s: &str| (s.len() == 16).then(|| u64::from_str_radix(s, 16).ok()).flatten();
        Some(Self { session: SessionId(hex(session)?), counter: hex(counter)? })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:x}", self.session, self.counter)
    }
}

/// Bytes of one object that hold a range of offsets of one partition: one or more whole batches, back to back, in offset
/// order.
///
/// A dense extent has a record for every offset from `base` to `end`: base offsets inside its bytes need not be right, they
/// follow from `base` and are written when read. A sparse one was compacted: batches inside it may leave gaps between them,
/// so their base offsets are final as they stand in the bytes. Its first batch begins at `base` and its last one ends at
/// `end`, so whoever asks for an offset in the range finds a batch at or behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first record.
    pub base: Offset,
    /// Offset after the last record (exclusive).
    pub end: Offset,
    /// The object.
    pub object: ObjectId,
    /// Where in the object the first batch starts, bytes.
    pub position: u64,
    /// How many bytes, all batches together.
    pub length: u32,
    /// Largest record timestamp in it, ms; -1 if no record has one.
    pub max_timestamp: i64,
    /// Whether the bytes carry their own offsets.
    pub sparse: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        let id = ObjectId { session: SessionId(0xfeed), counter: 42 };
        assert_eq!(ObjectId::from_key(&id.key()), Some(id));
        for bad in ["", "segments/", "segments/1-2.seg", "snapshots/000000000000feed-000000000000002a.seg"] {
            assert_eq!(ObjectId::from_key(bad), None, "{bad}");
        }
    }
}
