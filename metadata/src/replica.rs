//! Follows the journal and applies it: the only caller of `apply`.
//!
//! An entry of our own is applied as soon as it is appended, without reading it back, when it is next in order; everything
//! else is read from the journal. Tickets are resolved and watchers woken after the state's lock is released.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, oneshot, watch};

use crate::agreement::{Agreement, Verdict};
use crate::backoff::Backoff;
use crate::command::{Command, Entry, OpenSession, Outcome, Refusal};
use crate::error::{ReadError, SubmitError};
use crate::failpoint::bug_here;
use crate::journal::Journal;
use crate::life::Lives;
use crate::metrics::JournalMetrics;
use crate::model::ids::Lsn;
use crate::options::MetadataOptions;
use crate::size::entry_bytes;
use crate::state::sessions::Standing;
use crate::state::{Applied, State};
use crate::watch::Watchers;

/// Entries asked for in one read of the journal.
pub(crate) const READ_ENTRIES: usize = 512;
/// How long a reader waits for an append of our own to arrive by itself before it reads the journal.
const OWN_APPEND_GRACE: Duration = Duration::from_millis(2);
/// The same where a read costs requests to a bucket.
const OWN_PUT_GRACE: Duration = Duration::from_millis(50);

/// A way past entries that the journal no longer has.
#[async_trait]
pub(crate) trait Shortcut: Debug + Send + Sync {
    /// The state of the newest snapshot; `None` without one.
    async fn newest(&self) -> Result<Option<State>, ReadError>;
}

/// Where a ticket hears what its command came to.
pub(crate) type Answer = oneshot::Sender<Result<Outcome, SubmitError>>;

/// The state of this gateway and everyone who waits for it.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) lives: Lives,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) growth: Growth,
    pub(crate) journal: Arc<dyn Journal>,
    shortcut: Arc<dyn Shortcut>,
    pub(crate) agreement: Arc<Agreement>,
    state: RwLock<State>,
    /// Held by whoever applies; entries are applied one after the other.
    turn: tokio::sync::Mutex<()>,
    applied: watch::Sender<Lsn>,
    /// Where a session last came, went, or said that it will go.
    pub(crate) sessions_moved: watch::Sender<Lsn>,
    /// Number of our last entry that was applied, in this life.
    own_applied: AtomicU64,
    /// Whether an append of ours is under way, so that the entry at the head is likely ours.
    appending: AtomicBool,
    /// Tickets of our entries that are not applied yet, by the entry's sequence.
    waiting: Mutex<BTreeMap<u64, Vec<Answer>>>,
    /// Why this replica stopped, once it has.
    ended: watch::Sender<Option<SubmitError>>,
    options: MetadataOptions,
    metrics: JournalMetrics,
}

/// What was applied since the last snapshot.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    entries: AtomicU64,
    bytes: AtomicU64,
    /// Told once a snapshot is due.
    pub(crate) due: Notify,
}

impl Growth {
    pub(crate) fn add(&self, bytes: u64) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_due(&self, options: &MetadataOptions) -> bool {
        self.entries.load(Ordering::Relaxed) >= options.snapshot_entries
            || self.bytes.load(Ordering::Relaxed) >= options.snapshot_bytes
    }

