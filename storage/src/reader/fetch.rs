//! Gets blocks: from the tail cache, the block cache, a load under way, or the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use metadata::model::extent::Extent;
use tokio::time::timeout;

use super::is_gone;
use super::locate::{Located, Pace, Wanted};
use super::plan::{RangePlan, plan};
use crate::blob::lanes::{Lane, ReadLanes};
use crate::blob::{BlobError, BlobStore, Operation};
use crate::cache::block::{Block, BlockKey, Trust};
use crate::cache::blocks::BlockCache;
use crate::cache::single_flight::{Awaited, Loaded, SingleFlight};
use crate::cache::tail::TailCache;
use crate::error::ReadError;
use crate::metrics::StorageMetrics;
use crate::options::ReaderOptions;

/// One read loads no more ahead than this part of the block cache.
const AHEAD_PART: usize = 16;

/// Gets blocks, each at most once at a time.
#[derive(Debug)]
pub(super) struct Fetcher {
    lanes: ReadLanes,
    tail: Arc<TailCache>,
    cached: BlockCache,
    flights: SingleFlight,
    pub(super) metrics: StorageMetrics,
    options: ReaderOptions,
}

/// The blocks of one partition, one for each of its extents; after an error there are no more.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) blocks: Vec<Arc<Block>>,
    pub(super) error: Option<ReadError>,
}

impl Fetched {
    /// Whether an object was not there any more.
    pub(super) fn is_gone(&self) -> bool {
        self.error.as_ref().is_some_and(is_gone)
    }
}

/// A block, or where it will come from.
enum Source {
    Here(Arc<Block>),
    Coming(Awaited),
}

impl Fetcher {
    pub(super) fn new(lanes: ReadLanes, tail: Arc<TailCache>, metrics: StorageMetrics, options: ReaderOptions) -> Self {
        Self {
            lanes,
            tail,
            cached: BlockCache::new(options.block_bytes, metrics.blocks.clone()),
            flights: SingleFlight::default(),
            metrics,
            options,
        }
    }

    /// The blocks of all partitions; what is missing is fetched side by side.
    pub(super) async fn blocks(self: &Arc<Self>, located: &[Located]) -> Vec<Fetched> {
        let wanted: Vec<Wanted> = located.iter().flat_map(Located::wanted).collect();
        let mut sources = self.sources(&wanted).into_iter();
        let mut all = Vec::with_capacity(located.len());
        for located in located {
            let mut fetched = Fetched::default();
            for source in sources.by_ref().take(located.extents.len()) {
                if fetched.error.is_some() {
                    continue;
                }
                // All loads run on their own: waiting for one does not hold up another.
                match source.block().await {
                    Ok(block) => fetched.blocks.push(block),
                    Err(error) => fetched.error = Some(error),
                }
            }
            all.push(fetched);
        }
        all
    }

    /// The block of one extent.
    pub(super) async fn block(self: &Arc<Self>, wanted: Wanted) -> Result<Arc<Block>, ReadError> {
        let mut sources = self.sources(&[wanted]);
        let source = sources.pop().expect("one source for one extent");
        source.block().await
    }

    /// Begins to load what is missing, without waiting for it: at most a small part of the cache, so that it is still there
    /// when it is wanted, and nothing if readers who do wait need the room.
    pub(super) fn load_ahead(self: &Arc<Self>, wanted: &[Wanted]) {
        let mut left = self.options.block_bytes / AHEAD_PART;
        let mut missing = wanted.to_vec();
        missing.retain(|Wanted { extent, pace, .. }| {
            let fits = extent.length as usize <= left && self.lane(*pace).is_half_free() && !self.is_here(extent);
            left -= if fits { extent.length as usize } else { 0 };
            fits
        });
        if !missing.is_empty() {
            self.metrics.reader.ahead_extents.inc_by(missing.len() as u64);
            drop(self.sources(&missing)); // the loads go on by themselves
        }
    }

    fn lane(&self, pace: Pace) -> &Lane {
        match pace {
            Pace::Tail => &self.lanes.tail,
            Pace::CatchUp => &self.lanes.catch_up,
        }
    }

    fn is_here(&self, extent: &Extent) -> bool {
        self.tail.holds(extent.object) || self.cached.peek(extent).is_some()
    }

    /// One source for each wanted extent; loads are begun for what is neither here nor under way.
    fn sources(self: &Arc<Self>, wanted: &[Wanted]) -> Vec<Source> {
        let mut sources: BTreeMap<usize, Source> = BTreeMap::new();
        let mut missing = Vec::new();
        for (number, Wanted { extent, leader_epoch, .. }) in wanted.iter().enumerate() {
            match self.tail.get(extent, *leader_epoch).or_else(|| self.cached.get(extent)) {
                Some(block) => drop(sources.insert(number, Source::Here(block))),
                None => missing.push(number),
            }
        }
        if !missing.is_empty() {
            self.load(wanted, missing, &mut sources);
        }
        sources.into_values().collect()
    }

