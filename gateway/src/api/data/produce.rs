//! Produce (0), versions 3-13: batches into the writer, offsets back.
//!
//! - Versions 0-2 are advertised (KAFKA-18659) but were removed in Kafka 4.0; dispatch refuses them.
//! - Begun in connection order: when `begin` returns, the order of this request's batches against the connection's next
//!   request is fixed. Answers wait for the PUT and the commit, side by side.
//! - acks 0, 1 and -1 are all answered (or not) after the commit: an ack means durable.
//! - v8+: `record_errors` name the records at fault (KIP-467). v10+: leader hints are left out, any gateway takes any
//!   produce (KIP-951). v13: topics by id (KIP-516).
//! - A gateway that is about to leave answers NOT_LEADER_OR_FOLLOWER, at which every client looks for another and sends again.
//! - A transactional batch without a transactional id, or two producer ids in transactional batches, fail the whole request.
//!   Transactions themselves are not supported: what is left of them gets INVALID_TXN_STATE.
//!
//! Source: Kafka's `KafkaApis.handleProduceRequest`, `ReplicaManager.appendRecords`.

use std::future::Future;
use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use metadata::class::{Classify, ErrorClass};
use metadata::command::{BatchOutcome, Refusal};
use metadata::model::batch::BatchView;
use storage::error::WriteError;
use storage::writer::Submission;
use tokio::time::Instant;

use crate::api::handler::{Handler, Pending, Reply, Turn};
use crate::catalog::{Found, TopicRef, resolve};
use crate::context::Context;
use crate::limits;
use crate::produce::validate::{InvalidBatch, Rules, ValidBatch, validate};
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct Produce;

/// Where the answer for a submitted batch goes: topic and partition by their places in the request.
#[derive(Debug, Clone, Copy)]
struct Place {
    topic: usize,
    partition: usize,
    append_time_ms: Option<i64>,
}

impl Handler for Produce {
    const KEY: ApiKey = ApiKey::Produce;
    const VERSIONS: RangeInclusive<i16> = 3..=13;
    const MAX_FRAME: usize = limits::FRAME_BYTES_MAX;
    const TURN: Turn = Turn::Together;
    type Request = ProduceRequest;
    type Response = ProduceResponse;

    async fn begin(context: &Context, request: ProduceRequest) -> Pending<ProduceResponse> {
        let deadline = Instant::now() + timeout(request.timeout_ms);
        let acks = request.acks;
        let mut answer = unanswered(&request);
        if !(-1..=1).contains(&acks) {
            return finish(acks, fail_all(answer, ErrorCode::InvalidRequiredAcks));
        }
        // Without an ack nothing can be told: those are taken to the last.
        if acks != 0 && context.services.leaving.is_cancelled() {
            return finish(acks, fail_all(answer, ErrorCode::NotLeaderOrFollower));
        }
        if let Err(code) = check_transaction(&request) {
            return finish(acks, fail_all(answer, code));
        }
        let (places, submissions) = validate_all(context, request, &mut answer).await;
        if submissions.is_empty() {
            return finish(acks, answer);
        }
        let bytes = submissions.iter().map(|s| s.batch.len()).sum();
        let writer = &context.services.writer;
        let ticket = match tokio::time::timeout_at(deadline, writer.admit(bytes)).await {
            Ok(Ok(permit)) => writer.submit(permit, submissions),
            Ok(Err(error)) => return finish(acks, fail(answer, &places, code_of(&error), &error.to_string())),
            Err(_) => {
                let why = "the writer is full; nothing of this request was written";
                return finish(acks, fail(answer, &places, ErrorCode::RequestTimedOut, why));
            }
        };
        let written = async move {
            match tokio::time::timeout_at(deadline, ticket).await {
                Ok(Ok(outcomes)) => fill(answer, &places, &outcomes),
                Ok(Err(error)) => fail(answer, &places, code_of(&error), &error.to_string()),
                Err(_) => fail(answer, &places, ErrorCode::RequestTimedOut, "not committed in time; it may still be"),
            }
        };
        respond(acks, written)
    }

