//! The journal in PostgreSQL: the contract every journal keeps, and what a server does to those who rely on it.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use compat_tests::harness::{Gateway, Setup};
use compat_tests::postgres::Postgres;
use compat_tests::requests::{PRODUCE_VERSION, create_topic, fetch_one, produce, produce_one, produced, read_all};
use kafka_protocol::error::ResponseError;
use metadata::clock::{Clock, SystemClock};
use metadata::journal::postgres::PostgresJournal;
use metadata::journal::{Journal, contract};
use storage::codec::records::RecordsBuilder;
use tempfile::TempDir;
use tokio::time::sleep;

const SOON: Duration = Duration::from_secs(120);
/// Longest until a producer who waits for three seconds is told that it is in vain (L9).
const BOUND: Duration = Duration::from_secs(40);

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
        // So long that a busy machine lets none of them be taken for dead while it lives.
        let setup = cluster.setup().set("metadata.session-timeout-ms", "30000");
        gateways.push(setup.start().await.unwrap());
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

async fn two_that_watch_each_other(cluster: &Cluster) -> (Gateway, Gateway) {
    let setup = || cluster.setup().set("metadata.session-timeout-ms", "2000");
    let (first, second) = (setup().start().await.unwrap(), setup().start().await.unwrap());
    let mut client = first.client().await.unwrap();
    assert_eq!(create_topic(&mut client, "t", 1, &[]).await.unwrap(), 0);
    (first, second)
}

/// L6: what a paused gateway had taken in before its session ended is not there afterwards, unless it was acknowledged; it
/// comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_a_gateway_that_was_paused_too_long_comes_back() {
    let cluster = Cluster::new();
    let (paused, other) = two_that_watch_each_other(&cluster).await;
    produce_until_taken(&paused, "before").await;
    let mut held = paused.client().await.unwrap();
    paused.signal("STOP").unwrap();
    let asking = tokio::spawn(async move { produce_one(&mut held, "t", 0, batch("held")).await });
    produce_until_taken(&other, "meanwhile").await;
    other.says("silent").await.unwrap();
    paused.signal("CONT").unwrap();
    let told = asking.await.unwrap();
    produce_until_taken(&paused, "after").await;
    paused.says("took it for dead").await.unwrap();
    let all = all_of(&paused).await;
    assert_eq!(all, all_of(&other).await);
    let count = |value: &str| all.iter().filter(|at| *at == value).count();
    assert_eq!([count("before"), count("meanwhile"), count("after")], [1, 1, 1], "{all:?}");
    match told {
        Ok(answer) if answer.error_code == 0 => assert_eq!(count("held"), 1),
        Ok(_) => assert_eq!(count("held"), 0, "{all:?}"),
        Err(_) => assert!(count("held") <= 1),
    }
}

/// L9: while PostgreSQL is away what is known is served, and nothing is taken; all goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l9_records_are_served_while_postgresql_is_away() {
    let mut cluster = Cluster::new();
    let (first, second) = two_that_watch_each_other(&cluster).await;
    for gateway in [&first, &second] {
        produce_until_taken(gateway, "known").await;
    }
    assert_eq!(all_of(&first).await, all_of(&second).await);
    cluster.server.stop().unwrap();
    for gateway in [&first, &second] {
        let mut client = gateway.client().await.unwrap();
        let part = fetch_one(&mut client, "t", 0, 0).await.unwrap();
        assert_eq!((part.error_code, part.high_watermark), (0, 2));
        let began = Instant::now();
        let request = produce("t", -1, 3_000, vec![(0, Some(batch("lost")))]);
        let answer = client.ask(PRODUCE_VERSION, &request).await.unwrap();
        let code = produced(&answer).next().unwrap().error_code;
        assert!(ResponseError::try_from_code(code).is_some_and(|error| error.is_retriable()), "code {code}");
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
    }
    cluster.server.start_again(&[]).unwrap();
    for gateway in [&first, &second] {
        produce_until_taken(gateway, "again").await;
    }
    let all = all_of(&first).await;
    assert_eq!(all, all_of(&second).await);
    assert_eq!(all.iter().filter(|value| *value == "again").count(), 2, "{all:?}");
    assert!(all.iter().filter(|value| *value == "lost").count() <= 2, "{all:?}");
}

/// A scrub asks the journal itself; a folder of objects has no copies of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrub_asks_the_journal_in_postgresql() {
    let cluster = Cluster::new();
    let gateway = cluster.gateway().await;
    assert_eq!(create_topic(&mut gateway.client().await.unwrap(), "t", 1, &[]).await.unwrap(), 0);
    for value in ["a", "b", "c"] {
        produce_until_taken(&gateway, value).await;
    }
    let scrub = async |url: Option<&str>| {
        let folder = cluster.folder.path().display().to_string();
        let setup = Setup::bare().unwrap().args(["scrub", "--data", &folder]);
        url.into_iter().fold(setup, |setup, url| setup.args(["--journal", url])).run().await.unwrap()
    };
    let sound = scrub(Some(&cluster.server.url())).await;
    assert_eq!(sound.code, Some(0), "beside a running gateway: {}{}", sound.stdout, sound.stderr);
    assert!(
        sound.stdout.contains("3 objects") && sound.stdout.contains(" 0 unreadable, 0 unreferenced"),
        "{}",
        sound.stdout
    );
    for (url, word) in [(None, "postgres://"), (Some(cluster.server.url_of("another")), "empty")] {
        let refused = scrub(url.as_deref()).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(word), "{}{}", refused.stdout, refused.stderr);
    }
    let segments = cluster.folder.path().join("objects/segments");
    let missing = std::fs::read_dir(&segments).unwrap().next().unwrap().unwrap();
    std::fs::remove_file(missing.path()).unwrap();
    let found = scrub(Some(&cluster.server.url())).await;
    assert_eq!(found.code, Some(4), "{}{}", found.stdout, found.stderr);
    assert!(found.stdout.contains(" 1 unreadable"), "{}", found.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_gateways_with_one_node_id_the_newer_goes_on() {
    let cluster = Cluster::new();
    let mut older = cluster.setup().args(["--node-id", "7"]).start().await.unwrap();
    let newer = cluster.setup().args(["--node-id", "7"]).start().await.unwrap();
    assert_eq!(older.ended(SOON).await.unwrap(), Some(3), "{}", older.stderr());
    assert!(older.stderr().contains("node id 7"), "{}", older.stderr());
    assert_eq!(create_topic(&mut newer.client().await.unwrap(), "t", 1, &[]).await.unwrap(), 0);
    let wrong = cluster.server.url().replacen("a-secret-of-the-tests-only", "a-secret", 1);
    let ended = Setup::new().unwrap().args(["--journal", &wrong]).run().await.unwrap();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("password") && !ended.stderr.contains("a-secret"), "{}", ended.stderr);
}
