//! What can be set on the bytes' side, each with its unit and default.

use std::time::Duration;

use metadata::model::profile::Profile;

use crate::cost::Prices;

/// What a profile sets: when a segment is cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProfileNumbers {
    /// A batch waits no longer than this for its segment to be cut, as long as an upload may start (`linger.max`).
    pub linger_max: Duration,
    /// A segment is cut when it holds this many bytes (`segment.bytes`). One request may exceed it.
    pub segment_bytes: usize,
    /// PUTs per second that the cut aims at (`put.budget`); full segments and `linger.max` may exceed it.
    pub put_budget: f64,
    /// PUTs that a quiet time may save up for a busy one.
    pub put_burst: u32,
}

impl ProfileNumbers {
    /// The numbers of a profile.
    pub fn of(profile: Profile) -> Self {
        let (linger_ms, segment_bytes, put_budget) = match profile {
            Profile::Realtime => (20, 4 << 20, 100.0),
            Profile::Balanced => (250, 8 << 20, 20.0),
            Profile::Throughput => (1_000, 16 << 20, 4.0),
        };
        Self { linger_max: Duration::from_millis(linger_ms), segment_bytes, put_budget, put_burst: burst(put_budget) }
    }

    /// The same for a store whose PUTs cost time only, such as a folder: many more of them, so that one client that waits
    /// for each ack gets it after one PUT. Still bounded in the long run, for every object takes memory in the index.
    #[must_use]
    pub fn with_free_puts(self) -> Self {
        Self { put_budget: self.put_budget * 10.0, put_burst: 10_000, ..self }
    }

    /// The same with no more PUTs than `rate` a second, waiting as long as that takes: unless a segment is full, there is
    /// no cut without a token.
    #[must_use]
    pub fn at_most(self, rate: f64) -> Self {
        let spacing = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX).min(LINGER_MAX);
        if rate >= self.put_budget {
            return self;
        }
        Self { put_budget: rate, put_burst: burst(rate), linger_max: self.linger_max.max(spacing), ..self }
    }
}

/// However small a budget is, no batch waits longer: producers give a request up after 30 s.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// What a second brings can be saved up.
fn burst(put_budget: f64) -> u32 {
    put_budget.ceil() as u32 // saturates
}

/// A limit of PUTs, as a rate or as money.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PutBudget {
    /// So many a second.
    PerSecond(f64),
    /// So many as this buys, USD a month.
    UsdPerMonth(f64),
}

impl PutBudget {
    /// PUTs a second; an error where money is no measure.
    pub fn per_second(self, prices: &Prices) -> Result<f64, String> {
        let rate = match self {
            Self::PerSecond(rate) => rate,
            Self::UsdPerMonth(usd) => prices.puts_per_second(usd),
        };
        if rate.is_finite() { Ok(rate) } else { Err("PUTs cost nothing here: give a number of PUTs per second".into()) }
    }
}

impl std::str::FromStr for PutBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a budget: give PUTs per second, such as 20, or money, such as 100 USD/month");
        let text = text.trim();
        let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let unit = unit.trim().to_ascii_lowercase();
        match unit.as_str() {
            _ if number <= 0.0 => Err(wrong()),
            "" | "/s" | "per second" => Ok(Self::PerSecond(number)),
            "usd/month" | "usd per month" => Ok(Self::UsdPerMonth(number)),
            _ => Err(wrong()),
        }
    }
}

/// How batches become objects.
#[derive(Debug, Clone, PartialEq)]
pub struct WriterOptions {
    /// When segments are cut whose topics name no profile.
    pub numbers: ProfileNumbers,
    /// When segments with batches of topics that name a profile are cut, by [`Profile::index`].
    pub topic_numbers: [ProfileNumbers; Profile::ALL.len()],
    /// Whether a PUT that takes unusually long gets a second one beside it, when that pays and the budget has a token.
    pub hedge: bool,
    /// Segments that may be on their way to the bucket or the journal at once (`uploads.max`).
    pub uploads_max: usize,
    /// Bytes of requests admitted and not yet answered (`produce.memory`); past it requests wait.
    pub memory_bytes: usize,
    /// A batch is answered at the latest this long after it was submitted if its upload does not succeed
    /// (`produce.deadline`); below the clients' `request.timeout.ms` of 30 s.
    pub deadline: Duration,
}

