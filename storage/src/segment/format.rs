//! The bytes of a segment object.
//!
//! ```text
//!   0 ┌─────────────────────────────────────────────────────────────┐
//!     │ header     magic "SHSG", version u16, zero u16              │ 8 bytes
//!   8 ├─────────────────────────────────────────────────────────────┤
//!     │ run        batches of one partition, as the producers sent  │ topic by topic, partition by partition,
//!     │ run        them, back to back, in submission order          │ no byte between two runs
//!     │ ...                                                         │
//!     ├─────────────────────────────────────────────────────────────┤
//!     │ footer     session u64, counter u64, created ms i64,        │
//!     │            topics u32, for each                             │
//!     │              id 16 bytes, name length u16, name,            │
//!     │              runs u32, for each                             │
//!     │                partition i32, position u64, CRC32C u32,     │
//!     │                batches u32, for each                        │
//!     │                  length u32, offsets u32,                   │
//!     │                  max timestamp i64, flags u8                │ 1 stamped, 2 transactional
//!     │                  if stamped: producer id i64, epoch i16,    │
//!     │                              base sequence i32              │
//!     ├─────────────────────────────────────────────────────────────┤
//!     │ trailer    footer length u32, version u16, flags u16,       │ 20 bytes; the checksum covers the footer
//!     │            CRC32C u32, whole length u32, magic "GSHS"       │ and the trailer up to itself
//!     └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! Flag 1 says that the segment was written by merge or compact: the base offsets in its batches' headers are final, and the
//! batches of a run may leave gaps. One of those without any run is a manifest: what stands between header and footer are runs of
//! extents, which the state knows how to find (`metadata::codec::run`). All numbers are big endian. The footer says everything that a commit says, and the topics' names besides, so that a log
//! can be put together again from its objects alone. A reader that meets a newer version stops.

use metadata::model::batch::{BatchSummary, ProducerStamp};
use metadata::model::extent::ObjectId;
use metadata::model::ids::TopicId;

/// Version written by this build, and the newest it can read.
pub const VERSION: u16 = 1;
/// First bytes of a segment.
pub const MAGIC: [u8; 4] = *b"SHSG";
/// Last bytes of a segment.
pub const END_MAGIC: [u8; 4] = *b"GSHS";
/// Bytes before the first run.
pub const HEADER_LEN: usize = 8;
/// Bytes after the footer.
pub const TRAILER_LEN: usize = 20;
/// Largest segment, bytes: the index keeps 32-bit positions.
pub const SEGMENT_MAX_BYTES: u64 = u32::MAX as u64;

/// In the trailer: the batches stand at their final offsets.
pub(super) const FLAG_PLACED: u16 = 1;

pub(super) const FLAG_STAMPED: u8 = 1;
pub(super) const FLAG_TRANSACTIONAL: u8 = 2;

/// What a segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Who wrote it, as which of its objects.
    pub object: ObjectId,
    /// Writer's wall clock when it was cut, ms.
    pub created_ms: i64,
    /// Whether the batches carry the offsets they have in their logs, which merged and compacted ones do.
    pub placed: bool,
    /// What it holds, in the order of the bytes.
    pub topics: Vec<TopicRuns>,
}

/// The runs of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRuns {
    /// The topic.
    pub id: TopicId,
    /// Its name when the segment was cut; empty if it was deleted meanwhile.
    pub name: String,
    /// Its partitions, in order of their index.
    pub runs: Vec<Run>,
}

/// The batches of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The partition's index.
    pub partition: i32,
    /// Where the first batch starts, bytes into the object.
    pub position: u64,
    /// CRC32C of all bytes of the run.
    pub crc: u32,
    /// The batches, in submission order.
    pub batches: Vec<BatchSummary>,
}

impl Run {
    /// Bytes of all its batches.
    pub fn length(&self) -> u64 {
        self.batches.iter().map(|batch| u64::from(batch.length)).sum()
    }
}

/// The header of a segment.
pub fn header() -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_be_bytes());
    header
}

impl Footer {
    /// Footer and trailer, for a segment whose runs end at `runs_end`. `None` past [`SEGMENT_MAX_BYTES`].
    pub fn encode(&self, runs_end: u64) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(64 + self.topics.iter().map(TopicRuns::size_hint).sum::<usize>());
        out.extend_from_slice(&self.object.session.0.to_be_bytes());
        out.extend_from_slice(&self.object.counter.to_be_bytes());
        out.extend_from_slice(&self.created_ms.to_be_bytes());
        put_count(&mut out, self.topics.len());
        for topic in &self.topics {
            topic.encode(&mut out);
        }
        let footer_len = u32::try_from(out.len()).ok()?;
        let whole = u32::try_from(runs_end + u64::from(footer_len) + TRAILER_LEN as u64).ok()?;
        out.extend_from_slice(&footer_len.to_be_bytes());
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&if self.placed { FLAG_PLACED } else { 0 }.to_be_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&whole.to_be_bytes());
        out.extend_from_slice(&END_MAGIC);
        Some(out)
    }
}

impl TopicRuns {
    fn size_hint(&self) -> usize {
        22 + self.name.len() + self.runs.iter().map(|run| 20 + 31 * run.batches.len()).sum::<usize>()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.0.as_bytes());
        let name = &self.name.as_bytes()[..self.name.len().min(usize::from(u16::MAX))]; // names are 249 bytes at most
        out.extend_from_slice(&(name.len() as u16).to_be_bytes());
        out.extend_from_slice(name);
        put_count(out, self.runs.len());
        for run in &self.runs {
            out.extend_from_slice(&run.partition.to_be_bytes());
            out.extend_from_slice(&run.position.to_be_bytes());
            out.extend_from_slice(&run.crc.to_be_bytes());
            put_count(out, run.batches.len());
            run.batches.iter().for_each(|batch| put_batch(out, batch));
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("a segment of 4 GiB holds fewer than 2^32 of anything");
    out.extend_from_slice(&count.to_be_bytes());
}

fn put_batch(out: &mut Vec<u8>, batch: &BatchSummary) {
    out.extend_from_slice(&batch.length.to_be_bytes());
    out.extend_from_slice(&batch.records.to_be_bytes());
    out.extend_from_slice(&batch.max_timestamp.to_be_bytes());
    match batch.stamp {
        None => out.push(0),
        Some(ProducerStamp { id, epoch, base_sequence, transactional }) => {
            out.push(FLAG_STAMPED | if transactional { FLAG_TRANSACTIONAL } else { 0 });
            out.extend_from_slice(&id.0.to_be_bytes());
            out.extend_from_slice(&epoch.to_be_bytes());
            out.extend_from_slice(&base_sequence.to_be_bytes());
        }
    }
}
