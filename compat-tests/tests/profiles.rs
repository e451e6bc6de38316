//! Profiles and budgets as users set them: on a topic, on a gateway, in money.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::requests::{create_topic, produce_one};
use compat_tests::s3_server::S3Server;
use compat_tests::s3_server::faults::RequestKind;
use storage::blob::faulty::Delay;
use storage::codec::records::RecordsBuilder;

const INVALID_CONFIG: i16 = 40;
/// Rounds of which one must show the difference: a busy machine takes its share of some.
const ROUNDS: usize = 5;

fn batch() -> Bytes {
    RecordsBuilder::new().values(1_700_000_000_000, [vec![1; 500]]).build()
}

/// Keeps so many producers of a topic busy for a while; the acks they got.
async fn busy(gateway: &Gateway, topic: &'static str, producers: usize, lasting: Duration) -> usize {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..producers {
        let mut client = gateway.client().await.unwrap();
        tasks.spawn(async move {
            let (began, mut acks) = (Instant::now(), 0);
            while began.elapsed() < lasting {
                assert_eq!(produce_one(&mut client, topic, 0, batch()).await.unwrap().error_code, 0);
                acks += 1;
            }
            acks
        });
    }
    let mut acks = 0;
    while let Some(task) = tasks.join_next().await {
        acks += task.unwrap();
    }
    acks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_realtime_topic_is_quick_on_a_gateway_that_saves() {
    let s3 = S3Server::start().await;
    let setup = Setup::new().unwrap().on(&s3).args(["--profile", "throughput"]);
    let gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    let profile = |name| [("streamhouse.profile", name)];
    assert_eq!(create_topic(&mut client, "wrong", 1, &profile("fast")).await.unwrap(), INVALID_CONFIG);
    assert_eq!(create_topic(&mut client, "quick", 1, &profile("realtime")).await.unwrap(), 0);
    assert_eq!(create_topic(&mut client, "slow", 1, &[]).await.unwrap(), 0);
    s3.faults().put_latency(Delay::Fixed(Duration::from_millis(30)));
    let lasting = Duration::from_secs(4);
    let mut seen = Vec::new();
    for _ in 0..ROUNDS {
        let slow = busy(&gateway, "slow", 1, lasting).await;
        let quick = busy(&gateway, "quick", 1, lasting).await;
        // Four PUTs a second and what was saved up, against some twenty-five that 30 ms and a commit allow.
        assert!(slow <= 4 * 4 + 8, "{slow} acks in {lasting:?}");
        seen.push((quick, slow));
        if quick >= 2 * slow {
            return;
        }
    }
    panic!("acks of the quick one against those of the slow one: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_in_money_bounds_the_puts() {
    let s3 = S3Server::start().await;
    // By the prices of S3 Standard two a second.
    let setup = Setup::new().unwrap().on(&s3).set("storage.put-budget", "26.28 USD/month");
    let gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "cheap", 1, &[]).await.unwrap(), 0);
    let before = s3.count(RequestKind::Put).requests;
    let began = Instant::now();
    let acks = busy(&gateway, "cheap", 20, Duration::from_secs(6)).await as u64;
    let puts = s3.count(RequestKind::Put).requests - before;
    let took = began.elapsed();
    assert!(puts <= 2 * (took.as_secs() + 1) + 4, "{puts} PUTs in {took:?}");
    assert!(acks >= 6 * puts, "{acks} acks share {puts} PUTs");
    let refused = Setup::new().unwrap().set("storage.put-budget", "5 USD/month").run().await.unwrap();
    assert!(refused.code == Some(2) && refused.stderr.contains("`storage.put-budget`"), "{refused:?}");
}
