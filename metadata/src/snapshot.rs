//! The whole state at an LSN, kept outside the journal, so that a start need not read the journal from its beginning and the
//! journal can forget it.
//!
//! The state is cloned under the read lock, on a blocking thread, and encoded from the clone. Cloning copies memory; encoding
//! is several times slower, and while anyone reads, apply waits. The price is the state's memory twice for a moment.
//!
//! Two snapshots are kept, and the journal from the older one on: if the newest turns out to be damaged, the one before it
//! and the journal still give the same state.

#[cfg(any(test, feature = "test-util"))]
pub mod contract;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::aside::off_thread;
use crate::backoff::Backoff;
use crate::class::Classify;
use crate::command::Entry;
use crate::error::{ReadError, SnapshotError, SnapshotStoreError, StartError};
use crate::failpoint::bug_here;
use crate::journal::Journal;
use crate::metrics::JournalMetrics;
use crate::model::ids::{Lsn, SessionId};
use crate::options::MetadataOptions;
use crate::rendezvous;
use crate::replica::{Growth, READ_ENTRIES, Replica, Shortcut, check_next};
use crate::size::entry_bytes;
use crate::state::State;

/// Longest pause before a snapshot that could not be written is tried again.
const RETRY_MAX: Duration = Duration::from_secs(60);
const RETRY_INITIAL: Duration = Duration::from_secs(1);
/// Damaged snapshots passed over at start before giving up; only two are kept.
const DAMAGED_MAX: usize = 4;

/// Where snapshots are kept. A snapshot is immutable and named by its LSN; putting the same one again is harmless.
#[async_trait]
pub trait SnapshotStore: Debug + Send + Sync {
    /// Keeps the snapshot of `lsn`; durable and whole, or not there at all, when this returns.
    async fn put(&self, lsn: Lsn, bytes: Vec<u8>) -> Result<(), SnapshotStoreError>;

    /// The newest snapshot; with `below`, the newest of an LSN below that one.
    async fn newest(&self, below: Option<Lsn>) -> Result<Option<(Lsn, Vec<u8>)>, SnapshotStoreError>;

    /// Forgets the snapshots of an LSN below `lsn`, but for those that are kept for longer (see
    /// [`MetadataOptions::restore_window_ms`]), and tells what is kept.
    async fn delete_before(&self, lsn: Lsn) -> Result<Kept, SnapshotStoreError>;
}

/// What a store of snapshots keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// The oldest snapshot, at most the one that was asked about: from there on entries of the journal may be of use.
    pub oldest: Lsn,
    /// The last entry there is a copy of, where the state of any time is to be told from copies: what is behind it must stay in
    /// the journal until it is copied.
    pub copied: Option<Lsn>,
}

/// The newest snapshot, for those who fell behind a trim.
#[derive(Debug)]
pub(crate) struct Newest(pub(crate) Arc<dyn SnapshotStore>);

#[async_trait]
impl Shortcut for Newest {
    async fn newest(&self) -> Result<Option<State>, ReadError> {
        let unavailable = |error: SnapshotStoreError| ReadError::Unavailable(error.to_string().into());
        let Some((lsn, bytes)) = self.0.newest(None).await.map_err(unavailable)? else { return Ok(None) };
        let state =
            State::decode(&bytes).map_err(|error| ReadError::Corrupt(format!("snapshot {lsn}: {error}").into()));
        state.map(Some)
    }
}

/// The state at the journal's end.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    /// The snapshot it was built on; 0 if none.
    pub(crate) base: Lsn,
    /// What was applied on top of that.
    pub(crate) growth: Growth,
}

