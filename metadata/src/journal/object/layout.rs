//! The bytes of an object of the journal.
//!
//! ```text
//!     ┌──────────────────────────────────────────────────────────────┐
//!   0 │ segment    as `storage/segment/format.rs` draws it, or empty │
//!     ├──────────────────────────────────────────────────────────────┤
//!     │ entry      as `codec.rs` draws it                            │
//!     ├──────────────────────────────────────────────────────────────┤
//!     │ trailer    position u64, segment length u64, entry length    │ 32 bytes, big endian; the checksum covers
//!     │            u32, version u16, zero u16, CRC32C u32, "SHJE"    │ the trailer up to itself
//!     └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! The segment comes first, so that positions in it are positions in the object. Entry and segment have checksums of their
//! own. A reader that meets a newer version stops.

use bytes::Bytes;

use crate::codec::{CodecError, decode_entry, encode_entry};
use crate::command::Entry;
use crate::model::ids::{Lsn, SessionId};

/// Bytes of the trailer.
pub(crate) const TRAILER_LEN: usize = 32;
const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"SHJE";
const CHECKED_LEN: usize = 24;
const OBJECT: &str = "object of the journal";

/// Where the entry stands in its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Bytes before the entry.
    pub(crate) segment_len: u64,
    /// Bytes of the entry.
    pub(crate) entry_len: u32,
}

/// The entry that fills a position which nothing else may fill any more: of no session, without commands.
pub(crate) fn filler() -> Entry {
    Entry { session: SessionId::NONE, sequence: 0, time_ms: 0, commands: Vec::new(), follows: None }
}

/// Entry and trailer, to be put behind the segment.
pub(crate) fn tail(at: Lsn, segment_len: u64, entry: &Entry) -> Bytes {
    let mut bytes = encode_entry(entry);
    let entry_len = u32::try_from(bytes.len()).expect("an entry is capped far below 4 GiB");
    let trailer = bytes.len();
    bytes.extend_from_slice(&at.0.to_be_bytes());
    bytes.extend_from_slice(&segment_len.to_be_bytes());
    bytes.extend_from_slice(&entry_len.to_be_bytes());
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&[0; 2]);
    let crc = crc32c::crc32c(&bytes[trailer..]);
    bytes.extend_from_slice(&crc.to_be_bytes());
    bytes.extend_from_slice(&MAGIC);
    bytes.into()
}

impl Trailer {
    /// Reads the end of the object at a position, of which `size` bytes there are.
    pub(crate) fn parse(at: Lsn, size: u64, end: &[u8]) -> Result<Self, CodecError> {
        let bad = |why: &str| CodecError::malformed(OBJECT, format!("{why} (position {at})"));
        let Some((_, trailer)) = end.split_last_chunk::<TRAILER_LEN>() else { return Err(bad("it is cut off")) };
        let (checked, rest) = trailer.split_at(CHECKED_LEN);
        if rest[4..] != MAGIC {
            return Err(bad("it does not end like one"));
        }
        if rest[..4] != crc32c::crc32c(checked).to_be_bytes() {
            return Err(CodecError::Checksum { what: OBJECT });
        }
        let number = |from: usize| checked[from..from + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let (entry_len, version) = ((number(16) >> 32) as u32, (number(16) >> 16) as u16);
        if version > VERSION {
            return Err(CodecError::Newer { what: OBJECT, found: version.into(), known: VERSION.into() });
        }
        let trailer = Self { segment_len: number(8), entry_len };
        if number(0) != at.0 {
            return Err(bad("it stands at another position than it says"));
        }
        let whole = trailer.segment_len.checked_add(u64::from(entry_len) + TRAILER_LEN as u64);
        if whole != Some(size) {
            return Err(bad("its length is not what it says"));
        }
        Ok(trailer)
    }

    /// Bytes of entry and trailer.
    pub(crate) fn tail_len(self) -> u64 {
        u64::from(self.entry_len) + TRAILER_LEN as u64
    }

    /// The entry, of an `end` that holds at least [`Trailer::tail_len`] bytes.
    pub(crate) fn entry(self, end: &[u8]) -> Result<Entry, CodecError> {
        let to = end.len() - TRAILER_LEN;
        decode_entry(&end[to - self.entry_len as usize..to])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::class::{Classify, ErrorClass};
    use crate::golden;

    #[test]
    fn d1_the_bytes_of_an_object_are_pinned() {
        let entry = Entry { follows: Some(Lsn(300)), sequence: 2, ..golden::entry() };
        let tail = tail(Lsn(301), 70_000, &entry);
        golden::check("journal_object_v1.hex", &tail);
        let trailer = Trailer::parse(Lsn(301), 70_000 + tail.len() as u64, &tail).unwrap();
        assert_eq!((trailer.segment_len, trailer.tail_len()), (70_000, tail.len() as u64));
        assert_eq!(trailer.entry(&tail), Ok(entry));
    }

    #[test]
    fn l7_an_object_elsewhere_or_of_another_size_is_refused() {
        let tail = tail(Lsn(5), 10, &filler());
        let size = 10 + tail.len() as u64;
        assert!(Trailer::parse(Lsn(5), size, &tail).is_ok());
        for (at, size) in [(Lsn(6), size), (Lsn(5), size + 1), (Lsn(5), size - 1)] {
            assert_eq!(Trailer::parse(at, size, &tail).unwrap_err().class(), ErrorClass::Corrupt);
        }
        for byte in tail.len() - TRAILER_LEN..tail.len() {
            let mut wrong = tail.to_vec();
            wrong[byte] ^= 4;
            assert!(Trailer::parse(Lsn(5), size, &wrong).is_err(), "byte {byte}");
        }
    }

    proptest! {
        #[test]
        fn p1_parsing_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..80), size: u64) {
            drop(Trailer::parse(Lsn(1), size, &bytes));
        }
    }
}
