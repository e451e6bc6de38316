//! The newest batches in memory, so that consumers at the end of their logs never touch the bucket.
//!
//! Keyed by where the bytes lie, not by offset: a segment's batches are staged here *before* its commit is journalled, and
//! whoever learns the extents first, the writer from the outcome or a reader from the index, puts them in place. So a reader
//! woken by the commit finds them, however the two race.
//!
//! The bytes are those that were uploaded: a run that nobody else holds any more is patched where it lies.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use metadata::command::CommitSegment;
use metadata::model::extent::{Extent, ObjectId};
use tokio::sync::Notify;

use super::block::{Block, Trust};
use crate::metrics::CacheMetrics;

/// Segments with so much behind them, of the capacity, leave soon: who reads at the end of a log is seldom so far behind.
const LEAVING: f64 = 0.5;
/// Who merges what leaves is woken whenever so much more, of the capacity, was taken in: an eighth is left for the time it takes.
const WAKES: f64 = 0.375;

/// The newest segments, bounded by bytes; the oldest goes first.
#[derive(Debug)]
pub struct TailCache {
    capacity: usize,
    kept: Mutex<Kept>,
    wakes: Notify,
    metrics: CacheMetrics,
}

#[derive(Debug, Default)]
struct Kept {
    segments: HashMap<ObjectId, Arc<StagedSegment>>,
    order: VecDeque<ObjectId>,
    bytes: usize,
    /// Bytes taken in since the last wake.
    fresh: usize,
}

/// The batches of one segment.
#[derive(Debug)]
pub struct StagedSegment {
    object: ObjectId,
    bytes: usize,
    /// In order of their position.
    runs: Box<[StagedRun]>,
}

#[derive(Debug)]
struct StagedRun {
    position: u64,
    pieces: Mutex<Vec<Piece>>,
}

/// Part of a run; the pieces of a run share one allocation.
#[derive(Debug)]
enum Piece {
    /// Where in the log it belongs, and whether it does, is not known yet.
    Staged { position: u64, bytes: Bytes },
    /// Part of a log.
    Placed { position: u64, block: Arc<Block> },
}

impl StagedSegment {
    /// The segment of `commit`; `runs` are the batches of its partitions, in the same order.
    pub fn new(commit: &CommitSegment, runs: Vec<Bytes>) -> Self {
        let staged =
            |position, bytes| StagedRun { position, pieces: Mutex::new(vec![Piece::Staged { position, bytes }]) };
        let runs = commit.partitions.iter().zip(runs).map(|(part, run)| staged(part.position, run)).collect();
        Self { object: commit.object, bytes: commit.object_bytes as usize, runs }
    }

    /// The block of an extent of this segment.
    fn block(&self, extent: &Extent, leader_epoch: i32) -> Option<Arc<Block>> {
        let run = self.runs.partition_point(|run| run.position <= extent.position).checked_sub(1)?;
        let mut pieces = self.runs[run].pieces.lock().expect("nothing panics while it holds the pieces");
        let end = extent.position + u64::from(extent.length);
        let holds = |piece: &Piece| match piece {
            Piece::Placed { position, block } => *position == extent.position && block.is(extent),
            Piece::Staged { position, bytes } => *position <= extent.position && end <= position + bytes.len() as u64,
        };
        let found = pieces.iter().position(holds)?;
        if let Piece::Placed { block, .. } = &pieces[found] {
            return Some(Arc::clone(block));
        }
        let Piece::Staged { position, mut bytes } = pieces.swap_remove(found) else { return None };
        let mut middle = bytes.split_off((extent.position - position) as usize);
        let rest = middle.split_off(extent.length as usize);
        if !bytes.is_empty() {
            pieces.push(Piece::Staged { position, bytes });
        }
        if !rest.is_empty() {
            pieces.push(Piece::Staged { position: end, bytes: rest });
        }
        // Copied if it is still under way to the bucket a second time, or only part of its run.
        let middle = BytesMut::from(middle);
        let block = Arc::new(Block::place(middle, extent, leader_epoch, Trust::Checked).ok()?);
        pieces.push(Piece::Placed { position: extent.position, block: Arc::clone(&block) });
        Some(block)
    }

