//! OffsetFetch (9), versions 1-9: how far groups have read.
//!
//! - Version 0 went to ZooKeeper; Kafka 4 dropped it. From version 2 null topics ask for all; from 8 many groups (KIP-709).
//! - Read behind the journal's head, so that a commit through any gateway is seen.
//! - What was never committed is -1 without an error, and so is everything of an unknown group and of unknown topics.
//! - require_stable (version 7, KIP-447): offsets pending in a transaction; there are none before transactions.
//! - Member id and epoch (version 9) are of the protocol of KIP-848; classic groups pay them no heed, as on Kafka.
//! - Errors are NOT_COORDINATOR, which every client tries again. Before version 2 they stand at each partition.
//! - Version 10 (topic ids) is not in the message crate.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{ApiKey, GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use metadata::command::CommittedOffset;
use metadata::model::ids::TopicId;
use metadata::state::State;

use super::words::{fetch_code, partition, told};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::error::GroupError;

/// The handler.
pub struct OffsetFetch;

impl Handler for OffsetFetch {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    const VERSIONS: RangeInclusive<i16> = 1..=9;
    type Request = OffsetFetchRequest;
    type Response = OffsetFetchResponse;

    async fn begin(context: &Context, request: OffsetFetchRequest) -> Pending<OffsetFetchResponse> {
        let (version, services) = (context.version, Arc::clone(&context.services));
        Pending::later(async move {
            let groups = &services.groups;
            let asked = read(version, request);
            let current = groups.barrier().await;
            let found: Vec<_> = groups.metadata().read(|state| asked.iter().map(|one| find(state, one)).collect());
            answer(version, &asked, found, current)
        })
    }

    fn error_code(response: &OffsetFetchResponse) -> i16 {
        let groups = response.groups.iter().map(|group| group.error_code);
        let partitions =
            response.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        std::iter::once(response.error_code).chain(groups).chain(partitions).find(|code| *code != 0).unwrap_or(0)
    }
}

/// One group and what is asked of it; `None` for everything.
struct Asked {
    group: GroupId,
    topics: Option<Vec<(TopicName, Vec<i32>)>>,
}

/// One topic of an answer.
struct Found {
    name: TopicName,
    partitions: Vec<(i32, Option<CommittedOffset>)>,
}

fn read(version: i16, request: OffsetFetchRequest) -> Vec<Asked> {
    if version < 8 {
        let topics = request.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect());
        return vec![Asked { group: request.group_id, topics }];
    }
    let one = |group: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| Asked {
        group: group.group_id,
        topics: group.topics.map(|topics| topics.into_iter().map(|t| (t.name, t.partition_indexes)).collect()),
    };
    request.groups.into_iter().map(one).collect()
}

fn find(state: &State, asked: &Asked) -> Vec<Found> {
    let group = &*asked.group.0;
    let Some(topics) = &asked.topics else { return find_all(state, group) };
    let committed = |topic: &TopicName, index: i32| {
        partition(state, &topic.0, index).and_then(|partition| state.offsets().get(group, partition)).cloned()
    };
    let one = |(name, indexes): &(TopicName, Vec<i32>)| Found {
        name: name.clone(),
        partitions: indexes.iter().map(|index| (*index, committed(name, *index))).collect(),
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
                found.push((partition.topic, Found { name, partitions: vec![committed] }));
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
            OffsetFetchResponseTopics::default().with_name(found.name).with_partitions(
                found.partitions.into_iter().map(|(index, offset)| new_partition(index, offset)).collect(),
            )
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

fn new_partition(index: i32, offset: Option<CommittedOffset>) -> OffsetFetchResponsePartitions {
    let (offset, leader_epoch, metadata) = told_offset(offset);
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset)
        .with_committed_leader_epoch(leader_epoch)
        .with_metadata(metadata)
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
                let found = vec![vec![Found { name: TopicName(told("t")), partitions }]];
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
