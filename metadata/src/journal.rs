//! The journal: a totally ordered, durable list of entries. The one place where gateways meet.
//!
//! Backends differ in where the list lives; `contract` holds the cases every one of them must pass.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::command::Entry;
use crate::error::{AppendError, ReadError};
use crate::model::ids::Lsn;

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
pub mod object;
pub mod postgres;
pub mod sqlite;

/// A totally ordered, durable list of entries, shared by every gateway of a cell.
///
/// LSNs are dense from 1 and become visible in order: whoever can read entry `n` can read every kept entry before it.
///
/// Dropping a call's future leaves its effect unknown; nothing else is lost by it.
#[async_trait]
pub trait Journal: Debug + Send + Sync {
    /// Puts `entry` at the end. When this returns, the entry is durable and ordered.
    ///
    /// The error tells whether the entry is known not to be written; after [`AppendError::Unknown`] append the same entry
    /// again: a repetition takes a place of its own and `apply` ignores it.
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError>;

    /// The entries after `after`, in order, at most `limit` of them and possibly fewer; none only if `after` is the head.
    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError>;

    /// Position of the last entry, 0 if there was never one. Linearizable: not before any append that returned, at any
    /// gateway, when this was called.
    async fn head(&self) -> Result<Lsn, ReadError>;

    /// The head as far as this process has heard; changes when it moves. A hint to read: it may lag, it never leads.
    fn tail(&self) -> watch::Receiver<Lsn>;

    /// Forgets the entries before `before`. The last entry is always kept, so that the head outlives every trim.
    async fn trim(&self, before: Lsn) -> Result<(), ReadError>;

    /// Position of the first entry kept; one past the head if there was never one.
    async fn first(&self) -> Result<Lsn, ReadError>;

    /// Hears that the entries up to here were once seen in the journal, as a snapshot says: a backend that finds its head by
    /// looking need not look further back.
    fn reached(&self, _lsn: Lsn) {}

    /// The way to put segments into the journal's own objects, if this backend has one.
    fn carrier(&self) -> Option<&dyn Carrier> {
        None
    }
}

/// A journal each entry of which is an object, so that a segment can travel with its commit: one PUT instead of two.
///
/// Several entries may be on their way at once, at consecutive positions; each says whom it follows
/// ([`Entry::follows`](crate::command::Entry::follows)).
#[async_trait]
pub trait Carrier: Debug + Send + Sync {
    /// Takes the next position. Whoever takes one must put something there: all behind it wait for it.
    fn reserve(&self) -> Lsn;

    /// Puts an entry, with the bytes of a segment before it, at a reserved position. When this returns, that position and
    /// every one before it are written. Past the deadline (20 s if there is none) the position is filled with an empty entry.
    ///
    /// [`AppendError::KnownNotWritten`]: something else stands there now, the entry never will. Never
    /// [`AppendError::Unknown`] but for a task that was ended: it is tried until the outcome is known. Dropped, it is tried on.
    async fn put_at(
        &self,
        at: Lsn,
        entry: &Entry,
        segment: Vec<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<(), AppendError>;

    /// Closes the gaps between the head and what a writer before us left behind them. Called once, after our session was
    /// opened and before anything else is put: whatever lies there is fenced by then.
    async fn take_over(&self) -> Result<(), ReadError>;

    /// Gives up what is still being tried: this writer's session is over.
    fn close(&self);
}
