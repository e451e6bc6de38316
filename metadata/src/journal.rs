//! The journal: a totally ordered, durable list of entries. The one place where gateways meet.
//!
//! Backends differ in where the list lives; `contract` holds the cases every one of them must pass.

use std::fmt::Debug;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::command::Entry;
use crate::error::{AppendError, ReadError};
use crate::model::ids::Lsn;

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
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
}
