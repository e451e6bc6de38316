//! A bucket belongs to one journal. Two journals on one prefix would each sweep the other's objects.
//!
//! The cluster id, which the journal's first session gave, stands in an object of the bucket, and on a second line where the
//! journal is kept (none: in a SQLite file). A gateway whose journal says otherwise, or lies elsewhere, does not start.

use std::sync::Arc;
use std::time::Duration;

use metadata::error::SubmitError;
use metadata::handle::Metadata;
use metadata::journal::Journal;
use metadata::journal::object;
use metadata::journal::object::store::EntryStoreError;
use metadata::model::ids::Lsn;
use storage::blob::{BlobError, BlobStore, Payload};
use storage::entries::BlobEntries;

use crate::options::JournalPlace;

/// The object that holds the cluster id.
const KEY: &str = "cluster-id";
/// The object that stands there while a restore makes the journal anew.
const RESTORING: &str = "restoring";
/// How long a trim of our own may take until it is known here.
const TRIM_PAUSES: u32 = 20;
const TRIM_PAUSE: Duration = Duration::from_millis(100);

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
    /// The cluster's journal is not kept where this gateway was told to look for it.
    #[error(
        "the bucket belongs to cluster {cluster}, whose journal is kept {}: start with {}", where_is(*journal), how_to(*journal)
    )]
    Elsewhere {
        /// Cluster id in the bucket.
        cluster: String,
        /// Where its journal is.
        journal: JournalPlace,
    },
    /// A restore began, and did not end or has not ended yet.
    #[error(
        "a restore of this bucket is under way, or stopped before its end: wait until it is done, or run `streamhouse restore` \
         again"
    )]
    Restoring,
    /// A restore ended while this gateway started.
    #[error("the journal was restored while this gateway started: start it again")]
    Restored,
    /// The bucket could not be asked.
    #[error("cannot tell whose bucket this is: {0}")]
    Blob(#[from] BlobError),
    /// The journal could not be asked.
    #[error("cannot read the journal: {0}")]
    Journal(#[from] metadata::error::ReadError),
    /// The journal in the bucket could not be asked.
    #[error("cannot read the journal: {0}")]
    Entries(#[from] EntryStoreError),
    /// This gateway's journal has ended.
    #[error("cannot read the journal: {0}")]
    Ended(#[from] SubmitError),
}

fn where_is(journal: JournalPlace) -> &'static str {
    match journal {
        JournalPlace::Object => "in the bucket itself",
        JournalPlace::Sqlite => "in the data folder of its gateway, as a SQLite file",
        JournalPlace::Postgres => "in PostgreSQL",
    }
}

fn how_to(journal: JournalPlace) -> &'static str {
    match journal {
        JournalPlace::Object => "--journal object, the default with --bucket",
        JournalPlace::Sqlite => {
            "--journal sqlite and --data with that folder; or choose another prefix with --bucket s3://name/prefix"
        }
        JournalPlace::Postgres => {
            "--journal postgres://... as its other gateways; or choose another prefix with --bucket s3://name/prefix"
        }
    }
}

/// Whose bucket it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Cluster id.
    pub cluster: String,
    /// Where its journal is kept.
    pub journal: JournalPlace,
}

/// Says that the cluster's journal is kept elsewhere from now on.
pub async fn move_journal(blobs: &Arc<dyn BlobStore>, owner: &Owner) -> Result<(), ClaimError> {
    Ok(blobs.put(KEY, Payload::from(text_of(&owner.cluster, owner.journal).into_bytes())).await?)
}

fn text_of(cluster: &str, journal: JournalPlace) -> String {
    match journal {
        JournalPlace::Sqlite => cluster.to_owned(),
        JournalPlace::Object | JournalPlace::Postgres => format!("{cluster}\n{}", journal.name()),
    }
}

/// Before anything is written: a bucket whose cluster keeps its journal elsewhere is left alone.
pub async fn check_place(blobs: &Arc<dyn BlobStore>, journal: JournalPlace) -> Result<(), ClaimError> {
    match owner(blobs).await? {
        Some(owner) if owner.journal != journal => {
            Err(ClaimError::Elsewhere { cluster: owner.cluster, journal: owner.journal })
        }
        _ => Ok(()),
    }
}

/// Before anything is written: a journal without entries may not start on a bucket that has an owner.
pub async fn check_fresh(blobs: &Arc<dyn BlobStore>, journal: &dyn Journal) -> Result<(), ClaimError> {
    // First the owner: a gateway that starts beside this one writes into the journal before it claims the bucket.
    match check_unowned(blobs).await {
        Err(ClaimError::Foreign { .. }) if journal.head().await? > Lsn(0) => Ok(()),
        checked => checked,
    }
}

