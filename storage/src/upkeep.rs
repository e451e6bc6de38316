//! Tidying, a little at a time: logs are shortened or compacted, small objects are merged, cold extents are folded, objects that nothing
//! refers to are deleted, what is idle is forgotten.
//!
//! Gateways that share a journal share out the jobs; see `metadata::shares`. Every result is a command that `apply` checks again, and every pass may be repeated or stop half-way: the next one goes on
//! from what the state says. Nothing here can delete what a commit may still name (G1); see `sweep`.

mod compact;
mod fold;
mod merge;
mod retain;
mod rewrite;
mod sources;
mod sweep;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metadata::clock::Clock;
use metadata::command::Command;
use metadata::error::SubmitError;
use metadata::handle::Metadata;
use metadata::model::extent::ObjectId;
use metadata::model::ids::Lsn;
use metadata::model::topic_config::TopicConfig;
use metadata::shares::Share;
use metadata::state::topics::Topic;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::merge::{SetAside, TARGET_MAX_BYTES};
use self::sources::Sources;
use crate::blob::{BlobError, BlobStore};
use crate::cache::tail::TailCache;
use crate::folds::Folds;
use crate::metrics::UpkeepMetrics;
use crate::options::UpkeepOptions;
use crate::writer::Writer;

/// The jobs that are shared out, by the names that decide to whom they fall.
const RETAIN: &str = "retain";
const SWEEP: &str = "sweep";
const LIST: &str = "list";
const EXPIRE: &str = "expire";
/// How long a run of a manifest may take to be read.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

/// Merging, compacting and folding: all change the extents of logs, and would undo each other's work.
const REWRITE: &str = "rewrite";

/// The configs in force of a topic.
#[derive(Clone)]
pub struct ConfigOf(Arc<dyn Fn(&Topic) -> TopicConfig + Send + Sync>);

impl ConfigOf {
    /// Configs as `of` tells them.
    pub fn new(of: impl Fn(&Topic) -> TopicConfig + Send + Sync + 'static) -> Self {
        Self(Arc::new(of))
    }

    /// What is set on the topic itself, and Kafka's defaults for the rest.
    pub fn explicit() -> Self {
        Self::new(|topic| TopicConfig::resolve(|name| topic.configs().get(name).map(String::as_str)))
    }
}

impl fmt::Debug for ConfigOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConfigOf")
    }
}

/// What upkeep is made of.
#[derive(Debug)]
pub struct UpkeepParts {
    /// Where objects are deleted.
    pub blobs: Arc<dyn BlobStore>,
    /// The same bucket, for merges.
    pub merge_blobs: Arc<dyn BlobStore>,
    /// The same bucket, for compactions.
    pub compact_blobs: Arc<dyn BlobStore>,
    /// What decides.
    pub metadata: Metadata,
    /// Whose failed uploads are swept.
    pub writer: Writer,
    /// The newest bytes, which merges need not read from the bucket; the writer's too.
    pub tail: Arc<TailCache>,
    /// What retention counts by.
    pub clock: Arc<dyn Clock>,
    /// How long which topic is kept.
    pub configs: ConfigOf,
    /// Where to count.
    pub metrics: UpkeepMetrics,
    /// Numbers.
    pub options: UpkeepOptions,
}

