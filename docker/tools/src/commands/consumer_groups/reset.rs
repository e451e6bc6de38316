//! `kafka-consumer-groups --reset-offsets`.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::{FIRST_COLUMN, chosen, thrown};
use crate::client::native::{Admin, Wanted};
use crate::client::{Failure, TopicPartition};
use crate::flags::Flags;
use crate::output::{End, Out};
use crate::times;

/// The ways to say where to.
const SCENARIOS: [&str; 8] =
    ["to-offset", "to-earliest", "to-current", "to-latest", "by-duration", "to-datetime", "from-file", "shift-by"];

type Offsets = BTreeMap<TopicPartition, i64>;

/// Whether the flags go together.
pub fn check(flags: &Flags) -> Result<(), End> {
    if flags.has("dry-run") && flags.has("execute") {
        return Err(End::usage("Option [reset-offsets] only accepts one of [execute] and [dry-run]"));
    }
    if flags.count(&["dry-run", "execute"]) == 0 {
        eprintln!(
            "WARN: No action will be performed as the --execute option is missing. In version 5.0, this command will \
             require either --dry-run or --execute to be specified. You should add the --dry-run option explicitly if \
             you are scripting this command and want to keep the current default behavior without prompting."
        );
    }
    for scenario in SCENARIOS {
        let others: Vec<_> = SCENARIOS.into_iter().filter(|other| *other != scenario).collect();
        super::check_invalid(flags, scenario, &others)?;
    }
    Ok(())
}

/// Works out the offsets of each group, commits them if it is to, and prints them.
pub fn run(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let mut resets: Vec<(String, Offsets)> = Vec::new();
    for (group, described) in admin.describe_groups(&chosen(admin, flags)?)? {
        let state = match described {
            Ok(described) => described.state,
            Err(failure) if failure.code == Failure::UNKNOWN_GROUP => "Dead".to_owned(),
            Err(failure) => return Err(failure.into()),
        };
        if !["Empty", "Dead"].contains(&&*state) {
            let text = format!("Assignments can only be reset if the group '{group}' is inactive");
            writeln!(out, "\nError: {text}, but the current state is {state}.")?;
            resets.push((group, Offsets::new()));
            continue;
        }
        let offsets = offsets(admin, flags, &group, out)?;
        if flags.has("execute") {
            admin.commit(&group, &offsets)?;
        }
        resets.push((group, offsets));
    }
    if flags.has("export") { export(&resets, flags.values("group").len() == 1, out) } else { show(&resets, out) }
}

