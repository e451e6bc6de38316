//! Merging: many small mixed objects become few objects with long extents, so that the index is small and reads of one
//! partition are few and long, however long the house has been written to.
//!
//! What is merged with what is planned by `plan`; here the extents are gathered, read, joined and put in place of the old
//! ones. A merge changes no offset and no record: neighbouring dense extents become one, compacted ones stay apart from them
//! (compaction tells by that what it has seen), and a gap between two extents stays.

pub(super) mod plan;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use metadata::failpoint::bug_here;
use metadata::model::batch::{BatchIter, BatchView};
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::model::offset::Offset;
use tokio::time::Instant;

use self::plan::{Candidate, Group, Sizes, plan};
use super::rewrite::{Piece, Replacement};
use super::sources::Unreadable;
use super::{Keeper, UpkeepError};
use crate::cache::block::Block;
use crate::error::ReadError;

/// An object that could not be read is left alone for so long.
const SET_ASIDE: Duration = Duration::from_secs(600);
/// Most objects that are left alone; past it merging waits.
const SET_ASIDE_MAX: usize = 1_024;
/// Most bytes of a merged object; positions in an extent are 32 bits wide.
pub(super) const TARGET_MAX_BYTES: u64 = 1 << 30;
/// A store that is too slow for this is too slow for segments, too.
const TARGET_MIN_BYTES: u64 = 4 << 20;

/// The extents of one partition that are to be merged, and the epoch to write into them.
type Run = (TopicPartition, Vec<Extent>);

/// Objects that merges leave alone, and since when.
#[derive(Debug, Default)]
pub(super) struct SetAside(HashMap<ObjectId, Instant>);

impl Keeper {
    /// Merges all there is to merge. One gateway does it at a time.
    pub(super) async fn merge(&self) -> Result<(), UpkeepError> {
        let _turn = self.rewriting.lock().await;
        let groups = self.plan_merges();
        if groups.is_empty() {
            return Ok(());
        }
        let mut gathered = self.gather(&groups);
        for (group, runs) in groups.iter().zip(&mut gathered) {
            self.merge_group(group, std::mem::take(runs)).await?;
        }
        Ok(())
    }

    /// Where a large PUT takes longer than a store's deadline, smaller objects are made, until the next start: to try the same
    /// again and again would cost what the producers need.
    pub(super) fn aim_lower(&self) {
        let target_bytes = (self.merge_target.load(Ordering::Relaxed) / 2).max(TARGET_MIN_BYTES);
        tracing::warn!(target_bytes, "a rewritten object was not stored in time; the next ones will be smaller");
        self.merge_target.store(target_bytes, Ordering::Relaxed);
    }

    fn plan_merges(&self) -> Vec<Group> {
        let options = &self.parts.options.merge;
        let age_ms = i64::try_from(options.age_min.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.parts.clock.now_ms().saturating_sub(age_ms);
        let set_aside = {
            let mut set_aside = self.set_aside.lock().expect("nothing panics while it holds them");
            set_aside.0.retain(|_, since| since.elapsed() < SET_ASIDE);
            self.parts.metrics.set_aside.set(set_aside.0.len() as i64);
            if set_aside.0.len() >= SET_ASIDE_MAX {
                return Vec::new();
            }
            set_aside.0.keys().copied().collect::<HashSet<ObjectId>>()
        };
        let leaving = self.leaving();
        let candidates = self.parts.metadata.read(|state| {
            let live = state.objects().iter().filter(|object| object.dead_since_ms.is_none());
            // Extents that are folded cannot be moved.
            let free = live.filter(|object| object.folded == 0);
            let free = free.filter(|object| !set_aside.contains(&object.id));
            let chosen = free.filter(|object| object.committed_ms <= before_ms || leaving.contains(&object.id));
            chosen.map(Candidate::of).collect::<Vec<_>>()
        });
        let (old, mut young): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|object| object.committed_ms <= before_ms);
        // What would be merged again would have to be read for that.
        if !self.merge_sizes().is_large(young.iter().map(|object| object.referenced).sum()) {
            young.clear();
        }
        plan([old, young].concat(), self.merge_sizes(), options.objects_min)
    }

