//! The writer's three tasks, one for each order that has to hold: cutting, committing, answering.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metadata::class::{Classify, ErrorClass};
use metadata::command::{BatchOutcome, Command, CommitSegment, Outcome, PartitionCommit, Refusal};
use metadata::error::SubmitError;
use metadata::failpoint::{bug_here, crash_here};
use metadata::handle::Ticket;
use metadata::model::batch::BatchSummary;
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::State;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cut::{Answered, CutReason, Decision, View, decide};
use super::gaps::Gaps;
use super::open::{OpenSegment, Waiting};
use super::{Books, Desk};
use crate::blob::{BlobError, Operation, Payload};
use crate::cache::tail::StagedSegment;
use crate::error::WriteError;
use crate::metrics::{AnswerLabel, CutLabel};
use crate::segment::builder::SegmentBuilder;

/// Time that an upload gets in any case, however long its batches waited for it.
const UPLOAD_MIN: Duration = Duration::from_secs(4);
/// How long a commit may take after the deadline of its upload, before its outcome counts as unknown.
pub(super) const COMMIT_MAX: Duration = Duration::from_secs(5);

/// Segments under way, from their cut to their answers.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: BTreeMap<u64, Flight>,
    next: u64,
    usual: Option<Duration>,
    answered: Option<Answered>,
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    requests: usize,
    began: Instant,
}

impl Flights {
    fn begin(&mut self, requests: usize, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.under_way.insert(number, Flight { requests, began: now });
        number
    }

    /// Notes that a segment's requests are about to be answered; `open` other requests wait meanwhile.
    fn land(&mut self, number: u64, open: usize, succeeded: bool, now: Instant) {
        let under_way: usize = self.under_way.values().map(|flight| flight.requests).sum();
        let Some(flight) = self.under_way.remove(&number) else { return };
        if succeeded {
            let took = now - flight.began;
            self.usual = Some(self.usual.map_or(took, |usual| (usual * 3 + took) / 4));
            self.answered = Some(Answered { at: now, outstanding: under_way + open });
        }
    }
}

/// A cut segment before anything was done with it.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) flight: u64,
    pub(super) builder: SegmentBuilder,
    pub(super) requests: Vec<Waiting>,
    pub(super) deadline: Instant,
}

/// A cut segment on its way.
#[derive(Debug)]
struct UnderWay {
    flight: u64,
    object: ObjectId,
    requests: Vec<Waiting>,
    upload: JoinHandle<Result<Uploaded, NotStored>>,
    commit_by: Instant,
}

/// A durable segment.
#[derive(Debug)]
struct Uploaded {
    commit: CommitSegment,
    staged: StagedSegment,
    at: Instant,
}

/// A segment that is not durable, or not known to be.
#[derive(Debug)]
struct NotStored {
    error: BlobError,
    partitions: Vec<PartitionCommit>,
}

/// A segment whose commit has its place in the journal's order.
#[derive(Debug)]
struct Committing {
    flight: u64,
    object: ObjectId,
    partitions: Vec<PartitionCommit>,
    /// Which of the batches are not part of the commit; see [`Gaps`].
    held: Option<Vec<Vec<bool>>>,
    requests: Vec<Waiting>,
    ticket: Ticket,
    commit_by: Instant,
    durable_at: Instant,
}

/// What the last two tasks know together.
#[derive(Debug)]
struct Line {
    gaps: Mutex<Gaps>,
    /// Segments that were answered, of those that were handed on to be.
    answered: watch::Sender<u64>,
}

impl Line {
    fn gaps(&self) -> MutexGuard<'_, Gaps> {
        self.gaps.lock().expect("nothing panics while it holds the gaps")
    }
}

