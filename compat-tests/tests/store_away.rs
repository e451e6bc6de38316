//! The bucket goes away while clients produce: retriable errors within the request's timeout, no growth, recovery by itself,
//! nothing acked lost and nothing idempotent twice (invariants L1, L3, L8, L9). A minute of it and more with
//! `STREAMHOUSE_TEST_AWAY_SECONDS`; fifteen seconds otherwise.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::time::{Duration, Instant};

use compat_tests::harness::{Gateway, Setup};
use compat_tests::load::{Load, Manner, Target};
use compat_tests::requests::{create_topic, fetch_one};
use compat_tests::s3_server::S3Server;
use compat_tests::s3_server::faults::S3Faults;
use storage::blob::faulty::Delay;
use tokio::time::sleep;

const TOPIC: &str = "away";
const LANES: [(Manner, &[i32]); 3] = [(Manner::Idempotent, &[0, 1]), (Manner::Idempotent, &[2]), (Manner::Once, &[3])];
/// What the producers say they wait.
const TIMEOUT: Duration = Duration::from_secs(4);
/// A busy machine's share; with the above still less than the time the bucket is away.
const SLACK: Duration = Duration::from_secs(8);
const SOON: Duration = Duration::from_secs(120);
/// Service is back within this after the bucket is (L9).
const RECOVERY: Duration = Duration::from_secs(30);
/// How long a segment is tried, ms: beyond the outage, or so short that producers are told it was not written.
const PATIENT: &str = "30000";
const GIVES_UP_SOON: &str = "500";
const GROWTH_BYTES: u64 = 64 << 20;
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn away_for() -> Duration {
    let told = std::env::var("STREAMHOUSE_TEST_AWAY_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(15))
}

async fn start(s3: &S3Server, write_deadline_ms: &str) -> (Gateway, Load) {
    s3.faults().put_latency(Delay::Fixed(Duration::from_millis(10)));
    // A segment for each request, almost: some of a producer's five may be lost and others not.
    let setup = Setup::new().unwrap().on(s3).set("storage.put-budget", "50");
    let setup = setup.set("storage.segment-bytes", "16384").set("storage.write-deadline-ms", write_deadline_ms);
    let gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 4, &[]).await.unwrap(), 0);
    let timeout_ms = TIMEOUT.as_millis() as i32;
    let target = Target { address: gateway.address(), topic: TOPIC.into(), value_bytes: 5_000, timeout_ms };
    let load = Load::start(target, &LANES).await.unwrap();
    load.ledger.more(60, SOON).await.unwrap();
    (gateway, load)
}

/// Takes the bucket away for a while, then gives it back.
async fn survives(write_deadline_ms: &str, away: impl Fn(&Arc<S3Faults>, bool)) {
    let s3 = S3Server::start().await;
    let (gateway, load) = start(&s3, write_deadline_ms).await;
    let before = gateway.rss().unwrap();
    load.ledger.take_longest();
    away(s3.faults(), true);
    let since = Instant::now();
    while since.elapsed() < away_for() {
        sleep(LOOK_EVERY).await;
        let mut client = gateway.client().await.unwrap();
        let asked = Instant::now();
        let cached = fetch_one(&mut client, TOPIC, 0, 0).await.unwrap();
        assert!(cached.error_code == 0 && !cached.records.unwrap_or_default().is_empty(), "what is cached is served");
        assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
        let now = gateway.rss().unwrap();
        assert!(now < before + GROWTH_BYTES, "grew from {before} to {now} bytes in {:?}", since.elapsed());
    }
    assert!(!load.ledger.errors().is_empty(), "nobody noticed");
    let longest = load.ledger.take_longest();
    assert!(longest < TIMEOUT + SLACK, "an answer took {longest:?}");
    away(s3.faults(), false);
    load.ledger.more(60, RECOVERY).await.unwrap();
    let (ledger, target) = load.finish().await.unwrap();
    ledger.judge(&target).await.unwrap();
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered() {
    survives(PATIENT, |faults, on| faults.black_hole(on)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_is_closed() {
    survives(PATIENT, |faults, on| faults.down(on)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_a_503() {
    survives(PATIENT, |faults, on| faults.set(|plan| plan.slow_down = if on { 1.0 } else { 0.0 })).await;
}

/// Some segments are lost and some are not: what comes behind a lost one must wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_requests_get_a_503() {
    survives(GIVES_UP_SOON, |faults, on| faults.set(|plan| plan.slow_down = if on { 0.9 } else { 0.0 })).await;
}
