//! Reading the properties: names of variables, and the lines of a `.properties` file.

use super::{Properties, Property};

/// Bitnami's prefix; it is also the beginning of a name with the other one, so it is looked for first.
const BITNAMI: &str = "KAFKA_CFG_";
const PREFIX: &str = "KAFKA_";
/// Variables of the images that carry no prefix, and the names they are given here.
const WITHOUT_PREFIX: &[&str] = &["CLUSTER_ID", "ALLOW_PLAINTEXT_LISTENER", "BITNAMI_DEBUG"];

/// The properties that an environment holds; a Bitnami name wins over the same name without `CFG`.
pub fn from_env(env: impl Iterator<Item = (String, String)>) -> Properties {
    let (mut bitnami, mut found) = (Properties::new(), Properties::new());
    for (variable, value) in env {
        let (into, rest) = match variable.strip_prefix(BITNAMI) {
            Some(rest) => (&mut bitnami, rest),
            None => match variable.strip_prefix(PREFIX) {
                Some(rest) => (&mut found, rest),
                None if WITHOUT_PREFIX.contains(&variable.as_str()) => (&mut found, variable.as_str()),
                None => continue,
            },
        };
        if !rest.is_empty() {
            let property = Property { value: value.trim().to_owned(), origin: variable.clone() };
            into.insert(property_name(rest), property);
        }
    }
    found.extend(bitnami);
    found
}

/// `NUM_PARTITIONS` is `num.partitions`; two underscores are one, three are a dash.
fn property_name(variable: &str) -> String {
    let dashed = variable.replace("___", "-").replace("__", "\u{0}");
    dashed.replace('_', ".").replace('\u{0}', "_").to_lowercase()
}

/// The properties of a file, as Java's `Properties.load` reads them, but for escapes beyond those of separators.
pub fn from_file(text: &str, origin: &str) -> Properties {
    let mut found = Properties::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut whole = line.trim_start().to_owned();
        if whole.is_empty() || whole.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_an_open_backslash(&whole) {
            whole.pop();
            whole.push_str(lines.next().unwrap_or_default().trim_start());
        }
        let (name, value) = split(&whole);
        let property = Property { value: unescaped(value).trim().to_owned(), origin: origin.to_owned() };
        found.insert(unescaped(name), property);
    }
    found
}

fn ends_in_an_open_backslash(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// At the first `=`, `:` or space that no backslash stands before.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' => return (&line[..at], &line[at + 1..]),
            c if c.is_whitespace() => {
                let rest = line[at..].trim_start();
                return (&line[..at], rest.strip_prefix(['=', ':']).unwrap_or(rest));
            }
            _ => {}
        }
    }
    (line, "")
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some(other) => other,
                None => break,
            },
            c => c,
        });
    }
    out
}
