//! OffsetForLeaderEpoch (23), versions 2-4: where an epoch of leadership ends, for clients that check for truncation.
//!
//! A log here is never truncated and has one leader epoch, so the end of a known epoch is the end of the log.
//!
//! Source: Kafka's `UnifiedLog.endOffsetForEpoch`, KIP-320.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};

use crate::api::handler::{Handler, Pending};
use crate::catalog::{Found, TopicRef, resolve};
use crate::context::Context;
use crate::limits;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct OffsetForLeaderEpoch;

impl Handler for OffsetForLeaderEpoch {
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    const VERSIONS: RangeInclusive<i16> = 2..=4;
    type Request = OffsetForLeaderEpochRequest;
    type Response = OffsetForLeaderEpochResponse;

    async fn begin(context: &Context, request: OffsetForLeaderEpochRequest) -> Pending<OffsetForLeaderEpochResponse> {
        let context = context.clone();
        Pending::later(async move {
            let services = &context.services;
            let wanted: Vec<_> = request.topics.iter().map(|t| TopicRef::Name(t.topic.as_str().into())).collect();
            let barrier = services.metadata.barrier().await;
            let found = resolve(services, &wanted).await;
            let topics = request.topics.iter().zip(&found).map(|(topic, found)| {
                let partitions = topic.partitions.iter().map(|asked| {
                    let end = if barrier.is_ok() {
                        end(&context, found.as_ref(), asked)
                    } else {
                        Err(ErrorCode::LeaderNotAvailable)
                    };
                    let answer = EpochEndOffset::default().with_partition(asked.partition);
                    match end {
                        Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
                        Err(code) => answer.with_error_code(code.code()).with_leader_epoch(-1).with_end_offset(-1),
                    }
                });
                OffsetForLeaderTopicResult::default()
                    .with_topic(topic.topic.clone())
                    .with_partitions(partitions.collect())
            });
            OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
        })
    }

    fn error_code(response: &OffsetForLeaderEpochResponse) -> i16 {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|p| p.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn end(context: &Context, found: Option<&Found>, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let partition = found.and_then(|f| f.partition(asked.partition)).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if asked.current_leader_epoch > limits::LEADER_EPOCH {
        return Err(ErrorCode::UnknownLeaderEpoch);
    }
    if !(0..=limits::LEADER_EPOCH).contains(&asked.leader_epoch) {
        return Ok((-1, -1));
    }
    let end = context.services.metadata.read(|state| state.log(partition).map(|log| log.high_watermark()));
    end.map(|end| (limits::LEADER_EPOCH, end.get())).ok_or(ErrorCode::UnknownTopicOrPartition)
}
