//! What happens to records that lie for a while, in a real process on a folder and on a bucket: small objects become few, and
//! compacted topics keep the newest record of each key.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use compat_tests::harness::{Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, fetch_one, produce_one, read_all};
use compat_tests::s3_server::S3Server;
use gateway::wire::error_code::ErrorCode;
use metadata::model::batch::BatchIter;
use storage::codec::compression::Codec;
use storage::codec::inflate_batch;
use storage::codec::records::{RecordIter, RecordsBuilder};
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(120);
const TOMBSTONES_KEPT: Duration = Duration::from_secs(4);
/// A value of any time: 2023.
const TIME: i64 = 1_700_000_000_000;

/// Upkeep that does in a second what it does in minutes.
fn hasty(setup: Setup) -> Setup {
    [
        ("storage.merge-interval-ms", "100"),
        ("storage.merge-objects-min", "8"),
        ("storage.merge-age-min-ms", "0"),
        ("storage.compact-interval-ms", "100"),
        ("storage.sweep-interval-ms", "100"),
        ("storage.sweep-grace-ms", "500"),
    ]
    .into_iter()
    .fold(setup, |setup, (key, value)| setup.set(key, value))
}

/// How many segments there are, in the bucket or in the folder.
fn segments(gateway: &Gateway, s3: Option<&S3Server>) -> usize {
    match s3 {
        Some(s3) => s3.contents().keys().filter(|key| key.contains("segments/")).count(),
        None => std::fs::read_dir(gateway.data().join("objects/segments")).map_or(0, Iterator::count),
    }
}

async fn many_small_objects_become_few(setup: Setup, s3: Option<&S3Server>) {
    let mut gateway = hasty(setup).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "small", 3, &[]).await.unwrap(), 0);
    let mut expected: Vec<Vec<Vec<u8>>> = vec![Vec::new(); 3];
    for n in 0..150_usize {
        let value = format!("value {n}").into_bytes();
        let batch = RecordsBuilder::new().values(TIME, [&value]).build();
        let got = produce_one(&mut client, "small", (n % 3) as i32, batch).await.unwrap();
        assert_eq!(got.error_code, 0);
        expected[n % 3].push(value);
    }
    let begun = Instant::now();
    // What waits for a merge is fewer than eight fresh ones and a few merged ones of each level.
    while segments(&gateway, s3) > 16 {
        assert!(begun.elapsed() < SOON, "{} objects are left of 150: {}", segments(&gateway, s3), gateway.stderr());
        sleep(Duration::from_millis(50)).await;
    }
    for is_restarted in [false, true] {
        for (partition, expected) in (0..).zip(&expected) {
            assert_eq!(&read_all(&mut client, "small", partition).await.unwrap(), expected, "{is_restarted}");
        }
        gateway.restart().await.unwrap();
        client = gateway.client().await.unwrap();
    }
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[tokio::test]
async fn l1_many_small_objects_become_few_in_a_folder() {
    many_small_objects_become_few(Setup::new().unwrap(), None).await;
}

#[tokio::test]
async fn l1_many_small_objects_become_few_in_a_bucket() {
    let s3 = S3Server::start().await;
    many_small_objects_become_few(Setup::new().unwrap().on(&s3), Some(&s3)).await;
}

/// Offset, key and value of all records from an offset on.
async fn read_from(client: &mut RawClient, topic: &str, from: i64) -> Vec<(i64, String, Option<String>)> {
    let (mut all, mut next) = (Vec::new(), from);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    loop {
        let got = fetch_one(client, topic, 0, next).await.unwrap();
        assert_eq!(got.error_code, 0, "at {next}");
        if next == got.high_watermark {
            return all;
        }
        let begun_at = next;
        for batch in BatchIter::new(&got.records.unwrap_or_default()) {
            let batch = batch.unwrap();
            assert!(batch.crc_is_valid());
            for record in RecordIter::new(&inflate_batch(&batch, 1 << 20).unwrap(), batch.record_count()) {
                let record = record.unwrap();
                let offset = batch.base_offset() + i64::from(record.offset_delta);
                if offset >= from {
                    all.push((offset, text(record.key.unwrap()), record.value.map(text)));
                }
            }
            next = batch.base_offset() + i64::from(batch.last_offset_delta()) + 1;
        }
        assert!(next > begun_at, "nothing at {begun_at} below the high watermark {}", got.high_watermark);
    }
}

async fn put(client: &mut RawClient, codec: Codec, records: &[(&str, Option<&str>)]) -> i64 {
    let add = |batch: RecordsBuilder, (key, value): &(&str, Option<&str>)| {
        batch.record(TIME, Some(key.as_bytes()), value.map(str::as_bytes))
    };
    let batch = records.iter().fold(RecordsBuilder::new().codec(codec), add);
    let got = produce_one(client, "compacted", 0, batch.build()).await.unwrap();
    assert_eq!(got.error_code, 0);
    got.base_offset
}

