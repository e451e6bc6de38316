//! The handle through which everything else uses the truth: look at it, wait for it, add to it.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::appender::{Appender, AppenderParts, Work};
use crate::backoff::Backoff;
use crate::carried::Carried;
use crate::class::{Classify, ErrorClass};
use crate::clock::Clock;
use crate::command::{Command, OpenSession, Outcome};
use crate::door::{Door, Outcomes};
use crate::error::{StartError, SubmitError};
use crate::failpoint::bug_here;
use crate::journal::Journal;
use crate::life::{Lives, free_node};
use crate::metrics::JournalMetrics;
use crate::model::ids::{Lsn, SessionId, TopicPartition};
use crate::model::limits::JOURNAL_QUEUE_COMMANDS;
use crate::options::MetadataOptions;
use crate::pipeline::Pipeline;
use crate::replica::Replica;
use crate::silence;
use crate::snapshot::{Loaded, Newest, SnapshotStore, Snapshotter, load};
use crate::state::State;
use crate::watch::Watch;

/// What the metadata of a gateway is made of.
#[derive(Debug)]
pub struct MetadataParts {
    /// Where entries are kept.
    pub journal: Arc<dyn Journal>,
    /// Where snapshots are kept.
    pub snapshots: Arc<dyn SnapshotStore>,
    /// Dates the entries.
    pub clock: Arc<dyn Clock>,
    /// How this gateway introduces itself.
    pub session: OpenSession,
    /// Whether its node id is only a wish: if another gateway has it, this one takes the lowest that is free.
    pub allot_node: bool,
    /// Numbers.
    pub options: MetadataOptions,
    /// Where to count.
    pub metrics: JournalMetrics,
}

/// The truth as one gateway holds it. Clones share it; when the last is dropped, its tasks end at once, as in a crash: use
/// [`Metadata::shutdown`] to leave in order.
#[derive(Debug, Clone)]
pub struct Metadata {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    replica: Arc<Replica>,
    snapshotter: Arc<Snapshotter>,
    door: Door,
    leave: watch::Sender<bool>,
    barrier: Barrier,
    options: MetadataOptions,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    /// End by themselves once the replica has ended.
    ending: Vec<JoinHandle<()>>,
    /// Run until they are aborted.
    endless: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Tasks { ending, endless } =
            std::mem::take(&mut *self.tasks.lock().expect("nothing panics while it holds the tasks"));
        ending.iter().chain(&endless).for_each(JoinHandle::abort);
    }
}

impl Metadata {
    /// Builds the state from the newest snapshot and the journal's tail, opens a session, and follows the journal from there.
    ///
    /// Waits up to `start_timeout_ms` for a journal or store that is away.
    pub async fn start(mut parts: MetadataParts) -> Result<Metadata, StartError> {
        let started = tokio::time::Instant::now();
        let deadline = started + parts.options.start_timeout();
        if let Some((name, problem)) = parts.options.problem() {
            return Err(StartError::Options(format!("{name} {problem}")));
        }
        let session = SessionId::random();
        let loaded = load_by(deadline, session, &parts).await?;
        tracing::info!(%session, snapshot = %loaded.base, lsn = %loaded.state.applied(), "metadata loaded");
        if parts.allot_node {
            parts.session.node = free_node(&loaded.state, parts.session.node);
        }
        let metadata = Self::assemble(session, loaded, &parts);
        let opening = metadata.submit(Command::OpenSession(parts.session));
        let opened = tokio::time::timeout_at(deadline, opening)
            .await
            .unwrap_or_else(|_| Err(SubmitError::Unknown("the journal did not take the session in time".into())))?;
        match opened {
            Outcome::Refused(refusal) => Err(StartError::Refused(refusal)),
            Outcome::Done
            | Outcome::ProducerIds(_)
            | Outcome::Segment(_)
            | Outcome::LogStarts(_)
            | Outcome::GroupSaved { .. }
            | Outcome::Offsets(_)
            | Outcome::Swapped(_) => {
                metadata.take_over(deadline).await?;
                metadata.raise_feature_level().await?;
                Ok(metadata)
            }
        }
    }

