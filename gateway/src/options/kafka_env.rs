//! The configuration of Kafka's container images: their environment and a mounted `server.properties`, in our options.
//!
//! Three dialects, told apart by nothing but their names: `KAFKA_NUM_PARTITIONS` (apache/kafka, cp-kafka),
//! `KAFKA_CFG_NUM_PARTITIONS` (Bitnami), `num.partitions=` (the file). The environment wins over the file, as in the images;
//! our own options win over both. The translation is pure: text in, options and remarks out.
//!
//! A property is one of four: it acts; it has nothing to act on here and is named once in the log; it asks for a guard that
//! does not exist here and is refused, because ignoring it would leave the user less safe than they believe; or nobody knows
//! it, which is a warning with the nearest name and no more, because Kafka starts with it too.

mod bind;
mod meaning;
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use toml::{Table, Value};

use self::meaning::Meaning;
use super::kafka;
use super::load::{OptionsError, Origins};

pub use self::properties::{from_env, from_file};

/// Where the images look for a mounted file, the first found is read.
pub const USUAL_FILES: &[&str] = &[
    "/mnt/shared/config/server.properties",
    "/bitnami/kafka/config/server.properties",
    "/opt/bitnami/kafka/config/server.properties",
    "/opt/kafka/config/server.properties",
    "/etc/kafka/server.properties",
];
/// Where the images' users mount their data, the first that is a mount is used.
pub const USUAL_FOLDERS: &[&str] =
    &["/bitnami/kafka", "/var/lib/kafka/data", "/var/lib/kafka", "/tmp/kraft-combined-logs", "/tmp/kafka-logs"];

/// A property's value and where the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// As written, trimmed.
    pub value: String,
    /// The variable, or the file; what a message names.
    pub origin: String,
}

/// Properties by Kafka's names.
pub type Properties = BTreeMap<String, Property>;

/// What surrounds the configuration, so that reading it stays pure.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// This machine's name, told to clients by listeners that have no host (as Kafka does).
    pub host: String,
    /// `/proc/self/mountinfo`, or nothing.
    pub mounts: String,
    /// Whether the environment is an image's: then there are defaults for listeners and data.
    pub image: bool,
}

/// What the user is to be told once there is a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Names that have nothing to act on here.
    pub without_effect: Vec<String>,
    /// Sentences, each a warning.
    pub warnings: Vec<String>,
    /// What set each option, if not a flag: to be named when the value turns out to be of no use.
    pub origins: Origins,
}

/// Our options as Kafka's properties ask for them.
#[derive(Debug, Clone, Default)]
pub struct Translated {
    /// In the shape of our own file.
    pub table: Table,
    /// What is to be said.
    pub remarks: Remarks,
}

impl Remarks {
    /// What set the options that an error text names by their flags, as words to be added to that text.
    pub fn blame(&self, error: &str) -> String {
        let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let is_named = |key: &str| error.split(&format!("--{key}")).skip(1).any(|rest| !rest.starts_with(is_in_name));
        let mut named: Vec<&str> =
            self.origins.iter().filter(|(key, _)| is_named(key)).map(|(_, by)| by.as_str()).collect();
        named.dedup();
        if named.is_empty() { String::new() } else { format!(" (it is set by {})", named.join(", ")) }
    }

