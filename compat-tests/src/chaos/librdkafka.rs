//! librdkafka among the clients: an idempotent producer and a consumer as its users have them, which follow the leaders they are
//! told. Each has a thread of its own.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::chaos::history::{Event, History, Mark};
use crate::chaos::producers::Work;

/// Between two records.
const PACE: Duration = Duration::from_millis(25);
const POLL: Duration = Duration::from_millis(100);
/// Longest a record may wait for its ack, faults and all.
const DELIVERED_WITHIN: &str = "240000";

fn config(work: &Work) -> ClientConfig {
    let addresses: Vec<_> = work.addresses.all().iter().map(ToString::to_string).collect();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", addresses.join(",")).set("socket.timeout.ms", "10000");
    config
}

/// Writes down what became of each record.
struct Told {
    history: Arc<History>,
    producer: u32,
}

impl ClientContext for Told {}

impl ProducerContext for Told {
    /// The record's sequence.
    type DeliveryOpaque = usize;

    fn delivery(&self, delivered: &DeliveryResult<'_>, sequence: usize) {
        let (producer, first) = (self.producer, sequence as u32);
        match delivered {
            Ok(message) => {
                let (partition, offset) = (message.partition(), message.offset());
                self.history.note(Event::Acked { producer, partition, first, count: 1, offset });
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().map_or(-1, |code| code as i32 as i16);
                self.history.note_error("librdkafka", code);
                self.history.note(Event::Accused { producer, first, code });
            }
        }
    }
}

/// Produces until told to stop and everything is acked. Blocks.
///
/// # Errors
/// If what was in flight at the end is not acked in time.
pub fn produce(work: &Work, number: u32) -> io::Result<()> {
    let told = Told { history: Arc::clone(&work.history), producer: number };
    let mut config = config(work);
    config.set("enable.idempotence", "true").set("message.timeout.ms", DELIVERED_WITHIN);
    let producer: BaseProducer<Told> = config.create_with_context(told).map_err(io::Error::other)?;
    let partition = number.cast_signed() % work.partitions;
    let mut sequence = 0;
    while !work.is_over() {
        let value = Mark { producer: number, sequence }.to_string();
        work.history.note(Event::Sent { producer: number, partition, first: sequence, count: 1 });
        let record = BaseRecord::<(), _, _>::with_opaque_to(&work.topic, sequence as usize);
        producer.send(record.partition(partition).payload(&value)).map_err(|(error, _)| io::Error::other(error))?;
        sequence += 1;
        producer.poll(PACE);
    }
    producer.flush(Duration::from_secs(240)).map_err(io::Error::other)
}

/// Follows all partitions until told to stop. Blocks.
///
/// # Errors
/// If librdkafka does not begin.
pub fn consume(work: &Work, number: u32) -> io::Result<()> {
    let mut config = config(work);
    config.set("group.id", "librdkafka").set("enable.auto.commit", "false").set("check.crcs", "true");
    // An offset that is out of range is to be told, not passed over.
    let consumer: BaseConsumer = config.set("auto.offset.reset", "error").create().map_err(io::Error::other)?;
    let mut all = TopicPartitionList::new();
    for partition in 0..work.partitions {
        all.add_partition_offset(&work.topic, partition, Offset::Offset(0)).map_err(io::Error::other)?;
    }
    consumer.assign(&all).map_err(io::Error::other)?;
    while !work.is_over() {
        match consumer.poll(POLL) {
            Some(Ok(message)) => {
                let mark = Mark::of_value(message.payload().unwrap_or_default());
                let (partition, offset) = (message.partition(), message.offset());
                work.history.note(Event::Read { reader: number, partition, offset, mark });
            }
            Some(Err(KafkaError::MessageConsumption(code))) => {
                work.history.note_error("librdkafka", code as i32 as i16);
                if matches!(code, RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) {
                    work.history.note(Event::OutOfRange { reader: number, partition: -1, offset: -1 });
                }
            }
            Some(Err(_)) | None => {}
        }
    }
    Ok(())
}
