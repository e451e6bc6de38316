//! Simulated clusters, a seed each: nothing acked is lost, nothing idempotent is there twice or out of order, no two reads differ,
//! groups keep their promises, work goes on by itself (L1-L6, L8-L10, G1, G2, G4, T1, C1, C2, C6, D1), whatever journal and bucket do.
//!
//! `STREAMHOUSE_SIM_SEEDS` is how many seeds are run, `STREAMHOUSE_SIM_FROM` the first. To see one again, with its log:
//! `cargo run -p compat-tests --bin sim -- 17 --log`.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Instant;

use compat_tests::sim::bugs::{BUGS, Bug};
use compat_tests::sim::faults::ALL;
use compat_tests::sim::process::{Processes, Told};
use futures_util::StreamExt;
use futures_util::stream;

const SEEDS: &str = "STREAMHOUSE_SIM_SEEDS";
const FROM: &str = "STREAMHOUSE_SIM_FROM";
/// As many as two minutes of two processors allow; a release build does them in a tenth of that.
const SEEDS_DEFAULT: u64 = 200;
const AT_ONCE: usize = 2;
/// Seeds in which a bug must show.
const SEEDS_OF_A_BUG: u64 = 40;
/// Seeds that are run twice.
const SEEDS_RUN_TWICE: [u64; 3] = [3, 17, 1_999];
/// A log of fewer lines says nothing.
const LINES_MIN: usize = 3_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn processes() -> Processes {
    Processes::new(Path::new(env!("CARGO_BIN_EXE_sim"))).await.expect("a C compiler, and Linux")
}

fn print(seed: u64, told: &Told) {
    let faults: Vec<_> = told.faults.iter().map(|(at_ms, fault)| format!("{at_ms} ms {fault}")).collect();
    let Told { acked, commits, broken, failed, .. } = told;
    let faults = faults.join(", ");
    println!("seed {seed}: {acked} acked, {commits} commits; {faults}; broken {broken:#?}, failed {failed:#?}");
}

#[tokio::test]
async fn no_seed_breaks_a_promise() {
    let (from, count, began) = (number(FROM, 0), number(SEEDS, SEEDS_DEFAULT), Instant::now());
    let processes = processes().await;
    let (mut acked, mut commits, mut merged, mut faults) = (0, 0, 0, 0);
    let (mut struck, mut unsound) = (BTreeSet::new(), Vec::new());
    let run = async |seed| (seed, processes.run(seed, None, false).await.unwrap().1);
    let mut runs = stream::iter((from..from + count).map(run)).buffer_unordered(AT_ONCE);
    while let Some((seed, told)) = runs.next().await {
        (acked, commits) = (acked + told.acked, commits + told.commits);
        (merged, faults) = (merged + told.merged, faults + told.faults.len());
        if !told.is_sound() || count == 1 {
            print(seed, &told);
        }
        if !told.is_sound() {
            unsound.push(seed);
        }
        struck.extend(told.faults.into_iter().map(|(_, fault)| fault));
    }
    println!(
        "{count} seeds from {from} in {:?}: {acked} acked sends, {commits} commits, {merged} merged objects, {faults} faults: {struck:?}",
        began.elapsed()
    );
    assert!(unsound.is_empty(), "seeds {unsound:?} are not sound: see above");
    assert!(acked > count * 50 && commits > count * 20, "{acked} acked sends and {commits} commits are no load");
    assert!(count < 30 || merged > count, "{merged} merged objects: upkeep does nothing");
    assert!(count < 30 || struck.len() == ALL.len(), "only {struck:?} struck");
}

/// Whatever is found once can be looked at again.
#[tokio::test]
async fn the_same_seed_gives_the_same_log() {
    let processes = processes().await;
    let mut logs = BTreeSet::new();
    for seed in SEEDS_RUN_TWICE {
        let run = || processes.run(seed, None, true);
        let (first, second) = tokio::join!(run(), run());
        let ((log, told), (second_log, second_told)) = (first.unwrap(), second.unwrap());
        let differs = log.lines().zip(second_log.lines()).enumerate().find(|(_, (one, other))| one != other);
        assert!(differs.is_none(), "seed {seed}, line {differs:?}");
        assert_eq!((log.len(), told), (second_log.len(), second_told), "seed {seed}");
        assert!(log.lines().count() > LINES_MIN, "seed {seed} has a log of {} lines", log.lines().count());
        logs.insert(log);
    }
    assert_eq!(logs.len(), SEEDS_RUN_TWICE.len(), "each seed has a log of its own");
}

/// The checker finds what it is there to find: each bug within so many seeds, the one in which it showed before among them.
#[tokio::test]
async fn every_bug_is_found() {
    let processes = processes().await;
    let find = async |bug: Bug| {
        let others = (0..SEEDS_OF_A_BUG).filter(|seed| *seed != bug.seed);
        for seed in std::iter::once(bug.seed).chain(others) {
            // One that ends without a word has not been found by the checker.
            let (_, told) = processes.run(seed, Some(bug.name), false).await.unwrap();
            if !told.is_sound() {
                let rules: Vec<_> = told.broken.keys().collect();
                println!("{} ({}): seed {seed}, {rules:?} {:?}", bug.name, bug.breaks, told.failed);
                return None;
            }
        }
        Some(bug.name)
    };
    let mut finds = stream::iter(BUGS.map(find)).buffer_unordered(AT_ONCE);
    let mut unseen = Vec::new();
    while let Some(bug) = finds.next().await {
        unseen.extend(bug);
    }
    assert!(unseen.is_empty(), "{unseen:?} do not show in {SEEDS_OF_A_BUG} seeds");
}
