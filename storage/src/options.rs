//! What can be set on the bytes' side, each with its unit and default.

use std::time::Duration;

use serde::Deserialize;

/// A choice between latency and the number of PUTs; sets three numbers of [`WriterOptions`], each of which can be set alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Lowest latency, most PUTs.
    Realtime,
    /// Latency of one PUT when idle, at most some twenty PUTs a second when busy.
    #[default]
    Balanced,
    /// Fewest PUTs, largest segments.
    Throughput,
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "realtime" => Ok(Self::Realtime),
            "balanced" => Ok(Self::Balanced),
            "throughput" => Ok(Self::Throughput),
            other => Err(format!("{other:?} is not a profile: choose realtime, balanced or throughput")),
        }
    }
}

/// How batches become objects.
#[derive(Debug, Clone, PartialEq)]
pub struct WriterOptions {
    /// A batch waits no longer than this for its segment to be cut, as long as an upload may start (`linger.max`).
    pub linger_max: Duration,
    /// A segment is cut when it holds this many bytes (`segment.bytes`). One request may exceed it.
    pub segment_bytes: usize,
    /// PUTs per second that the cut aims at (`put.budget`); full segments and `linger.max` may exceed it.
    pub put_budget: f64,
    /// PUTs that a quiet time may save up for a busy one (`put.burst`).
    pub put_burst: u32,
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
        let (linger_ms, segment_bytes, put_budget) = match profile {
            Profile::Realtime => (20, 4 << 20, 100.0),
            Profile::Balanced => (250, 8 << 20, 20.0),
            Profile::Throughput => (1_000, 16 << 20, 4.0),
        };
        Self {
            linger_max: Duration::from_millis(linger_ms),
            segment_bytes,
            put_budget,
            put_burst: put_budget.ceil() as u32,
            uploads_max: 16,
            memory_bytes: 256 << 20,
            deadline: Duration::from_secs(20),
        }
    }

    /// The same for a store whose PUTs cost time only, such as a folder: many more of them, so that one client that waits
    /// for each ack gets it after one PUT. Still bounded in the long run, for every object takes memory in the index.
    pub fn with_free_puts(self) -> Self {
        Self { put_budget: self.put_budget * 10.0, put_burst: 10_000, ..self }
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_by_name() {
        assert_eq!("realtime".parse(), Ok(Profile::Realtime));
        assert!("fast".parse::<Profile>().unwrap_err().contains("balanced"));
        assert_eq!(WriterOptions::default(), WriterOptions::of(Profile::Balanced));
    }
}
