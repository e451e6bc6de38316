//! OffsetFetch (9), versions 1-10: how far groups have read.
//!
//! - Version 0 went to ZooKeeper; Kafka 4 dropped it. From version 2 null topics ask for all; from 8 many groups (KIP-709).
//! - Read behind the journal's head, so that a commit through any gateway is seen.
//! - What was never committed is -1 without an error, and so is everything of an unknown group and of unknown topics.
//! - require_stable (version 7, KIP-447): offsets pending in a transaction; there are none before transactions.
//! - Member id and epoch (version 9) are of the protocol of KIP-848; classic groups pay them no heed, as on Kafka.
//! - Errors are NOT_COORDINATOR, which every client tries again. Before version 2 they stand at each partition.
//! - Version 10 names topics by id (KIP-848); an unknown id is UNKNOWN_TOPIC_ID at each of its partitions.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{ApiKey, GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use metadata::command::CommittedOffset;
use metadata::model::ids::TopicId;
use metadata::state::State;
use metadata::state::topics::Topic;
use uuid::Uuid;

use super::words::{fetch_code, partition_of, told, topic};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::error::GroupError;
use crate::wire::error_code::ErrorCode;
use crate::wire::newer::{ById, TOPIC_IDS};

/// The handler.
pub struct OffsetFetch;

impl Handler for OffsetFetch {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VERSIONS: RangeInclusive<i16> = 1..=TOPIC_IDS;
    type Request = ById<OffsetFetchRequest>;
    type Response = OffsetFetchResponse;

    async fn begin(context: &Context, ById(request): Self::Request) -> Pending<OffsetFetchResponse> {
        let (version, services) = (context.version, Arc::clone(&context.services));
        Pending::later(async move {
            let groups = &services.groups;
            let asked = read(version, request);
            let current = groups.barrier().await;
            let found: Vec<_> =
                groups.metadata().read(|state| asked.iter().map(|one| find(state, version, one)).collect());
            answer(version, &asked, found, current)
        })
    }

    fn error_code(response: &OffsetFetchResponse) -> i16 {
        let groups = response.groups.iter().map(|group| group.error_code);
        let old = response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        let topics = response.groups.iter().flat_map(|group| &group.topics);
        let new = topics.flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        std::iter::once(response.error_code).chain(groups).chain(old).chain(new).find(|code| *code != 0).unwrap_or(0)
    }
}

/// One group and what is asked of it; `None` for everything.
struct Asked {
    group: GroupId,
    topics: Option<Vec<Named>>,
}

/// One topic that is asked for, by name or by id.
struct Named {
    name: TopicName,
    id: Uuid,
    partitions: Vec<i32>,
}

/// One topic of an answer.
struct Found {
    name: TopicName,
    id: Uuid,
    error: ErrorCode,
    partitions: Vec<(i32, Option<CommittedOffset>)>,
}

fn read(version: i16, request: OffsetFetchRequest) -> Vec<Asked> {
    if version < 8 {
        let named =
            |t: OffsetFetchRequestTopic| Named { name: t.name, id: Uuid::nil(), partitions: t.partition_indexes };
        let topics = request.topics.map(|topics| topics.into_iter().map(named).collect());
        return vec![Asked { group: request.group_id, topics }];
    }
    let named = |t: OffsetFetchRequestTopics| Named { name: t.name, id: t.topic_id, partitions: t.partition_indexes };
    let one = |group: OffsetFetchRequestGroup| Asked {
        group: group.group_id,
        topics: group.topics.map(|topics| topics.into_iter().map(named).collect()),
    };
    request.groups.into_iter().map(one).collect()
}

fn find(state: &State, version: i16, asked: &Asked) -> Vec<Found> {
    let group = &*asked.group.0;
    let Some(topics) = &asked.topics else { return find_all(state, group) };
    let committed = |topic: &Topic, index: i32| {
        partition_of(topic, index).and_then(|partition| state.offsets().get(group, partition)).cloned()
    };
    let one = |named: &Named| {
        let topic = topic(state, version, &named.name, named.id);
        let error = match topic {
            Err(GroupError::UnknownTopicId) => ErrorCode::UnknownTopicId,
            Ok(_) | Err(_) => ErrorCode::None, // an unknown name has no offsets
        };
        let offset = |index: i32| topic.ok().and_then(|topic| committed(topic, index));
        let partitions = named.partitions.iter().map(|index| (*index, offset(*index))).collect();
        Found { name: named.name.clone(), id: named.id, error, partitions }
    };
    topics.iter().map(one).collect()
}