/// Whoever has no journal yet may not start on a bucket that has an owner.
pub async fn check_unowned(blobs: &Arc<dyn BlobStore>) -> Result<(), ClaimError> {
    match owner(blobs).await? {
        Some(Owner { cluster, .. }) => {
            Err(ClaimError::Foreign { bucket: cluster, journal: "no cluster yet (it is empty)".into() })
        }
        None => Ok(()),
    }
}

/// Says that the journal is being made anew: no gateway starts until that is done.
pub async fn begin_restore(blobs: &Arc<dyn BlobStore>) -> Result<(), BlobError> {
    blobs.put(RESTORING, Payload::from(&b""[..])).await
}

/// Says that it is done, or that nothing was changed.
pub async fn end_restore(blobs: &Arc<dyn BlobStore>) -> Result<(), BlobError> {
    match blobs.delete_many(&[RESTORING.to_owned()]).await?.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

/// Whether a restore is under way.
pub async fn check_restoring(blobs: &Arc<dyn BlobStore>) -> Result<(), ClaimError> {
    match blobs.head(RESTORING).await {
        Ok(_) => Err(ClaimError::Restoring),
        Err(BlobError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Once a session is opened in a journal in the bucket: whether the journal is the one that was read when it started.
///
/// A restore says that it is under way, fences, moves the floor of the journal, and only then says that it is done. So one
/// that a gateway sees neither under way nor done has not fenced yet, and will find that gateway's session in its place.
pub async fn check_restored(blobs: &Arc<dyn BlobStore>, metadata: &Metadata) -> Result<(), ClaimError> {
    check_restoring(blobs).await?;
    let floor = object::floor(&BlobEntries::new(Arc::clone(blobs))).await?;
    for _ in 0..TRIM_PAUSES {
        if floor <= metadata.journal_first().await? {
            return Ok(());
        }
        tokio::time::sleep(TRIM_PAUSE).await;
    }
    Err(ClaimError::Restored)
}

/// Claims the bucket for this cluster, or finds that it is claimed already.
pub async fn claim(blobs: &Arc<dyn BlobStore>, cluster_id: &str, journal: JournalPlace) -> Result<(), ClaimError> {
    let found = match owner(blobs).await? {
        Some(found) => found,
        None => match blobs.put_new(KEY, Payload::from(text_of(cluster_id, journal).into_bytes())).await {
            Ok(()) => return Ok(()),
            Err(BlobError::AlreadyExists { .. }) => match owner(blobs).await? {
                Some(found) => found,
                None => return Err(BlobError::not_found(KEY).into()),
            },
            Err(error) => return Err(error.into()),
        },
    };
    if found.cluster != cluster_id {
        return Err(ClaimError::Foreign { bucket: found.cluster, journal: format!("cluster {cluster_id}") });
    }
    if found.journal != journal {
        return Err(ClaimError::Elsewhere { cluster: found.cluster, journal: found.journal });
    }
    Ok(())
}

/// Whose bucket it is; `None` if nobody's.
pub async fn owner(blobs: &Arc<dyn BlobStore>) -> Result<Option<Owner>, BlobError> {
    let bytes = match blobs.get(KEY).await {
        Ok(bytes) => bytes,
        Err(BlobError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let (cluster, journal) = match text.split_once('\n') {
        Some((cluster, place)) if place.trim() == JournalPlace::Object.name() => (cluster, JournalPlace::Object),
        Some((cluster, place)) if place.trim() == JournalPlace::Postgres.name() => (cluster, JournalPlace::Postgres),
        Some((cluster, _)) => (cluster, JournalPlace::Sqlite),
        None => (&*text, JournalPlace::Sqlite),
    };
    Ok(Some(Owner { cluster: cluster.to_owned(), journal }))
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
        claim(&blobs, "one", JournalPlace::Sqlite).await.unwrap();
        claim(&blobs, "one", JournalPlace::Sqlite).await.unwrap();
        assert!(matches!(claim(&blobs, "two", JournalPlace::Sqlite).await, Err(ClaimError::Foreign { .. })));
        assert!(matches!(check_fresh(&blobs, &journal).await, Err(ClaimError::Foreign { .. })));
    }

    #[tokio::test]
    async fn a_journal_has_one_place() {
        use JournalPlace::{Object, Postgres, Sqlite};
        for (place, other) in [(Object, Sqlite), (Sqlite, Object), (Postgres, Sqlite), (Object, Postgres)] {
            let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::default());
            check_place(&blobs, place).await.unwrap();
            claim(&blobs, "one", place).await.unwrap();
            check_place(&blobs, place).await.unwrap();
            let error = check_place(&blobs, other).await.unwrap_err().to_string();
            assert!(error.contains(&format!("--journal {}", place.name())), "{error}");
            assert!(matches!(claim(&blobs, "one", other).await, Err(ClaimError::Elsewhere { .. })));
        }
    }
}
