//! Java's `.properties` files, as `--command-config` and its like name them.

use std::collections::BTreeMap;

use crate::output::End;

/// Names and values.
pub type Properties = BTreeMap<String, String>;

/// Reads a file.
///
/// # Errors
/// If it cannot be read; the text is that of Java's exception.
pub fn load(path: &str) -> Result<Properties, End> {
    let text = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => End::Said(format!("{path} (No such file or directory)")),
        _ => End::Said(format!("{path} ({error})")),
    })?;
    Ok(parse(&String::from_utf8_lossy(&text)))
}

/// Reads the text of a file: `name=value`, `name: value` or `name value`, `#` and `!` begin comments, a backslash at the end of a
/// line goes on with the next, and elsewhere takes the character behind it as it is.
pub fn parse(text: &str) -> Properties {
    let mut properties = Properties::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while ends_open(&line) {
            line.pop();
            line.push_str(lines.next().unwrap_or_default().trim_start());
        }
        let (name, value) = split(&line);
        properties.insert(plain(name), plain(value));
    }
    properties
}

/// Reads `name=value` words; a name alone has an empty value.
pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Properties {
    let pair = |word: &'a str| word.split_once('=').unwrap_or((word, ""));
    words.into_iter().map(pair).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' => return (&line[..at], line[at + 1..].trim_start()),
            ' ' | '\t' => {
                let rest = line[at..].trim_start();
                return (&line[..at], rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start());
            }
            _ => {}
        }
    }
    (line, "")
}

fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('t') => plain.push('\t'),
                Some('u') => {
                    let digits: String = characters.by_ref().take(4).collect();
                    plain.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
                }
                other => plain.extend(other),
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_properties_file_may_hold() {
        let text = "# comment\n! too\n\na=1\n b : two words \nc three\nd=x\\\n   y\ne\\=f=\\u00e9\\t.\nempty=\nalone\n";
        let expected = [
            ("a", "1"),
            ("b", "two words "),
            ("c", "three"),
            ("d", "xy"),
            ("e=f", "\u{e9}\t."),
            ("empty", ""),
            ("alone", ""),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn words_of_a_command_line() {
        let read = of_words(["a=1", "b=x=y", "c"]);
        assert_eq!((&*read["a"], &*read["b"], &*read["c"]), ("1", "x=y", ""));
    }
}
