//! Segments that travel in the journal's own objects: one PUT for bytes and commit together.
//!
//! One task submits them in the order of their cuts and answers them in that order. Several are under way at once; their
//! positions in the journal are consecutive, and each is decided once all before it are.
//!
//! When one is lost, all behind it that are under way are lost too (the journal sees to that). Nothing new is submitted until
//! all of them are known to be, so that [`Gaps`] knows every batch that must come again before a later one; then a new
//! generation begins.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use metadata::carried::{Carried, Made};
use metadata::class::{Classify, ErrorClass};
use metadata::command::{CommitSegment, Outcome, PartitionCommit};
use metadata::error::SubmitError;
use metadata::failpoint::crash_here;
use metadata::handle::Ticket;
use metadata::model::extent::ObjectId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Desk;
use super::flush::{Begun, COMMIT_MAX, cut_segments, decided, find};
use super::gaps::Gaps;
use super::open::Waiting;
use crate::blob::BlobError;
use crate::cache::tail::StagedSegment;
use crate::error::WriteError;
use crate::segment::builder::SegmentBuilder;
use crate::segment::format::SEGMENT_MAX_BYTES;

/// A segment on its way, or whose requests were told that its outcome is not known, and which still is.
#[derive(Debug)]
struct Aloft {
    flight: u64,
    /// Empty once they are answered.
    requests: Vec<Waiting>,
    partitions: Vec<PartitionCommit>,
    /// Which of the batches are not part of the commit; see [`Gaps`].
    held: Option<Vec<Vec<bool>>>,
    /// Known once the segment has its position.
    object: Arc<OnceLock<ObjectId>>,
    ticket: Ticket,
    began: Instant,
    answer_by: Instant,
}

#[derive(Debug)]
struct Dispatcher {
    desk: Arc<Desk>,
    /// Cut and not submitted yet.
    waiting: VecDeque<Begun>,
    aloft: VecDeque<Aloft>,
    gaps: Gaps,
    generation: u64,
    /// A segment was lost: nothing is submitted until all that are aloft are decided.
    is_broken: bool,
}

/// Spawns the two tasks; the second ends when the first has.
pub(super) fn start(desk: &Arc<Desk>) {
    let (cut, to_carry) = mpsc::channel(desk.parts.options.uploads_max.max(1));
    desk.tasks.spawn(cut_segments(Arc::clone(desk), cut, |_, begun| begun));
    desk.tasks.spawn(carry_segments(Arc::clone(desk), to_carry));
}

