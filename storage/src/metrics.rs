//! What the bytes' side tells of itself. Names begin with `streamhouse_`.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// All of them; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct StorageMetrics {
    /// The writer's.
    pub writer: WriterMetrics,
    /// The reader's.
    pub reader: ReaderMetrics,
    /// The tail cache's.
    pub tail: CacheMetrics,
    /// The block cache's.
    pub blocks: CacheMetrics,
    /// That of its tier on disk.
    pub disk: DiskMetrics,
    /// The reader's, of what is folded.
    pub folds: FoldMetrics,
    /// Upkeep's.
    pub upkeep: UpkeepMetrics,
}

impl StorageMetrics {
    /// Metrics that are shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        metrics.writer.show(registry.sub_registry_with_prefix("streamhouse_writer"));
        metrics.reader.show(registry.sub_registry_with_prefix("streamhouse_reader"));
        metrics.tail.show(registry.sub_registry_with_prefix("streamhouse_tail_cache"));
        metrics.blocks.show(registry.sub_registry_with_prefix("streamhouse_block_cache"));
        metrics.disk.show(registry.sub_registry_with_prefix("streamhouse_disk_cache"));
        metrics.folds.show(registry.sub_registry_with_prefix("streamhouse_reader"));
        metrics.upkeep.show(registry.sub_registry_with_prefix("streamhouse_upkeep"));
        metrics
    }

    /// Metrics that no one looks at.
    pub fn unregistered() -> Self {
        Self {
            writer: WriterMetrics::unregistered(),
            reader: ReaderMetrics::default(),
            tail: CacheMetrics::unregistered(),
            blocks: CacheMetrics::unregistered(),
            disk: DiskMetrics::default(),
            folds: FoldMetrics::default(),
            upkeep: UpkeepMetrics::default(),
        }
    }
}

/// Label of a cut.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CutLabel {
    /// Why the segment was cut.
    pub reason: &'static str,
}

/// Label of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AnswerLabel {
    /// How it ended: `decided`, `failed` (definitely not committed) or `unknown`.
    pub answer: &'static str,
}

/// The way of a produce.
#[derive(Debug, Clone)]
pub struct WriterMetrics {
    /// Size of a cut segment, bytes.
    pub segment_bytes: Histogram,
    /// Batches of a cut segment.
    pub segment_batches: Histogram,
    /// Requests of a cut segment.
    pub segment_requests: Histogram,
    /// Why segments were cut.
    pub cuts: Family<CutLabel, Counter>,
    /// Segments cut and not yet committed or failed.
    pub in_flight: Gauge,
    /// How long a request waited for memory, seconds.
    pub admit_wait: Histogram,
    /// From cut to durable, seconds.
    pub upload_seconds: Histogram,
    /// From durable to decided, seconds; includes waiting for segments cut before.
    pub commit_seconds: Histogram,
    /// How requests ended.
    pub answers: Family<AnswerLabel, Counter>,
    /// PUTs that got a second one beside them.
    pub hedges: Counter,
    /// Bytes of batches whose segments were committed.
    pub committed_bytes: Counter,
    /// Objects that were left behind by failed uploads and wait to be swept.
    pub leftovers: Gauge,
}

impl WriterMetrics {
    fn unregistered() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_5, 2.0, 16));
        Self {
            segment_bytes: Histogram::new(exponential_buckets(1_024.0, 4.0, 10)),
            segment_batches: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            segment_requests: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            cuts: Family::default(),
            in_flight: Gauge::default(),
            admit_wait: seconds(),
            upload_seconds: seconds(),
            commit_seconds: seconds(),
            answers: Family::default(),
            hedges: Counter::default(),
            committed_bytes: Counter::default(),
            leftovers: Gauge::default(),
        }
    }

    fn show(&self, to: &mut Registry) {
        to.register_with_unit("segment", "Size of a cut segment", Unit::Bytes, self.segment_bytes.clone());
        to.register("segment_batches", "Batches of a cut segment", self.segment_batches.clone());
        to.register("segment_requests", "Requests of a cut segment", self.segment_requests.clone());
        to.register("cuts", "Segments cut, by reason", self.cuts.clone());
        to.register("segments_in_flight", "Segments cut and neither committed nor failed", self.in_flight.clone());
        to.register_with_unit("admit_wait", "Wait of a request for memory", Unit::Seconds, self.admit_wait.clone());
        to.register_with_unit("upload", "From cut to durable", Unit::Seconds, self.upload_seconds.clone());
        to.register_with_unit("commit", "From durable to decided", Unit::Seconds, self.commit_seconds.clone());
        to.register("requests", "Requests answered, by answer", self.answers.clone());
        to.register("hedged_puts", "PUTs that took long and got a second one beside them", self.hedges.clone());
        let help = "Batches of committed segments";
        to.register_with_unit("committed", help, Unit::Bytes, self.committed_bytes.clone());
        to.register("leftovers", "Objects of failed uploads that wait to be swept", self.leftovers.clone());
    }
}

