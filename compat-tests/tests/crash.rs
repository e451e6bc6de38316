//! Kill the gateway where it hurts: what was acked is read at exactly its offset, nothing idempotent is there twice, offsets
//! are dense (invariants L1-L5, L8, T1, C6; D1 across restarts).

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use compat_tests::harness::{Gateway, Setup};
use compat_tests::load::{Load, Manner, Target};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{commit_offset, committed_offset, create_topic, read_all};
use compat_tests::s3_server::S3Server;
use compat_tests::s3_server::faults::RequestKind;
use kafka_protocol::messages::MetadataRequest;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::blob::faulty::Delay;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 6;
/// Two lanes with two partitions to a request, one with one, and a producer without sequences.
const LANES: [(Manner, &[i32]); 4] =
    [(Manner::Idempotent, &[0, 1]), (Manner::Idempotent, &[2, 3]), (Manner::Idempotent, &[4]), (Manner::Once, &[5])];
const SOON: Duration = Duration::from_secs(120);
/// Every point at which the writer and the journal may be cut off.
const POINTS: [&str; 5] = [
    "writer::before_put",
    "writer::after_put",
    "journal::before_append",
    "journal::after_append",
    "writer::before_answer",
];
/// Every point at which a merge may be cut off.
const UPKEEP_POINTS: [&str; 3] = ["upkeep::before_put", "upkeep::before_swap", "upkeep::after_swap"];
/// The same where segments travel in the journal's own objects.
const CARRYING_POINTS: [&str; 4] =
    ["writer::before_put", "journal::before_append", "journal::after_append", "writer::before_answer"];
/// How often a point is passed before the process ends there: in the middle of the first work, and later.
const PASSES: [u32; 2] = [9, 23];

async fn load_on(gateway: &Gateway) -> Load {
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, PARTITIONS, &[]).await.unwrap(), 0);
    let target = Target { address: gateway.address(), topic: TOPIC.into(), value_bytes: 50, timeout_ms: 20_000 };
    Load::start(target, &LANES).await.unwrap()
}

/// Everything, by partition.
async fn whole_log(gateway: &Gateway) -> Vec<Vec<Vec<u8>>> {
    let mut client = gateway.client().await.unwrap();
    let mut log = Vec::new();
    for partition in 0..PARTITIONS {
        log.push(read_all(&mut client, TOPIC, partition).await.unwrap());
    }
    log
}

