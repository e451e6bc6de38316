//! The journal is lost, or the whole machine: what a restore brings back, and what a scrub finds.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::path::Path;
use std::time::Duration;

use compat_tests::harness::{Ended, Gateway, Setup};
use compat_tests::load::{Load, Manner, Target};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{commit_offset, committed_offset, create_topic, produce_one, read_all};
use compat_tests::s3_server::S3Server;
use metadata::clock::{Clock, SystemClock};
use storage::blob::faulty::Delay;
use storage::codec::records::RecordsBuilder;
use tempfile::TempDir;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(120);
/// How often the journal is copied here.
const INTERVAL: Duration = Duration::from_millis(400);

fn on(s3: &S3Server) -> Setup {
    let setup = Setup::new().unwrap().on(s3).set("storage.put-budget", "100").set("storage.linger-max-ms", "5");
    setup.set("metadata.archive-interval-ms", &INTERVAL.as_millis().to_string())
}

fn in_folder(s3: &S3Server) -> Setup {
    on(s3).args(["--journal", "sqlite"])
}

async fn tool(s3: &S3Server, name: &str, data: &Path, args: &[&str]) -> Ended {
    tool_with(s3, name, data, args, "").await
}

async fn tool_with(s3: &S3Server, name: &str, data: &Path, args: &[&str], failpoints: &str) -> Ended {
    let bucket = format!("s3://{}", s3.bucket());
    let (endpoint, data) = (s3.endpoint(), data.display().to_string());
    let with_env =
        s3.environment().into_iter().fold(Setup::new().unwrap(), |setup, (name, value)| setup.env(name, value));
    let setup = with_env.args([name, "--from", &bucket, "--endpoint", &endpoint, "--data", &data]);
    setup.args(args.iter().copied()).failpoints(failpoints).run().await.unwrap()
}

async fn restores(s3: &S3Server, data: &Path, args: &[&str]) {
    let ended = tool(s3, "restore", data, args).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("Restored cluster"), "{}", ended.stdout);
    assert!(ended.stderr.contains("snapshot"), "progress is shown: {}", ended.stderr);
}

async fn produce(client: &mut RawClient, topic: &str, value: &str) -> i64 {
    let batch = RecordsBuilder::new().values(1_700_000_000_000, [value.as_bytes()]).build();
    let part = produce_one(client, topic, 0, batch).await.unwrap();
    assert_eq!(part.error_code, 0);
    part.base_offset
}

async fn values(gateway: &Gateway, topic: &str) -> Vec<String> {
    let mut client = gateway.client().await.unwrap();
    let values = read_all(&mut client, topic, 0).await.unwrap();
    values.into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
}

/// A journal in a folder is lost with its machine. Every acked record is at its offset; commands are there that were given an
/// interval before (docs/restore.md).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_machine_costs_no_acked_record() {
    for snapshot_entries in ["20000", "40"] {
        let s3 = S3Server::start().await;
        s3.faults().put_latency(Delay::LogNormal { p50: Duration::from_millis(5), p99: Duration::from_millis(60) });
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let setup = in_folder(&s3).set("metadata.snapshot-entries", snapshot_entries);
        let mut gateway = setup.data(&data).start().await.unwrap();
        let mut client = gateway.client().await.unwrap();
        let topic = "lost";
        assert_eq!(create_topic(&mut client, topic, 4, &[("retention.ms", "-1")]).await.unwrap(), 0);
        assert_eq!(commit_offset(&mut client, "readers", topic, 7).await.unwrap(), 0);
        let target = Target { address: gateway.address(), topic: topic.into(), value_bytes: 50, timeout_ms: 20_000 };
        let lanes: [(Manner, &[i32]); 3] =
            [(Manner::Idempotent, &[0, 1]), (Manner::Idempotent, &[2]), (Manner::Once, &[3])];
        let load = Load::start(target, &lanes).await.unwrap();
        load.ledger.more(40, SOON).await.unwrap();
        gateway.has_archived(&s3).await.unwrap();
        // A topic that only its records will remember, and records behind the last copy.
        assert_eq!(create_topic(&mut client, "late", 1, &[]).await.unwrap(), 0);
        assert_eq!(produce(&mut client, "late", "of a late topic").await, 0);
        load.ledger.more(15, SOON).await.unwrap();
        gateway.kill9().await.unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        restores(&s3, &data, &[]).await;
        gateway.restart().await.unwrap();
        load.ledger.more(30, SOON).await.unwrap();
        let (ledger, target) = load.finish().await.unwrap();
        let records = ledger.judge(&target).await.unwrap();
        assert!(records > 60, "{records}");
        let mut client = gateway.client().await.unwrap();
        assert_eq!(committed_offset(&mut client, "readers", topic).await.unwrap(), 7);
        assert_eq!(values(&gateway, "late").await, ["of a late topic"]);
        assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
    }
}

