//! Three gateways on one PostgreSQL and one bucket, under load, while everything that can fail does: nothing acked is lost,
//! nothing idempotent is there twice or out of order, no two reads differ, groups keep their promises, and after each fault
//! work goes on by itself (L1, L2, L5, L6, L8-L10, T1, C1, C2, C6, C9, D1).
//!
//! `STREAMHOUSE_CHAOS_SECONDS` makes it go on for longer, `STREAMHOUSE_CHAOS_SEED` decides the order and the length of the faults.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::time::{Duration, Instant};

use compat_tests::chaos::checker::judge;
use compat_tests::chaos::cluster::Cluster;
use compat_tests::chaos::faults::{ALL, Fault};
use compat_tests::chaos::history::History;
use compat_tests::chaos::producers::{Addresses, Work};
use compat_tests::chaos::{librdkafka, members, producers, readers};
use compat_tests::requests::create_topic;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

const SECONDS: &str = "STREAMHOUSE_CHAOS_SECONDS";
const SEED: &str = "STREAMHOUSE_CHAOS_SEED";
const SEED_DEFAULT: u64 = 20_261_122;
const TOPIC: &str = "chaos";
const PARTITIONS: i32 = 4;
const PRODUCERS: u32 = 8;
/// Numbers of librdkafka's producer, which comes behind the others, and of its reader.
const LIBRDKAFKA: [u32; 2] = [PRODUCERS, 104];
/// Numbers of the readers, of the group's members, and of those who read everything in the end.
const READERS: [u32; 3] = [101, 102, 103];
const MEMBERS: [u32; 3] = [201, 202, 203];
const LAST_READERS: u32 = 301;
/// L9: after a fault, everybody works again within this time.
const RECOVERY: Duration = Duration::from_secs(30);
/// What the same work takes without a fault on a quiet machine of two cores, twice over. Where it takes longer the machine is busy,
/// and recovery may take longer in proportion.
const QUIET: Duration = Duration::from_millis(700);
/// Longest until everybody works for the first time.
const BEGINNING: Duration = Duration::from_secs(150);
/// What every producer must have acked after a fault before the next one.
const ACKS: u64 = 5;
const COMMITS: u64 = 8;
const ACKED_SENDS_MIN: u64 = 1_000;

/// The clients, while they work.
struct Load {
    work: Work,
    stop: watch::Sender<bool>,
    producers: JoinSet<std::io::Result<()>>,
    others: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(cluster: &Cluster, seed: u64) -> Self {
        let mut client = cluster.nodes[0].gateway.client().await.unwrap();
        assert_eq!(create_topic(&mut client, TOPIC, PARTITIONS, &[("retention.ms", "-1")]).await.unwrap(), 0);
        let (stop, stopped) = watch::channel(false);
        let (addresses, history) = (Addresses::default(), Arc::new(History::default()));
        addresses.set(cluster.addresses());
        let work = Work { addresses, topic: TOPIC.into(), partitions: PARTITIONS, history, seed, stop: stopped };
        let mut load = Self { work, stop, producers: JoinSet::new(), others: Vec::new() };
        for number in 0..PRODUCERS {
            load.producers.spawn(producers::run(load.work.clone(), number));
        }
        let [producer, reader] = LIBRDKAFKA;
        let (producing, reading) = (load.work.clone(), load.work.clone());
        load.producers.spawn_blocking(move || librdkafka::produce(&producing, producer));
        load.others.push(tokio::task::spawn_blocking(move || librdkafka::consume(&reading, reader).unwrap()));
        load.others.extend(READERS.map(|number| tokio::spawn(readers::run(load.work.clone(), number))));
        load.others.extend(MEMBERS.map(|number| tokio::spawn(members::run(load.work.clone(), number))));
        load
    }

