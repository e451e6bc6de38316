//! What the bucket costs: counted requests times prices, as metrics and as a table for people (`streamhouse cost`).
//!
//! Every gateway tells what it did itself since it started; what is kept is the whole cluster's.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metadata::handle::Metadata;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;
use storage::blob::Operation;
use storage::blob::measured::{BlobMetrics, Usage};
use storage::blob::purpose::Purpose;
use storage::cost::{GB_BYTES, MONTH_SECONDS, Prices};
use storage::metrics::WriterMetrics;
use tokio::time::Instant;

/// The projected month goes by what was done in this time.
const WINDOW: Duration = Duration::from_secs(3_600);
/// The window is sampled no more often than this.
const SAMPLE_EVERY: Duration = Duration::from_secs(60);

/// Knows what was done and what it costs.
#[derive(Debug)]
pub struct CostMeter {
    prices: Prices,
    blobs: BlobMetrics,
    writer: WriterMetrics,
    metadata: Metadata,
    window: Mutex<Window>,
}

/// What was done and kept, at one time.
#[derive(Debug, Clone)]
struct Report {
    prices: Prices,
    /// Since the start.
    usage: Usage,
    uptime: Duration,
    /// In the time that the projection goes by.
    recent: Usage,
    recent_time: Duration,
    /// Bytes of batches that were committed since the start.
    bytes_in: u64,
    /// Bytes of all segments of the cluster, those that wait to be deleted too.
    kept_bytes: u64,
}

/// What it comes to, USD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Money {
    /// Requests and transfer since the start.
    pub usd: f64,
    /// The same for each GiB taken in; 0 before there is any.
    pub per_gib: f64,
    /// Requests and transfer of a month that goes on as the last hour did.
    pub requests_month: f64,
    /// Keeping what is kept now, for a month.
    pub storage_month: f64,
    /// The time that the month goes by, s.
    pub recent_s: u64,
    /// Whether nothing costs anything here.
    pub free: bool,
}

/// What was done until when, the oldest about [`WINDOW`] ago.
#[derive(Debug)]
struct Window {
    start: Instant,
    samples: VecDeque<(Instant, Usage)>,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { start: now, samples: VecDeque::from([(now, Usage::default())]) }
    }

    /// What was done in the window, and how long that is.
    fn recent(&mut self, usage: &Usage, now: Instant) -> (Usage, Duration) {
        // The newest sample that is a whole window old is where it begins.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
        let recent = self.samples.front().map(|(at, then)| (usage.since(then), now.duration_since(*at)));
        if self.samples.back().is_none_or(|(at, _)| now.duration_since(*at) >= SAMPLE_EVERY) {
            self.samples.push_back((now, usage.clone()));
        }
        recent.unwrap_or_default()
    }
}

impl CostMeter {
    /// A meter that begins now, and is shown by `registry`.
    pub fn register(
        registry: &mut Registry,
        prices: Prices,
        blobs: BlobMetrics,
        writer: WriterMetrics,
        metadata: Metadata,
    ) -> Arc<Self> {
        let window = Mutex::new(Window::new(Instant::now()));
        let meter = Arc::new(Self { prices, blobs, writer, metadata, window });
        registry.register_collector(Box::new(Arc::clone(&meter)));
        meter
    }

    /// The table for people.
    pub fn table(&self) -> String {
        self.report().table()
    }

    /// The sums of that table.
    pub fn money(&self) -> Money {
        let report = self.report();
        Money {
            usd: report.prices.of_all(&report.usage),
            per_gib: report.per_gib(),
            requests_month: report.month(),
            storage_month: report.storage_month(),
            recent_s: report.recent_time.as_secs(),
            free: report.prices == Prices::FREE,
        }
    }