    fn drop_staged(&self) {
        for run in &self.runs {
            let mut pieces = run.pieces.lock().expect("nothing panics while it holds the pieces");
            pieces.retain(|piece| matches!(piece, Piece::Placed { .. }));
        }
    }
}

impl TailCache {
    /// An empty cache of `capacity` bytes.
    pub fn new(capacity: usize, metrics: CacheMetrics) -> Self {
        Self { capacity, kept: Mutex::default(), wakes: Notify::new(), metrics }
    }

    /// Takes a segment in, before its commit is journalled. One larger than the cache is not kept.
    pub fn stage(&self, segment: StagedSegment) {
        if segment.bytes > self.capacity {
            return;
        }
        let mut kept = self.kept();
        kept.bytes += segment.bytes;
        kept.fresh += segment.bytes;
        if kept.fresh as f64 >= self.capacity as f64 * WAKES {
            kept.fresh = 0;
            self.wakes.notify_one();
        }
        kept.order.push_back(segment.object);
        kept.segments.insert(segment.object, Arc::new(segment));
        while kept.bytes > self.capacity {
            let Some(oldest) = kept.order.pop_front() else { break };
            kept.remove(oldest);
        }
        self.metrics.bytes.set(kept.bytes as u64);
    }

    /// Puts the extents of a committed segment, each with its leader epoch, in place and lets the rest of it go.
    pub fn settle(&self, object: ObjectId, extents: impl Iterator<Item = (Extent, i32)>) {
        let Some(segment) = self.segment(object) else { return };
        for (extent, leader_epoch) in extents {
            segment.block(&extent, leader_epoch);
        }
        segment.drop_staged();
    }

    /// Forgets a segment that was not committed.
    pub fn forget(&self, object: ObjectId) {
        let mut kept = self.kept();
        kept.remove(object);
        kept.order.retain(|kept| *kept != object);
        self.metrics.bytes.set(kept.bytes as u64);
    }

    /// The bytes of an extent, if they are here.
    pub fn get(&self, extent: &Extent, leader_epoch: i32) -> Option<Arc<Block>> {
        let found = self.segment(extent.object).and_then(|segment| segment.block(extent, leader_epoch));
        self.metrics.count(found.is_some());
        found
    }

    /// Waits until three eighths of the capacity were taken in again; one waits at a time. Cancel safe.
    pub async fn woken(&self) {
        self.wakes.notified().await;
    }

    /// The segments that leave soon.
    pub fn leaving(&self) -> HashSet<ObjectId> {
        let kept = self.kept();
        let mut rest = kept.bytes.saturating_sub((self.capacity as f64 * LEAVING) as usize);
        let oldest = kept.order.iter().filter_map(|object| kept.segments.get(object));
        let leave = oldest.take_while(|segment| {
            let leaves = segment.bytes <= rest;
            rest = rest.saturating_sub(segment.bytes);
            leaves
        });
        leave.map(|segment| segment.object).collect()
    }

    /// Whether the segment is here.
    pub fn holds(&self, object: ObjectId) -> bool {
        self.kept().segments.contains_key(&object)
    }

    fn segment(&self, object: ObjectId) -> Option<Arc<StagedSegment>> {
        self.kept().segments.get(&object).cloned()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nothing panics while it holds the cache")
    }
}

