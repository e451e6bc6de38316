//! A bucket belongs to one journal. Two journals on one prefix would each sweep the other's objects.
//!
//! The cluster id, which the journal's first session gave, stands in an object of the bucket. A gateway whose journal says
//! otherwise does not start.

use std::sync::Arc;

use metadata::journal::Journal;
use metadata::model::ids::Lsn;
use storage::blob::{BlobError, BlobStore, Payload};

/// The object that holds the cluster id.
const KEY: &str = "cluster-id";

/// Why this journal and this bucket do not go together.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The bucket holds another cluster's records.
    #[error(
        "the bucket belongs to cluster {bucket}, but this journal is of {journal}: start with the data folder that holds that \
         cluster's journal, or choose another prefix with --bucket s3://name/prefix"
    )]
    Foreign {
        /// Cluster id in the bucket.
        bucket: String,
        /// Cluster id of the journal.
        journal: String,
    },
    /// The bucket could not be asked.
    #[error("cannot tell whose bucket this is: {0}")]
    Blob(#[from] BlobError),
    /// The journal could not be asked.
    #[error("cannot read the journal: {0}")]
    Journal(#[from] metadata::error::ReadError),
}

/// Before anything is written: a journal without entries may not start on a bucket that has an owner.
pub async fn check_fresh(blobs: &Arc<dyn BlobStore>, journal: &dyn Journal) -> Result<(), ClaimError> {
    if journal.head().await? > Lsn(0) { Ok(()) } else { check_unowned(blobs).await }
}

/// Whoever has no journal yet may not start on a bucket that has an owner.
pub async fn check_unowned(blobs: &Arc<dyn BlobStore>) -> Result<(), ClaimError> {
    match owner(blobs).await? {
        Some(bucket) => Err(ClaimError::Foreign { bucket, journal: "no cluster yet (it is empty)".into() }),
        None => Ok(()),
    }
}

/// Claims the bucket for this cluster, or finds that it is claimed already.
pub async fn claim(blobs: &Arc<dyn BlobStore>, cluster_id: &str) -> Result<(), ClaimError> {
    let bucket = match owner(blobs).await? {
        Some(bucket) => bucket,
        None => match blobs.put_new(KEY, Payload::from(cluster_id.as_bytes().to_vec())).await {
            Ok(()) => return Ok(()),
            Err(BlobError::AlreadyExists { .. }) => owner(blobs).await?.unwrap_or_default(),
            Err(error) => return Err(error.into()),
        },
    };
    if bucket == cluster_id {
        Ok(())
    } else {
        Err(ClaimError::Foreign { bucket, journal: format!("cluster {cluster_id}") })
    }
}

async fn owner(blobs: &Arc<dyn BlobStore>) -> Result<Option<String>, BlobError> {
    match blobs.get(KEY).await {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(BlobError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use metadata::journal::memory::MemoryJournal;
    use storage::blob::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn a_bucket_has_one_owner() {
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
        let journal = MemoryJournal::default();
        check_fresh(&blobs, &journal).await.unwrap();
        claim(&blobs, "one").await.unwrap();
        claim(&blobs, "one").await.unwrap();
        assert!(matches!(claim(&blobs, "two").await, Err(ClaimError::Foreign { .. })));
        assert!(matches!(check_fresh(&blobs, &journal).await, Err(ClaimError::Foreign { .. })));
    }
}
