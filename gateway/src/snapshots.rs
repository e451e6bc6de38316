//! Snapshots of the metadata as objects of the bucket.

use std::sync::Arc;

use async_trait::async_trait;
use metadata::class::Classify;
use metadata::error::SnapshotStoreError;
use metadata::model::ids::Lsn;
use metadata::snapshot::SnapshotStore;
use storage::blob::{BlobError, BlobStore, Payload};

/// Folder of snapshots below the bucket's prefix.
const PREFIX: &str = "snapshots/";
/// Keys listed at once.
const PAGE: usize = 1000;

/// Keeps each snapshot as one object named by its LSN, so that key order is LSN order.
#[derive(Debug)]
pub struct BucketSnapshots {
    blobs: Arc<dyn BlobStore>,
}

impl BucketSnapshots {
    /// Keeps snapshots in this store.
    pub fn new(blobs: Arc<dyn BlobStore>) -> Self {
        Self { blobs }
    }

    async fn all(&self) -> Result<Vec<(Lsn, String)>, BlobError> {
        let (mut found, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.blobs.list(PREFIX, after.as_deref(), PAGE).await?;
            found.extend(page.iter().filter_map(|meta| Some((lsn_of(&meta.key)?, meta.key.clone()))));
            if page.len() < PAGE {
                return Ok(found);
            }
            after = page.last().map(|meta| meta.key.clone());
        }
    }
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
        let newest = all.into_iter().filter(|(lsn, _)| below.is_none_or(|below| *lsn < below)).max();
        let Some((lsn, key)) = newest else { return Ok(None) };
        let bytes = self.blobs.get(&key).await.map_err(failed)?;
        Ok(Some((lsn, bytes.into())))
    }

    async fn delete_before(&self, lsn: Lsn) -> Result<(), SnapshotStoreError> {
        let all = self.all().await.map_err(failed)?;
        let old: Vec<_> = all.into_iter().filter(|(found, _)| *found < lsn).map(|(_, key)| key).collect();
        if old.is_empty() {
            return Ok(());
        }
        let failures = self.blobs.delete_many(&old).await.map_err(failed)?;
        failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(failed(error)))
    }
}

fn failed(error: BlobError) -> SnapshotStoreError {
    SnapshotStoreError { class: error.class(), reason: error.to_string().into() }
}