/// Spawns the three tasks; each ends when the one before it has.
pub(super) fn start(desk: &Arc<Desk>) {
    let room = desk.parts.options.uploads_max.max(1);
    let (cut, to_commit) = mpsc::channel(room);
    let (committed, to_answer) = mpsc::channel(room);
    desk.tasks.spawn(cut_segments(Arc::clone(desk), cut, Desk::begin_upload));
    let line = Arc::new(Line { gaps: Mutex::default(), answered: watch::Sender::new(0) });
    desk.tasks.spawn(commit_segments(Arc::clone(desk), Arc::clone(&line), to_commit, committed));
    desk.tasks.spawn(answer_requests(Arc::clone(desk), line, to_answer));
}

enum Step {
    Cut(OpenSegment, CutReason),
    Until(Instant),
    Wait,
    End,
}

/// Cuts segments and hands each, once `start` has put it on its way, to the next task.
pub(super) async fn cut_segments<T>(desk: Arc<Desk>, cut: mpsc::Sender<T>, start: impl Fn(&Arc<Desk>, Begun) -> T) {
    loop {
        let step = desk.books().step(&desk, Instant::now());
        match step {
            Step::Cut(segment, reason) => {
                let started = start(&desk, desk.begin(segment, reason));
                if cut.send(started).await.is_err() {
                    return; // the task behind this one is gone, and with it everyone who waited
                }
            }
            Step::Until(at) => {
                tokio::select! {
                    () = desk.look.notified() => {}
                    () = sleep_until(at) => {}
                }
            }
            Step::Wait => desk.look.notified().await,
            Step::End => return,
        }
    }
}

impl Books {
    fn step(&mut self, desk: &Desk, now: Instant) -> Step {
        if self.closing && self.open.is_none() && self.full.is_empty() {
            return Step::End;
        }
        match decide(&desk.cut_options(), &self.view(now)) {
            Decision::Cut(reason) => {
                self.budgets.take(now);
                match self.full.pop_front().or_else(|| self.open.take()) {
                    Some(segment) => Step::Cut(segment, reason),
                    None => Step::Wait,
                }
            }
            Decision::Until(at) => Step::Until(at),
            Decision::Wait => Step::Wait,
        }
    }

    fn view(&self, now: Instant) -> View {
        let Flights { under_way, usual, answered, .. } = &self.flights;
        let budget = self.budgets.of(self.open.as_ref().and_then(OpenSegment::profile));
        View {
            now,
            open: self.open.as_ref().map(OpenSegment::gathered),
            full: !self.full.is_empty(),
            under_way: under_way.len(),
            largest: under_way.values().map(|flight| flight.requests).max().unwrap_or(0),
            oldest: under_way.values().next().map(|flight| flight.began),
            usual: *usual,
            answered: *answered,
            token_at: budget.token_at(),
            spaced_at: budget.spaced_at(),
            closing: self.closing,
        }
    }
}

impl Desk {
    fn begin(&self, segment: OpenSegment, reason: CutReason) -> Begun {
        let OpenSegment { builder, requests, since, .. } = segment;
        let now = Instant::now();
        let deadline = (since + self.parts.options.deadline).max(now + UPLOAD_MIN);
        let metrics = &self.parts.metrics;
        metrics.cuts.get_or_create(&CutLabel { reason: reason.name() }).inc();
        metrics.segment_bytes.observe(builder.bytes() as f64);
        metrics.segment_batches.observe(builder.batches() as f64);
        metrics.segment_requests.observe(requests.len() as f64);
        metrics.in_flight.inc();
        let flight = self.books().flights.begin(requests.len(), now);
        Begun { flight, builder, requests, deadline }
    }

    fn begin_upload(self: &Arc<Self>, begun: Begun) -> UnderWay {
        let Begun { flight, builder, requests, deadline } = begun;
        let object = self.new_object();
        let upload = self.tasks.spawn(Arc::clone(self).upload(builder, object, deadline));
        UnderWay { flight, object, requests, upload, commit_by: deadline + COMMIT_MAX }
    }

