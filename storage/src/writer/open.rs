//! The open segment: batches, and who waits for them.

use std::time::Duration;

use metadata::command::BatchOutcome;
use metadata::model::ids::TopicPartition;
use metadata::model::profile::Profile;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cut::Gathered;
use super::{Permit, Submission};
use crate::error::WriteError;
use crate::options::{ProfileNumbers, WriterOptions};
use crate::segment::builder::SegmentBuilder;

/// Later than any batch's.
const LINGER_MAX: Duration = Duration::from_secs(86_400);

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
    segment_bytes: usize,
    linger_at: Instant,
    /// Whose budget it is cut by.
    budget: (f64, Option<Profile>),
}

impl OpenSegment {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            builder: SegmentBuilder::default(),
            requests: Vec::new(),
            since: now,
            segment_bytes: usize::MAX,
            linger_at: now + LINGER_MAX,
            budget: (0.0, None),
        }
    }

    /// By whose budget it is cut: the largest of those whose batches are in it.
    pub(super) fn profile(&self) -> Option<Profile> {
        self.budget.1
    }

    /// How large it should become, bytes.
    pub(super) fn segment_bytes(&self) -> usize {
        self.segment_bytes
    }

    fn tighten(&mut self, profile: Option<Profile>, numbers: &ProfileNumbers, now: Instant) {
        self.segment_bytes = self.segment_bytes.min(numbers.segment_bytes);
        self.linger_at = self.linger_at.min(now + numbers.linger_max);
        if numbers.put_budget > self.budget.0 {
            self.budget = (numbers.put_budget, profile);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.builder.bytes()
    }

    /// Adds a request, whose batches came at `now`.
    pub(super) fn add(
        &mut self,
        mut waiting: Waiting,
        submissions: Vec<Submission>,
        options: &WriterOptions,
        now: Instant,
    ) {
        for Submission { partition, batch, summary, profile } in submissions {
            self.tighten(profile, options.numbers_of(profile), now);
            waiting.places.push((partition, self.builder.push(partition, batch, summary)));
        }
        self.requests.push(waiting);
    }

    pub(super) fn gathered(&self) -> Gathered {
        let OpenSegment { requests, segment_bytes, linger_at, .. } = self;
        Gathered { requests: requests.len(), bytes: self.bytes(), segment_bytes: *segment_bytes, linger_at: *linger_at }
    }
}
