//! Where the time of a commit goes: a journal that remembers when its last append began and ended.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use metadata::command::Entry;
use metadata::error::{AppendError, ReadError};
use metadata::journal::Journal;
use metadata::model::ids::Lsn;
use tokio::sync::watch;

use super::report::ms;

/// A commit, and the parts of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Steps {
    /// From submit to outcome.
    pub took: Duration,
    /// Until its entry was given to the journal.
    before: Duration,
    /// Until the journal had it.
    append: Duration,
    /// Until it was applied, what others appended before it first, and its outcome told.
    after: Duration,
}

impl std::fmt::Display for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { took, before, append, after } = *self;
        write!(f, "{} ({} + {} + {})", ms(took), ms(before), ms(append), ms(after))
    }
}

/// A journal whose appends are timed.
#[derive(Debug)]
pub struct Timed {
    journal: Arc<dyn Journal>,
    last: Mutex<Option<(Instant, Instant)>>,
}

impl Timed {
    /// Times the appends to this one.
    pub fn new(journal: Arc<dyn Journal>) -> Arc<Self> {
        Arc::new(Self { journal, last: Mutex::default() })
    }

    /// The steps of a commit that began then and has just ended, if nothing of this gateway was appended beside it; the journal's part
    /// is that of the last append.
    pub fn steps_since(&self, began: Instant) -> Steps {
        let ended = Instant::now();
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = last.unwrap_or((began, began));
        let (before, append) = (from.saturating_duration_since(began), to.saturating_duration_since(from));
        Steps { took: ended - began, before, append, after: ended.saturating_duration_since(to) }
    }
}

#[async_trait]
impl Journal for Timed {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        let from = Instant::now();
        let appended = self.journal.append(entry).await;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((from, Instant::now()));
        appended
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        self.journal.read(after, limit).await
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        self.journal.head().await
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.journal.tail()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        self.journal.trim(before).await
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        self.journal.first().await
    }
}
