//! Segments that travel in the journal's own objects.

use std::fmt;

use bytes::Bytes;
use tokio::time::Instant;

use crate::command::CommitSegment;
use crate::model::extent::ObjectId;
use crate::size::commit_bytes;

/// A segment on its way into the journal's own object; its commit is made once the object's position is known.
pub struct Carried {
    /// Counts up whenever the submitter has taken note of every failure before. Once a segment is lost, all others of its
    /// generation that are not written yet are refused, for they may hold batches that must not overtake the lost ones.
    pub(crate) generation: u64,
    /// Past it the segment's position is filled with nothing, and its submitter told so.
    pub(crate) deadline: Instant,
    /// About how many bytes its commit takes in an entry.
    pub(crate) commit_bytes: usize,
    /// Makes the bytes and the commit, for an object of this identity.
    pub(crate) make: Box<dyn FnOnce(ObjectId) -> Made + Send>,
}

impl Carried {
    /// About how many bytes such a commit takes in an entry.
    pub fn bytes_of(commit: &CommitSegment) -> usize {
        commit_bytes(commit)
    }

    /// A segment whose commit will take about `commit_bytes`.
    pub fn new(
        generation: u64,
        deadline: Instant,
        commit_bytes: usize,
        make: impl FnOnce(ObjectId) -> Made + Send + 'static,
    ) -> Self {
        Self { generation, deadline, commit_bytes, make: Box::new(make) }
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Carried(generation {}, {} bytes)", self.generation, self.commit_bytes)
    }
}

/// A segment that knows its place.
#[derive(Debug)]
pub struct Made {
    /// What is to be committed.
    pub commit: CommitSegment,
    /// The segment's bytes.
    pub chunks: Vec<Bytes>,
}