/// Waits until what is read from the start is as wanted.
async fn until(gateway: &Gateway, client: &mut RawClient, is_so: impl Fn(&[(i64, String, Option<String>)]) -> bool) {
    let begun = Instant::now();
    loop {
        let log = read_from(client, "compacted", 0).await;
        if is_so(&log) {
            return;
        }
        assert!(begun.elapsed() < SOON, "{log:?}\n{}", gateway.stderr());
        sleep(Duration::from_millis(50)).await;
    }
}

async fn the_newest_of_each_key_stays(setup: Setup) {
    let mut gateway = hasty(setup).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    let kept_ms = TOMBSTONES_KEPT.as_millis().to_string();
    let configs =
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("delete.retention.ms", &*kept_ms)];
    assert_eq!(create_topic(&mut client, "compacted", 1, &configs).await.unwrap(), 0);
    let refused = RecordsBuilder::new().record(TIME, Some(b"k"), None).values(TIME, ["no key"]).build();
    let refused = produce_one(&mut client, "compacted", 0, refused).await.unwrap();
    assert_eq!((refused.error_code, refused.base_offset), (ErrorCode::InvalidRecord.code(), -1));
    assert_eq!(refused.record_errors.iter().map(|error| error.batch_index).collect::<Vec<_>>(), [1]);

    let mut newest: BTreeMap<String, (i64, Option<String>)> = BTreeMap::new();
    for round in 0..15 {
        let value = format!("round {round}");
        let keys: Vec<String> = (0..10).filter(|n| n % 3 != round % 3).map(|n| format!("k{n}")).collect();
        let records: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (&**key, Some(&*value))).collect();
        let base = put(&mut client, Codec::ALL[round % Codec::ALL.len()], &records).await;
        for (offset, key) in (base..).zip(&keys) {
            newest.insert(key.clone(), (offset, Some(value.clone())));
        }
    }
    let deleted = put(&mut client, Codec::None, &[("k3", None)]).await;
    newest.insert("k3".into(), (deleted, None));
    let end = put(&mut client, Codec::None, &[("end", Some("1"))]).await;
    newest.insert("end".into(), (end, Some("1".into())));
    let expected = || {
        let mut log: Vec<_> = newest.iter().map(|(key, (at, value))| (*at, key.clone(), value.clone())).collect();
        log.sort();
        log
    };
    let with_tombstone = expected();
    until(&gateway, &mut client, |log| log == with_tombstone).await;
    for from in 0..=end {
        let of_rest: Vec<_> = with_tombstone.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
        assert_eq!(read_from(&mut client, "compacted", from).await, of_rest, "from {from}");
    }
    sleep(TOMBSTONES_KEPT).await;
    // Something new to compact is what makes the log looked at again.
    put(&mut client, Codec::None, &[("end", Some("2"))]).await;
    until(&gateway, &mut client, |log| log.iter().all(|(_, key, _)| key != "k3")).await;
    let without: Vec<_> = with_tombstone.iter().filter(|(_, key, _)| key != "k3" && key != "end").cloned().collect();
    for is_restarted in [false, true] {
        let log = read_from(&mut client, "compacted", 0).await;
        assert_eq!(log[..without.len()], without, "{is_restarted}");
        gateway.restart().await.unwrap();
        client = gateway.client().await.unwrap();
    }
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[tokio::test]
async fn g5_the_newest_of_each_key_stays_in_a_folder() {
    the_newest_of_each_key_stays(Setup::new().unwrap()).await;
}

#[tokio::test]
async fn g5_the_newest_of_each_key_stays_in_a_bucket() {
    let s3 = S3Server::start().await;
    the_newest_of_each_key_stays(Setup::new().unwrap().on(&s3)).await;
}

/// Left out by name where the clients' toolchains are not.
mod real_clients {
    use super::*;

    /// librdkafka goes on over gaps as it does on Kafka, and ends at the end.
    #[tokio::test]
    async fn kcat_reads_a_compacted_log_over_its_gaps() {
        let gateway = hasty(Setup::new().unwrap()).start().await.unwrap();
        let mut client = gateway.client().await.unwrap();
        let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
        assert_eq!(create_topic(&mut client, "compacted", 1, &configs).await.unwrap(), 0);
        for round in 0..6 {
            let value = round.to_string();
            let records = [("a", Some(&*value)), ("b", Some("same")), (&*value, Some("once")), ("a", Some("later"))];
            put(&mut client, Codec::ALL[round % Codec::ALL.len()], &records).await;
        }
        put(&mut client, Codec::Zstd, &[("end", Some("1"))]).await;
        // Of each batch the third record is the only one of its key; the last one has all of its own.
        let expected = [2, 6, 10, 14, 18, 21, 22, 23, 24];
        until(&gateway, &mut client, |log| log.iter().map(|record| record.0).eq(expected)).await;
        let bootstrap = gateway.bootstrap();
        let read = tokio::task::spawn_blocking(move || {
            let from = ["-C", "-b", &bootstrap, "-t", "compacted", "-o", "beginning", "-e", "-q", "-f", "%o\n"];
            std::process::Command::new("kcat").args(from).output().unwrap()
        });
        let read = tokio::time::timeout(SOON, read).await.expect("it comes to the end").unwrap();
        let offsets: Vec<i64> =
            String::from_utf8(read.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(offsets, expected, "{}", String::from_utf8_lossy(&read.stderr));
    }
}
