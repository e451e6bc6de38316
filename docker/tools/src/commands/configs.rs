//! `kafka-configs`: settings of topics, brokers and groups. Those of users, clients and addresses are not built in StreamHouse.

use std::io::Write as _;

use super::{Command, check_invalid};
use crate::client::native::{Admin, Alteration, ConfigEntry, Resource};
use crate::client::properties;
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, switch, value};
use crate::output::{End, Out};

/// All kinds of Kafka; what each is called in a sentence.
const KINDS: [(&str, &str); 8] = [
    ("topics", "topic"),
    ("clients", "client"),
    ("users", "user"),
    ("brokers", "broker"),
    ("ips", "ip"),
    ("client-metrics", "client-metric"),
    ("groups", "group"),
    ("broker-loggers", "broker-logger"),
];

pub(super) const COMMAND: Command = Command {
    name: "kafka-configs",
    about: "This tool helps to manipulate and describe entity config for a topic, client, user, broker, ip, client-metrics or group",
    flags: FLAGS,
    run,
    failed: |failure| {
        let own = |word: &String| word.strip_suffix(".sh").unwrap_or(word).ends_with("kafka-configs");
        let words = std::env::args().skip(1).enumerate().filter(|(at, word)| *at > 0 || !own(word));
        let words = words.map(|(_, word)| word).collect::<Vec<_>>().join(" ");
        let text = format!("Error while executing config command with args '{words}'");
        End::Said(format!("{text}\njava.util.concurrent.ExecutionException: {}", failure.exception()))
    },
    wrong_flag: End::Said,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "The Kafka servers to connect to."),
    value("bootstrap-controller", "The same: there are no controllers."),
    value("command-config", "Property file with settings of the client."),
    switch("alter", "Change settings."),
    switch("describe", "List settings."),
    switch("all", "With --describe: those too that nobody has set."),
    value("entity-type", "topics, brokers or groups."),
    value("entity-name", "A topic, the id of a broker, or a group."),
    switch("entity-default", "The defaults of all brokers."),
    value("topic", "A topic."),
    value("broker", "The id of a broker."),
    switch("broker-defaults", "The defaults of all brokers."),
    value("group", "A group."),
    value("client", "Not built."),
    value("user", "Not built."),
    value("ip", "Not built."),
    value("broker-logger", "Not built."),
    value("client-metrics", "Not built."),
    switch("client-defaults", "Not built."),
    switch("user-defaults", "Not built."),
    switch("ip-defaults", "Not built."),
    value("add-config", "Settings to change: k1=v1,k2=[v1,v2,v2],k3=v3"),
    value("add-config-file", "A property file of settings to change."),
    value("delete-config", "Settings that go back to their defaults: k1,k2"),
    switch("force", "Has no effect."),
];

/// Whose settings: a kind, and which of it. Without a name, all of the kind.
#[derive(Debug, PartialEq, Eq)]
struct Entity {
    kind: &'static str,
    name: Option<String>,
    is_default: bool,
}

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    if flags.count(&["alter", "describe"]) != 1 {
        return Err(End::usage("Command must include exactly one action: --describe, --alter"));
    }
    check_invalid(flags, "describe", &["add-config", "add-config-file", "delete-config"])?;
    let servers = flags.count(&["bootstrap-server", "bootstrap-controller"]);
    if servers != 1 {
        let text = match servers {
            0 => "Either --bootstrap-server or --bootstrap-controller must be specified.",
            _ => "Only one of --bootstrap-server or --bootstrap-controller can be specified",
        };
        return Err(End::Said(text.to_owned()));
    }
    let entity = Entity::of(flags)?;
    check(flags, &entity)?;
    let changes = changes(flags)?;
    let mut properties = match flags.value("command-config").map_err(End::Said)? {
        Some(path) => properties::load(path)?,
        None => properties::Properties::new(),
    };
    let servers = ["bootstrap-server", "bootstrap-controller"].iter().find_map(|name| flags.values(name).pop());
    properties.insert("bootstrap.servers".to_owned(), servers.unwrap_or_default().to_owned());
    let admin = Admin::new(&Settings::of(&properties)?)?;
    if flags.has("alter") { alter(&admin, &entity, changes, out) } else { describe(&admin, flags, &entity, out) }
}

