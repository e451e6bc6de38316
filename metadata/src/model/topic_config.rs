//! Topic configs: one table with Kafka's names, types, defaults and bounds drives validation, DescribeConfigs and docs.
//!
//! Source: Kafka 4.2's `TopicConfig`, `LogConfig`. The words of the docs are ours.

use self::Effect::{Acts, NoEffect};
use self::Kind::{Bool, Choice, Double, Int, List, Long};
use super::profile::Profile;

/// Type of a config and the values it may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// 32-bit number within bounds.
    Int(i64, i64),
    /// 64-bit number within bounds.
    Long(i64, i64),
    /// Fraction within bounds.
    Double(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Comma-separated; each one of these words if there are any.
    List(&'static [&'static str]),
}

/// Whether a config changes what StreamHouse does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It acts as in Kafka.
    Acts,
    /// It is accepted, kept and described; the reason says why it has nothing to act on here.
    NoEffect(&'static str),
}

/// One config a topic may carry.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// Kafka's name of the broker-wide default, if it has one.
    pub broker_name: Option<&'static str>,
    /// Type and bounds.
    pub kind: Kind,
    /// Kafka's default, as text.
    pub default: &'static str,
    /// Whether it acts.
    pub effect: Effect,
    /// What it means, in a sentence.
    pub doc: &'static str,
}

/// Why a config was refused; the text is what clients show their users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// No such config.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// The value is not of the config's type or outside its bounds.
    #[error("Invalid value {value} for configuration {name}: {reason}")]
    Value {
        /// The config.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// The value is legal in Kafka but asks for something StreamHouse does not do.
    #[error("{name}={value} is not supported by StreamHouse: {reason}")]
    Unsupported {
        /// The config.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What to do instead.
        reason: &'static str,
    },
}

const I32: i64 = i32::MAX as i64;
const FOREVER: &str = "9223372036854775807";
const OBJECTS: &str = "records lie in immutable objects of a bucket, not in segment files of a broker";
const REPLICAS: &str = "the bucket replicates; there are no replica brokers";
const TIERED: &str = "every record is in object storage from the start; there is no local tier";
const DURABLE: &str = "every acknowledged record is already durable";
const LZ4_LEVEL: &str = "the lz4 encoder used here has one level";

const fn def(
    name: &'static str,
    broker_name: Option<&'static str>,
    kind: Kind,
    default: &'static str,
    effect: Effect,
    doc: &'static str,
) -> Definition {
    Definition { name, broker_name, kind, default, effect, doc }
}

