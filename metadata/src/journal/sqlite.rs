//! The journal of a gateway that needs nothing else: one SQLite file in its data folder, for one gateway at a time.
//!
//! WAL mode, synced at every commit, exclusively locked for as long as it is open. One thread owns the file; appends that
//! wait together become one transaction, so they share one sync.

mod file;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use self::file::JournalFile;
use crate::class::{Classify, ErrorClass};
use crate::codec::{decode_entry, encode_entry};
use crate::command::Entry;
use crate::error::{AppendError, ReadError};
use crate::journal::Journal;
use crate::model::ids::Lsn;

/// Name of the file in the data folder. SQLite keeps `journal.db-wal` beside it.
pub const FILE_NAME: &str = "journal.db";

/// Requests that may wait for the thread.
const REQUESTS_MAX: usize = 256;
/// Appends that share one transaction.
const GROUP_MAX: usize = 128;

/// Why the journal file could not be opened. Meant for whoever starts the gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open. Nothing was touched.
    #[error(
        "the data folder {} is in use by another process, which holds {FILE_NAME} locked: stop that gateway, or start this \
         one with a data folder of its own (--data)", .folder.display()
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
    },
    /// A newer version of StreamHouse wrote it. Nothing was touched.
    #[error("{} has format {found}, this version knows up to {known}: start the newer version again", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this version knows.
        known: i64,
    },
    /// The file is something else, or damaged.
    #[error("{} is not a readable journal: {reason}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder or file cannot be made, read or written.
    #[error("cannot use {}: {reason}", .path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

impl Classify for OpenError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Locked { .. } | Self::Newer { .. } => ErrorClass::Rejected,
            Self::Corrupt { .. } => ErrorClass::Corrupt,
            Self::Io { .. } => ErrorClass::Retry,
        }
    }
}

/// A journal in a file. Dropping it closes the file and frees its lock before the drop returns.
#[derive(Debug)]
pub struct SqliteJournal {
    requests: Option<mpsc::Sender<Request>>,
    known: Arc<Known>,
    thread: Option<JoinHandle<()>>,
}

/// What is known of the journal without asking the file: no one else can change it.
#[derive(Debug)]
struct Known {
    head: watch::Sender<Lsn>,
    first: AtomicU64,
}

/// An entry as it stands in the file.
type Row = (Lsn, Vec<u8>);
/// Where a request hears what came of it.
type Answer<T, E> = oneshot::Sender<Result<T, E>>;
/// An append that waits to share a transaction.
type Grouped = (Vec<u8>, Answer<Lsn, AppendError>);

enum Request {
    Append { bytes: Vec<u8>, answer: Answer<Lsn, AppendError> },
    Read { after: Lsn, limit: usize, answer: Answer<Vec<Row>, ReadError> },
    Trim { before: Lsn, answer: Answer<(), ReadError> },
}

