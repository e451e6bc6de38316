//! Metadata (3), versions 0-13: the gateways, and the topics with their partitions.
//!
//! - A topic asked by name that is not there is made, if the client and `auto.create.topics.enable` allow it; unlike Kafka
//!   the answer waits for it, so the client need not ask again.
//! - The leader of a partition is a hint (`placement`); it is its only replica and in sync: the bucket replicates.
//! - v10+: topic ids; v12+: topics asked by id. v13 (KIP-1102) rebootstrap is never asked of a client.
//!
//! Source: Kafka's `KafkaApis.handleTopicMetadataRequest`, `DefaultAutoTopicCreationManager`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, BrokerId, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use metadata::command::Refusal;
use metadata::model::ids::{NodeId, TopicName, TopicPartition};

use crate::api::handler::{Handler, Pending};
use crate::catalog::{AutoCreateError, Found, TopicRef, auto_create, describe, find, resolve};
use crate::cluster::{Broker, Operations, brokers};
use crate::context::Context;
use crate::limits;
use crate::placement;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct Metadata;

impl Handler for Metadata {
    const KEY: ApiKey = ApiKey::Metadata;
    const VERSIONS: RangeInclusive<i16> = 0..=13;
    type Request = MetadataRequest;
    type Response = MetadataResponse;

    async fn begin(context: &Context, request: MetadataRequest) -> Pending<MetadataResponse> {
        let context = context.clone();
        Pending::later(async move { serve(&context, request).await })
    }

    fn error_code(response: &MetadataResponse) -> i16 {
        response.topics.iter().map(|topic| topic.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn serve(context: &Context, request: MetadataRequest) -> MetadataResponse {
    let services = &context.services;
    let asks_operations = request.include_topic_authorized_operations;
    // Version 0 has no null: an empty list asks for all.
    let wanted = request.topics.filter(|topics| context.version > 0 || !topics.is_empty());
    let may_create =
        (context.version < 4 || request.allow_auto_topic_creation) && services.kafka.flag("auto.create.topics.enable");
    let found = match &wanted {
        Some(topics) => look_up(context, topics, may_create).await,
        None => {
            // An older listing than another gateway's is no harm; with the journal away this one's is the best there is.
            let _ = services.metadata.barrier().await;
            services.metadata.read(|state| state.topics().iter().map(|t| Ok(describe(t, &services.kafka))).collect())
        }
    };
    services.metadata.read(|state| {
        let brokers = brokers(context, state);
        let nodes: Vec<_> = brokers.iter().map(|broker| broker.node).collect();
        let topics = found.into_iter().map(|topic| match topic {
            Ok(found) => known(&found, &nodes, asks_operations),
            Err(unknown) => unknown,
        });
        MetadataResponse::default()
            .with_topics(topics.collect())
            .with_brokers(brokers.into_iter().map(broker).collect())
            .with_cluster_id(Some(StrBytes::from_string(state.cluster_id().to_owned())))
            .with_controller_id(BrokerId(controller(&nodes)))
            .with_cluster_authorized_operations(Operations::Cluster.bits(request.include_cluster_authorized_operations))
    })
}

/// Any gateway does what a Kafka controller does; the lowest id is named, so that clients agree.
pub fn controller(nodes: &[NodeId]) -> i32 {
    nodes.first().map_or(-1, |node| node.0)
}

async fn look_up(
    context: &Context,
    topics: &[MetadataRequestTopic],
    may_create: bool,
) -> Vec<Result<Found, MetadataResponseTopic>> {
    let services = &context.services;
    let refs: Vec<_> =
        topics.iter().map(|t| TopicRef::new(t.name.as_ref().map_or("", |n| n.as_str()), t.topic_id)).collect();
    let found = resolve(services, &refs).await;
    let mut answers = Vec::with_capacity(topics.len());
    for ((topic, wanted), found) in topics.iter().zip(&refs).zip(found) {
        answers.push(match (found, wanted) {
            (Some(found), _) => Ok(found),
            (None, TopicRef::Id(_)) => Err(unknown(topic, ErrorCode::UnknownTopicId)),
            (None, TopicRef::Name(name)) => match name.parse::<TopicName>() {
                Err(_) => Err(unknown(topic, ErrorCode::InvalidTopicException)),
                Ok(_) if !may_create => Err(unknown(topic, ErrorCode::UnknownTopicOrPartition)),
                Ok(name) => create(context, name, wanted).await.map_err(|code| unknown(topic, code)),
            },
        });
    }
    answers
}

async fn create(context: &Context, name: TopicName, wanted: &TopicRef) -> Result<Found, ErrorCode> {
    let services = &context.services;
    tracing::info!(topic = %name, client = %context.client_id, "making a topic because a client asked for it");
    match auto_create(services, name).await {
        // It may have been deleted meanwhile; the client asks again.
        Ok(()) => services.metadata.read(|s| find(s, wanted, &services.kafka)).ok_or(ErrorCode::LeaderNotAvailable),
        Err(AutoCreateError::Refused(Refusal::TopicCollides)) => Err(ErrorCode::InvalidTopicException),
        Err(AutoCreateError::Refused(Refusal::LimitReached)) => Err(ErrorCode::PolicyViolation),
        Err(AutoCreateError::Refused(_) | AutoCreateError::Journal(_)) => Err(ErrorCode::LeaderNotAvailable),
    }
}

fn unknown(asked: &MetadataRequestTopic, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(code.code())
        // Versions below 12 cannot say "no name".
        .with_name(Some(asked.name.clone().unwrap_or_default()))
        .with_topic_id(asked.topic_id)
        .with_topic_authorized_operations(i32::MIN)
}

fn known(found: &Found, nodes: &[NodeId], asks_operations: bool) -> MetadataResponseTopic {
    let partitions = (0..found.partitions).map(|index| {
        let leader = placement::leader(TopicPartition { topic: found.id, partition: index }, nodes);
        let leader = BrokerId(leader.map_or(-1, |node| node.0));
        let code = if leader.0 < 0 { ErrorCode::LeaderNotAvailable } else { ErrorCode::None };
        MetadataResponsePartition::default()
            .with_error_code(code.code())
            .with_partition_index(index)
            .with_leader_id(leader)
            .with_leader_epoch(limits::LEADER_EPOCH)
            .with_replica_nodes(vec![leader])
            .with_isr_nodes(vec![leader])
    });
    MetadataResponseTopic::default()
        .with_name(Some(WireName(StrBytes::from_string(found.name.to_string()))))
        .with_topic_id(found.id.0)
        .with_is_internal(found.name.is_internal())
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(Operations::Topic.bits(asks_operations))
}

fn broker(broker: Broker) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(broker.node.0))
        .with_host(StrBytes::from_string(broker.host))
        .with_port(i32::from(broker.port))
        .with_rack(broker.rack.map(StrBytes::from_string))
}
