//! An index that is larger than it may be: its oldest part moves into manifests, and nobody who reads, looks for a time, cuts,
//! restores or crashes sees a difference.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use compat_tests::harness::{Ended, Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, delete_records, fetch_one, offset_at, produce_one};
use compat_tests::s3_server::S3Server;
use metadata::clock::{Clock, SystemClock};
use metadata::model::batch::BatchIter;
use storage::codec::records::RecordsBuilder;
use tempfile::TempDir;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(120);
const TOPIC: &str = "long";
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// Asks for the first offset instead of that of a time.
const EARLIEST: i64 = -2;
/// The first record's time: 2023. Each is a second younger than the one before it.
const TIME: i64 = 1_700_000_000_000;
/// So many extents that several runs are folded, and some are not.
const RECORDS: i64 = 260;

/// No index is small enough, and every object is so large that merging leaves it alone.
fn folding(setup: Setup) -> Setup {
    [
        ("storage.index-bytes-max", "1"),
        ("storage.merge-target-bytes", "4"),
        ("storage.merge-interval-ms", "50"),
        ("storage.merge-age-min-ms", "0"),
        ("storage.retention-interval-ms", "100"),
        ("storage.sweep-interval-ms", "100"),
        ("storage.sweep-grace-ms", "300"),
        ("storage.put-budget", "500"),
        ("storage.linger-max-ms", "5"),
    ]
    .into_iter()
    .fold(setup, |setup, (key, value)| setup.set(key, value))
}

fn batch(number: i64) -> bytes::Bytes {
    let value = format!("record {number} of a log that is longer than its index may be");
    RecordsBuilder::new().values(TIME + number * 1_000, [value.as_bytes()]).build()
}

/// What the producer sent and its checksum covers: everything but the place.
fn sent(batch: &[u8]) -> Vec<u8> {
    batch[16..].to_vec()
}

async fn fill(client: &mut RawClient, from: i64, to: i64) {
    for number in from..to {
        let got = produce_one(client, TOPIC, 0, batch(number)).await.unwrap();
        assert_eq!((got.error_code, got.base_offset), (0, number));
    }
}

/// Everything from an offset on, by offset, as the producer sent it. `None` if retention went past it.
async fn read_unless_gone(client: &mut RawClient, from: i64) -> Option<BTreeMap<i64, Vec<u8>>> {
    let (mut found, mut next) = (BTreeMap::new(), from);
    loop {
        let got = fetch_one(client, TOPIC, 0, next).await.unwrap();
        if got.error_code == OFFSET_OUT_OF_RANGE {
            return None;
        }
        assert_eq!(got.error_code, 0, "at {next}");
        if next == got.high_watermark {
            return Some(found);
        }
        let begun_at = next;
        for batch in BatchIter::new(&got.records.unwrap_or_default()) {
            let batch = batch.unwrap();
            assert!(batch.crc_is_valid() && batch.base_offset() == next, "a gap at {next}: {}", batch.base_offset());
            found.insert(next, sent(batch.bytes()));
            next += i64::from(batch.last_offset_delta()) + 1;
        }
        assert!(next > begun_at, "nothing at {begun_at} below the high watermark {}", got.high_watermark);
    }
}

async fn read_from(client: &mut RawClient, from: i64) -> BTreeMap<i64, Vec<u8>> {
    read_unless_gone(client, from).await.unwrap()
}

/// Where the log starts, and all of it: asked again if retention, which goes on beside us, moved the start before it was read.
async fn read_whole(client: &mut RawClient) -> (i64, BTreeMap<i64, Vec<u8>>) {
    let begun = Instant::now();
    loop {
        let start = offset_at(client, TOPIC, 0, EARLIEST).await.unwrap();
        if let Some(found) = read_unless_gone(client, start).await {
            return (start, found);
        }
        assert!(begun.elapsed() < SOON, "retention does not end");
    }
}

fn expected(from: i64, to: i64) -> BTreeMap<i64, Vec<u8>> {
    (from..to).map(|number| (number, sent(&batch(number)))).collect()
}

/// Waits until a metric is as wanted.
async fn until(gateway: &Gateway, metric: &str, is_so: impl Fn(f64) -> bool) {
    let begun = Instant::now();
    loop {
        let value = gateway.metric(metric).await.unwrap();
        if value.is_some_and(&is_so) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{metric} is {value:?}: {}", gateway.stderr());
        sleep(Duration::from_millis(50)).await;
    }
}

const FOLDS: &str = "streamhouse_upkeep_folds";
const DROPPED: &str = "streamhouse_upkeep_dropped_folds";

