//! `kafka-consumer-groups`. Most of what goes wrong is said on standard output with exit code 0, as Kafka's tool does.

mod describe;
mod reset;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::Duration;

use super::{Command, check_invalid, check_required, uncaught};
use crate::client::native::{Admin, GroupListing};
use crate::client::settings::Settings;
use crate::client::{Failure, TopicPartition};
use crate::flags::{Flag, Flags, maybe, switch, value};
use crate::output::{End, Out};

const ACTIONS: [&str; 6] = ["list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"];
/// The last wide column of a list, and the least width of its first.
const COLUMN: usize = 20;
const FIRST_COLUMN: usize = 15;
/// How long an answer may take, ms.
const TIMEOUT: u64 = 5000;

const STATES: [&str; 7] =
    ["PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty", "Assigning", "Reconciling"];
const TYPES: [&str; 2] = ["Classic", "Consumer"];

pub(super) const COMMAND: Command = Command {
    name: "kafka-consumer-groups",
    about: "This tool helps to list all consumer groups, describe a consumer group, delete consumer group info, or reset \
            consumer group offsets.",
    flags: FLAGS,
    run,
    failed: |failure| End::Printed(format!("\nError: Executing consumer group command failed due to {failure}")),
    wrong_flag: |text| End::Said(uncaught(&text)),
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "The servers to connect to. REQUIRED for all options except for --validate-regex."),
    value("command-config", "Property file with settings of the client."),
    value("timeout", "How long to wait for an answer, ms."),
    switch("list", "List all consumer groups."),
    switch("describe", "Describe consumer groups: what they committed, and how much they have yet to read."),
    switch("delete", "Delete consumer groups."),
    switch("reset-offsets", "Reset what a consumer group without members committed."),
    switch("delete-offsets", "Forget what a consumer group committed for topics."),
    value("validate-regex", "Say whether a regular expression is valid."),
    value("group", "The consumer group; may be given several times."),
    switch("all-groups", "All consumer groups."),
    value("topic", "A topic, or topic:0,1 for some of its partitions; may be given several times."),
    switch("all-topics", "All topics that the group committed anything for."),
    switch("members", "With --describe: the members."),
    switch("offsets", "With --describe: the partitions, which is what is shown anyway."),
    maybe("state", "With --describe: the state. With --list: the states too, or only groups in these states."),
    maybe("type", "With --list: the types too, or only groups of these types."),
    switch("verbose", "With --describe: more columns."),
    switch("dry-run", "With --reset-offsets: only show what would be done."),
    switch("execute", "With --reset-offsets: do it."),
    switch("export", "With --reset-offsets: print it as CSV."),
    value("to-offset", "Reset to this offset."),
    value("from-file", "Reset to the offsets of a CSV file."),
    value("to-datetime", "Reset to a time: YYYY-MM-DDThh:mm:ss.sss"),
    value("by-duration", "Reset to a time before now: PnDTnHnMnS"),
    switch("to-earliest", "Reset to the beginning."),
    switch("to-latest", "Reset to the end."),
    switch("to-current", "Reset to what is committed."),
    value("shift-by", "Reset by so many records, forward or back."),
];

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    available(flags)?;
    if flags.count(&ACTIONS) != 1 {
        let actions = ACTIONS.map(|action| format!("--{action}")).join(", ");
        return Err(End::usage(format!("Command must include exactly one action: {actions}")));
    }
    if let Some(regex) = flags.value("validate-regex").map_err(thrown)? {
        return validate(regex, out);
    }
    check_required(flags, &["bootstrap-server"])?;
    check(flags)?;
    let timeout = flags.number("timeout").map_err(thrown)?.unwrap_or(TIMEOUT);
    let admin = Admin::new(&Settings::of_flags(flags)?)?.with_patience(Duration::from_millis(timeout));
    let done = match ACTIONS.iter().find(|action| flags.has(action)).copied() {
        Some("describe") => describe::run(&admin, flags, out),
        Some("delete") => delete(&admin, flags, out),
        Some("reset-offsets") => reset::run(&admin, flags, out),
        Some("delete-offsets") => delete_offsets(&admin, flags, out),
        _ => list(&admin, flags, out),
    };
    // Kafka's tool says what the cluster refused and ends as if all were well.
    match done {
        Err(End::Failed(failure)) => {
            writeln!(out, "\nError: Executing consumer group command failed due to {}", caused(&failure))?;
            Ok(())
        }
        done => done,
    }
}