    fn report(&self) -> Report {
        let (usage, now) = (self.blobs.usage(), Instant::now());
        let mut window = self.window.lock().expect("nothing panics while it holds the window");
        let (recent, recent_time) = window.recent(&usage, now);
        Report {
            prices: self.prices,
            usage,
            uptime: now.duration_since(window.start),
            recent,
            recent_time,
            bytes_in: self.writer.committed_bytes.get(),
            kept_bytes: self.metadata.read(|state| state.objects().live_bytes() + state.objects().dead_bytes()),
        }
    }
}

impl Collector for CostMeter {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let report = self.report();
        let usd = Unit::Other("usd".into());
        let help = "Money for requests and transfer since the start";
        let kind = ConstCounter::new(0.0).metric_type();
        let mut family = encoder.encode_descriptor("streamhouse_cost", help, Some(&usd), kind)?;
        for operation in Operation::ALL {
            for purpose in Purpose::ALL {
                let tally = report.usage.get(operation, purpose);
                if tally.requests > 0 {
                    let labels = [("operation", operation.name()), ("purpose", purpose.name())];
                    let money = ConstCounter::new(report.prices.of(operation, tally));
                    let encoder = family.encode_family(&labels)?;
                    money.encode(encoder)?;
                }
            }
        }
        let gauges = [
            ("streamhouse_cost_per_gib_in", "Money for requests and transfer, per GiB taken in", report.per_gib()),
            (
                "streamhouse_cost_requests_per_month",
                "The last hour's requests and transfer, for a month",
                report.month(),
            ),
            ("streamhouse_cost_storage_per_month", "Keeping what is kept now, for a month", report.storage_month()),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, Some(&usd), gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl Report {
    fn gib_in(&self) -> f64 {
        self.bytes_in as f64 / GB_BYTES
    }

    /// Money for each GiB taken in; 0 before there is any.
    fn per_gib(&self) -> f64 {
        self.for_each_gib(self.prices.of_all(&self.usage))
    }

    fn for_each_gib(&self, usd: f64) -> f64 {
        if self.bytes_in == 0 { 0.0 } else { usd / self.gib_in() }
    }

    fn month(&self) -> f64 {
        self.for_a_month(self.prices.of_all(&self.recent))
    }

    fn for_a_month(&self, usd: f64) -> f64 {
        let seconds = self.recent_time.as_secs_f64();
        if seconds > 0.0 { usd / seconds * MONTH_SECONDS } else { 0.0 }
    }

    fn storage_month(&self) -> f64 {
        self.prices.of_storage(self.kept_bytes)
    }

    fn row(&self, table: &mut String, name: &str, purposes: &[Purpose]) {
        let requests = |operations: &[Operation]| -> u64 {
            let cells = operations.iter().flat_map(|&o| purposes.iter().map(move |&p| (o, p)));
            cells.map(|(operation, purpose)| self.usage.get(operation, purpose).requests).sum()
        };
        let bytes = |operations: &[Operation]| -> u64 {
            let cells = operations.iter().flat_map(|&o| purposes.iter().map(move |&p| (o, p)));
            cells.map(|(operation, purpose)| self.usage.get(operation, purpose).bytes).sum()
        };
        let money = |usage: &Usage| purposes.iter().map(|&purpose| self.prices.of_purpose(usage, purpose)).sum::<f64>();
        let (puts, gets) =
            ([Operation::Put, Operation::PutNew, Operation::PutPart], [Operation::Get, Operation::GetRange]);
        let usd = money(&self.usage);
        let _ = writeln!(
            table,
            "{name:<9}{:>11}{:>11}{:>9}{:>9}{:>9}{:>12.1}{:>12.1}{usd:>13.6}{:>13.6}{:>12.2}",
            requests(&puts),
            requests(&gets),
            requests(&[Operation::Head]),
            requests(&[Operation::List]),
            requests(&[Operation::Delete, Operation::Abort]),
            mib(bytes(&puts)),
            mib(bytes(&gets)),
            self.for_each_gib(usd),
            self.for_a_month(money(&self.recent)),
        );
    }

    fn table(&self) -> String {
        let Prices { put_per_1000, get_per_1000, storage_gb_month, upload_gb, download_gb } = self.prices;
        let mut text = format!(
            "{} since the start, {:.3} GiB taken in, {:.3} GiB kept.\n\
             Prices, USD: {put_per_1000} per 1,000 PUT or LIST, {get_per_1000} per 1,000 GET or HEAD, {storage_gb_month} per \
             GB and month,\n{upload_gb} per GB sent, {download_gb} per GB read.\n\n",
            hours(self.uptime),
            self.gib_in(),
            self.kept_bytes as f64 / GB_BYTES,
        );
        let _ = writeln!(
            text,
            "{:<9}{:>11}{:>11}{:>9}{:>9}{:>9}{:>12}{:>12}{:>13}{:>13}{:>12}",
            "purpose", "PUT", "GET", "HEAD", "LIST", "DELETE", "MiB sent", "MiB read", "USD", "USD/GiB in", "USD/month"
        );
        for purpose in Purpose::ALL {
            self.row(&mut text, purpose.name(), &[purpose]);
        }
        self.row(&mut text, "requests", &Purpose::ALL);
        let month = self.storage_month();
        let _ = writeln!(text, "{:<9}{:>111.2}", "storage", month);
        let _ = writeln!(text, "{:<9}{:>111.2}", "total", month + self.month());
        let _ = writeln!(text, "\nA month goes on as the last {} did.", hours(self.recent_time));
        text
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn hours(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use storage::blob::measured::Tally;

    use super::*;

    fn puts(requests: u64) -> Usage {
        let mut usage = Usage::default();
        usage.add(Operation::Put, Purpose::Produce, Tally { requests, bytes: requests << 20 });
        usage
    }

    #[test]
    fn the_month_goes_by_the_last_hour() {
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(minutes * 60);
        let mut window = Window::new(start);
        assert_eq!(window.recent(&puts(10), at(0)), (puts(10), Duration::ZERO));
        // Ten a minute for two hours, then none.
        for minute in 1..=120 {
            window.recent(&puts(minute * 10), at(minute));
        }
        assert_eq!(window.recent(&puts(1_200), at(120)), (puts(600), WINDOW));
        assert_eq!(window.recent(&puts(1_200), at(150)), (puts(300), WINDOW));
        assert_eq!(window.recent(&puts(1_200), at(180)), (puts(0), WINDOW));
        assert!(window.samples.len() < 70, "{} samples", window.samples.len());
        // No one asked for ten hours: it goes by what there is.
        let (recent, time) = window.recent(&puts(2_000), at(780));
        assert_eq!((recent, time), (puts(800), Duration::from_secs(600 * 60)));
    }

    #[test]
    fn the_table_adds_up() {
        let mut usage = puts(2_000_000);
        usage.add(Operation::GetRange, Purpose::Fetch, Tally { requests: 1_000_000, bytes: 1 << 30 });
        let hour = Duration::from_secs(3_600);
        let report = Report {
            prices: Prices::STANDARD,
            recent: usage.clone(),
            usage,
            uptime: hour * 3,
            recent_time: hour,
            bytes_in: 100 << 30,
            kept_bytes: 1_000 << 30,
        };
        assert!((report.per_gib() - 0.104).abs() < 1e-9, "{}", report.per_gib());
        assert!((report.month() - 10.4 * 730.0).abs() < 1e-6, "{}", report.month());
        let text = report.table();
        let row = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let produce = ["2000000", "0", "0", "0", "0", "2000000.0", "0.0", "10.000000", "0.100000", "7300.00"];
        assert_eq!(row("produce"), produce);
        assert_eq!(row("fetch")[..2], ["0", "1000000"]);
        assert_eq!(row("requests")[7..], ["10.400000", "0.104000", "7592.00"]);
        assert_eq!((row("storage"), row("total")), (vec!["23.00".to_owned()], vec!["7615.00".to_owned()]));
        let header = text.lines().find(|line| line.starts_with("purpose")).unwrap();
        assert!(text.lines().filter(|line| line.ends_with(".00")).all(|line| line.len() == header.len()), "{text}");
    }
}
