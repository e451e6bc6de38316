//! A Kafka v2 record batch as bytes: a view of its 61-byte header, its checksum, and the two fields a broker may patch.
//!
//! ```text
//!  0  base offset        i64  patched on read      ┐ outside the checksum
//!  8  batch length       i32  bytes after this     │
//! 12  partition epoch    i32  patched on read      │
//! 16  magic              i8   2                    │
//! 17  crc                u32  CRC32C of the rest   ┘
//! 21  attributes         i16  codec, timestamp type, transactional, control
//! 23  last offset delta  i32
//! 27  first timestamp    i64
//! 35  max timestamp      i64
//! 43  producer id        i64
//! 51  producer epoch     i16
//! 53  base sequence      i32
//! 57  record count       i32
//! 61  records
//! ```
//!
//! Source: Kafka's `DefaultRecordBatch`.

use super::ids::ProducerId;

/// Bytes before the first record.
pub const HEADER_LEN: usize = 61;
/// Bytes of the base offset and the batch length together, which the length does not count.
pub const LOG_OVERHEAD: usize = 12;
/// The only batch format since Kafka 0.11.
pub const MAGIC: i8 = 2;

const LENGTH_AT: usize = 8;
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

const CODEC_MASK: i16 = 0b0111;
const LOG_APPEND_TIME_BIT: i16 = 0b1000;
const TRANSACTIONAL_BIT: i16 = 0b1_0000;
const CONTROL_BIT: i16 = 0b10_0000;
const DELETE_HORIZON_BIT: i16 = 0b100_0000;

/// The bytes are not a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than the header or its length field ask for.
    #[error("record batch needs {needed} bytes, {found} are there")]
    Truncated {
        /// Bytes the batch claims.
        needed: usize,
        /// Bytes at hand.
        found: usize,
    },
    /// The length field is below the header's own size, or negative.
    #[error("record batch length {0} is impossible")]
    Length(i32),
    /// An old or unknown format.
    #[error("record batch magic {0} is not 2")]
    Magic(i8),
}

/// What an idempotent or transactional producer stamps on a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence number of the batch's first record; wraps from `i32::MAX` to 0.
    pub base_sequence: i32,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

/// What the journal is told of a batch; its bytes stay in the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSummary {
    /// How many offsets the batch takes; at least 1.
    pub records: u32,
    /// Bytes of the whole batch.
    pub length: u32,
    /// Largest record timestamp, ms; -1 if none.
    pub max_timestamp: i64,
    /// The producer's stamp, if it has one.
    pub stamp: Option<ProducerStamp>,
}

