//! The scenarios of SCENARIOS.md with rdkafka: <program> rdkafka <scenario> <bootstrap> [key=value ...]

mod admin;
mod client;
mod groups;
mod records;
mod run;
mod scenarios;

use std::collections::BTreeMap;
use std::process::exit;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use records::{Outcome, Words};
use run::Run;

type Scenario = fn(&mut Run) -> Outcome<String>;

const ALL: &[(&str, Scenario)] = &[
    ("defaults", scenarios::defaults),
    ("codecs", scenarios::codecs),
    ("shapes", scenarios::shapes),
    ("sizes", scenarios::sizes),
    ("partitions", scenarios::partitions),
    ("manual", scenarios::manual),
    ("group", groups::group),
    ("admin", admin::admin),
];
const SINGLE: &[(&str, Scenario, &[&str])] = &[
    ("interop-write", scenarios::interop_write, &["topic", "count", "codec", "profile"]),
    ("interop-read", scenarios::interop_read, &["topic", "count", "codec", "profile", "without"]),
    ("restart", scenarios::restart, &["topic", "count", "pace"]),
];

fn usage(message: &str) -> ! {
    eprintln!("{message}\nusage: rdkafka <scenario> <bootstrap> [key=value ...]");
    exit(2)
}

/// What to run, with the keys given.
fn parse(args: &[String]) -> (Vec<(&'static str, Scenario)>, String, BTreeMap<String, String>) {
    let [library, which, bootstrap, pairs @ ..] = args else { usage("three arguments are needed") };
    if library != "rdkafka" {
        usage(&format!("unknown library {library}; there is rdkafka"));
    }
    let mut known = vec!["run", "deadline", "settle"];
    let mut chosen: Vec<_> = ALL.iter().filter(|(name, _)| which == "all" || name == which).copied().collect();
    if let Some((name, scenario, keys)) = SINGLE.iter().find(|(name, ..)| name == which) {
        chosen.push((name, *scenario));
        known.extend_from_slice(keys);
    }
    if chosen.is_empty() {
        usage(&format!("unknown scenario {which}"));
    }
    let mut keys = BTreeMap::new();
    for pair in pairs {
        match pair.split_once('=') {
            Some((key, value)) if known.contains(&key) => keys.insert(key.to_owned(), value.to_owned()),
            _ => usage(&format!("unknown key {pair}")),
        };
    }
    if known.contains(&"topic") && !keys.contains_key("topic") {
        usage("topic=<name> is missing");
    }
    let run = keys.entry("run".to_owned()).or_insert_with(|| format!("{:x}", records::now_ms()));
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if run.is_empty() || run.len() > 32 || !run.chars().all(plain) {
        usage("run must match [a-z0-9-]{1,32}");
    }
    (chosen, bootstrap.clone(), keys)
}

fn ok(name: &str, details: &str, without: &Words) {
    let words: Vec<_> = without.iter().map(String::as_str).collect();
    let words = if words.is_empty() { String::new() } else { format!(" without={}", words.join(",")) };
    println!("ok {name} {details}{words}");
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (chosen, bootstrap, keys) = parse(&args);
    let deadline = keys.get("deadline").map_or(Ok(90.0), |text| text.parse::<f64>());
    let Ok(deadline) = deadline else { usage("deadline must be seconds") };
    let end = Instant::now() + Duration::from_secs_f64(deadline);
    let (done, results) = mpsc::sync_channel(chosen.len());
    for (name, scenario) in chosen.iter().copied() {
        let (done, mut run) = (done.clone(), Run::new(name, &bootstrap, &keys));
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let outcome = scenario(&mut run);
            // Only fails when the main thread has ended at the deadline.
            let _ = done.send((name, outcome, run.without));
        });
        started.expect("a thread for a scenario can be started");
    }
    let mut pending: Vec<_> = chosen.iter().map(|(name, _)| *name).collect();
    let (mut failed, mut missing) = (false, Words::new());
    while !pending.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        let Ok((name, outcome, without)) = results.recv_timeout(left) else {
            eprintln!("deadline of {deadline} s reached in {}", pending.join(", "));
            exit(1)
        };
        pending.retain(|other| *other != name);
        match outcome {
            Ok(ref details) => ok(name, details, &without),
            Err(ref failure) => eprintln!("{name}: {failure}"),
        }
        failed |= outcome.is_err();
        missing.extend(without);
    }
    if failed {
        exit(1);
    }
    if args[1] == "all" {
        ok("all", &format!("scenarios={}", chosen.len()), &missing);
    }
}
