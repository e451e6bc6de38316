//! OffsetCommit (8), versions 2-10: a group remembers how far it has read.
//!
//! - Versions 0 and 1 went to ZooKeeper or had no use; Kafka 4 dropped them.
//! - Versions 2-4 carry a retention of their own for the offsets; -1 takes the group's.
//! - From version 7 static members (KIP-345). An unknown group with a generation is ILLEGAL_GENERATION, from version 9
//!   GROUP_ID_NOT_FOUND.
//! - Generation -1 and no member: a consumer with partitions assigned by hand, or an admin; allowed while the group is empty.
//! - A negative offset takes back what was committed: Kafka keeps the number, and every client that fetches it takes it for none.
//!   kafkajs commits -1 or -2 when its position is out of range, and then asks for the offset to go on from.
//! - Version 10 names topics by id (KIP-848); an unknown id is UNKNOWN_TOPIC_ID.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{ApiKey, OffsetCommitRequest, OffsetCommitResponse};
use metadata::command::CommittedOffset;
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::topics::Topic;

use super::words::{code_of, kept, kept_option, partition_of, topic};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::error::GroupError;
use crate::coordinator::groups::Each;
use crate::coordinator::rules::classic::stable::Caller;
use crate::limits;
use crate::services::Services;
use crate::wire::newer::{ById, TOPIC_IDS};

/// The handler.
pub struct OffsetCommit;

impl Handler for OffsetCommit {
    const KEY: ApiKey = ApiKey::OffsetCommit;
    const VERSIONS: RangeInclusive<i16> = 2..=TOPIC_IDS;
    const MAX_FRAME: usize = limits::FRAME_BYTES_GROUP;
    type Request = ById<OffsetCommitRequest>;
    type Response = OffsetCommitResponse;

    async fn begin(context: &Context, ById(request): Self::Request) -> Pending<OffsetCommitResponse> {
        let (version, services) = (context.version, Arc::clone(&context.services));
        Pending::later(async move {
            let groups = &services.groups;
            let mut judged = judge(&services, version, &request);
            let unknown = [GroupError::UnknownTopicOrPartition, GroupError::UnknownTopicId];
            if unknown.iter().any(|why| judged.contains(&Err(*why))) && groups.barrier().await.is_ok() {
                judged = judge(&services, version, &request); // another gateway may have made the topic
            }
            let named = || judged.iter().flatten();
            let offsets: Vec<_> = named().filter_map(|(at, offset)| Some((*at, offset.clone()?))).collect();
            let withdrawn: Vec<_> = named().filter(|(_, offset)| offset.is_none()).map(|(at, _)| *at).collect();
            let caller = Caller {
                member_id: kept(&request.member_id),
                instance: kept_option(request.group_instance_id.as_ref()),
                generation: request.generation_id_or_member_epoch,
            };
            let committed = match offsets.is_empty() {
                true => Ok(Vec::new()),
                false => groups.commit(&request.group_id.0, &caller, offsets).await,
            };
            let withdrawn = match withdrawn.is_empty() {
                true => Ok(()),
                false => groups.withdraw(&request.group_id.0, &caller, withdrawn).await,
            };
            answer(version, &request, &judged, &committed, withdrawn)
        })
    }

    fn error_code(response: &OffsetCommitResponse) -> i16 {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

/// What is to be committed, or why not, for each partition of the request in order. No offset: what was committed is taken back.
type Judged = Vec<Result<(TopicPartition, Option<CommittedOffset>), GroupError>>;

fn judge(services: &Services, version: i16, request: &OffsetCommitRequest) -> Judged {
    let retention_ms = Some(request.retention_time_ms).filter(|retention_ms| *retention_ms >= 0);
    let expire_ms = retention_ms.map(|retention_ms| services.clock.now_ms().saturating_add(retention_ms));
    let longest = services.groups.options().offset_metadata_max_bytes;
    services.groups.metadata().read(|state| {
        let partitions = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let one = |(named, partition): (&OffsetCommitRequestTopic, &OffsetCommitRequestPartition)| {
            let topic = topic(state, version, &named.name, named.topic_id)?;
            judge_one(topic, partition, longest, expire_ms)
        };
        partitions.map(one).collect()
    })
}

fn judge_one(
    topic: &Topic,
    asked: &OffsetCommitRequestPartition,
    longest: usize,
    expire_ms: Option<i64>,
) -> Result<(TopicPartition, Option<CommittedOffset>), GroupError> {
    let known = partition_of(topic, asked.partition_index).ok_or(GroupError::UnknownTopicOrPartition)?;
    let metadata = asked.committed_metadata.as_deref().unwrap_or_default();
    // Kafka counts UTF-16 units.
    if metadata.len() > longest && metadata.encode_utf16().count() > longest {
        return Err(GroupError::OffsetMetadataTooLarge);
    }
    let leader_epoch = asked.committed_leader_epoch;
    let offset = Offset::new(asked.committed_offset);
    let metadata = metadata.to_owned();
    Ok((known, offset.map(|offset| CommittedOffset { offset, leader_epoch, metadata, commit_ms: 0, expire_ms })))
}

fn answer(
    version: i16,
    request: &OffsetCommitRequest,
    judged: &Judged,
    committed: &Each,
    withdrawn: Result<(), GroupError>,
) -> OffsetCommitResponse {
    let in_version = |error: GroupError| match error {
        GroupError::GroupNotFound if version < 9 => GroupError::IllegalGeneration,
        other => other,
    };
    let whole = committed.as_ref().err().copied().map(in_version);
    let mut done = committed.iter().flatten().copied();
    let results = judged.iter().map(|judged| match (judged, whole) {
        (Err(error), _) => Err(*error),
        (Ok((_, None)), _) => withdrawn.map_err(in_version),
        (Ok((_, Some(_))), Some(error)) => Err(error),
        (Ok((_, Some(_))), None) => done.next().unwrap_or(Err(GroupError::SaveUnknown)),
    });
    let mut codes = results.map(code_of);
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(codes.next().unwrap_or_default())
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
