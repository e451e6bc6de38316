//! One run: a seed in, what happened and what was broken out. Two runs of a seed are alike but not the same: snapshots and merges are
//! made on threads beside it, which end when they end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metadata::command::{Command, CreateTopic, Outcome};
use metadata::journal::memory::{Chances, MemoryJournal};
use metadata::model::ids::simulated;
use metadata::snapshot::MemorySnapshots;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::blob::BlobStore;
use storage::blob::memory::MemoryStore;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::clients::{self, PARTITIONS, TOPIC, Work};
use super::faults::{ALL, Fault, Stage};
use super::node::World;
use crate::chaos::checker::{Rule, judge};
use crate::chaos::history::{Event, History};

const GATEWAYS: i32 = 3;
const PRODUCERS: u32 = 4;
const READERS: [u32; 2] = [101, 102];
/// Who reads everything in the end, through one gateway each.
const LAST_READERS: u32 = 301;
/// Faults of a run.
const FAULTS: usize = 8;
/// L9: everything works again within this time of the last fault.
const RECOVERY: Duration = Duration::from_secs(60);

/// What can be wrong with every gateway on purpose, to see whether the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The journal's head is never asked for.
    StaleBarrier,
    /// A repetition is not known as such.
    NoDuplicatesKnown,
    /// A failed produce is taken for an acked one.
    FailureTakenForAck,
    /// An object that records lie in is deleted, as by a sweep that goes by age.
    SweptByAge,
    /// The objects of two commits are mixed up: each has the bytes of the other.
    MixedUp,
}

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// What happened, in order.
    pub history: Vec<Event>,
    /// Which faults struck, and when in simulated time.
    pub faults: Vec<(Duration, Fault)>,
    /// Acked sends.
    pub acked: u64,
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
pub fn run(seed: u64, bug: Option<Bug>) -> Run {
    let _ids = simulated::from_seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime of one thread needs nothing").block_on(simulate(seed, bug))
}

async fn simulate(seed: u64, bug: Option<Bug>) -> Run {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World {
        journal: Arc::new(MemoryJournal::with_chances(seed, Chances::default())),
        bucket: MemoryStore::new(),
        snapshots: Arc::new(MemorySnapshots::default()),
        seed,
        bug,
    };
    let (stop, stopped) = watch::channel(false);
    let history = Arc::new(History::default());
    let work = Work { nodes: Arc::new(Mutex::default()), history: Arc::clone(&history), seed, stop: stopped, bug };
    let mut stage = Stage { world, work, lives: 0 };
    let mut run =
        Run { history: Vec::new(), faults: Vec::new(), acked: 0, broken: BTreeMap::new(), failed: Vec::new() };
    if let Err(error) = play(&mut stage, &mut random, &mut run, &stop).await {
        run.failed.push(error);
    }
    run.acked = history.acks().values().sum();
    run.history = history.take();
    run.broken = judge(&run.history);
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
    let (mut producers, mut readers) = (JoinSet::new(), JoinSet::new());
    for number in 0..PRODUCERS {
        producers.spawn(clients::produce(stage.work.clone(), number, RECOVERY));
    }
    for number in READERS {
        readers.spawn(clients::read(stage.work.clone(), number));
    }
    for _ in 0..FAULTS {
        sleep(Duration::from_millis(random.random_range(0..2_000))).await;
        let fault = ALL[random.random_range(0..ALL.len())];
        run.faults.push((began.elapsed(), fault));
        stage.strike(fault, random).await?;
    }
    sleep(Duration::from_secs(3)).await;
    stop.send_replace(true);
    while let Some(drained) = producers.join_next().await {
        if !drained.map_err(|error| error.to_string())? {
            run.failed.push(format!("a producer is not served within {RECOVERY:?} of the last fault"));
        }
    }
    while let Some(ended) = readers.join_next().await {
        ended.map_err(|error| error.to_string())?;
    }
    damage(stage).await?;
    // Everything through every gateway, and through one that has just been started.
    let fresh = stage.start(GATEWAYS + 2).await?;
    for (reader, node) in (LAST_READERS..).zip(stage.nodes().into_iter().chain([fresh])) {
        clients::read_everything(&node, reader, &stage.work.history).await?;
    }
    Ok(())
}

/// What a gateway with a bug would have done to the bucket.
async fn damage(stage: &Stage) -> Result<(), String> {
    let (bucket, keys) = (&stage.world.bucket, stage.world.bucket.keys());
    let mut segments = keys.into_iter().filter(|key| key.starts_with("segments/"));
    let failed = |error: storage::blob::BlobError| error.to_string();
    match stage.world.bug {
        Some(Bug::SweptByAge) => {
            bucket.delete_many(&segments.collect::<Vec<_>>()).await.map_err(failed)?;
        }
        Some(Bug::MixedUp) => {
            let (one, two) = (segments.next().ok_or("no segment")?, segments.next_back().ok_or("one segment")?);
            let (first, second) = (bucket.get(&one).await.map_err(failed)?, bucket.get(&two).await.map_err(failed)?);
            bucket.put(&one, second.to_vec().into()).await.map_err(failed)?;
            bucket.put(&two, first.to_vec().into()).await.map_err(failed)?;
        }
        _ => {}
    }
    Ok(())
}
