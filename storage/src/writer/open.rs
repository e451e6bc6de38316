//! The open segment: batches, and who waits for them.

use metadata::command::BatchOutcome;
use metadata::model::ids::TopicPartition;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cut::Gathered;
use super::{Permit, Submission};
use crate::error::WriteError;
use crate::segment::builder::SegmentBuilder;

/// A request and where its batches stand.
#[derive(Debug)]
pub(super) struct Waiting {
    /// For each submission its partition, and its number among the segment's batches of that partition.
    pub(super) places: Vec<(TopicPartition, usize)>,
    pub(super) answer: oneshot::Sender<Result<Vec<BatchOutcome>, WriteError>>,
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) permit: Permit,
}

impl Waiting {
    /// Answers the request, whether anyone listens or not, and frees its memory.
    pub(super) fn answer(self, answer: Result<Vec<BatchOutcome>, WriteError>) {
        let _ = self.answer.send(answer);
    }
}

/// A segment that still takes batches.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) builder: SegmentBuilder,
    pub(super) requests: Vec<Waiting>,
    pub(super) since: Instant,
}

impl OpenSegment {
    pub(super) fn new(now: Instant) -> Self {
        Self { builder: SegmentBuilder::default(), requests: Vec::new(), since: now }
    }

    pub(super) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    pub(super) fn add(&mut self, mut waiting: Waiting, submissions: Vec<Submission>) {
        for Submission { partition, batch, summary } in submissions {
            waiting.places.push((partition, self.builder.push(partition, batch, summary)));
        }
        self.requests.push(waiting);
    }

    pub(super) fn gathered(&self) -> Gathered {
        Gathered { requests: self.requests.len(), bytes: self.bytes(), since: self.since }
    }
}
