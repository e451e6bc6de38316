//! Where merge and compact have their bytes from: the tail cache where it has them, else few and long ranges of the bucket,
//! every batch checked (L7), at a pace of their own.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};
use metadata::model::extent::{Extent, ObjectId};
use tokio::time::{Instant, sleep_until, timeout};

use crate::blob::{BlobError, BlobStore, Operation};
use crate::cache::block::{Block, Damage, Trust};
use crate::cache::tail::TailCache;
use crate::error::ReadError;
use crate::metrics::UpkeepMetrics;
use crate::pace::Pace;
use crate::reader::plan::{RangePlan, plan};

/// A joined range is no longer than this, bytes; one extent may be longer.
const JOINED_MAX_BYTES: u64 = 16 << 20;
/// GETs of one piece of work side by side.
const GETS_AT_ONCE: usize = 2;
/// How long a GET may take.
const GET_DEADLINE: Duration = Duration::from_secs(60);
/// How much may be read at once after a quiet time, seconds' worth.
const BURST: Duration = Duration::from_secs(1);

/// Reads extents for upkeep.
#[derive(Debug)]
pub(super) struct Sources {
    tail: Arc<TailCache>,
    metrics: UpkeepMetrics,
    pace: Mutex<Pace>,
}

/// What could not be read, and why.
#[derive(Debug, Clone)]
pub(super) struct Unreadable {
    pub(super) object: ObjectId,
    pub(super) error: ReadError,
}

/// Work that takes a processor for long, where no produce or fetch waits for it.
pub(super) async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BlobError> {
    let done = metadata::aside::off_thread(work).await;
    done.map_err(|ended| BlobError::Unknown(format!("a piece of upkeep ended: {ended}")))
}

impl Sources {
    pub(super) fn new(tail: Arc<TailCache>, metrics: UpkeepMetrics, bytes_per_second: u64) -> Self {
        Self { tail, metrics, pace: Mutex::new(Pace::new(bytes_per_second, BURST)) }
    }

    /// The blocks of extents, in their order, each with the leader epoch written into its batches. Holds all of them in memory
    /// at once, and little more. What came damaged is read once more before it counts as unreadable.
    pub(super) async fn blocks(
        &self,
        blobs: &dyn BlobStore,
        extents: &[Extent],
        leader_epoch: i32,
    ) -> Result<Vec<Arc<Block>>, Unreadable> {
        let mut blocks: Vec<Option<Arc<Block>>> = Vec::with_capacity(extents.len());
        let (mut missing, mut here_bytes) = (Vec::new(), 0);
        for (number, extent) in extents.iter().enumerate() {
            let here = self.tail.holds(extent.object).then(|| self.tail.get(extent, leader_epoch)).flatten();
            if here.is_some() {
                here_bytes += u64::from(extent.length);
            } else {
                missing.push(number);
            }
            blocks.push(here);
        }
        self.metrics.source_tail_bytes.inc_by(here_bytes);
        // What is here is held already: it waits for nothing, but what is read later waits for it.
        self.pace().pay(here_bytes);
        let cold: Vec<Extent> = missing.iter().map(|&number| extents[number]).collect();
        let loads = plan(&cold, JOINED_MAX_BYTES).into_iter().map(|range| self.load(blobs, range, &cold, leader_epoch));
        let mut loaded = stream::iter(loads).buffered(GETS_AT_ONCE);
        while let Some(of_range) = loaded.try_next().await? {
            for (number, block) in of_range {
                blocks[missing[number]] = Some(block);
            }
        }
        Ok(blocks.into_iter().map(|block| block.expect("every extent is in one range")).collect())
    }

    async fn load(
        &self,
        blobs: &dyn BlobStore,
        range: RangePlan,
        extents: &[Extent],
        leader_epoch: i32,
    ) -> Result<Vec<(usize, Arc<Block>)>, Unreadable> {
        match self.load_once(blobs, &range, extents, leader_epoch).await {
            Err(Unreadable { error: ReadError::Corrupt(_), .. }) => {
                self.load_once(blobs, &range, extents, leader_epoch).await
            }
            other => other,
        }
    }

    async fn load_once(
        &self,
        blobs: &dyn BlobStore,
        range: &RangePlan,
        extents: &[Extent],
        leader_epoch: i32,
    ) -> Result<Vec<(usize, Arc<Block>)>, Unreadable> {
        let object = range.object;
        let length = range.range.end - range.range.start;
        self.wait_turn(length).await;
        self.metrics.source_gets.inc();
        self.metrics.source_bytes.inc_by(length);
        let got = timeout(GET_DEADLINE, blobs.get_range(&object.key(), range.range.clone())).await;
        let got = got
            .unwrap_or(Err(BlobError::Timeout { operation: Operation::GetRange, after: GET_DEADLINE }))
            .map_err(|error| match error {
                BlobError::ShortRead { .. } => ReadError::Corrupt(error.to_string().into()),
                other => ReadError::Storage(other),
            })
            .map_err(|error| Unreadable { object, error })?;
        // Blocks are patched where they are: nothing is copied unless the store keeps a share.
        let mut rest = got.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let mut at = range.range.start;
        let mut blocks = Vec::with_capacity(range.extents.len());
        for &number in &range.extents {
            let extent = &extents[number];
            let skipped = usize::try_from(extent.position.saturating_sub(at)).unwrap_or(usize::MAX).min(rest.len());
            drop(rest.split_to(skipped));
            let own = rest.split_to((extent.length as usize).min(rest.len()));
            at = extent.position + u64::from(extent.length);
            let block = Block::place(own, extent, leader_epoch, Trust::Unchecked);
            let damaged = |why: Damage| Unreadable { object, error: ReadError::Corrupt(why.to_string().into()) };
            blocks.push((number, Arc::new(block.map_err(damaged)?)));
        }
        Ok(blocks)
    }

    /// Whether as much may be moved as has been.
    pub(super) fn is_paid(&self) -> bool {
        self.pace().paid_at() <= Instant::now()
    }

    /// Waits until so many more bytes may be read.
    async fn wait_turn(&self, bytes: u64) {
        let turn = {
            let mut pace = self.pace();
            let turn = pace.paid_at();
            pace.pay(bytes);
            turn
        };
        sleep_until(turn).await;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().expect("nothing panics while it holds the pace")
    }
}
