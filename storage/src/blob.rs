//! Objects in a bucket, behind one narrow trait: `memory`, `local` and `s3` keep them, the decorators add retries, lanes,
//! measurements and injected faults. An object is written once and never changed.

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
#[cfg(any(test, feature = "test-util"))]
pub mod faulty;
pub mod hedge;
pub mod lanes;
pub mod local;
pub mod measured;
pub mod memory;
pub mod purpose;
pub mod retry;
pub mod s3;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use metadata::class::{Classify, ErrorClass};

/// Longest key, bytes. S3 allows 1,024; the rest is left to the bucket's prefix.
pub const KEY_MAX_LEN: usize = 512;
/// Most bytes [`BlobStore::get`] returns; larger objects are read by ranges.
pub const GET_MAX_BYTES: u64 = 256 << 20;
/// Most bytes of one [`BlobStore::get_range`].
pub const RANGE_MAX_BYTES: u64 = 256 << 20;
/// The largest page and sector size in use.
const PAGE_BYTES: usize = 4096;
/// Smaller pieces of a file are rather copied together than written from where they lie.
const STRAIGHT_MIN_BYTES: usize = 128 << 10;

/// Where objects are kept.
///
/// Keys are relative, made of `/`-separated parts of letters, digits, `.`, `_`, `=` and `-`, and no part starts with a dot
/// ([`check_key`]); anything else is [`BlobError::Invalid`]. No key may be a folder of another.
///
/// Every method is cancel safe in this sense: a dropped future leaves either the old or the new state, never a part of it,
/// but which of the two is unknown.
#[async_trait]
pub trait BlobStore: Send + Sync + std::fmt::Debug {
    /// Writes an object; durable before it returns. Replaces what is there: our keys are unique, so a repetition is harmless.
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError>;

    /// Writes an object unless the key is taken ([`BlobError::AlreadyExists`]); of several at once exactly one succeeds.
    ///
    /// After an unknown outcome a repetition may meet its own write and answer `AlreadyExists`; [`retry::Retry`] reads the
    /// object and compares, so payloads of different writers must differ (a journal entry carries its session).
    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError>;

    /// Exactly the bytes of `range`, or an error; never fewer. An empty range is `Invalid`, one that leaves the object is a
    /// [`BlobError::ShortRead`], one above [`RANGE_MAX_BYTES`] is [`BlobError::TooLarge`]. The buffer holds nothing else, so
    /// a kept slice pins at most the range.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError>;

    /// A whole object of up to [`GET_MAX_BYTES`].
    async fn get(&self, key: &str) -> Result<Bytes, BlobError>;

    /// Size and time of an object.
    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError>;

    /// Up to `limit` objects whose keys start with `prefix` and are greater than `after`, in order of their keys' bytes.
    /// Fewer than `limit` means there are no more. Sees every object whose write has returned.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError>;

    /// Deletes objects; answers with those that could not be. Deleting what is not there succeeds.
    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError>;
}

/// The methods of a [`BlobStore`], as metrics, errors and injected faults name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`BlobStore::put`].
    Put,
    /// [`BlobStore::put_new`].
    PutNew,
    /// [`BlobStore::get_range`].
    GetRange,
    /// [`BlobStore::get`].
    Get,
    /// [`BlobStore::head`].
    Head,
    /// [`BlobStore::list`].
    List,
    /// [`BlobStore::delete_many`].
    Delete,
    /// One of the requests that make a large [`BlobStore::put`]: its beginning, a part of it, or its end.
    PutPart,
    /// Giving up such a put.
    Abort,
}

impl Operation {
    /// Every operation, in the order of [`Operation::index`].
    pub const ALL: [Self; 9] = [
        Self::Put,
        Self::PutNew,
        Self::GetRange,
        Self::Get,
        Self::Head,
        Self::List,
        Self::Delete,
        Self::PutPart,
        Self::Abort,
    ];

    /// Place in tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::PutNew => "put_new",
            Self::GetRange => "get_range",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
            Self::PutPart => "put_part",
            Self::Abort => "abort",
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a store knows of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was written by the store's clock, ms since the Unix epoch; S3 rounds to seconds.
    pub modified_ms: i64,
}

