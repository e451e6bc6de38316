//! DescribeProducers (61), version 0: the idempotent producers a partition remembers (KIP-664).
//!
//! Source: Kafka's `ReplicaManager.activeProducerState`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_producers_request::DescribeProducersRequest;
use kafka_protocol::messages::describe_producers_response::{
    DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{ApiKey, ProducerId};
use metadata::model::ids::TopicPartition;

use crate::api::handler::{Handler, Pending};
use crate::catalog::{TopicRef, resolve};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct DescribeProducers;

impl Handler for DescribeProducers {
    const KEY: ApiKey = ApiKey::DescribeProducers;
    const VERSIONS: RangeInclusive<i16> = 0..=0;
    type Request = DescribeProducersRequest;
    type Response = DescribeProducersResponse;

    async fn begin(context: &Context, request: DescribeProducersRequest) -> Pending<DescribeProducersResponse> {
        let context = context.clone();
        Pending::later(async move {
            let wanted: Vec<_> = request.topics.iter().map(|t| TopicRef::Name(t.name.as_str().into())).collect();
            let found = resolve(&context.services, &wanted).await;
            let topics = request.topics.iter().zip(&found).map(|(topic, found)| {
                let partitions = topic.partition_indexes.iter().map(|index| {
                    let answer = PartitionResponse::default().with_partition_index(*index);
                    let producers =
                        found.as_ref().and_then(|f| f.partition(*index)).and_then(|p| producers(&context, p));
                    match producers {
                        Some(producers) => answer.with_active_producers(producers),
                        None => answer.with_error_code(ErrorCode::UnknownTopicOrPartition.code()),
                    }
                });
                TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
            });
            DescribeProducersResponse::default().with_topics(topics.collect())
        })
    }

    fn error_code(response: &DescribeProducersResponse) -> i16 {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.map(|p| p.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn producers(context: &Context, partition: TopicPartition) -> Option<Vec<ProducerState>> {
    context.services.metadata.read(|state| {
        let log = state.log(partition)?;
        let producers = log.producers().map(|producer| {
            ProducerState::default()
                .with_producer_id(ProducerId(producer.id().0))
                .with_producer_epoch(i32::from(producer.epoch()))
                .with_last_sequence(producer.last_sequence().unwrap_or(-1))
                .with_last_timestamp(producer.last_active_ms())
                .with_coordinator_epoch(-1)
                .with_current_txn_start_offset(-1)
        });
        Some(producers.collect())
    })
}
