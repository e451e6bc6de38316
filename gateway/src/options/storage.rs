//! What can be set of the bytes: how segments are cut, what is cached, when upkeep runs.

use std::time::Duration;

use metadata::model::profile::Profile;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use storage::blob::lanes::LanesOptions;
use storage::cost::Prices;
use storage::options::{
    CompactOptions, FoldOptions, MergeOptions, ProfileNumbers, PutBudget, ReaderOptions, UpkeepOptions, WriterOptions,
};

use super::kafka::KafkaSettings;
use super::load::OptionsError;

/// Numbers of the storage; those without a default follow the profile.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct StorageSection {
    /// Latency against number of PUTs: `realtime`, `balanced` or `throughput`. Sets `linger-max-ms`, `segment-bytes` and
    /// `put-budget`; a topic may name another in its config `streamhouse.profile`.
    pub profile: String,
    /// Longest time a batch waits for its segment to be cut, ms (`linger.max`).
    pub linger_max_ms: Option<u32>,
    /// A segment is cut when it holds this many bytes (`segment.bytes`).
    pub segment_bytes: Option<u32>,
    /// PUTs that the cut aims at (`put.budget`): so many per second, as `20`, or money, as `100 USD/month`, by the prices
    /// under `cost`. It is the gateway's: topics that name a profile share it, whatever their profile would allow, and what is cut
    /// for one of them is spent for all. Each gateway of a cluster has one of its own, so three may spend three times as much.
    /// Only full segments may exceed it, and `linger-max-ms` if that is set too.
    #[serde(deserialize_with = "text_or_number")]
    #[schemars(with = "Option<String>")]
    pub put_budget: Option<String>,
    /// Segments uploaded side by side, at most.
    pub uploads_max: u32,
    /// Bytes of records waiting to be written; past it producers wait.
    pub write_memory_bytes: u64,
    /// How long a segment's upload is tried before its producers get a retriable error, ms.
    pub write_deadline_ms: u32,
    /// Bytes of the newest records kept in memory for readers. If not set, 134217728 with a bucket, 33554432 without.
    pub tail_cache_bytes: Option<u64>,
    /// Bytes of older blocks kept in memory for readers. If not set, 134217728 with a bucket, 33554432 without.
    pub block_cache_bytes: Option<u64>,
    /// Bytes of older blocks kept in the folder `cache` of the data folder; 0 for none. Without a bucket there are none.
    pub disk_cache_bytes: u64,
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
    /// How often it is looked for small objects to merge, ms.
    pub merge_interval_ms: u64,
    /// Size that a merged object is to have, bytes; objects of a quarter of it are left alone.
    pub merge_target_bytes: u64,
    /// Objects whose extents are this long on average are not merged, bytes: a merge would make reading them no faster. If
    /// not set, 8388608 with a bucket, where each read is a request, 262144 without.
    pub merge_long_extent_bytes: Option<u64>,
    /// So many fresh objects are merged even if they do not fill the target together.
    pub merge_objects_min: u32,
    /// An object is not merged before it is so old, ms, or in the older half of the tail cache: those who read at the end of a log have
    /// it from there.
    pub merge_age_min_ms: u64,
    /// Bytes that the index of all logs may take in memory (`index.bytes.max`), about 32 for each extent; past it the oldest
    /// extents of the longest logs move into objects of their own, which are read before a read of those.
    pub index_bytes_max: u64,
    /// How often it is looked for logs to compact, ms.
    pub compact_interval_ms: u64,
    /// Memory for the keys of the uncompacted part of a log, bytes; about fifty for each key. A log of more keys is compacted
    /// in several passes.
    pub compact_keys_bytes: u64,
    /// Bytes that merges and compactions read per second, at most, and that each of their requests sends to a bucket.
    pub upkeep_bytes_per_second: u64,
}

