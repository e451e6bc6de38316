//! What is inside a batch: its compression and its single records. Most of the house never looks; validation, timestamp
//! lookup, recompression and compaction do.

pub mod compression;
pub mod records;

use std::borrow::Cow;

use bytes::Bytes;
use metadata::class::{Classify, ErrorClass};
use metadata::model::batch::{BatchView, HEADER_LEN};

use compression::{Codec, deflate, inflate};

/// Why the inside of a batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A codec number Kafka does not define.
    #[error("compression codec {0} is unknown")]
    UnknownCodec(i16),
    /// The records inflate past the cap; nothing beyond it was allocated.
    #[error("records inflate to more than {limit} bytes")]
    TooLarge {
        /// The cap, bytes.
        limit: usize,
    },
    /// The compressed bytes are not what the codec says.
    #[error("{codec} data is broken: {why}")]
    Broken {
        /// The codec.
        codec: Codec,
        /// What the decoder said.
        why: String,
    },
    /// A record's fields do not fit its bytes.
    #[error("record {index} is malformed: {why}")]
    Record {
        /// Which record, from 0.
        index: i32,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are fewer or more records than the batch says.
    #[error("the batch says {declared} records and holds {found}")]
    Count {
        /// What the header says.
        declared: i32,
        /// Whole records found; one more than declared stands for "bytes are left over".
        found: i32,
    },
}

impl Classify for CodecError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownCodec(_) | Self::TooLarge { .. } => ErrorClass::Rejected,
            Self::Broken { .. } | Self::Record { .. } | Self::Count { .. } => ErrorClass::Corrupt,
        }
    }
}

/// The records section of a batch, inflated to at most `limit` bytes; borrowed if it is not compressed.
pub fn inflate_batch<'a>(batch: &BatchView<'a>, limit: usize) -> Result<Cow<'a, [u8]>, CodecError> {
    inflate(Codec::of(batch)?, batch.records(), limit)
}

/// The batch with its records compressed by `codec` (`compression.type` other than `producer`). Every other field of the
/// header stays; the checksum is renewed.
pub fn recompress(batch: &BatchView<'_>, codec: Codec, level: Option<i32>, limit: usize) -> Result<Bytes, CodecError> {
    if Codec::of(batch)? == codec {
        return Ok(Bytes::copy_from_slice(batch.bytes()));
    }
    let records = deflate(codec, level, &inflate_batch(batch, limit)?)?;
    let mut out = Vec::with_capacity(HEADER_LEN + records.len());
    out.extend_from_slice(&batch.bytes()[..HEADER_LEN]);
    out.extend_from_slice(&records);
    records::finish_header(&mut out, codec.set_in(batch.attributes()));
    Ok(out.into())
}
