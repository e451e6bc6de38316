//! What the journal of one gateway tells of itself. Names begin with `streamhouse_journal_`.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Handles to the metrics; clones count into the same ones.
#[derive(Debug, Clone)]
pub struct JournalMetrics {
    /// Entries appended by this gateway, each counted once.
    pub appends: Counter,
    /// Appends tried again because their outcome was unknown or they were not written.
    pub append_retries: Counter,
    /// From the first try of an entry to its known append, seconds.
    pub append_seconds: Histogram,
    /// Commands per appended entry.
    pub entry_commands: Histogram,
    /// Encoded size of an appended entry, bytes.
    pub entry_bytes: Histogram,
    /// Commands that wait for their entry.
    pub queue_commands: Gauge,
    /// LSN up to which the state is applied.
    pub state_lsn: Gauge<u64, AtomicU64>,
    /// Snapshots written by this gateway.
    pub snapshots: Counter,
    /// Snapshots that could not be written.
    pub snapshot_failures: Counter,
    /// Size of the last snapshot written or read, bytes.
    pub snapshot_bytes: Gauge<u64, AtomicU64>,
    /// LSN of the last snapshot written or read.
    pub snapshot_lsn: Gauge<u64, AtomicU64>,
    /// Times this gateway compared its state with those of the others.
    pub state_checks: Counter,
    /// Times they were not the same; the odd gateway stops.
    pub state_differences: Counter,
}

impl JournalMetrics {
    /// Metrics that are shown by `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::unregistered();
        let journal = registry.sub_registry_with_prefix("streamhouse_journal");
        journal.register("appends", "Entries appended", metrics.appends.clone());
        journal.register("append_retries", "Appends tried again", metrics.append_retries.clone());
        journal.register_with_unit(
            "append",
            "From the first try of an entry to its known append",
            Unit::Seconds,
            metrics.append_seconds.clone(),
        );
        journal.register("entry_commands", "Commands per appended entry", metrics.entry_commands.clone());
        journal.register_with_unit("entry", "Size of an appended entry", Unit::Bytes, metrics.entry_bytes.clone());
        journal.register("queue_commands", "Commands that wait for their entry", metrics.queue_commands.clone());
        journal.register("state_lsn", "Position up to which the state is applied", metrics.state_lsn.clone());
        journal.register("snapshots", "Snapshots written", metrics.snapshots.clone());
        journal.register("snapshot_failures", "Snapshots not written", metrics.snapshot_failures.clone());
        journal.register_with_unit(
            "snapshot",
            "Size of the last snapshot",
            Unit::Bytes,
            metrics.snapshot_bytes.clone(),
        );
        journal.register("snapshot_lsn", "Position of the last snapshot", metrics.snapshot_lsn.clone());
        journal.register("state_checks", "States compared with those of other gateways", metrics.state_checks.clone());
        let differences = "Comparisons in which not all states were the same; the odd gateway stops";
        journal.register("state_differences", differences, metrics.state_differences.clone());
        metrics
    }

    /// Metrics that no one shows.
    pub fn unregistered() -> Self {
        Self {
            appends: Counter::default(),
            append_retries: Counter::default(),
            append_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 18)),
            entry_commands: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            entry_bytes: Histogram::new(exponential_buckets(64.0, 4.0, 10)),
            queue_commands: Gauge::default(),
            state_lsn: Gauge::default(),
            snapshots: Counter::default(),
            snapshot_failures: Counter::default(),
            snapshot_bytes: Gauge::default(),
            snapshot_lsn: Gauge::default(),
            state_checks: Counter::default(),
            state_differences: Counter::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_prefix_and_unit() {
        let mut registry = Registry::default();
        let metrics = JournalMetrics::register(&mut registry);
        metrics.appends.inc();
        metrics.append_seconds.observe(0.001);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "streamhouse_journal_appends_total 1",
            "streamhouse_journal_append_retries_total 0",
            "streamhouse_journal_append_seconds_count 1",
            "streamhouse_journal_entry_commands_count 0",
            "streamhouse_journal_entry_bytes_count 0",
            "streamhouse_journal_queue_commands 0",
            "streamhouse_journal_state_lsn 0",
            "streamhouse_journal_snapshots_total 0",
            "streamhouse_journal_snapshot_bytes 0",
        ] {
            assert!(text.contains(name), "{name} is missing from\n{text}");
        }
    }
}