impl Default for StorageSection {
    fn default() -> Self {
        let (writer, upkeep) = (WriterOptions::of(Profile::Balanced), UpkeepOptions::default());
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
            tail_cache_bytes: None,
            block_cache_bytes: None,
            disk_cache_bytes: 1 << 30,
            hot_requests_max: u32::try_from(lanes.hot.requests).unwrap_or(u32::MAX),
            catch_up_requests_max: u32::try_from(lanes.cold.requests).unwrap_or(u32::MAX),
            upkeep_requests_max: u32::try_from(lanes.upkeep.requests).unwrap_or(u32::MAX),
            retention_interval_ms: ms(upkeep.retain_every),
            sweep_interval_ms: ms(upkeep.sweep_every),
            sweep_grace_ms: ms(upkeep.grace),
            merge_interval_ms: ms(upkeep.merge.every),
            merge_target_bytes: upkeep.merge.target_bytes,
            merge_long_extent_bytes: None,
            merge_objects_min: u32::try_from(upkeep.merge.objects_min).unwrap_or(u32::MAX),
            merge_age_min_ms: ms(upkeep.merge.age_min),
            index_bytes_max: upkeep.fold.index_bytes_max,
            compact_interval_ms: ms(upkeep.compact.every),
            compact_keys_bytes: upkeep.compact.keys_bytes as u64,
            upkeep_bytes_per_second: upkeep.merge.bytes_per_second,
        }
    }
}

