//! What the plots need, read out of the metrics' own text: the console shows what Prometheus is told and counts nothing itself.

/// A number of the metrics that the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// Bytes of committed batches.
    BytesIn,
    /// Bytes given to readers.
    BytesOut,
    /// Requests of clients.
    Requests,
    /// Those answered without an error.
    Good,
    /// Produce requests.
    Produces,
    /// Fetch requests.
    Fetches,
    /// Entries appended to the journal.
    Appends,
    /// Position up to which the state is applied.
    Lsn,
    /// PUTs of the store.
    Puts,
    /// GETs of the store.
    Gets,
    /// Extents readers found in memory, or on their way there.
    FromMemory,
    /// Extents readers found on disk.
    FromDisk,
    /// Extents that were read from the store.
    FromStore,
    /// Bytes in caches in memory.
    CachedInMemory,
    /// Bytes in the cache on disk.
    CachedOnDisk,
    /// Connections open.
    Connections,
}

/// A time of the metrics that the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timed {
    /// From a produce's last byte to its answer.
    Produce,
    /// An append to the journal.
    Append,
    /// A PUT of the store.
    Put,
}

/// Where numbers stand: the names of metrics, and one of these labels, unless there is none.
#[derive(Debug)]
struct Source {
    names: &'static [&'static str],
    labels: &'static [&'static str],
}

const PUTS: &[&str] = &["operation=\"put\"", "operation=\"put_new\"", "operation=\"put_part\""];
const REQUESTS: &[&str] = &["streamhouse_requests_total"];
const STORE: &[&str] = &["streamhouse_blob_requests_total"];
const FOUND: &[&str] = &["streamhouse_reader_found_extents_total"];

const fn source(names: &'static [&'static str], labels: &'static [&'static str]) -> Source {
    Source { names, labels }
}

/// In the order of [`Number`].
const NUMBERS: [Source; 16] = [
    source(&["streamhouse_writer_committed_bytes_total"], &[]),
    source(&["streamhouse_reader_read_bytes_total"], &[]),
    source(REQUESTS, &[]),
    source(REQUESTS, &["error=\"NONE\""]),
    source(REQUESTS, &["api=\"Produce\""]),
    source(REQUESTS, &["api=\"Fetch\""]),
    source(&["streamhouse_journal_appends_total"], &[]),
    source(&["streamhouse_journal_state_lsn"], &[]),
    source(STORE, PUTS),
    source(STORE, &["operation=\"get\"", "operation=\"get_range\""]),
    source(FOUND, &["place=\"memory\"", "place=\"coming\""]),
    source(FOUND, &["place=\"disk\""]),
    source(FOUND, &["place=\"bucket\""]),
    source(&["streamhouse_tail_cache_held_bytes", "streamhouse_block_cache_held_bytes"], &[]),
    source(&["streamhouse_disk_cache_held_bytes"], &[]),
    source(&["streamhouse_connections"], &[]),
];

/// In the order of [`Timed`]; histograms.
const TIMES: [Source; 3] = [
    source(&["streamhouse_request_duration_seconds"], &["api=\"Produce\""]),
    source(&["streamhouse_journal_append_seconds"], &[]),
    source(&["streamhouse_blob_request_duration_seconds"], PUTS),
];

impl Source {
    fn holds(&self, name: &str, labels: &str) -> bool {
        self.names.contains(&name) && (self.labels.is_empty() || self.labels.iter().any(|label| labels.contains(label)))
    }
}

/// The names of all metrics that are read.
pub fn names() -> impl Iterator<Item = &'static str> {
    NUMBERS.iter().chain(&TIMES).flat_map(|source| source.names.iter().copied())
}

/// How often something took at most how long, seconds; cumulative, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times(Vec<(f64, f64)>);

impl Times {
    fn add(&mut self, bound: f64, count: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, sum)) => *sum += count,
            None => self.0.push((bound, count)),
        }
    }

    /// The time, seconds, within which this share of what came after `earlier` was done; `None` if nothing came. Between two
    /// bounds it is reckoned as Prometheus does: evenly.
    pub fn quantile(&self, earlier: &Self, share: f64) -> Option<f64> {
        let before = |bound: f64| earlier.0.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, count)| *count);
        let since: Vec<(f64, f64)> = self.0.iter().map(|&(bound, count)| (bound, count - before(bound))).collect();
        let total = since.last().map_or(0.0, |(_, count)| *count);
        if total <= 0.0 {
            return None;
        }
        let rank = share * total;
        let (mut floor, mut below) = (0.0, 0.0);
        for (bound, count) in since {
            if count >= rank {
                let part = if count > below { (rank - below) / (count - below) } else { 0.0 };
                return Some(if bound.is_finite() { floor + (bound - floor) * part } else { floor });
            }
            (floor, below) = (bound, count);
        }
        Some(floor)
    }
}

