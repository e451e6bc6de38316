//! DescribeTopicPartitions (75), version 0: topics and their partitions in pages (KIP-966).
//!
//! Topics come in name order; a page ends after `response_partition_limit` partitions, and the cursor says where the next
//! one starts.
//!
//! Source: Kafka's `DescribeTopicPartitionsRequestHandler`.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_topic_partitions_request::DescribeTopicPartitionsRequest;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{ApiKey, BrokerId, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use metadata::model::ids::{NodeId, TopicName, TopicPartition};
use metadata::state::topics::Topic;

use crate::api::handler::{Handler, Pending};
use crate::cluster::{Operations, brokers};
use crate::context::Context;
use crate::limits;
use crate::placement;
use crate::wire::error_code::ErrorCode;

/// Most partitions of one page (Kafka's `max.request.partition.size.limit`).
const PAGE_MAX: usize = 2000;

/// The handler.
pub struct DescribeTopicPartitions;

impl Handler for DescribeTopicPartitions {
    const KEY: ApiKey = ApiKey::DescribeTopicPartitions;
    const VERSIONS: RangeInclusive<i16> = 0..=0;
    type Request = DescribeTopicPartitionsRequest;
    type Response = DescribeTopicPartitionsResponse;

    async fn begin(
        context: &Context,
        request: DescribeTopicPartitionsRequest,
    ) -> Pending<DescribeTopicPartitionsResponse> {
        let context = context.clone();
        Pending::later(async move {
            // An older listing is no harm when the journal is away.
            let _ = context.services.metadata.barrier().await;
            page(&context, &request)
        })
    }

    fn error_code(response: &DescribeTopicPartitionsResponse) -> i16 {
        response.topics.iter().map(|topic| topic.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn page(context: &Context, request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let (from, first_partition) =
        request.cursor.as_ref().map_or(("", 0), |cursor| (cursor.topic_name.as_str(), cursor.partition_index.max(0)));
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, PAGE_MAX);
    context.services.metadata.read(|state| {
        let nodes: Vec<_> = brokers(context, state).iter().map(|broker| broker.node).collect();
        let asked: BTreeSet<String> = if request.topics.is_empty() {
            state.topics().iter().map(|topic| topic.name().to_string()).collect()
        } else {
            request.topics.iter().map(|topic| topic.name.to_string()).collect()
        };
        let (mut topics, mut room, mut next) = (Vec::new(), limit, None);
        for name in asked.range(from.to_owned()..) {
            let parsed = name.parse::<TopicName>();
            let found = parsed.as_ref().ok().and_then(|name| state.topics().by_name(name));
            let Some(found) = found else {
                let code =
                    if parsed.is_ok() { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
                topics.push(unknown(name, code));
                continue;
            };
            let first = if name == from { first_partition } else { 0 };
            if room == 0 {
                next = Some((name.clone(), first));
                break;
            }
            let last = found.partition_count().min(first.saturating_add(i32::try_from(room).unwrap_or(i32::MAX)));
            topics.push(known(found, first..last, &nodes));
            room -= usize::try_from(last - first).unwrap_or(0).min(room);
            if last < found.partition_count() {
                next = Some((name.clone(), last));
                break;
            }
        }
        let cursor = next.map(|(name, partition)| {
            Cursor::default().with_topic_name(WireName(StrBytes::from_string(name))).with_partition_index(partition)
        });
        DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor)
    })
}

fn unknown(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(code.code())
        .with_name(Some(WireName(StrBytes::from_string(name.to_owned()))))
}

fn known(topic: &Topic, page: std::ops::Range<i32>, nodes: &[NodeId]) -> DescribeTopicPartitionsResponseTopic {
    let partitions = page.map(|index| {
        let leader = placement::leader(TopicPartition { topic: topic.id(), partition: index }, nodes);
        let leader = BrokerId(leader.map_or(-1, |node| node.0));
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(leader)
            .with_leader_epoch(limits::LEADER_EPOCH)
            .with_replica_nodes(vec![leader])
            .with_isr_nodes(vec![leader])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(WireName(StrBytes::from_string(topic.name().to_string()))))
        .with_topic_id(topic.id().0)
        .with_is_internal(topic.name().is_internal())
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(Operations::Topic.bits(true))
}
