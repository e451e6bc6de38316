//! `kafka-console-consumer`: each record becomes a line of standard output.

mod formatter;
mod source;

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use super::{Command, check_required};
use crate::client::properties::{self, Properties};
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, switch, value};
use crate::output::{End, Out};

use formatter::Formatter;
use source::{Position, Source, Wanted};

/// How often a consumer without records looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// A process that a signal ended: its number on top of this.
const BY_SIGNAL: usize = 128;

pub(super) const COMMAND: Command = Command {
    name: "kafka-console-consumer",
    about: "This tool helps to read data from Kafka topics and outputs it to standard output.",
    flags: FLAGS,
    run,
    failed: |failure| {
        let text = "ERROR Unknown error when running consumer:  (org.apache.kafka.tools.consumer.ConsoleConsumer)";
        End::Said(format!("{text}\n{}", failure.exception()))
    },
    wrong_flag: End::Usage,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "REQUIRED: The servers to connect to."),
    value("topic", "The topic to read."),
    value("include", "The topics to read, as a regular expression."),
    value("partition", "The partition to read, from its end unless --offset says otherwise."),
    value("offset", "Where to begin: a number, earliest or latest."),
    value("group", "The group to read in."),
    switch("from-beginning", "Begin with the first record, unless the group has committed something."),
    value("max-messages", "End after so many records."),
    value("timeout-ms", "End when no record came for so long."),
    value("isolation-level", "read_committed or read_uncommitted."),
    value("formatter", "How records are written: Default-, Logging- or NoOpMessageFormatter of Kafka."),
    value(
        "formatter-property",
        "print.timestamp, print.key, print.offset, print.epoch, print.partition, print.headers, \
                                 print.value, key.separator, line.separator, headers.separator, null.literal, \
                                 key.deserializer, value.deserializer.",
    ),
    value("property", "The same, as it was called before Kafka 4.2."),
    value("formatter-config", "A property file for the same."),
    value("key-deserializer", "The class of Kafka that reads keys."),
    value("value-deserializer", "The class of Kafka that reads values."),
    value("command-property", "A setting of the consumer: key=value."),
    value("consumer-property", "The same, as it was called before Kafka 4.2."),
    value("command-config", "A property file with settings of the consumer."),
    value("consumer.config", "The same, as it was called before Kafka 4.2."),
    switch("skip-message-on-error", "Go on after a record that cannot be written."),
    switch("enable-systest-events", "Has no effect."),
];

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    let wanted = wanted(flags)?;
    check_required(flags, &["bootstrap-server"])?;
    let mut formatter = Formatter::of(flags)?;
    let settings = consumer_settings(flags)?;
    let most = flags.number::<i64>("max-messages").map_err(End::Usage)?.filter(|most| *most >= 0);
    let timeout = flags.number::<i64>("timeout-ms").map_err(End::Usage)?;
    let timeout = timeout.and_then(|time| u64::try_from(time).ok()).map(Duration::from_millis);
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM] {
        signal_hook::flag::register_usize(number, Arc::clone(&signal), BY_SIGNAL + number as usize)?;
    }
    let source = Source::new(&Settings::of(&settings)?, wanted)?;
    let ended = read(&source, &mut formatter, most, timeout, &signal, out);
    let ended = ended.and_then(|count| out.flush().map(|()| count));
    source.close();
    match ended {
        Ok(count) => eprintln!("Processed a total of {count} messages"),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            eprintln!("Unable to write to standard out, closing consumer.");
        }
        Err(error) => return Err(error.into()),
    }
    match signal.load(Ordering::Relaxed) {
        0 => Ok(()),
        code => Err(End::Code(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

/// Reads until there is an end; answers how many records there were.
fn read(
    source: &Source,
    formatter: &mut Formatter,
    most: Option<i64>,
    timeout: Option<Duration>,
    signal: &AtomicUsize,
    out: &mut Out,
) -> io::Result<i64> {
    let mut count = 0;
    let mut last = Instant::now();
    while most.is_none_or(|most| count < most) && signal.load(Ordering::Relaxed) == 0 {
        let message = match source.next(Duration::ZERO) {
            None => {
                // Whoever reads along sees all there is before the wait.
                out.flush()?;
                let left = timeout.map_or(LOOK, |timeout| timeout.saturating_sub(last.elapsed()).min(LOOK));
                source.next(left)
            }
            message => message,
        };
        let Some(message) = message else {
            if timeout.is_some_and(|timeout| last.elapsed() >= timeout) {
                eprintln!(
                    "ERROR Error processing message, terminating consumer process:  \
                     (org.apache.kafka.tools.consumer.ConsoleConsumer)\n\
                     org.apache.kafka.common.errors.TimeoutException"
                );
                break;
            }
            continue;
        };
        last = Instant::now();
        count += 1;
        formatter.write(&message, out)?;
        source.written(&message);
    }
    Ok(count)
}

/// What to read, and from where.
fn wanted(flags: &Flags) -> Result<Wanted, End> {
    let one = |name| flags.value(name).map_err(End::Usage);
    if flags.count(&["topic", "include"]) != 1 {
        return Err(End::usage("Exactly one of the following arguments is required: [topic], [include]"));
    }
    let partition = flags.number::<i32>("partition").map_err(End::Usage)?;
    let begin = flags.has("from-beginning");
    if partition.is_some() {
        if !flags.has("topic") {
            return Err(End::usage("The topic is required when partition is specified."));
        }
        if begin && flags.has("offset") {
            return Err(End::usage("Options from-beginning and offset cannot be specified together."));
        }
    } else if flags.has("offset") {
        return Err(End::usage("The partition is required when offset is specified."));
    }
    let position = match one("offset")?.map(str::to_lowercase).as_deref() {
        None if begin => Position::Beginning,
        None | Some("latest") => Position::End,
        Some("earliest") => Position::Beginning,
        Some(number) => match number.parse() {
            Ok(offset) if offset >= 0 => Position::At(offset),
            _ => {
                let text = format!("The provided offset value '{number}' is incorrect. ");
                return Err(End::usage(text + "Valid values are 'earliest', 'latest', or a non-negative long."));
            }
        },
    };
    Ok(Wanted {
        topic: one("topic")?.map(str::to_owned),
        include: one("include")?.map(str::to_owned),
        partition,
        position,
    })
}

fn consumer_settings(flags: &Flags) -> Result<Properties, End> {
    for (old, new) in [
        ("property", "formatter-property"),
        ("consumer-property", "command-property"),
        ("consumer.config", "command-config"),
    ] {
        if flags.has(old) && flags.has(new) {
            return Err(End::usage(format!("Options --{old} and --{new} cannot be specified together.")));
        }
        // On standard error: a script of before Kafka 4.2 reads standard output.
        if flags.has(old) {
            eprintln!("Option --{old} is deprecated and will be removed in a future version. Use --{new} instead.");
        }
    }
    let mut settings = Properties::new();
    for name in ["command-config", "consumer.config"] {
        settings.extend(flags.value(name).map_err(End::Usage)?.map_or(Ok(Properties::new()), properties::load)?);
    }
    let mut groups: Vec<String> = settings.get("group.id").cloned().into_iter().collect();
    for name in ["command-property", "consumer-property"] {
        settings.extend(properties::of_words(flags.values(name)));
    }
    groups.extend(settings.get("group.id").cloned());
    groups.extend(flags.value("group").map_err(End::Usage)?.map(str::to_owned));
    groups.sort();
    groups.dedup();
    if groups.len() > 1 {
        let groups: Vec<_> = groups.iter().map(|group| format!("'{group}'")).collect();
        let text = "The group ids provided in different places (directly using '--group', via '--consumer-property', or via \
                    '--consumer.config') do not match. Detected group ids: ";
        return Err(End::usage(format!("{text}{}", groups.join(", "))));
    }
    if !groups.is_empty() && flags.has("partition") {
        return Err(End::usage("Options group and partition cannot be specified together."));
    }
    settings.extend(groups.pop().map(|group| ("group.id".to_owned(), group)));
    let begin = flags.has("from-beginning");
    match settings.get("auto.offset.reset").map(|reset| &**reset) {
        Some(reset) if begin && reset != "earliest" => {
            let text = format!("Can't simultaneously specify --from-beginning and 'auto.offset.reset={reset}', ");
            return Err(End::usage(text + "please remove one option"));
        }
        Some(_) => {}
        None => {
            let reset = if begin { "earliest" } else { "latest" };
            settings.insert("auto.offset.reset".to_owned(), reset.to_owned());
        }
    }
    if let Some(level) = flags.value("isolation-level").map_err(End::Usage)? {
        settings.insert("isolation.level".to_owned(), level.to_owned());
    } else {
        settings.entry("isolation.level".to_owned()).or_insert_with(|| "read_uncommitted".to_owned());
    }
    let servers = flags.value("bootstrap-server").map_err(End::Usage)?.unwrap_or_default();
    settings.insert("bootstrap.servers".to_owned(), servers.to_owned());
    settings.entry("client.id".to_owned()).or_insert_with(|| "console-consumer".to_owned());
    // Of a file for all of Kafka's tools, what only producers know.
    settings.retain(|name, _| !["acks", "linger.ms", "batch.size", "compression.type"].contains(&&**name));
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Flags {
        Flags::parse(FLAGS, &line.split(' ').map(str::to_owned).collect::<Vec<_>>()).expect("flags")
    }

    #[test]
    fn where_it_begins() {
        let position = |line: &str| wanted(&flags(line)).expect(line).position;
        assert_eq!(position("--topic a"), Position::End);
        assert_eq!(position("--topic a --from-beginning"), Position::Beginning);
        assert_eq!(position("--topic a --partition 0 --offset earliest"), Position::Beginning);
        assert_eq!(position("--topic a --partition 0 --offset 7"), Position::At(7));
        for wrong in [
            "--from-beginning",
            "--topic a --include b",
            "--topic a --offset 1",
            "--include a --partition 0",
            "--topic a --partition 0 --offset -1",
            "--topic a --partition 0 --offset 1 --from-beginning",
        ] {
            assert!(matches!(wanted(&flags(wrong)), Err(End::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn one_group_only() {
        let group = |line: &str| consumer_settings(&flags(line)).map(|settings| settings.get("group.id").cloned());
        assert_eq!(group("--topic a").expect("none"), None);
        assert_eq!(group("--topic a --group g").expect("one"), Some("g".to_owned()));
        assert_eq!(group("--topic a --command-property group.id=g --group g").expect("one"), Some("g".to_owned()));
        assert!(group("--topic a --command-property group.id=h --group g").is_err());
        assert!(group("--topic a --group g --partition 0").is_err());
        assert!(group("--topic a --from-beginning --command-property auto.offset.reset=latest").is_err());
    }
}
