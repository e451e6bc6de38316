//! The way of bytes back to consumers: one look at the index for all partitions, then everything that is missing at once.
//!
//! ```text
//!  locate (one look) ─► plan (pure) ─► tail cache, block cache, or ranged GETs side by side ─► assemble (pure)
//! ```
//!
//! What a reader is given is whole batches, checked (L7), patched to their place, as shared slices: nothing is copied here.

mod assemble;
pub mod available;
mod fetch;
mod locate;
pub mod plan;
mod prefetch;
mod times;

use std::sync::Arc;

use bytes::Bytes;
use metadata::handle::Metadata;
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;

use self::assemble::{Assembled, assemble};
use self::fetch::Fetcher;
use self::locate::{Located, locate};
use self::prefetch::{Prefetch, ahead};
use crate::blob::BlobError;
use crate::blob::lanes::ReadLanes;
use crate::cache::disk::DiskCache;
use crate::cache::tail::TailCache;
use crate::error::ReadError;
use crate::folds::Folds;
use crate::metrics::StorageMetrics;
use crate::options::ReaderOptions;

/// What a reader is made of.
#[derive(Debug)]
pub struct ReaderParts {
    /// Where the bytes are.
    pub lanes: ReadLanes,
    /// Where the index is.
    pub metadata: Metadata,
    /// The newest bytes; the writer's too.
    pub tail: Arc<TailCache>,
    /// The block cache's tier on disk, if there is to be one.
    pub disk: Option<Arc<DiskCache>>,
    /// Where to count.
    pub metrics: StorageMetrics,
    /// Numbers.
    pub options: ReaderOptions,
}

/// Reads logs. Clones share it.
#[derive(Debug, Clone)]
pub struct Reader {
    metadata: Metadata,
    folds: Arc<Folds>,
    fetcher: Arc<Fetcher>,
    prefetch: Arc<Prefetch>,
}

/// What to read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// The partition.
    pub partition: TopicPartition,
    /// First offset wanted. The batch that holds it is given whole.
    pub offset: Offset,
    /// Most bytes wanted.
    pub max_bytes: u32,
}

/// What was read of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadResult {
    /// Whole batches, back to back, in offset order; empty at the end of the log.
    pub records: Vec<Bytes>,
    /// End of the log when the index was looked at; the records never reach beyond it.
    pub high_watermark: Offset,
    /// End of what no open transaction can change.
    pub last_stable: Offset,
    /// Start of the log.
    pub log_start: Offset,
    /// Why there is nothing. The offsets above are right unless the partition is unknown.
    pub error: Option<ReadError>,
}

impl ReadResult {
    /// Bytes of all records.
    pub fn bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

impl Reader {
    /// A reader with its own block cache.
    pub fn new(parts: ReaderParts) -> Self {
        let ReaderParts { lanes, metadata, tail, disk, metrics, options } = parts;
        let prefetch = Arc::new(Prefetch::new(options.block_bytes));
        let folds = Folds::new(Arc::clone(&lanes.catch_up) as _, options.deadline, metrics.folds.clone());
        let fetcher = Arc::new(Fetcher::new(lanes, tail, disk, metrics, options));
        Self { metadata, folds, fetcher, prefetch }
    }

    /// Reads several partitions, all at once; the results stand in the order of the requests, and so do the claims on
    /// `max_bytes`. At least one whole batch is given per call, even past the limits, if any partition has one.
    ///
    /// An offset that looks out of range, or a partition that looks unknown, is looked up again at the head of the journal
    /// before it is called so (L10). An object that was deleted between look-up and GET makes the look-up happen again (G4).
    /// Cancel safe.
    pub async fn read(&self, requests: &[ReadRequest], max_bytes: usize) -> Vec<ReadResult> {
        let mut located = self.look(requests, max_bytes).await;
        if located.iter().any(is_stale) {
            match self.metadata.barrier().await {
                Ok(_) => located = self.look(requests, max_bytes).await,
                Err(error) => {
                    for located in located.iter_mut().filter(|located| is_stale(located)) {
                        located.error = Some(ReadError::Journal(error.clone()));
                    }
                }
            }
        }
        let mut blocks = self.fetcher.blocks(&located).await;
        let is_gone = |blocks: &[fetch::Fetched]| blocks.iter().any(fetch::Fetched::is_gone);
        if is_gone(&blocks) {
            self.fetcher.metrics.reader.relocated.inc();
            if let Err(error) = self.metadata.barrier().await {
                tracing::debug!(%error, "a deleted object was met and the journal could not be asked why");
            }
            located = self.look(requests, max_bytes).await;
            blocks = self.fetcher.blocks(&located).await;
        }
        let Assembled { results, ends } = assemble(requests, located, &blocks, max_bytes);
        self.read_ahead(requests, &results, &ends);
        self.fetcher.metrics.reader.read_bytes.inc_by(results.iter().map(|result| result.bytes() as u64).sum());
        results
    }

    /// Loads on for those who read on.
    fn read_ahead(&self, requests: &[ReadRequest], results: &[ReadResult], ends: &[Option<Offset>]) {
        let mut readers = Vec::new();
        for ((request, result), end) in requests.iter().zip(results).zip(ends) {
            let Some(end) = *end else { continue };
            let reader = self.prefetch.read_on(request, result.log_start, end, result.bytes() as u64);
            readers.extend(reader.filter(|_| end < result.high_watermark));
        }
        if !readers.is_empty() {
            let share = self.prefetch.share(&readers);
            let mut runs = self.folds.at_hand();
            let wanted = self.metadata.read(|state| ahead(state, &readers, share, &mut runs));
            self.folds.load_ahead(runs.into_missing());
            let begun = self.fetcher.load_ahead(&wanted.extents);
            self.prefetch.note(&readers, &wanted, begun);
        }
    }

    async fn look(&self, requests: &[ReadRequest], max_bytes: usize) -> Vec<Located> {
        self.folds.look(&self.metadata, |state, runs| locate(state, requests, max_bytes, runs)).await
    }
}

/// Whether the state at the head of the journal may say something else.
fn is_stale(located: &Located) -> bool {
    let error = located.error.as_ref();
    error.is_some_and(|e| matches!(e, ReadError::UnknownPartition | ReadError::OffsetOutOfRange) || is_gone(e))
}

fn is_gone(error: &ReadError) -> bool {
    matches!(error, ReadError::Storage(BlobError::NotFound { .. }))
}

#[cfg(test)]
mod tests;