async fn a_long_log_is_folded_and_all_of_it_is_there(setup: Setup) {
    let mut gateway = folding(setup).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 1, &[("retention.ms", "-1")]).await.unwrap(), 0);
    fill(&mut client, 0, RECORDS).await;
    until(&gateway, FOLDS, |folds| folds >= 2.0).await;
    for is_restarted in [false, true] {
        assert_eq!(read_from(&mut client, 0).await, expected(0, RECORDS), "{is_restarted}");
        for number in (0..RECORDS).step_by(13) {
            let at = TIME + number * 1_000;
            assert_eq!(offset_at(&mut client, TOPIC, 0, at).await.unwrap(), number, "{is_restarted}");
            assert_eq!(offset_at(&mut client, TOPIC, 0, at + 1).await.unwrap(), number + 1, "{is_restarted}");
        }
        gateway.restart().await.unwrap();
        client = gateway.client().await.unwrap();
    }
    until(&gateway, "streamhouse_upkeep_extents", |extents| (64.0..=96.0).contains(&extents)).await;
    assert!(gateway.metric("streamhouse_reader_corrupt_runs_total").await.unwrap() == Some(0.0));
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_g7_a_long_log_is_folded_and_all_of_it_is_there_in_a_folder() {
    a_long_log_is_folded_and_all_of_it_is_there(Setup::new().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_g7_a_long_log_is_folded_and_all_of_it_is_there_with_nothing_but_a_bucket() {
    let s3 = S3Server::start().await;
    a_long_log_is_folded_and_all_of_it_is_there(Setup::new().unwrap().on(&s3)).await;
}

/// How many objects of records and manifests there are.
fn objects(gateway: &Gateway) -> usize {
    std::fs::read_dir(gateway.data().join("objects/segments")).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g2_g3_retention_goes_through_what_is_folded_and_deletes_it() {
    let mut gateway = folding(Setup::new().unwrap()).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    let one = batch(100).len() as i64;
    let kept = (one * 120).to_string();
    let configs = [("retention.ms", "-1"), ("retention.bytes", &*kept)];
    assert_eq!(create_topic(&mut client, TOPIC, 1, &configs).await.unwrap(), 0);
    fill(&mut client, 0, RECORDS).await;
    let (begun, mut before) = (Instant::now(), -1);
    let start = loop {
        let start = fetch_one(&mut client, TOPIC, 0, RECORDS).await.unwrap().log_start_offset;
        // Several passes of retention that find nothing more to do.
        if start == before && start >= RECORDS - 122 {
            break start;
        }
        before = start;
        assert!(begun.elapsed() < SOON, "the log starts at {start}: {}", gateway.stderr());
        sleep(Duration::from_millis(500)).await;
    };
    assert!(start <= RECORDS - 119, "{start}: no more goes than is too much");
    until(&gateway, DROPPED, |folds| folds == 0.0).await;
    let begun = Instant::now();
    // Of the oldest run all is kept until all of it may go.
    while objects(&gateway) > 190 {
        assert!(begun.elapsed() < SOON, "{} objects are left: {}", objects(&gateway), gateway.stderr());
        sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..2 {
        assert_eq!(read_from(&mut client, start).await, expected(start, RECORDS));
        assert_eq!(fetch_one(&mut client, TOPIC, 0, start - 1).await.unwrap().error_code, OFFSET_OUT_OF_RANGE);
        gateway.restart().await.unwrap();
        client = gateway.client().await.unwrap();
    }
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

/// Every point at which folding and letting go may be cut off.
const POINTS: [&str; 5] = [
    "upkeep::before_manifest",
    "upkeep::before_fold",
    "upkeep::after_fold",
    "upkeep::before_unfold",
    "upkeep::after_unfold",
];

/// Produces until the process is gone; tells what was acked, by offset.
async fn fill_until_the_end(client: &mut RawClient, acked: &mut BTreeMap<i64, Vec<u8>>) {
    let begun = Instant::now();
    for number in 1_000.. {
        assert!(begun.elapsed() < SOON, "the process should be gone: {number}");
        let batch = batch(number);
        let Ok(got) = produce_one(client, TOPIC, 0, batch.clone()).await else { return };
        if got.error_code != 0 {
            return;
        }
        acked.insert(got.base_offset, sent(&batch));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_l2_g1_killed_at_every_step_of_folding_and_letting_go() {
    for point in POINTS {
        let points = format!("{point}=return");
        let setup = folding(Setup::new().unwrap()).failpoints(&points);
        let mut gateway = setup.start().await.unwrap();
        let mut client = gateway.client().await.unwrap();
        // Enough for a run to be folded, and little more: soon nothing of it is wanted any more.
        let kept = (batch(1_000).len() * 110).to_string();
        let configs = [("retention.ms", "-1"), ("retention.bytes", &*kept)];
        assert_eq!(create_topic(&mut client, TOPIC, 1, &configs).await.unwrap(), 0);
        let mut acked = BTreeMap::new();
        fill_until_the_end(&mut client, &mut acked).await;
        assert_eq!(gateway.ended(SOON).await.unwrap(), None, "{point}: ended by a signal: {}", gateway.stderr());
        gateway.restart().await.unwrap();
        let mut client = gateway.client().await.unwrap();
        for number in 0..120 {
            let got = produce_one(&mut client, TOPIC, 0, batch(number)).await.unwrap();
            assert_eq!(got.error_code, 0, "{point}");
            acked.insert(got.base_offset, sent(&batch(number)));
        }
        until(&gateway, FOLDS, |folds| folds >= 1.0).await;
        until(&gateway, DROPPED, |folds| folds == 0.0).await;
        for _ in 0..2 {
            let (start, found) = read_whole(&mut client).await;
            let lost: Vec<_> = acked.range(start..).filter(|(at, bytes)| found.get(at) != Some(bytes)).collect();
            assert!(lost.is_empty(), "{point}: {} acked records are not there", lost.len());
            assert!(
                found.len() <= acked.range(start..).count() + 1,
                "{point}: what was not acked is there at most once"
            );
            gateway.restart().await.unwrap();
            client = gateway.client().await.unwrap();
        }
        assert!(!gateway.stderr().contains("panicked"), "{point}: {}", gateway.stderr());
    }
}

async fn tool(s3: &S3Server, name: &str, data: &Path, args: &[&str]) -> Ended {
    let bucket = format!("s3://{}", s3.bucket());
    let (endpoint, data) = (s3.endpoint(), data.display().to_string());
    let with_env =
        s3.environment().into_iter().fold(Setup::new().unwrap(), |setup, (name, value)| setup.env(name, value));
    let setup = with_env.args([name, "--from", &bucket, "--endpoint", &endpoint, "--data", &data]);
    setup.args(args.iter().copied()).run().await.unwrap()
}

/// The machine is lost; or somebody wants back what was deleted meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_brings_back_what_is_folded_and_a_scrub_reads_it() {
    let s3 = S3Server::start().await;
    let folder = TempDir::new().unwrap();
    let on = |data: &str| {
        let setup = folding(Setup::new().unwrap().on(&s3).args(["--journal", "sqlite"])).data(folder.path().join(data));
        let setup = setup.set("metadata.restore-window-ms", "3600000").set("metadata.archive-interval-ms", "200");
        setup.set("metadata.snapshot-entries", "50")
    };
    let mut gateway = on("first").start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 1, &[("retention.ms", "-1")]).await.unwrap(), 0);
    fill(&mut client, 0, RECORDS).await;
    until(&gateway, FOLDS, |folds| folds >= 2.0).await;
    gateway.has_archived(&s3).await.unwrap();
    let sound = tool(&s3, "scrub", &folder.path().join("first"), &[]).await;
    assert_eq!(sound.code, Some(0), "{}{}", sound.stdout, sound.stderr);
    assert!(sound.stdout.contains(" 0 unreadable, 0 unreferenced"), "{}", sound.stdout);
    gateway.kill9().await.unwrap();
    let restored = tool(&s3, "restore", &folder.path().join("second"), &[]).await;
    assert_eq!(restored.code, Some(0), "{}{}", restored.stdout, restored.stderr);
    let mut gateway = on("second").start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(read_from(&mut client, 0).await, expected(0, RECORDS));
    gateway.has_archived(&s3).await.unwrap();
    let then = SystemClock.now_ms();
    sleep(Duration::from_millis(50)).await;
    // All of it is deleted, and what was folded let go of.
    let deleted = delete_records(&mut client, TOPIC, 0, RECORDS).await.unwrap();
    assert_eq!(deleted, 0);
    until(&gateway, FOLDS, |folds| folds == 0.0).await;
    until(&gateway, DROPPED, |folds| folds == 0.0).await;
    gateway.has_archived(&s3).await.unwrap();
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
    let at = then.to_string();
    let back = tool(&s3, "restore", &folder.path().join("third"), &["--at", &at]).await;
    assert_eq!(back.code, Some(0), "{}{}", back.stdout, back.stderr);
    let mut gateway = on("third").start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(read_from(&mut client, 0).await, expected(0, RECORDS));
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
    // A manifest is damaged: reported, not passed over.
    let manifest = s3.contents().into_iter().find(|(key, bytes)| {
        let footer = storage::segment::parser::parse_segment(bytes);
        key.contains("segments/") && footer.is_ok_and(|footer| footer.placed && footer.topics.is_empty())
    });
    let (key, bytes) = manifest.unwrap();
    let mut bytes = bytes.to_vec();
    bytes[30] ^= 4;
    s3.tamper(&key, Some(bytes.into()));
    let found = tool(&s3, "scrub", &folder.path().join("third"), &[]).await;
    assert_eq!(found.code, Some(4), "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains(&format!("unreadable    {key}")), "{}", found.stdout);
}