    /// What has grown until now; give it back with [`Growth::settle`] once a snapshot holds it.
    pub(crate) fn measure(&self) -> (u64, u64) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub(crate) fn settle(&self, (entries, bytes): (u64, u64)) {
        self.entries.fetch_sub(entries, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Replica {
    pub(crate) fn new(
        journal: Arc<dyn Journal>,
        shortcut: Arc<dyn Shortcut>,
        lives: Lives,
        state: State,
        growth: Growth,
        options: MetadataOptions,
        metrics: JournalMetrics,
    ) -> Self {
        metrics.state_lsn.set(state.applied().0);
        Self {
            lives,
            watchers: Arc::default(),
            growth,
            journal,
            shortcut,
            agreement: Arc::default(),
            applied: watch::Sender::new(state.applied()),
            sessions_moved: watch::Sender::new(state.applied()),
            state: RwLock::new(state),
            turn: tokio::sync::Mutex::default(),
            own_applied: AtomicU64::new(0),
            appending: AtomicBool::new(false),
            waiting: Mutex::default(),
            ended: watch::Sender::new(None),
            options,
            metrics,
        }
    }

    /// Looks at the applied state.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.read().expect("apply does not panic; a torn state must not be read"))
    }

    /// How far the state is applied.
    pub(crate) fn applied(&self) -> Lsn {
        *self.applied.borrow()
    }

    /// Number of our last entry that was applied, in this life.
    pub(crate) fn own_applied(&self) -> u64 {
        self.own_applied.load(Ordering::Acquire)
    }

    /// Why this replica stopped; `None` while it runs.
    pub(crate) fn end_reason(&self) -> Option<SubmitError> {
        self.ended.borrow().clone()
    }

    /// Waits until this replica has stopped and tells why.
    pub(crate) async fn ended(&self) -> SubmitError {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(SubmitError::Closed),
            Err(_) => SubmitError::Closed,
        }
    }

    /// Tells readers that an append of ours is under way, or no longer is.
    pub(crate) fn set_appending(&self, appending: bool) {
        self.appending.store(appending, Ordering::Release);
    }

    /// Keeps the answers of an entry until it is applied. Called before the entry is appended.
    pub(crate) fn expect(&self, sequence: u64, answers: Vec<Answer>) {
        self.waiting().insert(sequence, answers);
        if let Some(reason) = self.end_reason() {
            self.fail_waiting(&reason);
        }
    }

    /// Takes an entry of ours that the journal has at `lsn`.
    pub(crate) async fn accept(&self, lsn: Lsn, entry: &Entry) -> Result<(), ReadError> {
        let _turn = self.turn.lock().await;
        if !bug_here("replica::own_first") {
            self.catch_up(Lsn(lsn.0 - 1)).await?;
        }
        if self.applied() < lsn {
            self.apply(lsn, entry);
        }
        Ok(())
    }

    /// Applies the journal up to `to`.
    pub(crate) async fn reach(&self, to: Lsn) -> Result<(), ReadError> {
        if self.applied() >= to {
            return Ok(());
        }
        if self.appending.load(Ordering::Acquire) {
            let mut applied = self.applied.subscribe();
            let arrived = applied.wait_for(|applied| *applied >= to);
            let grace = if self.journal.carrier().is_some() { OWN_PUT_GRACE } else { OWN_APPEND_GRACE };
            if tokio::time::timeout(grace, arrived).await.is_ok() {
                return Ok(());
            }
        }
        let _turn = self.turn.lock().await;
        self.catch_up(to).await
    }

    /// Applies whatever comes, until the replica ends.
    pub(crate) async fn follow(&self) {
        tokio::select! {
            biased;
            _ = self.ended() => {}
            reason = self.follow_tail() => self.end(reason),
        }
    }

    /// Follows the journal until that is no longer possible; tells why.
    async fn follow_tail(&self) -> SubmitError {
        let mut tail = self.journal.tail();
        let mut backoff = Backoff::new(
            Duration::from_millis(self.options.retry_initial_ms),
            Duration::from_millis(self.options.retry_max_ms),
            !self.lives.session().0,
        );
        loop {
            let head = *tail.borrow_and_update();
            match self.reach(head).await {
                Ok(()) => backoff.reset(),
                Err(ReadError::Unavailable(reason)) => {
                    tracing::warn!(%reason, "the journal could not be read; trying again");
                    tokio::time::sleep(backoff.next()).await;
                    continue;
                }
                Err(error @ (ReadError::Corrupt(_) | ReadError::Trimmed { .. } | ReadError::Closed)) => {
                    return error.into();
                }
            }
            if tail.changed().await.is_err() {
                return SubmitError::Closed;
            }
        }
    }

    /// Stops taking commands for `reason` and fails the tickets of entries that were not applied. The first reason counts.
    pub(crate) fn end(&self, reason: SubmitError) {
        let is_first = self.ended.send_if_modified(|ended| {
            let is_first = ended.is_none();
            if is_first {
                *ended = Some(reason.clone());
            }
            is_first
        });
        if is_first {
            match &reason {
                SubmitError::Closed => tracing::debug!("the journal is closed here"),
                other => tracing::error!(reason = %other, "this gateway stops following the journal"),
            }
            self.fail_waiting(&reason);
        }
    }

    /// Asks the journal for its head. A journal that is damaged ends the replica.
    pub(crate) async fn journal_head(&self) -> Result<Lsn, ReadError> {
        let head = self.in_time(self.journal.head()).await;
        if let Err(error @ ReadError::Corrupt(_)) = &head {
            self.end(error.clone().into());
        }
        head
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
        let answer = tokio::time::timeout(self.options.journal_timeout(), call).await;
        answer.unwrap_or_else(|_| Err(ReadError::Unavailable("no answer in time".into())))
    }

    async fn catch_up(&self, to: Lsn) -> Result<(), ReadError> {
        while self.applied() < to {
            let entries = match self.in_time(self.journal.read(self.applied(), READ_ENTRIES)).await {
                Err(trimmed @ ReadError::Trimmed { first, .. }) => {
                    // Others went on, and the journal with them, while this one was paused or cut off.
                    let state = self.shortcut.newest().await?.filter(|state| state.applied().0 + 1 >= first.0);
                    self.leap(state.filter(|state| state.applied() > self.applied()).ok_or(trimmed)?);
                    continue;
                }
                read => read?,
            };
            if entries.is_empty() {
                return Err(ReadError::Unavailable(format!("entry {to} was announced and is not there").into()));
            }
            for (lsn, entry) in &entries {
                check_next(self.applied(), *lsn)?;
                self.apply(*lsn, entry);
            }
        }
        Ok(())
    }

    /// Goes on from a snapshot. The caller holds the turn.
    fn leap(&self, state: State) {
        let (from, to, speaker) = (self.applied(), state.applied(), self.lives.speaker());
        let standing = state.sessions().standing(speaker);
        let last_of_live = state.sessions().get(speaker).map(|session| session.last_sequence);
        let over = state.sessions().expired().find(|session| session.id == speaker);
        let last = last_of_live.or_else(|| over.map(|session| session.last_sequence)).unwrap_or(0);
        *self.state.write().expect("apply does not panic; a torn state must not be used") = state;
        self.applied.send_replace(to);
        self.metrics.state_lsn.set(to.0);
        tracing::warn!(%from, %to, "the journal no longer has the entries between: went on from a snapshot");
        self.own_applied.fetch_max(last, Ordering::AcqRel);
        let later = self.waiting().split_off(&(last + 1));
        let passed = std::mem::replace(&mut *self.waiting(), later);
        for answer in passed.into_values().flatten() {
            // It took its course in what was leapt over.
            let _ = answer.send(Err(SubmitError::Unknown("the journal was trimmed before it was read".into())));
        }
        self.watchers.wake_all();
        self.sessions_moved.send_replace(to);
        // A session that opens may still do so.
        if standing != Standing::Live && self.lives.session() == speaker && !self.lives.is_over() {
            self.end_life(false);
        }
    }

    /// Applies the next entry. The caller holds the turn.
    fn apply(&self, lsn: Lsn, entry: &Entry) {
        let speaker = self.lives.speaker();
        let (applied, standing, marked) = {
            let mut state = self.state.write().expect("apply does not panic; a torn state must not be used");
            let applied = state.apply(lsn, entry);
            let standing = state.sessions().standing(speaker);
            let is_marked = applied.done(entry).any(|command| *command == Command::MarkState);
            (applied, standing, is_marked.then(|| state.clone()))
        };
        self.applied.send_replace(lsn);
        self.metrics.state_lsn.set(lsn.0);
        self.growth.add(entry_bytes(entry) as u64);
        if self.growth.is_due(&self.options) {
            self.growth.due.notify_one();
        }
        self.compare(lsn, entry, &applied, marked);
        if entry.session == speaker && standing == Standing::Live {
            self.lives.note_open();
        }
        if entry.session == speaker && !applied.repeated {
            self.own_applied.fetch_max(entry.sequence, Ordering::AcqRel);
            self.answer(entry.sequence, applied.outcomes);
        }
        self.watchers.wake(&applied.changed);
        if applied.sessions {
            self.sessions_moved.send_replace(lsn);
        }
        if standing == Standing::Expired && !self.lives.is_over() {
            let is_own_leave = entry.session == speaker && entry.commands.contains(&Command::CloseSession);
            self.end_life(is_own_leave);
        }
    }

    /// Our session is over: so is this replica, or another life begins.
    fn end_life(&self, is_own_leave: bool) {
        let session = self.lives.speaker();
        if is_own_leave {
            self.end(SubmitError::Closed);
        } else if self.read(|state| self.lives.end(state)) {
            tracing::warn!(
                %session,
                "the other gateways heard nothing of this one and took it for dead: what was under way is refused; it comes back"
            );
            self.fail_waiting(&SubmitError::Fenced(session));
        } else {
            self.end(SubmitError::Fenced(session));
        }
    }

    /// Begins another life, and tells how it introduces itself. The caller, who alone writes entries, numbers them anew.
    pub(crate) async fn begin_life(&self) -> OpenSession {
        let _turn = self.turn.lock().await;
        self.own_applied.store(0, Ordering::Release);
        self.read(|state| self.lives.begin(state))
    }

    /// Takes part in the comparison of states; see `agreement`.
    fn compare(&self, lsn: Lsn, entry: &Entry, applied: &Applied, marked: Option<State>) {
        if let Some(state) = marked {
            self.agreement.mark(lsn, state);
        }
        let mut is_news = applied.sessions;
        for command in applied.done(entry) {
            if let Command::SayStateHash { at, hash } = command {
                self.agreement.said(entry.session, *at, *hash);
                is_news = true;
            }
        }
        let verdict = if is_news { self.read(|state| self.agreement.verdict(state.sessions())) } else { None };
        let Some(Verdict { at, own, right, all_agree, by_majority }) = verdict else { return };
        self.metrics.state_checks.inc();
        if all_agree {
            return tracing::debug!(%at, "all gateways hold the same state");
        }
        self.metrics.state_differences.inc();
        let advice = match by_majority {
            true => "who differs from most stops",
            false => {
                "there is no majority: the one that spoke first goes on, right or wrong; docs/restore.md says what to do"
            }
        };
        tracing::error!(%at, own = format!("{own:016x}"), right = format!("{right:016x}"), "gateways hold different states: {advice}");
        if own != right {
            self.end(SubmitError::Corrupt(
                format!("the state of this gateway at entry {at} is not that of the others; it must not serve from it")
                    .into(),
            ));
        }
    }

    fn answer(&self, sequence: u64, outcomes: Vec<Outcome>) {
        let answers = self.waiting().remove(&sequence).unwrap_or_default();
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            let outcome = match outcome {
                Outcome::Refused(Refusal::SessionFenced) => Err(SubmitError::Fenced(self.lives.speaker())),
                Outcome::Refused(refusal @ Refusal::Displaced) => {
                    Err(SubmitError::Unavailable(refusal.to_string().into()))
                }
                other => Ok(other),
            };
            let _ = answer.send(outcome); // whoever asked may have gone; the command took its course
        }
    }