impl Entity {
    fn of(flags: &Flags) -> Result<Self, End> {
        let kinds = flags.values("entity-type");
        let mut found = Vec::new();
        for (name, of) in flags.given() {
            let of = of.map(str::to_owned);
            match name {
                "topic" | "client" | "user" | "broker" | "ip" | "group" => found.push((format!("{name}s"), of, false)),
                "broker-logger" => found.push(("broker-loggers".to_owned(), of, false)),
                "client-metrics" => found.push((name.to_owned(), of, false)),
                "broker-defaults" | "client-defaults" | "user-defaults" | "ip-defaults" => {
                    found.push((name.replace("-defaults", "s"), None, true));
                }
                _ => {}
            }
        }
        let general = !kinds.is_empty() || flags.count(&["entity-name", "entity-default"]) > 0;
        if general && !found.is_empty() {
            let text = "--entity-{type,name,default} should not be used in conjunction with specific entity flags";
            return Err(End::Said(text.to_owned()));
        }
        let name = flags.values("entity-name").first().map(|name| (*name).to_owned());
        found.extend(kinds.iter().map(|kind| ((*kind).to_owned(), name.clone(), flags.has("entity-default"))));
        let valid = |kind: &str| KINDS.iter().find(|(known, _)| *known == kind).map(|(known, _)| *known);
        let mut entities = found.into_iter().map(|(kind, name, is_default)| match valid(&kind) {
            Some(kind) => Ok(Self { kind, name, is_default }),
            None => {
                let all = KINDS.map(|(known, _)| known).join(", ");
                let text = format!("Invalid entity type {kind}, the entity type must be one of {all}");
                Err(End::Said(text + " with a --bootstrap-server or --bootstrap-controller argument"))
            }
        });
        let first =
            entities.next().ok_or_else(|| End::Said("At least one entity type must be specified".to_owned()))??;
        match entities.next().transpose()? {
            None => Ok(first),
            Some(second) if second.kind == first.kind => {
                Err(End::Said(format!("Duplicate entity type(s) specified: {}", first.kind)))
            }
            Some(second) if [first.kind, second.kind].iter().all(|kind| ["users", "clients"].contains(kind)) => {
                Ok(first)
            }
            Some(_) => Err(End::Said("Only 'users' and 'clients' entity types may be specified together".to_owned())),
        }
    }

    fn singular(&self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or(self.kind, |(_, singular)| *singular)
    }

    fn resource(&self, name: &str) -> Result<Resource, End> {
        match self.kind {
            "topics" => Ok(Resource::Topic(name.to_owned())),
            "brokers" => Ok(Resource::Broker(name.to_owned())),
            "groups" => Ok(Resource::Group(name.to_owned())),
            kind => Err(End::Said(format!("Settings of {kind} are not built in StreamHouse."))),
        }
    }
}

fn check(flags: &Flags, entity: &Entity) -> Result<(), End> {
    let said = |text: String| Err(End::Said(text));
    if let (true, Some(id)) = (entity.kind.starts_with("broker"), &entity.name)
        && !id.is_empty()
        && id.parse::<i32>().is_err()
    {
        return said(format!("The entity name for {} must be a valid integer broker id, but it is: {id}", entity.kind));
    }
    if flags.has("describe") {
        return Ok(());
    }
    if flags.count(&["add-config", "add-config-file"]) == 2 {
        return said("Only one of --add-config or --add-config-file must be specified".to_owned());
    }
    let has_name = entity.name.is_some();
    if ["users", "clients", "brokers", "ips"].contains(&entity.kind) {
        if !has_name && !entity.is_default {
            let text =
                "An entity-name or default entity must be specified with --alter of users, clients, brokers or ips";
            return said(text.to_owned());
        }
    } else if !has_name {
        return said(format!("An entity name must be specified with --alter of {}", entity.kind));
    }
    if flags.count(&["add-config", "add-config-file", "delete-config"]) == 0 {
        let text = "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter";
        return said(text.to_owned());
    }
    Ok(())
}