/// With the journal in the bucket there is nothing to lose, and a restore says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nothing_but_a_bucket_nothing_is_lost() {
    let s3 = S3Server::start().await;
    let folder = TempDir::new().unwrap();
    let mut gateway = on(&s3).data(folder.path().join("gone")).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
    assert_eq!(produce(&mut client, "t", "one").await, 0);
    assert_eq!(commit_offset(&mut client, "readers", "t", 1).await.unwrap(), 0);
    gateway.kill9().await.unwrap();
    let ended = tool(&s3, "restore", &folder.path().join("data"), &[]).await;
    assert!(ended.code != Some(0) && ended.stderr.contains("nothing is lost"), "{}", ended.stderr);
    gateway.restart().await.unwrap();
    assert_eq!(values(&gateway, "t").await, ["one"]);
    let mut client = gateway.client().await.unwrap();
    assert_eq!(committed_offset(&mut client, "readers", "t").await.unwrap(), 1);
    gateway.kill9().await.unwrap();
    // Into a folder: it goes on there, and the bucket says so.
    let data = folder.path().join("data");
    restores(&s3, &data, &["--journal", "sqlite"]).await;
    let mut moved = in_folder(&s3).data(&data).start().await.unwrap();
    assert_eq!(values(&moved, "t").await, ["one"]);
    let mut client = moved.client().await.unwrap();
    assert_eq!(produce(&mut client, "t", "two").await, 1);
    assert_eq!(moved.terminate().await.unwrap(), Some(0));
    let refused = on(&s3).run().await.unwrap();
    assert!(refused.stderr.contains("--journal sqlite"), "{}", refused.stderr);
    // And back.
    restores(&s3, &folder.path().join("unused"), &["--journal", "object"]).await;
    let back = on(&s3).start().await.unwrap();
    assert_eq!(values(&back, "t").await, ["one", "two"]);
    let mut client = back.client().await.unwrap();
    assert_eq!(produce(&mut client, "t", "three").await, 2);
}

/// Back to an earlier time, as far as it is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_an_earlier_time() {
    for journal in ["object", "sqlite"] {
        let s3 = S3Server::start().await;
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        let setup = on(&s3).args(["--journal", journal]).data(&data).set("metadata.restore-window-ms", "3600000");
        // Several snapshots between two copies of the journal: it must not be trimmed past the copies.
        let setup = setup.set("metadata.snapshot-entries", "10").set("metadata.archive-interval-ms", "2000");
        let mut gateway = setup.start().await.unwrap();
        let before = SystemClock.now_ms() - 60_000;
        let mut client = gateway.client().await.unwrap();
        assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
        for n in 0..15 {
            assert_eq!(produce(&mut client, "t", &format!("early {n}")).await, n);
        }
        if journal == "sqlite" {
            gateway.has_archived(&s3).await.unwrap();
        }
        sleep(Duration::from_millis(50)).await;
        let then = SystemClock.now_ms();
        sleep(Duration::from_millis(50)).await;
        for n in 15..45 {
            assert_eq!(produce(&mut client, "t", &format!("late {n}")).await, n);
        }
        assert_eq!(gateway.terminate().await.unwrap(), Some(0));
        let target = folder.path().join("restored");
        let early = tool(&s3, "restore", &target, &["--at", &before.to_string()]).await;
        assert!(early.code != Some(0) && early.stderr.contains("restore-window-ms"), "{}", early.stderr);
        assert!(!target.exists(), "nothing was made");
        restores(&s3, &target, &["--at", &then.to_string()]).await;
        let restored = on(&s3).args(["--journal", journal]).data(&target).start().await.unwrap();
        let expected: Vec<_> = (0..15).map(|n| format!("early {n}")).collect();
        assert_eq!(values(&restored, "t").await, expected, "{journal}");
        let mut client = restored.client().await.unwrap();
        assert_eq!(produce(&mut client, "t", "another late").await, 15);
    }
}

