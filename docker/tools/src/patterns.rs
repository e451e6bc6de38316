//! Java's regular expressions of topic names, as far as `regex-lite` knows them.

use regex_lite::Regex;

use crate::output::End;

/// The topic where a broker of Kafka keeps what groups committed, and that of transactions. StreamHouse has neither.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// A list of topic names: names or expressions with commas or bars between them.
#[derive(Debug)]
pub struct Topics(Regex);

impl Topics {
    /// Reads it as Kafka's `IncludeList` does: commas are bars, spaces and quotes do not count, the whole name must match.
    ///
    /// # Errors
    /// If it is no expression.
    pub fn parse(text: &str) -> Result<Self, End> {
        let plain: String = text.trim().replace(',', "|").replace(['"', '\'', ' '], "");
        let regex = Regex::new(&format!("^(?:{plain})$"));
        let regex = regex.map_err(|_| End::Said(format!("{plain} is an invalid regex.")))?;
        Ok(Self(regex))
    }

    /// Whether it names the topic.
    pub fn has(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

/// Whether Kafka keeps something of its own in the topic.
pub fn is_internal(topic: &str) -> bool {
    INTERNAL.contains(&topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_only() {
        let topics = Topics::parse("orders, pay.*").expect("an expression");
        assert!(topics.has("orders") && topics.has("payments"));
        assert!(!topics.has("orders2") && !topics.has("my-orders"));
        assert!(Topics::parse("(").is_err());
    }
}
