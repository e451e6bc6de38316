//! `kafka-delete-records`.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::Value;

use super::{Command, check_required};
use crate::client::TopicPartition;
use crate::client::native::Admin;
use crate::client::settings::Settings;
use crate::flags::{Flag, Flags, value};
use crate::output::{End, Out};

pub(super) const COMMAND: Command = Command {
    name: "kafka-delete-records",
    about: "This tool helps to delete records of the given partitions down to the specified offset.",
    flags: FLAGS,
    run,
    failed: |failure| End::Said(failure.exception()),
    wrong_flag: End::Said,
};

const FLAGS: &[Flag] = &[
    value("bootstrap-server", "REQUIRED: The server to connect to."),
    value(
        "offset-json-file",
        "REQUIRED: A JSON file with an offset for each partition: \
         {\"partitions\": [{\"topic\": \"foo\", \"partition\": 1, \"offset\": 1}], \"version\": 1}",
    ),
    value("command-config", "Property file with settings of the client."),
];

fn run(flags: &Flags, out: &mut Out) -> Result<(), End> {
    check_required(flags, &["bootstrap-server", "offset-json-file"])?;
    let path = flags.value("offset-json-file").map_err(End::Said)?.unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|error| End::Said(format!("{path}: {error}")))?;
    let offsets = offsets(&text).map_err(End::Said)?;
    let admin = Admin::new(&Settings::of_flags(flags)?)?;
    writeln!(out, "Executing records delete operation")?;
    let deleted = admin.delete_records(&offsets)?;
    writeln!(out, "Records delete operation completed:")?;
    for (of, outcome) in deleted {
        match outcome {
            Ok(low) => writeln!(out, "partition: {of}\tlow_watermark: {low}")?,
            Err(failure) => writeln!(out, "partition: {of}\terror: {}", failure.exception())?,
        }
    }
    Ok(())
}

/// What the file says; a mistake in Kafka's words.
fn offsets(text: &str) -> Result<BTreeMap<TopicPartition, i64>, String> {
    let file: Value = serde_json::from_str(text).map_err(|_| "The input string is not a valid JSON".to_owned())?;
    match file.get("version").map(|version| (version, version.as_i64())) {
        None | Some((_, Some(1))) => {}
        Some((version, _)) => return Err(format!("Not supported version field value {version}")),
    }
    let partitions = file.get("partitions").and_then(Value::as_array).ok_or("Missing partitions field")?;
    let mut offsets = BTreeMap::new();
    for entry in partitions {
        let field = |name: &str| entry.get(name).ok_or_else(|| format!("Missing field \"{name}\""));
        let wrong = |name: &str| format!("Wrong value of field \"{name}\"");
        let topic = field("topic")?.as_str().ok_or_else(|| wrong("topic"))?;
        let partition = field("partition")?.as_i64().and_then(|id| i32::try_from(id).ok());
        let offset = field("offset")?.as_i64().ok_or_else(|| wrong("offset"))?;
        let of = TopicPartition::new(topic, partition.ok_or_else(|| wrong("partition"))?);
        if offsets.insert(of.clone(), offset).is_some() {
            return Err(format!("Offset json file contains duplicate topic partitions: {of}"));
        }
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says() {
        let text = r#"{"version":1,"partitions":[{"topic":"a","partition":0,"offset":40}]}"#;
        assert_eq!(offsets(text).expect("offsets").get(&TopicPartition::new("a", 0)), Some(&40));
        for (text, said) in [
            ("{", "The input string is not a valid JSON"),
            ("{}", "Missing partitions field"),
            (r#"{"version":2,"partitions":[]}"#, "Not supported version field value 2"),
            (r#"{"partitions":[{"topic":"a","partition":0}]}"#, "Missing field \"offset\""),
        ] {
            assert_eq!(offsets(text).expect_err(text), said);
        }
        let twice = r#"{"partitions":[{"topic":"a","partition":0,"offset":1},{"topic":"a","partition":0,"offset":2}]}"#;
        assert!(offsets(twice).expect_err("twice").ends_with("partitions: a-0"));
    }
}