/// Label of an extent that a reader asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FoundLabel {
    /// `memory`, `coming` (a load was under way), `disk` or `bucket`.
    pub place: &'static str,
}

/// The way of a fetch.
#[derive(Debug, Clone, Default)]
pub struct ReaderMetrics {
    /// Ranges read from the bucket.
    pub ranges: Counter,
    /// Extents asked for in these ranges.
    pub range_extents: Counter,
    /// Bytes read from the bucket.
    pub range_bytes: Counter,
    /// Bytes given to readers.
    pub read_bytes: Counter,
    /// Where wanted extents were found.
    pub found: Family<FoundLabel, Counter>,
    /// Extents that were loaded ahead of sequential readers.
    pub ahead_extents: Counter,
    /// Ranges read again because what came was damaged.
    pub reread: Counter,
    /// Extents found damaged twice.
    pub corrupt: Counter,
    /// Reads that met a deleted object and looked again.
    pub relocated: Counter,
}

impl ReaderMetrics {
    fn show(&self, to: &mut Registry) {
        to.register("ranges", "Ranges read from the bucket", self.ranges.clone());
        to.register("range_extents", "Extents read from the bucket", self.range_extents.clone());
        to.register_with_unit("range", "Read from the bucket", Unit::Bytes, self.range_bytes.clone());
        to.register_with_unit("read", "Given to readers", Unit::Bytes, self.read_bytes.clone());
        to.register("found_extents", "Extents readers asked for, by where they were found", self.found.clone());
        to.register("ahead_extents", "Extents loaded ahead of sequential readers", self.ahead_extents.clone());
        to.register("reread_ranges", "Ranges read again because they came damaged", self.reread.clone());
        to.register("corrupt_extents", "Extents found damaged twice", self.corrupt.clone());
        to.register("relocated_reads", "Reads that met a deleted object", self.relocated.clone());
    }
}

/// A cache's.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    hits: Counter,
    misses: Counter,
    /// Bytes held.
    pub bytes: Gauge<u64, AtomicU64>,
}

impl CacheMetrics {
    /// Metrics that no one looks at.
    pub fn unregistered() -> Self {
        Self { hits: Counter::default(), misses: Counter::default(), bytes: Gauge::default() }
    }

    /// Counts a look-up.
    pub fn count(&self, hit: bool) {
        if hit { &self.hits } else { &self.misses }.inc();
    }

    fn show(&self, to: &mut Registry) {
        to.register("hits", "Extents found", self.hits.clone());
        to.register("misses", "Extents not found", self.misses.clone());
        to.register_with_unit("held", "Held in memory", Unit::Bytes, self.bytes.clone());
    }
}

/// The disk tier's.
#[derive(Debug, Clone, Default)]
pub struct DiskMetrics {
    /// Blocks read back.
    pub hits: Counter,
    /// Blocks that were not what they should be.
    pub damaged: Counter,
    /// Blocks that were not kept because the disk was busy or refused.
    pub left_out: Counter,
    /// Bytes held.
    pub bytes: Gauge<u64, AtomicU64>,
}

impl DiskMetrics {
    fn show(&self, to: &mut Registry) {
        to.register("hits", "Extents read back", self.hits.clone());
        to.register("damaged", "Extents that were not what they should be", self.damaged.clone());
        to.register("left_out", "Extents not kept, because the disk was busy or refused", self.left_out.clone());
        to.register_with_unit("held", "Held on disk", Unit::Bytes, self.bytes.clone());
    }
}

/// Of runs that are read from manifests.
#[derive(Debug, Clone, Default)]
pub struct FoldMetrics {
    /// Runs read.
    pub loaded: Counter,
    /// Runs found damaged twice.
    pub corrupt: Counter,
}

impl FoldMetrics {
    fn show(&self, to: &mut Registry) {
        to.register("loaded_runs", "Runs of folded extents read from manifests", self.loaded.clone());
        to.register("corrupt_runs", "Runs of folded extents found damaged twice", self.corrupt.clone());
    }
}

