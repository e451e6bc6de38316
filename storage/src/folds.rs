//! What is folded, looked up: runs of extents are read from their manifests, checked, and kept in memory as long as they are of
//! use.
//!
//! A look at the state waits for nothing. So whoever meets a fold of which the run is not at hand notes it as missing, and looks
//! again once it has come ([`Folds::look`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use metadata::codec::run::{decode_run, hash_run};
use metadata::handle::Metadata;
use metadata::model::extent::Extent;
use metadata::model::fold::{Fold, RunHash};
use metadata::model::offset::Offset;
use metadata::state::State;
use metadata::state::log::Log;
use metadata::state::log::fold::Part;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::blob::{BlobError, BlobStore, Operation};
use crate::error::ReadError;
use crate::metrics::FoldMetrics;

/// Most bytes of runs kept in memory.
const CACHE_BYTES: u64 = 32 << 20;
/// What a run of ordinary length takes, bytes; only sizes the cache's table.
const TYPICAL_RUN_BYTES: usize = 32 << 10;
/// Runs that one look has loaded side by side.
const LOADS_AT_ONCE: usize = 16;
/// Runs loaded for readers that have not come to them yet, at most.
const LOADS_AHEAD: usize = 16;
/// Looks after which a question is given up; a second one is needed for the runs, further ones only if others fold meanwhile.
const LOOKS_MAX: usize = 8;

/// The extents of a fold, in offset order.
pub type Run = Arc<[Extent]>;

/// Reads manifests.
#[derive(Debug)]
pub struct Folds {
    blobs: Arc<dyn BlobStore>,
    runs: Cache<RunHash, Run, ByLength>,
    ahead: Arc<Semaphore>,
    deadline: Duration,
    metrics: FoldMetrics,
}

#[derive(Debug, Clone)]
struct ByLength;

impl Weighter<RunHash, Run> for ByLength {
    fn weight(&self, _: &RunHash, run: &Run) -> u64 {
        size_of_val(&**run) as u64
    }
}

/// The runs that a look at the state has at hand.
#[derive(Debug)]
pub struct Runs<'a> {
    folds: &'a Folds,
    here: HashMap<RunHash, Result<Run, ReadError>>,
    missing: Vec<Fold>,
}

impl Folds {
    /// With an empty cache; a run that is not there after `deadline` is an error.
    pub fn new(blobs: Arc<dyn BlobStore>, deadline: Duration, metrics: FoldMetrics) -> Arc<Self> {
        let runs = Cache::with_weighter(CACHE_BYTES as usize / TYPICAL_RUN_BYTES, CACHE_BYTES, ByLength);
        let ahead = Arc::new(Semaphore::new(LOADS_AHEAD));
        Arc::new(Self { blobs, runs, ahead, deadline, metrics })
    }

    /// Looks at the state until nothing is missing, and tells what was seen then. A run that cannot be had is an error where it is
    /// asked for, and nowhere else. Cancel safe.
    pub async fn look<T>(&self, metadata: &Metadata, mut look: impl FnMut(&State, &mut Runs<'_>) -> T) -> T {
        let mut runs = self.at_hand();
        for _ in 0..LOOKS_MAX {
            let seen = metadata.read(|state| look(state, &mut runs));
            if runs.missing.is_empty() {
                return seen;
            }
            let missing = std::mem::take(&mut runs.missing);
            let loads = missing.into_iter().map(|fold| async move { (fold.hash, self.run(&fold).await) });
            let loaded: Vec<_> = stream::iter(loads).buffer_unordered(LOADS_AT_ONCE).collect().await;
            runs.here.extend(loaded);
        }
        // Others fold faster than it can be read: what is still missing is an error of its own.
        metadata.read(|state| look(state, &mut runs))
    }

    /// What is at hand now.
    pub fn at_hand(&self) -> Runs<'_> {
        Runs { folds: self, here: HashMap::new(), missing: Vec::new() }
    }

    /// The run of a fold: at hand, or from its manifest; many who ask at once cost one GET. Cancel safe.
    pub async fn run(&self, fold: &Fold) -> Result<Run, ReadError> {
        let load = self.runs.get_or_insert_async(&fold.hash, async {
            let bytes = self.bytes(fold).await?;
            self.metrics.loaded.inc();
            read_run(fold, &bytes)
        });
        timeout(self.deadline, load).await.unwrap_or_else(|_| {
            let late = BlobError::Timeout { operation: Operation::GetRange, after: self.deadline };
            Err(ReadError::Storage(late))
        })
    }

    /// The bytes of a fold's run, of the hash that it has. Read once more if they come damaged.
    pub async fn bytes(&self, fold: &Fold) -> Result<Bytes, ReadError> {
        match self.bytes_once(fold).await {
            Err(ReadError::Corrupt(_)) => self.bytes_once(fold).await.inspect_err(|error| {
                if matches!(error, ReadError::Corrupt(_)) {
                    self.metrics.corrupt.inc();
                    tracing::error!(manifest = %fold.object, %error, "a run of folded extents is damaged");
                }
            }),
            read => read,
        }
    }

