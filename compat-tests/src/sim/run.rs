//! One run: a seed in, what happened and what was broken out. In a process of its own (see `process`) two runs of a seed are the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metadata::command::{Command, CreateTopic, Outcome};
use metadata::journal::memory::{Chances, MemoryJournal};
use metadata::model::ids::simulated;
use metadata::snapshot::MemorySnapshots;
use metadata::state::State;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::blob::memory::MemoryStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::clients::{self, PARTITIONS, TOPIC, Work};
use super::faults::{ALL, Fault, Stage};
use super::log::Log;
use super::members;
use super::node::{SimulatedClock, World};
use crate::chaos::checker::{Rule, judge};
use crate::chaos::history::History;

const GATEWAYS: i32 = 3;
const PRODUCERS: u32 = 4;
const READERS: [u32; 2] = [101, 102];
const MEMBERS: [u32; 3] = [201, 202, 203];
/// The first number of those who send a batch once.
const SENT_ONCE: u32 = 1_000;
/// Who reads everything in the end, through one gateway each.
const LAST_READERS: u32 = 301;
/// Faults of a run.
const FAULTS: usize = 8;
/// L9: everything works again within this time of the last fault.
const RECOVERY: Duration = Duration::from_secs(60);

/// What came of a run.
#[derive(Debug, Default)]
pub struct Run {
    /// Everything that happened, a line each; empty if that was not wanted.
    pub log: String,
    /// Which faults struck, and when in simulated time.
    pub faults: Vec<(Duration, Fault)>,
    /// Acked sends.
    pub acked: u64,
    /// Acked commits of offsets.
    pub commits: u64,
    /// Merged objects that there are in the end.
    pub merged: u64,
    /// What was broken, by the checker's rules.
    pub broken: BTreeMap<Rule, Vec<String>>,
    /// What else went wrong: a gateway that does not come up, a log that cannot be read, a producer that is not served.
    pub failed: Vec<String>,
}

impl Run {
    /// Whether all promises were kept.
    pub fn is_sound(&self) -> bool {
        self.broken.is_empty() && self.failed.is_empty()
    }
}

/// Runs a seed, on this thread.
pub fn run(seed: u64, with_log: bool) -> Run {
    let _ids = simulated::from_seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime of one thread needs nothing").block_on(simulate(seed, with_log))
}

async fn simulate(seed: u64, with_log: bool) -> Run {
    let log = Log::begin(with_log);
    let mut random = StdRng::seed_from_u64(seed);
    let world = World {
        journal: Arc::new(MemoryJournal::with_chances(seed, Chances::default())),
        bucket: MemoryStore::with_clock(SimulatedClock::wrong_by_ms(0)),
        snapshots: Arc::new(MemorySnapshots::default()),
        seed,
        log: Arc::clone(&log),
    };
    let (stop, stopped) = watch::channel(false);
    let history = Arc::new(History::default());
    let nodes = Arc::new(Mutex::default());
    let work = Work { nodes, history: Arc::clone(&history), seed, stop: stopped, log: Arc::clone(&log) };
    let mut stage = Stage { world, work, lives: 0 };
    let mut run = Run::default();
    if let Err(error) = play(&mut stage, &mut random, &mut run, &stop).await {
        run.failed.push(error);
    }
    run.acked = history.acks().values().sum();
    run.commits = history.commits();
    run.broken = judge(&history.take());
    run.log = log.take();
    run
}

async fn play(stage: &mut Stage, random: &mut StdRng, run: &mut Run, stop: &watch::Sender<bool>) -> Result<(), String> {
    let began = Instant::now();
    for number in 1..=GATEWAYS {
        let node = stage.start(number).await?;
        stage.work.nodes.lock().map_err(|error| error.to_string())?.push(node);
    }
    let name = "simulated".parse().map_err(|_| "no name of a topic")?;
    let create = CreateTopic { id: TOPIC, name, partitions: PARTITIONS, configs: Vec::new() };
    let made = stage.nodes()[0].metadata.submit(Command::CreateTopic(create)).await;
    if made != Ok(Outcome::Done) {
        return Err(format!("no topic: {made:?}"));
    }
    for node in stage.nodes() {
        node.metadata.barrier().await.map_err(|error| error.to_string())?;
    }
    let (mut producers, mut others) = (JoinSet::new(), JoinSet::new());
    for number in 0..PRODUCERS {
        producers.spawn(clients::produce(stage.work.clone(), number, RECOVERY));
    }
    for number in READERS {
        others.spawn(clients::read(stage.work.clone(), number));
    }
    others.spawn(clients::produce_once(stage.work.clone(), SENT_ONCE));
    for number in MEMBERS {
        others.spawn(members::run(stage.work.clone(), number));
    }
    for _ in 0..FAULTS {
        sleep(Duration::from_millis(random.random_range(0..2_000))).await;
        let fault = ALL[random.random_range(0..ALL.len())];
        run.faults.push((began.elapsed(), fault));
        stage.world.log.note(format_args!("fault: {fault:?}"));
        stage.strike(fault, random).await?;
    }
    sleep(Duration::from_secs(3)).await;
    stop.send_replace(true);
    while let Some(drained) = producers.join_next().await {
        if !drained.map_err(|error| error.to_string())? {
            run.failed.push(format!("a producer is not served within {RECOVERY:?} of the last fault"));
        }
    }
    while let Some(ended) = others.join_next().await {
        ended.map_err(|error| error.to_string())?;
    }
    // Everything through every gateway, and through one that has just been started.
    let fresh = stage.start(GATEWAYS + 2).await?;
    let merged = |state: &State| state.objects().iter().filter(|object| object.level > 0).count();
    run.merged = fresh.metadata.read(merged) as u64;
    for (reader, node) in (LAST_READERS..).zip(stage.nodes().into_iter().chain([fresh])) {
        clients::read_everything(&node, reader, &stage.work).await?;
    }
    Ok(())
}