fn find_all(state: &State, group: &str) -> Vec<Found> {
    let mut found: Vec<(TopicId, Found)> = Vec::new();
    for (partition, offset) in state.offsets().iter(group) {
        let Some(topic) = state.topics().get(partition.topic) else { continue };
        let committed = (partition.partition, Some(offset.clone()));
        match found.last_mut() {
            Some((id, last)) if *id == partition.topic => last.partitions.push(committed),
            Some(_) | None => {
                let name = TopicName(told(topic.name().as_str()));
                let (id, error) = (partition.topic.0, ErrorCode::None);
                found.push((partition.topic, Found { name, id, error, partitions: vec![committed] }));
            }
        }
    }
    found.into_iter().map(|(_, found)| found).collect()
}

fn answer(
    version: i16,
    asked: &[Asked],
    found: Vec<Vec<Found>>,
    current: Result<(), GroupError>,
) -> OffsetFetchResponse {
    let error = current.err().map_or(0, |error| fetch_code(error).code());
    let response = OffsetFetchResponse::default();
    if version < 8 {
        let topics = found.into_iter().next().unwrap_or_default();
        let response = if version < 2 { response } else { response.with_error_code(error) };
        let old = |found: Found| {
            OffsetFetchResponseTopic::default().with_name(found.name).with_partitions(
                found
                    .partitions
                    .into_iter()
                    .map(|(index, offset)| old_partition(version, index, offset, error))
                    .collect(),
            )
        };
        // With an error for the whole, Kafka lists nothing; the oldest version has only partitions to put it.
        let listed = if error != 0 && version >= 2 { Vec::new() } else { topics };
        return response.with_topics(listed.into_iter().map(old).collect());
    }
    let groups = asked.iter().zip(found).map(|(asked, found)| {
        let listed = if error == 0 { found } else { Vec::new() };
        let topic = |found: Found| {
            let error = found.error.code();
            let partitions = found.partitions.into_iter();
            OffsetFetchResponseTopics::default()
                .with_name(found.name)
                .with_topic_id(found.id)
                .with_partitions(partitions.map(|(index, offset)| new_partition(index, offset, error)).collect())
        };
        OffsetFetchResponseGroup::default()
            .with_group_id(asked.group.clone())
            .with_topics(listed.into_iter().map(topic).collect())
            .with_error_code(error)
    });
    response.with_groups(groups.collect())
}

/// Offset, leader epoch, metadata; -1 for what was never committed.
fn told_offset(offset: Option<CommittedOffset>) -> (i64, i32, Option<StrBytes>) {
    match offset {
        Some(offset) => (offset.offset.get(), offset.leader_epoch, Some(StrBytes::from_string(offset.metadata))),
        None => (-1, -1, Some(StrBytes::new())),
    }
}

fn old_partition(
    version: i16,
    index: i32,
    offset: Option<CommittedOffset>,
    error: i16,
) -> OffsetFetchResponsePartition {
    let partition = OffsetFetchResponsePartition::default().with_partition_index(index);
    let (offset, leader_epoch, metadata) = told_offset(offset.filter(|_| error == 0));
    let partition = if version < 5 { partition } else { partition.with_committed_leader_epoch(leader_epoch) };
    partition.with_committed_offset(offset).with_metadata(metadata).with_error_code(error)
}

fn new_partition(index: i32, offset: Option<CommittedOffset>, error: i16) -> OffsetFetchResponsePartitions {
    let (offset, leader_epoch, metadata) = told_offset(offset);
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(leader_epoch)
        .with_metadata(metadata)
        .with_error_code(error)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;
    use metadata::model::offset::Offset;

    use super::*;

    #[test]
    fn every_version_is_encoded_and_tells_minus_one_for_nothing() {
        let committed = CommittedOffset {
            offset: Offset::new(5).unwrap(),
            leader_epoch: 2,
            metadata: "m".into(),
            commit_ms: 0,
            expire_ms: None,
        };
        for version in OffsetFetch::VERSIONS {
            for current in [Ok(()), Err(GroupError::Unavailable)] {
                let partitions = vec![(0, Some(committed.clone())), (1, None)];
                let asked = [Asked { group: GroupId(told("g")), topics: None }];
                let found = vec![vec![Found {
                    name: TopicName(told("t")),
                    id: Uuid::nil(),
                    error: ErrorCode::None,
                    partitions,
                }]];
                let response = answer(version, &asked, found, current);
                response.encode(&mut BytesMut::new(), version).unwrap();
                assert_eq!(OffsetFetch::error_code(&response), current.map_or(16, |()| 0), "{version}");
                let old = response.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.committed_offset);
                let new = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| &topic.partitions);
                let offsets: Vec<_> = old.chain(new.map(|p| p.committed_offset)).collect();
                match (current, version) {
                    (Ok(()), _) => assert_eq!(offsets, [5, -1]),
                    (Err(_), 1) => assert_eq!(offsets, [-1, -1]),
                    (Err(_), _) => assert!(offsets.is_empty()),
                }
            }
        }
    }
}