impl StorageSection {
    /// How batches become objects. Without a bucket PUTs cost time only, and are many more.
    pub fn writer(&self, has_bucket: bool, prices: &Prices) -> Result<WriterOptions, OptionsError> {
        let wrong = |key: &str, reason: String| OptionsError::Value { key: format!("storage.{key}"), reason };
        let profile = self.profile.parse::<Profile>().map_err(|reason| wrong("profile", reason))?;
        let mut writer = WriterOptions::of(profile);
        if !has_bucket {
            writer = writer.with(ProfileNumbers::with_free_puts);
            writer.hedge = false;
        }
        if let Some(text) = &self.put_budget {
            let budget = text.parse::<PutBudget>().and_then(|budget| budget.per_second(prices));
            let rate = budget.map_err(|reason| wrong("put-budget", reason))?;
            writer = writer.with(|numbers| numbers.at_most(rate));
            writer.numbers.put_budget = rate;
            writer.numbers.put_burst = rate.ceil() as u32; // saturates
        }
        if let Some(ms) = self.linger_max_ms {
            writer.numbers.linger_max = Duration::from_millis(ms.into());
        }
        if let Some(bytes) = self.segment_bytes {
            writer.numbers.segment_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        }
        writer.uploads_max = self.uploads_max as usize;
        writer.memory_bytes = usize::try_from(self.write_memory_bytes).unwrap_or(usize::MAX);
        writer.deadline = Duration::from_millis(self.write_deadline_ms.into());
        let positive = [("segment-bytes", writer.numbers.segment_bytes), ("uploads-max", writer.uploads_max)];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(wrong(key, "must be above 0".into()));
        }
        Ok(writer)
    }

    /// How records are read. Without a bucket memory spares little.
    pub fn reader(&self, has_bucket: bool) -> ReaderOptions {
        let default = if has_bucket { ReaderOptions::default() } else { ReaderOptions::on_a_folder() };
        let bytes = |given: Option<u64>, default| given.map_or(default, |b| usize::try_from(b).unwrap_or(usize::MAX));
        ReaderOptions {
            tail_bytes: bytes(self.tail_cache_bytes, default.tail_bytes),
            block_bytes: bytes(self.block_cache_bytes, default.block_bytes),
            ..default
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

    /// When upkeep runs and how long state is kept. Without a bucket reads cost time only.
    pub fn upkeep(&self, kafka: &KafkaSettings, has_bucket: bool) -> UpkeepOptions {
        let merge = MergeOptions::default();
        let long_extent_bytes =
            if has_bucket { merge.long_extent_bytes } else { MergeOptions::LONG_EXTENT_BYTES_ON_A_FOLDER };
        let millis = |name: &str, factor: i64| {
            Duration::from_millis(u64::try_from(kafka.number(name).saturating_mul(factor)).unwrap_or(0))
        };
        UpkeepOptions {
            retain_every: Duration::from_millis(self.retention_interval_ms),
            sweep_every: Duration::from_millis(self.sweep_interval_ms),
            grace: Duration::from_millis(self.sweep_grace_ms),
            producer_idle: millis("producer.id.expiration.ms", 1),
            offsets_retention: millis("offsets.retention.minutes", 60_000),
            compact: CompactOptions {
                every: Duration::from_millis(self.compact_interval_ms),
                keys_bytes: usize::try_from(self.compact_keys_bytes).unwrap_or(usize::MAX),
                ..CompactOptions::default()
            },
            merge: MergeOptions {
                every: Duration::from_millis(self.merge_interval_ms),
                target_bytes: self.merge_target_bytes,
                long_extent_bytes: self.merge_long_extent_bytes.unwrap_or(long_extent_bytes),
                objects_min: self.merge_objects_min as usize,
                age_min: Duration::from_millis(self.merge_age_min_ms),
                bytes_per_second: self.upkeep_bytes_per_second,
                ..merge
            },
            fold: FoldOptions { index_bytes_max: self.index_bytes_max, ..FoldOptions::default() },
            ..UpkeepOptions::default()
        }
    }
}

/// A number in a file means the same as its text.
fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Text(String),
        Number(f64),
    }
    Ok(Option::<Given>::deserialize(from)?.map(|given| match given {
        Given::Text(text) => text,
        Given::Number(number) => number.to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_are_smaller_on_a_folder_unless_their_size_is_given() {
        let mut section = StorageSection::default();
        let sizes = |section: &StorageSection| {
            [true, false]
                .map(|has_bucket| section.reader(has_bucket))
                .map(|reader| (reader.tail_bytes, reader.block_bytes))
        };
        assert_eq!(sizes(&section), [(128 << 20, 128 << 20), (32 << 20, 32 << 20)]);
        (section.tail_cache_bytes, section.block_cache_bytes) = (Some(1), Some(2));
        assert_eq!(sizes(&section), [(1, 2), (1, 2)]);
    }

    #[test]
    fn a_budget_binds_every_profile_and_single_numbers_win_over_the_profile() {
        let section = StorageSection { put_budget: Some("100 USD/month".into()), ..StorageSection::default() };
        let writer = section.writer(true, &Prices::STANDARD).unwrap();
        let rates: Vec<f64> = writer.topic_numbers.iter().map(|numbers| numbers.put_budget).collect();
        assert!((writer.numbers.put_budget - 7.61).abs() < 0.01);
        assert_eq!(rates, [writer.numbers.put_budget, writer.numbers.put_budget, 4.0]);
        assert!(writer.hedge);
        let section = StorageSection {
            profile: "realtime".into(),
            linger_max_ms: Some(7),
            segment_bytes: Some(99),
            put_budget: Some("500".into()),
            ..StorageSection::default()
        };
        let writer = section.writer(true, &Prices::STANDARD).unwrap();
        let wanted = ProfileNumbers {
            linger_max: Duration::from_millis(7),
            segment_bytes: 99,
            put_budget: 500.0,
            put_burst: 500,
        };
        assert_eq!((writer.numbers, writer.topic_numbers), (wanted, WriterOptions::default().topic_numbers));
        let free = StorageSection::default().writer(false, &Prices::FREE).unwrap();
        assert_eq!((free.numbers.put_budget, free.hedge), (200.0, false));
        let money = StorageSection { put_budget: Some("1 USD/month".into()), ..StorageSection::default() };
        let refused = money.writer(false, &Prices::FREE).unwrap_err().to_string();
        assert!(refused.contains("`storage.put-budget`"), "{refused}");
    }
}
