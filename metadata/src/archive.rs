//! A copy of the journal in the bucket, for journals that lie elsewhere: what is lost with them is what was not copied yet.
//!
//! Every few seconds in which something was appended, the entries since the last copy become one object,
//! `archive/<first>-<last>`. Together with a snapshot they give the state back; see docs/restore.md. Of gateways that share a
//! journal one makes the copies; who takes that over goes on behind the last copy there is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::class::{Classify, ErrorClass};
use crate::codec::{CodecError, decode_entry, encode_entry, frame, unframe};
use crate::command::Entry;
use crate::error::ReadError;
use crate::journal::Journal;
use crate::journal::object::store::{EntryStore, EntryStoreError};
use crate::model::ids::Lsn;
use crate::shares::Share;

/// Folder of the copies below the bucket's prefix.
pub const PREFIX: &str = "archive/";
const VERSION: u16 = 1;
const COPY: &str = "copy of journal entries";
/// Entries read at once.
const READ_ENTRIES: usize = 512;
/// Bytes of entries in one object, about.
const OBJECT_BYTES_MAX: usize = 4 << 20;
/// Keys of one page of a listing.
const PAGE: usize = 1_000;
/// The job's name, which decides to whom it falls.
pub const JOB: &str = "archive";
/// Longest wait for the last copy when the gateway ends.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// Why entries were not copied, or copies not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// The store.
    #[error("the archive of the journal: {0}")]
    Store(#[from] EntryStoreError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// A copy is damaged, or of a newer version.
    #[error("{key}: {error}")]
    Copy {
        /// Its key.
        key: String,
        /// What is wrong with it.
        error: CodecError,
    },
}

impl Classify for ArchiveError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Store(error) => error.class(),
            Self::Journal(error) => error.class(),
            Self::Copy { error, .. } => error.class(),
        }
    }
}

/// One object of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its first entry.
    pub first: Lsn,
    /// Its last entry.
    pub last: Lsn,
    key: String,
    size: u64,
}

/// The copies in a bucket.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<dyn EntryStore>,
}

impl Archive {
    /// The archive of this bucket.
    pub fn new(store: Arc<dyn EntryStore>) -> Self {
        Self { store }
    }

    /// Every copy, in order of its first entry. Two may overlap: a copy whose answer was lost is made again, longer.
    pub async fn list(&self) -> Result<Vec<Copied>, ArchiveError> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.store.list(PREFIX, after.as_deref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(key, _)| key.clone());
            all.extend(page.into_iter().filter_map(|(key, size)| {
                let (first, last) = key.strip_prefix(PREFIX)?.split_once('-')?;
                let (first, last) = (Lsn(first.parse().ok()?), Lsn(last.parse().ok()?));
                Some(Copied { first, last, key, size })
            }));
            if is_last {
                return Ok(all);
            }
        }
    }

    /// The entries of a copy.
    pub async fn read(&self, copy: &Copied) -> Result<Vec<(Lsn, Entry)>, ArchiveError> {
        let bytes = self.store.read(&copy.key, 0..copy.size).await?;
        let entries = decode(&bytes).map_err(|error| ArchiveError::Copy { key: copy.key.clone(), error })?;
        Ok((copy.first.0..).map(Lsn).zip(entries).collect())
    }

    async fn put(&self, entries: &[(Lsn, Entry)]) -> Result<(), ArchiveError> {
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else { return Ok(()) };
        let key = format!("{PREFIX}{:020}-{:020}", first.0, last.0);
        // Taken: this copy was made before, and its answer was lost. Entries never change.
        self.store.create(&key, &[Bytes::from(encode(entries.iter().map(|(_, entry)| entry)))]).await?;
        Ok(())
    }

    /// Forgets the copies that end before `lsn`. Tells the last entry that was copied, if any is.
    pub async fn delete_before(&self, lsn: Lsn) -> Result<Option<Lsn>, ArchiveError> {
        let all = self.list().await?;
        let last = all.iter().map(|copy| copy.last).max();
        let old: Vec<String> = all.into_iter().filter(|copy| copy.last < lsn).map(|copy| copy.key).collect();
        for keys in old.chunks(PAGE) {
            self.store.delete(keys).await?;
        }
        Ok(last)
    }
}