    async fn bytes_once(&self, fold: &Fold) -> Result<Bytes, ReadError> {
        let from = u64::from(fold.position);
        let got = self.blobs.get_range(&fold.object.key(), from..from + u64::from(fold.length)).await;
        let bytes = got.map_err(|error| match error {
            BlobError::ShortRead { .. } => ReadError::Corrupt(error.to_string().into()),
            other => ReadError::Storage(other),
        })?;
        match hash_run(&bytes) == fold.hash {
            true => Ok(bytes),
            false => Err(damaged(fold, "its hash is another")),
        }
    }

    /// Begins to load what a look has missed, without waiting for it.
    pub fn load_ahead(self: &Arc<Self>, missing: Vec<Fold>) {
        for fold in missing {
            let Ok(permit) = Arc::clone(&self.ahead).try_acquire_owned() else { return };
            let folds = Arc::clone(self);
            tokio::spawn(async move {
                let _permit = permit;
                if let Err(error) = folds.run(&fold).await {
                    tracing::debug!(%error, "folded extents were not loaded ahead");
                }
            });
        }
    }
}

/// The extents that a run's bytes stand for, if they are what the fold says. The bytes' hash is checked already.
pub fn read_run(fold: &Fold, bytes: &[u8]) -> Result<Run, ReadError> {
    let extents = decode_run(bytes).map_err(|error| damaged(fold, &error.to_string()))?;
    let ends = extents.first().map(|first| first.base).zip(extents.last().map(|last| last.end));
    if ends != Some((fold.base, fold.end)) || u32::try_from(extents.len()) != Ok(fold.extents) {
        return Err(damaged(fold, "it holds other offsets"));
    }
    Ok(extents.into())
}

fn damaged(fold: &Fold, why: &str) -> ReadError {
    let Fold { object, position, base, end, .. } = fold;
    ReadError::Corrupt(format!("run at {position} of manifest {object}, offsets {base} to {end}: {why}").into())
}

impl Runs<'_> {
    /// The run of a fold. One that is missing is an error for now: the look is made again when it is here.
    pub fn get(&mut self, fold: &Fold) -> Result<Run, ReadError> {
        if let Some(Err(error)) = self.here.get(&fold.hash) {
            return Err(error.clone());
        }
        self.peek(fold).ok_or_else(|| {
            self.missing.push(*fold);
            ReadError::Storage(BlobError::Unavailable("the extents there are folded and not read yet".into()))
        })
    }

    /// The run of a fold, if it is at hand.
    fn peek(&mut self, fold: &Fold) -> Option<Run> {
        if let Some(here) = self.here.get(&fold.hash) {
            return here.as_ref().ok().cloned();
        }
        let run = self.folds.runs.get(&fold.hash)?;
        self.here.insert(fold.hash, Ok(Arc::clone(&run))); // it may be gone from the cache at the next look
        Some(run)
    }

    /// The extents of a log from the one that holds `from` on, in offset order; ends with the first error.
    pub fn extents<'r>(
        &'r mut self,
        log: Log<'r>,
        from: Offset,
    ) -> impl Iterator<Item = Result<Extent, ReadError>> + 'r {
        self.walk(log, from, true)
    }

    /// The same as far as it can be told at once: only if nothing is at hand before it, a run is missing.
    pub fn extents_at_hand<'r>(
        &'r mut self,
        log: Log<'r>,
        from: Offset,
    ) -> impl Iterator<Item = Result<Extent, ReadError>> + 'r {
        self.walk(log, from, false)
    }

    fn walk<'r>(
        &'r mut self,
        log: Log<'r>,
        from: Offset,
        all: bool,
    ) -> impl Iterator<Item = Result<Extent, ReadError>> + 'r {
        let (mut parts, mut run, mut is_over, mut has_begun) = (log.parts(from), None::<(Run, usize)>, false, false);
        std::iter::from_fn(move || {
            while !is_over {
                if let Some((extents, next)) = &mut run {
                    if let Some(extent) = extents.get(*next) {
                        *next += 1;
                        has_begun = true;
                        return Some(Ok(*extent));
                    }
                    run = None;
                }
                match parts.next()? {
                    Part::Extent(extent) => {
                        has_begun = true;
                        return Some(Ok(extent));
                    }
                    Part::Folded(fold) if has_begun && !all && self.peek(fold).is_none() => is_over = true,
                    Part::Folded(fold) => match self.get(fold) {
                        Ok(extents) => {
                            let first = extents.partition_point(|extent| extent.end <= from);
                            run = Some((extents, first));
                        }
                        Err(error) => {
                            is_over = true; // what stands behind a fold is not next to what stands before it
                            return Some(Err(error));
                        }
                    },
                }
            }
            None
        })
    }

    /// What was asked for and is not at hand.
    pub fn into_missing(self) -> Vec<Fold> {
        self.missing
    }
}