/// Builds the state from the newest readable snapshot and the journal's tail.
pub(crate) async fn load(
    journal: &dyn Journal,
    snapshots: &dyn SnapshotStore,
    metrics: &JournalMetrics,
) -> Result<Loaded, StartError> {
    let first = journal.first().await?;
    let (mut state, base, head) = newest_readable(first, journal, snapshots, metrics).await?;
    let growth = Growth::default();
    while state.applied() < head {
        let entries = journal.read(state.applied(), READ_ENTRIES).await?;
        if entries.is_empty() {
            return Err(ReadError::Corrupt(format!("entries after {} are not there", state.applied()).into()).into());
        }
        for (lsn, entry) in &entries {
            check_next(state.applied(), *lsn)?;
            state.apply(*lsn, entry);
            growth.add(entry_bytes(entry) as u64);
        }
    }
    Ok(Loaded { state, base, growth })
}

/// The newest snapshot that can be read and that the journal continues. With none at all, the journal itself must be whole.
/// Tells its LSN and the head of the journal.
async fn newest_readable(
    first: Lsn,
    journal: &dyn Journal,
    snapshots: &dyn SnapshotStore,
    metrics: &JournalMetrics,
) -> Result<(State, Lsn, Lsn), StartError> {
    let mut below = None;
    let mut tried = Vec::new();
    let mut head = None;
    while tried.len() < DAMAGED_MAX {
        let Some((lsn, bytes)) = snapshots.newest(below).await? else { break };
        if head.is_none() {
            journal.reached(lsn); // the newest snapshot, whether it can be read or not, was taken of what was in the journal
        }
        let head = match head {
            Some(head) => head,
            None => *head.insert(journal.head().await?),
        };
        if lsn > head {
            return Err(StartError::JournalBehind { head, snapshot: lsn });
        }
        if lsn.0 + 1 < first.0 {
            tried.push(format!("snapshot {lsn} is too old"));
            break;
        }
        match State::decode(&bytes) {
            Ok(state) if state.applied() == lsn => {
                metrics.snapshot_lsn.set(lsn.0);
                metrics.snapshot_bytes.set(bytes.len() as u64);
                return Ok((state, lsn, head));
            }
            Ok(state) => tried.push(format!("snapshot {lsn} is of entry {}", state.applied())),
            Err(error) => tried.push(format!("snapshot {lsn}: {error}")),
        }
        below = Some(lsn);
    }
    for problem in &tried {
        tracing::warn!(%problem, "a snapshot was passed over");
    }
    if first.0 <= 1 {
        let head = match head {
            Some(head) => head,
            None => journal.head().await?,
        };
        return Ok((State::default(), Lsn(0), head));
    }
    let tried = if tried.is_empty() { "there is none".into() } else { tried.join("; ") };
    Err(StartError::SnapshotMissing { first, tried })
}

/// Takes a snapshot whenever one is due, and lets the journal forget what two snapshots hold.
#[derive(Debug)]
pub(crate) struct Snapshotter {
    pub(crate) replica: Arc<Replica>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) snapshots: Arc<dyn SnapshotStore>,
    pub(crate) options: MetadataOptions,
    pub(crate) metrics: JournalMetrics,
    /// The last snapshot known to be in the store; 0 if none.
    pub(crate) last: tokio::sync::Mutex<Lsn>,
}

