//! Simulated clusters, a seed each: nothing acked is lost, nothing idempotent is there twice or out of order, no two reads differ,
//! work goes on by itself (L1-L6, L8-L10, G1, G2, G4, T1, D1), whatever journal and bucket do.
//!
//! `STREAMHOUSE_SIM_SEEDS` is how many seeds are run, `STREAMHOUSE_SIM_FROM` the first; to see one again, run that one alone:
//! `STREAMHOUSE_SIM_FROM=17 STREAMHOUSE_SIM_SEEDS=1 cargo test -p compat-tests --test sim -- --nocapture no_seed`.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use compat_tests::sim::faults::ALL;
use compat_tests::sim::run::{Bug, Run, run};

const SEEDS: &str = "STREAMHOUSE_SIM_SEEDS";
const FROM: &str = "STREAMHOUSE_SIM_FROM";
/// As many as half a minute allows.
const SEEDS_DEFAULT: u64 = 40;
const THREADS: usize = 2;
/// Seeds in which a bug must show.
const SEEDS_OF_A_BUG: u64 = 40;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn told(seed: u64, run: &Run) -> String {
    let faults: Vec<_> = run.faults.iter().map(|(at, fault)| format!("{:.3} s {fault:?}", at.as_secs_f64())).collect();
    let Run { acked, broken, failed, .. } = run;
    format!("seed {seed}: {acked} acked; {}; broken {broken:#?}, failed {failed:#?}", faults.join(", "))
}

#[test]
fn no_seed_breaks_a_promise() {
    let (from, count, began) = (number(FROM, 0), number(SEEDS, SEEDS_DEFAULT), Instant::now());
    let (next, acked, struck) = (AtomicU64::new(from), AtomicU64::new(0), Mutex::new(BTreeSet::new()));
    let unsound = Mutex::new(Vec::new());
    std::thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let run = run(seed, None);
                    acked.fetch_add(run.acked, Ordering::Relaxed);
                    struck.lock().unwrap().extend(run.faults.iter().map(|(_, fault)| *fault));
                    if !run.is_sound() || count == 1 {
                        println!("{}", told(seed, &run));
                    }
                    if !run.is_sound() {
                        unsound.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let (acked, struck, unsound) = (acked.into_inner(), struck.into_inner().unwrap(), unsound.into_inner().unwrap());
    println!("{count} seeds from {from} in {:?}: {acked} acked sends, faults {struck:?}", began.elapsed());
    assert!(unsound.is_empty(), "seeds {unsound:?} are not sound: see above");
    assert!(acked > count * 50, "{acked} acked sends are no load");
    assert!(count < 30 || struck.len() == ALL.len(), "only {struck:?} struck");
}

/// The checker finds what it is there to find.
#[test]
fn every_bug_is_found() {
    for bug in [Bug::StaleBarrier, Bug::NoDuplicatesKnown, Bug::FailureTakenForAck, Bug::SweptByAge, Bug::MixedUp] {
        let found = (0..SEEDS_OF_A_BUG).find(|seed| !run(*seed, Some(bug)).is_sound());
        assert!(found.is_some(), "{bug:?} does not show in {SEEDS_OF_A_BUG} seeds");
    }
}
