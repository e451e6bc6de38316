//! `streamhouse scrub`: reads every byte that something refers to and checks it, and tells what nothing refers to.
//!
//! What refers is the state that the bucket itself tells (`survey`). A gateway may work meanwhile: what it writes is newer than
//! that state and left alone, and an object that it deletes was not referred to any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use metadata::journal::Journal;
use metadata::journal::postgres::PostgresJournal;
use metadata::journal::sqlite::SqliteJournal;
use metadata::model::batch::BatchIter;
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::fold::Fold;
use metadata::state::State;
use metadata::state::sessions::Standing;
use prometheus_client::registry::Registry;
use storage::blob::purpose::Purpose;
use storage::blob::{BlobError, BlobStore};
use storage::folds::Folds;
use storage::metrics::FoldMetrics;
use storage::segment::format::{Footer, TRAILER_LEN};
use storage::segment::parser::{Trailer, parse_footer};

use crate::app::store;
use crate::claim::{self, ClaimError, Owner};
use crate::options::{JournalPlace, Options};
use crate::restore::{RestoreError, no_url};
use crate::survey::{Source, survey};

/// Keys of one page of a listing.
const PAGE: usize = 1_000;
/// Objects read side by side.
const READS_MAX: usize = 8;
/// Objects between two words about the progress.
const SAY_EVERY: usize = 500;
/// How long a run of a manifest may take to be read.
const RUN_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of an object read at once; every run is in one piece, unless it is larger.
const READ_BYTES_MAX: u64 = 64 << 20;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Objects that records lie in.
    pub objects: usize,
    /// Bytes of records checked.
    pub bytes: u64,
    /// Objects that records lie in and that are missing or damaged, and why.
    pub unreadable: Vec<(String, String)>,
    /// Objects that nothing refers to, and never will.
    pub unreferenced: Vec<String>,
    /// Objects that a living session may yet refer to, or that the sweep is about to take.
    pub pending: usize,
}

/// Checks what `options.bucket` holds. `say` is told of the progress.
pub async fn scrub(options: &Options, say: &(dyn Fn(String) + Sync)) -> Result<Findings, RestoreError> {
    let (stores, _) = store::open(options, &mut Registry::default()).await.map_err(Box::new)?;
    let blobs = stores.for_purpose(Purpose::Upkeep);
    let owner = claim::owner(&blobs).await?.ok_or(RestoreError::NoCluster)?;
    let state = told(options, &owner, &blobs, say).await?;
    let (there, strays) = listed(&blobs).await?;
    let mut findings = Findings { unreferenced: strays, ..Findings::default() };
    let extents = extents(&state, &blobs, &mut findings).await;
    findings.objects = extents.len();
    sort_out(&state, &there, &extents, &mut findings);
    let total = extents.len();
    let checks = extents.into_iter().map(|(id, extents)| {
        let (blobs, bytes) = (Arc::clone(&blobs), state.objects().get(id).map_or(0, |object| object.bytes));
        let is_there = there.contains(&id);
        async move {
            let result = match is_there {
                true => check(blobs.as_ref(), id, bytes, &extents).await,
                false => Err("it is missing".into()),
            };
            (id, result)
        }
    });
    let mut checks = stream::iter(checks).buffered(READS_MAX);
    let mut checked = 0;
    while let Some((id, result)) = checks.next().await {
        checked += 1;
        match result {
            Ok(bytes) => findings.bytes += bytes,
            Err(why) => findings.unreadable.push((id.key(), why)),
        }
        if checked % SAY_EVERY == 0 {
            say(format!("{checked} of {total} objects, {} MiB", findings.bytes >> 20));
        }
    }
    Ok(findings)
}

/// The state that everything is held against.
async fn told(
    options: &Options,
    owner: &Owner,
    blobs: &Arc<dyn BlobStore>,
    say: &(dyn Fn(String) + Sync),
) -> Result<State, RestoreError> {
    let journal: Box<dyn Journal> = match (owner.journal, options.postgres()?) {
        (JournalPlace::Postgres, Some(place)) => Box::new(PostgresJournal::open(place).await?),
        (journal, Some(_)) => return Err(ClaimError::Elsewhere { cluster: owner.cluster.clone(), journal }.into()),
        // A folder has no copies of its journal.
        (JournalPlace::Sqlite, None) if options.bucket.is_none() => Box::new(SqliteJournal::open(&options.data)?),
        (JournalPlace::Postgres, None) if options.bucket.is_none() => return Err(no_url().into()),
        (place, None) => return Ok(survey(blobs, Source::of(place), None, say).await?.state),
    };
    claim::check_fresh(blobs, journal.as_ref()).await?;
    let state = survey(blobs, Source::Journal(journal.as_ref()), None, say).await?.state;
    match state.cluster_id() {
        cluster if cluster == owner.cluster => Ok(state),
        other => Err(ClaimError::Foreign { bucket: owner.cluster.clone(), journal: format!("cluster {other}") }.into()),
    }
}

/// Every object of records or entries, and what else lies among them.
async fn listed(blobs: &Arc<dyn BlobStore>) -> Result<(BTreeSet<ObjectId>, Vec<String>), BlobError> {
    let (mut there, mut strays) = (BTreeSet::new(), Vec::new());
    for prefix in [ObjectId::PREFIX, ObjectId::JOURNAL_PREFIX] {
        let mut after = None::<String>;
        loop {
            let page = blobs.list(prefix, after.as_deref(), PAGE).await?;
            for meta in &page {
                match ObjectId::from_key(&meta.key) {
                    Some(id) => drop(there.insert(id)),
                    None => strays.push(meta.key.clone()),
                }
            }
            if page.len() < PAGE {
                break;
            }
            after = page.last().map(|meta| meta.key.clone());
        }
    }
    Ok((there, strays))
}