    /// Stores a segment.
    async fn upload(
        self: Arc<Self>,
        builder: SegmentBuilder,
        object: ObjectId,
        deadline: Instant,
    ) -> Result<Uploaded, NotStored> {
        let began = Instant::now();
        let name_of = |topic| {
            self.parts.metadata.read(|state| state.topics().get(topic).map(|topic| topic.name().as_str().to_owned()))
        };
        let built = builder.finish(object, self.parts.clock.now_ms(), name_of).ok_or_else(|| NotStored {
            error: BlobError::Invalid("a segment would be larger than 4 GiB".into()),
            partitions: Vec::new(),
        })?;
        let key = object.key();
        crash_here("writer::before_put");
        let put = timeout_at(deadline, self.put(&key, built.payload)).await;
        let put = put.unwrap_or_else(|_| Err(BlobError::Timeout { operation: Operation::Put, after: began.elapsed() }));
        if let Err(error) = put
            && !bug_here("writer::commits_without_put")
        {
            return Err(NotStored { error, partitions: built.commit.partitions });
        }
        crash_here("writer::after_put");
        let at = Instant::now();
        self.parts.metrics.upload_seconds.observe((at - began).as_secs_f64());
        let staged = StagedSegment::new(&built.commit, built.runs);
        Ok(Uploaded { commit: built.commit, staged, at })
    }

    /// One PUT, and a second one beside it if it is slow and the budget has a token: the key is unique, so both may succeed.
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        if !self.parts.options.hedge {
            return self.parts.blobs.put(key, payload).await;
        }
        let may = || self.books().budgets.take_spare(Instant::now());
        self.hedges.run(payload.len(), may, || self.parts.blobs.put(key, payload.clone())).await
    }

    /// Answers all requests of a segment alike and lets the next cut happen.
    pub(super) fn fail(&self, flight: u64, requests: Vec<Waiting>, error: &WriteError) {
        let unknown = error.class() == ErrorClass::Unknown;
        self.land(flight, requests.len(), if unknown { "unknown" } else { "failed" });
        requests.into_iter().for_each(|request| request.answer(Err(error.clone())));
        self.look.notify_one();
    }

    /// Takes the segment off the books; its requests are answered next, so that their echo is counted from here.
    pub(super) fn land(&self, flight: u64, requests: usize, answer: &'static str) {
        let metrics = &self.parts.metrics;
        metrics.in_flight.dec();
        metrics.answers.get_or_create(&AnswerLabel { answer }).inc_by(requests as u64);
        let mut books = self.books();
        let open = books.open.as_ref().map_or(0, |open| open.requests.len());
        books.flights.land(flight, open, answer == "decided", Instant::now());
    }
}