    /// Objects that are merged though they are young: the tail cache lets go of them soon, and all of their bytes would have to be
    /// read from the bucket. Only as fast as upkeep may go.
    fn leaving(&self) -> HashSet<ObjectId> {
        if self.sources.is_paid() { self.parts.tail.leaving() } else { HashSet::new() }
    }

    /// What merges are to reach now.
    pub(super) fn merge_sizes(&self) -> Sizes {
        Sizes {
            target_bytes: self.merge_target.load(Ordering::Relaxed),
            long_extent_bytes: self.parts.options.merge.long_extent_bytes,
        }
    }

    /// For each group the extents that lie in its objects: one look through the whole index, a topic at a time, so that no
    /// one waits long for the state.
    fn gather(&self, groups: &[Group]) -> Vec<Vec<Run>> {
        let metadata = &self.parts.metadata;
        let group_of: HashMap<ObjectId, usize> = (0..)
            .zip(groups)
            .flat_map(|(number, group)| group.objects.iter().map(move |object| (*object, number)))
            .collect();
        let objects: Vec<ObjectId> = group_of.keys().copied().collect();
        let chosen = metadata.read(|state| state.choose(&objects));
        let topics: Vec<TopicId> = metadata.read(|state| state.topics().iter().map(|topic| topic.id()).collect());
        let mut gathered: Vec<Vec<Run>> = groups.iter().map(|_| Vec::new()).collect();
        for topic in topics {
            for (partition, extents) in metadata.read(|state| state.extents_in(topic, &chosen)) {
                for extent in extents {
                    // An object forgotten meanwhile may have made room for another.
                    let Some(&group) = group_of.get(&extent.object) else { continue };
                    match gathered[group].last_mut().filter(|(of, _)| *of == partition) {
                        Some((_, run)) => run.push(extent),
                        None => gathered[group].push((partition, vec![extent])),
                    }
                }
            }
        }
        gathered
    }

    /// Makes one object of a group's. What cannot be read is set aside, and the group with it for this time: nothing changes.
    async fn merge_group(&self, group: &Group, partitions: Vec<Run>) -> Result<(), UpkeepError> {
        let mut runs: Vec<Run> = Vec::new();
        for (partition, extents) in partitions {
            runs.extend(split(partition, extents, self.open_end(partition)));
        }
        if runs.is_empty() {
            return Ok(());
        }
        let extents: Vec<Extent> = runs.iter().flat_map(|(_, run)| run.iter().copied()).collect();
        let blobs = &*self.parts.merge_blobs;
        let blocks = match self.sources.blocks(blobs, &extents, self.leader_epoch(runs[0].0)).await {
            Ok(blocks) => blocks,
            Err(unreadable) => {
                self.set_aside(&unreadable);
                return Ok(());
            }
        };
        let most = self.parts.options.merge.extent_bytes;
        let mut blocks = blocks.into_iter();
        let replacement = |(partition, old): Run| {
            let blocks: Vec<_> = blocks.by_ref().take(old.len()).collect();
            let new = join(old[0].sparse, blocks.iter().map(|block| &**block), most);
            Replacement { partition, old, new }
        };
        let replacements = runs.into_iter().map(replacement).collect();
        self.rewrite(blobs, replacements, group.level).await?;
        self.parts.metrics.merged.inc_by(group.objects.len() as u64);
        Ok(())
    }

    /// The end of a log that is compacted: its last extent, which compaction leaves alone, is not joined with those before it,
    /// which it shall not.
    fn open_end(&self, partition: TopicPartition) -> Option<Offset> {
        self.parts.metadata.read(|state| {
            let is_compacted = (self.parts.configs.0)(state.topics().get(partition.topic)?).compaction.is_some();
            state.log(partition).filter(|_| is_compacted).map(|log| log.high_watermark())
        })
    }

    /// The leader epoch of every log is the same.
    fn leader_epoch(&self, partition: TopicPartition) -> i32 {
        self.parts.metadata.read(|state| state.log(partition).map_or(0, |log| log.leader_epoch()))
    }