/// Crashes at a point twice, under load; then judges, warm and after one more restart.
async fn crash_at(point: &str, setup: Setup) {
    let mut gateway = setup.start().await.unwrap();
    let load = load_on(&gateway).await;
    for passes in PASSES {
        load.ledger.more(4, SOON).await.unwrap();
        gateway.restart_with(Some(&format!("{point}={passes}*off->return"))).await.unwrap();
        let code = gateway.ended(SOON).await.unwrap_or_else(|why| panic!("{point} was not passed: {why}"));
        assert_eq!(code, None, "{point}: ended by itself instead of by a signal: {}", gateway.stderr());
        gateway.restart().await.unwrap();
    }
    load.ledger.more(12, SOON).await.unwrap();
    let (ledger, target) = load.finish().await.unwrap();
    let records = ledger.judge(&target).await.unwrap_or_else(|why| panic!("{point}: {why}"));
    assert!(records > 40, "{records}");
    let warm = whole_log(&gateway).await;
    gateway.restart().await.unwrap();
    assert!(whole_log(&gateway).await == warm, "{point}: another log after a restart");
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

/// (Goes red at `journal::before_append` when outcomes are told before the entry is appended.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_point_on_a_folder() {
    for point in POINTS {
        crash_at(point, Setup::new().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_point_on_a_bucket() {
    for point in POINTS {
        let s3 = S3Server::start().await;
        s3.faults().put_latency(Delay::Fixed(Duration::from_millis(5)));
        crash_at(point, busy(&s3).args(["--journal", "sqlite"])).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_point_of_a_merge() {
    for point in UPKEEP_POINTS {
        let setup = [
            ("storage.merge-interval-ms", "20"),
            ("storage.merge-objects-min", "2"),
            ("storage.merge-age-min-ms", "0"),
            ("storage.sweep-interval-ms", "50"),
            ("storage.sweep-grace-ms", "500"),
        ]
        .into_iter()
        .fold(Setup::new().unwrap(), |setup, (key, value)| setup.set(key, value));
        crash_at(point, setup).await;
    }
}

/// Many PUTs side by side: some are done and some are not when the process ends.
fn busy(s3: &S3Server) -> Setup {
    Setup::new().unwrap().on(s3).set("storage.put-budget", "100").set("storage.linger-max-ms", "5")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_every_point_with_nothing_but_a_bucket() {
    for point in CARRYING_POINTS {
        let s3 = S3Server::start().await;
        s3.faults().put_latency(Delay::LogNormal { p50: Duration::from_millis(5), p99: Duration::from_millis(60) });
        let nowhere = tempfile::tempdir().unwrap();
        crash_at(point, busy(&s3).data(nowhere.path().join("data"))).await;
        assert!(!nowhere.path().join("data/journal.db").exists(), "no journal is kept on the machine");
        assert!(!s3.contents().keys().any(|key| key.starts_with("segments/")), "one object for segment and commit");
    }
}

/// PUTs that fail past their deadline: their positions are filled, and the process ends right before that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_lost_position_is_filled() {
    let s3 = S3Server::start().await;
    s3.faults().put_latency(Delay::Fixed(Duration::from_millis(5)));
    let mut gateway = busy(&s3).set("storage.write-deadline-ms", "600").start().await.unwrap();
    let load = load_on(&gateway).await;
    for passes in [0, 2] {
        load.ledger.more(8, SOON).await.unwrap();
        gateway.restart_with(Some(&format!("journal::before_fill={passes}*off->return"))).await.unwrap();
        // A busy machine may make it miss a deadline, and end, before we do.
        tokio::select! {
            more = load.ledger.more(8, SOON) => more.unwrap(),
            () = has_ended(&mut gateway) => {}
        }
        // Often enough that entries miss their deadline, seldom enough that a filler gets through soon.
        s3.faults().set(|plan| (plan.slow_down, plan.only) = (0.8, vec![RequestKind::Create]));
        let code = gateway.ended(SOON * 2).await.unwrap();
        assert_eq!(code, None, "ended by itself instead of by a signal: {}", gateway.stderr());
        s3.faults().set(|plan| (plan.slow_down, plan.only) = (0.0, Vec::new()));
        gateway.restart().await.unwrap();
    }
    load.ledger.more(20, SOON).await.unwrap();
    let (ledger, target) = load.finish().await.unwrap();
    ledger.judge(&target).await.unwrap();
}

async fn has_ended(gateway: &mut Gateway) {
    while gateway.is_running() {
        sleep(Duration::from_millis(20)).await;
    }
}

/// A group that commits ever higher offsets, and topics that are made one after the other.
struct Admin {
    task: JoinHandle<Kept>,
    stop: Arc<tokio::sync::Notify>,
}

#[derive(Default)]
struct Kept {
    sent: i64,
    acked: i64,
    topics: BTreeSet<String>,
}

impl Admin {
    fn start(gateway: &Gateway) -> Self {
        let stop = Arc::new(tokio::sync::Notify::new());
        let (address, stopped) = (gateway.address(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut kept = Kept { acked: -1, ..Kept::default() };
            let work = async {
                loop {
                    if let Ok(mut client) = RawClient::connect(address).await {
                        kept.work(&mut client).await;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = stopped.notified() => {}
            }
            kept
        });
        Self { task, stop }
    }

    async fn judge(self, gateway: &Gateway) {
        self.stop.notify_one();
        let kept = self.task.await.unwrap();
        assert!(kept.acked > 0 && !kept.topics.is_empty(), "too little was done");
        let mut client = gateway.client().await.unwrap();
        let committed = committed_offset(&mut client, "keeper", TOPIC).await.unwrap();
        assert!((kept.acked..=kept.sent).contains(&committed), "{committed} for {}..={}", kept.acked, kept.sent);
        let all = client.ask(12, &MetadataRequest::default().with_topics(None)).await.unwrap();
        let names: BTreeSet<_> = all.topics.into_iter().filter_map(|t| Some(t.name?.0.to_string())).collect();
        let lost: Vec<_> = kept.topics.difference(&names).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}

impl Kept {
    /// Commits and creates until the connection fails.
    async fn work(&mut self, client: &mut RawClient) {
        loop {
            let next = self.sent + 1;
            self.sent = next;
            match commit_offset(client, "keeper", TOPIC, next).await {
                Ok(0) => self.acked = next,
                Ok(_) => {}
                Err(_) => return,
            }
            if next % 8 != 0 {
                continue;
            }
            let name = format!("made-{next}");
            match create_topic(client, &name, 2, &[]).await {
                Ok(0) => drop(self.topics.insert(name)),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

/// C6, L1 for offsets: at both ends of the journal's append, what a group was told to be committed is there after the restart, and
/// nothing that it never sent. (Goes red when the commit is answered while its append is still under way.)
#[tokio::test]
async fn acked_offsets_survive_a_kill_at_the_journal() {
    let mut gateway = Setup::new().unwrap().start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 1, &[]).await.unwrap(), 0);
    let mut sent = 0;
    for point in ["journal::before_append", "journal::after_append"] {
        for passes in [5, 6, 12] {
            gateway.restart_with(Some(&format!("{point}={passes}*off->return"))).await.unwrap();
            let mut client = gateway.client().await.unwrap();
            let mut acked = committed_offset(&mut client, "keeper", TOPIC).await.unwrap();
            loop {
                sent += 1;
                match commit_offset(&mut client, "keeper", TOPIC, sent).await {
                    Ok(code) => assert_eq!(code, 0),
                    Err(_) => break,
                }
                acked = sent;
            }
            assert_eq!(gateway.ended(SOON).await.unwrap(), None, "{point}: {}", gateway.stderr());
            gateway.restart().await.unwrap();
            let mut client = gateway.client().await.unwrap();
            let found = committed_offset(&mut client, "keeper", TOPIC).await.unwrap();
            let wanted = if point == "journal::before_append" { acked } else { sent };
            assert_eq!(found, wanted, "{point}: {acked} acked, {sent} sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_time_under_load() {
    killed_at_any_time(Setup::new().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_time_with_nothing_but_a_bucket() {
    let s3 = S3Server::start().await;
    s3.faults().put_latency(Delay::LogNormal { p50: Duration::from_millis(10), p99: Duration::from_millis(90) });
    s3.faults().set(|plan| (plan.drop_after, plan.slow_down) = (0.02, 0.02));
    killed_at_any_time(busy(&s3)).await;
}

async fn killed_at_any_time(setup: Setup) {
    let mut random = StdRng::seed_from_u64(20_26);
    let mut gateway = setup.start().await.unwrap();
    let load = load_on(&gateway).await;
    let admin = Admin::start(&gateway);
    for _ in 0..5 {
        load.ledger.more(5, SOON).await.unwrap();
        sleep(Duration::from_millis(random.random_range(0..300))).await;
        gateway.kill9().await.unwrap();
        sleep(Duration::from_millis(random.random_range(0..100))).await;
        gateway.restart().await.unwrap();
    }
    load.ledger.more(20, SOON).await.unwrap();
    let (ledger, target) = load.finish().await.unwrap();
    ledger.judge(&target).await.unwrap();
    admin.judge(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asked_to_end_under_load() {
    let mut gateway = Setup::new().unwrap().start().await.unwrap();
    let load = load_on(&gateway).await;
    let admin = Admin::start(&gateway);
    for _ in 0..2 {
        load.ledger.more(50, SOON).await.unwrap();
        assert_eq!(gateway.terminate().await.unwrap(), Some(0), "{}", gateway.stderr());
        gateway.restart().await.unwrap();
    }
    load.ledger.more(20, SOON).await.unwrap();
    let (ledger, target) = load.finish().await.unwrap();
    ledger.judge(&target).await.unwrap();
    admin.judge(&gateway).await;
}
