//! The way of one gateway to the journal that all share.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use metadata::command::Entry;
use metadata::error::{AppendError, ReadError};
use metadata::journal::Journal;
use metadata::journal::memory::MemoryJournal;
use metadata::model::ids::Lsn;
use tokio::sync::watch;
use tokio::time::sleep;

/// What comes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Everything.
    Open,
    /// Nothing, and that is told at once.
    Cut,
    /// Nothing, until it is open or cut.
    Held,
}

/// A journal at the other end of a wire.
#[derive(Debug)]
pub struct Wired {
    journal: Arc<MemoryJournal>,
    way: watch::Sender<Way>,
    /// What a read takes: each gateway is behind the others by a little.
    lag: Duration,
    /// A gateway that takes what it has heard for all there is; see [`super::run::Bug`].
    is_stale: bool,
}

impl Wired {
    /// An open way to it.
    pub fn new(journal: Arc<MemoryJournal>, lag: Duration, is_stale: bool) -> Self {
        Self { journal, way: watch::Sender::new(Way::Open), lag, is_stale }
    }

    /// Lets this much through from now on.
    pub fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Whether a message comes through; waits while it is held.
    async fn passes(&self) -> bool {
        let mut way = self.way.subscribe();
        // The sender lives in self.
        way.wait_for(|way| *way != Way::Held).await.is_ok_and(|way| *way == Way::Open)
    }

    async fn ask<T>(&self, question: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let cut = || ReadError::Unavailable("simulated: cut".into());
        if !self.passes().await {
            return Err(cut());
        }
        let answer = question.await;
        if self.passes().await { answer } else { Err(cut()) }
    }
}

#[async_trait]
impl Journal for Wired {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        if !self.passes().await {
            return Err(AppendError::KnownNotWritten("simulated: cut".into()));
        }
        let told = self.journal.append(entry).await;
        if self.passes().await { told } else { Err(AppendError::Unknown("simulated: the answer was cut off".into())) }
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        sleep(self.lag).await;
        self.ask(self.journal.read(after, limit)).await
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        if self.is_stale {
            return Ok(Lsn(0));
        }
        self.ask(self.journal.head()).await
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.journal.tail()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        self.ask(self.journal.trim(before)).await
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        self.ask(self.journal.first()).await
    }
}
