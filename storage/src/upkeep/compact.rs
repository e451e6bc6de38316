//! Compaction (`cleanup.policy=compact`): of each key the newest record stays, at its offset, and tombstones for a while.
//!
//! In two passes over a log, in bounded memory: the dirty part is read for the newest offset of each key; then everything from
//! the start is read, cleaned and swapped in, object by object, in the order of the log. A log of more keys than the map
//! holds is compacted up to where the map was full, and the rest by the next pass.
//!
//! Crash-safe, because every swap by itself leaves a log in which each key has its newest record: what displaces a record
//! stands behind it and is cleaned later. For the same reason a refused swap ends the pass of its partition. A tombstone is
//! given its horizon only after all before it was cleaned by the same map, and so nothing can come to life again when it
//! goes.
//!
//! Source: Kafka's `LogCleaner`, `Cleaner`.

mod clean;
mod keymap;
mod plan;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use metadata::model::batch::BatchView;
use metadata::model::extent::Extent;
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::model::offset::Offset;
use metadata::model::topic_config::Compaction;

use self::clean::{Cleaned, Rules, clean, note_keys};
use self::keymap::KeyMap;
use self::plan::{Cleaning, plan};
use super::rewrite::{Piece, Replacement};
use super::sources::{Unreadable, off_thread};
use super::{Keeper, UpkeepError};
use crate::blob::BlobError;
use crate::cache::block::Block;
use crate::error::ReadError;

/// So many compacted extents side by side are joined even if none of their records goes.
const JOINED_FROM: usize = 8;

/// A partition to be compacted.
#[derive(Debug)]
struct Job {
    partition: TopicPartition,
    leader_epoch: i32,
    config: Compaction,
    cleaning: Cleaning,
}

/// What compactions have made and not yet stored: at most one replacement of a partition, so that no later part of a log is
/// cleaned where an earlier one could not be.
#[derive(Debug, Default)]
struct Pending {
    replacements: Vec<Replacement>,
    bytes: u64,
}

/// The first offset that the map says nothing of.
#[derive(Debug)]
struct Mapped {
    newest: KeyMap,
    until: Offset,
}

impl Keeper {
    /// Compacts every log that is worth it. One gateway does it at a time.
    pub(super) async fn compact(&self) -> Result<(), UpkeepError> {
        // Merging would change the extents under a compaction's feet.
        let _turn = self.rewriting.lock().await;
        let topics: Vec<TopicId> = self.parts.metadata.read(|state| state.topics().iter().map(|t| t.id()).collect());
        let mut pending = Pending::default();
        for topic in topics {
            for job in self.plan_compactions(topic) {
                if let Err(unreadable) = self.compact_log(&job, &mut pending).await? {
                    self.parts.metrics.failed_compactions.inc();
                    self.set_aside(&unreadable);
                    pending.replacements.retain(|replacement| replacement.partition != job.partition);
                }
            }
        }
        self.flush(&mut pending).await.map(drop)
    }

    /// The partitions of a topic that are to be compacted now.
    fn plan_compactions(&self, topic: TopicId) -> Vec<Job> {
        let now_ms = self.parts.clock.now_ms();
        self.parts.metadata.read(|state| {
            let Some(topic) = state.topics().get(topic) else { return Vec::new() };
            let Some(config) = (self.parts.configs.0)(topic).compaction else { return Vec::new() };
            let job = |partition| {
                // A log that was not compacted before may be folded; its extents come back first.
                let log = state.log(partition).filter(|log| log.folds().is_empty())?;
                let committed_ms = |extent: &Extent| state.objects().get(extent.object).map_or(0, |o| o.committed_ms);
                let extents: Vec<_> = log.all_unfolded().map(|extent| (extent, committed_ms(&extent))).collect();
                let cleaning = plan(&extents, log.last_stable(), &config, now_ms)?;
                Some(Job { partition, leader_epoch: log.leader_epoch(), config, cleaning })
            };
            topic.partitions().filter_map(job).filter(|job| !self.is_set_aside(&job.cleaning.extents)).collect()
        })
    }