/// Every extent of every log, by its object; those that are folded as their manifests tell. A manifest that cannot be read makes
/// the records of its runs unreadable.
async fn extents(
    state: &State,
    blobs: &Arc<dyn BlobStore>,
    findings: &mut Findings,
) -> BTreeMap<ObjectId, Vec<Extent>> {
    let mut extents: BTreeMap<ObjectId, Vec<Extent>> = BTreeMap::new();
    let mut folded: Vec<Fold> = Vec::new();
    for log in state.topics().iter().flat_map(|topic| topic.partitions()).filter_map(|tp| state.log(tp)) {
        for extent in log.all_unfolded() {
            extents.entry(extent.object).or_default().push(extent);
        }
        folded.extend(log.folds());
    }
    let folds = Folds::new(Arc::clone(blobs), RUN_DEADLINE, FoldMetrics::default());
    let runs = folded.into_iter().map(|fold| {
        let folds = Arc::clone(&folds);
        async move { (fold, folds.run(&fold).await) }
    });
    let mut runs = stream::iter(runs).buffered(READS_MAX);
    while let Some((fold, run)) = runs.next().await {
        match run {
            Ok(run) => {
                findings.bytes += u64::from(fold.length);
                run.iter().for_each(|extent| extents.entry(extent.object).or_default().push(*extent));
            }
            Err(error) => {
                let why = format!("offsets {} to {} of a log are told by it: {error}", fold.base, fold.end);
                findings.unreadable.push((fold.object.key(), why));
            }
        }
    }
    extents
}

/// What is there without being referred to.
fn sort_out(
    state: &State,
    there: &BTreeSet<ObjectId>,
    extents: &BTreeMap<ObjectId, Vec<Extent>>,
    findings: &mut Findings,
) {
    let is_manifest = |id: &ObjectId| state.objects().get(*id).is_some_and(|object| object.folded > 0);
    for id in there.iter().filter(|id| !extents.contains_key(id) && !is_manifest(id)) {
        let may_be_needed = match id.position() {
            // An entry: the journal's own, or newer than the state.
            Some(_) => true,
            // Dead ones wait for the end of their grace.
            None => state.objects().get(*id).is_some() || state.sessions().standing(id.session) == Standing::Live,
        };
        if may_be_needed {
            findings.pending += usize::from(id.position().is_none());
        } else {
            findings.unreferenced.push(id.key());
        }
    }
}

/// Reads an object's footer and every run that an extent points into; tells the bytes of the runs.
async fn check(blobs: &dyn BlobStore, id: ObjectId, segment_len: u64, extents: &[Extent]) -> Result<u64, String> {
    let key = id.key();
    let read = |from: u64, to: u64| {
        let key = &key;
        async move { blobs.get_range(key, from..to).await.map_err(|error| error.to_string()) }
    };
    let trailer_at = segment_len.checked_sub(TRAILER_LEN as u64).ok_or("it is shorter than any segment")?;
    let trailer = Trailer::parse(&read(trailer_at, segment_len).await?).map_err(|error| error.to_string())?;
    let end_len = u64::from(trailer.footer_len) + TRAILER_LEN as u64;
    let end_at = segment_len.checked_sub(end_len).ok_or("its footer is larger than it")?;
    let footer = parse_footer(&read(end_at, segment_len).await?).map_err(|error| error.to_string())?;
    if footer.object != id {
        return Err(format!("it says that it is {}", footer.object));
    }
    let mut runs: HashMap<u64, (u64, u32)> = HashMap::new();
    for extent in extents {
        let (position, length, crc) = run_of(&footer, extent).ok_or("an extent points outside its runs")?;
        runs.insert(position, (length, crc));
    }
    let mut checked = 0;
    for (position, (length, crc)) in runs {
        check_run(position, length, crc, &read).await?;
        checked += length;
    }
    Ok(checked)
}

/// Position, length and checksum of the run that an extent lies in.
fn run_of(footer: &Footer, extent: &Extent) -> Option<(u64, u64, u32)> {
    let runs = footer.topics.iter().flat_map(|topic| &topic.runs);
    let end = extent.position + u64::from(extent.length);
    let run = runs.into_iter().find(|run| run.position <= extent.position && end <= run.position + run.length())?;
    Some((run.position, run.length(), run.crc))
}

async fn check_run<F>(position: u64, length: u64, crc: u32, read: &impl Fn(u64, u64) -> F) -> Result<(), String>
where
    F: Future<Output = Result<bytes::Bytes, String>>,
{
    let (mut found, mut at) = (0, position);
    while at < position + length {
        let to = (at + READ_BYTES_MAX).min(position + length);
        let bytes = read(at, to).await?;
        found = crc32c::crc32c_append(found, &bytes);
        if at == position && to == position + length {
            let is_sound = BatchIter::new(&bytes).all(|batch| batch.is_ok_and(|batch| batch.crc_is_valid()));
            if !is_sound {
                return Err(format!("a batch of the run at {position} is damaged"));
            }
        }
        at = to;
    }
    if found == crc { Ok(()) } else { Err(format!("the checksum of the run at {position} does not match")) }
}
