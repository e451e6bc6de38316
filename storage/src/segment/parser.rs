//! Reads what a segment says of itself. Total: any bytes give a footer or an error, and memory in proportion to the bytes.

use metadata::class::{Classify, ErrorClass};
use metadata::model::batch::{BatchSummary, ProducerStamp};
use metadata::model::extent::ObjectId;
use metadata::model::ids::{ProducerId, SessionId, TopicId};

use super::format::{
    END_MAGIC, FLAG_PLACED, FLAG_STAMPED, FLAG_TRANSACTIONAL, Footer, HEADER_LEN, MAGIC, Run, TRAILER_LEN, TopicRuns,
    VERSION,
};

/// Why bytes are not a segment that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Not the beginning or the end of a segment.
    #[error("not a segment: {0}")]
    NotSegment(&'static str),
    /// Written by a newer version of this program.
    #[error("segment version {found} is newer than {VERSION}, the newest this build can read: upgrade this gateway")]
    Newer {
        /// The version it says.
        found: u16,
    },
    /// A checksum does not match, or the parts contradict each other.
    #[error("segment is damaged: {0}")]
    Damaged(&'static str),
}

impl Classify for SegmentError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotSegment(_) | Self::Damaged(_) => ErrorClass::Corrupt,
            Self::Newer { .. } => ErrorClass::Rejected,
        }
    }
}

/// The trailer: where the footer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Bytes of the footer, which stands right before the trailer.
    pub footer_len: u32,
    /// Bytes of the whole segment.
    pub whole_len: u32,
    flags: u16,
    crc: u32,
}

impl Trailer {
    /// Reads the last [`TRAILER_LEN`] bytes of `tail`.
    pub fn parse(tail: &[u8]) -> Result<Self, SegmentError> {
        let from = tail.len().checked_sub(TRAILER_LEN).ok_or(SegmentError::NotSegment("shorter than a trailer"))?;
        let mut cursor = Cursor(&tail[from..]);
        let (footer_len, version, flags) = (cursor.u32()?, cursor.u16()?, cursor.u16()?);
        let (crc, whole_len, magic) = (cursor.u32()?, cursor.u32()?, cursor.take::<4>()?);
        if magic != END_MAGIC {
            return Err(SegmentError::NotSegment("it does not end like one"));
        }
        check_version(version)?;
        Ok(Self { footer_len, whole_len, flags, crc })
    }
}

/// Reads footer and trailer, which `tail` must end with; it may hold more of the segment before them.
pub fn parse_footer(tail: &[u8]) -> Result<Footer, SegmentError> {
    let trailer = Trailer::parse(tail)?;
    let footer_end = tail.len() - TRAILER_LEN;
    let footer_len = trailer.footer_len as usize;
    let footer_at = footer_end.checked_sub(footer_len).ok_or(SegmentError::Damaged("its footer is cut off"))?;
    if crc32c::crc32c(&tail[footer_at..footer_end + 8]) != trailer.crc {
        return Err(SegmentError::Damaged("the checksum of its footer does not match"));
    }
    let runs_end = u64::from(trailer.whole_len).checked_sub((footer_len + TRAILER_LEN) as u64);
    let runs_end = runs_end.ok_or(SegmentError::Damaged("its length contradicts its footer"))?;
    let mut cursor = Cursor(&tail[footer_at..footer_end]);
    let footer = Footer { placed: trailer.flags & FLAG_PLACED != 0, ..footer(&mut cursor)? };
    if !cursor.0.is_empty() {
        return Err(SegmentError::Damaged("its footer is longer than it says"));
    }
    check_layout(&footer, runs_end)?;
    Ok(footer)
}

/// Reads a whole segment and checks every run against its checksum.
pub fn parse_segment(bytes: &[u8]) -> Result<Footer, SegmentError> {
    let mut head = Cursor(bytes);
    if head.take::<4>().ok() != Some(MAGIC) {
        return Err(SegmentError::NotSegment("it does not begin like one"));
    }
    check_version(head.u16()?)?;
    let trailer = Trailer::parse(bytes)?;
    if trailer.whole_len as usize != bytes.len() {
        return Err(SegmentError::Damaged("its length is not what it says"));
    }
    let footer = parse_footer(bytes)?;
    for run in footer.topics.iter().flat_map(|topic| &topic.runs) {
        let from = run.position as usize; // inside the bytes: the layout was checked against their length
        let run_bytes = &bytes[from..from + run.length() as usize];
        if crc32c::crc32c(run_bytes) != run.crc {
            return Err(SegmentError::Damaged("the checksum of a run does not match"));
        }
    }
    Ok(footer)
}

