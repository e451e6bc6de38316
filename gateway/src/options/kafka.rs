//! Kafka's broker settings: one table with Kafka's names and defaults drives parsing, DescribeConfigs and docs.
//!
//! Source: Kafka 4.2's `ServerConfigs`, `SocketServerConfigs`, `GroupCoordinatorConfig`, `ServerLogConfigs`. Broker-wide
//! defaults of topic configs (`log.retention.ms`, ...) come from the topic table itself.

use std::collections::BTreeMap;

use metadata::model::topic_config::{self, DEFINITIONS, Kind, TopicConfig};

use super::load::{OptionsError, nearest};

/// One broker setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Kafka's name.
    pub name: &'static str,
    /// Type and bounds.
    pub kind: Kind,
    /// Kafka's default, as text; ours where the doc says so.
    pub default: &'static str,
    /// What it means, in a sentence.
    pub doc: &'static str,
}

const fn setting(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Setting {
    Setting { name, kind, default, doc }
}

const I32: i64 = i32::MAX as i64;

/// The settings that act, in name order.
pub const SETTINGS: &[Setting] = &[
    setting(
        "auto.create.topics.enable",
        Kind::Bool,
        "true",
        "Whether a topic is made when a client first asks for it.",
    ),
    setting(
        "connections.max.idle.ms",
        Kind::Long(1_000, i64::MAX),
        "600000",
        "How long a connection may be silent before it is closed, ms.",
    ),
    setting(
        "default.replication.factor",
        Kind::Int(1, I32),
        "1",
        "Replication factor shown for topics made without one; the bucket replicates.",
    ),
    setting("delete.topic.enable", Kind::Bool, "true", "Whether clients may delete topics."),
    setting(
        "fetch.max.bytes",
        Kind::Int(1024, I32),
        "57671680",
        "Most bytes of one fetch answer, whatever the client asks for.",
    ),
    setting(
        "group.initial.rebalance.delay.ms",
        Kind::Int(0, I32),
        "3000",
        "How long a new group waits for more members before its first rebalance, ms.",
    ),
    setting(
        "group.max.session.timeout.ms",
        Kind::Int(1, I32),
        "1800000",
        "Longest session timeout a group member may ask for, ms.",
    ),
    setting("group.max.size", Kind::Int(1, I32), "2147483647", "Most members of one group."),
    setting(
        "group.min.session.timeout.ms",
        Kind::Int(1, I32),
        "6000",
        "Shortest session timeout a group member may ask for, ms.",
    ),
    setting("max.connections", Kind::Int(1, I32), "10000", "Most connections at once; Kafka's default is unlimited."),
    setting(
        "max.connections.per.ip",
        Kind::Int(1, I32),
        "10000",
        "Most connections at once from one address; Kafka's default is unlimited. A client takes two to four.",
    ),
    setting(
        "max.incremental.fetch.session.cache.slots",
        Kind::Int(0, I32),
        "1000",
        "Most incremental fetch sessions kept (KIP-227).",
    ),
    setting("num.partitions", Kind::Int(1, 10_000), "1", "Partitions of a topic made without a number."),
    setting(
        "offset.metadata.max.bytes",
        Kind::Int(0, I32),
        "4096",
        "Longest metadata a consumer may commit with an offset, bytes.",
    ),
    setting(
        "offsets.retention.minutes",
        Kind::Int(1, I32),
        "10080",
        "How long the offsets of an empty group are kept, minutes.",
    ),
    setting(
        "producer.id.expiration.ms",
        Kind::Int(1, I32),
        "86400000",
        "How long an idle producer's sequence numbers are remembered, ms.",
    ),
    setting(
        "queued.max.request.bytes",
        Kind::Long(1 << 20, i64::MAX),
        "268435456",
        "Most bytes of requests in memory at once; past it sockets are not read. Kafka's default is unlimited.",
    ),
    setting("socket.request.max.bytes", Kind::Int(1024, I32), "104857600", "Largest request, bytes."),
];

/// Broker-wide time settings with a coarser unit, which Kafka reads when the finer one is not set.
const COARSER: &[(&str, &str, i64)] =
    &[("log.retention.minutes", "log.retention.ms", 60_000), ("log.retention.hours", "log.retention.ms", 3_600_000)];

/// What is in force: explicit settings over defaults.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    explicit: BTreeMap<String, String>,
    /// What is in force for a topic without configs of its own, as most are: requests ask for it.
    of_plain_topics: TopicConfig,
}

