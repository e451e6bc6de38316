//! Snapshots of the metadata as objects of the bucket.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metadata::archive::Archive;
use metadata::class::Classify;
use metadata::clock::{Clock, SystemClock};
use metadata::error::SnapshotStoreError;
use metadata::model::ids::Lsn;
use metadata::snapshot::{Kept, SnapshotStore};
use storage::blob::{BlobError, BlobStore, Payload};
use storage::entries::BlobEntries;

/// Folder of snapshots below the bucket's prefix.
const PREFIX: &str = "snapshots/";
/// Keys listed at once.
const PAGE: usize = 1000;

/// Keeps each snapshot as one object named by its LSN, so that key order is LSN order.
#[derive(Debug)]
pub struct BucketSnapshots {
    blobs: Arc<dyn BlobStore>,
    /// Snapshots stay for this long, and one older than that.
    window: Duration,
    clock: Arc<dyn Clock>,
    /// Copies of entries that only forgotten snapshots could use go with them.
    archive: Archive,
    /// Whether the journal is to stay until it is copied.
    waits_for_copies: bool,
}

impl BucketSnapshots {
    /// Keeps snapshots in this store; older ones for `window`.
    pub fn new(blobs: Arc<dyn BlobStore>, window: Duration) -> Self {
        let archive = Archive::new(Arc::new(BlobEntries::new(Arc::clone(&blobs))));
        Self { blobs, window, clock: Arc::new(SystemClock), archive, waits_for_copies: false }
    }

    /// The journal is copied by someone, and with a window each of its entries is to be among the copies.
    #[must_use]
    pub fn with_copies(self) -> Self {
        Self { waits_for_copies: !self.window.is_zero(), ..self }
    }

    async fn all(&self) -> Result<Vec<Object>, BlobError> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.blobs.list(PREFIX, after.as_deref(), PAGE).await?;
            found.extend(page.iter().filter_map(|meta| {
                Some(Object { lsn: lsn_of(&meta.key)?, key: meta.key.clone(), modified_ms: meta.modified_ms })
            }));
            if page.len() < PAGE {
                return Ok(found);
            }
            after = page.last().map(|meta| meta.key.clone());
        }
    }
}

/// A snapshot that is there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    lsn: Lsn,
    key: String,
    modified_ms: i64,
}

fn key(lsn: Lsn) -> String {
    format!("{PREFIX}{:020}.snapshot", lsn.0)
}

fn lsn_of(key: &str) -> Option<Lsn> {
    key.strip_prefix(PREFIX)?.strip_suffix(".snapshot")?.parse().ok().map(Lsn)
}

#[async_trait]
impl SnapshotStore for BucketSnapshots {
    async fn put(&self, lsn: Lsn, bytes: Vec<u8>) -> Result<(), SnapshotStoreError> {
        self.blobs.put(&key(lsn), Payload::from(bytes)).await.map_err(failed)
    }

    async fn newest(&self, below: Option<Lsn>) -> Result<Option<(Lsn, Vec<u8>)>, SnapshotStoreError> {
        let all = self.all().await.map_err(failed)?;
        let newest = all.into_iter().filter(|kept| below.is_none_or(|below| kept.lsn < below)).max();
        let Some(Object { lsn, key, .. }) = newest else { return Ok(None) };
        let bytes = self.blobs.get(&key).await.map_err(failed)?;
        Ok(Some((lsn, bytes.into())))
    }

    async fn delete_before(&self, lsn: Lsn) -> Result<Kept, SnapshotStoreError> {
        let all = self.all().await.map_err(failed)?;
        let window_ms = i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX);
        let since_ms = self.clock.now_ms().saturating_sub(window_ms);
        // With a window, the newest snapshot from before it is where a restore into it begins.
        let base = all.iter().filter(|kept| !self.window.is_zero() && kept.modified_ms < since_ms).max();
        let oldest = match base {
            Some(base) => base.lsn.min(lsn),
            None if self.window.is_zero() => lsn,
            None => all.iter().map(|kept| kept.lsn).min().unwrap_or(lsn).min(lsn),
        };
        let old: Vec<_> = all.into_iter().filter(|kept| kept.lsn < oldest).map(|kept| kept.key).collect();
        if let Some((_, error)) = match old.is_empty() {
            true => None,
            false => self.blobs.delete_many(&old).await.map_err(failed)?.into_iter().next(),
        } {
            return Err(failed(error));
        }
        let copied = self
            .archive
            .delete_before(oldest)
            .await
            .map_err(|error| SnapshotStoreError { class: error.class(), reason: error.to_string().into() })?;
        Ok(Kept { oldest, copied: self.waits_for_copies.then(|| copied.unwrap_or_default()) })
    }
}

fn failed(error: BlobError) -> SnapshotStoreError {
    SnapshotStoreError { class: error.class(), reason: error.to_string().into() }
}
