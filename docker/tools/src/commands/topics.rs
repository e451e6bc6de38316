//! `kafka-topics`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write as _;

use super::{Command, check_invalid, check_required};
use crate::client::Failure;
use crate::client::native::{Admin, ConfigEntry, NewTopic, Partition, Resource, Topic};
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, switch, value};
use crate::output::{End, Out};
use crate::patterns::{Topics, is_internal};

const ABOUT: &str = "This tool helps to create, delete, describe, or change a topic.";
const ACTIONS: [&str; 5] = ["list", "create", "delete", "alter", "describe"];
/// Flags of `--describe` that show some partitions only.
const REPORTS: [&str; 4] =
    ["under-replicated-partitions", "unavailable-partitions", "under-min-isr-partitions", "at-min-isr-partitions"];
const SEE_CONFIGS: &str = " (To alter topic configurations, the kafka-configs tool can be used.)";

pub(super) const COMMAND: Command = Command {
    name: "kafka-topics",
    about: ABOUT,
    flags: FLAGS,
    run,
    failed: |failure| {
        eprintln!("ERROR {} (org.apache.kafka.tools.TopicCommand)", failure.exception());
        printed(&failure.message)
    },
    wrong_flag: End::Said,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "REQUIRED: The Kafka server to connect to."),
    value("command-config", "Property file with settings of the client."),
    switch("list", "List all topics."),
    switch("create", "Create a topic."),
    switch("delete", "Delete a topic."),
    switch("alter", "Raise the number of partitions."),
    switch("describe", "List details of topics."),
    value("topic", "The topic to create, alter, describe or delete; a regular expression, except with --create."),
    value("topic-id", "The id of the topic to describe."),
    value("config", "name=value: a setting of the topic that is created."),
    value("delete-config", "No longer has an effect; see kafka-configs."),
    value("partitions", "The number of partitions. The default of the cluster is used without it."),
    value("replication-factor", "The replication factor. The default of the cluster is used without it."),
    value("replica-assignment", "The brokers of each partition: 1:2,2:3 for two partitions of two replicas."),
    switch("under-replicated-partitions", "Describe partitions only that lack replicas."),
    switch("unavailable-partitions", "Describe partitions only that have no leader."),
    switch("under-min-isr-partitions", "Describe partitions only with fewer replicas in sync than configured."),
    switch("at-min-isr-partitions", "Describe partitions only with as many replicas in sync as configured at least."),
    switch("topics-with-overrides", "Describe topics only that have settings of their own."),
    switch("if-exists", "With --alter, --delete, --describe: a topic that is not there is no error."),
    switch("if-not-exists", "With --create: a topic that is there is no error."),
    switch("exclude-internal", "Leave out internal topics when listing or describing."),
    value("partition-size-limit-per-response", "Has no effect."),
];

/// What goes wrong once the flags were read is said on standard output.
fn printed(text: &str) -> End {
    End::Printed(format!("Error while executing topic command : {text}"))
}

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    if flags.count(&ACTIONS) != 1 {
        let text = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
        return Err(End::usage(text));
    }
    if flags.has("delete-config") {
        let text = "delete-config option is no longer supported and deprecated since version 4.0. \
                    The config will be fully removed in future releases.";
        eprintln!("{text}");
    }
    check(flags)?;
    let new = Wanted::of(flags)?;
    let admin = Admin::new(&Settings::of_flags(flags)?)?;
    match ACTIONS.iter().find(|action| flags.has(action)).copied() {
        Some("create") => create(&admin, flags, &new, out),
        Some("alter") => alter(&admin, flags, &new),
        Some("delete") => delete(&admin, flags),
        Some("describe") => describe(&admin, flags, out),
        _ => {
            writeln!(out, "{}", found(&admin, flags)?.join("\n"))?;
            Ok(())
        }
    }
}

