//! `kafka-console-producer`: each line of standard input becomes a record.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Message as _};

use super::{Command, check_required};
use crate::client::Failure;
use crate::client::properties::{self, Properties};
use crate::client::settings::{Listener, Settings};
use crate::flags::{Flag, Flags, maybe, switch, value};
use crate::output::{End, Out};

/// Pause while the queue of the client is full.
const FULL: Duration = Duration::from_millis(50);
/// How long the last records may take.
const LAST: Duration = Duration::from_secs(120);

/// Flags that are settings of the producer, with their defaults in Kafka's tool. Its `request.timeout.ms` is an answer's, which librdkafka
/// takes for the whole connection, so it is not less than its own default.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("timeout", "linger.ms", "1000"),
    ("request-required-acks", "acks", "-1"),
    ("message-send-max-retries", "retries", "3"),
    ("retry-backoff-ms", "retry.backoff.ms", "100"),
    ("batch-size", "batch.size", "16384"),
    ("metadata-expiry-ms", "metadata.max.age.ms", "300000"),
    ("socket-buffer-size", "send.buffer.bytes", "102400"),
    ("max-memory-bytes", "buffer.memory", "33554432"),
];

pub(super) const COMMAND: Command = Command {
    name: "kafka-console-producer",
    about: "This tool helps to read data from standard input and publish it to Kafka.",
    flags: FLAGS,
    run,
    failed: |failure| End::Said(format!("org.apache.kafka.common.KafkaException: {failure}")),
    wrong_flag: End::Usage,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "REQUIRED: The servers to connect to: HOST1:PORT1,HOST2:PORT2."),
    value("broker-list", "The same, as it was called before Kafka 4."),
    value("topic", "REQUIRED: The topic to write to."),
    switch("sync", "Wait for each record before the next is read."),
    maybe("compression-codec", "none, gzip, snappy, lz4 or zstd; gzip without a value."),
    value("batch-size", "Most bytes in a batch."),
    value("message-send-max-retries", "How often a record is sent again."),
    value("retry-backoff-ms", "Pause before a record is sent again."),
    value("timeout", "How long a record waits for others to go with, ms."),
    value("request-required-acks", "-1, 0, 1 or all."),
    value("request-timeout-ms", "Has no effect."),
    value("metadata-expiry-ms", "How long to trust what is known of the cluster."),
    value("max-block-ms", "How long a record may take before it is given up."),
    value("max-memory-bytes", "Most bytes that wait to be sent."),
    value("max-partition-memory-bytes", "Has no effect; see batch-size."),
    value("line-reader", "Has no effect but for another class than Kafka's LineMessageReader, which is refused."),
    value("socket-buffer-size", "Bytes of the socket's buffer."),
    value(
        "reader-property",
        "How lines are read: parse.key, key.separator, parse.headers, headers.delimiter, \
                              headers.separator, headers.key.separator, ignore.error, null.marker.",
    ),
    value("property", "The same, as it was called before Kafka 4.2."),
    value("reader-config", "A property file for the same."),
    value("command-property", "A setting of the producer: key=value."),
    value("producer-property", "The same, as it was called before Kafka 4.2."),
    value("command-config", "A property file with settings of the producer."),
    value("producer.config", "The same, as it was called before Kafka 4.2."),
];

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    check_required(flags, &["topic"])?;
    if !flags.has("broker-list") {
        check_required(flags, &["bootstrap-server"])?;
    }
    for (old, new) in [
        ("property", "reader-property"),
        ("producer-property", "command-property"),
        ("producer.config", "command-config"),
    ] {
        if flags.has(old) && flags.has(new) {
            return Err(End::usage(format!("Options --{new} and --{old} cannot be specified together.")));
        }
        // On standard error: a script of before Kafka 4.2 reads standard output.
        if flags.has(old) {
            eprintln!("Warning: --{old} is deprecated and will be removed in a future version. Use --{new} instead.");
        }
    }
    let topic = flags.value("topic").map_err(End::Usage)?.unwrap_or_default();
    let lines = Lines::of(&reader(flags)?)?;
    let producer: BaseProducer<Reporter> =
        config(flags)?.create_with_context(Reporter::default()).map_err(|error| End::Failed(error.into()))?;
    let prompts = io::stdin().is_terminal();
    let mut input = io::stdin().lock();
    let mut line = Vec::new();
    for number in 1.. {
        if prompts {
            write!(out, ">")?;
            out.flush()?;
        }
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let parsed = lines.parse(text, number);
        let sent = parsed.and_then(|record| send(&producer, topic, &record));
        if let Err(end) = sent {
            // What was read before is written all the same.
            flush(&producer)?;
            return Err(end);
        }
        if flags.has("sync") {
            flush(&producer)?;
        } else {
            producer.poll(Duration::ZERO);
        }
    }
    flush(&producer)
}

