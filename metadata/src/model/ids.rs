//! Names and numbers of things, each a type of its own so that none can stand in for another.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

use super::limits::TOPIC_NAME_MAX_LEN;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position of an entry in the journal. The first entry is 1; 0 means "before everything".
    Lsn(u64)
);
number!(
    /// A gateway as clients see it ("broker id").
    NodeId(i32)
);
number!(
    /// A producer as InitProducerId numbered it; never negative.
    ProducerId(i64)
);

/// One life of one gateway process; fenced for ever once expired. Random, so two lives never share one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SessionId(pub u64);

impl SessionId {
    /// No session at all: no life has it, nothing it says takes effect.
    pub const NONE: Self = Self(0);

    /// A session id never seen before.
    pub fn random() -> Self {
        #[cfg(any(test, feature = "test-util"))]
        if let Some(simulated) = simulated::next() {
            return Self(simulated);
        }
        Self(Uuid::new_v4().as_u64_pair().0)
    }
}

/// What else would be of chance and follows from a seed in simulations: ids, and how long other threads take.
#[cfg(any(test, feature = "test-util"))]
pub mod simulated {
    use std::cell::Cell;
    use std::time::Duration;

    use crate::backoff::SplitMix;

    thread_local! {
        static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Longest that work on another thread waits for it, or its answer for whoever asked.
    const PAUSE_MAX: Duration = Duration::from_millis(20);

    /// It is of chance again when this is dropped.
    #[derive(Debug)]
    pub struct Simulated(());

    impl Drop for Simulated {
        fn drop(&mut self) {
            SEED.set(None);
        }
    }

    /// On this thread, session ids and the pace of other threads follow from `seed`.
    #[must_use = "until it is dropped"]
    pub fn from_seed(seed: u64) -> Simulated {
        SEED.set(Some(seed));
        Simulated(())
    }

    /// How long work waits for a thread, and its answer for whoever asked; `None` outside a simulation.
    pub(crate) fn pauses() -> Option<(Duration, Duration)> {
        let pause = || Some(PAUSE_MAX.mul_f64(SplitMix(next()?).fraction()));
        pause().zip(pause())
    }

    pub(super) fn next() -> Option<u64> {
        let seed = SEED.get()?;
        let next = SplitMix(seed).next();
        SEED.set(Some(next));
        Some(next)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Identity of a topic (KIP-516): a topic deleted and created again under the same name has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TopicId(pub Uuid);

/// The order of its bytes, compared as one number: every lookup of a partition compares a few.
impl Ord for TopicId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_u128().cmp(&other.0.as_u128())
    }
}

impl PartialOrd for TopicId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl TopicId {
    /// A topic id never seen before. Kafka reserves the zero id, and ids whose text form starts with a dash.
    pub fn random() -> Self {
        loop {
            let id = Uuid::new_v4();
            if id.as_bytes()[0] >> 2 != 0b11_1110 {
                return Self(id);
            }
        }
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, by the topic's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A legal topic name (Kafka's `Topic.validate`): 1 to 249 of `[a-zA-Z0-9._-]`, neither "." nor "..".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Why a text is not a topic name; the text is what Kafka's clients show their users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Topic name is invalid: {0}")]
pub struct InvalidTopicName(String);

impl TopicName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Kafka's internal topics, which only the broker itself may write.
    pub fn is_internal(&self) -> bool {
        matches!(&*self.0, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
    }
}

impl FromStr for TopicName {
    type Err = InvalidTopicName;

    fn from_str(text: &str) -> Result<Self, InvalidTopicName> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if text.is_empty() {
            Err(InvalidTopicName("the empty string is not allowed".into()))
        } else if text == "." || text == ".." {
            Err(InvalidTopicName(format!("'{text}' is not allowed")))
        } else if text.len() > TOPIC_NAME_MAX_LEN {
            Err(InvalidTopicName(format!(
                "the length of '{text}' is longer than the max allowed length {TOPIC_NAME_MAX_LEN}"
            )))
        } else if !text.chars().all(legal) {
            Err(InvalidTopicName(format!(
                "'{text}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
            )))
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafka() {
        for good in ["a", "A-b_c.d9", "...", &"x".repeat(249)] {
            assert!(good.parse::<TopicName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", &"x".repeat(250)] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad}");
        }
    }
}
