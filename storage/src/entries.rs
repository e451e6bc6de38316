//! The objects of a journal that lies in the bucket: what `metadata` asks for, done by the blob store.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use metadata::class::Classify;
use metadata::journal::object::store::{Created, EntryStore, EntryStoreError};

use crate::blob::hedge::PaidHedges;
use crate::blob::purpose::{Purpose, Stores};
use crate::blob::{BlobError, BlobStore, Payload};

/// A bucket as the journal sees it.
#[derive(Debug)]
pub struct BlobEntries {
    blobs: Arc<dyn BlobStore>,
    /// For entries that carry a segment.
    segments: Arc<dyn BlobStore>,
    hedges: Option<Arc<PaidHedges>>,
}

impl BlobEntries {
    /// Keeps the journal in this store, beside everything else.
    pub fn new(blobs: Arc<dyn BlobStore>) -> Self {
        Self { segments: Arc::clone(&blobs), blobs, hedges: None }
    }

    /// The same in a bucket that is handed out by purpose: what carries a segment is a produce's request, all else the
    /// journal's own.
    pub fn by_purpose(stores: &Stores) -> Self {
        let (blobs, segments) = (stores.for_purpose(Purpose::Journal), stores.for_purpose(Purpose::Produce));
        Self { blobs, segments, hedges: Some(Arc::clone(stores.upload_hedges())) }
    }

    /// The same with second requests beside slow uploads.
    #[must_use]
    pub fn hedging(self, hedges: Arc<PaidHedges>) -> Self {
        Self { hedges: Some(hedges), ..self }
    }

    /// Puts an entry that carries a segment, and the same bytes once more under the same key if that is slow and pays. One of the
    /// two finds the key free and is the answer, whichever ends first; the other changes nothing. If neither says that it
    /// was the one, the journal looks at what stands there.
    async fn put_segment(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let put = || self.segments.put_new(key, payload.clone());
        match &self.hedges {
            Some(hedges) => hedges.run(payload.len(), put).await,
            None => put().await,
        }
    }
}

#[async_trait]
impl EntryStore for BlobEntries {
    async fn create(&self, key: &str, chunks: &[Bytes]) -> Result<Created, EntryStoreError> {
        let payload = Payload::new(chunks.iter().cloned());
        // A segment stands before the entry, in chunks of its own.
        let carries = chunks.len() > 1;
        let put = if carries { self.put_segment(key, payload).await } else { self.blobs.put_new(key, payload).await };
        match put {
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
    use std::time::Duration;

    use metadata::class::ErrorClass;
    use metadata::journal::Journal;
    use metadata::journal::contract;
    use metadata::journal::object::ObjectJournal;

    use super::*;
    use crate::blob::local::LocalStore;
    use crate::blob::memory::MemoryStore;
    use crate::testbed::{PutFault, Stage};

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

    /// What two PUTs of one entry, the second begun beside the first, tell the journal; and what then stands there.
    async fn two_puts(first: PutFault, second: PutFault, taken: bool) -> (Result<Created, ErrorClass>, Bytes, usize) {
        let stage = Arc::new(Stage::default());
        let hedges = Arc::new(PaidHedges::default());
        hedges.decide_by(|| true);
        let entries = BlobEntries::new(Arc::clone(&stage) as _).hedging(hedges);
        // Most uploads take 50 ms, some two seconds: a second one pays.
        for number in 0..200 {
            stage.script().puts.push_back(PutFault::Slow(Duration::from_millis(if number % 40 == 0 {
                2_000
            } else {
                50
            })));
            let key = format!("journal/warm-{number}");
            entries.create(&key, &[Bytes::from_static(b"s"), Bytes::from_static(b"e")]).await.unwrap();
        }
        if taken {
            stage.store.put("journal/x", Payload::from(&b"another"[..])).await.unwrap();
        }
        let before = stage.script().put_count;
        stage.script().puts.clear();
        stage.script().puts.extend([first, second]);
        let created =
            entries.create("journal/x", &[Bytes::from_static(b"segment"), Bytes::from_static(b"entry")]).await;
        let puts = stage.script().put_count - before;
        tokio::time::sleep(Duration::from_secs(60)).await; // whatever comes late
        (created.map_err(|error| error.class()), stage.store.get("journal/x").await.unwrap(), puts)
    }

    #[tokio::test(start_paused = true)]
    async fn l3_l4_two_puts_of_one_entry_are_one_write() {
        let slow = |ms| PutFault::Slow(Duration::from_millis(ms));
        let ours = Bytes::from_static(b"segmententry");
        // The second is faster, the first is told that the key is taken, or not told any more.
        assert_eq!(two_puts(slow(5_000), slow(50), false).await, (Ok(Created::New), ours.clone(), 2));
        // The first comes in between: the second finds the key taken, and the answer is that of the first.
        assert_eq!(two_puts(slow(100), slow(70), false).await, (Ok(Created::New), ours.clone(), 2));
        // The first happened and its answer was lost: the journal will find its own entry there.
        let late = PutFault::Late(Duration::from_millis(100));
        assert_eq!(two_puts(slow(100), PutFault::Refused, false).await, (Ok(Created::New), ours.clone(), 2));
        let (created, stored, _) = two_puts(PutFault::AnswerLost, slow(50), false).await;
        assert_eq!((created, stored), (Err(ErrorClass::Unknown), ours.clone()), "at once: there was no second");
        let (created, stored, _) = two_puts(late, slow(50), false).await;
        assert_eq!((created, stored), (Err(ErrorClass::Unknown), ours));
        // Another writer was there: neither changes anything.
        let (created, stored, puts) = two_puts(slow(5_000), slow(50), true).await;
        assert_eq!((created, stored, puts), (Ok(Created::Taken), Bytes::from_static(b"another"), 2));
    }

    #[test]
    fn the_class_of_a_failure_stays() {
        assert_eq!(failed(&BlobError::Throttled("503".into())).class(), ErrorClass::Retry);
        assert_eq!(failed(&BlobError::Unknown("lost".into())).class(), ErrorClass::Unknown);
    }
}