impl WriterOptions {
    /// The numbers of a profile.
    pub fn of(profile: Profile) -> Self {
        Self {
            numbers: ProfileNumbers::of(profile),
            topic_numbers: Profile::ALL.map(ProfileNumbers::of),
            hedge: true,
            uploads_max: 16,
            memory_bytes: 256 << 20,
            deadline: Duration::from_secs(20),
        }
    }

    /// The same with other numbers for all topics.
    #[must_use]
    pub fn with(self, change: impl Fn(ProfileNumbers) -> ProfileNumbers) -> Self {
        Self { numbers: change(self.numbers), topic_numbers: self.topic_numbers.map(change), ..self }
    }

    /// The numbers in force for a topic.
    pub fn numbers_of(&self, profile: Option<Profile>) -> &ProfileNumbers {
        profile.map_or(&self.numbers, |profile| &self.topic_numbers[profile.index()])
    }
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self::of(Profile::default())
    }
}

/// How bytes are found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Bytes of the newest batches kept in memory (`cache.tail`).
    pub tail_bytes: usize,
    /// Bytes of blocks read from the bucket kept in memory (`cache.blocks`).
    pub block_bytes: usize,
    /// A read of the bucket is given up after this long (`fetch.deadline`).
    pub deadline: Duration,
}

impl ReaderOptions {
    /// Without a bucket: what is not in memory is as near as the disk, so a quarter of the memory is as good.
    pub fn on_a_folder() -> Self {
        Self { tail_bytes: 32 << 20, block_bytes: 32 << 20, ..Self::default() }
    }
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self { tail_bytes: 128 << 20, block_bytes: 128 << 20, deadline: Duration::from_secs(20) }
    }
}

/// How often and how much is tidied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepOptions {
    /// Between two passes of retention (Kafka's `log.retention.check.interval.ms`).
    pub retain_every: Duration,
    /// Between two passes over objects that nothing refers to any more (`sweep.interval`).
    pub sweep_every: Duration,
    /// Between two listings of the bucket for what dead sessions left behind (`sweep.list.interval`).
    pub list_every: Duration,
    /// An object stays this long after its last reference went, for readers that are about to read it (`sweep.grace`).
    pub grace: Duration,
    /// Most objects deleted in one pass (`sweep.budget`); the rest waits for the next.
    pub deletes_per_pass: usize,
    /// Most keys looked at in one listing pass; the next one goes on from there.
    pub listed_per_pass: usize,
    /// Between two passes that forget idle producers and offsets of empty groups.
    pub expire_every: Duration,
    /// Producers idle for longer are forgotten (Kafka's `producer.id.expiration.ms`).
    pub producer_idle: Duration,
    /// Offsets of groups empty for longer are forgotten (Kafka's `offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// How small objects become large ones.
    pub merge: MergeOptions,
    /// How compacted topics are.
    pub compact: CompactOptions,
    /// How the index is held within bounds.
    pub fold: FoldOptions,
}

/// How much of the index stays in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldOptions {
    /// Bytes that the index may take in memory (`index.bytes.max`); past it the oldest extents of the longest logs move into
    /// manifest objects. Before a read of theirs one of those is read.
    pub index_bytes_max: u64,
    /// Extents of one run, at most: they are read, kept, and let go of as a whole.
    pub run_extents: usize,
    /// Shorter runs are not worth a reference.
    pub run_extents_min: usize,
    /// The newest extents of a log stay in memory.
    pub keep_extents: usize,
    /// Bytes of records in one run, at most: none of them is deleted before all of them are.
    pub run_bytes: u64,
}

impl Default for FoldOptions {
    fn default() -> Self {
        Self {
            index_bytes_max: 256 << 20,
            run_extents: 1_024,
            run_extents_min: 32,
            keep_extents: 64,
            run_bytes: 1 << 30,
        }
    }
}

