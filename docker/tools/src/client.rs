//! The client of the cluster: `rdkafka` where it has a safe call, `native` for the rest of librdkafka's admin calls.

pub mod native;
pub mod properties;
pub mod settings;

use std::fmt;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::errors;

/// A partition of a topic. Written as `topic-0`, ordered by topic and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
}

impl TopicPartition {
    /// Of these two.
    pub fn new(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What went wrong, in Kafka's words where Kafka has words for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Kafka's error code; below -1 one of librdkafka's own.
    pub code: i32,
    /// What is said of it.
    pub message: String,
}

impl Failure {
    /// Kafka's code of a topic or partition that is not there.
    pub const UNKNOWN_TOPIC: i32 = 3;
    /// librdkafka's code of what cannot be read.
    pub const INVALID: i32 = RDKafkaErrorCode::InvalidArgument as i32;
    /// Kafka's code of a topic that is there already.
    pub const TOPIC_EXISTS: i32 = 36;
    /// Kafka's code of a group that is not there.
    pub const UNKNOWN_GROUP: i32 = 69;

    /// Of librdkafka's code and text: its own texts for a broker's codes give way to Kafka's.
    pub fn of(code: i32, text: &str) -> Self {
        let is_own = text.is_empty() || text.starts_with("Broker: ");
        let said = if is_own { errors::text(code).unwrap_or(text) } else { text };
        Self { code, message: said.to_owned() }
    }

    /// Nobody answered a call in time.
    pub fn timed_out(call: &str) -> Self {
        Self {
            code: RDKafkaErrorCode::OperationTimedOut as i32,
            message: format!("Timed out waiting for a node assignment. Call: {call}"),
        }
    }

    /// Whether it is that there was no answer in time, or nobody to ask.
    pub fn is_timeout(&self) -> bool {
        let local = [
            RDKafkaErrorCode::OperationTimedOut,
            RDKafkaErrorCode::MessageTimedOut,
            RDKafkaErrorCode::BrokerTransportFailure,
            RDKafkaErrorCode::AllBrokersDown,
            RDKafkaErrorCode::WaitingForCoordinator,
        ];
        local.iter().any(|code| *code as i32 == self.code)
    }

    /// The exception with its text, as Java writes both.
    pub fn exception(&self) -> String {
        // Kafka's own code of a timeout.
        let code = if self.is_timeout() { 7 } else { self.code };
        format!("{}: {}", errors::exception(code), self.message)
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(code) => {
                let text = code.to_string();
                // The wrapper writes `MessageTimedOut (Local: Message timed out)`.
                let inner = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(&text);
                Self::of(code as i32, inner)
            }
            None => Self { code: Self::INVALID, message: error.to_string() },
        }
    }
}

/// What became of each part of a call.
pub type Outcomes<K, T> = Vec<(K, Result<T, Failure>)>;

/// Milliseconds since 1970.
pub fn now() -> i64 {
    rdkafka::util::current_time_millis()
}

/// How long a command waits for the cluster: `default.api.timeout.ms` of Kafka's admin client.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_quoted_and_librdkafka_translated() {
        assert_eq!(Failure::of(36, "Topic 'a' already exists.").message, "Topic 'a' already exists.");
        assert_eq!(
            Failure::of(3, "Broker: Unknown topic or partition").message,
            "This server does not host this topic-partition."
        );
        assert_eq!(Failure::of(69, "").message, "The group id does not exist.");
        assert_eq!(Failure::of(-185, "Local: Timed out").message, "Local: Timed out");
        let timeout = Failure::timed_out("listTopics").exception();
        assert!(timeout.starts_with("org.apache.kafka.common.errors.TimeoutException: Timed out"), "{timeout}");
    }
}
