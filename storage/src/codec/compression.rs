//! The four codecs of Kafka. Inflating always goes through a cap and never allocates what the data merely declares.
//!
//! Source: Kafka's `Compression` classes. Snappy comes in two framings: Java's (snappy-java's `SnappyOutputStream`, "xerial") and a
//! bare block (librdkafka); both are read, Java's is written. LZ4 is the frame format.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use metadata::model::batch::BatchView;

use super::CodecError;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Google's snappy.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

const CODEC_BITS: i16 = 0b0111;
const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, a version and the lowest compatible version.
const SNAPPY_HEADER_LEN: usize = 16;
const SNAPPY_BLOCK_LEN: usize = 32 << 10;
/// The densest element of snappy spends three bytes on 64.
const SNAPPY_MAX_RATIO: usize = 22;
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
const LZ4_CONTENT_CHECKSUM_BIT: u8 = 0b100;
const GZIP_DEFAULT_LEVEL: u32 = 6;
const ZSTD_DEFAULT_LEVEL: i32 = 3;

impl Codec {
    /// Every codec, for tables and tests.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec a batch says it has.
    pub fn of(batch: &BatchView<'_>) -> Result<Self, CodecError> {
        let number = batch.codec();
        Self::ALL.into_iter().find(|c| c.number() == number).ok_or(CodecError::UnknownCodec(number))
    }

    /// Kafka's number of it.
    pub fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Kafka's name of it, as in `compression.type`; "uncompressed" is an alias of none there.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Batch attributes with the codec bits set to this one.
    pub fn set_in(self, attributes: i16) -> i16 {
        (attributes & !CODEC_BITS) | self.number()
    }

