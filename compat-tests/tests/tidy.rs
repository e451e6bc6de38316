//! The house rules, as a test: what a reviewer would otherwise have to say again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file with its tests stays one room; the few that may be longer are named here with the reason.
const LONGEST_FILE: usize = 620;
const LONGER_WITH_REASON: &[(&str, &str)] = &[];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("compat-tests has a parent").to_path_buf()
}

fn tracked(suffix: &str) -> Vec<(String, String)> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git lists the files");
    assert!(output.status.success(), "git ls-files failed");
    let names = String::from_utf8(output.stdout).expect("file names are UTF-8");
    let wanted = names.lines().filter(|name| name.ends_with(suffix) && root().join(name).is_file());
    wanted.map(|name| (name.to_owned(), std::fs::read_to_string(root().join(name)).expect("readable"))).collect()
}

fn report(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n  {}", offences.join("\n  "));
}

#[test]
fn files_stay_one_room() {
    let files = tracked(".rs");
    assert!(files.len() > 20, "the walk found only {} files", files.len());
    let long = files.iter().filter(|(name, text)| {
        text.lines().count() > LONGEST_FILE && !LONGER_WITH_REASON.iter().any(|(allowed, _)| allowed == name)
    });
    let offences: Vec<_> = long.map(|(name, text)| format!("{name}: {} lines", text.lines().count())).collect();
    report(&format!("files of more than {LONGEST_FILE} lines"), &offences);
}

#[test]
fn no_room_without_a_name() {
    let banned = ["utils.rs", "util.rs", "common.rs", "helpers.rs", "misc.rs", "mod.rs"];
    let is_banned = |name: &&String| banned.iter().any(|b| name.ends_with(&format!("/{b}")));
    let offences: Vec<_> = tracked(".rs").iter().map(|(name, _)| name).filter(is_banned).cloned().collect();
    report("rooms named after nothing", &offences);
}

#[test]
fn no_words_of_unfinished_work() {
    let words =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["todo", "!("].concat(), ["unimplemented", "!("].concat()];
    let mut offences = Vec::new();
    for (name, text) in tracked(".rs") {
        for (at, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str())) || line.trim_start().starts_with("#[ignore") {
                offences.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    report("unfinished or ignored", &offences);
}

/// A floor imports the floors below it, never one above (docs/architecture.md).
#[test]
fn arrows_point_down() {
    let above: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("metadata", &["storage", "gateway", "compat_tests"][..]),
        ("storage", &["gateway", "compat_tests"][..]),
        ("gateway", &["compat_tests"][..]),
    ]);
    let mut offences = Vec::new();
    for (name, text) in tracked(".rs") {
        let Some(forbidden) = name.split('/').next().and_then(|floor| above.get(floor)) else { continue };
        for (at, line) in text.lines().enumerate() {
            if forbidden.iter().any(|up| line.trim_start().starts_with(&format!("use {up}::"))) {
                offences.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    report("imports of a floor above", &offences);
}

/// The outside crates that one room only may know.
#[test]
fn outside_crates_stay_in_their_room() {
    let rooms: &[(&str, &[&str])] = &[
        ("aws_sdk_s3", &["storage/src/blob/s3", "compat-tests/"]),
        ("rusqlite", &["metadata/src/journal/sqlite"]),
        ("tokio_postgres", &["metadata/src/journal/postgres"]),
        ("prost", &["metadata/src/codec", "metadata/src/state/", "gateway/src/coordinator/"]),
        (
            "kafka_protocol",
            &[
                "gateway/src/wire",
                "gateway/src/api",
                "gateway/src/dispatch",
                "compat-tests/",
                "docker/tools/src/commands/broker_api_versions",
            ],
        ),
        (
            "rdkafka",
            &[
                "compat-tests/clients/",
                "compat-tests/src/chaos/librdkafka",
                "docker/tools/src/client",
                "docker/tools/src/commands/console_",
            ],
        ),
    ];
    let mut offences = Vec::new();
    for (name, text) in tracked(".rs") {
        for (outside, allowed) in rooms {
            let uses = text.lines().any(|line| line.trim_start().starts_with(&format!("use {outside}::")));
            if uses && !name.contains("/tests") && !allowed.iter().any(|room| name.starts_with(room)) {
                offences.push(format!("{name} uses {outside}"));
            }
        }
    }
    report("outside crates beyond their room", &offences);
}

#[test]
fn every_file_says_what_it_is() {
    // Tests that outgrew their file are said by that file.
    let rooms =
        tracked(".rs").into_iter().filter(|(name, _)| !name.ends_with("/tests.rs") && !name.contains("/tests/"));
    let silent = rooms.filter(|(_, text)| !text.trim_start().starts_with("//!"));
    let offences: Vec<_> = silent.map(|(name, _)| name).collect();
    report("files without a first line of what they are", &offences);
}

/// Files import each other one way: no two files of a crate in a circle.
#[test]
fn no_pair_of_files_imports_each_other() {
    let mut arrows = BTreeSet::new();
    for (name, text) in tracked(".rs") {
        let Some((floor, module)) = name.strip_suffix(".rs").and_then(|n| n.split_once("/src/")) else { continue };
        if name.ends_with("/tests.rs") {
            continue;
        }
        for line in text.lines().filter_map(|line| line.strip_prefix("use crate::")) {
            let is_module = |part: &&str| part.chars().next().is_some_and(char::is_lowercase);
            let target: Vec<_> = line.trim_end_matches(';').split("::").take_while(is_module).collect();
            arrows.insert((format!("{floor}/{module}"), format!("{floor}/{}", target.join("/"))));
        }
    }
    let both = arrows.iter().filter(|(from, to)| from < to && arrows.contains(&(to.clone(), from.clone())));
    let offences: Vec<_> = both.map(|(from, to)| format!("{from} <-> {to}")).collect();
    report("files that import each other", &offences);
}

/// With `pipefail` a pipe to a reader that ends at its first match fails whenever its writer was not done yet.
#[test]
fn no_script_pipes_to_a_reader_that_ends_early() {
    let readers = ["| grep -q", "| grep -m", "| head"];
    let mut offences = Vec::new();
    for (name, text) in tracked(".sh").into_iter().filter(|(_, text)| text.contains("pipefail")) {
        for (at, line) in
            text.lines().enumerate().filter(|(_, line)| readers.iter().any(|reader| line.contains(reader)))
        {
            offences.push(format!("{name}:{}: {}", at + 1, line.trim()));
        }
    }
    report("pipes that fail by chance", &offences);
}