fn thrown(text: String) -> End {
    End::Said(uncaught(&text))
}

/// Kafka wraps what it waits for, so that its exceptions show, except those that it throws by itself.
fn caused(failure: &Failure) -> String {
    let wrapped = [Failure::UNKNOWN_GROUP];
    if wrapped.contains(&failure.code) || failure.is_timeout() { failure.exception() } else { failure.message.clone() }
}

/// Flags that only go with an action.
fn available(flags: &Flags) -> Result<(), End> {
    for (flag, with) in [
        ("members", &["describe"][..]),
        ("verbose", &["describe"]),
        ("offsets", &["describe"]),
        ("state", &["describe", "list"]),
        ("type", &["list"]),
    ] {
        if flags.has(flag) && flags.count(with) == 0 {
            let text = format!("Option(s) [{flag}] are unavailable given other options on the command line");
            return Err(End::Said(format!(
                "Exception in thread \"main\" joptsimple.UnavailableOptionException: {text}"
            )));
        }
    }
    Ok(())
}

fn check(flags: &Flags) -> Result<(), End> {
    let groups = flags.count(&["group", "all-groups"]);
    for action in ["describe", "delete", "reset-offsets"] {
        if flags.has(action) && groups == 0 {
            return Err(End::usage(format!("Option [{action}] takes one of these options: [group], [all-groups]")));
        }
    }
    if flags.has("describe") {
        let kinds = ["members", "offsets", "state"];
        if flags.count(&kinds) > 1 {
            let kinds = kinds.map(|kind| format!("[{kind}]")).join(", ");
            return Err(End::usage(format!("Option [describe] takes at most one of these options: {kinds}")));
        }
        if !flags.values("state").is_empty() {
            return Err(End::usage("Option [describe] does not take a value for [state]"));
        }
    }
    if flags.has("delete") && flags.has("topic") {
        let text = "The consumer does not support topic-specific offset deletion from a consumer group.";
        return Err(End::usage(text));
    }
    if flags.has("delete-offsets") && flags.count(&["group", "topic"]) < 2 {
        return Err(End::usage("Option [delete-offsets] takes the following options: [group], [topic]"));
    }
    check_invalid(flags, "group", &["all-groups"])?;
    check_invalid(flags, "group", &["list"])?;
    check_invalid(flags, "all-topics", &["topic"])?;
    check_invalid(flags, "topic", &["list", "describe"])?;
    if flags.has("reset-offsets") { reset::check(flags) } else { Ok(()) }
}

fn validate(regex: &str, out: &mut Out) -> Result<(), End> {
    match regex_lite::Regex::new(regex) {
        Ok(_) => writeln!(out, "The regular expression `{regex}` is valid.")?,
        Err(error) => writeln!(out, "The regular expression `{regex}` is invalid: {error}.")?,
    }
    Ok(())
}

fn list(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let groups = admin.groups()?;
    let columns: Vec<&str> = ["type", "state"].into_iter().filter(|flag| flags.has(flag)).collect();
    if columns.is_empty() {
        groups.iter().try_for_each(|group| writeln!(out, "{}", group.id))?;
        return Ok(());
    }
    let states = wanted(flags.values("state").first(), &STATES, "state")?;
    let types = wanted(flags.values("type").first(), &TYPES, "types")?;
    let is_wanted = |group: &&GroupListing| {
        states.as_ref().is_none_or(|states| states.contains(&*group.state))
            && types.as_ref().is_none_or(|types| types.contains(&*group.kind))
    };
    let groups: Vec<_> = groups.iter().filter(is_wanted).collect();
    let width = groups.iter().map(|group| group.id.len()).fold(FIRST_COLUMN, usize::max) + 10;
    let mut row = |first: &str, kind: &str, state: &str| {
        write!(out, "{first:width$}")?;
        for column in &columns {
            write!(out, " {:COLUMN$}", if *column == "type" { kind } else { state })?;
        }
        writeln!(out)
    };
    row("GROUP", "TYPE", "STATE")?;
    groups.iter().try_for_each(|group| row(&group.id, &group.kind, &group.state))?;
    Ok(())
}

