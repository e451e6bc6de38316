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

use super::log::Log;

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
    log: Arc<Log>,
    life: u64,
    way: watch::Sender<Way>,
    /// What a read takes: each gateway is behind the others by a little.
    lag: Duration,
}

impl Wired {
    /// An open way to it, for one life of a gateway.
    pub fn new(journal: Arc<MemoryJournal>, lag: Duration, log: Arc<Log>, life: u64) -> Self {
        Self { journal, log, life, way: watch::Sender::new(Way::Open), lag }
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
        let Entry { session, sequence, commands, .. } = entry;
        let (life, count) = (self.life, commands.len());
        self.log.note(format_args!("life {life} appends {session}/{sequence}, {count} commands: {told:?}"));
        if self.passes().await { told } else { Err(AppendError::Unknown("simulated: the answer was cut off".into())) }
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        sleep(self.lag).await;
        let found = self.ask(self.journal.read(after, limit)).await;
        let count = found.as_ref().map(Vec::len);
        self.log.note(format_args!("life {} reads after {after}: {count:?}", self.life));
        found
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
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