    fn error_code(response: &ProduceResponse) -> i16 {
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        partitions.map(|partition| partition.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn timeout(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0)).min(limits::PRODUCE_DEADLINE)
}

fn respond(acks: i16, written: impl Future<Output = ProduceResponse> + Send + 'static) -> Pending<ProduceResponse> {
    if acks != 0 {
        return Pending::later(written);
    }
    Pending::reply(async move { silence_or_close(&written.await) })
}

fn finish(acks: i16, answer: ProduceResponse) -> Pending<ProduceResponse> {
    if acks != 0 { Pending::ready(answer) } else { Pending::Ready(silence_or_close(&answer)) }
}

/// With acks=0 no error can be told; closing makes the client look again.
fn silence_or_close(answer: &ProduceResponse) -> Reply<ProduceResponse> {
    if Produce::error_code(answer) == 0 { Reply::Silence } else { Reply::Close("a produce with acks=0 failed") }
}

/// An answer of the request's shape in which nothing has an offset.
fn unanswered(request: &ProduceRequest) -> ProduceResponse {
    let partition = |data: &PartitionProduceData| {
        PartitionProduceResponse::default()
            .with_index(data.index)
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1)
    };
    let topics = request.topic_data.iter().map(|topic| {
        TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partition_responses(topic.partition_data.iter().map(partition).collect())
    });
    ProduceResponse::default().with_responses(topics.collect())
}

/// What Kafka asks of transactional batches before it looks at any of them (`KafkaApis`, `ReplicaManager.handleProduceAppend`).
fn check_transaction(request: &ProduceRequest) -> Result<(), ErrorCode> {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let batches = partitions.filter_map(|partition| BatchView::first(partition.records.as_ref()?).ok());
    let mut producers = batches.filter(BatchView::is_transactional).map(|batch| batch.producer_id());
    let Some(first) = producers.next() else { return Ok(()) };
    if request.transactional_id.is_none() {
        return Err(ErrorCode::TransactionalIdAuthorizationFailed);
    }
    if producers.all(|other| other == first) { Ok(()) } else { Err(ErrorCode::InvalidProducerIdMapping) }
}

/// Validates every batch; failures go into the answer, the rest is returned in request order.
async fn validate_all(
    context: &Context,
    request: ProduceRequest,
    answer: &mut ProduceResponse,
) -> (Vec<Place>, Vec<Submission>) {
    let wanted: Vec<_> = request.topic_data.iter().map(|t| TopicRef::new(&t.name, t.topic_id)).collect();
    let topics = resolve(&context.services, &wanted).await;
    let now_ms = context.services.clock.now_ms();
    let mut places = Vec::new();
    let mut submissions = Vec::new();
    for (at, (data, found)) in request.topic_data.iter().zip(&topics).enumerate() {
        for (index, partition) in data.partition_data.iter().enumerate() {
            let slot = &mut answer.responses[at].partition_responses[index];
            match check(found.as_ref(), &wanted[at], partition, context.version, now_ms) {
                Ok((submission, append_time_ms)) => {
                    places.push(Place { topic: at, partition: index, append_time_ms });
                    submissions.push(submission);
                }
                Err(invalid) => refuse(slot, invalid),
            }
        }
    }
    (places, submissions)
}

