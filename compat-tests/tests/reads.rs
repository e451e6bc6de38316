//! Cold reads of a bucket through a gateway: how many GETs they cost, what the disk keeps, and what a bucket that lies does to
//! them.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::requests::{create_topic, fetch_one, produce_one, read_all};
use compat_tests::s3_server::S3Server;
use compat_tests::s3_server::faults::RequestKind;
use metadata::model::batch::BatchIter;
use storage::codec::records::{RecordIter, RecordsBuilder};

const TOPIC: &str = "cold";
const VALUE_BYTES: usize = 150_000;
const SOON: Duration = Duration::from_secs(60);

fn value(number: usize) -> Vec<u8> {
    (0..VALUE_BYTES).map(|at| (at * 31 + number * 7) as u8).collect()
}

/// Bytes of the files in a folder.
fn bytes_in(folder: &Path) -> f64 {
    let lengths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    lengths.sum::<u64>() as f64
}

/// A gateway that has written `count` records, each into an object of its own, and keeps none of them in memory.
async fn written(setup: Setup, s3: &S3Server, count: usize) -> Gateway {
    let setup = setup.on(s3).set("storage.tail-cache-bytes", "0").set("storage.put-budget", "10000");
    let gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 1, &[]).await.unwrap(), 0);
    for number in 0..count {
        let batch: Bytes = RecordsBuilder::new().values(1_700_000_000_000, [value(number)]).build();
        assert_eq!(produce_one(&mut client, TOPIC, 0, batch).await.unwrap().error_code, 0);
    }
    gateway
}

/// Reads everything with so many consumers at once; how many GETs of segments there were.
async fn gets_of(gateway: &mut Gateway, s3: &S3Server, consumers: usize, count: usize) -> u64 {
    gateway.restart().await.unwrap();
    let before = s3.count(RequestKind::Get).requests;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..consumers {
        let mut client = gateway.client().await.unwrap();
        readers.spawn(async move { read_all(&mut client, TOPIC, 0).await.unwrap() });
    }
    while let Some(read) = readers.join_next().await {
        let values = read.unwrap();
        assert_eq!(values.len(), count);
        assert!(values.iter().enumerate().all(|(number, read)| *read == value(number)), "other bytes");
    }
    s3.count(RequestKind::Get).requests - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_do_not_grow_with_the_consumers() {
    let s3 = S3Server::start().await;
    // A journal in the bucket is looked at every few seconds, with a GET.
    let setup = Setup::new().unwrap().args(["--journal", "sqlite"]).set("storage.disk-cache-bytes", "0");
    let mut gateway = written(setup, &s3, 60).await;
    let one = gets_of(&mut gateway, &s3, 1, 60).await;
    assert!((60..=66).contains(&one), "{one} GETs for 60 objects");
    for consumers in [3, 10] {
        let gets = gets_of(&mut gateway, &s3, consumers, 60).await;
        assert!(gets <= one + 3, "{gets} GETs by {consumers} consumers, {one} by one");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_keeps_blocks_over_a_restart_and_a_damaged_file_is_a_miss() {
    let s3 = S3Server::start().await;
    let mut gateway = written(Setup::new().unwrap(), &s3, 30).await;
    let cold = gets_of(&mut gateway, &s3, 1, 30).await;
    assert!(cold >= 30, "{cold}");
    // A busy disk is not waited for: what did not get there in one round does in the next.
    let mut warm = cold;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await; // the last blocks are on their way to the disk
        warm = gets_of(&mut gateway, &s3, 1, 30).await;
        if warm <= 3 {
            break;
        }
    }
    assert!(warm <= 3, "{warm} GETs although the disk has had ten chances to take all");
    assert!(gateway.metric("streamhouse_disk_cache_hits_total").await.unwrap().unwrap() >= 24.0);
    let cluster = std::fs::read_dir(gateway.data().join("cache")).unwrap().next().unwrap().unwrap().path();
    let begun = Instant::now();
    // Until every file is whole and known.
    while gateway.metric("streamhouse_disk_cache_held_bytes").await.unwrap() != Some(bytes_in(&cluster)) {
        assert!(begun.elapsed() < SOON, "{} bytes", bytes_in(&cluster));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    gateway.kill9().await.unwrap();
    let mut damaged = 0;
    for entry in std::fs::read_dir(cluster).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 0x40;
        std::fs::write(path, bytes).unwrap();
        damaged += 1;
    }
    let gets = gets_of(&mut gateway, &s3, 1, 30).await;
    assert!(gets >= damaged, "{gets} GETs for {damaged} damaged files");
    let noticed = gateway.metric("streamhouse_disk_cache_damaged_total").await.unwrap().unwrap();
    assert_eq!(noticed, damaged as f64);
}

/// A store that lies and fails: errors to the client, or the right bytes; never wrong ones, never a gap (L7, G4).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_lies_gives_errors_but_no_wrong_data() {
    let s3 = S3Server::start().await;
    let mut gateway = written(Setup::new().unwrap(), &s3, 40).await;
    gateway.restart().await.unwrap();
    s3.faults().set(|plan| {
        plan.only = vec![RequestKind::Get];
        (plan.flip_bit, plan.short_body, plan.cut_body, plan.slow_down) = (0.25, 0.2, 0.1, 0.2);
    });
    let mut client = gateway.client().await.unwrap();
    let (mut next, mut errors) = (0, 0);
    while next < 40 {
        let got = fetch_one(&mut client, TOPIC, 0, next as i64).await.unwrap();
        if got.error_code != 0 {
            errors += 1;
            assert!(errors < 500, "no progress at {next}");
            continue;
        }
        for batch in BatchIter::new(&got.records.unwrap_or_default()) {
            let batch = batch.unwrap();
            assert_eq!((batch.base_offset(), batch.crc_is_valid()), (next as i64, true));
            let record = RecordIter::new(batch.records(), 1).next().unwrap().unwrap();
            assert!(record.value == Some(&value(next)[..]), "other bytes at {next}");
            next += 1;
        }
    }
    let lied = gateway.metric("streamhouse_reader_reread_ranges_total").await.unwrap().unwrap();
    assert!(lied > 0.0, "the store did not lie");
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}