    /// Writes them to the log: one line for all that has no effect, one for each warning.
    pub fn log(&self) {
        if !self.without_effect.is_empty() {
            let mut names = String::new();
            for name in &self.without_effect {
                let _ = write!(names, "{}{name}", if names.is_empty() { "" } else { ", " });
            }
            tracing::info!("Kafka settings without effect here (docs/drop-in.md says why): {names}");
        }
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

/// Turns Kafka's properties into our options.
///
/// # Errors
/// For what cannot be served, or would leave the user less safe than they believe; the text names the variable.
pub fn translate(properties: &Properties, around: &Surroundings) -> Result<Translated, OptionsError> {
    let mut translated = Translated::default();
    let mut settings = BTreeMap::new();
    for (name, property) in properties {
        match meaning::of(name) {
            Meaning::Listeners => {}
            Meaning::Option(key) => option(&mut translated, key, name, property)?,
            Meaning::Setting => {
                kafka::validate(&BTreeMap::from([(name.clone(), property.value.clone())])).map_err(|error| {
                    let OptionsError::Value { reason, .. } = error else { return error };
                    refusal(property, name, &reason)
                })?;
                if meaning::is_idle(name) {
                    translated.remarks.without_effect.push(name.clone());
                }
                settings.insert(name.clone(), Value::String(property.value.clone()));
            }
            Meaning::NoEffect => translated.remarks.without_effect.push(name.clone()),
            Meaning::Guard(_) if meaning::is_off(&property.value) => {
                translated.remarks.without_effect.push(name.clone());
            }
            Meaning::Guard(why) => return Err(refusal(property, name, why)),
            Meaning::Unknown(nearest) => {
                let hint = nearest.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
                let at = &property.origin;
                translated.remarks.warnings.push(format!("{at}: there is no Kafka setting `{name}`: ignored{hint}"));
            }
        }
    }
    if !settings.is_empty() {
        translated.table.insert("kafka".into(), Value::Table(settings.into_iter().collect()));
    }
    bind::listeners(properties, around, &mut translated)?;
    if around.image && !translated.table.contains_key("data") {
        let folder = USUAL_FOLDERS.iter().find(|folder| is_mount(&around.mounts, folder));
        let other = "KAFKA_LOG_DIRS or STREAMHOUSE_DATA names another";
        let by = match folder {
            Some(folder) => {
                translated.table.insert("data".into(), Value::String((*folder).to_owned()));
                format!("what is mounted there; {other}")
            }
            None => format!("the image; {other}"),
        };
        translated.remarks.origins.insert("data".into(), by);
    }
    Ok(translated)
}

fn option(to: &mut Translated, key: &str, name: &str, property: &Property) -> Result<(), OptionsError> {
    let text = property.value.as_str();
    let value = match key {
        "node-id" => match text.parse::<i32>() {
            Ok(-1) if name == "broker.id" => return Ok(()), // Kafka chooses one itself then
            Ok(id) if id >= 0 => Value::Integer(id.into()),
            _ => return Err(refusal(property, name, &format!("`{text}` is not a whole number from 0"))),
        },
        "data" => {
            let mut folders = text.split(',').map(str::trim).filter(|folder| !folder.is_empty());
            let Some(first) = folders.next() else {
                return Err(refusal(property, name, "names no folder"));
            };
            if folders.next().is_some() {
                let at = &property.origin;
                to.remarks.warnings.push(format!("{at}: only the first of these folders is used: {first}"));
            }
            Value::String(first.to_owned())
        }
        _ => Value::String(text.to_owned()),
    };
    to.remarks.origins.insert(key.to_owned(), property.origin.clone());
    // The newer of two names for the same (node.id, log.dirs) stands later in the order of names, and so wins.
    to.table.insert(key.to_owned(), value);
    Ok(())
}

/// Whether a folder is a mount of its own; the fifth word of a line of mountinfo is its place.
fn is_mount(mounts: &str, folder: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(folder))
}

/// A warning if a Kafka broker has lived in the folder: its user expects to find the records again.
pub fn data_of_a_broker(folder: &Path) -> Option<String> {
    let signs = ["meta.properties", "data/meta.properties"]; // the second is Bitnami's
    let found = signs.iter().map(|sign| folder.join(sign)).find(|path| path.is_file())?;
    let found = found.display();
    Some(format!(
        "a Kafka broker has lived here ({found}): its records are not read, and its files are left as they are"
    ))
}

fn refusal(property: &Property, name: &str, reason: &str) -> OptionsError {
    OptionsError::Kafka { origin: property.origin.clone(), name: name.to_owned(), reason: reason.to_owned() }
}
