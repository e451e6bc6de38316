//! The state of a cluster as its bucket alone tells it: a snapshot, and the entries behind it.

use std::sync::Arc;
use std::time::Duration;

use metadata::archive::{Archive, ArchiveError};
use metadata::command::Entry;
use metadata::error::{ReadError, SnapshotStoreError};
use metadata::journal::Journal;
use metadata::journal::object::{ObjectJournal, OpenError};
use metadata::model::ids::Lsn;
use metadata::snapshot::SnapshotStore;
use metadata::state::State;
use storage::blob::BlobStore;
use storage::entries::BlobEntries;

use crate::options::JournalPlace;
use crate::snapshots::BucketSnapshots;

/// Entries read at once.
const READ_ENTRIES: usize = 512;

/// Why the state cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// Snapshots could not be read.
    #[error(transparent)]
    Snapshots(#[from] SnapshotStoreError),
    /// The copies of the journal could not be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The journal in the bucket could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal in the bucket could not be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The time is before what is kept.
    #[error(
        "what the bucket keeps does not reach back to that time{}; a later time, or none for the newest state, can be restored. \
         How long is kept is set by metadata.restore-window-ms", earliest.map(|ms| format!(": the oldest state is of {}", utc(ms))).unwrap_or_default()
    )]
    TooEarly {
        /// The oldest state that can be told, ms; `None` if there is none.
        earliest: Option<i64>,
    },
}

/// Where the entries behind the snapshot are.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// In the bucket's own journal.
    Bucket,
    /// In the copies of a journal elsewhere.
    Copies,
    /// In a journal that is at hand.
    Journal(&'a dyn Journal),
}

impl Source<'_> {
    /// What the bucket has of a journal that is kept there.
    pub fn of(place: JournalPlace) -> Self {
        match place {
            JournalPlace::Object => Self::Bucket,
            JournalPlace::Sqlite | JournalPlace::Postgres => Self::Copies,
        }
    }
}

/// What a bucket tells.
#[derive(Debug)]
pub struct Survey {
    /// The state.
    pub state: State,
    /// The snapshot it was built on; 0 if none.
    pub base: Lsn,
    /// Entries applied on top of it.
    pub entries: u64,
    /// The last entry that anything in the bucket was ever heard of.
    pub head: Lsn,
}

/// Tells the newest state, or with `until` (ms) the last one not after that time.
pub async fn survey(
    blobs: &Arc<dyn BlobStore>,
    source: Source<'_>,
    until: Option<i64>,
    say: &(dyn Fn(String) + Sync),
) -> Result<Survey, SurveyError> {
    let mut survey = from_snapshot(blobs, until, say).await?;
    let is_whole = match source {
        Source::Bucket => {
            let journal = ObjectJournal::open_unprobed(Arc::new(BlobEntries::new(Arc::clone(blobs)))).await?;
            from_journal(&journal, until, &mut survey, say).await?
        }
        Source::Journal(journal) => from_journal(journal, until, &mut survey, say).await?,
        Source::Copies => from_archive(blobs, until, &mut survey, say).await?,
    };
    let has_begun = survey.state.applied() > Lsn(0);
    if until.is_some() && !(is_whole && has_begun) {
        let earliest = oldest_snapshot(blobs).await?;
        return Err(SurveyError::TooEarly { earliest });
    }
    Ok(survey)
}

/// A time as people write it, in UTC.
pub fn utc(ms: i64) -> String {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Days since 1 March of the year 0, in eras of 400 years (Howard Hinnant's civil calendar).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let seconds = rest / 1_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        rest % 1_000
    )
}

