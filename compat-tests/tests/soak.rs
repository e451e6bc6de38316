//! Hours of writing in minutes: with retention, merges and sweeping going on, a gateway that has written for long is as small
//! as one that has just begun. `make soak` runs it for an hour; `STREAMHOUSE_SOAK_SECONDS` says how long.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, fetch_one, produce, produced};
use compat_tests::s3_server::S3Server;
use metadata::clock::{Clock as _, SystemClock};
use storage::codec::records::RecordsBuilder;
use tokio::time::sleep;

const SECONDS: &str = "STREAMHOUSE_SOAK_SECONDS";
/// Long enough for ten times the retention below.
const SECONDS_DEFAULT: u64 = 80;
/// A machine that is too slow for half the load below goes on until it has come together, but not for longer than so many times that.
const LONGER: u32 = 4;
const PARTITIONS: i32 = 16;
/// At most: what a busy machine has not sent in time is not made up for.
const REQUESTS_PER_SECOND: u32 = 20;
const BATCH_BYTES: usize = 8 << 10;
const RETENTION: &str = "4000";
/// What may differ between two thirds of the run although nothing grows: objects come and go in steps, of a snapshot or a
/// merge. What is never deleted would come to more than this: a third of the run writes five hundred objects.
const SLACK: f64 = 1.8;
const SLACK_RSS_BYTES: u64 = 24 << 20;

/// Upkeep that does in seconds what it does in minutes; caches small enough to be full soon.
fn hasty(setup: Setup) -> Setup {
    [
        ("storage.merge-interval-ms", "500"),
        ("storage.merge-objects-min", "16"),
        ("storage.merge-age-min-ms", "500"),
        ("storage.merge-target-bytes", "8388608"),
        ("storage.retention-interval-ms", "250"),
        ("storage.sweep-interval-ms", "250"),
        ("storage.sweep-grace-ms", "500"),
        ("metadata.snapshot-entries", "100"),
        ("storage.tail-cache-bytes", "16777216"),
        ("storage.block-cache-bytes", "16777216"),
    ]
    .into_iter()
    .fold(setup, |setup, (key, value)| setup.set(key, value))
}

/// What must not grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
struct Size {
    rss: u64,
    objects: usize,
    index: f64,
}

async fn measure(gateway: &Gateway, s3: &S3Server) -> Size {
    let index = gateway.metric("streamhouse_upkeep_index_bytes").await.unwrap().expect("a gauge of the index");
    Size { rss: gateway.rss().unwrap(), objects: s3.contents().len(), index }
}

/// Requests a second over some samples, which are a second apart.
fn rate(samples: &[(Size, u32)]) -> f64 {
    let sent = samples.last().map_or(0, |last| last.1) - samples.first().map_or(0, |first| first.1);
    f64::from(sent.max(1)) / samples.len().max(1) as f64
}

/// The largest of each over some samples.
fn largest(samples: &[(Size, u32)]) -> Size {
    samples.iter().fold(Size::default(), |most, (size, _)| Size {
        rss: most.rss.max(size.rss),
        objects: most.objects.max(size.objects),
        index: most.index.max(size.index),
    })
}

fn batch(marker: u64) -> Bytes {
    let mut value = vec![b'x'; BATCH_BYTES];
    value[..8].copy_from_slice(&marker.to_be_bytes());
    RecordsBuilder::new().values(SystemClock.now_ms(), [value]).build()
}

#[tokio::test]
async fn g2_what_has_written_for_long_is_as_small_as_what_has_just_begun() {
    let seconds = std::env::var(SECONDS).map_or(SECONDS_DEFAULT, |text| text.parse().unwrap());
    let s3 = S3Server::start().await;
    let gateway = hasty(Setup::new().unwrap().on(&s3)).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "soak", PARTITIONS, &[("retention.ms", RETENTION)]).await.unwrap(), 0);
    let (began, lasts) = (Instant::now(), Duration::from_secs(seconds));
    let (mut samples, mut ends, mut sent) = (Vec::new(), vec![0; PARTITIONS as usize], 0_u32);
    let (mut next_sample, pace) = (Duration::from_secs(1), Duration::from_secs(1) / REQUESTS_PER_SECOND);
    let load = REQUESTS_PER_SECOND * seconds as u32 / 2;
    while began.elapsed() < lasts || (sent <= load && began.elapsed() < lasts * LONGER) {
        let begun = Instant::now();
        let batches = (0..PARTITIONS).map(|partition| (partition, Some(batch(u64::from(sent))))).collect();
        let answer = client.ask(12, &produce("soak", -1, 30_000, batches)).await.unwrap();
        for partition in produced(&answer) {
            assert_eq!(partition.error_code, 0, "{partition:?}");
            ends[partition.index as usize] = partition.base_offset + 1;
        }
        sent += 1;
        if began.elapsed() >= next_sample {
            samples.push((measure(&gateway, &s3).await, sent));
            next_sample += Duration::from_secs(1);
        }
        sleep(pace.saturating_sub(begun.elapsed())).await;
    }
    let third = samples.len() / 3;
    let (middle, last) = (&samples[third..2 * third], &samples[2 * third..]);
    let (before, after) = (largest(middle), largest(last));
    // What is there for as long as retention lets it is more if more was sent meanwhile.
    let slack = SLACK * (rate(last) / rate(middle)).max(1.0);
    println!("middle third {before:?}, last third {after:?}, {sent} requests, slack {slack:.2}");
    assert!(sent > load, "{sent} requests are no load");
    assert!(after.objects as f64 <= before.objects as f64 * slack + 16.0, "objects grow: {before:?}, {after:?}");
    assert!(after.index <= before.index * slack + 4096.0, "the index grows: {before:?}, {after:?}");
    assert!(after.rss <= before.rss + SLACK_RSS_BYTES, "memory grows: {before:?}, {after:?}");
    still_there(&mut client, &ends).await;
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

/// The newest record of each partition can be read, and the first is long gone.
async fn still_there(client: &mut RawClient, ends: &[i64]) {
    for (partition, end) in (0..).zip(ends) {
        let newest = fetch_one(client, "soak", partition, end - 1).await.unwrap();
        assert_eq!(newest.error_code, 0);
        assert!(newest.records.is_some_and(|records| records.len() > BATCH_BYTES), "partition {partition}");
        assert_eq!(fetch_one(client, "soak", partition, 0).await.unwrap().error_code, 1, "OFFSET_OUT_OF_RANGE");
    }
}
