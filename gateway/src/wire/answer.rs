//! An answer as bytes: what was encoded, with slices of records between.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Encodable;

use crate::net::budget::Hold;

/// Bytes of the length before a frame.
const LENGTH: usize = 4;
/// Largest frame Kafka's length field can hold.
const FRAME_MAX: usize = i32::MAX as usize;

/// What can be sent as the body of a response.
pub trait Answer {
    /// Writes the body in this version.
    ///
    /// # Errors
    /// When the body holds what the version cannot say; a mistake of ours, never of the client.
    fn write(self, version: i16, out: &mut Body) -> Result<(), EncodeError>;
}

impl<T: Encodable> Answer for T {
    fn write(self, version: i16, out: &mut Body) -> Result<(), EncodeError> {
        let size = self.compute_size(version).map_err(|error| EncodeError(format!("{error}")))?;
        out.bytes.reserve(size);
        self.encode(&mut out.bytes, version).map_err(|error| EncodeError(format!("{error}")))
    }
}

/// Why an answer cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

/// A response in the making. Slices are kept as they are, not copied.
#[derive(Debug, Default)]
pub struct Body {
    /// Everything but the slices, one after the other.
    pub bytes: BytesMut,
    /// The share of the answer memory taken for it beforehand; kept until it is sent.
    pub hold: Option<Hold>,
    slices: Vec<(usize, Bytes)>,
}

impl Body {
    /// Puts slices behind all that was written so far.
    pub fn put_slices(&mut self, slices: impl IntoIterator<Item = Bytes>) {
        for slice in slices {
            self.put_slice(slice);
        }
    }

    fn put_slice(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.slices.push((self.bytes.len(), slice));
        }
    }

    fn len(&self) -> usize {
        self.bytes.len() + self.slices.iter().map(|(_, slice)| slice.len()).sum::<usize>()
    }

    fn into_encoded(self) -> Encoded {
        let len = self.len();
        let bytes = self.bytes.freeze();
        let mut chunks = Vec::with_capacity(2 * self.slices.len() + 1);
        let mut from = 0;
        for (at, slice) in self.slices {
            if at > from {
                chunks.push(bytes.slice(from..at));
                from = at;
            }
            chunks.push(slice);
        }
        if from < bytes.len() {
            chunks.push(bytes.slice(from..));
        }
        Encoded { chunks, len, hold: self.hold }
    }
}

/// A whole response frame, length and header included, as the chunks it is sent in.
#[derive(Debug)]
pub struct Encoded {
    /// In order.
    pub chunks: Vec<Bytes>,
    /// Their bytes together.
    pub len: usize,
    /// Its share of the answer memory, if it was taken beforehand.
    pub hold: Option<Hold>,
}

/// The frame of an answer.
///
/// # Errors
/// When the body holds what the version cannot say, or more than a frame can.
pub fn encode(api: ApiKey, version: i16, correlation_id: i32, answer: impl Answer) -> Result<Encoded, EncodeError> {
    let mut body = Body::default();
    body.bytes.put_u32(0);
    body.bytes.put_i32(correlation_id);
    if api.response_header_version(version) >= 1 {
        body.bytes.put_u8(0); // no tagged fields
    }
    answer.write(version, &mut body)?;
    let frame = body.len() - LENGTH;
    if frame > FRAME_MAX {
        return Err(EncodeError(format!("{frame} bytes are more than a frame holds")));
    }
    body.bytes[..LENGTH].copy_from_slice(&(frame as u32).to_be_bytes());
    Ok(body.into_encoded())
}