impl Snapshotter {
    /// Runs until dropped.
    pub(crate) async fn run(&self) {
        let mut backoff = Backoff::new(RETRY_INITIAL, RETRY_MAX, self.replica.lives.session().0.rotate_left(32));
        loop {
            if !self.replica.growth.is_due(&self.options) {
                self.replica.growth.due.notified().await;
            }
            match self.take_if_due().await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    self.metrics.snapshot_failures.inc();
                    tracing::warn!(%error, class = ?error.class(), "a snapshot was not written; trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    /// Takes a snapshot if one is due. Cancel safe: a snapshot that was put without being noted is put again, newer.
    pub(crate) async fn take_if_due(&self) -> Result<(), SnapshotError> {
        let mut last = self.last.lock().await;
        if !self.replica.growth.is_due(&self.options) {
            return Ok(());
        }
        if !self.is_ours() {
            // It falls to another gateway, which has seen as many entries.
            self.replica.growth.settle(self.replica.growth.measure());
            return Ok(());
        }
        let replica = Arc::clone(&self.replica);
        let encoding = off_thread(move || {
            let (mut state, growth) = replica.read(|state| (state.clone(), replica.growth.measure()));
            if bug_here("snapshot::misses_entry") {
                let nothing =
                    Entry { session: SessionId::NONE, sequence: 0, time_ms: 0, commands: Vec::new(), follows: None };
                state.apply(Lsn(state.applied().0 + 1), &nothing);
            }
            (state.applied(), state.encode(), growth)
        });
        let (lsn, bytes, growth) = encoding.await.map_err(|error| SnapshotError::Encoding(error.to_string().into()))?;
        let size = bytes.len() as u64;
        self.snapshots.put(lsn, bytes).await?;
        self.replica.growth.settle(growth);
        self.metrics.snapshots.inc();
        self.metrics.snapshot_lsn.set(lsn.0);
        self.metrics.snapshot_bytes.set(size);
        tracing::info!(%lsn, bytes = size, "snapshot written");
        let previous = std::mem::replace(&mut *last, lsn);
        if previous.0 > 0 {
            let Kept { oldest, copied } = self.snapshots.delete_before(previous).await?;
            // A journal in the bucket is its own archive; of any other there are copies, which take their time.
            let kept = match self.journal.carrier() {
                Some(_) => oldest,
                None => previous.min(copied.unwrap_or(previous)),
            };
            self.journal.trim(Lsn(kept.0 + 1)).await?;
        }
        Ok(())
    }
}

impl Snapshotter {
    /// Of several gateways one takes the snapshots.
    fn is_ours(&self) -> bool {
        if self.options.session_timeout().is_none() {
            return true;
        }
        let own = self.replica.lives.session();
        let owner = |state: &State| rendezvous::owner(state.sessions(), "snapshot").map(|owner| owner.id);
        self.replica.read(owner).is_none_or(|owner| owner == own)
    }
}

/// Snapshots in memory, for tests.
#[cfg(any(test, feature = "test-util"))]
#[derive(Debug, Default)]
pub struct MemorySnapshots(std::sync::Mutex<std::collections::BTreeMap<Lsn, Vec<u8>>>);

#[cfg(any(test, feature = "test-util"))]
impl MemorySnapshots {
    /// The LSNs there are snapshots of.
    pub fn lsns(&self) -> Vec<Lsn> {
        self.kept().keys().copied().collect()
    }

    /// Flips a bit in the middle of a snapshot.
    pub fn damage(&self, lsn: Lsn) {
        if let Some(bytes) = self.kept().get_mut(&lsn) {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<Lsn, Vec<u8>>> {
        self.0.lock().expect("nothing panics while it holds the snapshots")
    }
}

#[cfg(any(test, feature = "test-util"))]
#[async_trait]
impl SnapshotStore for MemorySnapshots {
    async fn put(&self, lsn: Lsn, bytes: Vec<u8>) -> Result<(), SnapshotStoreError> {
        self.kept().insert(lsn, bytes);
        Ok(())
    }

    async fn newest(&self, below: Option<Lsn>) -> Result<Option<(Lsn, Vec<u8>)>, SnapshotStoreError> {
        let below = below.unwrap_or(Lsn(u64::MAX));
        Ok(self.kept().range(..below).next_back().map(|(lsn, bytes)| (*lsn, bytes.clone())))
    }

    async fn delete_before(&self, lsn: Lsn) -> Result<Kept, SnapshotStoreError> {
        self.kept().retain(|kept, _| *kept >= lsn);
        Ok(Kept { oldest: lsn, copied: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_memory_store_keeps_the_contract() {
        contract::every_case(&MemorySnapshots::default()).await;
    }
}