impl KafkaSettings {
    /// Takes validated settings; coarser retention units become `log.retention.ms` unless that is set itself.
    pub fn new(explicit: &BTreeMap<String, String>) -> Self {
        let mut settings = explicit.clone();
        for (coarse, fine, factor) in COARSER {
            if let Some(value) = settings.remove(*coarse).and_then(|v| v.parse::<i64>().ok()) {
                let ms = if value < 0 { -1 } else { value.saturating_mul(*factor) };
                settings.entry((*fine).to_owned()).or_insert_with(|| ms.to_string());
            }
        }
        let of_plain_topics = TopicConfig::resolve(|name| topic_default(&settings, name));
        Self { explicit: settings, of_plain_topics }
    }

    /// The explicit value of a setting, if it was given one.
    pub fn explicit(&self, name: &str) -> Option<&str> {
        self.explicit.get(name).map(String::as_str)
    }

    /// The value in force of a setting that [`SETTINGS`] has.
    pub fn text(&self, name: &str) -> &str {
        let default = || SETTINGS.iter().find(|s| s.name == name).map_or("", |s| s.default);
        self.explicit(name).unwrap_or_else(default)
    }

    /// The number in force of a setting that [`SETTINGS`] has.
    pub fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Whether a setting that [`SETTINGS`] has is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name).eq_ignore_ascii_case("true")
    }

    /// The broker-wide default of a topic config, where it was set (`log.retention.ms` for `retention.ms`).
    pub fn topic_default(&self, topic_config: &str) -> Option<&str> {
        topic_default(&self.explicit, topic_config)
    }

    /// The configs in force for a topic with these values of its own.
    pub fn topic_config(&self, own: &BTreeMap<String, String>) -> TopicConfig {
        if own.is_empty() {
            return self.of_plain_topics;
        }
        TopicConfig::resolve(|name| own.get(name).map(String::as_str).or_else(|| self.topic_default(name)))
    }
}

fn topic_default<'a>(explicit: &'a BTreeMap<String, String>, topic_config: &str) -> Option<&'a str> {
    explicit.get(topic_config::definition(topic_config)?.broker_name?).map(String::as_str)
}

/// Whether [`validate`] knows the name.
pub fn is_setting(name: &str) -> bool {
    SETTINGS.iter().any(|s| s.name == name)
        || DEFINITIONS.iter().any(|d| d.broker_name == Some(name))
        || COARSER.iter().any(|(coarse, ..)| *coarse == name)
}

/// Refuses names that neither table has and values out of bounds.
pub fn validate(explicit: &BTreeMap<String, String>) -> Result<(), OptionsError> {
    for (name, value) in explicit {
        let wrong = |reason: String| OptionsError::Value { key: format!("kafka.{name}"), reason };
        if let Some(setting) = SETTINGS.iter().find(|s| s.name == name) {
            topic_config::check_kind(setting.kind, value).map_err(wrong)?;
        } else if let Some(definition) = DEFINITIONS.iter().find(|d| d.broker_name == Some(name)) {
            topic_config::validate(definition.name, value).map_err(|e| wrong(e.to_string()))?;
        } else if COARSER.iter().any(|(coarse, ..)| coarse == name) {
            topic_config::check_kind(Kind::Int(-1, I32), value).map_err(wrong)?;
        } else {
            let names = SETTINGS.iter().map(|s| s.name).chain(DEFINITIONS.iter().filter_map(|d| d.broker_name));
            let nearest = nearest(name, names.map(str::to_owned));
            let hint = nearest.map(|n| format!("; did you mean `kafka.{n}`?")).unwrap_or_default();
            return Err(wrong(format!("no such setting{hint}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_legal() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        for s in SETTINGS {
            assert_eq!(topic_config::check_kind(s.kind, s.default), Ok(()), "{}", s.name);
        }
    }

    #[test]
    fn broker_defaults_reach_topics() {
        let explicit = BTreeMap::from([("log.retention.hours".to_owned(), "2".to_owned())]);
        validate(&explicit).unwrap();
        let settings = KafkaSettings::new(&explicit);
        assert_eq!(settings.topic_config(&BTreeMap::new()).retention_ms, Some(7_200_000));
        let own = |name: &str| settings.topic_config(&BTreeMap::from([(name.into(), "5".into())])).retention_ms;
        assert_eq!((own("retention.ms"), own("retention.bytes")), (Some(5), Some(7_200_000)));
        assert_eq!(settings.number("num.partitions"), 1);
    }

    #[test]
    fn wrong_settings_are_refused() {
        let refused = |name: &str, value: &str| {
            validate(&BTreeMap::from([(name.to_owned(), value.to_owned())])).unwrap_err().to_string()
        };
        assert!(refused("num.partitons", "1").contains("did you mean `kafka.num.partitions`"));
        assert!(refused("num.partitions", "0").contains("at least 1"));
        assert!(refused("log.cleanup.policy", "burn").contains("must be one of"));
    }
}