/// Every config a topic may carry, in name order.
pub const DEFINITIONS: &[Definition] = &[
    def(
        "cleanup.policy",
        Some("log.cleanup.policy"),
        List(&["compact", "delete"]),
        "delete",
        Acts,
        "What becomes of old records: `delete` removes them by age and size, `compact` keeps the newest of each key.",
    ),
    def(
        "compression.gzip.level",
        Some("compression.gzip.level"),
        Int(-1, 9),
        "-1",
        Acts,
        "Level when the gateway itself compresses with gzip.",
    ),
    def(
        "compression.lz4.level",
        Some("compression.lz4.level"),
        Int(1, 17),
        "9",
        NoEffect(LZ4_LEVEL),
        "Level when the broker itself compresses with lz4.",
    ),
    def(
        "compression.type",
        Some("compression.type"),
        Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        Acts,
        "Codec of the stored batches; `producer` keeps what was sent, anything else makes the gateway recompress.",
    ),
    def(
        "compression.zstd.level",
        Some("compression.zstd.level"),
        Int(-131072, 22),
        "3",
        Acts,
        "Level when the gateway itself compresses with zstd.",
    ),
    def(
        "delete.retention.ms",
        Some("log.cleaner.delete.retention.ms"),
        Long(0, i64::MAX),
        "86400000",
        Acts,
        "How long tombstones of a compacted topic are kept after they were first compacted, ms.",
    ),
    def(
        "file.delete.delay.ms",
        Some("log.segment.delete.delay.ms"),
        Long(0, i64::MAX),
        "60000",
        NoEffect(OBJECTS),
        "How long a deleted segment file is kept, ms.",
    ),
    def(
        "flush.messages",
        Some("log.flush.interval.messages"),
        Long(1, i64::MAX),
        FOREVER,
        NoEffect(DURABLE),
        "Records between forced flushes to disk.",
    ),
    def(
        "flush.ms",
        Some("log.flush.interval.ms"),
        Long(0, i64::MAX),
        FOREVER,
        NoEffect(DURABLE),
        "Time between forced flushes to disk, ms.",
    ),
    def(
        "follower.replication.throttled.replicas",
        None,
        List(&[]),
        "",
        NoEffect(REPLICAS),
        "Follower replicas whose replication is throttled.",
    ),
    def(
        "index.interval.bytes",
        Some("log.index.interval.bytes"),
        Int(0, I32),
        "4096",
        NoEffect(OBJECTS),
        "Bytes between entries of the offset index.",
    ),
    def(
        "leader.replication.throttled.replicas",
        None,
        List(&[]),
        "",
        NoEffect(REPLICAS),
        "Leader replicas whose replication is throttled.",
    ),
    def(
        "local.retention.bytes",
        Some("log.local.retention.bytes"),
        Long(-2, i64::MAX),
        "-2",
        NoEffect(TIERED),
        "Bytes a partition keeps in the local tier.",
    ),
    def(
        "local.retention.ms",
        Some("log.local.retention.ms"),
        Long(-2, i64::MAX),
        "-2",
        NoEffect(TIERED),
        "Time records stay in the local tier, ms.",
    ),
    def(
        "max.compaction.lag.ms",
        Some("log.cleaner.max.compaction.lag.ms"),
        Long(1, i64::MAX),
        FOREVER,
        Acts,
        "Longest time a record stays uncompacted, ms.",
    ),
    def(
        "max.message.bytes",
        Some("message.max.bytes"),
        Int(0, I32),
        "1048588",
        Acts,
        "Largest record batch accepted, bytes, as the producer compressed it.",
    ),
    def(
        "message.timestamp.after.max.ms",
        Some("log.message.timestamp.after.max.ms"),
        Long(0, i64::MAX),
        "3600000",
        Acts,
        "How far a record's timestamp may lie ahead of the gateway's clock, ms.",
    ),
    def(
        "message.timestamp.before.max.ms",
        Some("log.message.timestamp.before.max.ms"),
        Long(0, i64::MAX),
        FOREVER,
        Acts,
        "How far a record's timestamp may lie behind the gateway's clock, ms.",
    ),
    def(
        "message.timestamp.type",
        Some("log.message.timestamp.type"),
        Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        Acts,
        "Whether records keep the producer's timestamp or get the time the gateway took them in.",
    ),
    def(
        "min.cleanable.dirty.ratio",
        Some("log.cleaner.min.cleanable.ratio"),
        Double(0.0, 1.0),
        "0.5",
        Acts,
        "Share of uncompacted bytes above which a log is compacted.",
    ),
    def(
        "min.compaction.lag.ms",
        Some("log.cleaner.min.compaction.lag.ms"),
        Long(0, i64::MAX),
        "0",
        Acts,
        "Shortest time a record stays uncompacted, ms.",
    ),
    def(
        "min.insync.replicas",
        Some("min.insync.replicas"),
        Int(1, I32),
        "1",
        NoEffect(REPLICAS),
        "Replicas that must have a record before acks=all is answered.",
    ),
    def(
        "preallocate",
        Some("log.preallocate"),
        Bool,
        "false",
        NoEffect(OBJECTS),
        "Whether segment files are allocated in full at once.",
    ),
    def("remote.log.copy.disable", None, Bool, "false", NoEffect(TIERED), "Whether copying to the remote tier is off."),
    def(
        "remote.log.delete.on.disable",
        None,
        Bool,
        "false",
        NoEffect(TIERED),
        "Whether the remote tier is emptied when tiering is switched off.",
    ),
    def("remote.storage.enable", None, Bool, "false", NoEffect(TIERED), "Whether the topic uses a remote tier."),
    def(
        "retention.bytes",
        Some("log.retention.bytes"),
        Long(-1, i64::MAX),
        "-1",
        Acts,
        "Bytes a partition keeps before its oldest records are removed; -1 for no limit.",
    ),
    def(
        "retention.ms",
        Some("log.retention.ms"),
        Long(-1, i64::MAX),
        "604800000",
        Acts,
        "Age at which records are removed, ms; -1 for never.",
    ),
    def(
        "segment.bytes",
        Some("log.segment.bytes"),
        Int(1_048_576, I32),
        "1073741824",
        NoEffect(OBJECTS),
        "Size of a segment file, bytes.",
    ),
    def(
        "segment.index.bytes",
        Some("log.index.size.max.bytes"),
        Int(4, I32),
        "10485760",
        NoEffect(OBJECTS),
        "Size of an index file, bytes.",
    ),
    def(
        "segment.jitter.ms",
        Some("log.roll.jitter.ms"),
        Long(0, i64::MAX),
        "0",
        NoEffect(OBJECTS),
        "Random delay taken off segment.ms, ms.",
    ),
    def(
        "segment.ms",
        Some("log.roll.ms"),
        Long(1, i64::MAX),
        "604800000",
        NoEffect(OBJECTS),
        "Age at which a segment file is closed, ms.",
    ),
    def(
        "streamhouse.profile",
        None,
        Choice(&["gateway", "realtime", "balanced", "throughput"]),
        "gateway",
        Acts,
        "How soon batches of the topic become objects: by this profile's numbers, or as the gateway does.",
    ),
    def(
        "unclean.leader.election.enable",
        Some("unclean.leader.election.enable"),
        Bool,
        "false",
        NoEffect(REPLICAS),
        "Whether a replica that lags may become leader.",
    ),
];

