//! What the journal asks of a bucket: four plain operations and one condition.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::class::{Classify, ErrorClass};

/// Why the store did not do as asked, or is not known to have done it ([`ErrorClass::Unknown`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EntryStoreError {
    /// What to do about it.
    pub class: ErrorClass,
    /// What happened, for a log.
    pub reason: Arc<str>,
}

impl Classify for EntryStoreError {
    fn class(&self) -> ErrorClass {
        self.class
    }
}

/// What a create-only write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The key was free; the object is ours and durable.
    New,
    /// The key is taken: by another writer, or by an earlier try of the same write whose answer was lost.
    Taken,
}

/// A bucket as the journal sees it. Keys are relative to its prefix; objects never change.
///
/// Every call is bounded in time by the store. A dropped future leaves its effect unknown.
#[async_trait]
pub trait EntryStore: Debug + Send + Sync {
    /// Writes the chunks, one behind the other, unless the key is taken. Of several at once exactly one finds it free.
    async fn create(&self, key: &str, chunks: &[Bytes]) -> Result<Created, EntryStoreError>;

    /// Size of an object, bytes; `None` if there is none. Sees every object whose write has returned.
    async fn size(&self, key: &str) -> Result<Option<u64>, EntryStoreError>;

    /// Exactly the bytes of a range of an object that is there.
    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, EntryStoreError>;

    /// Up to `limit` (at most 1,000) keys that start with `prefix` and are greater than `after`, in order, each with its
    /// size. Fewer than `limit` means there are no more. Sees every object whose write has returned.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, EntryStoreError>;

    /// Deletes objects; those that are not there count as deleted.
    async fn delete(&self, keys: &[String]) -> Result<(), EntryStoreError>;
}