    /// Clears what an older writer left behind the journal's head, before anything is put there.
    async fn take_over(&self, deadline: tokio::time::Instant) -> Result<(), StartError> {
        let Inner { replica, options, .. } = &*self.inner;
        let Some(carrier) = replica.journal.carrier() else { return Ok(()) };
        let mut backoff = Backoff::new(
            Duration::from_millis(options.retry_initial_ms),
            Duration::from_millis(options.retry_max_ms),
            replica.lives.session().0,
        );
        loop {
            match carrier.take_over().await {
                Err(error) if error.class() == ErrorClass::Retry && tokio::time::Instant::now() < deadline => {
                    tracing::warn!(%error, "the journal could not be taken over; trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
                taken => return Ok(taken?),
            }
        }
    }

    fn assemble(session: SessionId, loaded: Loaded, parts: &MetadataParts) -> Self {
        let MetadataParts { journal, snapshots, clock, session: introduction, allot_node, options, metrics } = parts;
        let Loaded { state, base, growth } = loaded;
        let begins_again = options.session_timeout().is_some();
        let lives = Lives::new(session, introduction.clone(), begins_again, *allot_node);
        let replica = Arc::new(Replica::new(
            Arc::clone(journal),
            Arc::new(Newest(Arc::clone(snapshots))),
            lives,
            state,
            growth,
            options.clone(),
            metrics.clone(),
        ));
        let (queue, queued) = mpsc::channel(JOURNAL_QUEUE_COMMANDS);
        let leave = watch::Sender::new(false);
        let appender = AppenderParts {
            queue: queued,
            leave: leave.subscribe(),
            replica: Arc::clone(&replica),
            journal: Arc::clone(journal),
            clock: Arc::clone(clock),
            options: options.clone(),
            metrics: metrics.clone(),
        };
        let snapshotter = Arc::new(Snapshotter {
            replica: Arc::clone(&replica),
            journal: Arc::clone(journal),
            snapshots: Arc::clone(snapshots),
            options: options.clone(),
            metrics: metrics.clone(),
            last: tokio::sync::Mutex::new(base),
        });
        let following = Arc::clone(&replica);
        let snapshotting = Arc::clone(&snapshotter);
        let door = Door::new(Arc::clone(&replica), queue, metrics.clone());
        let ending = vec![
            match journal.carrier() {
                Some(_) => spawn_guarded(&replica, Pipeline::new(appender).run()),
                None => spawn_guarded(&replica, Appender::new(appender).run()),
            },
            spawn_guarded(&replica, async move { following.follow().await }),
        ];
        let mut endless = vec![spawn_guarded(&replica, async move { snapshotting.run().await })];
        if let Some(timeout) = options.session_timeout() {
            endless.push(spawn_guarded(&replica, silence::watch(Arc::clone(&replica), door.clone(), timeout)));
        }
        Self {
            inner: Arc::new(Inner {
                replica,
                snapshotter,
                door,
                leave,
                barrier: Barrier::default(),
                options: options.clone(),
                tasks: Mutex::new(Tasks { ending, endless }),
            }),
        }
    }

    /// Raises the feature level to the highest one that every live session knows, if that is higher than the one in force.
    /// Harmless to repeat, and for several gateways to do at once.
    ///
    /// From then on an older gateway cannot join; see [`Command::feature_level`].
    pub async fn raise_feature_level(&self) -> Result<(), SubmitError> {
        let (known, level) = self.read(|state| (state.sessions().level_known_to_all(), state.feature_level()));
        if let Some(known) = known.filter(|known| *known > level) {
            let raised = self.submit(Command::RaiseFeatureLevel { level: known }).await?;
            if raised == Outcome::Done {
                tracing::info!(level = known, "the cluster's feature level was raised: every gateway knows it");
            }
        }
        Ok(())
    }

    /// Takes part in comparing the states of the gateways, and marks where to compare if it falls to this one. Never returns;
    /// may be dropped at any time. A gateway that finds its state to be another than that of the others ends.
    pub async fn compare_states(&self) {
        let Inner { replica, options, .. } = &*self.inner;
        let Some(every) = options.state_check_interval() else { return std::future::pending().await };
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut taken = replica.agreement.taken.subscribe();
        loop {
            let command = tokio::select! {
                _ = ticks.tick() => self.read(|state| {
                    let mut live = state.sessions().live().map(|session| session.id);
                    (live.next() == Some(self.session()) && live.next().is_some()).then_some(Command::MarkState)
                }),
                Ok(()) = taken.changed() => taken.borrow_and_update().map(|(at, hash)| Command::SayStateHash { at, hash }),
            };
            if let Some(command) = command
                && let Err(error) = self.submit(command).await
            {
                tracing::debug!(%error, "the states of the gateways are not compared now");
            }
        }
    }

    /// Tells, by its position, whenever a session came, went, or said that it will go.
    pub fn sessions_moved(&self) -> watch::Receiver<Lsn> {
        self.inner.replica.sessions_moved.subscribe()
    }

    /// This life of this gateway. Where it shares its journal, another may begin when the others took it for dead; until that
    /// has opened, this is the one that is over.
    pub fn session(&self) -> SessionId {
        self.inner.replica.lives.session()
    }

    /// Looks at the applied state under a short read lock: copy out what you need. Must not block, and must not call `read`
    /// again inside; being no async function, it cannot await.
    pub fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        self.inner.replica.read(look)
    }

    /// The read barrier: when it returns, the state holds everything that any gateway was told was done before this was
    /// called. Asks the journal for its head once; concurrent askers share one question. Cancel safe.
    ///
    /// Returns how far the state was known to be applied. Errors change nothing; past `barrier_timeout_ms` the answer is
    /// [`SubmitError::Unavailable`].
    pub async fn barrier(&self) -> Result<Lsn, SubmitError> {
        let Inner { replica, barrier, options, .. } = &*self.inner;
        if bug_here("barrier::stale") {
            return Ok(replica.applied());
        }
        let reached = async {
            let head = barrier.head(replica).await?;
            replica.reach(head).await?;
            Ok(head)
        };
        tokio::select! {
            biased;
            reason = replica.ended() => Err(reason),
            reached = tokio::time::timeout(options.barrier_timeout(), reached) => {
                reached.unwrap_or_else(|_| Err(SubmitError::Unavailable("no read barrier in time".into())))
            }
        }
    }

    /// Queues a command. When this returns, its place in the journal's order is fixed: commands come in the order in which
    /// their `enqueue` returned. Waits while the queue is full.
    ///
    /// Cancel safe: dropped before it returns, nothing was queued. Errors are definite: nothing was queued.
    pub async fn enqueue(&self, command: Command) -> Result<Ticket, SubmitError> {
        self.inner.door.enqueue(command).await.map(Ticket::of)
    }

    /// Whether segments travel in the journal's own objects: then [`Metadata::carry`] takes them.
    pub fn carries(&self) -> bool {
        self.inner.replica.journal.carrier().is_some()
    }

    /// Queues a segment that is to travel in the object of its own commit; as [`Metadata::enqueue`] of its commit.
    ///
    /// The ticket's [`SubmitError::Unavailable`] is definite here too: the position that the segment was given holds
    /// something else, or it follows one of which that is true.
    pub async fn carry(&self, segment: Carried) -> Result<Ticket, SubmitError> {
        if !self.carries() {
            return Err(SubmitError::Unavailable("this journal carries no segments".into()));
        }
        let bytes = segment.commit_bytes;
        self.inner.door.queue(Work::Segment(segment), bytes).await.map(Ticket::of)
    }

    /// Position of the first entry that the journal keeps: the objects of entries from there on are not to be deleted.
    pub async fn journal_first(&self) -> Result<Lsn, SubmitError> {
        Ok(self.inner.replica.journal.first().await?)
    }

    /// Queues a command and waits for what it comes to: [`Metadata::enqueue`], then the ticket.
    ///
    /// Dropped while waiting, the command may or may not take effect.
    pub async fn submit(&self, command: Command) -> Result<Outcome, SubmitError> {
        self.enqueue(command).await?.await
    }

    /// A watch over the logs of `partitions`; see [`Watch`].
    pub fn watch(&self, partitions: impl Iterator<Item = TopicPartition>) -> Watch {
        self.inner.replica.watchers.watch(partitions)
    }

    /// Waits until this handle is of no more use and tells why: shut down ([`SubmitError::Closed`]), fenced, or the journal
    /// is damaged. The state stands still from then on: a gateway must stop serving.
    pub async fn ended(&self) -> SubmitError {
        self.inner.replica.ended().await
    }

    /// Leaves in order: refuses new commands, appends what is queued, closes the session, takes a snapshot if one is due,
    /// ends the tasks. Takes at most about `shutdown_timeout_ms`; commands that were not appended by then get
    /// [`SubmitError::Closed`], one whose append is under way [`SubmitError::Unknown`]. Calling it again is harmless.
    pub async fn shutdown(&self) {
        let Inner { replica, snapshotter, leave, options, tasks, .. } = &*self.inner;
        replica.lives.stop();
        leave.send_replace(true);
        let deadline = tokio::time::Instant::now() + options.shutdown_timeout();
        if tokio::time::timeout_at(deadline, replica.ended()).await.is_err() {
            tracing::warn!("the journal did not take the last entries in time");
            replica.end(SubmitError::Closed);
        }
        if replica.end_reason() == Some(SubmitError::Closed) {
            match tokio::time::timeout_at(deadline, snapshotter.take_if_due()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the last snapshot was not written"),
                Err(_) => tracing::warn!("the last snapshot was not written in time"),
            }
        }
        let Tasks { ending, endless } =
            std::mem::take(&mut *tasks.lock().expect("nothing panics while it holds the tasks"));
        endless.iter().for_each(JoinHandle::abort);
        for task in ending.into_iter().chain(endless) {
            let _ = task.await; // a panic was told by its guard
        }
    }
}

/// Loads the state, again and again while journal or store are away, until `deadline`.
async fn load_by(
    deadline: tokio::time::Instant,
    session: SessionId,
    parts: &MetadataParts,
) -> Result<Loaded, StartError> {
    let options = &parts.options;
    let mut backoff = Backoff::new(
        Duration::from_millis(options.retry_initial_ms),
        Duration::from_millis(options.retry_max_ms),
        session.0,
    );
    loop {
        let loading = load(parts.journal.as_ref(), parts.snapshots.as_ref(), &parts.metrics);
        match loading.await {
            Err(error) if error.class() == ErrorClass::Retry && tokio::time::Instant::now() < deadline => {
                tracing::warn!(%error, "the metadata could not be loaded; trying again");
                tokio::time::sleep(backoff.next()).await;
            }
            loaded => return loaded,
        }
    }
}

/// Spawns a task whose panic ends the replica, so that no ticket waits for it in vain.
fn spawn_guarded(replica: &Arc<Replica>, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    struct Guard(Arc<Replica>);
    impl Drop for Guard {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.end(SubmitError::Corrupt("a task of the journal panicked".into()));
            }
        }
    }
    let guard = Guard(Arc::clone(replica));
    tokio::spawn(async move {
        let _guard = guard;
        task.await;
    })
}

