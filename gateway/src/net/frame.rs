//! Frames from a byte stream: a length, then as many bytes.
//!
//! The length is judged before anything is kept for it: first against the one cap, then, once key and version have come,
//! against the cap of that API. Memory is then taken from the pool as bytes arrive, a first piece and then always as much as
//! is there already; until it is there the socket is not read. So who announces much and sends little holds little.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout};

use super::budget::{Budget, Hold};
use crate::limits::{FRAME_BYTES, FRAME_BYTES_MAX, READ_AHEAD_BYTES, READ_BUFFER_BYTES, READ_PROMISED_BYTES};
use crate::wire::header::{FIXED_LEN, Fixed, LEN_MIN};

/// Bytes of the length before a frame.
const LENGTH: usize = 4;

/// A whole request.
#[derive(Debug)]
pub struct Frame {
    /// Header and body, without the length.
    pub bytes: Bytes,
    /// Its share of the request memory; to be held as long as the bytes are.
    pub memory: Hold,
}

/// Why no further frame comes.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The client closed the connection between frames.
    #[error("the client closed the connection")]
    End,
    /// The client closed the connection inside a frame.
    #[error("the client closed the connection inside a frame")]
    Cut,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
    /// A length no request has.
    #[error("a frame of {0} bytes is no request")]
    Length(i32),
    /// More bytes than this API may send.
    #[error("a frame of {len} bytes is more than the {cap} that API {key} may have")]
    Large {
        /// Bytes announced.
        len: usize,
        /// Bytes allowed.
        cap: usize,
        /// Key of the API.
        key: i16,
    },
    /// This API and version is not served.
    #[error("API {0} is not served in version {1}")]
    Unserved(i16, i16),
    /// The frame did not come in time.
    #[error("a frame was not whole after {0:?}")]
    Slow(Duration),
    /// Nothing came for too long.
    #[error("idle for {0:?}")]
    Idle(Duration),
}

/// Reads the frames of one connection.
#[derive(Debug)]
pub struct FrameReader<R> {
    source: R,
    buffer: BytesMut,
    /// A frame must be whole this long after its first byte.
    deadline: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from `source`, each within `deadline`.
    pub fn new(source: R, deadline: Duration) -> Self {
        Self { source, buffer: BytesMut::new(), deadline }
    }

    /// The next frame. `cap` says how many bytes a request of this API and version may have, or that it is not served.
    /// Not cancel safe once a frame has begun: call again only after a frame was returned, except after `Idle`.
    ///
    /// # Errors
    /// Why there is none; only after `Idle` may a frame still come.
    pub async fn next(
        &mut self,
        idle: Duration,
        cap: impl Fn(Fixed) -> Option<usize>,
        memory: &Budget,
    ) -> Result<Frame, FrameError> {
        if self.buffer.is_empty() {
            self.buffer.reserve(READ_BUFFER_BYTES);
            let first = timeout(idle, self.source.read_buf(&mut self.buffer)).await;
            if first.map_err(|_| FrameError::Idle(idle))?? == 0 {
                return Err(FrameError::End);
            }
        }
        let late = || FrameError::Slow(self.deadline);
        let deadline = self.deadline;
        let (source, buffer) = (&mut self.source, &mut self.buffer);
        let len = timeout(deadline, head(source, buffer, cap)).await.map_err(|_| late())??;
        let mut hold = memory.take(len.min(READ_PROMISED_BYTES)).await;
        let bytes = body(source, buffer, len, deadline, (memory, &mut hold)).await?;
        Ok(Frame { bytes, memory: hold })
    }
}

/// Reads and judges the length; leaves the buffer with the length and at least the fixed bytes of the header.
async fn head<R: AsyncRead + Unpin>(
    source: &mut R,
    buffer: &mut BytesMut,
    cap: impl Fn(Fixed) -> Option<usize>,
) -> Result<usize, FrameError> {
    fill(source, buffer, LENGTH).await?;
    let announced = i32::from_be_bytes(*buffer.first_chunk().expect("filled with the length"));
    let len = usize::try_from(announced).map_err(|_| FrameError::Length(announced))?;
    if !(LEN_MIN..=FRAME_BYTES_MAX).contains(&len) {
        return Err(FrameError::Length(announced));
    }
    fill(source, buffer, LENGTH + FIXED_LEN).await?;
    let fixed = Fixed::read(*buffer[LENGTH..].first_chunk().expect("filled with the fixed bytes"));
    let cap = cap(fixed).ok_or(FrameError::Unserved(fixed.key, fixed.version))?;
    if len > cap {
        return Err(FrameError::Large { len, cap, key: fixed.key });
    }
    Ok(len)
}

/// Reads the rest of a frame of `len` bytes and takes it out of the buffer. The hold grows with what has come; waiting for
/// that is not the client's time.
async fn body<R: AsyncRead + Unpin>(
    source: &mut R,
    buffer: &mut BytesMut,
    len: usize,
    deadline: Duration,
    (memory, hold): (&Budget, &mut Hold),
) -> Result<Bytes, FrameError> {
    let whole = LENGTH + len;
    if buffer.len() < whole && buffer.capacity() < whole {
        // A buffer of its own, so that a large frame is not copied again when the one after it has begun to come.
        let mut own = BytesMut::with_capacity(whole.min(READ_AHEAD_BYTES));
        own.put_slice(buffer);
        *buffer = own;
    }
    let mut covered = LENGTH + len.min(READ_PROMISED_BYTES);
    let mut left = deadline;
    while buffer.len() < whole {
        if buffer.len() >= covered {
            covered = whole.min(buffer.len() * 2);
            memory.grow(hold, covered - LENGTH).await;
        }
        if buffer.len() == buffer.capacity() {
            buffer.reserve((whole - buffer.len()).min(FRAME_BYTES.max(buffer.len())));
        }
        let missing = covered - buffer.len();
        let since = Instant::now();
        let read = timeout(left, source.read_buf(&mut buffer.limit(missing))).await;
        if read.map_err(|_| FrameError::Slow(deadline))?? == 0 {
            return Err(FrameError::Cut);
        }
        left = left.saturating_sub(since.elapsed());
        if left.is_zero() && buffer.len() < whole {
            return Err(FrameError::Slow(deadline));
        }
    }
    memory.grow(hold, len).await; // it may have come whole before it was asked for
    let mut frame = buffer.split_to(whole).freeze();
    Ok(frame.split_off(LENGTH))
}

async fn fill<R: AsyncRead + Unpin>(source: &mut R, buffer: &mut BytesMut, len: usize) -> Result<(), FrameError> {
    while buffer.len() < len {
        buffer.reserve(READ_BUFFER_BYTES);
        if source.read_buf(buffer).await? == 0 {
            return Err(FrameError::Cut);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
