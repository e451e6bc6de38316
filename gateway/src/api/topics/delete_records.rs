//! DeleteRecords (21), versions 0-2: moves the start of logs forward (KIP-107).
//!
//! Offset -1 means "up to the high watermark". The bytes go when nothing refers to their object any more.
//!
//! Source: Kafka's `ReplicaManager.deleteRecords`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use metadata::command::{Command, Outcome};
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;

use crate::api::handler::{Handler, Pending};
use crate::catalog::{Found, TopicRef, resolve};
use crate::context::Context;
use crate::submit::{of_refusal, submit_within};
use crate::wire::error_code::ErrorCode;

/// Offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

/// The handler.
pub struct DeleteRecords;

impl Handler for DeleteRecords {
    const KEY: ApiKey = ApiKey::DeleteRecords;
    const VERSIONS: RangeInclusive<i16> = 0..=2;
    type Request = DeleteRecordsRequest;
    type Response = DeleteRecordsResponse;

    async fn begin(context: &Context, request: DeleteRecordsRequest) -> Pending<DeleteRecordsResponse> {
        let context = context.clone();
        Pending::later(async move { serve(&context, request).await })
    }

    fn error_code(response: &DeleteRecordsResponse) -> i16 {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|p| p.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn serve(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let services = &context.services;
    let wanted: Vec<_> = request.topics.iter().map(|t| TopicRef::Name(t.name.as_str().into())).collect();
    let found = resolve(services, &wanted).await;
    // An acked record may be newer than what is known here: the high watermark is asked behind a barrier.
    let barrier = services.metadata.barrier().await;
    let mut starts = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for (topic, found) in request.topics.iter().zip(&found) {
        let partitions = topic.partitions.iter().map(|asked| {
            let result = DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_low_watermark(-1);
            let start = if barrier.is_err() {
                Err(ErrorCode::LeaderNotAvailable)
            } else {
                start(context, found.as_ref(), asked)
            };
            match start {
                Ok(start) => {
                    starts.push(start);
                    result
                }
                Err(code) => result.with_error_code(code.code()),
            }
        });
        let partitions: Vec<_> = partitions.collect();
        topics.push(DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions));
    }
    if starts.is_empty() {
        return DeleteRecordsResponse::default().with_topics(topics);
    }
    let outcome = submit_within(&services.metadata, Command::AdvanceLogStart { starts }, request.timeout_ms).await;
    let waiting = topics.iter_mut().flat_map(|t| &mut t.partitions).filter(|p| p.error_code == 0);
    match outcome {
        Ok(Outcome::LogStarts(results)) => waiting.zip(results).for_each(|(partition, result)| match result {
            Ok(start) => partition.low_watermark = start.get(),
            Err(why) => partition.error_code = of_refusal(why).code.code(),
        }),
        Ok(_) => waiting.for_each(|partition| partition.error_code = ErrorCode::InvalidRequest.code()),
        Err(refused) => waiting.for_each(|partition| partition.error_code = refused.code.code()),
    }
    DeleteRecordsResponse::default().with_topics(topics)
}

fn start(
    context: &Context,
    found: Option<&Found>,
    asked: &DeleteRecordsPartition,
) -> Result<(TopicPartition, Offset), ErrorCode> {
    let partition = found.and_then(|f| f.partition(asked.partition_index)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let high_watermark = context.services.metadata.read(|state| state.log(partition).map(|log| log.high_watermark()));
    let high_watermark = high_watermark.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match asked.offset {
        HIGH_WATERMARK => Ok((partition, high_watermark)),
        offset => match Offset::new(offset).filter(|offset| *offset <= high_watermark) {
            Some(offset) => Ok((partition, offset)),
            None => Err(ErrorCode::OffsetOutOfRange),
        },
    }
}