/// Commits segments in the order of their cuts, whatever the order in which their uploads end.
///
/// A segment of a session that is over is never committed. The first one of the next session waits until all before it are
/// settled, so that what they lost is known, and no later batch of a producer overtakes it.
async fn commit_segments(
    desk: Arc<Desk>,
    line: Arc<Line>,
    mut cut: mpsc::Receiver<UnderWay>,
    committed: mpsc::Sender<Committing>,
) {
    let (mut session, mut handed_on) = (desk.parts.metadata.session(), 0);
    while let Some(UnderWay { flight, object, requests, upload, commit_by }) = cut.recv().await {
        let uploaded = upload.await.unwrap_or_else(|ended| {
            Err(NotStored { error: BlobError::Unknown(format!("the upload ended: {ended}")), partitions: Vec::new() })
        });
        let Uploaded { mut commit, staged, at } = match uploaded {
            Ok(uploaded) => uploaded,
            Err(NotStored { error, partitions }) => {
                // Nothing was committed and nothing will be, whatever became of the object.
                tracing::warn!(%object, %error, requests = requests.len(), "a segment was not stored");
                line.gaps().note(&partitions, Instant::now());
                desk.leave_behind(object);
                desk.fail(flight, requests, &WriteError::Storage(error));
                continue;
            }
        };
        // Before the commit can be applied: whoever it wakes shall find the batches.
        desk.parts.tail.stage(staged);
        let partitions = commit.partitions.clone();
        if object.session != session {
            let _ = line.answered.subscribe().wait_for(|answered| *answered == handed_on).await; // we hold the sender
            session = object.session;
        }
        if line.gaps().would_hold_back(&commit, Instant::now()) {
            // Not known how far the others are: what waits goes on waiting, and its producer repeats it.
            let _ = timeout_at(commit_by, desk.parts.metadata.barrier()).await;
            desk.parts.metadata.read(|state| line.gaps().leave_to_state(&commit, state));
        }
        let held = line.gaps().hold_back(&mut commit, Instant::now());
        let queued = match desk.parts.metadata.session() == object.session {
            true => timeout_at(commit_by, desk.parts.metadata.enqueue(Command::CommitSegment(commit))).await,
            false => Ok(Err(SubmitError::Fenced(object.session))),
        };
        let queued =
            queued.unwrap_or_else(|_| Err(SubmitError::Unavailable("no place in the journal's queue in time".into())));
        match queued {
            Ok(ticket) => {
                handed_on += 1;
                let next = Committing { flight, object, partitions, held, requests, ticket, commit_by, durable_at: at };
                if committed.send(next).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%object, %error, requests = requests.len(), "a segment was not committed");
                line.gaps().note(&partitions, Instant::now());
                desk.parts.tail.forget(object);
                desk.leave_behind(object);
                desk.fail(flight, requests, &error.into());
            }
        }
    }
}

/// Answers requests in the order of the commits.
async fn answer_requests(desk: Arc<Desk>, line: Arc<Line>, mut committed: mpsc::Receiver<Committing>) {
    while let Some(committing) = committed.recv().await {
        let Committing { flight, object, partitions, held, requests, ticket, commit_by, durable_at } = committing;
        let outcome = match bug_here("writer::acks_before_commit") {
            true => Ok(desk.guess(&partitions)),
            false => timeout_at(commit_by, ticket).await.unwrap_or_else(|_| {
                Err(SubmitError::Unknown("the journal did not say in time whether it took the commit".into()))
            }),
        };
        match decided(outcome, &partitions, held.as_deref()) {
            Ok(outcomes) => {
                crash_here("writer::before_answer");
                desk.settle(object, &partitions, &outcomes);
                let bytes: u64 = partitions.iter().flat_map(|part| &part.batches).map(|b| u64::from(b.length)).sum();
                desk.parts.metrics.committed_bytes.inc_by(bytes);
                desk.parts.metrics.commit_seconds.observe(durable_at.elapsed().as_secs_f64());
                desk.land(flight, requests.len(), "decided");
                for request in requests {
                    let of_request =
                        request.places.iter().map(|(tp, number)| find(&partitions, &outcomes, tp, *number));
                    let answer = of_request.collect();
                    request.answer(Ok(answer));
                }
                desk.look.notify_one();
            }
            Err(error) => {
                tracing::warn!(%object, %error, requests = requests.len(), "a segment was not committed");
                if error.class() != ErrorClass::Unknown {
                    line.gaps().note(&partitions, Instant::now());
                    desk.parts.tail.forget(object);
                    desk.leave_behind(object);
                }
                desk.fail(flight, requests, &error);
            }
        }
        line.answered.send_modify(|answered| *answered += 1);
    }
}