/// The definition of `name`.
pub fn definition(name: &str) -> Option<&'static Definition> {
    DEFINITIONS.binary_search_by(|d| d.name.cmp(name)).ok().map(|at| &DEFINITIONS[at])
}

/// Checks one explicit config and returns the value to keep: trimmed, otherwise as given (as Kafka's `ConfigDef.parse`).
pub fn validate(name: &str, value: &str) -> Result<String, InvalidConfig> {
    let definition = definition(name).ok_or_else(|| InvalidConfig::Unknown(name.to_owned()))?;
    let value = value.trim();
    check_kind(definition.kind, value).map_err(|reason| InvalidConfig::Value {
        name: definition.name,
        value: value.to_owned(),
        reason,
    })?;
    unsupported(definition.name, value)?;
    Ok(value.to_owned())
}

/// Checks a value against its type and bounds; the error is the reason alone, in Kafka's words.
pub fn check_kind(kind: Kind, value: &str) -> Result<(), String> {
    let one_of = |words: &[&str]| Err(format!("String must be one of: {}", words.join(", ")));
    match kind {
        Bool if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") => Ok(()),
        Bool => Err("Expected value to be either true or false".into()),
        Int(least, most) | Long(least, most) => match value.parse::<i64>() {
            Err(_) => Err("Not a number of type INT or LONG".into()),
            Ok(number) if number < least => Err(format!("Value must be at least {least}")),
            Ok(number) if number > most => Err(format!("Value must be no more than {most}")),
            Ok(_) => Ok(()),
        },
        Double(least, most) => match value.parse::<f64>() {
            Err(_) => Err("Not a number of type DOUBLE".into()),
            Ok(number) if (least..=most).contains(&number) => Ok(()),
            Ok(_) => Err(format!("Value must be within [{least}, {most}]")),
        },
        Choice(words) if words.contains(&value) => Ok(()),
        Choice(words) => one_of(words),
        List(words) if words.is_empty() || value.split(',').all(|word| words.contains(&word.trim())) => Ok(()),
        List(words) => one_of(words),
    }
}

/// Values Kafka allows and we refuse, because accepting them would promise what does not happen.
fn unsupported(name: &'static str, value: &str) -> Result<(), InvalidConfig> {
    let reason = match name {
        "remote.storage.enable" if value.eq_ignore_ascii_case("true") => {
            "every record is in object storage already; leave it at false"
        }
        _ => return Ok(()),
    };
    Err(InvalidConfig::Unsupported { name, value: value.to_owned(), reason })
}

/// How the gateway must compress batches of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetCodec {
    /// As the producer did.
    Producer,
    /// Kafka's codec number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    Number(i16),
}

/// How a topic is compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Records younger than this stay as they are, ms.
    pub min_lag_ms: i64,
    /// Records older than this are compacted whatever the dirty ratio, ms.
    pub max_lag_ms: i64,
    /// Compacted when more than this part of the log's bytes is not, in millionths.
    pub dirty_ratio_ppm: u32,
    /// Tombstones stay for so long after they were first compacted, ms.
    pub delete_retention_ms: i64,
}

/// The configs that act, parsed: explicit ones over the defaults. Cheap to copy; one is kept per topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicConfig {
    /// Whether records go by age and size.
    pub deletes: bool,
    /// Whether and how only the newest record of each key stays.
    pub compaction: Option<Compaction>,
    /// Largest batch accepted, bytes.
    pub max_message_bytes: u32,
    /// Records get the gateway's time.
    pub log_append_time: bool,
    /// How far behind a timestamp may lie, ms.
    pub timestamp_before_max_ms: i64,
    /// How far ahead a timestamp may lie, ms.
    pub timestamp_after_max_ms: i64,
    /// Age at which records go, ms; `None` for never.
    pub retention_ms: Option<i64>,
    /// Bytes a partition keeps; `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Codec of stored batches.
    pub compression: TargetCodec,
    /// Level for gzip.
    pub gzip_level: i32,
    /// Level for zstd.
    pub zstd_level: i32,
    /// By whose numbers its batches are cut; `None` for the gateway's.
    pub profile: Option<Profile>,
}