fn flush(producer: &BaseProducer<Reporter>) -> Result<(), End> {
    producer.flush(LAST).map_err(|error| End::Failed(error.into()))
}

fn send(producer: &BaseProducer<Reporter>, topic: &str, record: &Record) -> Result<(), End> {
    loop {
        let mut to_send = BaseRecord::<[u8], [u8]>::to(topic);
        to_send.key = record.key.as_deref();
        to_send.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(record.headers.len());
            let add = |headers: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
                headers.insert(Header { key, value: value.as_ref() })
            };
            to_send.headers = Some(record.headers.iter().fold(headers, add));
        }
        match producer.send(to_send) {
            Ok(()) => return Ok(()),
            Err((error, _)) if error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::QueueFull) => {
                producer.poll(FULL);
            }
            Err((error, _)) => return Err(End::Failed(error.into())),
        }
    }
}

/// Says which records could not be written; that is no error of the tool, as with Kafka's.
#[derive(Debug, Default)]
struct Reporter(Listener);

impl ClientContext for Reporter {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext for Reporter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let Err((error, message)) = result else { return };
        let size =
            |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{} bytes", bytes.len()));
        let (topic, key, value) = (message.topic(), size(message.key()), size(message.payload()));
        let failure = Failure::from(error.clone());
        eprintln!(
            "ERROR Error when sending message to topic {topic} with key: {key}, value: {value} with error: {failure}"
        );
    }
}

fn config(flags: &Flags) -> Result<ClientConfig, End> {
    let mut settings = Properties::new();
    for name in ["command-config", "producer.config"] {
        settings.extend(flags.value(name).map_err(End::Usage)?.map_or(Ok(Properties::new()), properties::load)?);
    }
    for name in ["command-property", "producer-property"] {
        settings.extend(properties::of_words(flags.values(name)));
    }
    for (flag, setting, default) in SETTINGS {
        let given = flags.value(flag).map_err(End::Usage)?;
        match given {
            Some(value) => {
                settings.insert((*setting).to_owned(), value.to_owned());
            }
            None => {
                settings.entry((*setting).to_owned()).or_insert_with(|| (*default).to_owned());
            }
        }
    }
    if flags.has("compression-codec") {
        let codec = flags.value("compression-codec").map_err(End::Usage)?.filter(|codec| !codec.is_empty());
        settings.insert("compression.type".to_owned(), codec.unwrap_or("gzip").to_owned());
    }
    if let Some(time) = flags.value("max-block-ms").map_err(End::Usage)? {
        settings.insert("delivery.timeout.ms".to_owned(), time.to_owned());
    }
    let servers = ["bootstrap-server", "broker-list"].iter().find_map(|name| flags.values(name).pop());
    settings.insert("bootstrap.servers".to_owned(), servers.unwrap_or_default().to_owned());
    settings.entry("client.id".to_owned()).or_insert_with(|| "console-producer".to_owned());
    // Of a file for all of Kafka's tools, what only consumers know.
    settings.retain(|name, _| !["group.id", "auto.offset.reset", "isolation.level"].contains(&&**name));
    let mut config = Settings::of(&settings)?.config;
    // Kafka's own partitioner, so that a key goes where Java's producers send it.
    config.set("partitioner", "murmur2_random");
    Ok(config)
}

fn reader(flags: &Flags) -> Result<Properties, End> {
    if let Some(class) = flags.value("line-reader").map_err(End::Usage)?
        && !class.ends_with("LineMessageReader")
    {
        return Err(End::Said(format!("java.lang.ClassNotFoundException: {class}")));
    }
    let mut read = flags.value("reader-config").map_err(End::Usage)?.map_or(Ok(Properties::new()), properties::load)?;
    for name in ["reader-property", "property"] {
        read.extend(properties::of_words(flags.values(name)));
    }
    Ok(read)
}

type Headers = Vec<(String, Option<Vec<u8>>)>;

/// What a line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    headers: Headers,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

/// How lines are read: headers, key and value, each with what stands behind it.
#[derive(Debug)]
struct Lines {
    parse_key: bool,
    parse_headers: bool,
    ignore_error: bool,
    key_separator: String,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    null_marker: Option<String>,
}

impl Lines {
    fn of(settings: &Properties) -> Result<Self, End> {
        let is_true = |name: &str| settings.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let or = |name: &str, default: &str| settings.get(name).map_or(default, |value| &**value).to_owned();
        let lines = Self {
            parse_key: is_true("parse.key"),
            parse_headers: is_true("parse.headers"),
            ignore_error: is_true("ignore.error"),
            key_separator: or("key.separator", "\t"),
            headers_delimiter: or("headers.delimiter", "\t"),
            headers_separator: or("headers.separator", ","),
            headers_key_separator: or("headers.key.separator", ":"),
            null_marker: settings.get("null.marker").cloned(),
        };
        let named = [
            ("headers.delimiter", Some(&lines.headers_delimiter)),
            ("headers.separator", Some(&lines.headers_separator)),
            ("headers.key.separator", Some(&lines.headers_key_separator)),
        ];
        let marker = [("null.marker", lines.null_marker.as_ref()), ("key.separator", Some(&lines.key_separator))];
        let pairs = [(named[0], named[1]), (named[0], named[2]), (named[1], named[2]), (marker[0], marker[1])];
        let with_marker = named.iter().map(|other| (marker[0], *other));
        for ((a, first), (b, second)) in pairs.into_iter().chain(with_marker) {
            if first.is_some() && first == second {
                return Err(thrown(&format!("{a} and {b} may not be equal")));
            }
        }
        Ok(lines)
    }

