//! What clients have left of their rate when one of three gateways is killed, and when they have it back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use compat_tests::following::{leaders, metadata_of};
use compat_tests::harness::Gateway;
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{FETCH_VERSION, produce_one};
use metadata::model::batch::BatchIter;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::bucket::STANDARD;
use super::load::poll;
use super::report::{Result, row};
use super::several::{Cluster, TOPIC, batch};

const PARTITIONS: i32 = 24;
/// As clients wait before they ask again who leads what.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const SAMPLE: Duration = Duration::from_millis(100);
/// Samples over which a rate is counted.
const WINDOW: usize = 20;
/// Of the former rate.
const ENOUGH: f64 = 0.8;
const WARM_UP: Duration = Duration::from_secs(4);
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(25);
const BAR: Duration = Duration::from_secs(10);

/// Batches acked and read so far, and whether it is over.
#[derive(Debug, Default)]
struct Counts {
    produced: AtomicU64,
    consumed: AtomicU64,
    is_over: AtomicBool,
}

/// The way of one client to whoever leads its partition.
#[derive(Debug, Clone)]
struct Way {
    bootstrap: Vec<SocketAddr>,
    partition: i32,
    counts: Arc<Counts>,
}

impl Way {
    /// A connection to the leader that the first gateway to answer names, if that takes one.
    async fn connect(&self) -> Option<RawClient> {
        for address in &self.bootstrap {
            let Ok(mut client) = RawClient::connect(*address).await else { continue };
            let Ok(answer) = metadata_of(&mut client, TOPIC).await else { continue };
            let leader = leaders(&answer).get(&self.partition).copied()?;
            return RawClient::connect(leader).await.ok();
        }
        None
    }

    fn is_over(&self) -> bool {
        self.counts.is_over.load(Ordering::Relaxed)
    }

    /// Sends a batch as soon as the one before is acked.
    async fn produce(self) {
        let batch = batch();
        while !self.is_over() {
            if let Some(mut client) = self.connect().await {
                while !self.is_over() {
                    match produce_one(&mut client, TOPIC, self.partition, batch.clone()).await {
                        Ok(told) if told.error_code == 0 => self.counts.produced.fetch_add(1, Ordering::Relaxed),
                        _ => break,
                    };
                }
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// Follows the log.
    async fn consume(self) {
        let mut offset = 0;
        while !self.is_over() {
            if let Some(mut client) = self.connect().await {
                while !self.is_over() {
                    let asked = client.ask(FETCH_VERSION, &poll(TOPIC, &[(self.partition, offset)], 500)).await;
                    let found = asked.ok().and_then(|answer| answer.responses.into_iter().next()?.partitions.pop());
                    let Some(found) = found.filter(|found| found.error_code == 0) else { break };
                    let records = found.records.unwrap_or_default();
                    for batch in BatchIter::new(&records).map_while(std::result::Result::ok) {
                        offset = batch.base_offset() + i64::from(batch.record_count());
                        self.counts.consumed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            sleep(RETRY_AFTER).await;
        }
    }
}

/// What had been counted when.
type Samples = Vec<(Instant, u64)>;

fn rate(from: &(Instant, u64), to: &(Instant, u64)) -> f64 {
    to.1.saturating_sub(from.1) as f64 / to.0.duration_since(from.0).as_secs_f64()
}

/// Between two moments.
fn rate_between(samples: &Samples, from: Instant, to: Instant) -> f64 {
    let mut within = samples.iter().filter(|(at, _)| (from..=to).contains(at));
    let first = within.next();
    first.zip(within.next_back()).map_or(0.0, |(first, last)| rate(first, last))
}

/// From the moment until the last window in which there was less than `wanted`: from then on the rate is there again.
fn back_after(samples: &Samples, moment: Instant, wanted: f64) -> Option<Duration> {
    let windows = samples.windows(WINDOW + 1).filter(|window| window[0].0 >= moment);
    let mut back = Some(Duration::ZERO);
    for window in windows {
        let (first, last) = (&window[0], &window[WINDOW]);
        if rate(first, last) < wanted {
            back = None;
        } else if back.is_none() {
            back = Some(first.0.duration_since(moment));
        }
    }
    back
}

fn told(what: &str, samples: &Samples, killed: Instant) -> String {
    let before = rate_between(samples, killed - BEFORE, killed);
    let after = rate_between(samples, killed + BAR, killed + AFTER);
    let back = back_after(samples, killed, before * ENOUGH);
    let back = back.map_or_else(|| "never".to_owned(), |took| format!("after {:.1} s", took.as_secs_f64()));
    format!("{what} {before:.0}/s before, 80 % of it {back}, {:.0} % from 10 s on", after / before * 100.0)
}

pub async fn kill() -> Result<()> {
    let mut cluster = Cluster::start(3, STANDARD, PARTITIONS).await?;
    // Those who stay first: where the one that was killed is asked is not what is measured.
    let bootstrap = cluster.gateways.iter().rev().map(Gateway::address).collect::<Vec<_>>();
    let counts = Arc::<Counts>::default();
    let mut clients = JoinSet::new();
    for partition in 0..PARTITIONS {
        let way = Way { bootstrap: bootstrap.clone(), partition, counts: Arc::clone(&counts) };
        clients.spawn(way.clone().produce());
        clients.spawn(way.consume());
    }
    sleep(WARM_UP).await;
    let (mut produced, mut consumed, mut killed) = (Samples::new(), Samples::new(), None);
    let began = Instant::now();
    while began.elapsed() < BEFORE + AFTER {
        let now = Instant::now();
        produced.push((now, counts.produced.load(Ordering::Relaxed)));
        consumed.push((now, counts.consumed.load(Ordering::Relaxed)));
        if killed.is_none() && began.elapsed() >= BEFORE {
            cluster.gateways[0].kill9().await?;
            killed = Some(Instant::now());
        }
        sleep(SAMPLE).await;
    }
    counts.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended?;
    }
    let killed = killed.ok_or("nothing was killed")?;
    row(
        "one of three gateways killed (kill -9)",
        &format!("{}; {}", told("batches acked", &produced, killed), told("batches read", &consumed, killed)),
        ">= 80 % of the former rate within 10 s",
        "24 producers with one request in flight and 24 consumers, a partition each, which go to its leader, Standard latencies; \
         rates over 2 s; session timeout 5 s",
    );
    Ok(())
}