impl SqliteJournal {
    /// Opens the journal in `folder`, making both if they are not there. Blocks for as long as the disk takes.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let file = JournalFile::open(folder)?;
        let known = Arc::new(Known { head: watch::Sender::new(file.head()), first: file.first().0.into() });
        let (requests, queue) = mpsc::channel(REQUESTS_MAX);
        let shown = Arc::clone(&known);
        let thread = std::thread::Builder::new()
            .name("journal-sqlite".into())
            .spawn(move || serve(file, queue, &shown))
            .map_err(|error| OpenError::Io { path: folder.to_owned(), reason: error.to_string() })?;
        Ok(Self { requests: Some(requests), known, thread: Some(thread) })
    }

    /// Makes a journal in `folder` that begins with this entry at this position, the journal before it being lost. Refused
    /// where there is one with entries. Blocks for as long as the disk takes.
    pub fn begin_at(folder: &Path, lsn: Lsn, entry: &Entry) -> Result<(), OpenError> {
        let problem = |reason: String| OpenError::Io { path: folder.join(FILE_NAME), reason };
        let mut file = JournalFile::open(folder)?;
        file.begin_at(lsn, encode_entry(entry)).map_err(|error| problem(error.to_string()))
    }

    /// Puts a request to the thread; `None` if the thread is gone.
    async fn ask(&self, request: Request) -> Option<()> {
        self.requests.as_ref()?.send(request).await.ok()
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.requests = None; // the thread ends when it has served what was asked
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there was printed there
        }
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Append { bytes: encode_entry(entry), answer }).await.ok_or(AppendError::Closed)?;
        answered.await.unwrap_or_else(|_| Err(AppendError::Unknown("the journal's thread ended".into())))
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Read { after, limit, answer }).await.ok_or(ReadError::Closed)?;
        let rows = answered.await.map_err(|_| ReadError::Closed)??;
        let decode = |(lsn, bytes): Row| match decode_entry(&bytes) {
            Ok(entry) => Ok((lsn, entry)),
            Err(error) => Err(ReadError::Corrupt(format!("entry {lsn}: {error}").into())),
        };
        rows.into_iter().map(decode).collect()
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        Ok(*self.known.head.borrow())
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.known.head.subscribe()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Request::Trim { before, answer }).await.ok_or(ReadError::Closed)?;
        answered.await.map_err(|_| ReadError::Closed)?
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        Ok(Lsn(self.known.first.load(Ordering::Acquire)))
    }
}

/// A trim under way: it is done in steps, with appends in between.
struct Trimming {
    before: Lsn,
    answer: Answer<(), ReadError>,
}

/// The thread: serves requests until no one can ask any more.
fn serve(mut file: JournalFile, mut queue: mpsc::Receiver<Request>, known: &Known) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    let mut trimming: Option<Trimming> = None;
    loop {
        let next = if trimming.is_some() { queue.try_recv().ok() } else { queue.blocking_recv() };
        if next.is_none() && trimming.is_none() {
            return; // closed and empty
        }
        let mut next = next;
        while let Some(request) = next.take() {
            match request {
                Request::Append { bytes, answer } => {
                    group.push((bytes, answer));
                    if group.len() < GROUP_MAX {
                        next = queue.try_recv().ok();
                    }
                }
                Request::Read { after, limit, answer } => {
                    append_group(&mut file, &mut group, known);
                    let _ = answer.send(file.read(after, limit)); // whoever asked may have gone
                }
                Request::Trim { before, answer } => {
                    if let Some(earlier) = trimming.replace(Trimming { before, answer }) {
                        let gave_way = ReadError::Unavailable("another trim took its place".into());
                        let _ = earlier.answer.send(Err(gave_way)); // whoever asked may have gone
                    }
                }
            }
        }
        append_group(&mut file, &mut group, known);
        trimming = trimming.and_then(|trimming| trim_step(&mut file, trimming, known));
        file.write_back(trimming.is_none() && queue.is_empty());
    }
}

fn append_group(file: &mut JournalFile, group: &mut Vec<Grouped>, known: &Known) {
    if group.is_empty() {
        return;
    }
    let (entries, answers): (Vec<_>, Vec<_>) = group.drain(..).unzip();
    let appended = file.append(&entries);
    match appended {
        Ok(lsns) => {
            known.head.send_replace(*lsns.end());
            for (lsn, answer) in (lsns.start().0..).zip(answers) {
                let _ = answer.send(Ok(Lsn(lsn))); // whoever asked may have gone
            }
        }
        Err(error) => {
            for answer in answers {
                let _ = answer.send(Err(error.clone())); // whoever asked may have gone
            }
        }
    }
}

/// Forgets a bounded number of entries; gives the trim back if it is not done.
fn trim_step(file: &mut JournalFile, trimming: Trimming, known: &Known) -> Option<Trimming> {
    match file.trim_some(trimming.before) {
        Ok(is_done) => {
            known.first.store(file.first().0, Ordering::Release);
            if !is_done {
                return Some(trimming);
            }
            let _ = trimming.answer.send(Ok(())); // whoever asked may have gone
        }
        Err(error) => {
            let _ = trimming.answer.send(Err(error)); // whoever asked may have gone
        }
    }
    None
}
