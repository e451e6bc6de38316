//! Commands of admin requests: submitted once, waited for as long as the client said, answered in Kafka's codes.

use std::time::Duration;

use metadata::class::Classify;
use metadata::command::{Command, Outcome, Refusal};
use metadata::handle::Metadata;

use crate::limits;
use crate::wire::error_code::ErrorCode;

/// Why an admin request was not done, as the client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For people; empty where the code says it all.
    pub message: String,
}

impl Refused {
    /// A refusal with words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The words, if there are any.
    pub fn text(&self) -> Option<&str> {
        (!self.message.is_empty()).then_some(self.message.as_str())
    }
}

/// Submits and waits up to `timeout_ms`. After a timeout the command may still take effect, as Kafka says of its own.
pub async fn submit_within(metadata: &Metadata, command: Command, timeout_ms: i32) -> Result<Outcome, Refused> {
    let wait = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(limits::ADMIN_WAIT);
    match tokio::time::timeout(wait, metadata.submit(command)).await {
        Ok(Ok(Outcome::Refused(why))) => Err(of_refusal(why)),
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(error)) => Err(Refused::new(ErrorCode::of_class(error.class()), error.to_string())),
        Err(_) => Err(Refused::new(ErrorCode::RequestTimedOut, "not done in time; it may still be")),
    }
}

/// What a refusal by apply is called on the wire, where the API has no better word.
pub fn of_refusal(why: Refusal) -> Refused {
    let code = match why {
        Refusal::UnknownTopic | Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Refusal::TopicExists => ErrorCode::TopicAlreadyExists,
        Refusal::TopicCollides => ErrorCode::InvalidTopicException,
        Refusal::InvalidPartitions => ErrorCode::InvalidPartitions,
        Refusal::LimitReached => ErrorCode::PolicyViolation,
        Refusal::OffsetOutOfRange => ErrorCode::OffsetOutOfRange,
        Refusal::UnknownGroup => ErrorCode::GroupIdNotFound,
        Refusal::GroupNotEmpty => ErrorCode::NonEmptyGroup,
        Refusal::StaleGroup | Refusal::SessionFenced | Refusal::SessionAlive | Refusal::Displaced => {
            ErrorCode::NotController
        }
        Refusal::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::InvalidTxnState => ErrorCode::InvalidTxnState,
        Refusal::ObjectCommitted
        | Refusal::ObjectReferenced
        | Refusal::ExtentsChanged
        | Refusal::Malformed
        | Refusal::FeatureLevel => ErrorCode::InvalidRequest,
    };
    Refused::new(code, why.to_string())
}
