//! Where options come from: file, environment and flags laid over each other, then checked once against the schema.
//!
//! Later wins: the TOML file, `STREAMHOUSE_<SECTION>_<KEY>` variables, `--set section.key=value`, flags. A key that no
//! option has is refused, naming the nearest one that exists.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;
use toml::{Table, Value};

use super::Options;

/// Prefix of environment variables that set options.
const ENV_PREFIX: &str = "STREAMHOUSE_";
/// Variables with the prefix that are not options.
const ENV_NOT_OPTIONS: &[&str] =
    &["STREAMHOUSE_CONFIG", "STREAMHOUSE_KAFKA_ENV", "STREAMHOUSE_PROPERTIES", "STREAMHOUSE_SET"];

/// A configuration that cannot be started with; the text names the key and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    File {
        /// As given.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {message}")]
    Syntax {
        /// As given.
        path: String,
        /// Where and what.
        message: String,
    },
    /// No option has this key.
    #[error("unknown option `{key}` in {origin}{}", nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The key, with its section.
        key: String,
        /// Where it stood.
        origin: &'static str,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// Kafka's own configuration asks for what cannot be served.
    #[error("{origin}: {}{reason}", if origin.starts_with("KAFKA_") { String::new() } else { format!("{name}: ") })]
    Kafka {
        /// The variable, or the file.
        origin: String,
        /// Kafka's name of the property.
        name: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// The key exists, the value does not fit.
    #[error("option `{key}`: {reason}")]
    Value {
        /// The key, with its section.
        key: String,
        /// What is wrong and what is allowed.
        reason: String,
    },
}

/// One documented option, as the schema of [`Options`] tells it.
#[derive(Debug, Clone)]
pub struct Documented {
    /// Key with its section, such as `groups.group-max-size`.
    pub key: String,
    /// First to last sentence of its documentation.
    pub doc: String,
    /// Default as JSON text; `None` if it has none.
    pub default: Option<String>,
    /// What its value is.
    kind: Kind,
}

/// What a value is, as the schema says; an option without a default has a kind all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    Flag,
    Text,
}

impl Kind {
    fn of(schema: &Json) -> Self {
        let is = |name: &str| match schema.get("type") {
            Some(Json::String(one)) => one == name,
            Some(Json::Array(several)) => several.iter().any(|one| one == name),
            _ => false,
        };
        match (is("integer"), is("number"), is("boolean")) {
            (true, ..) => Self::Whole,
            (_, true, _) => Self::Number,
            (.., true) => Self::Flag,
            _ => Self::Text,
        }
    }
}

/// Options by key, and the variable that set each. An option that something else set last is not here.
pub type Origins = BTreeMap<String, String>;

impl OptionsError {
    /// Names the variable that set the option, if a variable did.
    fn blaming(self, origins: &Origins) -> Self {
        match self {
            Self::Value { key, reason } => {
                let by = origins.get(&key).map(|origin| format!(" (it is set by {origin})")).unwrap_or_default();
                Self::Value { key, reason: reason + &by }
            }
            other @ (Self::File { .. } | Self::Syntax { .. } | Self::Unknown { .. } | Self::Kafka { .. }) => other,
        }
    }
}

/// Lays the sources over each other and checks keys and values; `base`, whose own origins are given too, has the lowest place.
///
/// # Errors
/// For the first key or value that cannot be; the text names the variable that set it, if one did.
pub fn load(
    (base, mut origins): (Table, Origins),
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    sets: &[String],
    flags: Vec<(&'static str, String)>,
) -> Result<(Options, Origins), OptionsError> {
    let known = documented();
    let mut table = base;
    if let Some(path) = file {
        let read = read_file(path)?;
        refuse_unknown(&read, "", &known)?;
        origins.retain(|key, _| !has(&read, key));
        lay_over(&mut table, read);
    }
    for (name, value) in env.filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
        if ENV_NOT_OPTIONS.contains(&name.as_str()) {
            continue;
        }
        let words = name[ENV_PREFIX.len()..].to_lowercase().replace('_', "-");
        let matching = known.iter().find(|d| d.key.replace('.', "-") == words);
        let key = matching.map(|d| d.key.clone()).ok_or_else(|| OptionsError::Unknown {
            key: name.clone(),
            origin: "the environment",
            nearest: nearest(&words, known.iter().map(|d| d.key.replace('.', "-")))
                .map(|n| format!("{ENV_PREFIX}{}", n.replace('-', "_").to_uppercase())),
        })?;
        origins.insert(key.clone(), name);
        insert(&mut table, &key, &value, &known).map_err(|error| error.blaming(&origins))?;
    }
    for set in sets {
        let (key, value) = set
            .split_once('=')
            .ok_or_else(|| OptionsError::Value { key: set.clone(), reason: "--set wants section.key=value".into() })?;
        check_key(key, "--set", &known)?;
        origins.remove(key);
        insert(&mut table, key, value, &known)?;
    }
    for (key, value) in flags {
        origins.remove(key);
        insert(&mut table, key, &value, &known)?;
    }
    let options = typed(table, "configuration")?;
    options.validate().map_err(|error| error.blaming(&origins))?;
    Ok((options, origins))
}

