//! `cub`, the utility belt of cp-kafka's image: `cub kafka-ready`, which init containers and health checks call.

use std::time::{Duration, Instant};

use super::Command;
use crate::client::native::Admin;
use crate::client::properties::{self, Properties};
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, value};
use crate::output::{End, Out};

const USAGE: &str =
    "usage: cub kafka-ready [-b BOOTSTRAP_BROKER_LIST] [-c CONFIG] [-s SECURITY_PROTOCOL] expected_brokers timeout";
/// Between two looks at the cluster.
const PAUSE: Duration = Duration::from_millis(200);
/// One look.
const LOOK: Duration = Duration::from_secs(5);
/// Exit code of wrong arguments, as Python's argparse has it.
const WRONG_ARGUMENTS: u8 = 2;

pub(super) const COMMAND: Command = Command {
    name: "cub",
    about: USAGE,
    flags: FLAGS,
    run,
    failed: |failure| End::Said(failure.to_string()),
    wrong_flag: |text| End::Said(format!("{USAGE}\ncub: error: {text}")),
};

const FLAGS: &[Flag] = &[
    value("b", "The brokers to connect to."),
    value("bootstrap-server", "The same."),
    value("bootstrap_broker_list", "The same."),
    value("c", "Property file with settings of the client."),
    value("config", "The same."),
    value("s", "The protocol of the listener."),
    value("security-protocol", "The same."),
    value("z", "Has no effect: there is no ZooKeeper."),
    value("zookeeper_connect", "Has no effect: there is no ZooKeeper."),
];

fn run(flags: &Flags, _out: &mut Out) -> Result<(), End> {
    let wrong = |text: &str| {
        eprintln!("{USAGE}\ncub: error: {text}");
        End::Code(WRONG_ARGUMENTS)
    };
    let (expected, timeout) = match flags.words() {
        [command, expected, timeout] if command == "kafka-ready" => (expected, timeout),
        [command, ..] if command != "kafka-ready" => {
            return Err(wrong(&format!("argument action: only kafka-ready is known here, not {command}")));
        }
        _ => return Err(wrong("expected_brokers and timeout are needed")),
    };
    let number = |text: &String| text.parse::<u64>().map_err(|_| wrong(&format!("invalid int value: '{text}'")));
    let (expected, timeout) = (number(expected)?, Duration::from_secs(number(timeout)?));
    let either = |names: &[&str]| names.iter().find_map(|name| flags.values(name).pop());
    let mut settings = either(&["c", "config"]).map_or(Ok(Properties::new()), properties::load)?;
    for (names, setting) in [
        (&["b", "bootstrap-server", "bootstrap_broker_list"][..], "bootstrap.servers"),
        (&["s", "security-protocol"], "security.protocol"),
    ] {
        settings.extend(either(names).map(|value| (setting.to_owned(), value.to_owned())));
    }
    if !settings.contains_key("bootstrap.servers") {
        return Err(wrong("-b is needed"));
    }
    ready(&Settings::of(&settings)?, expected, timeout)
}

/// Waits until the cluster has that many brokers.
fn ready(settings: &Settings, expected: u64, timeout: Duration) -> Result<(), End> {
    let begun = Instant::now();
    let admin = Admin::new(settings)?.with_patience(LOOK.min(timeout));
    loop {
        let brokers = admin.nodes();
        if brokers.as_ref().is_ok_and(|brokers| brokers.len() as u64 >= expected) {
            return Ok(());
        }
        if begun.elapsed() >= timeout {
            let seen = brokers
                .map_or_else(|failure| failure.to_string(), |brokers| format!("found {} brokers", brokers.len()));
            return Err(End::Said(format!("Expected {expected} brokers within {} s: {seen}", timeout.as_secs())));
        }
        std::thread::sleep(PAUSE);
    }
}