    /// Fails the tickets of an entry of ours that is known not to be in the journal and never will be.
    pub(crate) fn give_up(&self, sequence: u64, reason: &str) {
        for answer in self.waiting().remove(&sequence).unwrap_or_default() {
            let _ = answer.send(Err(SubmitError::Unavailable(reason.into()))); // whoever asked may have gone
        }
    }

    /// Fails the tickets of an entry whose session is over: where it was not applied by now, it never will be.
    pub(crate) fn fail_over(&self, sequence: u64) {
        if self.lives.is_over() {
            for answer in self.waiting().remove(&sequence).unwrap_or_default() {
                let _ = answer.send(Err(SubmitError::Fenced(self.lives.speaker()))); // whoever asked may have gone
            }
        }
    }

    fn fail_waiting(&self, reason: &SubmitError) {
        let error = match reason {
            // In journal order, what is not applied by now comes after the fence and is refused.
            SubmitError::Fenced(_) => reason.clone(),
            SubmitError::Closed
            | SubmitError::TooLarge { .. }
            | SubmitError::Unavailable(_)
            | SubmitError::Unknown(_)
            | SubmitError::Corrupt(_) => SubmitError::Unknown(reason.to_string().into()),
        };
        let waiting = std::mem::take(&mut *self.waiting());
        for answer in waiting.into_values().flatten() {
            let _ = answer.send(Err(error.clone())); // whoever asked may have gone
        }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Answer>>> {
        self.waiting.lock().expect("nothing panics while it holds the waiting tickets")
    }
}

/// Refuses a journal with a hole in it.
pub(crate) fn check_next(applied: Lsn, next: Lsn) -> Result<(), ReadError> {
    if next.0 == applied.0 + 1 {
        Ok(())
    } else {
        Err(ReadError::Corrupt(format!("entry {next} follows entry {applied}").into()))
    }
}
