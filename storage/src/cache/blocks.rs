//! Blocks read from the bucket, kept in memory as long as they are of use, weighed by their bytes.

use std::sync::Arc;

use metadata::model::extent::Extent;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::block::{Block, BlockKey};
use crate::metrics::CacheMetrics;

/// What a block of an ordinary busy log weighs, bytes; only sizes the cache's table.
const TYPICAL_BLOCK_BYTES: usize = 64 << 10;

/// The block cache.
#[derive(Debug)]
pub struct BlockCache {
    blocks: Cache<BlockKey, Arc<Block>, ByWeight>,
    metrics: CacheMetrics,
}

#[derive(Debug, Clone)]
struct ByWeight;

impl Weighter<BlockKey, Arc<Block>> for ByWeight {
    fn weight(&self, _: &BlockKey, block: &Arc<Block>) -> u64 {
        block.weight() as u64
    }
}

impl BlockCache {
    /// An empty cache of `capacity` bytes.
    pub fn new(capacity: usize, metrics: CacheMetrics) -> Self {
        let items = (capacity / TYPICAL_BLOCK_BYTES).max(16);
        Self { blocks: Cache::with_weighter(items, capacity as u64, ByWeight), metrics }
    }

    /// The block of an extent, if it is here.
    pub fn get(&self, extent: &Extent) -> Option<Arc<Block>> {
        let found = self.peek(extent);
        self.metrics.count(found.is_some());
        found
    }

    /// Like [`BlockCache::get`], not counted.
    pub fn peek(&self, extent: &Extent) -> Option<Arc<Block>> {
        self.blocks.get(&BlockKey::of(extent)).filter(|block| block.is(extent))
    }

    /// Takes a block in.
    pub fn insert(&self, key: BlockKey, block: Arc<Block>) {
        self.blocks.insert(key, block);
        self.metrics.bytes.set(self.blocks.weight());
    }
}
