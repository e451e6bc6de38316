//! Where the bytes of a log lie.

use std::fmt;

use super::ids::{Lsn, SessionId};
use super::offset::Offset;

/// Identity of a segment object: who wrote it and as which one of its own. Never reused, so a repeated PUT is harmless.
///
/// With the journal in the bucket a segment travels in the object of its own commit, whose key is the journal position:
/// such an object names no session, and counts by position ([`ObjectId::at`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ObjectId {
    /// The session that wrote the object; [`SessionId::NONE`] for an object of the journal.
    pub session: SessionId,
    /// Counts the objects of that session, from 0; the position of an object of the journal.
    pub counter: u64,
}

impl ObjectId {
    /// Folder of all segments below the bucket's prefix.
    pub const PREFIX: &'static str = "segments/";

    /// Folder of the journal's objects below the bucket's prefix.
    pub const JOURNAL_PREFIX: &'static str = "journal/";

    /// The object at a position of a journal that lies in the bucket.
    pub fn at(lsn: Lsn) -> Self {
        Self { session: SessionId::NONE, counter: lsn.0 }
    }

    /// The journal position whose object this is; `None` for an object of its own.
    pub fn position(self) -> Option<Lsn> {
        (self.session == SessionId::NONE).then_some(Lsn(self.counter))
    }

    /// Key of the object below the bucket's prefix.
    pub fn key(self) -> String {
        if self.session == SessionId::NONE {
            return format!("{}{:020}", Self::JOURNAL_PREFIX, self.counter);
        }
        format!("{}{:016x}-{:016x}.seg", Self::PREFIX, self.session.0, self.counter)
    }

    /// The identity a key stands for; `None` for keys that are neither of segments nor of the journal.
    pub fn from_key(key: &str) -> Option<Self> {
        if let Some(position) = key.strip_prefix(Self::JOURNAL_PREFIX) {
            let is_position = position.len() == 20 && position.bytes().all(|digit| digit.is_ascii_digit());
            return is_position.then(|| position.parse().ok()).flatten().map(|lsn| Self::at(Lsn(lsn)));
        }
        let (session, counter) = key.strip_prefix(Self::PREFIX)?.strip_suffix(".seg")?.split_once('-')?;
        let hex = |s: &str| (s.len() == 16).then(|| u64::from_str_radix(s, 16).ok()).flatten();
        Some(Self { session: SessionId(hex(session)?), counter: hex(counter)? })
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position() {
            Some(lsn) => write!(f, "journal-{lsn}"),
            None => write!(f, "{}-{:x}", self.session, self.counter),
        }
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
        assert_eq!(id.position(), None);
        let id = ObjectId::at(Lsn(42));
        assert_eq!(id.key(), "journal/00000000000000000042");
        assert_eq!((ObjectId::from_key(&id.key()), id.position()), (Some(id), Some(Lsn(42))));
        assert!(ObjectId::at(Lsn(99)).key() < ObjectId::at(Lsn(100)).key(), "keys are in the order of positions");
        for bad in [
            "",
            "journal/1",
            "journal/+0000000000000000042",
            "segments/",
            "segments/1-2.seg",
            "snapshots/000000000000feed-000000000000002a.seg",
        ] {
            assert_eq!(ObjectId::from_key(bad), None, "{bad}");
        }
    }
}