fn check(flags: &Flags) -> Result<(), End> {
    if !flags.has("bootstrap-server") {
        return Err(End::Said("--bootstrap-server must be specified".to_owned()));
    }
    if flags.has("describe") && flags.has("if-exists") && flags.count(&["topic", "topic-id"]) == 0 {
        return Err(End::usage("--topic or --topic-id is required to describe a topic"));
    }
    if !flags.has("list") && !flags.has("describe") {
        check_required(flags, &["topic"])?;
    }
    if flags.has("alter") {
        if flags.has("config") {
            let text = "Option combination \"[bootstrap-server],[config]\" can't be used with option \"[alter]\"";
            return Err(End::usage(format!("{text}{SEE_CONFIGS}")));
        }
        check_required(flags, &["partitions"])?;
    }
    let others =
        |kept: &[&'static str]| ACTIONS.into_iter().filter(|action| !kept.contains(action)).collect::<Vec<_>>();
    for (flag, with) in [
        ("config", &["alter", "create"][..]),
        ("partitions", &["alter", "create"]),
        ("replication-factor", &["create"]),
        ("replica-assignment", &["alter", "create"]),
        ("if-exists", &["alter", "delete", "describe"]),
        ("if-not-exists", &["create"]),
        ("exclude-internal", &["list", "describe"]),
        ("topics-with-overrides", &["describe"]),
    ] {
        check_invalid(flags, flag, &others(with))?;
    }
    if flags.has("create") {
        check_invalid(flags, "replica-assignment", &["partitions", "replication-factor"])?;
    }
    for report in REPORTS {
        check_invalid(flags, report, &others(&["describe"]))?;
        check_invalid(flags, report, &["topics-with-overrides"])?;
    }
    Ok(())
}

/// What the flags say of a topic.
struct Wanted {
    topic: Option<String>,
    partitions: Option<i32>,
    replication: Option<i32>,
    assignment: Vec<Vec<i32>>,
    configs: BTreeMap<String, String>,
}

impl Wanted {
    fn of(flags: &Flags) -> Result<Self, End> {
        let said = |text: String| printed(&text);
        let mut configs = BTreeMap::new();
        for word in flags.values("config") {
            let Some((name, value)) = word.split_once('=') else {
                let text = "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".";
                return Err(printed(text));
            };
            configs.insert(name.trim().to_owned(), value.trim().to_owned());
        }
        Ok(Self {
            topic: flags.value("topic").map_err(said)?.map(str::to_owned),
            partitions: flags.number("partitions").map_err(said)?,
            replication: flags.number("replication-factor").map_err(said)?,
            assignment: flags.value("replica-assignment").map_err(said)?.map_or(Ok(Vec::new()), assignment)?,
            configs,
        })
    }
}

/// `1:2,2:3`: for each partition its brokers.
fn assignment(text: &str) -> Result<Vec<Vec<i32>>, End> {
    let failed = |text: String| printed(&text);
    let mut partitions: Vec<Vec<i32>> = Vec::new();
    for (place, list) in text.split(',').enumerate() {
        let number =
            |word: &str| word.trim().parse().map_err(|_| failed(format!("For input string: \"{}\"", word.trim())));
        let brokers: Vec<i32> = list.split(':').map(number).collect::<Result<_, _>>()?;
        let mut seen = BTreeSet::new();
        let twice: Vec<String> = brokers.iter().filter(|id| !seen.insert(**id)).map(i32::to_string).collect();
        if !twice.is_empty() {
            let text = format!("Partition replica lists may not contain duplicate entries: {}", twice.join(","));
            return Err(failed(text));
        }
        if partitions.first().is_some_and(|first| first.len() != brokers.len()) {
            return Err(failed(format!("Partition {place} has different replication factor: {brokers:?}")));
        }
        partitions.push(brokers);
    }
    Ok(partitions)
}

fn create(admin: &Admin, flags: &Flags, new: &Wanted, out: &mut Out) -> Result<(), End> {
    let name = new.topic.clone().unwrap_or_default();
    if name.contains(['.', '_']) {
        let text = "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could \
                    collide. To avoid issues it is best to use either, but not both.";
        writeln!(out, "{text}")?;
    }
    if new.replication.is_some_and(|factor| !(1..=i32::from(i16::MAX)).contains(&factor)) {
        let text = format!("The replication factor must be between 1 and {} inclusive", i16::MAX);
        return Err(printed(&text));
    }
    if new.partitions.is_some_and(|partitions| partitions < 1) {
        return Err(printed("The partitions must be greater than 0"));
    }
    let topic = NewTopic {
        name: name.clone(),
        partitions: new.partitions,
        replication: new.replication,
        assignment: new.assignment.clone(),
        configs: new.configs.clone(),
    };
    match admin.create_topic(&topic) {
        Ok(()) => writeln!(out, "Created topic {name}.")?,
        Err(failure) if failure.code == Failure::TOPIC_EXISTS && flags.has("if-not-exists") => {}
        Err(failure) => return Err(failure.into()),
    }
    Ok(())
}

fn alter(admin: &Admin, flags: &Flags, new: &Wanted) -> Result<(), End> {
    let total = new.partitions.unwrap_or_default();
    for name in existing(admin, flags)? {
        let had = admin.topics()?.get(&name).map_or(0, Vec::len);
        let added = new.assignment.get(had..).unwrap_or_default();
        // A number that is none is the cluster's to refuse.
        admin.add_partitions(&name, usize::try_from(total).unwrap_or_default(), added)?;
    }
    Ok(())
}

fn delete(admin: &Admin, flags: &Flags) -> Result<(), End> {
    let names = existing(admin, flags)?;
    for (_, outcome) in admin.delete_topics(&names)? {
        outcome?;
    }
    Ok(())
}

/// The topics that the flags name, in order.
fn found(admin: &Admin, flags: &Flags) -> Result<Vec<String>, End> {
    let wanted = flags.value("topic").map_err(End::Said)?.map(Topics::parse).transpose()?;
    let leaves_out = |name: &str| flags.has("exclude-internal") && is_internal(name);
    let is_wanted = |name: &String| wanted.as_ref().is_none_or(|topics| topics.has(name)) && !leaves_out(name);
    Ok(admin.topics()?.into_keys().filter(is_wanted).collect())
}

/// The same; that there is none is an error unless `--if-exists` says otherwise.
fn existing(admin: &Admin, flags: &Flags) -> Result<Vec<String>, End> {
    let names = found(admin, flags)?;
    match flags.value("topic").map_err(End::Said)? {
        Some(topic) if !topic.is_empty() && names.is_empty() && !flags.has("if-exists") => {
            Err(printed(&format!("Topic '{topic}' does not exist as expected")))
        }
        _ => Ok(names),
    }
}

fn describe(admin: &Admin, flags: &Flags, out: &mut Out) -> Result<(), End> {
    let id = flags.value("topic-id").map_err(End::Said)?;
    let names = if id.is_some() { admin.topics()?.into_keys().collect() } else { existing(admin, flags)? };
    let topics = admin.describe_topics(&names)?.into_iter().map(|(_, topic)| topic);
    let mut topics = topics.collect::<Result<Vec<_>, _>>()?;
    if let Some(id) = id {
        topics.retain(|topic| topic.id == id);
        if topics.is_empty() && !flags.has("if-exists") {
            return Err(printed(&format!("TopicId '{id}' does not exist as expected")));
        }
    }
    let live: BTreeSet<i32> = admin.nodes()?.into_iter().map(|node| node.id).collect();
    for topic in &topics {
        let configs = admin.describe_configs(&Resource::Topic(topic.name.clone()))?;
        describe_topic(flags, topic, &configs, &live, out)?;
    }
    Ok(())
}

fn describe_topic(
    flags: &Flags,
    topic: &Topic,
    configs: &[ConfigEntry],
    live: &BTreeSet<i32>,
    out: &mut Out,
) -> Result<(), End> {
    let reports = flags.count(&REPORTS) > 0;
    let own = configs.iter().filter(|entry| !entry.is_default());
    let own: Vec<_> = own.map(|entry| format!("{}={}", entry.name, entry.value.as_deref().unwrap_or("null"))).collect();
    if !reports && (!flags.has("topics-with-overrides") || !own.is_empty()) {
        let replication = topic.partitions.first().map_or(0, |partition| partition.replicas.len());
        writeln!(
            out,
            "Topic: {}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {replication}\tConfigs: {}",
            topic.name,
            topic.id,
            topic.partitions.len(),
            own.join(","),
        )?;
    }
    if flags.has("topics-with-overrides") {
        return Ok(());
    }
    let least = configs.iter().find(|entry| entry.name == "min.insync.replicas");
    let least = least.and_then(|entry| entry.value.as_deref()?.parse().ok()).unwrap_or(1_usize);
    for partition in &topic.partitions {
        let in_sync = partition.isr.len();
        let is_shown = !reports
            || flags.has("under-replicated-partitions") && in_sync < partition.replicas.len()
            || flags.has("unavailable-partitions") && partition.leader.is_none_or(|leader| !live.contains(&leader))
            || flags.has("under-min-isr-partitions") && (partition.leader.is_none() || in_sync < least)
            || flags.has("at-min-isr-partitions") && in_sync == least;
        if is_shown {
            writeln!(out, "{}", row(&topic.name, partition))?;
        }
    }
    Ok(())
}

fn row(topic: &str, partition: &Partition) -> String {
    let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",");
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {}\tReplicas: {}\tIsr: {}\tElr: \tLastKnownElr: ",
        partition.id,
        partition.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
        ids(&partition.replicas),
        ids(&partition.isr),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_of_each_partition() {
        assert_eq!(assignment("1:2,2:1").expect("two of two"), [vec![1, 2], vec![2, 1]]);
        for wrong in ["1:1", "1:2,1", "a"] {
            assert!(assignment(wrong).is_err(), "{wrong}");
        }
    }
}