/// How logs of `cleanup.policy=compact` are compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactOptions {
    /// Between two looks for something to compact (`compact.interval`; Kafka's `log.cleaner.backoff.ms`).
    pub every: Duration,
    /// Memory for the keys of one log's uncompacted part (`compact.keys.bytes`; Kafka's `log.cleaner.dedupe.buffer.size`);
    /// about fifty bytes each. A log of more keys takes several passes.
    pub keys_bytes: usize,
    /// Extents are read by about so many bytes at a time; at least one.
    pub chunk_bytes: u64,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { every: Duration::from_secs(15), keys_bytes: 128 << 20, chunk_bytes: 8 << 20 }
    }
}

/// How many small objects become few large ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeOptions {
    /// Between two looks for something to merge (`merge.interval`).
    pub every: Duration,
    /// Size a merged object is to have, bytes (`merge.target.bytes`); those above a quarter of it are left alone. A merge
    /// holds about so many bytes in memory.
    pub target_bytes: u64,
    /// An extent of a merged object is no longer than this, bytes, unless one batch is: it is read and kept as a whole.
    pub extent_bytes: usize,
    /// Objects whose extents are this long on average are left alone, bytes (`merge.long.extent.bytes`): reading them is no
    /// faster for being merged.
    pub long_extent_bytes: u64,
    /// So many fresh objects are merged even if they are smaller than the target all together (`merge.objects.min`).
    pub objects_min: usize,
    /// An object stays as it is for so long, in which those who read at the end of the log have it from the tail cache
    /// (`merge.age.min`), or until it is in the older half of that cache.
    pub age_min: Duration,
    /// Bytes read by merges and compactions per second (`upkeep.bytes.per.second`), from memory or not.
    pub bytes_per_second: u64,
}

impl MergeOptions {
    /// What is long where a read costs time only: the disk is as fast with pieces of this size as with larger ones.
    pub const LONG_EXTENT_BYTES_ON_A_FOLDER: u64 = 256 << 10;
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            target_bytes: 64 << 20,
            extent_bytes: 8 << 20,
            long_extent_bytes: 8 << 20,
            objects_min: 64,
            age_min: Duration::from_secs(10),
            bytes_per_second: 64 << 20,
        }
    }
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self {
            retain_every: Duration::from_secs(300),
            sweep_every: Duration::from_secs(60),
            list_every: Duration::from_secs(3_600),
            grace: Duration::from_secs(300),
            deletes_per_pass: 10_000,
            listed_per_pass: 100_000,
            expire_every: Duration::from_secs(600),
            producer_idle: Duration::from_secs(24 * 3_600),
            offsets_retention: Duration::from_secs(7 * 24 * 3_600),
            merge: MergeOptions::default(),
            compact: CompactOptions::default(),
            fold: FoldOptions::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_rates_or_money() {
        let rate = |text: &str| text.parse::<PutBudget>().and_then(|budget| budget.per_second(&Prices::STANDARD));
        assert_eq!((rate("20"), rate("0.5/s"), rate(" 7 per second ")), (Ok(20.0), Ok(0.5), Ok(7.0)));
        // 100 USD are twenty million PUTs, a month has 2,628,000 seconds.
        assert!((rate("100 USD/month").unwrap() - 7.61).abs() < 0.01);
        assert_eq!(rate("100usd per month"), rate("100 USD/month"));
        for bad in ["", "0", "-1", "ten", "10 EUR/month", "10/min", "1.2.3"] {
            assert!(rate(bad).unwrap_err().contains("USD/month"), "{bad}");
        }
        assert!(PutBudget::UsdPerMonth(1.0).per_second(&Prices::FREE).unwrap_err().contains("per second"));
    }

    #[test]
    fn a_small_budget_makes_batches_wait_for_it() {
        let balanced = ProfileNumbers::of(Profile::Balanced);
        assert_eq!(balanced.at_most(1_000.0), balanced);
        let poor = balanced.at_most(0.5);
        assert_eq!((poor.put_budget, poor.put_burst, poor.linger_max), (0.5, 1, Duration::from_secs(2)));
        assert_eq!(balanced.at_most(0.001).linger_max, LINGER_MAX);
    }
}
