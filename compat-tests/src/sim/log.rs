//! Everything that happens in a run, in its order, a line each, if somebody wants to read it. Two runs of a seed have the same log,
//! byte for byte.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use storage::blob::memory::MemoryStore;
use storage::blob::{BlobError, BlobStore, ObjectMeta, Payload};
use tokio::time::Instant;

/// The log of a run.
#[derive(Debug)]
pub struct Log {
    began: Instant,
    /// `None` if nobody wants it: it takes a third of the run's time.
    text: Option<Mutex<String>>,
}

impl Log {
    /// An empty one; its times count from here.
    pub fn begin(is_wanted: bool) -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), text: is_wanted.then(Mutex::default) })
    }

    /// Writes down what happens now. One line.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let Some(text) = &self.text else { return };
        let at = self.began.elapsed();
        let line = format!("{:>10.6} {what}\n", at.as_secs_f64());
        text.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
    }

    /// Whether somebody wants it.
    pub fn is_wanted(&self) -> bool {
        self.text.is_some()
    }

    /// All of it; what is written later is not seen.
    pub fn take(&self) -> String {
        let Some(text) = &self.text else { return String::new() };
        std::mem::take(&mut *text.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The bucket as one life of a gateway sees it: what changes it is in the log.
#[derive(Debug)]
pub struct LoggedBucket {
    /// The bucket.
    pub bucket: MemoryStore,
    /// Where it is noted.
    pub log: Arc<Log>,
    /// Which life.
    pub life: u64,
}

impl LoggedBucket {
    fn note_put(&self, key: &str, payload: &Payload) {
        if !self.log.is_wanted() {
            return;
        }
        let crc = payload.chunks().iter().fold(0, |crc, chunk| crc32c::crc32c_append(crc, chunk));
        self.log.note(format_args!("life {} puts {key}: {} bytes, {crc:08x}", self.life, payload.len()));
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for LoggedBucket {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.note_put(key, &payload);
        self.bucket.put(key, payload).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.note_put(key, &payload);
        self.bucket.put_new(key, payload).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.log.note(format_args!("life {} gets {key} {range:?}", self.life));
        self.bucket.get_range(key, range).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        self.log.note(format_args!("life {} gets {key}", self.life));
        self.bucket.get(key).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        self.bucket.head(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        self.log.note(format_args!("life {} lists {prefix} behind {after:?}", self.life));
        self.bucket.list(prefix, after, limit).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        self.log.note(format_args!("life {} deletes {keys:?}", self.life));
        self.bucket.delete_many(keys).await
    }
}
