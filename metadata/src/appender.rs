//! Gathers waiting commands into entries and appends them, one entry at a time, until each is known to be in the journal.
//!
//! While an append is under way the queue fills; the next entry takes all of it, up to the caps. So a lone command is
//! appended at once, and the append rate does not grow with the load.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::carried::Carried;
use crate::clock::Clock;
use crate::command::{Command, Entry, Outcome};
use crate::error::{AppendError, SubmitError};
use crate::failpoint;
use crate::journal::Journal;
use crate::metrics::JournalMetrics;
use crate::model::limits::{ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use crate::options::MetadataOptions;
use crate::replica::{Answer, Replica};
use crate::size::entry_bytes;

/// What a queue entry asks for.
#[derive(Debug)]
pub(crate) enum Work {
    Command(Command),
    /// Only where the journal is a [`Carrier`](crate::journal::Carrier).
    Segment(Carried),
}

/// A command on its way to the journal.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) work: Work,
    /// About how many bytes it takes in an entry.
    pub(crate) bytes: usize,
    pub(crate) answer: Answer,
    /// Its part of the queue's bytes, given back when it leaves the queue.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// What an appender works with.
#[derive(Debug)]
pub(crate) struct AppenderParts {
    pub(crate) queue: mpsc::Receiver<Waiting>,
    /// Turns true when the gateway leaves: what is queued is appended, then the session is closed.
    pub(crate) leave: watch::Receiver<bool>,
    pub(crate) replica: Arc<Replica>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: MetadataOptions,
    pub(crate) metrics: JournalMetrics,
}

/// The only writer of a session's entries.
#[derive(Debug)]
pub(crate) struct Appender {
    parts: AppenderParts,
    /// Number of the last entry made.
    sequence: u64,
    last_append: Instant,
    /// Taken from the queue, but too large for the entry before.
    carried: Option<Waiting>,
    backoff: Backoff,
}

/// What the next entry begins with.
enum Next {
    Command(Waiting),
    Renewal,
    /// Our session is over.
    Life,
    Leave,
}

impl Appender {
    pub(crate) fn new(parts: AppenderParts) -> Self {
        let backoff = Backoff::new(
            Duration::from_millis(parts.options.retry_initial_ms),
            Duration::from_millis(parts.options.retry_max_ms),
            parts.replica.lives.session().0,
        );
        Self { parts, sequence: 0, last_append: Instant::now(), carried: None, backoff }
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
        while let Some(waiting) = self.take_queued() {
            let _ = waiting.answer.send(Err(reason.clone())); // never appended: definite
        }
    }

    async fn append_all(&mut self) {
        loop {
            let entry = match self.next().await {
                Next::Command(first) => self.gather(first),
                Next::Renewal => self.entry(Vec::new()),
                Next::Life => {
                    self.begin_life().await;
                    continue;
                }
                Next::Leave => {
                    let last = self.entry(vec![Command::CloseSession]);
                    return self.append(&last).await;
                }
            };
            self.append(&entry).await;
        }
    }

    /// Begins another life where one is over. What is queued was asked of the one before: it is refused, never appended.
    async fn begin_life(&mut self) {
        let replica = Arc::clone(&self.parts.replica);
        let over = replica.lives.speaker();
        while let Some(waiting) = self.take_queued() {
            let _ = waiting.answer.send(Err(SubmitError::Fenced(over))); // whoever asked may have gone
        }
        let introduction = replica.begin_life().await;
        let (answer, outcome) = oneshot::channel();
        let node = introduction.node;
        self.sequence = 0;
        let opening = self.entry(vec![Command::OpenSession(introduction)]);
        replica.expect(opening.sequence, vec![answer]);
        self.append(&opening).await;
        match outcome.await {
            Ok(Ok(Outcome::Refused(refusal))) => {
                replica.end(SubmitError::Unavailable(format!("a new session was refused: {refusal}").into()));
            }
            Ok(Ok(_)) => tracing::info!(session = %opening.session, %node, "this gateway is back, with a new session"),
            // Over before it was told, or the replica has ended.
            Ok(Err(_)) | Err(_) => {}
        }
    }

    async fn next(&mut self) -> Next {
        if self.parts.replica.lives.is_over() {
            return Next::Life;
        }
        if let Some(carried) = self.carried.take() {
            return Next::Command(carried);
        }
        let renew_at = self.parts.options.renew_interval().map(|interval| self.last_append + interval);
        let renewal = async {
            match renew_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let AppenderParts { queue, leave, replica, .. } = &mut self.parts;
        let taken = tokio::select! {
            biased;
            () = replica.lives.over() => return Next::Life,
            waiting = queue.recv() => waiting,
            () = async { drop(leave.wait_for(|leave| *leave).await) }, if !queue.is_closed() => {
                queue.close(); // whoever has a place stays; the queue is then drained to its end
                queue.recv().await
            }
            () = renewal => return Next::Renewal,
        };
        taken.map_or(Next::Leave, |waiting| {
            self.parts.metrics.queue_commands.dec();
            Next::Command(waiting)
        })
    }

    /// Takes everything that waits behind `first`, up to the caps of one entry.
    fn gather(&mut self, first: Waiting) -> Entry {
        let mut bytes = first.bytes;
        let (mut commands, mut answers) = (Vec::new(), Vec::new());
        let mut take = |waiting: Waiting| match waiting.work {
            Work::Command(command) => {
                commands.push(command);
                answers.push(waiting.answer);
                commands.len()
            }
            // `Metadata::carry` lets none through where there is no carrier.
            Work::Segment(_) => commands.len(),
        };
        let mut taken = take(first);
        while taken < ENTRY_COMMANDS_MAX {
            let Some(waiting) = self.take_queued() else { break };
            if bytes + waiting.bytes > ENTRY_BYTES_MAX {
                self.carried = Some(waiting);
                break;
            }
            bytes += waiting.bytes;
            taken = take(waiting);
        }
        let entry = self.entry(commands);
        self.parts.replica.expect(entry.sequence, answers);
        entry
    }

    fn entry(&mut self, commands: Vec<Command>) -> Entry {
        self.sequence += 1;
        let time_ms = self.parts.clock.now_ms();
        let session = self.parts.replica.lives.speaker();
        Entry { session, sequence: self.sequence, time_ms, commands, follows: None }
    }

    fn take_queued(&mut self) -> Option<Waiting> {
        self.carried.take().or_else(|| {
            let waiting = self.parts.queue.try_recv().ok()?;
            self.parts.metrics.queue_commands.dec();
            Some(waiting)
        })
    }

    /// Appends this one entry, again and again, until it is applied. Ends early only with the replica.
    async fn append(&mut self, entry: &Entry) {
        let AppenderParts { replica, journal, options, metrics, .. } = &self.parts;
        let started = Instant::now();
        replica.set_appending(true);
        self.backoff.reset();
        while replica.own_applied() < entry.sequence && !replica.lives.is_over() {
            failpoint::crash_here("journal::before_append");
            let appended = match tokio::time::timeout(options.journal_timeout(), journal.append(entry)).await {
                Ok(appended) => appended,
                Err(_) => Err(AppendError::Unknown("no answer in time".into())),
            };
            if appended.is_ok() {
                failpoint::crash_here("journal::after_append");
                metrics.append_seconds.observe(started.elapsed().as_secs_f64());
            }
            let settled = match appended {
                Ok(lsn) => replica.accept(lsn, entry).await.map_err(SubmitError::from),
                Err(AppendError::Fenced) => taken_over(replica, entry).await,
                Err(AppendError::Corrupt(reason)) => Err(SubmitError::Corrupt(reason)),
                Err(AppendError::Closed) => Err(SubmitError::Closed),
                Err(error @ (AppendError::KnownNotWritten(_) | AppendError::Unknown(_))) => {
                    Err(SubmitError::Unavailable(error.to_string().into()))
                }
            };
            match settled {
                Ok(()) => {}
                Err(SubmitError::Unavailable(reason)) => {
                    metrics.append_retries.inc();
                    tracing::warn!(sequence = entry.sequence, %reason, "an append did not succeed; repeating it");
                    tokio::time::sleep(self.backoff.next()).await;
                }
                Err(reason) => {
                    replica.end(reason);
                    break;
                }
            }
        }
        replica.set_appending(false);
        self.last_append = Instant::now();
        if replica.own_applied() < entry.sequence {
            replica.fail_over(entry.sequence);
            return; // the replica ended, or this life
        }
        metrics.appends.inc();
        metrics.entry_commands.observe(entry.commands.len() as f64);
        metrics.entry_bytes.observe(entry_bytes(entry) as f64);
    }
}

/// The journal says that another writer has taken over. An earlier try of the entry may still have come before that: only
/// the journal can tell.
async fn taken_over(replica: &Replica, entry: &Entry) -> Result<(), SubmitError> {
    let head = replica.journal_head().await?;
    replica.reach(head).await?;
    if replica.own_applied() < entry.sequence { Err(SubmitError::Fenced(replica.lives.speaker())) } else { Ok(()) }
}
