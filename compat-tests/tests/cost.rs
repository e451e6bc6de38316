//! The cost meter against the server's own counts: every request is counted once, by what it was for, and the money is the
//! counts times the prices.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::requests::{create_topic, produce_one, read_all};
use compat_tests::s3_server::S3Server;
use compat_tests::s3_server::faults::{Fault, RequestKind};
use storage::codec::records::RecordsBuilder;
use storage::cost::Prices;

const TOPIC: &str = "costly";
/// Longest until the gateway and the server, asked one after the other, are asked in a moment without a request.
const SOON: Duration = Duration::from_secs(60);

fn batch(number: i64) -> Bytes {
    RecordsBuilder::new().values(1_700_000_000_000, [vec![number as u8; 20_000]]).build()
}

/// The sum of all metric lines that begin with `name` and hold all of `labels`.
async fn sum(gateway: &Gateway, name: &str, labels: &[&str]) -> f64 {
    let (_, page) = gateway.admin_get("/metrics").await.unwrap();
    let wanted = page.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
    wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_is_what_the_server_counted() {
    let s3 = S3Server::start().await;
    let setup = Setup::new().unwrap().on(&s3).set("storage.sweep-interval-ms", "500");
    let setup = setup.set("storage.tail-cache-bytes", "0").set("storage.block-cache-bytes", "0");
    let setup = setup.set("storage.disk-cache-bytes", "0");
    let mut gateway = setup.start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 2, &[]).await.unwrap(), 0);
    for number in 0..20 {
        if number % 5 == 0 {
            s3.faults().next(RequestKind::Put, [Fault::SlowDown]);
        }
        let produced = produce_one(&mut client, TOPIC, (number % 2) as i32, batch(number)).await.unwrap();
        assert_eq!(produced.error_code, 0);
    }
    s3.faults().next(RequestKind::Get, [Fault::SlowDown, Fault::Pass, Fault::CutBody]);
    for partition in 0..2 {
        assert_eq!(read_all(&mut client, TOPIC, partition).await.unwrap().len(), 10);
    }
    let begun = Instant::now();
    while s3.count(RequestKind::List).requests == 0 {
        assert!(begun.elapsed() < SOON, "a listing too");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agrees(async || compare_requests(&gateway, &s3).await).await;
    assert_eq!(s3.count(RequestKind::Other).requests, 0);
    let (put, get) = (["purpose=\"produce\"", "operation=\"put\""], ["purpose=\"fetch\"", "operation=\"get_range\""]);
    assert_eq!(sum(&gateway, REQUESTS, &put).await, s3.count(RequestKind::Put).requests as f64);
    assert!(sum(&gateway, REQUESTS, &get).await >= 2.0);
    let sent = sum(&gateway, "streamhouse_blob_payload_bytes_total", &put).await;
    let kept: usize = s3.contents().iter().filter(|(key, _)| key.starts_with("segments/")).map(|(_, o)| o.len()).sum();
    assert_eq!(sent, kept as f64);
    agrees(async || check_money(&gateway, &s3).await).await;
    assert_eq!(gateway.terminate().await.unwrap(), Some(0));
}

const REQUESTS: &str = "streamhouse_blob_requests_total";

/// The gateway sweeps and looks at its journal all the while: a request may come between the two questions, which are asked again
/// then. What is counted wrongly stays wrong.
async fn agrees(compare: impl AsyncFn() -> Result<(), String>) {
    let begun = Instant::now();
    while let Err(difference) = compare().await {
        assert!(begun.elapsed() < SOON, "{difference}");
    }
}

/// By kind of request, what the gateway tells and what the server counted.
async fn compare_requests(gateway: &Gateway, s3: &S3Server) -> Result<(), String> {
    let kinds: [(&[&str], &[RequestKind]); 5] = [
        (&["put", "put_new"], &[RequestKind::Put, RequestKind::Create]),
        (&["get", "get_range"], &[RequestKind::Get]),
        (&["head"], &[RequestKind::Head]),
        (&["list"], &[RequestKind::List]),
        (&["delete"], &[RequestKind::Delete]),
    ];
    for (operations, kinds) in kinds {
        let mut counted = 0.0;
        for operation in operations {
            counted += sum(gateway, REQUESTS, &[&format!("operation=\"{operation}\"")]).await;
        }
        let by_server: u64 = kinds.iter().map(|kind| s3.count(*kind).requests).sum();
        is_equal(&format!("{operations:?}"), counted, by_server as f64, 0.0)?;
    }
    Ok(())
}

fn is_equal(what: &str, told: f64, owed: f64, within: f64) -> Result<(), String> {
    if (told - owed).abs() <= within { Ok(()) } else { Err(format!("{what}: {told} is not {owed}")) }
}

/// The money of the metrics and of `streamhouse cost` is what the server's counts cost.
async fn check_money(gateway: &Gateway, s3: &S3Server) -> Result<(), String> {
    let count = |kind| s3.count(kind).requests as f64;
    let puts = count(RequestKind::Put) + count(RequestKind::Create) + count(RequestKind::List);
    let gets = count(RequestKind::Get) + count(RequestKind::Head);
    let owed = (puts * Prices::STANDARD.put_per_1000 + gets * Prices::STANDARD.get_per_1000) / 1_000.0;
    let told = sum(gateway, "streamhouse_cost_usd_total", &[]).await;
    is_equal("USD of the metrics", told, owed, 1e-9)?;
    let shown =
        Setup::new().unwrap().args(["cost", "--admin", &gateway.admin_address().to_string()]).run().await.unwrap();
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    let line = shown.stdout.lines().find(|line| line.starts_with("requests ")).expect("a line of all requests");
    let cells: Vec<&str> = line.split_whitespace().collect();
    let shown_puts: f64 = cells[1].parse().unwrap();
    is_equal(&shown.stdout, shown_puts, count(RequestKind::Put) + count(RequestKind::Create), 0.0)?;
    let usd: f64 = cells[8].parse().unwrap();
    is_equal(&shown.stdout, usd, owed, 1e-6)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_costs_nothing_and_a_gateway_that_is_not_there_is_said() {
    let gateway = Setup::new().unwrap().start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 1, &[]).await.unwrap(), 0);
    assert_eq!(produce_one(&mut client, TOPIC, 0, batch(1)).await.unwrap().error_code, 0);
    assert_eq!(sum(&gateway, "streamhouse_cost_usd_total", &[]).await, 0.0);
    assert!(sum(&gateway, "streamhouse_blob_requests_total", &["purpose=\"produce\""]).await >= 1.0);
    drop(gateway);
    let shown = Setup::new().unwrap().args(["cost", "--admin", "127.0.0.1:1"]).run().await.unwrap();
    assert!(shown.code == Some(1) && shown.stderr.contains("127.0.0.1:1"), "{shown:?}");
}