    /// Compacts one log into what is pending, and stores that whenever it is large enough.
    async fn compact_log(&self, job: &Job, pending: &mut Pending) -> Result<Result<(), Unreadable>, UpkeepError> {
        let mapped = match self.map_keys(job).await {
            Ok(mapped) => Arc::new(mapped),
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        let clean_bytes_max = self.merge_target.load(Ordering::Relaxed);
        let mut rest = &job.cleaning.extents[..];
        rest = &rest[..rest.partition_point(|extent| extent.base < mapped.until)];
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(chunk_of(rest, self.parts.options.compact.chunk_bytes));
            rest = behind;
            let replacement = match self.clean_chunk(job, chunk, &mapped).await {
                Ok(replacement) => replacement,
                Err(unreadable) => return Ok(Err(unreadable)),
            };
            let Some(replacement) = replacement else {
                // What stays as it is ends the run of what changes.
                if pending.has(job.partition) && !self.flush(pending).await?.contains(&job.partition) {
                    return Ok(Ok(()));
                }
                continue;
            };
            pending.add(replacement);
            if pending.bytes >= clean_bytes_max && !self.flush(pending).await?.contains(&job.partition) {
                return Ok(Ok(())); // others changed the log: the next pass begins again
            }
        }
        self.parts.metrics.compacted.inc();
        Ok(Ok(()))
    }

    /// The newest offset of each key in the dirty part, as far as there is room.
    async fn map_keys(&self, job: &Job) -> Result<Mapped, Unreadable> {
        let mut newest = KeyMap::new(self.parts.options.compact.keys_bytes);
        let mut rest = &job.cleaning.extents[job.cleaning.clean..];
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(chunk_of(rest, self.parts.options.compact.chunk_bytes));
            rest = behind;
            let blocks = self.sources.blocks(&*self.parts.compact_blobs, chunk, job.leader_epoch).await?;
            let extents = chunk.to_vec();
            let noted = off_thread(move || map_blocks(newest, &extents, &blocks)).await;
            let (grown, full_at) = noted.map_err(|error| ended(chunk, error))??;
            newest = grown;
            if let Some(until) = full_at {
                return Ok(Mapped { newest, until });
            }
        }
        let until = job.cleaning.extents.last().map_or(Offset::ZERO, |last| last.end);
        Ok(Mapped { newest, until })
    }

    /// What is left of some extents; `None` if they were compacted before and nothing changes.
    async fn clean_chunk(
        &self,
        job: &Job,
        chunk: &[Extent],
        mapped: &Arc<Mapped>,
    ) -> Result<Option<Replacement>, Unreadable> {
        let (now_ms, delete_retention_ms) = (self.parts.clock.now_ms(), job.config.delete_retention_ms);
        let blocks = self.sources.blocks(&*self.parts.compact_blobs, chunk, job.leader_epoch).await?;
        let (extents, mapped) = (chunk.to_vec(), Arc::clone(mapped));
        let work = move || {
            let rules = Rules { newest: &mapped.newest, now_ms, delete_retention_ms };
            clean_blocks(&extents, &blocks, rules, mapped.until)
        };
        let left = off_thread(work).await.map_err(|error| ended(chunk, error))??;
        self.parts.metrics.compacted_records.inc_by(left.gone);
        let stays = !left.has_changed && chunk.iter().all(|extent| extent.sparse) && chunk.len() < JOINED_FROM;
        Ok((!stays).then(|| Replacement { partition: job.partition, old: chunk.to_vec(), new: left.new }))
    }

    /// Stores what is pending. Tells the partitions whose swap took effect.
    async fn flush(&self, pending: &mut Pending) -> Result<Vec<TopicPartition>, UpkeepError> {
        let Pending { replacements, .. } = std::mem::take(pending);
        if replacements.is_empty() {
            return Ok(Vec::new());
        }
        let swapped = self.rewrite(&*self.parts.compact_blobs, replacements, 0).await?;
        Ok(swapped.into_iter().filter(|(_, swapped)| swapped.is_ok()).map(|(partition, _)| partition).collect())
    }
}

/// Notes the keys of some blocks; tells the offset where the map was full, if it was.
fn map_blocks(
    mut newest: KeyMap,
    extents: &[Extent],
    blocks: &[Arc<Block>],
) -> Result<(KeyMap, Option<Offset>), Unreadable> {
    for (extent, block) in extents.iter().zip(blocks) {
        for number in 0..block.batch_count() {
            let bytes = block.batch(number);
            let batch = view(&bytes, extent)?;
            if !note_keys(&batch, &mut newest).map_err(|why| damaged(extent, &why))? {
                return Ok((newest, Some(Offset::new(batch.base_offset()).unwrap_or(extent.base))));
            }
        }
    }
    Ok((newest, None))
}

/// What is left of some blocks.
#[derive(Debug, Default)]
struct Left {
    new: Vec<Piece>,
    has_changed: bool,
    /// Records that went.
    gone: u64,
}

