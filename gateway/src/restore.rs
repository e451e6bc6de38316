//! `streamhouse restore`: the journal made again from the bucket, on a machine that has nothing.
//!
//! The restored journal goes on behind everything that the lost one may have written, and begins with an entry that fences
//! every session before it. Nothing in the bucket is deleted. What can be lost is said in docs/restore.md.

mod replay;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use metadata::clock::{Clock, SystemClock};
use metadata::command::{Command, Entry, OpenSession};
use metadata::error::SnapshotStoreError;
use metadata::failpoint::crash_here;
use metadata::journal::object::store::EntryStoreError;
use metadata::journal::object::{begin_at, set_floor};
use metadata::journal::postgres::PostgresJournal;
use metadata::journal::sqlite::{FILE_NAME, SqliteJournal};
use metadata::model::extent::ObjectId;
use metadata::model::ids::{Lsn, NodeId, SessionId};
use metadata::snapshot::SnapshotStore;
use metadata::state::{FEATURE_LEVEL, State};
use prometheus_client::registry::Registry;
use storage::blob::purpose::Purpose;
use storage::blob::{BlobError, BlobStore};
use storage::entries::BlobEntries;

use crate::app::AppError;
use crate::app::store;
use crate::claim::{self, ClaimError, Owner};
use crate::options::load::OptionsError;
use crate::options::{JournalPlace, Options};
use crate::snapshots::BucketSnapshots;
use crate::survey::{Source, Survey, SurveyError, survey, utc};