impl Kept {
    fn remove(&mut self, object: ObjectId) {
        if let Some(segment) = self.segments.remove(&object) {
            self.bytes -= segment.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use metadata::command::PartitionCommit;
    use metadata::model::batch::BatchView;
    use metadata::model::offset::Offset;

    use super::*;
    use crate::sample::{batch_of, object, partition, shared, summary_of};

    fn segment(counter: u64, batches: &[Vec<u8>]) -> (CommitSegment, Vec<Bytes>) {
        let batches: Vec<Bytes> = batches.iter().cloned().map(shared).collect();
        let part = PartitionCommit {
            partition: partition(1, 0),
            position: 8,
            batches: batches.iter().map(|b| summary_of(b)).collect(),
        };
        let object_bytes = batches.iter().map(|b| b.len() as u64).sum();
        (CommitSegment { object: object(counter), object_bytes, partitions: vec![part] }, vec![batches.concat().into()])
    }

    fn extent(counter: u64, skip: usize, batches: &[Vec<u8>], base: i64) -> Extent {
        let joined = batches.concat();
        Extent { object: object(counter), position: 8 + skip as u64, ..crate::sample::extent_of(base, &joined) }
    }

    #[test]
    fn l2_readers_and_the_writer_place_the_same_bytes_in_either_order() {
        let (a, b, c) = (batch_of(2, 1), batch_of(1, 2), batch_of(3, 3));
        let (commit, runs) = segment(1, &[a.clone(), b.clone(), c.clone()]);
        let tail = TailCache::new(1 << 20, CacheMetrics::unregistered());
        tail.stage(StagedSegment::new(&commit, runs));
        // The second batch was refused: two extents.
        let last = extent(1, a.len() + b.len(), std::slice::from_ref(&c), 52);
        let read = tail.get(&last, 0).expect("staged bytes are found by a reader that is faster than the writer");
        assert_eq!(BatchView::first(&read.batch(0)).unwrap().base_offset(), 52);
        let first = extent(1, 0, std::slice::from_ref(&a), 50);
        tail.settle(object(1), [(first, 0), (last, 0)].into_iter());
        assert!(Arc::ptr_eq(&read, &tail.get(&last, 0).unwrap()), "placed once");
        assert_eq!(BatchView::first(&tail.get(&first, 0).unwrap().batch(0)).unwrap().base_offset(), 50);
        let refused = extent(1, a.len(), std::slice::from_ref(&b), 52);
        assert!(tail.get(&refused, 0).is_none(), "what is in no log is let go");
    }

    #[test]
    fn a_run_that_nobody_else_holds_is_patched_where_it_lies() {
        let batch = batch_of(2, 1);
        let of = |counter| extent(counter, 0, std::slice::from_ref(&batch), 50);
        let tail = TailCache::new(1 << 20, CacheMetrics::unregistered());
        let (commit, runs) = segment(1, std::slice::from_ref(&batch));
        let lies_at = runs[0].as_ptr();
        tail.stage(StagedSegment::new(&commit, runs));
        assert_eq!(tail.get(&of(1), 0).unwrap().bytes().as_ptr(), lies_at);
        // As when a second upload of it is still under way.
        let (commit, runs) = segment(2, std::slice::from_ref(&batch));
        let sent = runs[0].clone();
        tail.stage(StagedSegment::new(&commit, runs));
        assert_eq!(BatchView::first(&tail.get(&of(2), 0).unwrap().batch(0)).unwrap().base_offset(), 50);
        assert_eq!(sent, batch, "what is being sent stays as it is");
    }

    #[tokio::test]
    async fn what_leaves_soon_is_told_and_who_merges_it_is_woken() {
        let batch = batch_of(1, 1);
        let tail = TailCache::new(batch.len() * 8, CacheMetrics::unregistered());
        let stage = |counter| {
            let (commit, runs) = segment(counter, std::slice::from_ref(&batch));
            tail.stage(StagedSegment::new(&commit, runs));
        };
        (0..2).for_each(stage);
        let mut woken = std::pin::pin!(tail.woken());
        assert!(futures_util::poll!(&mut woken).is_pending());
        (2..4).for_each(stage);
        assert!(futures_util::poll!(&mut woken).is_ready() && tail.leaving().is_empty());
        (4..20).for_each(stage);
        assert_eq!(tail.leaving(), (12..16).map(object).collect(), "the older half of what is here");
        tail.woken().await;
    }

    #[test]
    fn the_oldest_segment_makes_room() {
        let batch = batch_of(1, 1);
        let tail = TailCache::new(batch.len() * 2, CacheMetrics::unregistered());
        for counter in 0..3 {
            let (commit, runs) = segment(counter, std::slice::from_ref(&batch));
            tail.stage(StagedSegment::new(&commit, runs));
        }
        let of = |counter| extent(counter, 0, std::slice::from_ref(&batch), 5);
        assert!(tail.get(&of(0), 0).is_none());
        assert_eq!(tail.get(&of(1), 0).unwrap().base(), Offset::new(5).unwrap());
        tail.forget(object(1));
        assert!(tail.get(&of(1), 0).is_none() && tail.get(&of(2), 0).is_some());
        assert_eq!(tail.kept().bytes, batch.len());
    }
}
