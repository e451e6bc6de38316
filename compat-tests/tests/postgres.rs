//! The journal in PostgreSQL: the contract every journal keeps, and what a server does to those who rely on it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use compat_tests::harness::{Gateway, Setup};
use compat_tests::postgres::Postgres;
use compat_tests::requests::{create_topic, produce_one, read_all};
use metadata::clock::{Clock, SystemClock};
use metadata::journal::postgres::PostgresJournal;
use metadata::journal::{Journal, contract};
use storage::codec::records::RecordsBuilder;
use tempfile::TempDir;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(40);

async fn open(url: &str) -> Arc<dyn Journal> {
    Arc::new(PostgresJournal::open(url.parse().unwrap()).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let server = Postgres::start().unwrap();
    let schemas = AtomicU32::new(0);
    contract::every_case(async || {
        open(&server.url_of(&format!("case_{}", schemas.fetch_add(1, Ordering::Relaxed)))).await
    })
    .await;
    contract::survives_reopening(async || open(&server.url()).await).await;
}

/// Gateways that share a folder of objects and a journal.
struct Cluster {
    server: Postgres,
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        Self { server: Postgres::start().unwrap(), folder: TempDir::new().unwrap() }
    }

    fn setup(&self) -> Setup {
        Setup::new().unwrap().data(self.folder.path()).args(["--journal", &self.server.url()])
    }

    async fn gateway(&self) -> Gateway {
        self.setup().start().await.unwrap()
    }
}

fn batch(value: &str) -> bytes::Bytes {
    RecordsBuilder::new().values(SystemClock.now_ms(), [value.as_bytes()]).build()
}

/// Produces until it is taken: a gateway that cannot now says so with a code that clients retry.
async fn produce_until_taken(gateway: &Gateway, value: &str) -> i64 {
    let until = Instant::now() + SOON;
    loop {
        let mut client = gateway.client().await.unwrap();
        match produce_one(&mut client, "t", 0, batch(value)).await {
            Ok(answer) if answer.error_code == 0 => return answer.base_offset,
            told => assert!(Instant::now() < until, "{told:?}: {}", gateway.stderr()),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn all_of(gateway: &Gateway) -> Vec<String> {
    let records = read_all(&mut gateway.client().await.unwrap(), "t", 0).await.unwrap();
    records.into_iter().map(|value| String::from_utf8(value).unwrap()).collect()
}

/// L1, L2, L10: any gateway takes any produce and serves any fetch; one that dies takes nothing along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_are_one_cluster() {
    let cluster = Cluster::new();
    let mut gateways = Vec::new();
    for _ in 0..3 {
        gateways.push(cluster.gateway().await);
    }
    let mut client = gateways[0].client().await.unwrap();
    assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
    let mut expected = Vec::new();
    for round in 0..10 {
        for (number, gateway) in gateways.iter().enumerate() {
            let value = format!("{round}-{number}");
            let mut client = gateway.client().await.unwrap();
            let answer = produce_one(&mut client, "t", 0, batch(&value)).await.unwrap();
            assert_eq!((answer.error_code, answer.base_offset), (0, expected.len() as i64), "{}", gateway.stderr());
            expected.push(value);
        }
    }
    for gateway in &gateways {
        assert_eq!(all_of(gateway).await, expected);
    }
    gateways[1].kill9().await.unwrap();
    for number in [0, 2] {
        expected.push(format!("after-{number}"));
        let offset = produce_until_taken(&gateways[number], expected.last().unwrap()).await;
        assert_eq!(offset, expected.len() as i64 - 1);
    }
    gateways[1].restart().await.unwrap();
    for gateway in &gateways {
        assert_eq!(all_of(gateway).await, expected);
    }
    for mut gateway in gateways {
        assert_eq!(gateway.terminate().await.unwrap(), Some(0), "{}", gateway.stderr());
    }
}
