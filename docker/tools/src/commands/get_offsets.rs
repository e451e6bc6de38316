//! `kafka-get-offsets`.

use std::io::Write as _;
use std::ops::Range;

use super::{Command, check_required};
use crate::client::TopicPartition;
use crate::client::native::{Admin, Wanted};
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, switch, value};
use crate::output::{End, Out};
use crate::patterns::{Topics, is_internal};

const MEANINGS: &str = "-1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered \
                        / -6 or earliest-pending-upload, or a specified long format timestamp";

pub(super) const COMMAND: Command = Command {
    name: "kafka-get-offsets",
    about: "An interactive shell for getting topic-partition offsets.",
    flags: FLAGS,
    run,
    failed: |failure| said(&failure.to_string()),
    wrong_flag: |text| said(&text),
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "REQUIRED. The servers to connect to: HOST1:PORT1,HOST2:PORT2."),
    value("command-config", "Property file with settings of the client."),
    value("topic", "The topics, as a regular expression. All without it."),
    value("partitions", "Numbers of partitions with commas between them. All without it."),
    value("topic-partitions", "Patterns with commas between them: topic, topic:1, topic:0-3, topic:5-, topic:-3, :1."),
    value("time", "A timestamp, or latest, earliest, max-timestamp. Without it: latest."),
    switch("exclude-internal-topics", "Leave out internal topics."),
];

fn said(text: &str) -> End {
    End::Said(format!("Error occurred: {text}"))
}

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    check_required(flags, &["bootstrap-server"])?;
    let one = |name| flags.value(name).map_err(|text| said(&text));
    if flags.has("topic-partitions") && flags.count(&["topic", "partitions"]) > 0 {
        return Err(said("--topic-partitions cannot be used with --topic or --partitions"));
    }
    let wanted = wanted(one("time")?.unwrap_or("latest"))?;
    let rules = match one("topic-partitions")? {
        Some(text) => text.split(',').map(Rule::parse).collect::<Result<Vec<_>, _>>()?,
        None => vec![Rule::of(one("topic")?.unwrap_or(".*"), one("partitions")?.unwrap_or_default())?],
    };
    let admin = Admin::new(&Settings::of_flags(flags)?)?;
    let mut partitions = Vec::new();
    for (topic, ids) in admin.topics()? {
        if flags.has("exclude-internal-topics") && is_internal(&topic) {
            continue;
        }
        let is_wanted = |id: &i32| rules.iter().any(|rule| rule.finds(&topic, *id));
        partitions.extend(ids.into_iter().filter(is_wanted).map(|id| TopicPartition::new(&*topic, id)));
    }
    if partitions.is_empty() {
        return Err(said("Could not match any topic-partitions with the specified filters"));
    }
    // Kafka sorts them as texts: partition 10 stands before partition 2.
    let mut offsets = match wanted {
        Some(wanted) => admin.list_offsets(&partitions, wanted)?,
        None => Vec::new(),
    };
    offsets.sort_by_key(|(of, _)| of.to_string());
    for (of, offset) in offsets {
        match offset {
            Ok(-1) => {}
            Ok(offset) => writeln!(out, "{}:{}:{offset}", of.topic, of.partition)?,
            Err(failure) => {
                eprintln!("Skip getting offsets for topic-partition {of} due to error: {}", failure.exception());
            }
        }
    }
    Ok(())
}

/// Nothing for offsets that only tiers of storage have: there are none.
fn wanted(text: &str) -> Result<Option<Wanted>, End> {
    Ok(Some(match text {
        "latest" | "-1" => Wanted::Latest,
        "earliest" | "-2" | "earliest-local" | "-4" => Wanted::Earliest,
        "max-timestamp" | "-3" => Wanted::MaxTimestamp,
        "latest-tiered" | "-5" | "earliest-pending-upload" | "-6" => return Ok(None),
        time => match time.parse() {
            Ok(time) => Wanted::At(time),
            Err(_) => return Err(said(&format!("Malformed time argument {text}. Please use {MEANINGS}"))),
        },
    }))
}

/// Some partitions of some topics.
#[derive(Debug)]
struct Rule {
    topics: Topics,
    partitions: Vec<Range<i32>>,
}

impl Rule {
    fn of(topics: &str, partitions: &str) -> Result<Self, End> {
        let wrong = || said("--partitions expects a comma separated list of numeric partition ids, but received: ");
        let number = |word: &str| {
            word.trim().parse().map_err(|_| match wrong() {
                End::Said(text) => End::Said(format!("{text}{partitions}")),
                end => end,
            })
        };
        let ids = partitions.split(',').filter(|word| !word.is_empty()).map(number).collect::<Result<Vec<i32>, _>>()?;
        let everything = Some(0..i32::MAX).filter(|_| ids.is_empty());
        let partitions = ids.iter().map(|id| *id..id.saturating_add(1)).chain(everything).collect();
        Ok(Self { topics: Topics::parse(topics)?, partitions })
    }

    /// `topic:1`, `topic:0-3`, `topic:5-`, `topic:-3`, `topic`, `:1`.
    fn parse(text: &str) -> Result<Self, End> {
        let (topics, range) = text.split_once(':').unwrap_or((text, ""));
        let wrong = || said(&format!("Invalid rule specification: {text}"));
        let number =
            |word: &str, missing| if word.is_empty() { Ok(missing) } else { word.parse().map_err(|_| wrong()) };
        let range = match range.split_once('-') {
            Some((from, to)) => number(from, 0)?..number(to, i32::MAX)?,
            None if range.is_empty() => 0..i32::MAX,
            None => number(range, 0)?..number(range, 0)?.saturating_add(1),
        };
        let topics = Topics::parse(if topics.is_empty() { ".*" } else { topics })?;
        Ok(Self { topics, partitions: vec![range] })
    }

    fn finds(&self, topic: &str, id: i32) -> bool {
        self.topics.has(topic) && self.partitions.iter().any(|range| range.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_topics_and_partitions() {
        let finds = |rule: &str| {
            let rule = Rule::parse(rule).expect(rule);
            (0..6).filter(|id| rule.finds("a", *id)).collect::<Vec<_>>()
        };
        assert_eq!(finds("a"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(finds("a:1"), [1]);
        assert_eq!(finds(":1-3"), [1, 2]);
        assert_eq!(finds("a:4-"), [4, 5]);
        assert_eq!(finds("a:-2"), [0, 1]);
        assert!(finds("b").is_empty());
        assert!(Rule::parse("a:x").is_err());
        let some = Rule::of("a|b", "0,3").expect("a rule");
        assert!(some.finds("b", 3) && !some.finds("b", 1));
    }
}