/// The metrics at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    numbers: [f64; NUMBERS.len()],
    times: [Times; TIMES.len()],
}

impl Reading {
    /// Reads the text that `/metrics` tells. What it does not have is 0.
    pub fn of(text: &str) -> Self {
        let mut reading = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((head, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = head.split_once('{').unwrap_or((head, ""));
            for (sum, source) in reading.numbers.iter_mut().zip(&NUMBERS) {
                if source.holds(name, labels) {
                    *sum += value;
                }
            }
            let Some((name, bound)) = name.strip_suffix("_bucket").zip(bound(labels)) else { continue };
            for (times, source) in reading.times.iter_mut().zip(&TIMES) {
                if source.holds(name, labels) {
                    times.add(bound, value);
                }
            }
        }
        reading
    }

    /// One number.
    pub fn number(&self, number: Number) -> f64 {
        self.numbers[number as usize]
    }

    /// How long something took.
    pub fn times(&self, timed: Timed) -> &Times {
        &self.times[timed as usize]
    }
}

/// The bound of a histogram's line.
fn bound(labels: &str) -> Option<f64> {
    let (_, rest) = labels.split_once("le=\"")?;
    let (bound, _) = rest.split_once('"')?;
    if bound == "+Inf" { Some(f64::INFINITY) } else { bound.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP streamhouse_requests Requests answered, by API and error.
# TYPE streamhouse_requests counter
streamhouse_requests_total{api=\"Produce\",error=\"NONE\"} 7
streamhouse_requests_total{api=\"Produce\",error=\"CORRUPT_MESSAGE\"} 1
streamhouse_requests_total{api=\"Fetch\",error=\"NONE\"} 3
streamhouse_writer_committed_bytes_total 4096
streamhouse_tail_cache_held_bytes 10
streamhouse_block_cache_held_bytes 5
streamhouse_blob_requests_total{store=\"s3\",operation=\"put\",purpose=\"produce\",outcome=\"ok\"} 2
streamhouse_blob_requests_total{store=\"s3\",operation=\"put_new\",purpose=\"journal\",outcome=\"ok\"} 3
streamhouse_blob_requests_total{store=\"s3\",operation=\"head\",purpose=\"journal\",outcome=\"ok\"} 9
streamhouse_journal_append_seconds_bucket{le=\"0.001\"} 5
streamhouse_journal_append_seconds_bucket{le=\"0.002\"} 15
streamhouse_journal_append_seconds_bucket{le=\"+Inf\"} 20
streamhouse_journal_append_seconds_count 20
streamhouse_blob_request_duration_seconds_bucket{le=\"1.0\",store=\"s3\",operation=\"put\",purpose=\"produce\"} 1
streamhouse_blob_request_duration_seconds_bucket{le=\"1.0\",store=\"s3\",operation=\"put_new\",purpose=\"journal\"} 2
streamhouse_blob_request_duration_seconds_bucket{le=\"1.0\",store=\"s3\",operation=\"get\",purpose=\"fetch\"} 4
# EOF
";

    #[test]
    fn sums_go_over_the_labels_that_are_meant() {
        let reading = Reading::of(TEXT);
        let found = [
            (Number::Requests, 11.0),
            (Number::Good, 10.0),
            (Number::Produces, 8.0),
            (Number::Fetches, 3.0),
            (Number::BytesIn, 4_096.0),
            (Number::CachedInMemory, 15.0),
            (Number::Puts, 5.0),
            (Number::Gets, 0.0),
            (Number::Connections, 0.0),
        ];
        for (number, value) in found {
            assert_eq!(reading.number(number), value, "{number:?}");
        }
        assert_eq!(reading.times(Timed::Put), &Times(vec![(1.0, 3.0)]));
    }

    #[test]
    fn quantiles_are_of_what_came_since() {
        let (nothing, later) = (Times::default(), Reading::of(TEXT).times(Timed::Append).clone());
        assert_eq!(later.quantile(&nothing, 0.5), Some(0.0015));
        assert_eq!(later.quantile(&nothing, 0.25), Some(0.001));
        assert_eq!(later.quantile(&nothing, 0.99), Some(0.002), "beyond the last bound it is that bound");
        assert_eq!(later.quantile(&later, 0.5), None);
        let earlier = Times(vec![(0.001, 5.0), (0.002, 5.0), (f64::INFINITY, 5.0)]);
        assert_eq!(later.quantile(&earlier, 0.5), Some(0.001_75), "the five of before are not counted");
        assert_eq!(nothing.quantile(&nothing, 0.5), None);
    }

    #[test]
    fn any_text_is_read() {
        for text in ["", "x", "{} 1", "streamhouse_connections NaN", "a{le=\"} 1", "streamhouse_connections{ 2"] {
            Reading::of(text);
        }
    }
}
