//! Folding: when the index has become too large for memory, the oldest extents of the longest logs move into manifest objects.
//!
//! A manifest is an object of the gateway that makes it, and looks like a segment without batches. What is in it counts only by
//! the hash that `apply` takes of the extents at hand; so a pass that comes too late, or twice, or from two gateways, folds what is
//! there or nothing. A crash between the PUT and the command leaves an object of a session that is over, which the sweep finds.
//!
//! Only extents in objects that merging is done with are folded, for they cannot be merged afterwards, and none of logs that are
//! compacted. Those of a log that becomes compacted come back first.
//!
//! What a log has let go of (`State::objects().dropped()`) stays counted until somebody has read what it was, and said so.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use metadata::codec::run::{encode_run, hash_run};
use metadata::command::{Command, FoldExtents, Outcome, PartitionFold, UnfoldExtents};
use metadata::failpoint::crash_here;
use metadata::model::extent::Extent;
use metadata::model::fold::Fold;
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::state::State;

use super::merge::plan::is_settled;
use super::{Keeper, UpkeepError};
use crate::blob::{BlobError, Payload};
use crate::segment::format::{Footer, HEADER_LEN, header};

/// Feature level of the commands said here.
const LEVEL: u32 = 2;
/// Bytes of an extent in memory.
const EXTENT_BYTES: u64 = 32;
/// Folding goes on until so much of the bound is used, percent: so that it is not begun again at once.
const ROOM_PERCENT: u64 = 75;
/// Most runs of one manifest: every gateway encodes and hashes them at once when it applies the command, and nothing else meanwhile.
const RUNS_PER_MANIFEST: usize = 32;
/// Extents folded in one pass, at most; the next one goes on.
const EXTENTS_PER_PASS: usize = 1_000_000;
/// Runs let go of in one pass, at most, and side by side.
const UNFOLDS_PER_PASS: usize = 4_096;
const UNFOLDS_AT_ONCE: usize = 8;

/// A run on its way into a manifest.
#[derive(Debug)]
struct NewRun {
    partition: TopicPartition,
    extents: u32,
    bytes: Bytes,
}

impl Keeper {
    /// Lets go of what was dropped, puts back what is to be compacted, and folds as long as the index is too large. One gateway
    /// does it at a time.
    pub(super) async fn fold(&self) -> Result<(), UpkeepError> {
        let _turn = self.rewriting.lock().await;
        if self.parts.metadata.read(State::feature_level) < LEVEL {
            return Ok(()); // an older gateway is there
        }
        self.unfold_dropped().await?;
        self.unfold_compacted().await?;
        let bound = self.parts.options.fold.index_bytes_max;
        let bytes = self.measure_index();
        if bytes > bound {
            let surplus = bytes - bound / 100 * ROOM_PERCENT;
            let extents = usize::try_from(surplus / EXTENT_BYTES).unwrap_or(usize::MAX);
            self.fold_cold(extents.min(EXTENTS_PER_PASS)).await?;
            self.measure_index();
        }
        Ok(())
    }

    /// Folds about so many extents, those of the longest logs first.
    async fn fold_cold(&self, mut wanted: usize) -> Result<(), UpkeepError> {
        let mut manifests: BTreeMap<TopicId, Vec<NewRun>> = BTreeMap::new();
        for (partition, _) in self.longest_logs() {
            if wanted == 0 {
                break;
            }
            let runs = self.cold_runs(partition, wanted);
            wanted = wanted.saturating_sub(runs.iter().map(|run| run.extents as usize).sum());
            let of_topic = manifests.entry(partition.topic).or_default();
            of_topic.extend(runs);
            while of_topic.len() >= RUNS_PER_MANIFEST {
                let first: Vec<NewRun> = of_topic.drain(..RUNS_PER_MANIFEST).collect();
                self.write_manifest(first).await?;
            }
        }
        for (_, runs) in manifests {
            if !runs.is_empty() {
                self.write_manifest(runs).await?;
            }
        }
        Ok(())
    }

    /// The logs that have enough extents for a run and are not compacted, the longest first. A look per topic, so that no one
    /// waits long for the state.
    fn longest_logs(&self) -> Vec<(TopicPartition, usize)> {
        let metadata = &self.parts.metadata;
        let options = &self.parts.options.fold;
        let enough = options.keep_extents.max(1) + options.run_extents_min.max(1);
        let mut logs = Vec::new();
        for topic in metadata.read(|state| state.topics().iter().map(|topic| topic.id()).collect::<Vec<_>>()) {
            metadata.read(|state| {
                let Some(topic) = state.topics().get(topic) else { return };
                if (self.parts.configs.0)(topic).compaction.is_some() {
                    return;
                }
                let count = |tp| Some((tp, state.log(tp)?.unfolded_count()));
                logs.extend(topic.partitions().filter_map(count).filter(|(_, extents)| *extents >= enough));
            });
        }
        logs.sort_unstable_by_key(|&(partition, extents)| (std::cmp::Reverse(extents), partition));
        logs
    }