/// The outcome of each batch, or the one error of them all. Batches that were held back count as out of order.
pub(super) fn decided(
    outcome: Result<Outcome, SubmitError>,
    partitions: &[PartitionCommit],
    held: Option<&[Vec<bool>]>,
) -> Result<Vec<Vec<BatchOutcome>>, WriteError> {
    let mut told = match outcome? {
        Outcome::Segment(outcomes) => outcomes.into_iter().flatten(),
        Outcome::Refused(Refusal::SessionFenced) => return Err(WriteError::Fenced),
        Outcome::Refused(refusal) => {
            let reason = format!("the commit was refused: {refusal}").into();
            return Err(WriteError::Journal(SubmitError::Unavailable(reason)));
        }
        Outcome::Done
        | Outcome::ProducerIds(_)
        | Outcome::LogStarts(_)
        | Outcome::GroupSaved { .. }
        | Outcome::Offsets(_)
        | Outcome::Swapped(_) => return Err(WriteError::Unknown("the journal answered something else".into())),
    };
    let is_held = |part: usize, batch: usize| held.is_some_and(|held| held[part][batch]);
    let mut outcomes = Vec::with_capacity(partitions.len());
    for (number, part) in partitions.iter().enumerate() {
        let of_batch = |batch| match is_held(number, batch) {
            true => Some(BatchOutcome::Refused(Refusal::OutOfOrderSequence)),
            false => told.next(),
        };
        let of_part: Option<Vec<BatchOutcome>> = (0..part.batches.len()).map(of_batch).collect();
        outcomes.push(of_part.ok_or_else(|| WriteError::Unknown("the journal told too few outcomes".into()))?);
    }
    Ok(outcomes)
}

pub(super) fn find(
    partitions: &[PartitionCommit],
    outcomes: &[Vec<BatchOutcome>],
    partition: &TopicPartition,
    number: usize,
) -> BatchOutcome {
    let run = partitions
        .binary_search_by_key(partition, |part| part.partition)
        .expect("a segment's partitions are sorted and hold every batch that was submitted into it");
    outcomes[run][number]
}

impl Desk {
    /// What one would say who does not wait for the journal: see `bug_here`.
    fn guess(&self, partitions: &[PartitionCommit]) -> Outcome {
        let of = |part: &PartitionCommit| {
            let end = |state: &State| state.log(part.partition).map(|log| log.high_watermark());
            let mut next = self.parts.metadata.read(end).unwrap_or_default();
            let mut append = |batch: &BatchSummary| {
                let base = next;
                next = base.checked_add(u64::from(batch.records)).unwrap_or(base);
                BatchOutcome::Appended { base, log_start: Offset::default() }
            };
            part.batches.iter().map(&mut append).collect()
        };
        Outcome::Segment(partitions.iter().map(of).collect())
    }

    /// Puts what was appended in place for readers.
    pub(super) fn settle(&self, object: ObjectId, partitions: &[PartitionCommit], outcomes: &[Vec<BatchOutcome>]) {
        let mut extents = Vec::with_capacity(partitions.len());
        self.parts.metadata.read(|state| {
            for (part, decided) in partitions.iter().zip(outcomes) {
                // A topic deleted meanwhile has no readers.
                let Some(log) = state.log(part.partition) else { continue };
                let epoch = log.leader_epoch();
                extents.extend(appended(object, part, decided).into_iter().map(|extent| (extent, epoch)));
            }
        });
        self.parts.tail.settle(object, extents.into_iter());
    }
}

/// The extents that an outcome made of a partition's batches.
fn appended(object: ObjectId, part: &PartitionCommit, decided: &[BatchOutcome]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut position = part.position;
    for (batch, outcome) in part.batches.iter().zip(decided) {
        let at = position;
        position += u64::from(batch.length);
        let BatchOutcome::Appended { base, .. } = *outcome else { continue };
        let Some(end) = base.checked_add(u64::from(batch.records)) else { continue };
        match extents.last_mut().filter(|last| last.end == base && last.position + u64::from(last.length) == at) {
            Some(last) => {
                last.end = end;
                last.length += batch.length;
                last.max_timestamp = last.max_timestamp.max(batch.max_timestamp);
            }
            None => {
                let (length, max_timestamp) = (batch.length, batch.max_timestamp);
                extents.push(Extent { base, end, object, position: at, length, max_timestamp, sparse: false });
            }
        }
    }
    extents
}
