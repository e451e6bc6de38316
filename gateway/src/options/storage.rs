//! What can be set of the bytes: how segments are cut, what is cached, when upkeep runs.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use storage::blob::lanes::LanesOptions;
use storage::options::{Profile, ReaderOptions, UpkeepOptions, WriterOptions};

use super::kafka::KafkaSettings;
use super::load::OptionsError;

/// Numbers of the storage; those without a default follow the profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StorageSection {
    /// Latency against number of PUTs: `realtime`, `balanced` or `throughput`. Sets the three numbers below.
    pub profile: String,
    /// Longest time a batch waits for its segment to be cut, ms (`linger.max`).
    pub linger_max_ms: Option<u32>,
    /// A segment is cut when it holds this many bytes (`segment.bytes`).
    pub segment_bytes: Option<u32>,
    /// PUTs per second that the cut aims at (`put.budget`).
    pub put_budget: Option<f64>,
    /// Segments uploaded side by side, at most.
    pub uploads_max: u32,
    /// Bytes of records waiting to be written; past it producers wait.
    pub write_memory_bytes: u64,
    /// How long a segment's upload is tried before its producers get a retriable error, ms.
    pub write_deadline_ms: u32,
    /// Bytes of the newest records kept in memory for readers.
    pub tail_cache_bytes: u64,
    /// Bytes of older blocks kept in memory for readers.
    pub block_cache_bytes: u64,
    /// Requests side by side of readers near the end of their logs, at most; the writer and the journal have as many each.
    pub hot_requests_max: u32,
    /// GETs side by side of readers that lag behind, at most.
    pub catch_up_requests_max: u32,
    /// Requests side by side of merge, compaction, sweep and snapshots together, at most.
    pub upkeep_requests_max: u32,
    /// How often retention is applied, ms.
    pub retention_interval_ms: u64,
    /// How often objects that nothing refers to are deleted, ms.
    pub sweep_interval_ms: u64,
    /// How long an object stays after the last reference to it went away, ms.
    pub sweep_grace_ms: u64,
}

impl Default for StorageSection {
    fn default() -> Self {
        let (writer, reader, upkeep) =
            (WriterOptions::of(Profile::Balanced), ReaderOptions::default(), UpkeepOptions::default());
        let lanes = LanesOptions::default();
        let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        Self {
            profile: "balanced".into(),
            linger_max_ms: None,
            segment_bytes: None,
            put_budget: None,
            uploads_max: u32::try_from(writer.uploads_max).unwrap_or(u32::MAX),
            write_memory_bytes: writer.memory_bytes as u64,
            write_deadline_ms: u32::try_from(ms(writer.deadline)).unwrap_or(u32::MAX),
            tail_cache_bytes: reader.tail_bytes as u64,
            block_cache_bytes: reader.block_bytes as u64,
            hot_requests_max: u32::try_from(lanes.hot.requests).unwrap_or(u32::MAX),
            catch_up_requests_max: u32::try_from(lanes.cold.requests).unwrap_or(u32::MAX),
            upkeep_requests_max: u32::try_from(lanes.upkeep.requests).unwrap_or(u32::MAX),
            retention_interval_ms: ms(upkeep.retain_every),
            sweep_interval_ms: ms(upkeep.sweep_every),
            sweep_grace_ms: ms(upkeep.grace),
        }
    }
}

impl StorageSection {
    /// How batches become objects; `puts_are_free` where they cost time only, as in a folder.
    pub fn writer(&self, puts_are_free: bool) -> Result<WriterOptions, OptionsError> {
        let wrong = |key: &str, reason: String| OptionsError::Value { key: format!("storage.{key}"), reason };
        let profile = self.profile.parse::<Profile>().map_err(|reason| wrong("profile", reason))?;
        let of_profile = WriterOptions::of(profile);
        let mut writer = if puts_are_free { of_profile.with_free_puts() } else { of_profile };
        if let Some(ms) = self.linger_max_ms {
            writer.linger_max = Duration::from_millis(ms.into());
        }
        if let Some(bytes) = self.segment_bytes {
            writer.segment_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        if let Some(rate) = self.put_budget {
            writer.put_budget = rate;
            writer.put_burst = rate.ceil() as u32; // saturates
        }
        writer.uploads_max = self.uploads_max as usize;
        writer.memory_bytes = usize::try_from(self.write_memory_bytes).unwrap_or(usize::MAX);
        writer.deadline = Duration::from_millis(self.write_deadline_ms.into());
        let positive = writer.segment_bytes > 0 && writer.uploads_max > 0 && writer.put_budget > 0.0;
        if !positive {
            return Err(wrong("segment-bytes", "segment-bytes, uploads-max and put-budget must be above 0".into()));
        }
        Ok(writer)
    }

    /// How records are read.
    pub fn reader(&self) -> ReaderOptions {
        ReaderOptions {
            tail_bytes: usize::try_from(self.tail_cache_bytes).unwrap_or(usize::MAX),
            block_bytes: usize::try_from(self.block_cache_bytes).unwrap_or(usize::MAX),
            ..ReaderOptions::default()
        }
    }

    /// How much may be on its way to and from the bucket.
    pub fn lanes(&self) -> LanesOptions {
        let mut lanes = LanesOptions::default();
        lanes.hot.requests = self.hot_requests_max as usize;
        lanes.cold.requests = self.catch_up_requests_max as usize;
        lanes.upkeep.requests = self.upkeep_requests_max as usize;
        lanes
    }

    /// When upkeep runs and how long state is kept.
    pub fn upkeep(&self, kafka: &KafkaSettings) -> UpkeepOptions {
        let millis = |name: &str, factor: i64| {
            Duration::from_millis(u64::try_from(kafka.number(name).saturating_mul(factor)).unwrap_or(0))
        };
        UpkeepOptions {
            retain_every: Duration::from_millis(self.retention_interval_ms),
            sweep_every: Duration::from_millis(self.sweep_interval_ms),
            grace: Duration::from_millis(self.sweep_grace_ms),
            producer_idle: millis("producer.id.expiration.ms", 1),
            offsets_retention: millis("offsets.retention.minutes", 60_000),
            ..UpkeepOptions::default()
        }
    }
}