/// Cleans blocks up to an offset; what lies behind it stays dirty.
fn clean_blocks(
    extents: &[Extent],
    blocks: &[Arc<Block>],
    rules: Rules<'_>,
    until: Offset,
) -> Result<Left, Unreadable> {
    let mut left = Left::default();
    for (extent, block) in extents.iter().zip(blocks) {
        for number in 0..block.batch_count() {
            let bytes = block.batch(number);
            let batch = view(&bytes, extent)?;
            if batch.base_offset() >= until.get() {
                keep_dirty(&mut left.new, &batch, &bytes);
                continue;
            }
            match clean(&batch, rules).map_err(|why| damaged(extent, &why))? {
                Cleaned::Same => keep(&mut left.new, &batch, bytes.clone()),
                Cleaned::Rebuilt(rebuilt, gone) => {
                    (left.has_changed, left.gone) = (true, left.gone + gone);
                    keep(&mut left.new, &view(&rebuilt, extent)?, rebuilt.clone());
                }
                Cleaned::Gone(gone) => (left.has_changed, left.gone) = (true, left.gone + gone),
            }
        }
    }
    Ok(left)
}

impl Pending {
    fn has(&self, partition: TopicPartition) -> bool {
        self.replacements.last().is_some_and(|last| last.partition == partition)
    }

    /// Takes in what replaces the extents right behind those of the same partition that are here already.
    fn add(&mut self, replacement: Replacement) {
        self.bytes += replacement.new.iter().map(Piece::bytes).sum::<u64>();
        match self.replacements.last_mut().filter(|last| last.partition == replacement.partition) {
            Some(last) => {
                last.old.extend(replacement.old);
                for piece in replacement.new {
                    match last.new.last_mut().filter(|last| last.joins(&piece)) {
                        Some(last) => last.join(piece),
                        None => last.new.push(piece),
                    }
                }
            }
            None => self.replacements.push(replacement),
        }
    }
}

impl Piece {
    /// Whether another piece, which stands behind this one, may be of the same extent.
    fn joins(&self, behind: &Self) -> bool {
        self.sparse && behind.sparse && u32::try_from(behind.end.since(self.base)).is_ok()
    }

    fn join(&mut self, behind: Self) {
        self.end = behind.end;
        self.max_timestamp = self.max_timestamp.max(behind.max_timestamp);
        self.chunks.extend(behind.chunks);
    }

    fn of(batch: &BatchView<'_>, bytes: Bytes, sparse: bool) -> Self {
        let last = batch.base_offset() + i64::from(batch.last_offset_delta());
        let at = |offset| Offset::new(offset).unwrap_or_default(); // checked when the block was made
        let (base, end) = (at(batch.base_offset()), at(last + 1));
        Self { base, end, max_timestamp: batch.max_timestamp(), sparse, chunks: vec![bytes] }
    }
}

/// Adds a cleaned batch to what is left.
fn keep(new: &mut Vec<Piece>, batch: &BatchView<'_>, bytes: Bytes) {
    let piece = Piece::of(batch, bytes, true);
    match new.last_mut().filter(|last| last.joins(&piece)) {
        Some(last) => last.join(piece),
        None => new.push(piece),
    }
}

/// Adds a batch that the map says nothing of: it stays dirty.
fn keep_dirty(new: &mut Vec<Piece>, batch: &BatchView<'_>, bytes: &Bytes) {
    let piece = Piece::of(batch, bytes.clone(), false);
    match new.last_mut().filter(|last| !last.sparse && last.end == piece.base) {
        Some(last) => last.join(piece),
        None => new.push(piece),
    }
}

/// How many of the first extents are read at once; at least one.
fn chunk_of(extents: &[Extent], bytes_max: u64) -> usize {
    let mut bytes = 0;
    let fits = |extent: &&Extent| {
        bytes += u64::from(extent.length);
        bytes <= bytes_max
    };
    extents.iter().take_while(fits).count().max(1)
}

fn view<'a>(bytes: &'a Bytes, extent: &Extent) -> Result<BatchView<'a>, Unreadable> {
    BatchView::first(bytes).map_err(|why| damaged(extent, &why))
}

fn damaged(extent: &Extent, why: &dyn std::fmt::Display) -> Unreadable {
    Unreadable { object: extent.object, error: ReadError::Corrupt(why.to_string().into()) }
}

/// Work that did not come to its end.
fn ended(chunk: &[Extent], error: BlobError) -> Unreadable {
    Unreadable { object: chunk[0].object, error: ReadError::Storage(error) }
}

#[cfg(test)]
mod tests;