/// A restore that stopped behind its fence, where a gateway that starts would go on with the old history: it is refused until the
/// restore was run again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_gateway_starts_in_the_middle_of_a_restore() {
    let s3 = S3Server::start().await;
    let folder = TempDir::new().unwrap();
    let setup = on(&s3).data(folder.path().join("data")).set("metadata.restore-window-ms", "3600000");
    let mut gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
    assert_eq!(produce(&mut client, "t", "early").await, 0);
    sleep(Duration::from_millis(50)).await;
    let then = SystemClock.now_ms();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(produce(&mut client, "t", "late").await, 1);
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
    let unused = folder.path().join("unused");
    let at = then.to_string();
    let stopped = tool_with(&s3, "restore", &unused, &["--at", &at], "restore::after_fence=return").await;
    assert!(stopped.code != Some(0), "{}{}", stopped.stdout, stopped.stderr);
    let refused = on(&s3).data(folder.path().join("data")).run().await.unwrap();
    assert!(refused.stderr.contains("run `streamhouse restore` again"), "{}", refused.stderr);
    restores(&s3, &unused, &["--at", &at]).await;
    let restored = on(&s3).data(folder.path().join("data")).start().await.unwrap();
    assert_eq!(values(&restored, "t").await, ["early"]);
}

/// One of each: an intact bucket, a flipped bit, an object cut short, one that is missing, one that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_finds_what_is_wrong_and_nothing_else() {
    for journal in ["object", "sqlite"] {
        let s3 = S3Server::start().await;
        let data = TempDir::new().unwrap();
        // The damaged entries are behind a snapshot, so that the state can be told without them.
        let setup = on(&s3).args(["--journal", journal]).set("metadata.snapshot-entries", "4");
        let mut gateway = setup.data(data.path()).start().await.unwrap();
        let mut client = gateway.client().await.unwrap();
        assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
        for n in 0..6 {
            produce(&mut client, "t", &format!("a value that is long enough to be hit {n}")).await;
        }
        if journal == "sqlite" {
            gateway.has_archived(&s3).await.unwrap();
        }
        let sound = tool(&s3, "scrub", data.path(), &[]).await;
        assert_eq!(sound.code, Some(0), "beside a running gateway: {}{}", sound.stdout, sound.stderr);
        assert!(sound.stdout.contains(" 0 unreadable, 0 unreferenced"), "{}", sound.stdout);
        assert_eq!(gateway.terminate().await.unwrap(), Some(0));
        let of_segments: Vec<_> = s3
            .contents()
            .into_iter()
            .filter(|(_, bytes)| bytes.windows(20).any(|window| window == b"a value that is long"))
            .collect();
        assert_eq!(of_segments.len(), 6);
        let [flipped, cut, missing, ..] = &of_segments[..] else { panic!("six") };
        let mut bytes = flipped.1.to_vec();
        let at = bytes.windows(7).position(|window| window == b"a value").unwrap();
        bytes[at + 3] ^= 8;
        s3.tamper(&flipped.0, Some(bytes.into()));
        s3.tamper(&cut.0, Some(cut.1.slice(..cut.1.len() / 3)));
        s3.tamper(&missing.0, None);
        let stray = "segments/00000000deadbeef-0000000000000007.seg";
        s3.tamper(stray, Some(bytes::Bytes::from_static(b"whose is this?")));
        let found = tool(&s3, "scrub", data.path(), &[]).await;
        assert_eq!(found.code, Some(4), "{}{}", found.stdout, found.stderr);
        for (key, _) in [flipped, cut, missing] {
            assert!(found.stdout.contains(&format!("unreadable    {key}")), "{key}: {}", found.stdout);
        }
        assert!(found.stdout.contains(&format!("unreferenced  {stray}")), "{}", found.stdout);
        assert!(found.stdout.contains(" 3 unreadable, 1 unreferenced"), "{}", found.stdout);
    }
}