/// The bytes of an object to be: many chunks, written one after the other without being copied together. Cheap to clone.
#[derive(Clone, Default)]
pub struct Payload {
    chunks: Arc<[Bytes]>,
    len: u64,
}

impl Payload {
    /// The chunks in order; empty ones are dropped.
    pub fn new(chunks: impl IntoIterator<Item = Bytes>) -> Self {
        let chunks: Arc<[Bytes]> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        Self { len: chunks.iter().map(|c| c.len() as u64).sum(), chunks }
    }

    /// Memory for a chunk of `length` bytes that stands at `position` of its object. A large chunk begins as far into a page of
    /// memory as into one of the file, so that a folder can write it from where it lies.
    pub fn room(position: u64, length: usize) -> BytesMut {
        if length < STRAIGHT_MIN_BYTES {
            return BytesMut::with_capacity(length);
        }
        let mut room = BytesMut::with_capacity(length + PAGE_BYTES);
        let skip = (room.as_ptr().align_offset(PAGE_BYTES) + (position % PAGE_BYTES as u64) as usize) % PAGE_BYTES;
        room.resize(skip, 0);
        room.advance(skip);
        room
    }

    /// Bytes of all chunks together.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The chunks; none is empty.
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// The bytes of a range; slices of the same chunks, nothing is copied. What lies beyond the end is left out.
    pub fn slice(&self, range: Range<u64>) -> Self {
        let mut at = 0;
        Self::new(self.chunks.iter().map(|chunk| {
            let length = chunk.len() as u64;
            let within = |position: u64| (position.clamp(at, at + length) - at) as usize;
            let part = chunk.slice(within(range.start)..within(range.end));
            at += length;
            part
        }))
    }

    /// All bytes in one piece; copies unless there is at most one chunk.
    pub fn to_bytes(&self) -> Bytes {
        match &*self.chunks {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
                many.iter().for_each(|chunk| all.extend_from_slice(chunk));
                all.freeze()
            }
        }
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Payload({} bytes in {} chunks)", self.len, self.chunks.len())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new([bytes])
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new([Bytes::from(bytes)])
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(chunks: Vec<Bytes>) -> Self {
        Self::new(chunks)
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::new([Bytes::from_static(bytes)])
    }
}

/// Why a store did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// There is no such object.
    #[error("object {key} does not exist")]
    NotFound {
        /// The key.
        key: String,
    },
    /// The key of a create-only write is taken.
    #[error("object {key} exists already")]
    AlreadyExists {
        /// The key.
        key: String,
    },
    /// The bucket does not exist, or not where we look for it.
    #[error("bucket {bucket} does not exist at {endpoint}; create it, or correct --bucket or --endpoint")]
    NoSuchBucket {
        /// The bucket's name.
        bucket: String,
        /// Where it was looked for.
        endpoint: String,
    },
    /// The store does not know the credentials, or none were found.
    #[error(
        "no good credentials ({0}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE"
    )]
    Credentials(String),
    /// The credentials are good but may not do this.
    #[error("permission denied ({0})")]
    Denied(String),
    /// The store asks for fewer requests, or two writers of one key met. Nothing was done.
    #[error("the store asks to slow down ({0})")]
    Throttled(String),
    /// No answer in time. What was asked for may have been done.
    #[error("no answer to {operation} within {after:?}")]
    Timeout {
        /// What was asked.
        operation: Operation,
        /// How long it was waited for.
        after: Duration,
    },
    /// The store was not reached or could not serve; nothing was done.
    #[error("store unavailable ({0})")]
    Unavailable(String),
    /// The request was sent but its answer was lost or is an internal error; it may have been done.
    #[error("outcome unknown ({0})")]
    Unknown(String),
    /// The object ends before the range does, or the store sent something else than was asked for.
    #[error("object {key} gave {found} of the {wanted} bytes at {position}")]
    ShortRead {
        /// The key.
        key: String,
        /// Where the range starts.
        position: u64,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes there were.
        found: u64,
    },
    /// More bytes than a cap allows to be read at once.
    #[error("object {key}: {size} bytes are more than may be read at once ({limit})")]
    TooLarge {
        /// The key.
        key: String,
        /// Bytes asked for.
        size: u64,
        /// The cap.
        limit: u64,
    },
    /// A key, range or option that can never work.
    #[error("{0}")]
    Invalid(String),
}

