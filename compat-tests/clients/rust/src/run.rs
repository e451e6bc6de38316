//! One scenario being run: its names, its keys, and what the library could not do.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::{Admin, Reader, Sender};
use crate::records::{Ack, Outcome, Record, Words, differs, wait_until};

pub struct Run {
    pub bootstrap: String,
    prefix: String,
    keys: BTreeMap<String, String>,
    pub without: Words,
}

impl Run {
    pub fn new(scenario: &str, bootstrap: &str, keys: &BTreeMap<String, String>) -> Run {
        let prefix = format!("{scenario}-rdkafka-{}", keys["run"]);
        Run { bootstrap: bootstrap.to_owned(), prefix, keys: keys.clone(), without: Words::new() }
    }

    pub fn topic(&self, part: &str) -> String {
        if part.is_empty() { self.prefix.clone() } else { format!("{}-{part}", self.prefix) }
    }

    pub fn key(&self, name: &str, otherwise: &str) -> String {
        self.keys.get(name).map_or(otherwise, String::as_str).to_owned()
    }

    pub fn number(&self, name: &str, otherwise: usize) -> Outcome<usize> {
        let text = self.key(name, &otherwise.to_string());
        text.parse().or_else(|_| differs(format!("{name}={text} is no number")))
    }

    pub fn lack(&mut self, word: &str) {
        self.without.insert(word.to_owned());
    }

    pub fn producer(&self, changed: &[(&str, &str)]) -> Outcome<Sender> {
        Sender::new(&self.bootstrap, changed)
    }

    /// Sends with a producer of its own.
    pub fn send_all(&self, topic: &str, changed: &[(&str, &str)], records: &[Record]) -> Outcome<Vec<Ack>> {
        self.producer(changed)?.send_all(topic, records)
    }

    pub fn reader(&self, reset: &str) -> Outcome<Reader> {
        Reader::by_hand(&self.bootstrap, reset)
    }

    pub fn admin(&self) -> Outcome<Admin> {
        Admin::new(&self.bootstrap)
    }

    /// Creates the topic; with settle=yes waits until ListOffsets of all its partitions succeeds.
    pub fn create(&self, part: &str, partitions: i32, configs: &[(&str, &str)]) -> Outcome<String> {
        let topic = self.topic(part);
        self.admin()?.create(&topic, partitions, configs, false)?;
        if self.key("settle", "no") == "yes" {
            let reader = self.reader("earliest")?;
            for partition in 0..partitions {
                let answers = || Ok(reader.bounds(&topic, partition).is_ok());
                wait_until(&topic, Duration::from_secs(15), answers, || format!("partition {partition}"))?;
            }
        }
        Ok(topic)
    }
}