fn check(
    found: Option<&Found>,
    wanted: &TopicRef,
    data: &PartitionProduceData,
    version: i16,
    now_ms: i64,
) -> Result<(Submission, Option<i64>), InvalidBatch> {
    let unknown = |code: ErrorCode| InvalidBatch { code, message: String::new(), records: Vec::new() };
    let found = found.ok_or_else(|| match wanted {
        TopicRef::Name(_) => unknown(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(_) => unknown(ErrorCode::UnknownTopicId),
    })?;
    let partition = found.partition(data.index).ok_or_else(|| unknown(ErrorCode::UnknownTopicOrPartition))?;
    let rules = Rules { config: &found.config, now_ms, version };
    let ValidBatch { bytes, summary, append_time_ms } = validate(data.records.as_ref(), rules)?;
    Ok((Submission { partition, batch: bytes, summary, profile: found.config.profile }, append_time_ms))
}

fn refuse(slot: &mut PartitionProduceResponse, invalid: InvalidBatch) {
    slot.error_code = invalid.code.code();
    slot.error_message = (!invalid.message.is_empty()).then(|| StrBytes::from_string(invalid.message));
    let record = |(index, message)| {
        BatchIndexAndErrorMessage::default()
            .with_batch_index(index)
            .with_batch_index_error_message(Some(StrBytes::from_string(message)))
    };
    slot.record_errors = invalid.records.into_iter().map(record).collect();
}

fn fail_all(mut answer: ProduceResponse, code: ErrorCode) -> ProduceResponse {
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
        partition.error_code = code.code();
    }
    answer
}

fn fail(mut answer: ProduceResponse, places: &[Place], code: ErrorCode, why: &str) -> ProduceResponse {
    for place in places {
        let slot = &mut answer.responses[place.topic].partition_responses[place.partition];
        slot.error_code = code.code();
        slot.error_message = Some(StrBytes::from_string(why.to_owned()));
    }
    answer
}

fn fill(mut answer: ProduceResponse, places: &[Place], outcomes: &[BatchOutcome]) -> ProduceResponse {
    for (place, outcome) in places.iter().zip(outcomes) {
        let slot = &mut answer.responses[place.topic].partition_responses[place.partition];
        match *outcome {
            BatchOutcome::Appended { base, log_start } => {
                slot.base_offset = base.get();
                slot.log_start_offset = log_start.get();
                slot.log_append_time_ms = place.append_time_ms.unwrap_or(-1);
            }
            BatchOutcome::Duplicate { base, log_start, max_timestamp } => {
                slot.base_offset = base.get();
                slot.log_start_offset = log_start.get();
                slot.log_append_time_ms = place.append_time_ms.map_or(-1, |_| max_timestamp);
            }
            BatchOutcome::Refused(why) => {
                slot.error_code = refusal_code(why).code();
                slot.error_message = Some(StrBytes::from_string(why.to_string()));
            }
        }
    }
    answer
}

/// What a client is told of a failed write: only codes it retries, unless trying again is in vain.
fn code_of(error: &WriteError) -> ErrorCode {
    match error {
        WriteError::TooLarge { .. } => ErrorCode::MessageTooLarge,
        WriteError::Closed
        | WriteError::Storage(_)
        | WriteError::Journal(_)
        | WriteError::Fenced
        | WriteError::Unknown(_) => match error.class() {
            ErrorClass::Closed => ErrorCode::NotLeaderOrFollower,
            ErrorClass::Unknown => ErrorCode::RequestTimedOut,
            ErrorClass::Retry | ErrorClass::Rejected | ErrorClass::Corrupt => ErrorCode::KafkaStorageError,
        },
    }
}

/// What a client is told when apply refused its batch.
fn refusal_code(why: Refusal) -> ErrorCode {
    match why {
        Refusal::UnknownTopic | Refusal::UnknownPartition => ErrorCode::UnknownTopicOrPartition,
        Refusal::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
        Refusal::OutOfOrderSequence => ErrorCode::OutOfOrderSequenceNumber,
        Refusal::InvalidTxnState => ErrorCode::InvalidTxnState,
        // Nothing of the batch is visible and the client may try again.
        Refusal::SessionFenced
        | Refusal::Displaced
        | Refusal::SessionAlive
        | Refusal::TopicExists
        | Refusal::TopicCollides
        | Refusal::InvalidPartitions
        | Refusal::LimitReached
        | Refusal::OffsetOutOfRange
        | Refusal::StaleGroup
        | Refusal::UnknownGroup
        | Refusal::GroupNotEmpty
        | Refusal::ObjectCommitted
        | Refusal::ObjectReferenced
        | Refusal::ExtentsChanged
        | Refusal::Malformed
        | Refusal::FeatureLevel => ErrorCode::NotLeaderOrFollower,
    }
}