    fn broken(self, why: impl fmt::Display) -> CodecError {
        CodecError::Broken { codec: self, why: why.to_string() }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `input` inflated to at most `limit` bytes, or an error. Memory grows with what really comes out.
pub fn inflate(codec: Codec, input: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, CodecError> {
    let out = match codec {
        Codec::None if input.len() > limit => return Err(CodecError::TooLarge { limit }),
        Codec::None => return Ok(Cow::Borrowed(input)),
        Codec::Gzip => read_capped(codec, &mut MultiGzDecoder::new(input), limit)?,
        Codec::Snappy => inflate_snappy(input, limit)?,
        Codec::Lz4 => inflate_lz4(input, limit)?,
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(input);
            read_capped(codec, &mut decoder.map_err(|e| codec.broken(e))?, limit)?
        }
    };
    Ok(Cow::Owned(out))
}

/// `input` compressed as Java's producer does; `level` means what `compression.{gzip,zstd}.level` mean and is ignored by
/// codecs without levels. Fails only if the level is out of the codec's range.
pub fn deflate(codec: Codec, level: Option<i32>, input: &[u8]) -> Result<Vec<u8>, CodecError> {
    let compressed = match codec {
        Codec::None => Ok(input.to_vec()),
        Codec::Gzip => {
            let level = level.and_then(|l| u32::try_from(l).ok()).unwrap_or(GZIP_DEFAULT_LEVEL).min(9);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
            encoder.write_all(input).and_then(|()| encoder.finish())
        }
        Codec::Snappy => return deflate_snappy(input),
        Codec::Lz4 => {
            let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(input).and_then(|()| encoder.finish().map_err(io::Error::from))
        }
        Codec::Zstd => zstd::stream::encode_all(input, level.unwrap_or(ZSTD_DEFAULT_LEVEL)),
    };
    compressed.map_err(|e| codec.broken(e))
}

fn read_capped(codec: Codec, decoder: &mut dyn Read, limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    // One byte more than allowed tells "exactly the limit" from "more".
    decoder.take(limit as u64 + 1).read_to_end(&mut out).map_err(|e| codec.broken(e))?;
    if out.len() > limit {
        return Err(CodecError::TooLarge { limit });
    }
    Ok(out)
}

/// One frame, as Java's reader takes it. `FrameDecoder` alone takes a frame cut between two blocks for a whole one, hence the
/// look at the end mark.
fn inflate_lz4(input: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let flags = match input {
        [a, b, c, d, flags, ..] if [*a, *b, *c, *d] == LZ4_MAGIC => *flags,
        _ => return Err(Codec::Lz4.broken("no frame magic")),
    };
    let mut decoder = FrameDecoder::new(input);
    let out = read_capped(Codec::Lz4, &mut decoder, limit)?;
    let consumed = &input[..input.len() - decoder.get_ref().len()];
    let checksum_len = if flags & LZ4_CONTENT_CHECKSUM_BIT != 0 { 4 } else { 0 };
    let ends = consumed.len().checked_sub(checksum_len).is_some_and(|end| consumed[..end].ends_with(&[0; 4]));
    if ends { Ok(out) } else { Err(Codec::Lz4.broken("the frame has no end")) }
}

fn inflate_snappy(input: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    if !input.starts_with(&SNAPPY_MAGIC) {
        inflate_snappy_block(input, limit, &mut out)?;
        return Ok(out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        // A header may come again: what was written by several streams one after the other.
        if rest.starts_with(&SNAPPY_MAGIC) {
            rest = rest.get(SNAPPY_HEADER_LEN..).ok_or_else(|| Codec::Snappy.broken("the header is cut"))?;
            continue;
        }
        let (length, body) = rest.split_first_chunk().ok_or_else(|| Codec::Snappy.broken("a chunk length is cut"))?;
        let length = usize::try_from(i32::from_be_bytes(*length)).ok().filter(|l| *l <= body.len());
        let length = length.ok_or_else(|| Codec::Snappy.broken("a chunk length leaves the data"))?;
        inflate_snappy_block(&body[..length], limit, &mut out)?;
        rest = &body[length..];
    }
    Ok(out)
}

fn inflate_snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let declared = snap::raw::decompress_len(block).map_err(|e| Codec::Snappy.broken(e))?;
    if declared > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(Codec::Snappy.broken("a block declares more than it can hold"));
    }
    let start = out.len();
    if declared > limit - start {
        return Err(CodecError::TooLarge { limit });
    }
    out.resize(start + declared, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(|e| Codec::Snappy.broken(e))?;
    Ok(())
}

fn deflate_snappy(input: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(SNAPPY_HEADER_LEN + input.len() / 2);
    out.extend_from_slice(&SNAPPY_MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(SNAPPY_BLOCK_LEN) {
        let packed = encoder.compress_vec(block).map_err(|e| Codec::Snappy.broken(e))?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes()); // a block of 32 KiB packs to little more than that
        out.extend_from_slice(&packed);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn compressed(codec: Codec, input: &[u8]) -> Vec<u8> {
        deflate(codec, None, input).unwrap()
    }

    #[test]
    fn bombs_stop_at_the_cap() {
        let zeros = vec![0; 8 * LIMIT];
        for codec in Codec::ALL {
            let bomb = compressed(codec, &zeros);
            assert_eq!(inflate(codec, &bomb, LIMIT), Err(CodecError::TooLarge { limit: LIMIT }), "{codec}");
        }
    }

    #[test]
    fn exactly_the_cap_is_allowed() {
        let input = vec![7; LIMIT];
        for codec in Codec::ALL {
            assert_eq!(&*inflate(codec, &compressed(codec, &input), LIMIT).unwrap(), &input[..], "{codec}");
            assert!(inflate(codec, &compressed(codec, &input), LIMIT - 1).is_err(), "{codec}");
        }
    }

    #[test]
    fn a_zstd_frame_that_declares_gigabytes_is_refused_at_the_cap() {
        // 64 KiB that inflate to 2 GiB: 128 KiB of zeros in a block of four bytes, again and again.
        let rle = |last: u32| ((128 << 10) << 3) | (1 << 1) | last;
        let mut blocks = Vec::new();
        for i in 0..16_384 {
            blocks.extend_from_slice(&rle(u32::from(i == 16_383)).to_le_bytes()[..3]);
            blocks.push(0);
        }
        // A window of 128 KiB and no size; then the size, which makes the window as large.
        let streamed = [&[0x28, 0xB5, 0x2F, 0xFD, 0, 0x38][..], &blocks].concat();
        assert_eq!(inflate(Codec::Zstd, &streamed, LIMIT), Err(CodecError::TooLarge { limit: LIMIT }));
        let size = (2_u32 << 30).to_le_bytes();
        let declared = [&[0x28, 0xB5, 0x2F, 0xFD, 0b1010_0000][..], &size, &blocks].concat();
        assert!(matches!(inflate(Codec::Zstd, &declared, LIMIT), Err(CodecError::Broken { .. })));
    }

    #[test]
    fn snappy_lengths_that_lie_are_refused() {
        let mut framed = compressed(Codec::Snappy, b"hello");
        for length in [-1, i32::MIN, i32::MAX, 1000] {
            framed[16..20].copy_from_slice(&i32::to_be_bytes(length));
            assert!(matches!(inflate(Codec::Snappy, &framed, LIMIT), Err(CodecError::Broken { .. })), "{length}");
        }
        // A block of a few bytes that declares 4 GiB, and one that declares 1 MiB (within the cap, but impossible).
        for declared in [&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0, 0][..], &[0x80, 0x80, 0x40, 0, 0][..]] {
            assert!(matches!(inflate(Codec::Snappy, declared, LIMIT), Err(CodecError::Broken { .. })));
        }
    }

    #[test]
    fn snappy_is_read_bare_framed_and_framed_twice() {
        let text = b"a record, a record, a record".repeat(3000);
        let bare = snap::raw::Encoder::new().compress_vec(&text).unwrap();
        assert_eq!(&*inflate(Codec::Snappy, &bare, LIMIT).unwrap(), &text[..]);
        let framed = compressed(Codec::Snappy, &text);
        let twice = [&framed[..], &framed[..]].concat();
        assert_eq!(&*inflate(Codec::Snappy, &twice, LIMIT).unwrap(), &[&text[..], &text[..]].concat()[..]);
    }

    #[test]
    fn the_best_snappy_ratio_is_below_the_bound() {
        let bare = snap::raw::Encoder::new().compress_vec(&vec![0; 60_000]).unwrap();
        assert_eq!(inflate(Codec::Snappy, &bare, LIMIT).unwrap().len(), 60_000);
    }

    #[test]
    fn every_truncation_is_an_error() {
        let text: Vec<u8> = (0..200_000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        for codec in [Codec::Gzip, Codec::Lz4, Codec::Zstd] {
            let packed = compressed(codec, &text);
            for end in (0..packed.len()).step_by(packed.len() / 50) {
                let answer = inflate(codec, &packed[..end], LIMIT);
                assert!(
                    matches!(answer, Err(CodecError::Broken { .. })),
                    "{codec} cut at {end}: {:?}",
                    answer.map(|a| a.len())
                );
            }
        }
    }

    #[test]
    fn lz4_is_framed_as_kafka_does() {
        let packed = compressed(Codec::Lz4, b"x");
        // Version 1, independent blocks, no checksums; blocks of up to 64 KiB.
        assert_eq!(packed[4..6], [0b0110_0000, 0b0100_0000]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_is_deflated_inflates_to_the_same(input in proptest::collection::vec(0_u8..4, 0..40_000)) {
            for codec in Codec::ALL {
                let packed = compressed(codec, &input);
                prop_assert_eq!(&*inflate(codec, &packed, LIMIT).unwrap(), &input[..], "{}", codec);
            }
        }

        #[test]
        fn any_bytes_give_an_answer(noise in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..300) {
            for codec in Codec::ALL {
                let answer = inflate(codec, &noise, LIMIT);
                prop_assert!(answer.is_err() || answer.unwrap().len() <= LIMIT);
                // Noise in the middle of something valid gets further.
                let mut packed = compressed(codec, &[1; 5000]);
                let at = at.min(packed.len());
                let end = (at + noise.len().min(8)).min(packed.len());
                packed.splice(at..end, noise.iter().copied());
                let answer = inflate(codec, &packed, LIMIT);
                prop_assert!(answer.is_err() || answer.unwrap().len() <= LIMIT);
            }
        }
    }
}
