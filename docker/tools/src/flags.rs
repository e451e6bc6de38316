//! Flags in the manner of Kafka's tools: `--name value`, `--name=value`, `-name value`, never shortened, known ones only.
//!
//! Not `clap`: scripts see the words of the errors, and which word is taken as the value of which flag.

use std::fmt::Write as _;
use std::str::FromStr;

/// Where the second column of the table of flags begins, and how wide it is.
const COLUMN: usize = 40;
const WIDTH: usize = 80;

/// Whether a flag is followed by a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Never.
    Nothing,
    /// Always: the next word is the value, whatever it is.
    Value,
    /// If the next word is no flag.
    Maybe,
}

/// A flag of a command.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// Whether it has a value.
    pub takes: Takes,
    /// What it does, for `--help`.
    pub about: &'static str,
}

/// Flags that every command has.
const EVERYWHERE: [Flag; 2] = [switch("help", "Print usage information."), switch("version", "Display Kafka version.")];

/// A flag without a value.
pub const fn switch(name: &'static str, about: &'static str) -> Flag {
    Flag { name, takes: Takes::Nothing, about }
}

/// A flag with a value.
pub const fn value(name: &'static str, about: &'static str) -> Flag {
    Flag { name, takes: Takes::Value, about }
}

/// A flag that may have a value.
pub const fn maybe(name: &'static str, about: &'static str) -> Flag {
    Flag { name, takes: Takes::Maybe, about }
}

/// The flags that were given to a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    given: Vec<(&'static str, Option<String>)>,
    words: Vec<String>,
}

impl Flags {
    /// Reads the words of a command line. Words that belong to no flag are kept aside; most of Kafka's tools ignore them.
    ///
    /// # Errors
    /// In Kafka's words: an unknown flag, or one without its value.
    pub fn parse(known: &'static [Flag], words: &[String]) -> Result<Self, String> {
        let find = |name: &str| known.iter().chain(&EVERYWHERE).find(|flag| flag.name == name);
        let mut read = Self::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(name) = flag_name(word) else {
                read.words.push(word.clone());
                continue;
            };
            let (name, value) =
                name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value.to_owned())));
            // A single dash begins a row of letters unless the whole word is a flag: the first letter is then the unknown one.
            let Some(flag) = find(name) else {
                let unknown = if word.starts_with("--") { name } else { name.get(..1).unwrap_or(name) };
                return Err(format!("{unknown} is not a recognized option"));
            };
            let value = match flag.takes {
                Takes::Nothing if value.is_some() => return Err(format!("Option {name} does not accept an argument")),
                Takes::Nothing => None,
                Takes::Value => match value.or_else(|| words.next().cloned()) {
                    None => return Err(format!("Option {name} requires an argument")),
                    some => some,
                },
                Takes::Maybe => value.or_else(|| words.next_if(|word| flag_name(word).is_none()).cloned()),
            };
            read.given.push((flag.name, value));
        }
        read.words.extend(words.cloned());
        Ok(read)
    }

    /// Whether the flag was given.
    pub fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == name)
    }

    /// How many of these flags were given, however often.
    pub fn count(&self, names: &[&str]) -> usize {
        names.iter().filter(|name| self.has(name)).count()
    }

    /// All values of a flag, in order.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let of_flag = self.given.iter().filter(|(given, _)| *given == name);
        of_flag.filter_map(|(_, value)| value.as_deref()).collect()
    }

    /// The value of a flag.
    ///
    /// # Errors
    /// If it was given more than once.
    pub fn value(&self, name: &str) -> Result<Option<&str>, String> {
        match *self.values(name) {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            _ => Err(format!("Found multiple arguments for option {name}, but you asked for only one")),
        }
    }

    /// The value of a flag as a number.
    ///
    /// # Errors
    /// If it is none, or was given more than once.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse =
            |value: &str| value.parse().map_err(|_| format!("Cannot parse argument '{value}' of option {name}"));
        self.value(name)?.map(parse).transpose()
    }

    /// The words that belong to no flag.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The names of the flags that were given, in order, with their values.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        self.given.iter().map(|(name, value)| (*name, value.as_deref()))
    }
}

fn flag_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    (!name.is_empty()).then_some(name)
}

/// The table that Kafka's tools print behind a wrong usage: two columns, flags in alphabetical order.
pub fn table(known: &[Flag]) -> String {
    let mut rows: Vec<Flag> = known.iter().chain(&EVERYWHERE).copied().collect();
    rows.sort_by_key(|flag| flag.name);
    let mut text = format!("{:COLUMN$} Description\n{:COLUMN$} -----------\n", "Option", "------");
    for flag in rows {
        let value = match flag.takes {
            Takes::Nothing => "",
            Takes::Value => " <value>",
            Takes::Maybe => " [value]",
        };
        let mut left = format!("--{}{value}", flag.name);
        for line in wrapped(flag.about, WIDTH - COLUMN - 1) {
            writeln!(text, "{left:COLUMN$} {line}").expect("a string takes every write");
            left.clear();
        }
    }
    text
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if full {
            lines.push(String::new());
        }
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[
        value("topic", "a topic"),
        switch("list", "list"),
        maybe("state", "the state"),
        value("shift-by", "a number"),
    ];

    fn parse(line: &str) -> Result<Flags, String> {
        Flags::parse(KNOWN, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_way_to_give_a_value() {
        for line in ["--topic a --list", "--topic=a --list", "-topic a -list", "stray --topic a --list"] {
            let flags = parse(line).expect(line);
            assert_eq!(flags.value("topic"), Ok(Some("a")), "{line}");
            assert!(flags.has("list"), "{line}");
        }
        assert_eq!(parse("--shift-by -10").expect("a value").number::<i64>("shift-by"), Ok(Some(-10)));
        assert_eq!(parse("--topic --list").expect("a value").value("topic"), Ok(Some("--list")));
    }

    #[test]
    fn a_value_that_may_be_missing() {
        assert_eq!(parse("--state --list").expect("no value").value("state"), Ok(None));
        assert_eq!(parse("--state stable --list").expect("a value").value("state"), Ok(Some("stable")));
    }

    #[test]
    fn mistakes_in_the_words_of_kafka() {
        assert_eq!(parse("--topics a"), Err("topics is not a recognized option".to_owned()));
        assert_eq!(parse("-x"), Err("x is not a recognized option".to_owned()));
        assert_eq!(parse("--topic"), Err("Option topic requires an argument".to_owned()));
        let twice = parse("--topic a --topic b").expect("both are kept");
        assert_eq!(twice.values("topic"), ["a", "b"]);
        assert!(twice.value("topic").is_err());
        let number = parse("--shift-by ten").expect("a word").number::<i64>("shift-by");
        assert_eq!(number, Err("Cannot parse argument 'ten' of option shift-by".to_owned()));
    }

    #[test]
    fn the_table_names_every_flag_once() {
        let text = table(KNOWN);
        for name in ["--help", "--list", "--shift-by <value>", "--state [value]", "--topic <value>", "--version"] {
            assert_eq!(text.matches(&format!("{name} ")).count(), 1, "{name} in\n{text}");
        }
    }
}
