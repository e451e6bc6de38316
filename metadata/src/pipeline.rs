//! The appender of a journal whose entries are objects: several are on their way at once, each at its own position, and each
//! that carries a segment takes along the commands that wait.
//!
//! Positions are handed out in the order of the queue and settled in that order. While one entry without a segment is under
//! way, commands gather for the next, so that a burst of them costs few PUTs; one with a segment goes at once.
//!
//! When an entry is lost, its position is filled by another, and everything behind it that is on its way is without effect
//! ([`Entry::follows`]). Nothing new is sent until all of it is settled: then a new row begins.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::appender::{AppenderParts, Waiting, Work};
use crate::backoff::Backoff;
use crate::carried::{Carried, Made};
use crate::command::{Command, Entry};
use crate::error::{AppendError, ReadError, SubmitError};
use crate::failpoint;
use crate::journal::object::layout::filler;
use crate::model::extent::ObjectId;
use crate::model::ids::Lsn;
use crate::model::limits::{ENTRIES_UNDER_WAY_MAX, ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use crate::replica::Answer;
use crate::size::entry_bytes;

/// The only writer of a session's entries.
#[derive(Debug)]
pub(crate) struct Pipeline {
    parts: AppenderParts,
    /// Number of the last entry made.
    sequence: u64,
    /// Taken from the queue, not sent yet.
    pending: VecDeque<Waiting>,
    flying: VecDeque<Flight>,
    /// An entry was lost: nothing is sent until all flights have settled.
    is_broken: bool,
    /// How often in a row an entry lost its place.
    losses: u32,
    /// The highest generation of segments sent, and the lowest that is still accepted.
    sent_generation: u64,
    accepted_generation: u64,
    last_append: Instant,
    backoff: Backoff,
}

/// An entry on its way to its position.
#[derive(Debug)]
struct Flight {
    at: Lsn,
    has_segment: bool,
    began: Instant,
    placing: JoinHandle<(Entry, Result<(), AppendError>)>,
}

/// What became of a flight.
struct Landed {
    at: Lsn,
    began: Instant,
    entry: Entry,
    result: Result<(), AppendError>,
}

/// What happened next.
enum Event {
    Settled(Landed),
    Queued(Waiting),
    QueueEnded,
    Leave,
    Renewal,
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.flying.iter().for_each(|flight| flight.placing.abort());
        if let Some(carrier) = self.parts.journal.carrier() {
            carrier.close();
        }
    }
}

impl Pipeline {
    pub(crate) fn new(parts: AppenderParts) -> Self {
        let backoff = Backoff::new(
            Duration::from_millis(parts.options.retry_initial_ms),
            Duration::from_millis(parts.options.retry_max_ms),
            parts.replica.lives.session().0,
        );
        Self {
            parts,
            sequence: 0,
            pending: VecDeque::new(),
            flying: VecDeque::new(),
            is_broken: false,
            losses: 0,
            sent_generation: 0,
            accepted_generation: 0,
            last_append: Instant::now(),
            backoff,
        }
    }

    /// Appends whatever is queued until the gateway leaves or the replica ends; then fails what is still queued.
    pub(crate) async fn run(mut self) {
        let replica = Arc::clone(&self.parts.replica);
        let reason = tokio::select! {
            biased;
            reason = replica.ended() => reason,
            () = self.append_all() => replica.end_reason().unwrap_or(SubmitError::Closed),
        };
        replica.set_appending(false);
        replica.end(reason.clone());
        self.parts.queue.close();
        while let Ok(waiting) = self.parts.queue.try_recv() {
            self.parts.metrics.queue_commands.dec();
            self.pending.push_back(waiting);
        }
        for waiting in std::mem::take(&mut self.pending) {
            let _ = waiting.answer.send(Err(reason.clone())); // never appended: definite
        }
    }

    async fn append_all(&mut self) {
        let mut has_queue_ended = false;
        loop {
            while self.may_send() {
                self.send();
            }
            self.parts.replica.set_appending(!self.flying.is_empty());
            if has_queue_ended && self.pending.is_empty() && self.flying.is_empty() {
                return self.leave().await;
            }
            match self.next(has_queue_ended).await {
                Event::Settled(landed) => self.settle(landed).await,
                Event::Queued(waiting) => self.take(waiting),
                Event::QueueEnded => has_queue_ended = true,
                Event::Leave => self.parts.queue.close(), // whoever has a place stays; the queue is drained to its end
                Event::Renewal => self.launch(Vec::new(), Vec::new(), None),
            }
        }
    }