/// What the flags say of settings.
fn changes(flags: &Flags) -> Result<Vec<(String, Alteration)>, End> {
    let mut changes = Vec::new();
    if let Some(path) = flags.value("add-config-file").map_err(End::Said)? {
        changes.extend(properties::load(path)?.into_iter().map(|(name, value)| (name, Alteration::Set(value))));
    }
    if let Some(text) = flags.value("add-config").map_err(End::Said)? {
        for pair in outside_brackets(text) {
            let Some((name, value)) = pair.split_once('=') else {
                let text = "requirement failed: Invalid entity config: all configs to be added must be in the format \
                            \"key=val\" or  \"key=[val1,val2]\" to group values which contain commas.";
                return Err(End::Said(text.to_owned()));
            };
            let value = value.replace(['[', ']'], "").trim().to_owned();
            changes.push((name.trim().to_owned(), Alteration::Set(value)));
        }
    }
    let deleted = flags.values("delete-config").into_iter().flat_map(|names| names.split(','));
    changes.extend(deleted.map(|name| (name.trim().to_owned(), Alteration::Delete)));
    Ok(changes)
}

/// Splits at the commas that are not between brackets.
fn outside_brackets(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let split = text.split(|character| {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        character == ',' && depth <= 0
    });
    split.collect()
}

fn alter(admin: &Admin, entity: &Entity, changes: Vec<(String, Alteration)>, out: &mut Out) -> Result<(), End> {
    let name = entity.name.clone().unwrap_or_default();
    if name.is_empty() && entity.kind == "brokers" {
        // librdkafka takes no resource without a name.
        return Err(End::Said(
            "The defaults of all brokers cannot be changed here; change those of each broker.".to_owned(),
        ));
    }
    let resource = entity.resource(&name)?;
    let has_deleted = changes.iter().any(|(_, change)| *change == Alteration::Delete);
    if has_deleted {
        let set = own(admin, entity, &name, false)?;
        let is_set = |config: &str| set.iter().any(|entry| entry.name == config);
        let deleted = changes.iter().filter(|(_, change)| *change == Alteration::Delete);
        let wrong: Vec<_> = deleted.map(|(config, _)| &**config).filter(|config| !is_set(config)).collect();
        if !wrong.is_empty() {
            return Err(End::Said(format!("Invalid config(s): {}", wrong.join(","))));
        }
    }
    admin.alter_configs(&resource, &changes)?;
    if name.is_empty() {
        writeln!(out, "Completed updating default config for {} in the cluster.", entity.kind)?;
    } else {
        writeln!(out, "Completed updating config for {} {name}.", entity.singular())?;
    }
    Ok(())
}