/// Carries segments until no more are cut and everyone is answered.
async fn carry_segments(desk: Arc<Desk>, mut cut: mpsc::Receiver<Begun>) {
    let mut dispatcher = Dispatcher {
        desk,
        waiting: VecDeque::new(),
        aloft: VecDeque::new(),
        gaps: Gaps::default(),
        generation: 0,
        is_broken: false,
    };
    let mut has_ended = false;
    loop {
        dispatcher.submit_all().await;
        let is_answered = dispatcher.aloft.iter().all(|aloft| aloft.requests.is_empty());
        if has_ended && dispatcher.waiting.is_empty() && is_answered {
            return;
        }
        let next_expiry = dispatcher.next_expiry();
        let expiry = async {
            match next_expiry {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let front = dispatcher.aloft.front_mut().map(|aloft| &mut aloft.ticket);
        let decided = async {
            match front {
                Some(ticket) => ticket.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            outcome = decided => dispatcher.land(outcome),
            begun = cut.recv(), if !has_ended => match begun {
                Some(begun) => dispatcher.waiting.push_back(begun),
                None => has_ended = true,
            },
            () = expiry => dispatcher.expire(Instant::now()),
        }
    }
}

impl Dispatcher {
    async fn submit_all(&mut self) {
        while !self.is_broken && self.aloft.len() < self.desk.parts.options.uploads_max.max(1) {
            let Some(begun) = self.waiting.pop_front() else { return };
            self.submit(begun).await;
        }
    }

    async fn submit(&mut self, begun: Begun) {
        let Begun { flight, builder, requests, deadline } = begun;
        let now = Instant::now();
        let partitions = builder.layout();
        if builder.bytes() as u64 > SEGMENT_MAX_BYTES / 2 {
            let error = BlobError::Invalid("a segment would be larger than 2 GiB".into());
            return self.give_up(flight, requests, &partitions, &WriteError::Storage(error));
        }
        let mut commit = CommitSegment { object: ObjectId::default(), object_bytes: 0, partitions: partitions.clone() };
        let held = self.gaps.hold_back(&mut commit, now);
        let object = Arc::new(OnceLock::new());
        let (desk, name) = (Arc::clone(&self.desk), Arc::clone(&object));
        let bytes = Carried::bytes_of(&commit);
        let carried = Carried::new(self.generation, deadline, bytes, move |id| {
            let _ = name.set(id); // called once
            desk.make(builder, id, commit.partitions)
        });
        let answer_by = deadline + COMMIT_MAX;
        let queued = timeout_at(answer_by, self.desk.parts.metadata.carry(carried)).await;
        let queued =
            queued.unwrap_or_else(|_| Err(SubmitError::Unavailable("no place in the journal's queue in time".into())));
        match queued {
            Ok(ticket) => {
                self.aloft.push_back(Aloft {
                    flight,
                    requests,
                    partitions,
                    held,
                    object,
                    ticket,
                    began: now,
                    answer_by,
                });
            }
            Err(error) => self.give_up(flight, requests, &partitions, &error.into()),
        }
    }

    /// A segment that was never submitted: definite.
    fn give_up(&mut self, flight: u64, requests: Vec<Waiting>, partitions: &[PartitionCommit], error: &WriteError) {
        tracing::warn!(%error, requests = requests.len(), "a segment was not submitted to the journal");
        self.gaps.note(partitions, Instant::now());
        self.desk.fail(flight, requests, error);
    }

    /// The oldest segment under way is decided.
    fn land(&mut self, outcome: Result<Outcome, SubmitError>) {
        let Some(aloft) = self.aloft.pop_front() else { return };
        let Aloft { flight, requests, partitions, held, object, ticket: _, began, answer_by: _ } = aloft;
        let object = object.get().copied();
        match (decided(outcome, &partitions, held.as_deref()), object) {
            (Ok(outcomes), Some(object)) => {
                crash_here("writer::before_answer");
                self.desk.settle(object, &partitions, &outcomes);
                let bytes: u64 = partitions.iter().flat_map(|part| &part.batches).map(|b| u64::from(b.length)).sum();
                self.desk.parts.metrics.committed_bytes.inc_by(bytes);
                self.desk.parts.metrics.upload_seconds.observe(began.elapsed().as_secs_f64());
                if !requests.is_empty() {
                    self.desk.land(flight, requests.len(), "decided");
                }
                for request in requests {
                    let of_request =
                        request.places.iter().map(|(tp, number)| find(&partitions, &outcomes, tp, *number));
                    let answer = of_request.collect();
                    request.answer(Ok(answer));
                }
                self.desk.look.notify_one();
            }
            (decided, object) => {
                let error = decided.err().unwrap_or_else(|| WriteError::Unknown("it was decided unseen".into()));
                tracing::warn!(?object, %error, requests = requests.len(), "a segment was not committed");
                if error.class() != ErrorClass::Unknown {
                    object.into_iter().for_each(|object| self.desk.parts.tail.forget(object));
                }
                self.gaps.note(&partitions, Instant::now());
                self.is_broken = true;
                if !requests.is_empty() {
                    self.desk.fail(flight, requests, &error);
                }
            }
        }
        if self.aloft.is_empty() && self.is_broken {
            self.is_broken = false;
            self.generation += 1;
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|begun| begun.deadline);
        let aloft = self.aloft.iter().filter(|aloft| !aloft.requests.is_empty()).map(|aloft| aloft.answer_by);
        waiting.chain(aloft).min()
    }

    /// Answers those whose time is over: what was not submitted is definitely not written, of the rest it is not known.
    fn expire(&mut self, now: Instant) {
        for begun in std::mem::take(&mut self.waiting) {
            if begun.deadline > now {
                self.waiting.push_back(begun);
                continue;
            }
            let why = SubmitError::Unavailable("the journal did not take the segments before it in time".into());
            self.give_up(begun.flight, begun.requests, &begun.builder.layout(), &WriteError::Journal(why));
        }
        let unknown = WriteError::Unknown("the journal did not say in time whether it took the segment".into());
        for aloft in self.aloft.iter_mut().filter(|aloft| aloft.answer_by <= now && !aloft.requests.is_empty()) {
            self.desk.fail(aloft.flight, std::mem::take(&mut aloft.requests), &unknown);
        }
    }
}

impl Desk {
    /// Lays a segment out for its position. Its batches are in the tail cache before its commit can be applied: whoever that
    /// wakes shall find them.
    fn make(&self, builder: SegmentBuilder, object: ObjectId, committed: Vec<PartitionCommit>) -> Made {
        let name_of = |topic| {
            self.parts.metadata.read(|state| state.topics().get(topic).map(|topic| topic.name().as_str().to_owned()))
        };
        crash_here("writer::before_put");
        let Some(built) = builder.finish(object, self.parts.clock.now_ms(), name_of) else {
            // Cannot be: the bytes were looked at before. An empty commit is answered as one of unknown outcome.
            let commit = CommitSegment { object, object_bytes: 0, partitions: Vec::new() };
            return Made { commit, chunks: Vec::new() };
        };
        self.parts.tail.stage(StagedSegment::new(&built.commit, built.runs));
        let commit = CommitSegment { partitions: committed, ..built.commit };
        Made { commit, chunks: built.payload.chunks().to_vec() }
    }
}

#[cfg(test)]
mod tests;