    async fn next(&mut self, has_queue_ended: bool) -> Event {
        let renew_at = self.parts.options.renew_interval().map(|interval| self.last_append + interval);
        let has_room = self.pending.len() < ENTRY_COMMANDS_MAX;
        let is_idle = self.flying.is_empty() && self.pending.is_empty() && !has_queue_ended;
        let AppenderParts { queue, leave, .. } = &mut self.parts;
        let front = self.flying.front_mut();
        let settled = async {
            match front {
                Some(flight) => (flight.at, flight.began, (&mut flight.placing).await),
                None => std::future::pending().await,
            }
        };
        let renewal = async {
            match renew_at {
                Some(at) if is_idle => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            (at, began, settled) = settled => {
                self.flying.pop_front();
                let (entry, result) = settled.unwrap_or_else(|ended| {
                    // A panic: whether the entry is written is not known, and what it said is lost.
                    (filler(), Err(AppendError::Corrupt(ended.to_string().into())))
                });
                Event::Settled(Landed { at, began, entry, result })
            }
            waiting = queue.recv(), if has_room && !has_queue_ended => {
                waiting.map_or(Event::QueueEnded, Event::Queued)
            }
            () = async { drop(leave.wait_for(|leave| *leave).await) }, if !queue.is_closed() => Event::Leave,
            () = renewal => Event::Renewal,
        }
    }

    /// Takes what was queued, and whatever is queued behind it.
    fn take(&mut self, first: Waiting) {
        let mut next = Some(first);
        while let Some(waiting) = next {
            self.parts.metrics.queue_commands.dec();
            self.pending.push_back(waiting);
            next = match self.pending.len() < ENTRY_COMMANDS_MAX {
                true => self.parts.queue.try_recv().ok(),
                false => None,
            };
        }
    }

    fn may_send(&mut self) -> bool {
        if self.flying.is_empty() {
            self.is_broken = false;
        }
        let has_segment = self.pending.iter().any(|waiting| matches!(waiting.work, Work::Segment(_)));
        let is_full = self.flying.len() >= ENTRIES_UNDER_WAY_MAX;
        let is_plain_flying = self.flying.iter().any(|flight| !flight.has_segment);
        !self.pending.is_empty() && !self.is_broken && !is_full && (has_segment || !is_plain_flying)
    }

    /// Sends the next entry: what waits, up to the caps of one entry or to the first segment.
    fn send(&mut self) {
        let (mut commands, mut answers, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut segment = None;
        while let Some(front) = self.pending.front() {
            let is_full = commands.len() >= ENTRY_COMMANDS_MAX || bytes + front.bytes > ENTRY_BYTES_MAX;
            if is_full && !commands.is_empty() {
                break;
            }
            let Some(waiting) = self.pending.pop_front() else { break };
            bytes += waiting.bytes;
            match waiting.work {
                Work::Command(command) => {
                    commands.push(command);
                    answers.push(waiting.answer);
                }
                Work::Segment(carried) if carried.generation < self.accepted_generation => {
                    let why = "a segment before it was not written".into();
                    let _ = waiting.answer.send(Err(SubmitError::Unavailable(why))); // whoever asked may have gone
                }
                Work::Segment(carried) => {
                    self.sent_generation = self.sent_generation.max(carried.generation);
                    segment = Some(carried);
                    answers.push(waiting.answer);
                    break;
                }
            }
        }
        if !commands.is_empty() || segment.is_some() {
            self.launch(commands, answers, segment);
        }
    }

    fn launch(&mut self, commands: Vec<Command>, answers: Vec<Answer>, segment: Option<Carried>) {
        self.sequence += 1;
        let entry = Entry {
            session: self.parts.replica.lives.speaker(),
            sequence: self.sequence,
            time_ms: self.parts.clock.now_ms(),
            commands,
            follows: self.flying.back().map(|before| before.at),
        };
        self.parts.replica.expect(self.sequence, answers);
        self.place(entry, segment);
    }

    /// Puts an entry on its way to the next position.
    fn place(&mut self, mut entry: Entry, segment: Option<Carried>) {
        let journal = Arc::clone(&self.parts.journal);
        let carrier = journal.carrier().expect("a pipeline is made for a journal that carries");
        let at = carrier.reserve();
        let (has_segment, began) = (segment.is_some(), Instant::now());
        let journal = Arc::clone(&journal);
        let placing = tokio::spawn(async move {
            let deadline = segment.as_ref().map(|segment| segment.deadline);
            let chunks = segment.map_or_else(Vec::new, |segment| {
                let Made { commit, chunks } = (segment.make)(ObjectId::at(at));
                entry.commands.push(Command::CommitSegment(commit));
                chunks
            });
            failpoint::crash_here("journal::before_append");
            let put = match journal.carrier() {
                Some(carrier) => carrier.put_at(at, &entry, chunks, deadline).await,
                None => Err(AppendError::Closed),
            };
            (entry, put)
        });
        self.flying.push_back(Flight { at, has_segment, began, placing });
    }

    /// Settles the oldest flight: it is applied, or it is lost.
    async fn settle(&mut self, landed: Landed) {
        let Landed { at, began, entry, result } = landed;
        self.last_append = Instant::now();
        match result {
            Ok(()) => {
                failpoint::crash_here("journal::after_append");
                self.parts.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
                self.accept(at, &entry).await;
            }
            Err(AppendError::KnownNotWritten(reason)) => {
                tracing::warn!(position = %at, sequence = entry.sequence, %reason, "an entry was not written");
                self.lose(at, entry).await;
            }
            Err(AppendError::Fenced) => {
                let session = self.parts.replica.lives.session();
                self.parts.replica.end(SubmitError::Fenced(session));
            }
            Err(AppendError::Closed) => self.parts.replica.end(SubmitError::Closed),
            Err(AppendError::Corrupt(reason)) => self.parts.replica.end(SubmitError::Corrupt(reason)),
            Err(AppendError::Unknown(reason)) => self.parts.replica.end(SubmitError::Unknown(reason)),
        }
    }

    async fn accept(&mut self, at: Lsn, entry: &Entry) {
        self.backoff.reset();
        self.losses = 0;
        let replica = Arc::clone(&self.parts.replica);
        while let Err(error) = replica.accept(at, entry).await {
            self.pause_after(error).await;
        }
        let metrics = &self.parts.metrics;
        metrics.appends.inc();
        metrics.entry_commands.observe(entry.commands.len() as f64);
        metrics.entry_bytes.observe(entry_bytes(entry) as f64);
    }

    /// Something else stands where the entry was to stand. If that fences us, the replica ends here.
    async fn lose(&mut self, at: Lsn, entry: Entry) {
        self.parts.metrics.append_retries.inc();
        let has_segment = entry.commands.iter().any(|command| match command {
            Command::CommitSegment(commit) => commit.object == ObjectId::at(at),
            _ => false,
        });
        if has_segment || self.flying.iter().any(|behind| behind.has_segment) {
            self.accepted_generation = self.sent_generation + 1;
        }
        self.is_broken = true;
        self.backoff.reset();
        let replica = Arc::clone(&self.parts.replica);
        while let Err(error) = replica.reach(at).await {
            self.pause_after(error).await;
        }
        // Whoever wrote there went on: what is next goes behind that. If it cannot be told, the next loss tells more.
        let _ = replica.journal_head().await;
        if has_segment || !self.flying.is_empty() {
            replica.give_up(entry.sequence, "its place in the journal was lost");
        } else if replica.own_applied() < entry.sequence {
            // Nothing is behind it: it may as well stand at the next position.
            self.losses += 1;
            self.place_again(Entry { follows: None, ..entry });
        }
    }

    /// Puts an entry that lost its place at the next one; if it loses again and again, at twice as many at once each time. Of
    /// its copies the first counts, and `apply` ignores the rest. A busy writer, whose entries are under way to every place
    /// that seems free, is so passed by whoever is to fence it.
    fn place_again(&mut self, entry: Entry) {
        let places =
            1usize.checked_shl(self.losses - 1).map_or(ENTRIES_UNDER_WAY_MAX, |n| n.min(ENTRIES_UNDER_WAY_MAX));
        let journal = Arc::clone(&self.parts.journal);
        let carrier = journal.carrier().expect("a pipeline is made for a journal that carries");
        let before: Vec<Lsn> = (1..places).map(|_| carrier.reserve()).collect();
        let (at, began) = (carrier.reserve(), Instant::now());
        let placing = tokio::spawn(async move {
            let mut copies = JoinSet::new();
            for at in before.into_iter().chain([at]) {
                let (journal, entry) = (Arc::clone(&journal), entry.clone());
                copies.spawn(async move {
                    match journal.carrier() {
                        Some(carrier) => (at, carrier.put_at(at, &entry, Vec::new(), None).await),
                        None => (at, Err(AppendError::Closed)),
                    }
                });
            }
            let mut last = Err(AppendError::Closed);
            while let Some(put) = copies.join_next().await {
                match put {
                    Ok((of, result)) if of == at => last = result,
                    // Whether the copy stands there is seen when the journal is read.
                    Ok((_, Ok(()) | Err(AppendError::KnownNotWritten(_)))) => {}
                    Ok((_, Err(error))) => return (entry, Err(error)),
                    Err(ended) => return (entry, Err(AppendError::Unknown(ended.to_string().into()))),
                }
            }
            (entry, last)
        });
        self.flying.push_back(Flight { at, has_segment: false, began, placing });
    }

    /// The journal could not be read: waits before the next try, or ends the replica, which ends this task.
    async fn pause_after(&mut self, error: ReadError) {
        match error {
            ReadError::Unavailable(reason) => {
                tracing::warn!(%reason, "the journal could not be read; trying again");
                tokio::time::sleep(self.backoff.next()).await;
            }
            error @ (ReadError::Corrupt(_) | ReadError::Trimmed { .. } | ReadError::Closed) => {
                self.parts.replica.end(error.into());
                std::future::pending::<()>().await; // `run` drops this once the replica has ended
            }
        }
    }

    /// The last entry of the session.
    async fn leave(&mut self) {
        self.launch(vec![Command::CloseSession], Vec::new(), None);
        while !self.flying.is_empty() {
            if let Event::Settled(landed) = self.next(true).await {
                self.settle(landed).await;
            }
        }
    }
}
