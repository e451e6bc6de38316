//! Rewrites a batch's records with the codec its topic asks for (`compression.type`).

use bytes::{BufMut, BytesMut};
use metadata::model::batch::{self, BatchView, HEADER_LEN};
use metadata::model::topic_config::TopicConfig;
use storage::codec::compression::{Codec, deflate};

/// The same header and records in another codec; the checksum is renewed. `records` are the batch's, inflated.
pub fn recompress(
    batch: &BatchView<'_>,
    records: &[u8],
    wanted: i16,
    config: &TopicConfig,
) -> Result<BytesMut, String> {
    let codec = Codec::ALL.into_iter().find(|codec| codec.number() == wanted).ok_or("unknown codec")?;
    let level = match codec {
        Codec::Gzip => Some(config.gzip_level),
        Codec::Zstd => Some(config.zstd_level),
        Codec::None | Codec::Snappy | Codec::Lz4 => None,
    };
    let compressed = deflate(codec, level, records).map_err(|e| e.to_string())?;
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + compressed.len());
    bytes.put_slice(&batch.bytes()[..HEADER_LEN]);
    bytes.put_slice(&compressed);
    batch::set_codec(&mut bytes, wanted);
    batch::set_length(&mut bytes);
    batch::seal(&mut bytes);
    Ok(bytes)
}
