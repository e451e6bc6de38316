//! From the names of Kafka's Java clients to those of librdkafka.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;

use super::PATIENCE;
use super::properties::{self, Properties};
use crate::flags::Flags;
use crate::output::End;

/// Settings of the same name and meaning on both sides.
const SAME: &[&str] = &[
    "acks",
    "auto.commit.interval.ms",
    "auto.offset.reset",
    "batch.size",
    "bootstrap.servers",
    "check.crcs",
    "client.id",
    "client.rack",
    "compression.type",
    "connections.max.idle.ms",
    "debug",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.idempotence",
    "fetch.max.bytes",
    "fetch.min.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "linger.ms",
    "max.in.flight.requests.per.connection",
    "max.partition.fetch.bytes",
    "max.poll.interval.ms",
    "metadata.max.age.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "retries",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.kerberos.service.name",
    "sasl.mechanism",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "security.protocol",
    "session.timeout.ms",
    "ssl.cipher.suites",
    "ssl.key.password",
];
/// Settings of another name.
const RENAMED: &[(&str, &str)] = &[
    ("fetch.max.wait.ms", "fetch.wait.max.ms"),
    ("max.request.size", "message.max.bytes"),
    ("receive.buffer.bytes", "socket.receive.buffer.bytes"),
    ("request.timeout.ms", "socket.timeout.ms"),
    ("send.buffer.bytes", "socket.send.buffer.bytes"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
];
/// Least that librdkafka takes as the time for one request, ms.
const LEAST_SOCKET_TIMEOUT: u64 = 10;

/// What every client is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// In librdkafka's names.
    pub config: ClientConfig,
    /// How long to wait for an answer of the cluster.
    pub patience: Duration,
}

/// Passes librdkafka's warnings on to standard error.
#[derive(Debug, Default)]
pub struct Listener;

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            eprintln!("WARN {message}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let is_fatal = error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::Fatal);
        eprintln!("{} {reason}", if is_fatal { "ERROR" } else { "WARN" });
    }
}

impl ConsumerContext for Listener {}

impl ProducerContext for Listener {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}

impl Settings {
    /// Of `--bootstrap-server` and the file of `--command-config`.
    ///
    /// # Errors
    /// If the file cannot be read or holds what cannot be done.
    pub fn of_flags(flags: &Flags) -> Result<Self, End> {
        let mut properties = match flags.value("command-config").map_err(End::Said)? {
            Some(path) => properties::load(path)?,
            None => Properties::new(),
        };
        if let Some(servers) = flags.value("bootstrap-server").map_err(End::Said)? {
            properties.insert("bootstrap.servers".to_owned(), servers.to_owned());
        }
        Self::of(&properties)
    }

    /// Of settings in Java's names. Those that are unknown here are named on standard error and have no effect.
    ///
    /// # Errors
    /// If one cannot be done.
    pub fn of(properties: &Properties) -> Result<Self, End> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        let mut patience = PATIENCE;
        for (name, value) in properties {
            let renamed = RENAMED.iter().find(|(java, _)| java == name);
            match (&**name, renamed) {
                ("default.api.timeout.ms", _) => patience = milliseconds(name, value)?,
                ("request.timeout.ms", Some((_, ours))) => {
                    let wait = milliseconds(name, value)?;
                    config.set(*ours, wait.as_millis().max(LEAST_SOCKET_TIMEOUT.into()).to_string());
                }
                ("sasl.jaas.config", _) => jaas(value, &mut config),
                ("ssl.endpoint.identification.algorithm", _) => {
                    config.set(name, if value.is_empty() { "none" } else { value });
                }
                ("partition.assignment.strategy", _) => {
                    config.set(name, strategies(value));
                }
                ("buffer.memory", _) => {
                    let bytes: u64 = value.parse().map_err(|_| not_a_number(name, value))?;
                    config.set("queue.buffering.max.kbytes", (bytes / 1024).max(1).to_string());
                }
                (_, Some((_, ours))) => {
                    config.set(*ours, value);
                }
                _ if SAME.contains(&&**name) => {
                    config.set(name, value);
                }
                _ if name.starts_with("ssl.") => store(name, value, properties, &mut config)?,
                _ if is_of_java(name) => {}
                _ => eprintln!("WARN {name} is not known here and has no effect"),
            }
        }
        Ok(Self { config, patience })
    }
}