/// The settings of an entity that somebody gave to just that entity, or all of them.
fn own(admin: &Admin, entity: &Entity, name: &str, all: bool) -> Result<Vec<ConfigEntry>, End> {
    // What all brokers have in common, each of them shows; librdkafka takes no resource without a name.
    let any = |admin: &Admin| Ok::<_, End>(admin.nodes()?.first().map_or(0, |node| node.id).to_string());
    let asked = if name.is_empty() && entity.kind == "brokers" { any(admin)? } else { name.to_owned() };
    let mut entries = admin.describe_configs(&entity.resource(&asked)?)?;
    let source = match entity.kind {
        "topics" => "DYNAMIC_TOPIC_CONFIG",
        "groups" => "GROUP_CONFIG",
        _ if name.is_empty() => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        _ => "DYNAMIC_BROKER_CONFIG",
    };
    entries.retain(|entry| (all && !name.is_empty()) || entry.source == source);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn describe(admin: &Admin, flags: &Flags, entity: &Entity, out: &mut Out) -> Result<(), End> {
    let all = flags.has("all");
    let named = entity.name.clone().into_iter().chain(entity.is_default.then(String::new)).next();
    let names = match (named, entity.kind) {
        (Some(name), "topics") if !admin.topics()?.contains_key(&name) => {
            writeln!(out, "The topic '{name}' doesn't exist and doesn't have dynamic config.")?;
            return Ok(());
        }
        (Some(name), _) => vec![name],
        (None, "topics") => admin.topics()?.into_keys().collect(),
        (None, "brokers") => {
            let mut ids: Vec<_> = admin.nodes()?.into_iter().map(|node| node.id).collect();
            ids.sort_unstable();
            ids.iter().map(i32::to_string).chain([String::new()]).collect()
        }
        (None, "groups") => admin.groups()?.into_iter().map(|group| group.id).collect(),
        (None, _) => vec![String::new()],
    };
    for name in names {
        let entries = own(admin, entity, &name, all)?;
        match (&*name, all) {
            ("", _) => writeln!(out, "Default configs for {} in the cluster are:", entity.kind)?,
            (_, true) => writeln!(out, "All configs for {} {name} are:", entity.singular())?,
            (_, false) => writeln!(out, "Dynamic configs for {} {name} are:", entity.singular())?,
        }
        entries.iter().try_for_each(|entry| writeln!(out, "{}", row(entry)))?;
    }
    Ok(())
}

fn row(entry: &ConfigEntry) -> String {
    let value = |entry: &ConfigEntry| entry.value.clone().unwrap_or_else(|| "null".to_owned());
    let synonym = |synonym: &ConfigEntry| format!("{}:{}={}", synonym.source, synonym.name, value(synonym));
    let synonyms: Vec<_> = entry.synonyms.iter().map(synonym).collect();
    let synonyms = synonyms.join(", ");
    format!("  {}={} sensitive={} synonyms={{{synonyms}}}", entry.name, value(entry), entry.is_sensitive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        Flags::parse(FLAGS, &line.split(' ').map(str::to_owned).collect::<Vec<_>>()).expect("flags")
    }

    #[test]
    fn values_with_commas_are_in_brackets() {
        let line = "--add-config cleanup.policy=[compact,delete],retention.ms=5 --delete-config a,b";
        let expected = [
            ("cleanup.policy", Alteration::Set("compact,delete".to_owned())),
            ("retention.ms", Alteration::Set("5".to_owned())),
            ("a", Alteration::Delete),
            ("b", Alteration::Delete),
        ];
        assert_eq!(changes(&flags(line)).expect("changes"), expected.map(|(name, change)| (name.to_owned(), change)));
        assert!(changes(&flags("--add-config foo")).is_err());
    }

    #[test]
    fn both_ways_to_name_an_entity() {
        let topic = Entity { kind: "topics", name: Some("a".to_owned()), is_default: false };
        assert_eq!(Entity::of(&flags("--topic a")).expect("a topic"), topic);
        assert_eq!(Entity::of(&flags("--entity-type topics --entity-name a")).expect("a topic"), topic);
        let brokers = Entity { kind: "brokers", name: None, is_default: true };
        assert_eq!(Entity::of(&flags("--broker-defaults")).expect("brokers"), brokers);
        assert_eq!(Entity::of(&flags("--entity-type brokers --entity-default")).expect("brokers"), brokers);
        for wrong in ["--describe", "--entity-type x", "--topic a --entity-type topics", "--topic a --broker 1"] {
            assert!(Entity::of(&flags(wrong)).is_err(), "{wrong}");
        }
    }
}
