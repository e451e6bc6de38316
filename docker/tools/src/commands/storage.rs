//! `kafka-storage`: accepted, because init containers call it; there is nothing to format.

use std::io::Write as _;

use super::Command;
use crate::flags::{Flag, Flags, switch, value};
use crate::output::{End, Out};

pub(super) const COMMAND: Command = Command {
    name: "kafka-storage",
    about: "Accepted without effect: StreamHouse needs no formatted folders. Commands: info, format, version-mapping, \
            feature-dependencies, random-uuid.",
    flags: FLAGS,
    run,
    failed: |failure| End::Said(failure.to_string()),
    wrong_flag: |text| End::Said(format!("kafka-storage: error: {text}")),
};

const FLAGS: &[Flag] = &[
    value("config", "Has no effect."),
    value("cluster-id", "Has no effect."),
    value("add-scram", "Has no effect."),
    value("release-version", "Has no effect."),
    value("feature", "Has no effect."),
    value("initial-controllers", "Has no effect."),
    switch("ignore-formatted", "Has no effect."),
    switch("standalone", "Has no effect."),
    switch("no-initial-controllers", "Has no effect."),
    // The short names of these, in the same order.
    value("c", "Has no effect."),
    value("t", "Has no effect."),
    value("S", "Has no effect."),
    value("r", "Has no effect."),
    value("f", "Has no effect."),
    value("I", "Has no effect."),
    switch("g", "Has no effect."),
    switch("s", "Has no effect."),
    switch("N", "Has no effect."),
];

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    match flags.words().first().map(String::as_str) {
        Some("random-uuid") => writeln!(out, "{}", random_uuid())?,
        Some("format") => writeln!(out, "Nothing to format: StreamHouse makes its folder by itself.")?,
        Some("info") => writeln!(out, "Found no log directories: StreamHouse has none, and needs no format.")?,
        Some("version-mapping" | "feature-dependencies") => {}
        Some(other) => {
            let choices = "choose from info, format, version-mapping, feature-dependencies, random-uuid";
            return Err(End::Said(format!(
                "kafka-storage: error: argument command: invalid choice: '{other}' ({choices})"
            )));
        }
        None => return Err(End::Said("kafka-storage: error: too few arguments".to_owned())),
    }
    Ok(())
}

/// An id as Kafka writes it: base64 without padding, and no dash in front, so that no tool takes it for a flag.
fn random_uuid() -> String {
    loop {
        let id = base64(uuid::Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}

/// The alphabet of web addresses, no padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_kafka_writes_them() {
        assert_eq!(base64(b"0123456789abcdef"), "MDEyMzQ1Njc4OWFiY2RlZg");
        assert_eq!(base64(&[255, 254]), "__4");
        let id = random_uuid();
        assert_eq!(id.len(), 22);
        assert_ne!(id, random_uuid());
    }
}