fn milliseconds(name: &str, value: &str) -> Result<Duration, End> {
    value.trim().parse().map(Duration::from_millis).map_err(|_| not_a_number(name, value))
}

fn not_a_number(name: &str, value: &str) -> End {
    End::Said(format!("Invalid value {value} for configuration {name}: Not a number of type INT"))
}

/// `... username="alice" password="secret";`
fn jaas(value: &str, config: &mut ClientConfig) {
    for (java, ours) in [("username", "sasl.username"), ("password", "sasl.password")] {
        let Some((_, rest)) = value.split_once(&format!("{java}=")) else { continue };
        let word = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].split(quote).next(),
            _ => rest.split([' ', ';', '\n']).next(),
        };
        config.set(ours, word.unwrap_or_default());
    }
}

/// Class names of assignors become librdkafka's names.
fn strategies(value: &str) -> String {
    let name = |class: &str| match class.trim().rsplit('.').next().unwrap_or_default() {
        "RoundRobinAssignor" => "roundrobin",
        "CooperativeStickyAssignor" | "StickyAssignor" => "cooperative-sticky",
        _ => "range",
    };
    value.split(',').map(name).collect::<Vec<_>>().join(",")
}

/// Key and trust stores: PEM and PKCS#12 files; Java's own format cannot be read here.
fn store(name: &str, value: &str, all: &Properties, config: &mut ClientConfig) -> Result<(), End> {
    let kind = |which: &str| all.get(&format!("ssl.{which}.type")).map_or("JKS", |kind| &**kind).to_uppercase();
    let jks = |which: &str| {
        let text = format!("ssl.{which}.type JKS cannot be read here; use PEM");
        End::Said(if which == "keystore" { text + " or PKCS12" } else { text })
    };
    match name {
        "ssl.truststore.location" if kind("truststore") == "PEM" => config.set("ssl.ca.location", value),
        "ssl.truststore.location" => return Err(jks("truststore")),
        "ssl.keystore.location" => match &*kind("keystore") {
            "PEM" => config.set("ssl.certificate.location", value).set("ssl.key.location", value),
            "PKCS12" => config.set("ssl.keystore.location", value),
            _ => return Err(jks("keystore")),
        },
        "ssl.keystore.password" if kind("keystore") == "PKCS12" => config.set("ssl.keystore.password", value),
        _ => return Ok(()),
    };
    Ok(())
}

/// Settings that only mean something in a JVM.
fn is_of_java(name: &str) -> bool {
    let words =
        [".serializer", ".deserializer", ".class", ".classes", "metric", "jmx", "auto.include", "max.poll.records"];
    words.iter().any(|word| name.contains(word))
        || ["client.dns.lookup", "allow.auto.create.topics", "max.block.ms", "partitioner.ignore.keys"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> ClientConfig {
        Settings::of(&properties::parse(text)).expect("settings").config
    }

    #[test]
    fn names_of_java_become_those_of_librdkafka() {
        let config = of(concat!(
            "bootstrap.servers=a:1\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n",
            "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"al\" password='p w';\n",
            "fetch.max.wait.ms=7\nssl.endpoint.identification.algorithm=\n",
            "partition.assignment.strategy=org.apache.kafka.clients.consumer.RoundRobinAssignor\n",
            "ssl.truststore.type=PEM\nssl.truststore.location=/ca.pem\n",
        ));
        for (name, value) in [
            ("bootstrap.servers", "a:1"),
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "al"),
            ("sasl.password", "p w"),
            ("fetch.wait.max.ms", "7"),
            ("ssl.endpoint.identification.algorithm", "none"),
            ("partition.assignment.strategy", "roundrobin"),
            ("ssl.ca.location", "/ca.pem"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn the_time_to_wait() {
        let patience = |text| Settings::of(&properties::parse(text)).expect("settings").patience;
        assert_eq!(patience(""), PATIENCE);
        assert_eq!(patience("default.api.timeout.ms=5000"), Duration::from_secs(5));
        assert!(Settings::of(&properties::parse("request.timeout.ms=soon")).is_err());
    }

    #[test]
    fn stores_of_java_are_refused() {
        assert!(Settings::of(&properties::parse("ssl.truststore.location=/trust.jks")).is_err());
    }
}