/// What a queued command comes to. Dropping it does not take the command back: it takes its course, unheard.
#[derive(Debug)]
#[must_use = "the command's outcome is only told here"]
pub struct Ticket {
    outcome: Outcomes,
}

impl Ticket {
    fn of(outcome: Outcomes) -> Self {
        Self { outcome }
    }
}

impl Future for Ticket {
    type Output = Result<Outcome, SubmitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome)
            .poll(context)
            .map(|heard| heard.unwrap_or_else(|_| Err(SubmitError::Unknown("the journal's tasks were ended".into()))))
    }
}

/// Shares one question for the head among everyone who asked before it was put.
#[derive(Debug, Default)]
struct Barrier {
    /// Counts those who ask.
    asked: AtomicU64,
    /// The last answer, and how many had asked when its question was put.
    last: tokio::sync::Mutex<(u64, Option<Result<Lsn, SubmitError>>)>,
}

impl Barrier {
    async fn head(&self, replica: &Replica) -> Result<Lsn, SubmitError> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = self.last.lock().await; // waits while a question is under way
        if let (asked, Some(answer)) = &*last
            && *asked >= mine
        {
            return answer.clone();
        }
        let asked = self.asked.load(Ordering::SeqCst);
        let answer = replica.journal_head().await.map_err(SubmitError::from);
        *last = (asked, Some(answer.clone()));
        answer
    }
}

