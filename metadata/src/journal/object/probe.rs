//! Whether a store honours create-only writes, tried out before anything is entrusted to it.

use bytes::Bytes;
use uuid::Uuid;

use super::store::{Created, EntryStore, EntryStoreError};
use crate::class::{Classify, ErrorClass};

/// Folder of the probes below the bucket's prefix; empty but for a moment.
const PREFIX: &str = "journal-probe/";
/// Races run; a store that serializes by luck is found out by one of them.
const RACES: usize = 3;

/// Why a journal is not kept in this store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store lets a second writer in.
    #[error(
        "the store does not honour create-only writes (If-None-Match: *): {0} of two writers of one key were told that they \
         made it. A journal in it could be written by two gateways at once. Use a store that honours them, or keep the \
         journal in a local file with --journal sqlite"
    )]
    NotExclusive(usize),
    /// The store could not be asked.
    #[error("the journal in the bucket could not be opened: {0}")]
    Store(#[from] EntryStoreError),
}

impl Classify for OpenError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotExclusive(_) => ErrorClass::Rejected,
            Self::Store(error) => error.class(),
        }
    }
}

/// Lets two writers race for one key, then a third come late: exactly one of them may win.
pub(super) async fn probe(store: &dyn EntryStore) -> Result<(), OpenError> {
    for _ in 0..RACES {
        let key = format!("{PREFIX}{}", Uuid::new_v4().simple());
        let racer = |name: &'static [u8]| {
            let key = key.clone();
            async move { store.create(&key, &[Bytes::from_static(name)]).await }
        };
        let (first, second) = tokio::join!(racer(b"first"), racer(b"second"));
        let third = racer(b"third").await;
        store.delete(std::slice::from_ref(&key)).await?;
        let winners = [first?, second?, third?].into_iter().filter(|made| *made == Created::New).count();
        if winners != 1 {
            return Err(OpenError::NotExclusive(winners));
        }
    }
    Ok(())
}
