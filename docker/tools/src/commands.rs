//! The commands, a file each, and what their checks of flags have in common.

mod acls;
mod broker_api_versions;
mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod cub;
mod delete_records;
mod get_offsets;
mod storage;
mod topics;

use crate::flags::Flags;
use crate::output::{Command, End};

/// All of them.
pub const COMMANDS: &[Command] = &[
    topics::COMMAND,
    console_producer::COMMAND,
    console_consumer::COMMAND,
    consumer_groups::COMMAND,
    configs::COMMAND,
    broker_api_versions::COMMAND,
    get_offsets::COMMAND,
    delete_records::COMMAND,
    acls::COMMAND,
    storage::COMMAND,
    cub::COMMAND,
];

/// The flags must be there.
fn check_required(flags: &Flags, required: &[&str]) -> Result<(), End> {
    match required.iter().find(|name| !flags.has(name)) {
        Some(missing) => Err(End::usage(format!("Missing required argument \"[{missing}]\""))),
        None => Ok(()),
    }
}

/// The flag does not go together with these.
fn check_invalid(flags: &Flags, flag: &str, others: &[&str]) -> Result<(), End> {
    match others.iter().find(|other| flags.has(flag) && flags.has(other)) {
        Some(other) => Err(End::usage(format!("Option \"[{flag}]\" can't be used with option \"[{other}]\""))),
        None => Ok(()),
    }
}

/// What a JVM says of an exception that nobody caught: Kafka's tools do not catch every mistake in a flag.
fn uncaught(text: &str) -> String {
    let class = match text {
        _ if text.ends_with("is not a recognized option") => "UnrecognizedOptionException",
        _ if text.ends_with("requires an argument") => "OptionMissingRequiredArgumentException",
        _ if text.starts_with("Found multiple arguments") => "MultipleArgumentsForOptionException",
        _ => "OptionArgumentConversionException",
    };
    format!("Exception in thread \"main\" joptsimple.{class}: {text}")
}
