//! Blocks read from the bucket, kept in memory as long as they are of use, weighed by their bytes.

use std::sync::Arc;

use metadata::model::extent::Extent;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::block::{Block, BlockKey};

/// What a block of an ordinary busy log weighs, bytes; only sizes the cache's table.
const TYPICAL_BLOCK_BYTES: usize = 64 << 10;

/// The cache is split into shards, and a block larger than one is not kept: so they are large, bytes.
const SHARD_BYTES: usize = 256 << 20;
const SHARDS_MAX: usize = 16;
/// Part of the cache for what was asked for again and again. The rest takes what was just loaded, and must hold what was
/// loaded ahead until its reader comes: most of what passes here is read through once.
const HOT_PART: f64 = 0.6;

/// The block cache.
#[derive(Debug)]
pub struct BlockCache {
    blocks: Cache<BlockKey, Arc<Block>, ByWeight>,
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
    pub fn new(capacity: usize) -> Self {
        let options = OptionsBuilder::new()
            .estimated_items_capacity((capacity / TYPICAL_BLOCK_BYTES).max(16))
            .weight_capacity(capacity as u64)
            .hot_allocation(HOT_PART)
            .shards((capacity / SHARD_BYTES).clamp(1, SHARDS_MAX))
            .build()
            .expect("items, weight and shards are all that is needed");
        Self {
            blocks: Cache::with_options(options, ByWeight, DefaultHashBuilder::default(), DefaultLifecycle::default()),
        }
    }

    /// The block of an extent, if it is here.
    pub fn peek(&self, extent: &Extent) -> Option<Arc<Block>> {
        self.blocks.get(&BlockKey::of(extent)).filter(|block| block.is(extent))
    }

    /// Whether the block of an extent is here. Does not count as a use of it.
    pub fn holds(&self, extent: &Extent) -> bool {
        self.blocks.peek(&BlockKey::of(extent)).is_some_and(|block| block.is(extent))
    }

    /// Takes a block in.
    pub fn insert(&self, key: BlockKey, block: Arc<Block>) {
        self.blocks.insert(key, block);
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.blocks.weight()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::cache::block::Trust;
    use crate::sample::{batch_of, extent_of, object};

    #[test]
    fn a_block_of_half_the_cache_is_kept() {
        let batch = batch_of(10_000, 1);
        let cache = BlockCache::new(batch.len() * 2);
        let extent = Extent { object: object(1), ..extent_of(5, &batch) };
        let block = Arc::new(Block::place(BytesMut::from(&batch[..]), &extent, 0, Trust::Unchecked).unwrap());
        cache.insert(BlockKey::of(&extent), Arc::clone(&block));
        assert!(Arc::ptr_eq(&cache.peek(&extent).unwrap(), &block));
        assert_eq!(cache.bytes(), block.weight() as u64);
        assert!(cache.holds(&extent));
        let longer = Extent { length: extent.length + 1, ..extent };
        assert!(cache.peek(&longer).is_none() && !cache.holds(&longer));
    }

    #[test]
    fn what_was_loaded_ahead_stays_while_others_are_read_through() {
        let batch = batch_of(1_000, 1);
        let cache = BlockCache::new(batch.len() * 100);
        let extent = |counter| Extent { object: object(counter), ..extent_of(5, &batch) };
        let block = Arc::new(Block::place(BytesMut::from(&batch[..]), &extent(0), 0, Trust::Unchecked).unwrap());
        // Each is loaded thirty reads before it is wanted, and then read several times.
        for counter in 0..1_000 {
            cache.insert(BlockKey::of(&extent(counter + 30)), Arc::clone(&block));
            if counter >= 30 {
                (0..4).for_each(|_| assert!(cache.peek(&extent(counter)).is_some(), "{counter}"));
            }
        }
    }
}
