//! What clients did and what they were told, in the order in which it happened.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which record it is: its value says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// Number of its producer.
    pub producer: u32,
    /// Its place among all of that producer, from 0.
    pub sequence: u32,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The records `first..first + count` of a producer are about to be sent, for the first time.
    Sent {
        /// Its number.
        producer: u32,
        /// Where to.
        partition: i32,
        /// The first record's sequence.
        first: u32,
        /// How many records.
        count: u32,
    },
    /// They are acked.
    Acked {
        /// Number of the producer.
        producer: u32,
        /// Where they are.
        partition: i32,
        /// The first record's sequence.
        first: u32,
        /// How many records.
        count: u32,
        /// Offset of the first.
        offset: i64,
    },
    /// A producer that does everything right was told an error that says that it does not.
    Accused {
        /// Its number.
        producer: u32,
        /// The oldest record without an ack.
        first: u32,
        /// The error code.
        code: i16,
    },
    /// A record was read.
    Read {
        /// Number of the reader.
        reader: u32,
        /// The partition.
        partition: i32,
        /// The record's offset.
        offset: i64,
        /// Which record it is; `None` if its value does not say.
        mark: Option<Mark>,
    },
    /// A reader has read everything from offset 0 to the end, after all producers had ended.
    ReadAll {
        /// Its number.
        reader: u32,
        /// The partition.
        partition: i32,
        /// The end, exclusive.
        end: i64,
    },
    /// A reader that asked for an offset it knows to be there, or for the one behind, was told OFFSET_OUT_OF_RANGE.
    OutOfRange {
        /// Its number.
        reader: u32,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// A connection was told a high watermark.
    Watermark {
        /// The connection.
        connection: u64,
        /// The partition.
        partition: i32,
        /// The high watermark.
        offset: i64,
    },
    /// A member of the group has been given partitions.
    Assigned {
        /// The group's generation.
        generation: i32,
        /// The member's id.
        member: String,
        /// What it owns in that generation.
        partitions: Vec<i32>,
    },
    /// A member begins to join.
    Joining {
        /// A number of this joining.
        ask: u64,
    },
    /// It has joined.
    Joined {
        /// The number of [`Event::Joining`].
        ask: u64,
        /// The generation it was told.
        generation: i32,
    },
    /// An offset is about to be committed for the group.
    Committing {
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// It is committed.
    Committed {
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
    },
    /// Somebody is about to ask for committed offsets.
    Asking {
        /// A number of this question.
        ask: u64,
    },
    /// The answer.
    Told {
        /// The number of [`Event::Asking`].
        ask: u64,
        /// The partition.
        partition: i32,
        /// The offset; -1 if none.
        offset: i64,
    },
}

/// All that happened, written by many at once.
#[derive(Debug, Default)]
pub struct History(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    events: Vec<Event>,
    acks: BTreeMap<u32, u64>,
    commits: u64,
    numbers: u64,
    errors: BTreeMap<(&'static str, i16), u64>,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.producer, self.sequence)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (producer, sequence) = text.split_once('-').ok_or(())?;
        let number = |text: &str| text.parse().map_err(|_| ());
        Ok(Self { producer: number(producer)?, sequence: number(sequence)? })
    }
}

impl Mark {
    /// What the value of a record says.
    pub fn of_value(value: &[u8]) -> Option<Self> {
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

impl History {
    /// Writes down what happened just now.
    pub fn note(&self, event: Event) {
        let mut pages = self.pages();
        match &event {
            Event::Acked { producer, .. } => *pages.acks.entry(*producer).or_default() += 1,
            Event::Committed { .. } => pages.commits += 1,
            _ => {}
        }
        pages.events.push(event);
    }

    /// Counts an error code that somebody was told.
    pub fn note_error(&self, who: &'static str, code: i16) {
        *self.pages().errors.entry((who, code)).or_default() += 1;
    }

    /// A number that nobody else has.
    pub fn number(&self) -> u64 {
        let mut pages = self.pages();
        pages.numbers += 1;
        pages.numbers
    }

    /// Acked sends of each producer so far.
    pub fn acks(&self) -> BTreeMap<u32, u64> {
        self.pages().acks.clone()
    }

    /// Acked commits of offsets so far.
    pub fn commits(&self) -> u64 {
        self.pages().commits
    }

    /// Error codes told so far, and how often; 0 stands for a connection that was lost.
    pub fn errors(&self) -> BTreeMap<(&'static str, i16), u64> {
        self.pages().errors.clone()
    }

    /// All of it; what is written later is not seen.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.pages().events)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