fn encode<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in entries {
        let bytes = encode_entry(entry);
        let length = u32::try_from(bytes.len()).expect("an entry is capped far below 4 GiB");
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&bytes);
    }
    frame(VERSION, body)
}

fn decode(bytes: &[u8]) -> Result<Vec<Entry>, CodecError> {
    let mut rest = unframe(COPY, VERSION, bytes)?;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let cut = || CodecError::malformed(COPY, "it is cut off");
        let (length, tail) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (entry, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut)?;
        entries.push(decode_entry(entry)?);
        rest = tail;
    }
    Ok(entries)
}

/// Copies a journal for as long as it lives.
#[derive(Debug)]
pub struct Archiver {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Archiver {
    /// Copies for as long as the job is this gateway's; what is appended is then in the bucket at the latest one `interval` and
    /// a PUT later. Needs a tokio runtime.
    pub fn start(journal: Arc<dyn Journal>, share: Share, archive: Archive, interval: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        let task = tokio::spawn(copy_on(journal, share, archive, interval, stopped));
        Self { stop, task }
    }

    /// Copies what is left, unless another gateway is there to do so, and ends. To be called once the session is closed.
    pub async fn finish(self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(FLUSH_MAX, self.task).await.is_err() {
            tracing::warn!("the last entries of the journal were not copied in time");
        }
    }
}

async fn copy_on(
    journal: Arc<dyn Journal>,
    mut share: Share,
    archive: Archive,
    interval: Duration,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tail = journal.tail();
    let mut copied = None;
    loop {
        let is_last = *stopped.borrow();
        let is_ours = if is_last { share.is_alone() } else { share.is_held() };
        if is_ours && let Err(error) = copy(journal.as_ref(), &archive, &mut copied).await {
            tracing::warn!(%error, "entries of the journal were not copied; trying again");
        }
        if is_last {
            return;
        }
        let due = async {
            tokio::time::sleep(interval).await;
            let _ = tail.wait_for(|head| Some(*head) > copied).await; // the journal outlives this task
        };
        let moved = async { if is_ours { share.lost().await } else { share.gained().await } };
        let is_other = tokio::select! {
            biased;
            _ = stopped.wait_for(|stop| *stop) => false,
            () = moved => true,
            () = due, if is_ours => false,
        };
        if is_other {
            copied = None; // another goes on from here, or did until now
        }
    }
}

/// Copies everything behind `copied`, which is unknown at first.
async fn copy(journal: &dyn Journal, archive: &Archive, copied: &mut Option<Lsn>) -> Result<(), ArchiveError> {
    let mut last = match *copied {
        Some(last) => last,
        None => archive.list().await?.last().map_or(Lsn(0), |copy| copy.last),
    };
    // What was trimmed since is in a snapshot.
    last = last.max(Lsn(journal.first().await?.0.saturating_sub(1)));
    let head = journal.head().await?;
    while last < head {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while bytes < OBJECT_BYTES_MAX {
            let some = journal.read(last, READ_ENTRIES).await?;
            let Some((end, _)) = some.last() else { break };
            last = *end;
            bytes += some.iter().map(|(_, entry)| crate::size::entry_bytes(entry)).sum::<usize>();
            entries.extend(some);
        }
        archive.put(&entries).await?;
        *copied = Some(last);
    }
    *copied = Some(last);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::journal::contract::entry;

    #[test]
    fn d1_the_bytes_of_a_copy_are_pinned() {
        let entries = [golden::entry(), Entry { follows: Some(Lsn(3)), sequence: 2, ..golden::entry() }];
        let bytes = encode(entries.iter());
        golden::check("archive_v1.hex", &bytes);
        assert_eq!(decode(&golden::read("archive_v1.hex")).unwrap(), entries);
    }

    #[test]
    fn l7_a_damaged_copy_is_no_copy() {
        let bytes = encode([entry(1), entry(2)].iter());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0x20;
            assert!(decode(&wrong).is_err(), "byte {at}");
        }
    }
}