impl Classify for BlobError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::NoSuchBucket { .. }
            | Self::Credentials(_)
            | Self::Denied(_)
            | Self::TooLarge { .. }
            | Self::Invalid(_) => ErrorClass::Rejected,
            Self::Throttled(_) | Self::Unavailable(_) => ErrorClass::Retry,
            Self::Timeout { .. } | Self::Unknown(_) => ErrorClass::Unknown,
            Self::ShortRead { .. } => ErrorClass::Corrupt,
        }
    }
}

impl BlobError {
    /// The answer for a key that is not there.
    pub fn not_found(key: &str) -> Self {
        Self::NotFound { key: key.to_owned() }
    }

    /// The answer for a key that is taken.
    pub fn already_exists(key: &str) -> Self {
        Self::AlreadyExists { key: key.to_owned() }
    }

    /// A short word for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::AlreadyExists { .. } => "already_exists",
            Self::NoSuchBucket { .. } => "no_such_bucket",
            Self::Credentials(_) => "credentials",
            Self::Denied(_) => "denied",
            Self::Throttled(_) => "throttled",
            Self::Timeout { .. } => "timeout",
            Self::Unavailable(_) => "unavailable",
            Self::Unknown(_) => "unknown",
            Self::ShortRead { .. } => "short_read",
            Self::TooLarge { .. } => "too_large",
            Self::Invalid(_) => "invalid",
        }
    }
}

/// Whether a key is one that every store takes alike, and none lets escape from its folder or prefix.
pub fn check_key(key: &str) -> Result<(), BlobError> {
    let part_is_fine = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_key_byte);
    if key.len() <= KEY_MAX_LEN && key.split('/').all(part_is_fine) {
        return Ok(());
    }
    Err(BlobError::Invalid(format!("{key:?} is not a valid object key")))
}

/// Like [`check_key`] for the start of a key: may be empty, end with a slash or in the middle of a part.
pub fn check_prefix(prefix: &str) -> Result<(), BlobError> {
    let whole = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.is_empty() || check_key(whole).is_ok() {
        return Ok(());
    }
    Err(BlobError::Invalid(format!("{prefix:?} is not a valid start of an object key")))
}

/// Checks a range before any work: its length in bytes.
pub fn check_range(key: &str, range: &Range<u64>) -> Result<u64, BlobError> {
    let size = range.end.saturating_sub(range.start);
    if size == 0 {
        return Err(BlobError::Invalid(format!("object {key}: range {range:?} is empty")));
    }
    check_size(key, size, RANGE_MAX_BYTES).map(|()| size)
}

/// Refuses what is larger than `limit`.
pub fn check_size(key: &str, size: u64, limit: u64) -> Result<(), BlobError> {
    if size > limit {
        return Err(BlobError::TooLarge { key: key.to_owned(), size, limit });
    }
    Ok(())
}

fn is_key_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'=' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_would_escape_are_refused() {
        for good in ["a", "segments/00ff-01.seg", "a/b/c.d", "k=v/x_y"] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        let long = "a".repeat(KEY_MAX_LEN + 1);
        for bad in
            ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", ".tmp/x", "a/.b", "a b", "a\\b", "ä", "a\0", &long]
        {
            assert!(matches!(check_key(bad), Err(BlobError::Invalid(_))), "{bad}");
        }
        for good in ["", "a", "a/", "segments/00"] {
            assert_eq!(check_prefix(good), Ok(()), "{good}");
        }
        for bad in ["/", "a//", "../", "a/.."] {
            assert!(check_prefix(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn payloads_drop_empty_chunks_and_know_their_length() {
        let payload = Payload::new([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]);
        assert_eq!((payload.len(), payload.chunks().len()), (3, 2));
        assert_eq!(payload.to_bytes(), "abc");
        for (range, bytes) in [(0..3, "abc"), (1..3, "bc"), (0..2, "ab"), (2..2, ""), (2..9, "c"), (7..9, "")] {
            assert_eq!(payload.slice(range.clone()).to_bytes(), bytes, "{range:?}");
        }
        assert!(Payload::default().is_empty() && Payload::default().to_bytes().is_empty());
    }
}
