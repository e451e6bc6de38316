//! Kafka's commands, native: one program that acts by the name it is called by, or by its first argument.
//!
//! What they print, where, and how they end follows the tools of Kafka 4.2; `compat-tests/tests/commands.rs` compares the two.

mod client;
mod commands;
mod errors;
mod flags;
mod output;
mod patterns;
mod times;

use std::path::Path;
use std::process::ExitCode;

use crate::commands::COMMANDS;
use crate::output::Command;

fn main() -> ExitCode {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let own = words.next().unwrap_or_default();
    let mut words: Vec<String> = words.collect();
    let command = named(&own).or_else(|| {
        let command = named(words.first()?)?;
        words.remove(0);
        Some(command)
    });
    match command {
        Some(command) => output::run(command, &words),
        None => {
            eprintln!("usage: kafka-tools <command> [flags], or a link of a command's name to this program. Commands:");
            COMMANDS.iter().for_each(|command| eprintln!("  {}", command.name));
            ExitCode::from(2)
        }
    }
}

/// `kafka-topics`, `kafka-topics.sh`, `/opt/kafka/bin/kafka-topics.sh`: all the same.
fn named(word: &str) -> Option<&'static Command> {
    let name = Path::new(word).file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").unwrap_or(name);
    COMMANDS.iter().find(|command| command.name == name)
}