/// Reads a time: `2026-11-21T23:59:59Z`, with or without parts of a second, or milliseconds since the epoch.
pub fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return Ok(ms);
    }
    let wrong = || format!("`{text}` is not a time such as 2026-11-21T23:59:59Z (UTC), or milliseconds since 1970");
    let (date, time) = text.strip_suffix('Z').and_then(|text| text.split_once('T')).ok_or_else(wrong)?;
    let numbers = |text: &str, by: char| -> Option<Vec<i64>> { text.split(by).map(|n| n.parse().ok()).collect() };
    let (time, millis) = time.split_once('.').unwrap_or((time, "0"));
    let millis: i64 = format!("{millis:0<3}").get(..3).and_then(|ms| ms.parse().ok()).ok_or_else(wrong)?;
    let (date, time) = numbers(date, '-').zip(numbers(time, ':')).ok_or_else(wrong)?;
    let ([year, month, day], [hour, minute, second]) = (&date[..], &time[..]) else { return Err(wrong()) };
    if !(1..=12).contains(month) || !(1..=31).contains(day) || *hour > 23 || *minute > 59 || *second > 60 {
        return Err(wrong());
    }
    let shifted_year = if *month <= 2 { year - 1 } else { *year };
    let (era, year_of_era) = (shifted_year.div_euclid(400), shifted_year.rem_euclid(400));
    let day_of_year = (153 * (month + if *month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Ok((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000 + millis)
}

/// The newest good snapshot that is not after the time.
async fn from_snapshot(
    blobs: &Arc<dyn BlobStore>,
    until: Option<i64>,
    say: &(dyn Fn(String) + Sync),
) -> Result<Survey, SurveyError> {
    let snapshots = BucketSnapshots::new(Arc::clone(blobs), Duration::ZERO);
    let (mut below, mut head) = (None, Lsn(0));
    while let Some((lsn, bytes)) = snapshots.newest(below).await? {
        (below, head) = (Some(lsn), head.max(lsn));
        match State::decode(&bytes) {
            Ok(state) if until.is_none_or(|until| state.time_ms() <= until) => {
                say(format!("snapshot of entry {lsn}, of {}", utc(state.time_ms())));
                return Ok(Survey { state, base: lsn, entries: 0, head });
            }
            Ok(_) => {}
            Err(error) => say(format!("the snapshot of entry {lsn} is passed over: {error}")),
        }
    }
    say("no snapshot: from the first entry on".into());
    Ok(Survey { state: State::default(), base: Lsn(0), entries: 0, head })
}

async fn oldest_snapshot(blobs: &Arc<dyn BlobStore>) -> Result<Option<i64>, SurveyError> {
    let snapshots = BucketSnapshots::new(Arc::clone(blobs), Duration::ZERO);
    let (mut below, mut oldest) = (None, None);
    while let Some((lsn, bytes)) = snapshots.newest(below).await? {
        below = Some(lsn);
        oldest = State::decode(&bytes).ok().map(|state| state.time_ms()).or(oldest);
    }
    Ok(oldest)
}

impl Survey {
    /// Applies an entry; `false` if it is after the time.
    fn take(&mut self, lsn: Lsn, entry: &Entry, until: Option<i64>) -> bool {
        if until.is_some_and(|until| entry.time_ms > until) {
            return false;
        }
        self.state.apply(lsn, entry);
        self.entries += 1;
        true
    }
}

/// Whether the entries behind the snapshot were there without a hole.
async fn from_journal(
    journal: &dyn Journal,
    until: Option<i64>,
    survey: &mut Survey,
    say: &(dyn Fn(String) + Sync),
) -> Result<bool, SurveyError> {
    journal.reached(survey.head);
    survey.head = survey.head.max(journal.head().await?);
    if survey.state.applied().0 + 1 < journal.first().await?.0 {
        return Ok(false);
    }
    loop {
        let entries = journal.read(survey.state.applied(), READ_ENTRIES).await?;
        if entries.is_empty() {
            return Ok(true);
        }
        for (lsn, entry) in &entries {
            if !survey.take(*lsn, entry, until) {
                return Ok(true);
            }
        }
        say(format!("{} of {} entries of the journal", survey.state.applied(), survey.head));
    }
}

async fn from_archive(
    blobs: &Arc<dyn BlobStore>,
    until: Option<i64>,
    survey: &mut Survey,
    say: &(dyn Fn(String) + Sync),
) -> Result<bool, SurveyError> {
    let archive = Archive::new(Arc::new(BlobEntries::new(Arc::clone(blobs))));
    let copies = archive.list().await?;
    let last = copies.iter().map(|copy| copy.last).max().unwrap_or_default();
    survey.head = survey.head.max(last);
    let base = survey.base;
    for copy in copies.iter().filter(|copy| copy.last > base) {
        if copy.first.0 > survey.state.applied().0 + 1 {
            say(format!("the copied entries have a hole before entry {}: the rest is not used", copy.first));
            return Ok(false);
        }
        for (lsn, entry) in archive.read(copy).await? {
            let is_next = lsn.0 == survey.state.applied().0 + 1;
            if is_next && !survey.take(lsn, &entry, until) {
                return Ok(true);
            }
        }
        say(format!("{} of {last} copied entries", survey.state.applied()));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use metadata::archive::{Archiver, JOB, PREFIX};
    use metadata::command::Command;
    use metadata::handle::{Metadata, MetadataParts};
    use metadata::journal::memory::MemoryJournal;
    use metadata::shares::Share;
    use metadata::snapshot::MemorySnapshots;
    use storage::blob::memory::MemoryStore;

    use super::*;

    /// A gateway's life of `count` commands, every few of them copied, and the hash of its state at the end.
    async fn copied(blobs: &Arc<dyn BlobStore>, count: usize) -> (Lsn, u64) {
        let (metadata, copying) = gateway(1, &Arc::default(), blobs).await;
        for _ in 0..count {
            metadata.submit(Command::AllocateProducerIds { count: 1 }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        copying.finish().await;
        metadata.read(|state| (state.applied(), state.hash()))
    }

    /// One that copies the journal.
    async fn gateway(node: i32, journal: &Arc<MemoryJournal>, blobs: &Arc<dyn BlobStore>) -> (Metadata, Archiver) {
        let snapshots = Arc::new(MemorySnapshots::default());
        let parts = MetadataParts::for_tests(node, Arc::clone(journal) as _, snapshots);
        let metadata = Metadata::start(parts).await.unwrap();
        let share = Share::of(&metadata, JOB);
        (metadata, Archiver::start(Arc::clone(journal) as _, share, archive(blobs), Duration::from_millis(50)))
    }

    fn archive(blobs: &Arc<dyn BlobStore>) -> Archive {
        Archive::new(Arc::new(BlobEntries::new(Arc::clone(blobs))))
    }

    async fn say_some(metadata: &Metadata, lasts: Duration) {
        const PAUSE: Duration = Duration::from_millis(20);
        for _ in 0..lasts.as_millis() / PAUSE.as_millis() {
            metadata.submit(Command::AllocateProducerIds { count: 1 }).await.unwrap();
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn told(blobs: &Arc<dyn BlobStore>, until: Option<i64>) -> Result<Survey, SurveyError> {
        survey(blobs, Source::Copies, until, &|_| ()).await
    }

    #[tokio::test(start_paused = true)]
    async fn l1_copies_give_the_state_back_to_the_last_entry() {
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        let (lsn, hash) = copied(&blobs, 20).await;
        assert!(blobs.list(PREFIX, None, 99).await.unwrap().len() > 3, "several copies");
        let survey = told(&blobs, None).await.unwrap();
        assert_eq!((survey.state.applied(), survey.head, survey.state.hash()), (lsn, lsn, hash));
    }

    /// Of two gateways one copies; the other goes on where that one ended.
    #[tokio::test(start_paused = true)]
    async fn each_entry_is_copied_once_and_none_is_forgotten() {
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        let journal = Arc::default();
        let (one, first) = gateway(1, &journal, &blobs).await;
        say_some(&one, Duration::from_secs(1)).await;
        let (two, second) = gateway(2, &journal, &blobs).await;
        say_some(&one, Duration::from_secs(5)).await;
        let has_it = one.read(|state| metadata::rendezvous::owner(state.sessions(), JOB).unwrap().id);
        let (goes, stays) = if has_it == one.session() { (one, two) } else { (two, one) };
        goes.submit(Command::CloseSession).await.unwrap();
        say_some(&stays, Duration::from_secs(5)).await;
        stays.submit(Command::CloseSession).await.unwrap();
        first.finish().await;
        second.finish().await;
        let copies = archive(&blobs).list().await.unwrap();
        assert!(copies.len() > 20, "{} copies", copies.len());
        let ends: Vec<_> = copies.windows(2).map(|pair| (pair[0].last.0 + 1, pair[1].first.0)).collect();
        assert!(ends.iter().all(|(end, begin)| end == begin), "{ends:?}");
        let survey = told(&blobs, None).await.unwrap();
        let expected = stays.read(|state| (state.applied(), state.hash()));
        assert_eq!((survey.state.applied(), survey.state.hash()), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lies_behind_a_hole_in_the_copies_is_not_applied() {
        let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
        let (lsn, _) = copied(&blobs, 20).await;
        let copies = blobs.list(PREFIX, None, 99).await.unwrap();
        let (gone, _) = copies[1].key.strip_prefix(PREFIX).unwrap().split_once('-').unwrap();
        blobs.delete_many(&[copies[1].key.clone()]).await.unwrap();
        let survey = told(&blobs, None).await.unwrap();
        assert_eq!(survey.state.applied(), Lsn(gone.parse::<u64>().unwrap() - 1));
        assert_eq!(survey.head, lsn, "what was heard of");
        assert!(matches!(told(&blobs, Some(i64::MAX)).await, Err(SurveyError::TooEarly { .. })));
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_305_599_250, "2026-11-21T23:59:59.250Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(ms), text);
            assert_eq!(parse_time(text), Ok(ms));
            assert_eq!(parse_time(&ms.to_string()), Ok(ms));
        }
        assert_eq!(parse_time("2026-11-21T23:59:59Z"), Ok(1_795_305_599_000));
        for bad in ["", "yesterday", "2026-11-21", "2026-13-01T00:00:00Z", "2026-11-21T24:00:00Z", "2026-11-21T23:59Z"]
        {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }
}
