//! Gets blocks: from the tail cache, the block cache, a load under way, or the bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use metadata::model::extent::Extent;
use tokio::time::timeout;

use super::is_gone;
use super::locate::{Located, Pace, Wanted};
use super::plan::{JOINED_MAX_BYTES, RangePlan, plan};
use crate::blob::lanes::{Lane, ReadLanes};
use crate::blob::{BlobError, BlobStore, Operation};
use crate::cache::block::{Block, BlockKey, Trust};
use crate::cache::blocks::BlockCache;
use crate::cache::disk::DiskCache;
use crate::cache::single_flight::{Awaited, Loaded, SingleFlight};
use crate::cache::tail::TailCache;
use crate::error::ReadError;
use crate::metrics::{FoundLabel, StorageMetrics};
use crate::options::ReaderOptions;

/// One read loads no more ahead than this part of the block cache.
const AHEAD_PART: usize = 4;
/// The part of the block cache that is for readers near the end of their logs.
const TAIL_PART: usize = 4;

/// Gets blocks, each at most once at a time.
#[derive(Debug)]
pub(super) struct Fetcher {
    lanes: ReadLanes,
    tail: Arc<TailCache>,
    /// Of the tail's readers, and of those who catch up: these cannot push out what those need.
    tail_blocks: BlockCache,
    blocks: BlockCache,
    disk: Option<Arc<DiskCache>>,
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

/// How many extents were to be had how.
#[derive(Debug, Default)]
struct Begun {
    /// By a load that was under way.
    joined: usize,
    disk: usize,
    bucket: usize,
}

impl Fetcher {
    pub(super) fn new(
        lanes: ReadLanes,
        tail: Arc<TailCache>,
        disk: Option<Arc<DiskCache>>,
        metrics: StorageMetrics,
        options: ReaderOptions,
    ) -> Self {
        Self {
            lanes,
            tail,
            tail_blocks: BlockCache::new(options.block_bytes / TAIL_PART),
            blocks: BlockCache::new(options.block_bytes - options.block_bytes / TAIL_PART),
            disk,
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

    /// Begins to load what is missing, without waiting for it: at most a part of the cache, so that it is still there when it
    /// is wanted, and nothing if readers who do wait need the lane. Tells how many of the first are here or on their way.
    pub(super) fn load_ahead(self: &Arc<Self>, wanted: &[Wanted]) -> usize {
        let mut left = self.options.block_bytes / AHEAD_PART;
        let mut missing = Vec::new();
        let mut begun = 0;
        for one in wanted {
            if !self.is_here(&one.extent) {
                let length = one.extent.length as usize;
                if length > left || !self.lane(one.pace).is_half_free() {
                    break;
                }
                left -= length;
                missing.push(*one);
            }
            begun += 1;
        }
        if !missing.is_empty() {
            // The loads go on by themselves.
            let loads = self.load(&missing, (0..missing.len()).collect(), &mut BTreeMap::new());
            self.metrics.reader.ahead_extents.inc_by((loads.disk + loads.bucket) as u64);
        }
        begun
    }

    fn lane(&self, pace: Pace) -> &Lane {
        match pace {
            Pace::Tail => &self.lanes.tail,
            Pace::CatchUp => &self.lanes.catch_up,
        }
    }

    fn is_here(&self, extent: &Extent) -> bool {
        self.tail.holds(extent.object) || self.tail_blocks.holds(extent) || self.blocks.holds(extent)
    }

    fn peek(&self, extent: &Extent) -> Option<Arc<Block>> {
        self.tail_blocks.peek(extent).or_else(|| self.blocks.peek(extent))
    }

    /// Keeps a block for readers of its kind.
    fn keep(&self, wanted: &Wanted, block: &Arc<Block>) {
        let blocks = match wanted.pace {
            Pace::Tail => &self.tail_blocks,
            Pace::CatchUp => &self.blocks,
        };
        blocks.insert(BlockKey::of(&wanted.extent), Arc::clone(block));
        self.metrics.blocks.bytes.set(self.tail_blocks.bytes() + self.blocks.bytes());
    }

    /// One source for each wanted extent; loads are begun for what is neither here nor under way.
    fn sources(self: &Arc<Self>, wanted: &[Wanted]) -> Vec<Source> {
        let mut sources: BTreeMap<usize, Source> = BTreeMap::new();
        let mut missing = Vec::new();
        for (number, Wanted { extent, leader_epoch, .. }) in wanted.iter().enumerate() {
            let found = self.tail.get(extent, *leader_epoch).or_else(|| {
                let found = self.peek(extent);
                self.metrics.blocks.count(found.is_some());
                found
            });
            match found {
                Some(block) => drop(sources.insert(number, Source::Here(block))),
                None => missing.push(number),
            }
        }
        self.count_found("memory", wanted.len() - missing.len());
        if !missing.is_empty() {
            let begun = self.load(wanted, missing, &mut sources);
            self.count_found("coming", begun.joined);
            self.count_found("disk", begun.disk);
            self.count_found("bucket", begun.bucket);
        }
        sources.into_values().collect()
    }

    fn count_found(&self, place: &'static str, extents: usize) {
        if extents > 0 {
            self.metrics.reader.found.get_or_create(&FoundLabel { place }).inc_by(extents as u64);
        }
    }

    fn load(self: &Arc<Self>, wanted: &[Wanted], missing: Vec<usize>, sources: &mut BTreeMap<usize, Source>) -> Begun {
        let mut begun = Begun::default();
        let mut books = self.flights.books();
        // By key, so that an extent wanted twice in one read is loaded once.
        let mut cold: BTreeMap<BlockKey, Vec<usize>> = BTreeMap::new();
        for number in missing {
            let key = BlockKey::of(&wanted[number].extent);
            if let Some(awaited) = books.underway(&key) {
                begun.joined += 1;
                sources.insert(number, Source::Coming(awaited));
            } else if let Some(block) = self.peek(&wanted[number].extent) {
                begun.joined += 1;
                sources.insert(number, Source::Here(block)); // its load ended just now
            } else {
                cold.entry(key).or_default().push(number);
            }
        }
        let holds = |wanted: &Wanted| self.disk.as_ref().is_some_and(|disk| disk.holds(&wanted.extent));
        let (kept, wanted_by): (Vec<_>, Vec<_>) = cold.into_values().partition(|numbers| holds(&wanted[numbers[0]]));
        (begun.disk, begun.bucket) = (kept.len(), wanted_by.len());
        for numbers in kept {
            let one = wanted[numbers[0]];
            let awaited = books.enter(vec![BlockKey::of(&one.extent)], Arc::clone(self).read_back(one));
            for number in numbers {
                sources.insert(number, Source::Coming(awaited[0].clone()));
            }
        }
        let extents: Vec<Extent> = wanted_by.iter().map(|numbers| wanted[numbers[0]].extent).collect();
        for range in plan(&extents, JOINED_MAX_BYTES) {
            let keys = range.extents.iter().map(|&number| BlockKey::of(&extents[number])).collect();
            let of_range: Vec<Wanted> = range.extents.iter().map(|&number| wanted[wanted_by[number][0]]).collect();
            let awaited = books.enter(keys, Arc::clone(self).get(range.clone(), of_range));
            for (&number, awaited) in range.extents.iter().zip(awaited) {
                for &number in &wanted_by[number] {
                    sources.insert(number, Source::Coming(awaited.clone()));
                }
            }
        }
        begun
    }

    /// A block from the disk, or from the bucket if it is no good.
    async fn read_back(self: Arc<Self>, wanted: Wanted) -> Loaded {
        if let Some(disk) = &self.disk
            && let Some(block) = disk.get(wanted.extent, wanted.leader_epoch).await
        {
            self.keep(&wanted, &block);
            return [Ok(block)].into();
        }
        let extent = wanted.extent;
        let range = extent.position..extent.position + u64::from(extent.length);
        self.get(RangePlan { object: extent.object, range, extents: vec![0] }, vec![wanted]).await
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
        for (wanted, block) in wanted.iter().zip(&loaded) {
            match block {
                Ok(block) => {
                    self.keep(wanted, block);
                    if let Some(disk) = &self.disk {
                        disk.insert(BlockKey::of(&wanted.extent), block);
                    }
                }
                Err(ReadError::Corrupt(what)) => {
                    self.metrics.reader.corrupt.inc();
                    tracing::error!(object = %wanted.extent.object, %what, "stored bytes are damaged");
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