/// Upkeep's.
#[derive(Debug, Clone, Default)]
pub struct UpkeepMetrics {
    /// Partitions whose log start retention moved.
    pub retained: Counter,
    /// Objects deleted.
    pub deleted: Counter,
    /// Deletes that failed and are tried again.
    pub delete_failures: Counter,
    /// Objects listed.
    pub listed: Counter,
    /// Objects of sessions this journal does not know; left alone.
    pub foreign: Gauge,
    /// Passes that ended with an error.
    pub failures: Counter,
    /// Objects that nothing refers to any more and that wait for their grace.
    pub dead: Gauge,
    /// Objects that were merged into others.
    pub merged: Counter,
    /// Objects that merges and compactions wrote.
    pub rewritten_objects: Counter,
    /// Bytes of them.
    pub rewritten_bytes: Counter,
    /// Bytes that merges and compactions read from the bucket.
    pub source_bytes: Counter,
    /// GETs that merges and compactions made.
    pub source_gets: Counter,
    /// Bytes that merges and compactions had from the tail cache.
    pub source_tail_bytes: Counter,
    /// Swaps of a partition's extents that were refused, because others had changed them first.
    pub refused_swaps: Counter,
    /// Extents in memory.
    pub extents: Gauge,
    /// Bytes the extents take in memory.
    pub index_bytes: Gauge,
    /// Logs that were compacted.
    pub compacted: Counter,
    /// Records that compaction took away.
    pub compacted_records: Counter,
    /// Compactions that ended because bytes could not be read.
    pub failed_compactions: Counter,
    /// Objects that could not be read and that merges leave alone for a while.
    pub set_aside: Gauge,
    /// Folds in logs.
    pub folds: Gauge,
    /// Folds that no log has any more and of which it is yet to be said what they hold.
    pub dropped_folds: Gauge,
    /// Extents that were folded.
    pub folded: Counter,
    /// Folds whose extents were put back or let go of.
    pub unfolded: Counter,
    /// Of manifests.
    pub runs: FoldMetrics,
}

impl UpkeepMetrics {
    fn show(&self, to: &mut Registry) {
        to.register("retained_partitions", "Log starts moved by retention", self.retained.clone());
        to.register("deleted_objects", "Objects deleted", self.deleted.clone());
        to.register("delete_failures", "Deletes to be tried again", self.delete_failures.clone());
        to.register("listed_objects", "Objects looked at in listings", self.listed.clone());
        to.register("foreign_objects", "Objects of sessions that the journal does not know", self.foreign.clone());
        to.register("failed_passes", "Passes that ended with an error", self.failures.clone());
        to.register("dead_objects", "Objects waiting to be deleted", self.dead.clone());
        to.register("merged_objects", "Objects merged into others", self.merged.clone());
        let rewritten = "Objects written by merges and compactions";
        to.register("rewritten_objects", rewritten, self.rewritten_objects.clone());
        to.register_with_unit("rewritten", "Their size", Unit::Bytes, self.rewritten_bytes.clone());
        let source = "Read from the bucket by merges and compactions";
        to.register_with_unit("source", source, Unit::Bytes, self.source_bytes.clone());
        to.register("source_ranges", "Ranges read from the bucket for these", self.source_gets.clone());
        let tail = "Had from the tail cache by merges and compactions";
        to.register_with_unit("source_tail", tail, Unit::Bytes, self.source_tail_bytes.clone());
        to.register("refused_swaps", "Swaps refused because the log had changed", self.refused_swaps.clone());
        to.register("extents", "Extents in memory", self.extents.clone());
        to.register_with_unit("index", "Size of the index in memory", Unit::Bytes, self.index_bytes.clone());
        to.register("compacted_logs", "Logs compacted", self.compacted.clone());
        to.register("compacted_records", "Records taken away by compaction", self.compacted_records.clone());
        let failed = "Compactions that met unreadable bytes";
        to.register("failed_compactions", failed, self.failed_compactions.clone());
        to.register("set_aside_objects", "Unreadable objects left alone by merges", self.set_aside.clone());
        to.register("folds", "Runs of extents that lie in manifests", self.folds.clone());
        to.register("dropped_folds", "Such runs that no log has any more", self.dropped_folds.clone());
        to.register("folded_extents", "Extents moved into manifests", self.folded.clone());
        to.register("unfolded_runs", "Runs put back into the index, or let go of", self.unfolded.clone());
        self.runs.show(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_units_and_the_prefix_of_the_house() {
        let mut registry = Registry::default();
        let metrics = StorageMetrics::register(&mut registry);
        metrics.writer.cuts.get_or_create(&CutLabel { reason: "linger" }).inc();
        metrics.tail.count(true);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "streamhouse_writer_cuts_total{reason=\"linger\"} 1",
            "streamhouse_tail_cache_hits_total 1",
            "streamhouse_reader_read_bytes_total 0",
            "streamhouse_block_cache_held_bytes 0",
            "streamhouse_writer_upload_seconds_count 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