/// Why a pass ended before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpkeepError {
    /// The journal did not take a command or could not be asked.
    #[error(transparent)]
    Journal(#[from] SubmitError),
    /// The bucket could not be listed or deleted from.
    #[error(transparent)]
    Storage(#[from] BlobError),
}

impl metadata::class::Classify for UpkeepError {
    fn class(&self) -> metadata::class::ErrorClass {
        match self {
            Self::Journal(error) => error.class(),
            Self::Storage(error) => error.class(),
        }
    }
}

/// The tasks of upkeep.
#[derive(Debug)]
pub struct Upkeep {
    keeper: Arc<Keeper>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What the passes share.
#[derive(Debug)]
struct Keeper {
    parts: UpkeepParts,
    /// Dead objects of the ledger, and since when this process knows: their grace is counted by its own monotonic clock.
    dead_since: Mutex<HashMap<ObjectId, Instant>>,
    /// Where the next listing goes on.
    listed_until: tokio::sync::Mutex<Option<String>>,
    sources: Sources,
    folds: Arc<Folds>,
    set_aside: Mutex<SetAside>,
    /// Size that merged objects are to have, bytes.
    merge_target: AtomicU64,
    /// Held by whoever swaps extents: a merge and a compaction of one log would undo each other's work.
    rewriting: tokio::sync::Mutex<()>,
    /// The same for the journal's objects, where they lie in the bucket.
    journal_listed_until: tokio::sync::Mutex<Option<String>>,
    /// Up to where the objects of entries that the journal let go of are deleted; unknown at first.
    entries_swept: tokio::sync::Mutex<Option<Lsn>>,
}

impl Upkeep {
    /// Starts all passes, each after its interval; the listing, which finds what a crash left behind, soon after the start.
    pub fn start(parts: UpkeepParts) -> Self {
        let (tail, metrics) = (Arc::clone(&parts.tail), parts.metrics.clone());
        let keeper = Arc::new(Keeper {
            dead_since: Mutex::default(),
            listed_until: tokio::sync::Mutex::default(),
            journal_listed_until: tokio::sync::Mutex::default(),
            entries_swept: tokio::sync::Mutex::default(),
            folds: Folds::new(Arc::clone(&parts.blobs), RUN_DEADLINE, metrics.runs.clone()),
            sources: Sources::new(tail, metrics, parts.options.merge.bytes_per_second),
            set_aside: Mutex::default(),
            merge_target: parts.options.merge.target_bytes.min(TARGET_MAX_BYTES).into(),
            rewriting: tokio::sync::Mutex::default(),
            parts,
        });
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let upkeep = Self { keeper, stop, tasks };
        let options = upkeep.keeper.parts.options.clone();
        upkeep.share(options.retain_every, options.retain_every, RETAIN, async |keeper| keeper.retain().await);
        upkeep.share(options.sweep_every, options.sweep_every, SWEEP, async |keeper| {
            let entries = keeper.sweep_entries().await;
            keeper.sweep_dead().await?;
            entries
        });
        // What this gateway's own failed uploads left is known to nobody else.
        upkeep.every(options.sweep_every, options.sweep_every, "leftovers", async |keeper| {
            keeper.sweep_leftovers().await
        });
        upkeep.share(options.sweep_every, options.list_every, LIST, async |keeper| keeper.sweep_listed().await);
        let compact = options.compact.every;
        upkeep.share(compact, compact, REWRITE, async |keeper| keeper.compact().await);
        let merge = options.merge.every;
        let leaving = |keeper: Arc<Keeper>| async move { keeper.parts.tail.woken().await };
        upkeep.share_woken(merge, merge, REWRITE, leaving, async |keeper| keeper.merge().await);
        upkeep.share(options.merge.every, options.merge.every, REWRITE, async |keeper| keeper.fold().await);
        upkeep.every(merge, merge, "index", async |keeper| {
            keeper.measure_index();
            Ok(())
        });
        upkeep.share(options.expire_every, options.expire_every, EXPIRE, async |keeper| keeper.expire().await);
        upkeep
    }

    /// Stops after the step that is under way. What is left is found again by the next life.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// One pass of retention, now.
    pub async fn retain(&self) -> Result<(), UpkeepError> {
        self.keeper.retain().await
    }

    /// One look for logs to compact, and the compactions, now.
    pub async fn compact(&self) -> Result<(), UpkeepError> {
        self.keeper.compact().await
    }

    /// One look for objects to merge, and the merges, now.
    pub async fn merge(&self) -> Result<(), UpkeepError> {
        self.keeper.merge().await
    }

    /// One look whether the index has become too large, and the folding, now; and everything that is to be unfolded.
    pub async fn fold(&self) -> Result<(), UpkeepError> {
        self.keeper.fold().await
    }

    /// One pass over what nothing refers to, now.
    pub async fn sweep(&self) -> Result<(), UpkeepError> {
        self.keeper.sweep().await
    }

    /// One pass over the bucket's listing, now.
    pub async fn sweep_listed(&self) -> Result<(), UpkeepError> {
        self.keeper.sweep_listed().await
    }

    /// A pass that every gateway does.
    fn every<P, F>(&self, first: Duration, then: Duration, what: &'static str, pass: P)
    where
        P: Fn(Arc<Keeper>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), UpkeepError>> + Send,
    {
        let (keeper, stop) = (Arc::clone(&self.keeper), self.stop.clone());
        self.tasks.spawn(async move {
            let mut ticks = ticks(first, then);
            let passes = async {
                loop {
                    ticks.tick().await;
                    keeper.told(what, pass(Arc::clone(&keeper)).await);
                }
            };
            stop.run_until_cancelled(passes).await;
        });
    }

    /// A pass that one of the gateways does: the one to which the job falls.
    fn share<P, F>(&self, first: Duration, then: Duration, job: &'static str, pass: P)
    where
        P: Fn(Arc<Keeper>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), UpkeepError>> + Send,
    {
        self.share_woken(first, then, job, |_| std::future::pending(), pass);
    }

    /// The same, and each time that `wake` ends.
    fn share_woken<W, V, P, F>(&self, first: Duration, then: Duration, job: &'static str, wake: W, pass: P)
    where
        W: Fn(Arc<Keeper>) -> V + Send + Sync + 'static,
        V: Future<Output = ()> + Send,
        P: Fn(Arc<Keeper>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), UpkeepError>> + Send,
    {
        let (keeper, stop) = (Arc::clone(&self.keeper), self.stop.clone());
        self.tasks.spawn(async move {
            let mut ticks = ticks(first, then);
            let mut share = Share::of(&keeper.parts.metadata, job);
            let passes = async {
                loop {
                    let is_due = tokio::select! {
                        _ = ticks.tick() => share.is_held(),
                        () = wake(Arc::clone(&keeper)) => share.is_held(),
                        () = share.gained() => true,
                    };
                    if !is_due {
                        continue;
                    }
                    tokio::select! {
                        done = pass(Arc::clone(&keeper)) => keeper.told(job, done),
                        () = share.lost() => tracing::debug!(job, "a job of upkeep is another gateway's now"),
                    }
                }
            };
            stop.run_until_cancelled(passes).await;
        });
    }
}

fn ticks(first: Duration, then: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + first, then.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Keeper {
    /// Notes how a pass ended.
    fn told(&self, pass: &'static str, ended: Result<(), UpkeepError>) {
        if let Err(error) = ended {
            self.parts.metrics.failures.inc();
            tracing::warn!(%error, pass, "upkeep ended early; the next pass goes on");
        }
    }

    /// Forgets idle producers and the offsets of empty groups.
    async fn expire(&self) -> Result<(), UpkeepError> {
        let options = &self.parts.options;
        let ms = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.parts
            .metadata
            .submit(Command::ExpireState {
                producer_idle_ms: ms(options.producer_idle),
                offsets_retention_ms: ms(options.offsets_retention),
            })
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