#[cfg(any(test, feature = "test-util"))]
impl MetadataParts {
    /// Parts of gateway `node` on a journal and snapshots that tests share between gateways or lives; a manual clock, quick
    /// retries. It fences no one but an earlier life of the same node.
    pub fn for_tests(node: i32, journal: Arc<dyn Journal>, snapshots: Arc<dyn SnapshotStore>) -> Self {
        let session = OpenSession {
            node: crate::model::ids::NodeId(node),
            listeners: vec![crate::command::AdvertisedListener {
                name: "PLAINTEXT".into(),
                host: "localhost".into(),
                port: 9092,
            }],
            rack: None,
            // The first: nothing is said in the journal but what a test says.
            feature_level: 0,
            cluster_id: "test-cluster".into(),
            fence_others: false,
        };
        let options = MetadataOptions { retry_initial_ms: 1, retry_max_ms: 10, ..MetadataOptions::default() };
        let clock = Arc::new(crate::clock::ManualClock::at(1_700_000_000_000));
        let metrics = JournalMetrics::unregistered();
        Self { journal, snapshots, clock, session, allot_node: false, options, metrics }
    }
}

#[cfg(any(test, feature = "test-util"))]
impl Metadata {
    /// Metadata of one gateway, node 1, with everything in memory.
    pub async fn for_tests() -> Self {
        let journal = Arc::new(crate::journal::memory::MemoryJournal::default());
        let snapshots = Arc::new(crate::snapshot::MemorySnapshots::default());
        Self::start(MetadataParts::for_tests(1, journal, snapshots)).await.expect("a journal in memory starts")
    }
}

#[cfg(test)]
mod tests;
