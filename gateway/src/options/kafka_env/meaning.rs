//! What each of Kafka's properties means to a gateway.

use metadata::model::topic_config::{DEFINITIONS, Effect};

use super::super::kafka::{self, SETTINGS};
use super::super::load::nearest;

/// The four kinds of property, and where those that act go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Says where clients are served.
    Listeners,
    /// It is one of our options.
    Option(&'static str),
    /// It is a setting by Kafka's name.
    Setting,
    /// There is nothing it could act on.
    NoEffect,
    /// It guards something; here nothing would.
    Guard(&'static str),
    /// Not one of Kafka's; the nearest that is.
    Unknown(Option<String>),
}

const OPTIONS: &[(&str, &str)] = &[
    ("broker.id", "node-id"),
    ("broker.rack", "rack"),
    ("log.dir", "data"),
    ("log.dirs", "data"),
    ("node.id", "node-id"),
];

const LISTENERS: &[&str] =
    &["advertised.listeners", "controller.listener.names", "listener.security.protocol.map", "listeners"];

const GUARDS: &[(&str, &str)] = &[
    ("alter.config.policy.class.name", "policies are not run here; what it forbids would be allowed"),
    ("authorizer.class.name", "there are no ACLs yet: everyone would be allowed everything"),
    ("client.quota.callback.class", "there are no quotas yet: nobody would be held back"),
    ("create.topic.policy.class.name", "policies are not run here; what it forbids would be allowed"),
    ("max.connections.per.ip.overrides", "limits of single addresses are not built; set max.connections.per.ip"),
];

/// Names without effect; see docs/drop-in.md for the reasons by group.
const WITHOUT_EFFECT: &[&str] = &[
    "allow.everyone.if.no.acl.found",
    "auto.leader.rebalance.enable",
    "background.threads",
    "broker.heartbeat.interval.ms",
    "broker.id.generation.enable",
    "broker.session.timeout.ms",
    "connections.max.reauth.ms",
    "early.start.listeners",
    "initial.broker.registration.timeout.ms",
    "max.connection.creation.rate",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.alter.log.dirs.threads",
    "num.replica.fetchers",
    "principal.builder.class",
    "process.roles",
    "queued.max.requests",
    "request.timeout.ms",
    "reserved.broker.max.id",
    "security.inter.broker.protocol",
    "security.providers",
    "socket.listen.backlog.size",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes",
    "super.users",
    "unstable.api.versions.enable",
    "unstable.feature.versions.enable",
];

/// Beginnings of names without effect: whole families of Kafka's machinery, and what the images give the JVM.
const FAMILIES_WITHOUT_EFFECT: &[&str] = &[
    "advertised.host.name",
    "advertised.port",
    "allow.plaintext.listener",
    "auto.include.jmx.reporter",
    "bitnami.",
    "client.",
    "cluster.id",
    "compression.",
    "confluent.",
    "control.plane.",
    "controlled.shutdown.",
    "controller.",
    "delegation.token.",
    "delete.records.purgatory.",
    "enable.kraft",
    "extra.flags",
    "fetch.purgatory.",
    "gc.log.opts",
    "group.consumer.",
    "group.coordinator.",
    "group.share.",
    "group.streams.",
    "heap.opts",
    "home",
    "initialize.store",
    "inter.broker.",
    "jmx.",
    "jvm.performance.opts",
    "kraft.",
    "leader.imbalance.",
    "listener.name.",
    "log.cleaner.",
    "log.dir.failure.",
    "log.flush.",
    "log.index.",
    "log.initial.task.delay.ms",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "log.retention.check.interval.ms",
    "log.roll.",
    "log4j.",
    "log4j1.",
    "log4j2.",
    "metadata.",
    "metric.",
    "metrics.",
    "mount.",
    "offsets.",
    "opts",
    "password.encoder.",
    "port",
    "producer.id.expiration.check.",
    "producer.purgatory.",
    "quorum.",
    "quota.",
    "remote.",
    "replica.",
    "replication.quota.",
    "sasl.",
    "service.",
    "share.coordinator.",
    "skip.kraft.storage.init",
    "ssl.",
    "telemetry.",
    "tls.",
    "tools.log4j.",
    "transaction.",
    "transactional.id.expiration.ms",
    "version",
    "volume.dir",
    "zookeeper.",
];

/// What a property means.
pub(super) fn of(name: &str) -> Meaning {
    if LISTENERS.contains(&name) {
        return Meaning::Listeners;
    }
    if let Some((_, key)) = OPTIONS.iter().find(|(property, _)| *property == name) {
        return Meaning::Option(key);
    }
    if let Some((_, why)) = GUARDS.iter().find(|(property, _)| *property == name) {
        return Meaning::Guard(why);
    }
    if kafka::is_setting(name) {
        return Meaning::Setting;
    }
    if WITHOUT_EFFECT.contains(&name) || FAMILIES_WITHOUT_EFFECT.iter().any(|family| is_of(name, family)) {
        return Meaning::NoEffect;
    }
    Meaning::Unknown(nearest(name, known()).filter(|near| is_near(name, near)))
}

/// Whether a setting is kept and described, but acts on nothing.
pub(super) fn is_idle(name: &str) -> bool {
    DEFINITIONS.iter().any(|d| d.broker_name == Some(name) && d.effect != Effect::Acts)
}

/// A family that ends in a dot is a beginning; another is a name, or a beginning with a dot behind it.
fn is_of(name: &str, family: &str) -> bool {
    match name.strip_prefix(family) {
        Some(rest) => family.ends_with('.') || rest.is_empty() || rest.starts_with('.'),
        None => false,
    }
}

fn known() -> impl Iterator<Item = String> {
    let exact = LISTENERS.iter().chain(OPTIONS.iter().map(|(name, _)| name)).chain(GUARDS.iter().map(|(name, _)| name));
    let acting = SETTINGS.iter().map(|s| s.name).chain(DEFINITIONS.iter().filter_map(|d| d.broker_name));
    exact.copied().chain(acting).chain(WITHOUT_EFFECT.iter().copied()).map(str::to_owned)
}

/// A slip of the fingers, not another word.
fn is_near(name: &str, near: &str) -> bool {
    strsim::damerau_levenshtein(name, near) <= (near.len() / 5).min(3)
}

/// Whether a guard's value switches it off.
pub(super) fn is_off(value: &str) -> bool {
    value.is_empty() || value == "false"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_in_order_and_nothing_that_acts_is_called_idle() {
        for list in [FAMILIES_WITHOUT_EFFECT, LISTENERS] {
            assert!(list.is_sorted(), "{list:?}");
        }
        assert!(WITHOUT_EFFECT.is_sorted());
        for setting in SETTINGS {
            assert_eq!(of(setting.name), Meaning::Setting, "{}", setting.name);
        }
        assert_eq!(of("log.retention.hours"), Meaning::Setting);
        assert_eq!(of("offsets.topic.replication.factor"), Meaning::NoEffect);
        assert_eq!(of("num.partition"), Meaning::Unknown(Some("num.partitions".into())));
        assert_eq!(of("create.topics"), Meaning::Unknown(None));
    }
}
