//! Where the records come from: a group, or partitions that nobody else knows are read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::settings::{Listener, Settings};
use crate::client::{Failure, TopicPartition};
use crate::output::End;
use crate::patterns::Topics;

/// How often to look for a topic that is not there yet, and for further partitions of one that is.
const LOOK_FOR_FIRST: Duration = Duration::from_millis(500);
const LOOK_FOR_MORE: Duration = Duration::from_secs(10);
/// How long one look may take.
const ONE_LOOK: Duration = Duration::from_secs(10);

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// From its first record.
    Beginning,
    /// What comes from now on.
    End,
    /// From this offset on.
    At(i64),
}

impl Position {
    fn offset(self) -> Offset {
        match self {
            Self::Beginning => Offset::Beginning,
            Self::End => Offset::End,
            Self::At(offset) => Offset::Offset(offset),
        }
    }
}

/// What is to be read.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// A topic,
    pub topic: Option<String>,
    /// or an expression for several.
    pub include: Option<String>,
    /// One partition of the topic only.
    pub partition: Option<i32>,
    /// From where, unless the group knows better.
    pub position: Position,
}

/// A consumer.
pub struct Source {
    consumer: BaseConsumer<Listener>,
    /// Nothing if a group says what is read.
    alone: Option<Alone>,
}

/// A consumer that says for itself what it reads. Kafka's tool makes up a group instead, whose members wait for each other.
struct Alone {
    wanted: Wanted,
    topics: Topics,
    assigned: RefCell<BTreeSet<TopicPartition>>,
    looked: Cell<Option<Instant>>,
}

impl Source {
    /// Connects, and begins to read.
    ///
    /// # Errors
    /// If a setting is not possible.
    pub fn new(settings: &Settings, wanted: Wanted) -> Result<Self, End> {
        let mut config = settings.config.clone();
        // What is committed is what was written, not what librdkafka has fetched.
        config.set("allow.auto.create.topics", "true").set("enable.auto.offset.store", "false");
        let in_group = config.get("group.id").is_some();
        let topics = match (&wanted.include, &wanted.topic) {
            (Some(include), _) => Topics::parse(include)?,
            (None, topic) => Topics::parse(&regex_lite::escape(topic.as_deref().unwrap_or_default()))?,
        };
        if !in_group {
            // Needed for its name only.
            config.set("group.id", "console-consumer").set("enable.auto.commit", "false");
        }
        let consumer: BaseConsumer<Listener> = config.create_with_context(Listener).map_err(Failure::from)?;
        if in_group {
            let name = match (&wanted.include, &wanted.topic) {
                (Some(include), _) => format!("^(?:{include})$").replace("(?:", "("),
                (None, topic) => topic.clone().unwrap_or_default(),
            };
            consumer.subscribe(&[&name]).map_err(Failure::from)?;
            return Ok(Self { consumer, alone: None });
        }
        let alone = Alone { wanted, topics, assigned: RefCell::default(), looked: Cell::new(None) };
        Ok(Self { consumer, alone: Some(alone) })
    }

    /// The next record, if there is one within that time.
    pub fn next(&self, wait: Duration) -> Option<BorrowedMessage<'_>> {
        if let Some(alone) = &self.alone {
            alone.look(&self.consumer);
        }
        match self.consumer.poll(wait)? {
            Ok(message) => Some(message),
            Err(error) => {
                report(&error);
                None
            }
        }
    }

    /// A record was written: the group has read it.
    pub fn written(&self, message: &BorrowedMessage<'_>) {
        // It fails when the partition was taken away meanwhile; whoever has it now reads the record again.
        if self.alone.is_none()
            && let Err(error) = self.consumer.store_offset_from_message(message)
        {
            report(&error);
        }
    }

    /// Leaves the group, committing what was read.
    pub fn close(self) {
        if self.alone.is_some() {
            // Nothing to leave, and librdkafka's farewell takes longer than the command.
            std::mem::forget(self.consumer);
        }
    }
}

impl Alone {
    /// Reads the partitions that are not read yet.
    fn look(&self, consumer: &BaseConsumer<Listener>) {
        let is_first = self.assigned.borrow().is_empty();
        let pause = if is_first { LOOK_FOR_FIRST } else { LOOK_FOR_MORE };
        let is_done = self.wanted.partition.is_some() && !is_first;
        if is_done || self.looked.get().is_some_and(|looked| looked.elapsed() < pause) {
            return;
        }
        let found = self.found(consumer);
        self.looked.set(Some(Instant::now()));
        let mut assigned = self.assigned.borrow_mut();
        let mut added = TopicPartitionList::new();
        // A partition that came later is read from its beginning: nothing of it was there when the reading began.
        let position = if is_first { self.wanted.position } else { Position::Beginning };
        for of in found {
            if assigned.insert(of.clone())
                && added.add_partition_offset(&of.topic, of.partition, position.offset()).is_err()
            {
                eprintln!("WARN the offset for {of} is out of range");
            }
        }
        if added.count() > 0
            && let Err(error) = consumer.incremental_assign(&added)
        {
            report(&error);
        }
    }

    fn found(&self, consumer: &BaseConsumer<Listener>) -> Vec<TopicPartition> {
        if let (Some(topic), Some(partition)) = (&self.wanted.topic, self.wanted.partition) {
            return vec![TopicPartition::new(&**topic, partition)];
        }
        let metadata = match consumer.fetch_metadata(self.wanted.topic.as_deref(), ONE_LOOK) {
            Ok(metadata) => metadata,
            Err(error) => {
                report(&error);
                return Vec::new();
            }
        };
        let wanted = metadata.topics().iter().filter(|topic| self.topics.has(topic.name()));
        let partitions =
            wanted.flat_map(|topic| topic.partitions().iter().map(|at| TopicPartition::new(topic.name(), at.id())));
        partitions.collect()
    }
}

/// An error that the client goes on after by itself.
fn report(error: &KafkaError) {
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
        eprintln!("WARN {}", Failure::from(error.clone()));
    }
}