/// Entries that a lost journal may have had beyond what the bucket knows of: its old copy, should it come back, is behind.
const LOST_ENTRIES_MAX: u64 = 1 << 20;
/// Producer ids that a lost journal may have given out beyond what the bucket knows of.
const LOST_PRODUCER_IDS_MAX: u32 = 1_000_000;
/// Keys of one page of a listing.
const PAGE: usize = 1_000;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The options.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The bucket cannot be opened.
    #[error(transparent)]
    Store(#[from] Box<AppError>),
    /// It cannot be read or written.
    #[error("the bucket: {0}")]
    Blob(#[from] BlobError),
    /// Nobody's bucket.
    #[error("no cluster has kept anything there; check bucket and prefix")]
    NoCluster,
    /// Whose bucket it is cannot be told or changed.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The journal is in the bucket.
    #[error(
        "nothing is lost: the journal of cluster {0} is in the bucket. Start a gateway with --bucket; or go back to an earlier \
         time with --at, or move the journal into a folder with --journal sqlite"
    )]
    NothingLost(String),
    /// There is a journal where one is to be made.
    #[error("{0} holds a journal: restore into another folder with --data, or start a gateway on this one")]
    JournalThere(String),
    /// The state cannot be told.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// Records of that time are gone.
    #[error(
        "{missing} of the {all} objects that held records at that time are deleted already: choose a later time. How long they \
         are kept is set by metadata.restore-window-ms"
    )]
    ObjectsGone {
        /// How many are not there.
        missing: usize,
        /// Of how many.
        all: usize,
    },
    /// The snapshot was not written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotStoreError),
    /// The journal was not written.
    #[error(transparent)]
    Sqlite(#[from] metadata::journal::sqlite::OpenError),
    /// The journal in PostgreSQL was not written.
    #[error(transparent)]
    Postgres(#[from] metadata::journal::postgres::OpenError),
    /// The journal in the bucket was not written.
    #[error("the journal in the bucket: {0}")]
    Entry(#[from] EntryStoreError),
    /// A gateway works on it.
    #[error("a gateway writes to the journal in this bucket: stop it, then restore again")]
    Busy,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The cluster.
    pub owner: Owner,
    /// Where its journal goes on.
    pub lsn: Lsn,
    /// Time of the state, ms.
    pub time_ms: i64,
    /// Segments whose commits were made again from what they say of themselves.
    pub replayed: u64,
    /// Objects that records lie in and that are not there.
    pub missing: usize,
}

/// Restores what `options.bucket` holds into a journal as the options say; with `until` (ms), as it was then. `say` is told of
/// the progress.
pub async fn restore(
    options: &Options,
    until: Option<i64>,
    say: &(dyn Fn(String) + Sync),
) -> Result<Restored, RestoreError> {
    let (stores, _) = store::open(options, &mut Registry::default()).await.map_err(Box::new)?;
    let blobs = stores.for_purpose(Purpose::Upkeep);
    let owner = claim::owner(&blobs).await?.ok_or(RestoreError::NoCluster)?;
    let target = match options.journal {
        None => owner.journal,
        Some(_) => options.journal_place()?,
    };
    say(format!("cluster {}, whose journal was kept {}", owner.cluster, owner.journal.name()));
    if target == JournalPlace::Postgres && options.postgres()?.is_none() {
        return Err(no_url().into());
    }
    if owner.journal == JournalPlace::Object && target == JournalPlace::Object && until.is_none() {
        return Err(RestoreError::NothingLost(owner.cluster));
    }
    let file = options.data.join(FILE_NAME);
    if target == JournalPlace::Sqlite && file.exists() {
        return Err(RestoreError::JournalThere(file.display().to_string()));
    }
    let Survey { mut state, head, .. } = survey(&blobs, Source::of(owner.journal), until, say).await?;
    let is_lost = owner.journal != JournalPlace::Object;
    let replayed = match is_lost && until.is_none() {
        true => replay::replay(&mut state, &owner.cluster, &blobs, say).await?,
        false => 0,
    };
    let (missing, all) = missing_objects(&state, &blobs).await?;
    if missing > 0 && until.is_some() {
        return Err(RestoreError::ObjectsGone { missing, all });
    }
    let time_ms = state.time_ms();
    let margin = if is_lost { LOST_ENTRIES_MAX } else { 0 };
    let fence = seal(&mut state, Lsn(head.0 + margin), &owner.cluster, is_lost);
    let lsn = state.applied();
    // From here to the end no gateway starts: it would read the old history and go on behind the fence.
    claim::begin_restore(&blobs).await?;
    let planted = plant(options, target, &blobs, &state, &fence).await;
    if let Err(RestoreError::Busy) = planted {
        claim::end_restore(&blobs).await?;
    }
    planted?;
    let owner = Owner { journal: target, ..owner };
    claim::move_journal(&blobs, &owner).await?;
    claim::end_restore(&blobs).await?;
    say(format!("the journal goes on at entry {lsn}, with the state of {}", utc(time_ms)));
    Ok(Restored { owner, lsn, time_ms, replayed, missing })
}

/// What is missing to reach a journal in PostgreSQL.
pub fn no_url() -> OptionsError {
    let reason = "must say where the journal is: postgres://user:password@host/database".into();
    OptionsError::Value { key: "journal".into(), reason }
}

/// An entry that says nothing.
fn nothing() -> Entry {
    Entry { session: SessionId::NONE, sequence: 0, time_ms: 0, commands: Vec::new(), follows: None }
}

/// Brings the state behind `head` and fences all sessions; returns the entry that does. One that says nothing stands behind it,
/// so that no snapshot of the old history reaches the restored journal.
fn seal(state: &mut State, head: Lsn, cluster: &str, is_lost: bool) -> Entry {
    while state.applied() < head {
        state.apply(Lsn(state.applied().0 + 1), &nothing());
    }
    let mut commands = vec![opening(cluster)];
    if is_lost {
        commands.push(Command::AllocateProducerIds { count: LOST_PRODUCER_IDS_MAX });
    }
    commands.push(Command::CloseSession);
    let fence =
        Entry { session: SessionId::random(), sequence: 1, time_ms: SystemClock.now_ms(), commands, follows: None };
    state.apply(Lsn(state.applied().0 + 1), &fence);
    state.apply(Lsn(state.applied().0 + 1), &nothing());
    fence
}

/// A session of nobody that clients could reach.
fn opening(cluster: &str) -> Command {
    Command::OpenSession(OpenSession {
        node: NodeId(i32::MAX),
        listeners: Vec::new(),
        rack: None,
        feature_level: FEATURE_LEVEL,
        cluster_id: cluster.to_owned(),
        fence_others: true,
    })
}

/// Makes the journal. In the bucket the entry comes first: it finds out whether anybody else writes, and fences them. Stopped in
/// the middle, either nothing has changed or all of it can be done again.
async fn plant(
    options: &Options,
    target: JournalPlace,
    blobs: &Arc<dyn BlobStore>,
    state: &State,
    fence: &Entry,
) -> Result<(), RestoreError> {
    let lsn = state.applied();
    let snapshots = BucketSnapshots::new(Arc::clone(blobs), Duration::ZERO);
    match target {
        JournalPlace::Sqlite => {
            snapshots.put(lsn, state.encode()).await?;
            SqliteJournal::begin_at(&options.data, lsn, &nothing())?;
        }
        JournalPlace::Postgres => {
            let place = options.postgres()?.ok_or_else(no_url)?;
            snapshots.put(lsn, state.encode()).await?;
            PostgresJournal::begin_at(place, lsn, &nothing()).await?;
        }
        JournalPlace::Object => {
            let entries = BlobEntries::new(Arc::clone(blobs));
            if !begin_at(&entries, Lsn(lsn.0 - 1), fence).await? {
                return Err(RestoreError::Busy);
            }
            crash_here("restore::after_fence");
            // What an ended session may have left there is fenced by now, and says nothing either.
            begin_at(&entries, lsn, &nothing()).await?;
            snapshots.put(lsn, state.encode()).await?;
            set_floor(&entries, lsn).await?;
        }
    }
    Ok(())
}

/// How many of the objects that extents point to are not there, of how many.
async fn missing_objects(state: &State, blobs: &Arc<dyn BlobStore>) -> Result<(usize, usize), BlobError> {
    let mut there = HashSet::new();
    for prefix in [ObjectId::PREFIX, ObjectId::JOURNAL_PREFIX] {
        let mut after = None::<String>;
        loop {
            let page = blobs.list(prefix, after.as_deref(), PAGE).await?;
            there.extend(page.iter().filter_map(|meta| ObjectId::from_key(&meta.key)));
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|meta| meta.key.clone());
        }
    }
    let live = || state.objects().iter().filter(|object| object.dead_since_ms.is_none());
    Ok((live().filter(|object| !there.contains(&object.id)).count(), live().count()))
}