fn typed(table: Table, key: &str) -> Result<Options, OptionsError> {
    let wrong =
        |error: toml::de::Error| OptionsError::Value { key: key.to_owned(), reason: error.message().to_owned() };
    table.try_into().map_err(wrong)
}

/// Whether the table has a value at the dotted key.
fn has(table: &Table, key: &str) -> bool {
    match key.split_once('.') {
        Some((section, rest)) => table.get(section).and_then(Value::as_table).is_some_and(|inner| has(inner, rest)),
        None => table.contains_key(key),
    }
}

/// Every option with its documentation and default, in key order.
pub fn documented() -> Vec<Documented> {
    let schema = schemars::schema_for!(Options).to_value();
    let mut found = Vec::new();
    collect(&schema, &schema, "", &mut found);
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

fn collect(root: &Json, node: &Json, prefix: &str, found: &mut Vec<Documented>) {
    let Some(properties) = node.get("properties").and_then(Json::as_object) else { return };
    for (name, property) in properties {
        let key = format!("{prefix}{name}");
        let target = resolve(root, property);
        if target.get("properties").is_some() {
            collect(root, target, &format!("{key}."), found);
            continue;
        }
        let doc = property.get("description").and_then(Json::as_str).unwrap_or_default();
        let default = property.get("default").filter(|d| !d.is_null()).map(ToString::to_string);
        found.push(Documented { key, doc: doc.replace('\n', " "), default, kind: Kind::of(target) });
    }
}

fn resolve<'a>(root: &'a Json, node: &'a Json) -> &'a Json {
    let reference = node.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(node)
}

fn read_file(path: &Path) -> Result<Table, OptionsError> {
    let shown = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| OptionsError::File { path: shown(), source })?;
    text.parse::<Table>().map_err(|e| {
        let line = text[..e.span().map_or(0, |span| span.start)].matches('\n').count() + 1;
        OptionsError::Syntax { path: shown(), message: format!("line {line}: {}", e.message().replace('\n', ", ")) }
    })
}

fn lay_over(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => drop(lower.insert(key, value)),
        }
    }
}

fn refuse_unknown(table: &Table, prefix: &str, known: &[Documented]) -> Result<(), OptionsError> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        match value {
            Value::Table(inner) if !is_map(&key) => refuse_unknown(inner, &format!("{key}."), known)?,
            _ => check_key(&key, "the configuration file", known)?,
        }
    }
    Ok(())
}

/// Options whose keys are Kafka's own names; they are checked against Kafka's table.
fn is_map(key: &str) -> bool {
    key == "kafka"
}

fn check_key(key: &str, origin: &'static str, known: &[Documented]) -> Result<(), OptionsError> {
    if key.starts_with("kafka.") || known.iter().any(|d| d.key == key) {
        return Ok(());
    }
    let nearest = nearest(key, known.iter().map(|d| d.key.clone()));
    Err(OptionsError::Unknown { key: key.to_owned(), origin, nearest })
}

/// The name most like `wanted`, if any is like it at all.
pub fn nearest(wanted: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let scored = names.map(|name| (strsim::damerau_levenshtein(wanted, &name), name));
    scored.min().filter(|(distance, name)| *distance <= name.len().max(wanted.len()) / 2).map(|(_, name)| name)
}