    fn parse(&self, line: &[u8], number: usize) -> Result<Record, End> {
        let mut rest = line;
        let mut part = |enabled: bool, separator: &str, name: &str| match find(rest, separator.as_bytes()) {
            _ if !enabled => Ok(None),
            Some(at) => {
                let part = &rest[..at];
                rest = &rest[at + separator.len()..];
                Ok(Some(part))
            }
            None if self.ignore_error => Ok(None),
            None => {
                let line = String::from_utf8_lossy(line);
                Err(thrown(&format!("No {name} found on line number {number}: '{line}'")))
            }
        };
        let headers = part(self.parse_headers, &self.headers_delimiter, "headers delimiter")?;
        let key = part(self.parse_key, &self.key_separator, "key separator")?;
        let headers = headers.filter(|headers| !self.is_null(headers));
        Ok(Record {
            headers: headers.map_or(Ok(Vec::new()), |headers| self.headers(headers, number))?,
            key: key.filter(|key| !self.is_null(key)).map(<[u8]>::to_vec),
            value: (!self.is_null(rest)).then(|| rest.to_vec()),
        })
    }

    fn is_null(&self, text: &[u8]) -> bool {
        self.null_marker.as_ref().is_some_and(|marker| marker.as_bytes() == text)
    }

    fn headers(&self, text: &[u8], number: usize) -> Result<Headers, End> {
        let text = String::from_utf8_lossy(text);
        let header = |pair: &str| match pair.split_once(&*self.headers_key_separator) {
            Some((key, _)) if self.is_null(key.as_bytes()) => Err(thrown(&format!(
                "Header keys should not be equal to the null marker '{key}' as they can't be null"
            ))),
            Some((key, value)) => {
                Ok((key.to_owned(), (!self.is_null(value.as_bytes())).then(|| value.as_bytes().to_vec())))
            }
            None if self.ignore_error => Ok((pair.to_owned(), None)),
            None => Err(thrown(&format!("No header key separator found in pair '{pair}' on line number {number}"))),
        };
        text.split(&*self.headers_separator).map(header).collect()
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

fn thrown(text: &str) -> End {
    End::Said(format!("org.apache.kafka.common.KafkaException: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &str, line: &str) -> Result<Record, End> {
        Lines::of(&properties::of_words(settings.split(' ')))?.parse(line.as_bytes(), 7)
    }

    fn record(headers: &[(&str, Option<&str>)], key: Option<&str>, value: Option<&str>) -> Record {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let headers = headers.iter().map(|(key, value)| ((*key).to_owned(), value.map(bytes))).collect();
        Record { headers, key: key.map(bytes), value: value.map(bytes) }
    }

    #[test]
    fn what_a_line_says() {
        for (settings, line, expected) in [
            ("", "a\tb", record(&[], None, Some("a\tb"))),
            ("parse.key=true", "k\tv\tw", record(&[], Some("k"), Some("v\tw"))),
            ("parse.key=true key.separator=::", "k::v", record(&[], Some("k"), Some("v"))),
            (
                "parse.key=true parse.headers=true",
                "a:1,b:\tk\tv",
                record(&[("a", Some("1")), ("b", Some(""))], Some("k"), Some("v")),
            ),
            ("parse.key=true null.marker=NIL", "NIL\tNIL", record(&[], None, None)),
            ("parse.headers=true null.marker=NIL", "a:NIL\tv", record(&[("a", None)], None, Some("v"))),
            ("parse.key=true ignore.error=true", "v", record(&[], None, Some("v"))),
        ] {
            assert_eq!(parse(settings, line).expect(line), expected, "{settings} {line}");
        }
    }

    #[test]
    fn lines_and_settings_that_are_wrong() {
        let said = |settings, line| parse(settings, line).expect_err(line).to_string();
        let text = said("parse.key=true", "no separator");
        assert!(text.ends_with("No key separator found on line number 7: 'no separator'"), "{text}");
        assert!(said("parse.headers=true", "x\tv").contains("No header key separator found in pair 'x'"));
        assert!(said("null.marker=a key.separator=a", "v").contains("null.marker and key.separator may not be equal"));
        assert!(said("headers.separator=:", "v").contains("headers.separator and headers.key.separator"));
    }
}