    /// Whether any of these extents lies in an object that could not be read lately.
    pub(super) fn is_set_aside(&self, extents: &[Extent]) -> bool {
        let set_aside = self.set_aside.lock().expect("nothing panics while it holds them");
        extents.iter().any(|extent| set_aside.0.get(&extent.object).is_some_and(|since| since.elapsed() < SET_ASIDE))
    }

    pub(super) fn set_aside(&self, unreadable: &Unreadable) {
        let Unreadable { object, error } = unreadable;
        if matches!(error, ReadError::Corrupt(_)) {
            tracing::error!(%object, %error, "a merge or compaction met damaged bytes and left everything as it was");
        } else {
            tracing::warn!(%object, %error, "an object could not be read for a merge or compaction");
        }
        self.set_aside.lock().expect("nothing panics while it holds them").0.insert(*object, Instant::now());
    }

    /// Looks at every log for a moment; tells the bytes of the index.
    pub(super) fn measure_index(&self) -> u64 {
        let (mut extents, mut bytes, mut folds) = (0, 0, 0);
        let metadata = &self.parts.metadata;
        let topics: Vec<TopicId> = metadata.read(|state| state.topics().iter().map(|topic| topic.id()).collect());
        for topic in topics {
            metadata.read(|state| {
                let Some(topic) = state.topics().get(topic) else { return };
                for log in topic.partitions().filter_map(|tp| state.log(tp)) {
                    extents += log.unfolded_count();
                    folds += log.folds().len();
                    bytes += log.index_bytes();
                }
            });
        }
        self.parts.metrics.extents.set(extents as i64);
        self.parts.metrics.folds.set(folds as i64);
        self.parts.metrics.dropped_folds.set(metadata.read(|state| state.objects().dropped().len()) as i64);
        self.parts.metrics.index_bytes.set(bytes as i64);
        bytes as u64
    }
}

/// The runs of neighbours among the extents of one partition: each ends where the next extent lies in no object of the group
/// (its offsets are missing here), where dense and compacted meet, and before the extent that ends at `open_end`.
fn split(partition: TopicPartition, extents: Vec<Extent>, open_end: Option<Offset>) -> Vec<Run> {
    let neighbours = |a: &Extent, b: &Extent| a.end == b.base && a.sparse == b.sparse && Some(b.end) != open_end;
    extents.chunk_by(neighbours).map(|run| (partition, run.to_vec())).collect()
}

/// Few extents of many neighbours: whole batches in each, and no more than `most` bytes unless one batch has more. A reader
/// loads and keeps an extent as a whole, so they must not grow with the object.
fn join<'a>(sparse: bool, blocks: impl Iterator<Item = &'a Block>, most: usize) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut room = 0;
    for block in blocks {
        let mut number = 0;
        while number < block.batch_count() {
            let mut taken = block.take(number, room, false);
            if taken.bytes.is_empty() {
                room = most;
                taken = block.take(number, room, true);
                pieces.push(Piece { base: base_of(block, number), max_timestamp: -1, sparse, ..Piece::default() });
            }
            let piece = pieces.last_mut().expect("one was pushed if there was none");
            let times = BatchIter::new(&taken.bytes).map_while(Result::ok).map(|batch| batch.max_timestamp());
            piece.max_timestamp = times.fold(piece.max_timestamp, i64::max);
            piece.end = taken.end;
            number = block.batch_with(taken.end);
            room = room.saturating_sub(taken.bytes.len());
            piece.chunks.push(taken.bytes);
        }
    }
    if bug_here("merge::drops_a_batch") {
        pieces.iter_mut().filter(|piece| piece.chunks.len() > 1).for_each(|piece| drop(piece.chunks.pop()));
    }
    pieces
}

/// Offset of the first record of a block's batch.
fn base_of(block: &Block, number: usize) -> Offset {
    let batch = block.batch(number);
    let base = BatchView::first(&batch).ok().and_then(|batch| Offset::new(batch.base_offset()));
    base.expect("the batches of a block were checked and put in their place")
}

#[cfg(test)]
mod tests;