/// Puts a text value at a dotted key, typed as the schema asks.
fn insert(table: &mut Table, key: &str, text: &str, known: &[Documented]) -> Result<(), OptionsError> {
    if let Some(name) = key.strip_prefix("kafka.") {
        let inner = table.entry("kafka").or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(inner) = inner {
            inner.insert(name.to_owned(), Value::String(text.to_owned()));
        }
        return Ok(());
    }
    let kind = known.iter().find(|d| d.key == key).map_or(Kind::Text, |d| d.kind);
    let wrong = |reason: &str| OptionsError::Value { key: key.to_owned(), reason: format!("`{text}` is not {reason}") };
    let value = match kind {
        Kind::Number => Value::Float(text.parse().map_err(|_| wrong("a number"))?),
        Kind::Whole => Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?),
        Kind::Flag => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
        Kind::Text => Value::String(text.to_owned()),
    };
    let (sections, name) = key.rsplit_once('.').unwrap_or(("", key));
    let mut alone = Table::from_iter([(name.to_owned(), value)]);
    for section in sections.rsplit('.').filter(|section| !section.is_empty()) {
        alone = Table::from_iter([(section.to_owned(), Value::Table(alone))]);
    }
    // By itself first: a value that does not fit is then known by its key.
    typed(alone.clone(), key)?;
    lay_over(table, alone);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str) -> Result<Options, OptionsError> {
        let nothing = (Table::new(), Origins::new());
        load(nothing, None, std::iter::empty(), &[key.to_owned()], Vec::new()).map(|(options, _)| options)
    }

    /// With variables of the environment, and flags.
    fn with(variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<(Options, Origins), OptionsError> {
        let env = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let flags = flags.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        load((Table::new(), Origins::new()), None, env, &[], flags)
    }

    #[test]
    fn every_option_is_documented() {
        let all = documented();
        assert!(all.len() > 10);
        let silent: Vec<_> = all.iter().filter(|d| d.doc.is_empty()).map(|d| &d.key).collect();
        assert!(silent.is_empty(), "{silent:?}");
    }

    #[test]
    fn a_wrong_key_names_the_nearest() {
        let message = set("node-idd=3").unwrap_err().to_string();
        assert!(message.contains("did you mean `node-id`"), "{message}");
        let message = with(&[("STREAMHOUSE_LISTN", "x")], &[]).unwrap_err().to_string();
        assert!(message.contains("STREAMHOUSE_LISTEN"), "{message}");
    }

    #[test]
    fn later_sources_win() {
        let env = [("STREAMHOUSE_NODE_ID".to_owned(), "2".to_owned())].into_iter();
        let nothing = (Table::new(), Origins::new());
        let (options, origins) =
            load(nothing, None, env, &["node-id=3".into()], vec![("node-id", "4".into())]).unwrap();
        assert_eq!((options.node_id, origins), (Some(4), Origins::new()));
    }

    /// Issue 4: one line that names the variable, whatever is wrong with the value.
    #[test]
    fn a_wrong_value_names_its_variable() {
        for (name, value) in [
            ("STREAMHOUSE_NODE_ID", "one"),
            ("STREAMHOUSE_NODE_ID", "-1"),
            ("STREAMHOUSE_LISTEN", "9092"),
            ("STREAMHOUSE_ADVERTISE", "0.0.0.0:9092"),
            ("STREAMHOUSE_ADMIN", "0.0.0.0:9464"),
            ("STREAMHOUSE_BUCKET", "records"),
            ("STREAMHOUSE_ENDPOINT", "minio:9000"),
            ("STREAMHOUSE_JOURNAL", "etcd"),
            ("STREAMHOUSE_LOG_FORMAT", "xml"),
            ("STREAMHOUSE_CONSOLE_POINT_MS", "-5"),
            ("STREAMHOUSE_STORAGE_PROFILE", "fast"),
            ("STREAMHOUSE_STORAGE_PUT_BUDGET", "much"),
            ("STREAMHOUSE_STORAGE_SEGMENT_BYTES", "0"),
            ("STREAMHOUSE_COST_PRICES", "azure"),
            ("STREAMHOUSE_COST_PUT_PER_1000", "-1"),
            ("STREAMHOUSE_METADATA_SNAPSHOT_BYTES", "0"),
        ] {
            let message = with(&[(name, value)], &[]).unwrap_err().to_string();
            assert!(message.contains(name) && !message.contains('\n'), "{name}={value}: {message}");
        }
        let message = with(&[("STREAMHOUSE_NODE_ID", "1")], &[("node-id", "x")]).unwrap_err().to_string();
        assert!(!message.contains("STREAMHOUSE"), "a flag won: {message}");
    }

    #[test]
    fn values_are_typed() {
        let message = set("node-id=one").unwrap_err().to_string();
        assert!(message.contains("`node-id`") && message.contains("whole number"), "{message}");
        assert_eq!(set("storage.linger-max-ms=5").unwrap().storage.linger_max_ms, Some(5), "has no default");
        assert_eq!(set("storage.put-budget=2").unwrap().storage.put_budget, Some("2".into()));
    }
}