/// A view of one whole batch. Construction checks that the bytes hold header and length; nothing else is promised.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a>(&'a [u8]);

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`; what follows it is left alone.
    pub fn first(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let truncated = |needed| BatchError::Truncated { needed, found: bytes.len() };
        // The magic stands in the same place in every format, and the old ones may be shorter than this one's header.
        let magic = bytes.get(MAGIC_AT).map(|byte| i8::from_be_bytes([*byte]));
        if let Some(magic) = magic.filter(|magic| *magic != MAGIC) {
            return Err(BatchError::Magic(magic));
        }
        let head = bytes.get(..HEADER_LEN).ok_or_else(|| truncated(HEADER_LEN))?;
        let length = i32::from_be_bytes(array(head, LENGTH_AT));
        let size = usize::try_from(length).map_err(|_| BatchError::Length(length))? + LOG_OVERHEAD;
        if size < HEADER_LEN {
            return Err(BatchError::Length(length));
        }
        bytes.get(..size).map(Self).ok_or_else(|| truncated(size))
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The records after the header, compressed as the codec says.
    pub fn records(&self) -> &'a [u8] {
        &self.0[HEADER_LEN..]
    }

    /// Base offset as it stands in the bytes.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(array(self.0, 0))
    }

    /// Whether the checksum matches the bytes it covers.
    pub fn crc_is_valid(&self) -> bool {
        u32::from_be_bytes(array(self.0, CRC_AT)) == crc32c::crc32c(&self.0[ATTRIBUTES_AT..])
    }

    /// The attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(array(self.0, ATTRIBUTES_AT))
    }

    /// Number of the compression codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes() & CODEC_MASK
    }

    /// Whether the broker stamped the time (else the producer did).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL_BIT != 0
    }

    /// Whether the batch is a marker rather than data.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL_BIT != 0
    }

    /// When compaction may take the batch's tombstones away, ms; `None` if it has not seen them yet. It stands in place of
    /// the first timestamp, which the records' deltas still start from (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes() & DELETE_HORIZON_BIT != 0).then(|| self.first_timestamp())
    }

    /// Offset of the last record minus that of the first.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 23))
    }

    /// Timestamp of the first record, ms.
    pub fn first_timestamp(&self) -> i64 {
        i64::from_be_bytes(array(self.0, 27))
    }

    /// Largest timestamp as the header says, ms.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(array(self.0, MAX_TIMESTAMP_AT))
    }

    /// Producer id; -1 if the producer is not idempotent.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(array(self.0, 43))
    }

    /// Producer epoch; -1 if the producer is not idempotent.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(array(self.0, 51))
    }

    /// Sequence of the first record; -1 if the producer is not idempotent.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 53))
    }

    /// How many records the header says there are.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(array(self.0, 57))
    }

    /// The producer's stamp, if the batch has a producer id.
    pub fn stamp(&self) -> Option<ProducerStamp> {
        (self.producer_id() >= 0).then(|| ProducerStamp {
            id: ProducerId(self.producer_id()),
            epoch: self.producer_epoch(),
            base_sequence: self.base_sequence(),
            transactional: self.is_transactional(),
        })
    }
}

/// The batches that stand back to back in `bytes`; ends after the first error.
#[derive(Debug, Clone)]
pub struct BatchIter<'a>(&'a [u8]);

impl<'a> BatchIter<'a> {
    /// Iterates over `bytes` from its start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let batch = BatchView::first(self.0);
        self.0 = batch.as_ref().map_or(&[], |b| &self.0[b.bytes().len()..]);
        Some(batch)
    }
}

/// Writes the place of a batch in its log into its header. Outside the checksum, so the producer's bytes stay valid.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn patch_place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..LENGTH_AT].copy_from_slice(&base_offset.to_be_bytes());
    batch[EPOCH_AT..MAGIC_AT].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Stamps broker time on a batch and renews its checksum (`message.timestamp.type=LogAppendTime`).
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn stamp_append_time(batch: &mut [u8], now_ms: i64) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) | LOG_APPEND_TIME_BIT;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now_ms.to_be_bytes());
    seal(batch);
}

/// Says that the records carry the producer's times, the latest of them `max_timestamp`. The checksum is left stale.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_create_time(batch: &mut [u8], max_timestamp: i64) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) & !LOG_APPEND_TIME_BIT;
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.to_be_bytes());
}

/// Writes the number of the codec the records are in. The checksum is left stale.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn set_codec(batch: &mut [u8], codec: i16) {
    let attributes = i16::from_be_bytes(array(batch, ATTRIBUTES_AT)) & !CODEC_MASK | (codec & CODEC_MASK);
    batch[ATTRIBUTES_AT..ATTRIBUTES_AT + 2].copy_from_slice(&attributes.to_be_bytes());
}

/// Writes the length that the bytes have.
///
/// # Panics
/// If `batch` is shorter than a header or longer than a batch can be.
pub fn set_length(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - LOG_OVERHEAD).expect("a batch is below 2 GiB");
    batch[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
}

/// Renews the checksum after the covered bytes were changed.
///
/// # Panics
/// If `batch` is shorter than a header.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_batch(records: &[u8]) -> Vec<u8> {
        let mut batch = vec![0; HEADER_LEN];
        batch.extend_from_slice(records);
        let length = i32::try_from(batch.len() - LOG_OVERHEAD).unwrap();
        batch[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
        batch[MAGIC_AT] = 2;
        seal(&mut batch);
        batch
    }

    #[test]
    fn patching_the_place_keeps_the_checksum() {
        let mut batch = empty_batch(b"records");
        patch_place(&mut batch, 77, 3);
        let view = BatchView::first(&batch).unwrap();
        assert!(view.crc_is_valid());
        assert_eq!(view.base_offset(), 77);
        batch[60] ^= 1;
        assert!(!BatchView::first(&batch).unwrap().crc_is_valid());
    }

    #[test]
    fn append_time_is_inside_the_checksum() {
        let mut batch = empty_batch(b"x");
        stamp_append_time(&mut batch, 1234);
        let view = BatchView::first(&batch).unwrap();
        assert!(view.crc_is_valid() && view.is_log_append_time());
        assert_eq!(view.max_timestamp(), 1234);
    }

    #[test]
    fn iteration_stops_at_the_first_torn_batch() {
        let mut bytes = empty_batch(b"one");
        bytes.extend(empty_batch(b"two"));
        bytes.extend_from_slice(&empty_batch(b"three")[..62]);
        let found: Vec<_> = BatchIter::new(&bytes).map(|b| b.map(|b| b.records().to_vec())).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1], Ok(b"two".to_vec()));
        assert!(matches!(found[2], Err(BatchError::Truncated { needed: 66, found: 62 })));
    }

    /// What an old client sends is told to be old, though it is shorter than a header of today.
    #[test]
    fn old_formats_are_known_by_their_magic() {
        let mut old = empty_batch(b"");
        old[MAGIC_AT] = 1;
        assert_eq!(BatchView::first(&old[..=MAGIC_AT]).unwrap_err(), BatchError::Magic(1));
        let cut = BatchView::first(&old[..MAGIC_AT]).unwrap_err();
        assert_eq!(cut, BatchError::Truncated { needed: HEADER_LEN, found: MAGIC_AT });
    }

    #[test]
    fn impossible_lengths_are_refused() {
        let mut batch = empty_batch(b"");
        for length in [-1_i32, 0, 48, i32::MIN] {
            batch[LENGTH_AT..EPOCH_AT].copy_from_slice(&length.to_be_bytes());
            assert_eq!(BatchView::first(&batch).unwrap_err(), BatchError::Length(length));
        }
    }
}
