//! The place of the journal: a file in the data folder, the bucket itself, or a PostgreSQL server.

use std::sync::Arc;
use std::time::Duration;

use metadata::archive::{Archive, Archiver, JOB};
use metadata::handle::Metadata;
use metadata::journal::Journal;
use metadata::journal::object::ObjectJournal;
use metadata::journal::postgres::PostgresJournal;
use metadata::journal::sqlite::SqliteJournal;
use metadata::shares::Share;
use storage::blob::purpose::{Purpose, Stores};
use storage::entries::BlobEntries;

use super::AppError;
use crate::claim;
use crate::options::load::OptionsError;
use crate::options::{JournalPlace, Options};

/// Opens it, unless the bucket is another cluster's or this cluster's journal is elsewhere: then nothing was touched.
pub async fn open(options: &Options, place: JournalPlace, stores: &Stores) -> Result<Arc<dyn Journal>, AppError> {
    let blobs = &stores.for_purpose(Purpose::Upkeep);
    claim::check_restoring(blobs).await?;
    claim::check_place(blobs, place).await?;
    match place {
        JournalPlace::Object => Ok(Arc::new(ObjectJournal::open(Arc::new(BlobEntries::by_purpose(stores))).await?)),
        JournalPlace::Postgres => {
            let place = options.postgres()?.ok_or_else(|| OptionsError::Value {
                key: "journal".into(),
                reason: "must be the URL of the database: postgres://user:password@host/database".into(),
            })?;
            let journal = PostgresJournal::open(place).await?;
            claim::check_fresh(blobs, &journal).await?;
            Ok(Arc::new(journal))
        }
        JournalPlace::Sqlite => {
            if !options.data.exists() {
                claim::check_unowned(blobs).await?; // before a folder is made that would be of no use
            }
            std::fs::create_dir_all(&options.data).map_err(|error| AppError::Data {
                folder: options.data.display().to_string(),
                reason: error.to_string(),
            })?;
            let journal = SqliteJournal::open(&options.data)?;
            claim::check_fresh(blobs, &journal).await?;
            Ok(Arc::new(journal))
        }
    }
}

/// How often a journal that is not in the bucket is copied into it, if there is a bucket; a folder would be lost with its journal.
pub fn copied_every(options: &Options, place: JournalPlace) -> Option<Duration> {
    let interval = options.metadata.archive_interval()?;
    (place != JournalPlace::Object && options.bucket.is_some()).then_some(interval)
}

/// Copies the journal, see [`copied_every`]. One of the gateways does.
pub fn archiver(
    options: &Options,
    place: JournalPlace,
    stores: &Stores,
    journal: &Arc<dyn Journal>,
    metadata: &Metadata,
) -> Option<Archiver> {
    let interval = copied_every(options, place)?;
    let archive = Archive::new(Arc::new(BlobEntries::by_purpose(stores)));
    Some(Archiver::start(Arc::clone(journal), Share::of(metadata, JOB), archive, interval))
}
