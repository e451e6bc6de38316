//! The objects of a journal that lies in the bucket: what `metadata` asks for, done by the blob store.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use metadata::class::Classify;
use metadata::journal::object::store::{Created, EntryStore, EntryStoreError};

use crate::blob::purpose::{Purpose, Stores};
use crate::blob::{BlobError, BlobStore, Payload};

/// A bucket as the journal sees it.
#[derive(Debug)]
pub struct BlobEntries {
    blobs: Arc<dyn BlobStore>,
    /// For entries that carry a segment.
    segments: Arc<dyn BlobStore>,
}

impl BlobEntries {
    /// Keeps the journal in this store, beside everything else.
    pub fn new(blobs: Arc<dyn BlobStore>) -> Self {
        Self { segments: Arc::clone(&blobs), blobs }
    }

    /// The same in a bucket that is handed out by purpose: what carries a segment is a produce's request, all else the
    /// journal's own.
    pub fn by_purpose(stores: &Stores) -> Self {
        Self { blobs: stores.for_purpose(Purpose::Journal), segments: stores.for_purpose(Purpose::Produce) }
    }
}

#[async_trait]
impl EntryStore for BlobEntries {
    async fn create(&self, key: &str, chunks: &[Bytes]) -> Result<Created, EntryStoreError> {
        // A segment stands before the entry, in chunks of its own.
        let blobs = if chunks.len() > 1 { &self.segments } else { &self.blobs };
        match blobs.put_new(key, Payload::new(chunks.iter().cloned())).await {
            Ok(()) => Ok(Created::New),
            Err(BlobError::AlreadyExists { .. }) => Ok(Created::Taken),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, EntryStoreError> {
        match self.blobs.head(key).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(BlobError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Bytes, EntryStoreError> {
        self.blobs.get_range(key, range).await.map_err(|error| failed(&error))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, EntryStoreError> {
        let page = self.blobs.list(prefix, after, limit).await.map_err(|error| failed(&error))?;
        Ok(page.into_iter().map(|meta| (meta.key, meta.size)).collect())
    }

    async fn delete(&self, keys: &[String]) -> Result<(), EntryStoreError> {
        let failures = self.blobs.delete_many(keys).await.map_err(|error| failed(&error))?;
        failures.first().map_or(Ok(()), |(_, error)| Err(failed(error)))
    }
}

fn failed(error: &BlobError) -> EntryStoreError {
    EntryStoreError { class: error.class(), reason: error.to_string().into() }
}

#[cfg(test)]
mod tests {
    use metadata::class::ErrorClass;
    use metadata::journal::Journal;
    use metadata::journal::contract;
    use metadata::journal::object::ObjectJournal;

    use super::*;
    use crate::blob::local::LocalStore;
    use crate::blob::memory::MemoryStore;

    async fn journal(blobs: Arc<dyn BlobStore>) -> Arc<dyn Journal> {
        Arc::new(ObjectJournal::open(Arc::new(BlobEntries::new(blobs))).await.unwrap())
    }

    #[tokio::test]
    async fn a_journal_in_it_keeps_the_contract() {
        contract::every_case(async || journal(Arc::new(MemoryStore::new())).await).await;
    }

    #[tokio::test]
    async fn a_journal_in_a_folder_survives() {
        let folder = tempfile::tempdir().unwrap();
        let open = async || journal(Arc::new(LocalStore::open(folder.path().join("objects")).await.unwrap())).await;
        contract::survives_reopening(open).await;
    }

    #[test]
    fn the_class_of_a_failure_stays() {
        assert_eq!(failed(&BlobError::Throttled("503".into())).class(), ErrorClass::Retry);
        assert_eq!(failed(&BlobError::Unknown("lost".into())).class(), ErrorClass::Unknown);
    }
}