/// `stable,empty`: whatever the case of the letters.
fn wanted(text: Option<&&str>, known: &[&'static str], what: &str) -> Result<Option<BTreeSet<&'static str>>, End> {
    let Some(text) = text else { return Ok(None) };
    let find = |word: &str| known.iter().copied().find(|known| known.eq_ignore_ascii_case(word.trim()));
    let found: Option<BTreeSet<_>> = text.split(',').map(find).collect();
    match found {
        Some(found) => Ok(Some(found)),
        None => {
            let valid = if what == "state" { "states" } else { what };
            Err(End::usage(format!("Invalid {what} list '{text}'. Valid {valid} are: {}", known.join(", "))))
        }
    }
}

/// The groups that the flags name.
fn chosen(admin: &Admin, flags: &Flags) -> Result<Vec<String>, End> {
    if flags.has("all-groups") {
        return Ok(admin.groups()?.into_iter().map(|group| group.id).collect());
    }
    Ok(flags.values("group").into_iter().map(str::to_owned).collect())
}

fn delete(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for (group, outcome) in admin.delete_groups(&chosen(admin, flags)?)? {
        match outcome {
            Ok(()) => deleted.push(format!("'{group}'")),
            Err(failure) => failed.push((group, failure)),
        }
    }
    let deleted = deleted.join(", ");
    if failed.is_empty() {
        writeln!(out, "Deletion of requested consumer groups ({deleted}) was successful.")?;
        return Ok(());
    }
    writeln!(out, "\nError: Deletion of some consumer groups failed:")?;
    for (group, failure) in failed {
        writeln!(out, "* Group '{group}' could not be deleted due to: {}", failure.exception())?;
    }
    if !deleted.is_empty() {
        writeln!(out, "\nThese consumer groups were deleted successfully: {deleted}")?;
    }
    Ok(())
}

fn delete_offsets(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let group = flags.value("group").map_err(thrown)?.unwrap_or_default();
    let mut partitions = Vec::new();
    let mut rows: Vec<(TopicPartition, Option<Failure>)> = Vec::new();
    for topic in flags.values("topic") {
        match reset::partitions_of(admin, topic) {
            Ok(found) => partitions.extend(found),
            Err(End::Failed(failure)) => rows.push((TopicPartition::new(topic, -1), Some(failure))),
            Err(end) => return Err(end),
        }
    }
    let outcome = if partitions.is_empty() { Ok(Vec::new()) } else { admin.forget_committed(group, &partitions) };
    match outcome {
        Ok(outcomes) => {
            if outcomes.iter().all(|(_, failure)| failure.is_none()) {
                writeln!(out, "Request succeeded for deleting offsets from group {group}.")?;
            } else {
                writeln!(out, "\nError: Encountered some partition-level error, see the follow-up details.")?;
            }
            rows.extend(outcomes);
        }
        Err(failure) => {
            writeln!(out, "\nError: {failure}")?;
            rows.extend(partitions.into_iter().map(|of| (of, Some(failure.clone()))));
        }
    }
    rows.sort_by_key(|(of, _)| format!("{}{}", of.topic, of.partition));
    let width = rows.iter().map(|(of, _)| of.topic.len()).fold(FIRST_COLUMN, usize::max);
    write!(out, "\n{:width$} {:10} {:15}", "TOPIC", "PARTITION", "STATUS")?;
    for (of, failure) in rows {
        let partition = if of.partition < 0 { "-".to_owned() } else { of.partition.to_string() };
        let status =
            failure.map_or_else(|| "Successful".to_owned(), |failure| format!("Error: {}", failure.exception()));
        write!(out, "\n{:width$} {partition:10} {status:15}", of.topic)?;
    }
    writeln!(out)?;
    Ok(())
}