fn show(resets: &[(String, Offsets)], out: &mut Out) -> Result<(), End> {
    let first = resets.iter().map(|(group, _)| group.len()).fold(FIRST_COLUMN, usize::max);
    let topics = resets.iter().flat_map(|(_, offsets)| offsets.keys());
    let second = topics.map(|of| of.topic.len()).fold(FIRST_COLUMN, usize::max);
    if !resets.is_empty() {
        write!(out, "\n{:first$} {:second$} {:10} NEW-OFFSET", "GROUP", "TOPIC", "PARTITION")?;
    }
    for (group, offsets) in resets {
        for (of, offset) in offsets {
            write!(out, "\n{group:first$} {:second$} {:<10} {offset}", of.topic, of.partition)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn export(resets: &[(String, Offsets)], is_one: bool, out: &mut Out) -> Result<(), End> {
    for (group, offsets) in resets {
        for (of, offset) in offsets {
            let of_group = if is_one { String::new() } else { format!("{group},") };
            writeln!(out, "{of_group}{},{},{offset}", of.topic, of.partition)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

/// The partitions of `topic`, or of `topic:0,1` those.
///
/// # Errors
/// If the topic is not there, or the text is not like that.
pub fn partitions_of(admin: &Admin, text: &str) -> Result<Vec<TopicPartition>, End> {
    let Some((topic, ids)) = text.split_once(':') else {
        let described = admin.describe_topics(&[text.to_owned()])?;
        let mut partitions = Vec::new();
        for (_, topic) in described {
            let topic = topic?;
            partitions.extend(topic.partitions.iter().map(|partition| TopicPartition::new(&*topic.name, partition.id)));
        }
        return Ok(partitions);
    };
    if ids.contains(':') || ids.is_empty() {
        let text = format!("Invalid topic arg '{text}', expected topic name and partitions");
        return Err(End::usage(text));
    }
    let number = |id: &str| {
        let id: Result<i32, _> =
            id.parse().map_err(|_| End::usage(format!("Invalid partition '{id}' specified in topic arg '{text}''")));
        id.map(|id| TopicPartition::new(topic, id))
    };
    ids.split(',').map(number).collect()
}

/// The new offsets of a group.
fn offsets(admin: &Admin, flags: &Flags, group: &str, out: &mut Out) -> Result<Offsets, End> {
    let partitions = scope(admin, flags, group)?;
    must_exist(admin, &partitions)?;
    let scenario = SCENARIOS.iter().find(|scenario| flags.has(scenario)).copied();
    match scenario {
        Some("to-offset") => {
            let offset: i64 = flags.number("to-offset").map_err(thrown)?.unwrap_or_default();
            in_range(admin, partitions.into_iter().map(|of| (of, offset)).collect())
        }
        Some("to-earliest") => known(admin, &partitions, Wanted::Earliest),
        Some("to-latest") => known(admin, &partitions, Wanted::Latest),
        Some("shift-by") => {
            let shift: i64 = flags.number("shift-by").map_err(thrown)?.unwrap_or_default();
            let committed = admin.committed(group)?;
            let shifted = |of: TopicPartition| match committed.get(&of) {
                Some(now) => Ok((of, now.offset.saturating_add(shift))),
                None => {
                    let text =
                        format!("Cannot shift offset for partition {of} since there is no current committed offset");
                    Err(End::usage(text))
                }
            };
            in_range(admin, partitions.into_iter().map(shifted).collect::<Result<_, _>>()?)
        }
        Some("to-datetime") => {
            let text = flags.value("to-datetime").map_err(thrown)?.unwrap_or_default();
            let time =
                times::datetime(text).ok_or_else(|| unparsable("java.text.ParseException: Unparseable date", text))?;
            at_time(admin, &partitions, time, out)
        }
        Some("by-duration") => {
            let text = flags.value("by-duration").map_err(thrown)?.unwrap_or_default();
            let length =
                times::duration(text).ok_or_else(|| unparsable("Text cannot be parsed to a Duration", text))?;
            at_time(admin, &partitions, crate::client::now() - length, out)
        }
        Some("from-file") => from_file(admin, flags, group, out),
        Some("to-current") => {
            let committed = admin.committed(group)?;
            let (with, without): (Vec<_>, Vec<_>) = partitions.into_iter().partition(|of| committed.contains_key(of));
            let mut offsets = known(admin, &without, Wanted::Latest)?;
            offsets.extend(with.into_iter().map(|of| {
                let offset = committed[&of].offset;
                (of, offset)
            }));
            Ok(offsets)
        }
        _ => {
            let scenarios = SCENARIOS.map(|scenario| format!("[{scenario}]")).join(", ");
            let text = format!("Option '[reset-offsets]' requires one of the following scenarios: [{scenarios}]");
            Err(End::usage(text))
        }
    }
}

fn unparsable(what: &str, text: &str) -> End {
    Failure { code: Failure::INVALID, message: format!("{what}: \"{text}\"") }.into()
}

/// The partitions that the flags name.
fn scope(admin: &Admin, flags: &Flags, group: &str) -> Result<Vec<TopicPartition>, End> {
    if flags.has("all-topics") {
        return Ok(admin.committed(group)?.into_keys().collect());
    }
    if !flags.has("topic") && !flags.has("from-file") {
        return Err(End::usage("One of the reset scopes should be defined: --all-topics, --topic."));
    }
    let mut partitions = Vec::new();
    for topic in flags.values("topic") {
        partitions.extend(partitions_of(admin, topic)?);
    }
    Ok(partitions)
}

fn must_exist(admin: &Admin, partitions: &[TopicPartition]) -> Result<(), End> {
    if partitions.is_empty() {
        return Ok(());
    }
    let topics = admin.topics()?;
    let exists = |of: &TopicPartition| topics.get(&of.topic).is_some_and(|ids| ids.contains(&of.partition));
    if partitions.iter().any(|of| !topics.contains_key(&of.topic)) {
        return Err(Failure::of(Failure::UNKNOWN_TOPIC, "").into());
    }
    let missing: Vec<_> = partitions.iter().filter(|of| !exists(of)).map(TopicPartition::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("The partitions \"{}\" do not exist", missing.join(","));
    Err(Failure { code: Failure::UNKNOWN_TOPIC, message }.into())
}

fn known(admin: &Admin, partitions: &[TopicPartition], wanted: Wanted) -> Result<Offsets, End> {
    let offsets = admin.list_offsets(partitions, wanted)?.into_iter();
    Ok(offsets.map(|(of, offset)| Ok((of, offset?))).collect::<Result<_, Failure>>()?)
}

/// Offsets before the beginning or behind the end of a log become those.
fn in_range(admin: &Admin, wanted: Offsets) -> Result<Offsets, End> {
    let partitions: Vec<_> = wanted.keys().cloned().collect();
    let begin = known(admin, &partitions, Wanted::Earliest)?;
    let end = known(admin, &partitions, Wanted::Latest)?;
    let clamped = |(of, offset): (TopicPartition, i64)| {
        let (first, last) = (begin.get(&of).copied().unwrap_or(0), end.get(&of).copied().unwrap_or(offset));
        let (what, value) = match offset {
            _ if offset > last => ("higher than latest", last),
            _ if offset < first => ("lower than earliest", first),
            _ => return (of, offset),
        };
        eprintln!("WARN New offset ({offset}) is {what} offset for topic partition {of}. Value will be set to {value}");
        (of, value)
    };
    Ok(wanted.into_iter().map(clamped).collect())
}

/// The first record at or after a time; the end of the log if there is none.
fn at_time(admin: &Admin, partitions: &[TopicPartition], time: i64, out: &mut Out) -> Result<Offsets, End> {
    let mut offsets = known(admin, partitions, Wanted::At(time))?;
    let without: Vec<_> = offsets.iter().filter(|(_, offset)| **offset < 0).map(|(of, _)| of.clone()).collect();
    for of in &without {
        let (partition, topic) = (of.partition, &of.topic);
        writeln!(
            out,
            "\nWarn: Partition {partition} from topic {topic} is empty. Falling back to latest known offset."
        )?;
    }
    offsets.extend(known(admin, &without, Wanted::Latest)?);
    Ok(offsets)
}

/// `topic,partition,offset` for one group, or `group,topic,partition,offset`.
fn from_file(admin: &Admin, flags: &Flags, group: &str, out: &mut Out) -> Result<Offsets, End> {
    let path = flags.value("from-file").map_err(thrown)?.unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|_| Failure {
        code: Failure::INVALID,
        message: format!("java.nio.file.NoSuchFileException: {path}"),
    })?;
    let plan = plan(&text, group, flags.values("group").len() == 1)?;
    if plan.is_empty() {
        writeln!(out, "\nError: No reset plan for group {group} found.")?;
        return Ok(plan);
    }
    must_exist(admin, &plan.keys().cloned().collect::<Vec<_>>())?;
    in_range(admin, plan)
}

/// What a file says of a group.
fn plan(text: &str, group: &str, is_one: bool) -> Result<Offsets, End> {
    let mut plan = Offsets::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let fields: Vec<_> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let (of_group, topic, partition, offset) = match *fields {
            [topic, partition, offset] if is_one => (group, topic, partition, offset),
            [of_group, topic, partition, offset] => (of_group, topic, partition, offset),
            _ => return Err(unparsable("Not a line of a reset plan", line)),
        };
        let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) else {
            return Err(unparsable("Not a line of a reset plan", line));
        };
        if of_group == group {
            plan.insert(TopicPartition::new(topic, partition), offset);
        }
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_of_one_group_and_of_several() {
        let one = plan("a,0,5\n\"b\",1,6\n", "g", true).expect("a plan");
        assert_eq!(one, Offsets::from([(TopicPartition::new("a", 0), 5), (TopicPartition::new("b", 1), 6)]));
        let several = plan("g,a,0,5\nh,a,0,6\n", "h", false).expect("a plan");
        assert_eq!(several, Offsets::from([(TopicPartition::new("a", 0), 6)]));
        assert!(plan("a,b", "g", true).is_err() && plan("a,x,1", "g", true).is_err());
    }
}