impl TopicConfig {
    /// Parses what is in force: `lookup` gives a value where it differs from Kafka's default (the topic's own, else
    /// the gateway's).
    pub fn resolve<'a>(lookup: impl Fn(&str) -> Option<&'a str>) -> Self {
        let text = |name: &'static str| -> &str {
            let default = definition(name).map_or("", |d| d.default);
            lookup(name).unwrap_or(default)
        };
        let number = |name: &'static str| text(name).trim().parse::<i64>().unwrap_or(-1);
        let cleans_up = |how: &str| text("cleanup.policy").split(',').any(|word| word.trim() == how);
        let dirty_ratio = text("min.cleanable.dirty.ratio").trim().parse::<f64>().unwrap_or(0.5);
        Self {
            deletes: cleans_up("delete"),
            compaction: cleans_up("compact").then(|| Compaction {
                min_lag_ms: number("min.compaction.lag.ms").max(0),
                max_lag_ms: number("max.compaction.lag.ms").max(0),
                dirty_ratio_ppm: (dirty_ratio * 1e6) as u32, // within [0, 1]
                delete_retention_ms: number("delete.retention.ms").max(0),
            }),
            max_message_bytes: u32::try_from(number("max.message.bytes")).unwrap_or(u32::MAX),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            retention_ms: Some(number("retention.ms")).filter(|ms| *ms >= 0),
            retention_bytes: u64::try_from(number("retention.bytes")).ok(),
            compression: match text("compression.type") {
                "uncompressed" => TargetCodec::Number(0),
                "gzip" => TargetCodec::Number(1),
                "snappy" => TargetCodec::Number(2),
                "lz4" => TargetCodec::Number(3),
                "zstd" => TargetCodec::Number(4),
                _ => TargetCodec::Producer,
            },
            gzip_level: i32::try_from(number("compression.gzip.level")).unwrap_or(-1),
            zstd_level: i32::try_from(number("compression.zstd.level")).unwrap_or(3),
            profile: text("streamhouse.profile").parse().ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_legal() {
        assert!(DEFINITIONS.is_sorted_by(|a, b| a.name < b.name));
        for d in DEFINITIONS.iter().filter(|d| !d.default.is_empty()) {
            assert_eq!(validate(d.name, d.default).as_deref(), Ok(d.default), "{}", d.name);
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        for (name, value) in [
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("max.message.bytes", "2147483648"),
            ("cleanup.policy", "burn"),
            ("cleanup.policy", ""),
            ("message.timestamp.type", "createtime"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("preallocate", "yes"),
            ("streamhouse.profile", "fast"),
        ] {
            assert!(matches!(validate(name, value), Err(InvalidConfig::Value { .. })), "{name}={value}");
        }
        assert_eq!(validate("retention.sm", "1"), Err(InvalidConfig::Unknown("retention.sm".into())));
        assert!(matches!(validate("remote.storage.enable", "true"), Err(InvalidConfig::Unsupported { .. })));
    }

    #[test]
    fn a_topic_may_be_compacted_or_deleted_or_both() {
        let of = |policy: &'static str| TopicConfig::resolve(|name| (name == "cleanup.policy").then_some(policy));
        let defaults = Compaction {
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
            dirty_ratio_ppm: 500_000,
            delete_retention_ms: 86_400_000,
        };
        for (policy, deletes, compaction) in [
            ("delete", true, None),
            ("compact", false, Some(defaults)),
            ("compact, delete", true, Some(defaults)),
            ("delete,compact", true, Some(defaults)),
        ] {
            assert_eq!(validate("cleanup.policy", policy).as_deref(), Ok(policy));
            assert_eq!((of(policy).deletes, of(policy).compaction), (deletes, compaction), "{policy}");
        }
    }

    #[test]
    fn explicit_values_win() {
        let config = TopicConfig::resolve(|name| (name == "retention.ms").then_some("5"));
        assert_eq!((config.retention_ms, config.retention_bytes, config.max_message_bytes), (Some(5), None, 1_048_588));
        assert_eq!(TopicConfig::resolve(|name| (name == "retention.ms").then_some("-1")).retention_ms, None);
        let profile = |text| TopicConfig::resolve(|name| (name == "streamhouse.profile").then_some(text)).profile;
        assert_eq!((profile("realtime"), profile("gateway"), config.profile), (Some(Profile::Realtime), None, None));
    }
}