fn check_version(found: u16) -> Result<(), SegmentError> {
    match found {
        0 => Err(SegmentError::Damaged("it has no version")),
        1..=VERSION => Ok(()),
        _ => Err(SegmentError::Newer { found }),
    }
}

/// Runs stand back to back from the header to the footer. A manifest has no batches, and something else in their place.
fn check_layout(footer: &Footer, runs_end: u64) -> Result<(), SegmentError> {
    let mut position = HEADER_LEN as u64;
    for run in footer.topics.iter().flat_map(|topic| &topic.runs) {
        if run.position != position || run.partition < 0 {
            return Err(SegmentError::Damaged("its runs are out of place"));
        }
        position += run.length();
    }
    let is_manifest = footer.placed && footer.topics.is_empty();
    if position != runs_end && !is_manifest {
        return Err(SegmentError::Damaged("its runs do not fill it"));
    }
    Ok(())
}

fn footer(cursor: &mut Cursor<'_>) -> Result<Footer, SegmentError> {
    let object = ObjectId { session: SessionId(cursor.u64()?), counter: cursor.u64()? };
    let created_ms = cursor.i64()?;
    let topics = cursor.many(22, topic)?;
    Ok(Footer { object, created_ms, placed: false, topics })
}

fn topic(cursor: &mut Cursor<'_>) -> Result<TopicRuns, SegmentError> {
    let id = TopicId(uuid::Uuid::from_bytes(cursor.take()?));
    let name_len = usize::from(cursor.u16()?);
    let name = std::str::from_utf8(cursor.slice(name_len)?).map_err(|_| SegmentError::Damaged("a name is not text"))?;
    Ok(TopicRuns { id, name: name.to_owned(), runs: cursor.many(20, run)? })
}

fn run(cursor: &mut Cursor<'_>) -> Result<Run, SegmentError> {
    let (partition, position, crc) = (cursor.u32()?.cast_signed(), cursor.u64()?, cursor.u32()?);
    Ok(Run { partition, position, crc, batches: cursor.many(17, batch)? })
}

fn batch(cursor: &mut Cursor<'_>) -> Result<BatchSummary, SegmentError> {
    let (length, records, max_timestamp) = (cursor.u32()?, cursor.u32()?, cursor.i64()?);
    let [flags] = cursor.take()?;
    let stamp = match flags {
        0 => None,
        flags if flags & FLAG_STAMPED != 0 && flags & !(FLAG_STAMPED | FLAG_TRANSACTIONAL) == 0 => {
            Some(ProducerStamp {
                id: ProducerId(cursor.i64()?),
                epoch: cursor.u16()?.cast_signed(),
                base_sequence: cursor.u32()?.cast_signed(),
                transactional: flags & FLAG_TRANSACTIONAL != 0,
            })
        }
        _ => return Err(SegmentError::Damaged("a batch has unknown flags")),
    };
    Ok(BatchSummary { records, length, max_timestamp, stamp })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn slice(&mut self, len: usize) -> Result<&'a [u8], SegmentError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(SegmentError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SegmentError> {
        let (head, rest) = self.0.split_first_chunk().ok_or(SegmentError::Damaged("it ends too early"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, SegmentError> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, SegmentError> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, SegmentError> {
        self.take().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, SegmentError> {
        self.take().map(i64::from_be_bytes)
    }

    /// A count and so many of something that takes at least `least` bytes each: the count is believed no further.
    fn many<T>(
        &mut self,
        least: usize,
        one: impl Fn(&mut Self) -> Result<T, SegmentError>,
    ) -> Result<Vec<T>, SegmentError> {
        let count = self.u32()? as usize;
        if count > self.0.len() / least {
            return Err(SegmentError::Damaged("it counts more than it can hold"));
        }
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(one(self)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