    /// Runs of a log's oldest extents, about as many extents as are wanted.
    fn cold_runs(&self, partition: TopicPartition, wanted: usize) -> Vec<NewRun> {
        let options = &self.parts.options.fold;
        let sizes = self.merge_sizes();
        let wanted = wanted.max(options.run_extents_min);
        let cold: Vec<Extent> = self.parts.metadata.read(|state| {
            let Some(log) = state.log(partition) else { return Vec::new() };
            // The last one is not folded whatever the options say.
            let most = log.unfolded_count().saturating_sub(options.keep_extents.max(1));
            let may_go =
                |extent: &Extent| state.objects().get(extent.object).is_some_and(|object| is_settled(object, sizes));
            log.all_unfolded().take(most.min(wanted)).take_while(may_go).collect()
        });
        let mut runs = Vec::new();
        let mut rest = &cold[..];
        while !rest.is_empty() {
            let (run, behind) = rest.split_at(run_of(rest, options.run_extents, options.run_bytes));
            rest = behind;
            // A short one waits for more, unless its records are as many as one run may hold.
            if run.len() < options.run_extents_min && behind.is_empty() {
                break;
            }
            let extents = u32::try_from(run.len()).expect("runs are capped");
            runs.push(NewRun { partition, extents, bytes: encode_run(run).into() });
        }
        runs
    }

    /// Stores runs as one manifest and has them folded.
    async fn write_manifest(&self, runs: Vec<NewRun>) -> Result<(), UpkeepError> {
        let object = self.parts.writer.new_object();
        let mut chunks = vec![Bytes::copy_from_slice(&header())];
        let mut position = HEADER_LEN as u64;
        let mut folds = Vec::with_capacity(runs.len());
        let extents: u64 = runs.iter().map(|run| u64::from(run.extents)).sum();
        for NewRun { partition, extents, bytes } in runs {
            let length = u32::try_from(bytes.len()).expect("a run of few thousand extents is below 4 GiB");
            folds.push(PartitionFold { partition, extents, position, length, hash: hash_run(&bytes) });
            position += u64::from(length);
            chunks.push(bytes);
        }
        // A segment that holds no batch: whoever puts a log together from its objects alone finds nothing in it.
        let footer = Footer { object, created_ms: self.parts.clock.now_ms(), placed: true, topics: Vec::new() };
        let too_large = || BlobError::Invalid("a manifest would be larger than 4 GiB".into());
        chunks.push(footer.encode(position).ok_or_else(too_large)?.into());
        let payload = Payload::new(chunks);
        let object_bytes = payload.len();
        crash_here("upkeep::before_manifest");
        self.store(&*self.parts.blobs, object, payload).await?;
        crash_here("upkeep::before_fold");
        let parts = folds.len();
        let fold = FoldExtents { object, object_bytes, runs: folds };
        let folded = self.put_in(object, Command::FoldExtents(fold), parts).await?;
        crash_here("upkeep::after_fold");
        let refused = folded.iter().filter(|folded| folded.is_err()).count() as u64;
        self.parts.metrics.refused_swaps.inc_by(refused);
        self.parts.metrics.folded.inc_by(if refused == 0 { extents } else { 0 });
        Ok(())
    }

    /// Says what the folds held that no log has any more, so that their objects die.
    async fn unfold_dropped(&self) -> Result<(), UpkeepError> {
        let dropped: Vec<Fold> = self.parts.metadata.read(|state| state.objects().dropped().copied().collect());
        let unfolds = dropped.into_iter().map(|fold| async move { self.unfold(None, &fold).await });
        let mut unfolds = stream::iter(unfolds.take(UNFOLDS_PER_PASS)).buffer_unordered(UNFOLDS_AT_ONCE);
        while let Some(unfolded) = unfolds.next().await {
            unfolded?;
        }
        Ok(())
    }

    /// Puts back what is folded of logs that have become compacted, the newest fold of each first.
    async fn unfold_compacted(&self) -> Result<(), UpkeepError> {
        let metadata = &self.parts.metadata;
        for topic in metadata.read(|state| state.topics().iter().map(|topic| topic.id()).collect::<Vec<_>>()) {
            let partitions: Vec<TopicPartition> = metadata.read(|state| {
                let Some(topic) = state.topics().get(topic) else { return Vec::new() };
                if (self.parts.configs.0)(topic).compaction.is_none() {
                    return Vec::new();
                }
                let is_folded = |tp: &TopicPartition| state.log(*tp).is_some_and(|log| !log.folds().is_empty());
                topic.partitions().filter(is_folded).collect()
            });
            for partition in partitions {
                let last = || metadata.read(|state| state.log(partition).and_then(|log| log.folds().last().copied()));
                while let Some(fold) = last() {
                    if !self.unfold(Some(partition), &fold).await? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads a run and says what it holds; whether that took effect. What cannot be read stays as it is: nothing that it may refer
    /// to is deleted.
    async fn unfold(&self, partition: Option<TopicPartition>, fold: &Fold) -> Result<bool, UpkeepError> {
        let run = match self.folds.bytes(fold).await {
            Ok(run) => run.to_vec(),
            Err(error) => {
                tracing::warn!(manifest = %fold.object, %error, "folded extents could not be read; the next pass tries again");
                self.parts.metrics.failures.inc();
                return Ok(false);
            }
        };
        let (object, position) = (fold.object, fold.position.into());
        crash_here("upkeep::before_unfold");
        let unfold = UnfoldExtents { partition, object, position, run };
        let outcome = self.parts.metadata.submit(Command::UnfoldExtents(unfold)).await?;
        crash_here("upkeep::after_unfold");
        let is_done = outcome == Outcome::Done;
        self.parts.metrics.unfolded.inc_by(is_done.into());
        Ok(is_done)
    }
}

/// How many of the first extents make a run; at least one.
fn run_of(extents: &[Extent], extents_max: usize, bytes_max: u64) -> usize {
    let mut bytes = 0;
    let fits = |extent: &&Extent| {
        bytes += u64::from(extent.length);
        bytes <= bytes_max
    };
    extents.iter().take(extents_max.max(1)).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests;