    fn load(self: &Arc<Self>, wanted: &[Wanted], missing: Vec<usize>, sources: &mut BTreeMap<usize, Source>) {
        let mut books = self.flights.books();
        // By key, so that an extent wanted twice in one read is loaded once.
        let mut cold: BTreeMap<BlockKey, Vec<usize>> = BTreeMap::new();
        for number in missing {
            let key = BlockKey::of(&wanted[number].extent);
            if let Some(awaited) = books.underway(&key) {
                sources.insert(number, Source::Coming(awaited));
            } else if let Some(block) = self.cached.peek(&wanted[number].extent) {
                sources.insert(number, Source::Here(block)); // its load ended just now
            } else {
                cold.entry(key).or_default().push(number);
            }
        }
        let wanted_by: Vec<Vec<usize>> = cold.into_values().collect();
        let extents: Vec<Extent> = wanted_by.iter().map(|numbers| wanted[numbers[0]].extent).collect();
        for range in plan(&extents) {
            let keys = range.extents.iter().map(|&number| BlockKey::of(&extents[number])).collect();
            let of_range: Vec<Wanted> = range.extents.iter().map(|&number| wanted[wanted_by[number][0]]).collect();
            let awaited = books.enter(keys, Arc::clone(self).get(range.clone(), of_range));
            for (&number, awaited) in range.extents.iter().zip(awaited) {
                for &number in &wanted_by[number] {
                    sources.insert(number, Source::Coming(awaited.clone()));
                }
            }
        }
    }

    /// One GET: checked, cut into blocks, put into the cache. Read again once if what came is damaged.
    async fn get(self: Arc<Self>, plan: RangePlan, wanted: Vec<Wanted>) -> Loaded {
        let within = self.options.deadline;
        let loaded = timeout(within, self.get_checked(&plan, &wanted)).await;
        loaded.unwrap_or_else(|_| {
            let late = ReadError::Storage(BlobError::Timeout { operation: Operation::GetRange, after: within });
            wanted.iter().map(|_| Err(late.clone())).collect()
        })
    }

    async fn get_checked(&self, plan: &RangePlan, wanted: &[Wanted]) -> Loaded {
        let first = self.get_once(plan, wanted).await;
        let loaded = if first.iter().any(is_damaged) {
            self.metrics.reader.reread.inc();
            self.get_once(plan, wanted).await
        } else {
            first
        };
        for (Wanted { extent, .. }, block) in wanted.iter().zip(&loaded) {
            match block {
                Ok(block) => self.cached.insert(BlockKey::of(extent), Arc::clone(block)),
                Err(ReadError::Corrupt(what)) => {
                    self.metrics.reader.corrupt.inc();
                    tracing::error!(object = %extent.object, %what, "stored bytes are damaged");
                }
                Err(_) => {}
            }
        }
        loaded.into()
    }

    async fn get_once(&self, plan: &RangePlan, wanted: &[Wanted]) -> Vec<Result<Arc<Block>, ReadError>> {
        let RangePlan { object, range, .. } = plan;
        self.metrics.reader.ranges.inc();
        self.metrics.reader.range_extents.inc_by(wanted.len() as u64);
        self.metrics.reader.range_bytes.inc_by(range.end - range.start);
        // What the tail's readers wait for is as urgent as they are, whoever else wants it.
        let is_urgent = wanted.iter().any(|wanted| wanted.pace == Pace::Tail);
        let lane = self.lane(if is_urgent { Pace::Tail } else { Pace::CatchUp });
        let bytes = match lane.get_range(&object.key(), range.clone()).await {
            Ok(bytes) => bytes,
            Err(error @ BlobError::ShortRead { .. }) => {
                return wanted.iter().map(|_| Err(ReadError::Corrupt(error.to_string().into()))).collect();
            }
            Err(error) => return wanted.iter().map(|_| Err(ReadError::Storage(error.clone()))).collect(),
        };
        if let [Wanted { extent, leader_epoch, .. }] = wanted {
            // One extent is the whole range: patched where it is, if no one else holds it.
            let own = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
            return vec![place(own, extent, *leader_epoch)];
        }
        let part = |extent: &Extent| cut_out(&bytes, (extent.position - range.start) as usize, extent.length as usize);
        wanted.iter().map(|w| place(part(&w.extent), &w.extent, w.leader_epoch)).collect()
    }
}

impl Source {
    async fn block(self) -> Result<Arc<Block>, ReadError> {
        match self {
            Self::Here(block) => Ok(block),
            Self::Coming(awaited) => awaited.block().await,
        }
    }
}

fn is_damaged(block: &Result<Arc<Block>, ReadError>) -> bool {
    matches!(block, Err(ReadError::Corrupt(_)))
}

/// A copy, so that a small block in the cache does not keep a large range in memory.
fn cut_out(range: &Bytes, from: usize, length: usize) -> BytesMut {
    let until = (from + length).min(range.len()); // a store may have sent less: then the block is damaged
    BytesMut::from(range.get(from..until).unwrap_or_default())
}

fn place(bytes: BytesMut, extent: &Extent, epoch: i32) -> Result<Arc<Block>, ReadError> {
    let placed = Block::place(bytes, extent, epoch, Trust::Unchecked);
    placed.map(Arc::new).map_err(|damage| ReadError::Corrupt(damage.to_string().into()))
}