    /// Waits until every producer has acks again, and the group commits again; how long that took.
    async fn goes_on(&self, after: &str, within: Duration) -> Duration {
        let history = &self.work.history;
        let (acks, commits, began) = (history.acks(), history.commits(), Instant::now());
        loop {
            let now = history.acks();
            let slow = (0..=PRODUCERS).find(|number| {
                now.get(number).copied().unwrap_or_default() < acks.get(number).copied().unwrap_or_default() + ACKS
            });
            let commits = history.commits() - commits;
            if slow.is_none() && commits >= COMMITS {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < within,
                "{after}: after {within:?} producer {slow:?} has no acks, or the group only {commits} commits; told {:?}",
                history.errors()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends the clients; all that was in flight is acked.
    async fn end(mut self) -> Work {
        self.stop.send_replace(true);
        while let Some(ended) = self.producers.join_next().await {
            ended.unwrap().unwrap();
        }
        for other in self.others {
            other.await.unwrap();
        }
        self.work
    }
}

/// All faults in an order of chance.
fn shuffled(faults: &[Fault], random: &mut StdRng) -> Vec<Fault> {
    let mut left = faults.to_vec();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        order.push(left.swap_remove(random.random_range(0..left.len())));
    }
    order
}

/// Everything is read through every gateway, and through one that has just been started.
async fn read_by_all(cluster: &mut Cluster, work: &Work) {
    let mut number = LAST_READERS;
    for at in 0..=cluster.nodes.len() {
        let at = at % cluster.nodes.len();
        let client = cluster.nodes[at].gateway.client().await.unwrap();
        readers::read_everything(client, number, TOPIC, PARTITIONS, &work.history).await.unwrap();
        number += 1;
        if number == LAST_READERS + cluster.nodes.len() as u32 {
            cluster.nodes[0].gateway.restart().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_keep_their_promises_through_every_fault() {
    let number = |name, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (seed, lasts) = (number(SEED, SEED_DEFAULT), Duration::from_secs(number(SECONDS, 0)));
    let mut random = StdRng::seed_from_u64(seed);
    let began = Instant::now();
    let mut cluster = Cluster::start(3).await.unwrap();
    let load = Load::start(&cluster, seed).await;
    load.goes_on("the start", BEGINNING).await;
    let mut struck = 0;
    while struck == 0 || began.elapsed() < lasts {
        for fault in shuffled(&ALL, &mut random) {
            let idle = load.goes_on("before a fault", BEGINNING).await;
            let within = RECOVERY.mul_f64(idle.div_duration_f64(QUIET).max(1.0));
            let at = began.elapsed();
            let what = format!("seed {seed}, fault {struck} ({fault}) at {at:?}");
            if let Err(why) = fault.strike(&mut cluster, &load.work.addresses, &mut random).await {
                panic!("{what}: {why}");
            }
            let lasted = began.elapsed() - at;
            let resumed = load.goes_on(&what, within).await;
            println!("{what}: lasted {lasted:?}, all went on {resumed:?} after it, and {idle:?} before");
            cluster.is_seen(3).await.unwrap_or_else(|why| panic!("{what}: {why}"));
            cluster.is_well().await.unwrap_or_else(|why| panic!("{what}: {why}"));
            struck += 1;
        }
    }
    let faults_end = began.elapsed();
    let work = load.end().await;
    cluster.is_seen(3).await.unwrap();
    read_by_all(&mut cluster, &work).await;
    cluster.is_well().await.unwrap();
    let (acked, errors) = (work.history.acks().values().sum::<u64>(), work.history.errors());
    let broken = judge(&work.history.take());
    println!(
        "{struck} faults in {faults_end:?}, {acked} acked sends, judged after {:?}; told {errors:?}",
        began.elapsed()
    );
    assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
    assert!(acked >= ACKED_SENDS_MIN, "{acked} acked sends are no load");
    // A short run may meet a busy machine.
    let are_many = lasts.is_zero() || faults_end < Duration::from_secs(12) * struck;
    assert!(are_many, "fewer than five faults a minute: {struck} in {faults_end:?}");
}
