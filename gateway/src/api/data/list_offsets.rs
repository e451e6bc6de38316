//! ListOffsets (2), versions 1-11: where a log starts and ends, and the first offset at or after a time.
//!
//! - -1 latest (the last stable offset for `read_committed`), -2 earliest, -3 the record with the largest timestamp
//!   (KIP-734, v7), -4 earliest local (KIP-405, v8), -5 latest tiered (KIP-1005, v9) and -6 earliest not yet tiered
//!   (KIP-1023, v11): there is no local tier, so -4 equals earliest and -5 and -6 have no offset, as on a Kafka topic without a
//!   remote tier. One that the version does not know is UNSUPPORTED_VERSION.
//! - The end of a log is asked behind a read barrier, so that a client never reads an older end than it was acked.
//!
//! Source: Kafka's `KafkaApis.handleListOffsetRequest`, `UnifiedLog.fetchOffsetByTimestamp`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::list_offsets_request::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;

use super::fetch::code_of;
use crate::api::handler::{Handler, Pending};
use crate::catalog::{Found, TopicRef, resolve};
use crate::context::Context;
use crate::limits;
use crate::services::Services;
use crate::wire::error_code::ErrorCode;
use crate::wire::newer::Alike;

/// First version that tells the leader epoch.
const LEADER_EPOCH_FROM: i16 = 4;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
/// Newest version; it has one more special timestamp and no other shape than 10.
const NEWEST: i16 = 11;

/// The handler.
pub struct ListOffsets;

impl Handler for ListOffsets {
    const KEY: ApiKey = ApiKey::ListOffsets;
    const VERSIONS: RangeInclusive<i16> = 1..=NEWEST;
    type Request = Alike<ListOffsetsRequest, NEWEST>;
    type Response = Alike<ListOffsetsResponse, NEWEST>;

    async fn begin(context: &Context, Alike(request): Self::Request) -> Pending<Self::Response> {
        let context = context.clone();
        Pending::later(async move { Alike(serve(&context, request).await) })
    }

    fn error_code(Alike(response): &Self::Response) -> i16 {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|p| p.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn serve(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let services = &context.services;
    let wanted: Vec<_> = request.topics.iter().map(|t| TopicRef::Name(t.name.as_str().into())).collect();
    let barrier = services.metadata.barrier().await;
    let found = resolve(services, &wanted).await;
    let mut lookups = Vec::new();
    for (topic, found) in request.topics.iter().zip(&found) {
        for asked in &topic.partitions {
            let located = match locate(found.as_ref(), asked.partition_index, asked.current_leader_epoch) {
                Ok(_) if context.version < known_from(asked.timestamp) => Err(ErrorCode::UnsupportedVersion),
                Ok(_) if barrier.is_err() => Err(ErrorCode::LeaderNotAvailable),
                located => located,
            };
            lookups.push(look_up(Arc::clone(services), located, asked.timestamp));
        }
    }
    let mut answers = join_all(lookups).await.into_iter();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut answers);
        let partitions =
            partitions.map(|(asked, answer)| respond(asked.partition_index, context.version, answer)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// First version that knows this timestamp.
fn known_from(timestamp: i64) -> i16 {
    match timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => 0,
    }
}

fn locate(found: Option<&Found>, index: i32, leader_epoch: i32) -> Result<TopicPartition, ErrorCode> {
    if leader_epoch > limits::LEADER_EPOCH {
        return Err(ErrorCode::UnknownLeaderEpoch);
    }
    found.and_then(|found| found.partition(index)).ok_or(ErrorCode::UnknownTopicOrPartition)
}

/// Offset and timestamp, or nothing if no record is there. Boxed, because the compiler cannot see through many of them.
fn look_up(
    services: Arc<Services>,
    located: Result<TopicPartition, ErrorCode>,
    timestamp: i64,
) -> BoxFuture<'static, Result<Option<(Offset, i64)>, ErrorCode>> {
    Box::pin(async move {
        let partition = located?;
        let bounds =
            services.metadata.read(|state| state.log(partition).map(|log| (log.log_start(), log.last_stable())));
        let (start, end) = bounds.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        match timestamp {
            LATEST => Ok(Some((end, -1))),
            EARLIEST | EARLIEST_LOCAL => Ok(Some((start, -1))),
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(None),
            MAX_TIMESTAMP => services.reader.max_timestamp(partition).await.map_err(|e| code_of(&e)),
            time if time >= 0 => services.reader.offset_for_timestamp(partition, time).await.map_err(|e| code_of(&e)),
            _ => Err(ErrorCode::UnsupportedVersion),
        }
    })
}

fn respond(index: i32, version: i16, answer: Result<Option<(Offset, i64)>, ErrorCode>) -> ListOffsetsPartitionResponse {
    let base = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match answer {
        Ok(Some((offset, timestamp))) => {
            let leader_epoch = if version >= LEADER_EPOCH_FROM { limits::LEADER_EPOCH } else { -1 };
            base.with_offset(offset.get()).with_timestamp(timestamp).with_leader_epoch(leader_epoch)
        }
        Ok(None) => base.with_offset(-1).with_timestamp(-1).with_leader_epoch(-1),
        Err(code) => base.with_error_code(code.code()).with_offset(-1).with_timestamp(-1).with_leader_epoch(-1),
    }
}
