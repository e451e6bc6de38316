//! CreatePartitions (37), versions 0-3: gives topics more partitions.
//!
//! Source: Kafka's `ReplicationControlManager.createPartitions`.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic};
use kafka_protocol::messages::create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult};
use kafka_protocol::protocol::StrBytes;
use metadata::command::Command;
use metadata::model::limits::PARTITIONS_PER_TOPIC_MAX;

use crate::api::handler::{Handler, Pending};
use crate::catalog::{TopicRef, resolve};
use crate::context::Context;
use crate::submit::{Refused, submit_within};
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct CreatePartitions;

impl Handler for CreatePartitions {
    const KEY: ApiKey = ApiKey::CreatePartitions;
    const VERSIONS: RangeInclusive<i16> = 0..=3;
    type Request = CreatePartitionsRequest;
    type Response = CreatePartitionsResponse;

    async fn begin(context: &Context, request: CreatePartitionsRequest) -> Pending<CreatePartitionsResponse> {
        let context = context.clone();
        Pending::later(async move {
            let mut seen = HashSet::new();
            let mut results = Vec::with_capacity(request.topics.len());
            for topic in &request.topics {
                let grown = if seen.insert(topic.name.clone()) {
                    grow(&context, topic, request.timeout_ms, request.validate_only).await
                } else {
                    Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
                };
                let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
                results.push(match grown {
                    Ok(()) => result,
                    Err(refused) => result
                        .with_error_code(refused.code.code())
                        .with_error_message(refused.text().map(|text| StrBytes::from_string(text.to_owned()))),
                });
            }
            CreatePartitionsResponse::default().with_results(results)
        })
    }

    fn error_code(response: &CreatePartitionsResponse) -> i16 {
        response.results.iter().map(|result| result.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn grow(
    context: &Context,
    topic: &CreatePartitionsTopic,
    timeout_ms: i32,
    validate_only: bool,
) -> Result<(), Refused> {
    let services = &context.services;
    let found = resolve(services, &[TopicRef::Name(topic.name.as_str().into())]).await.pop().flatten();
    let found = found.ok_or_else(|| {
        Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
    })?;
    let (now, total) = (found.partitions, topic.count);
    if total <= now || total > PARTITIONS_PER_TOPIC_MAX {
        let why = format!(
            "The topic {} has {now} partitions; {total} is no increase below {PARTITIONS_PER_TOPIC_MAX}.",
            found.name
        );
        return Err(Refused::new(ErrorCode::InvalidPartitions, why));
    }
    let assigned = topic.assignments.as_ref().map(|a| i32::try_from(a.len()).unwrap_or(i32::MAX));
    if assigned.is_some_and(|assigned| assigned != total - now) {
        let why = format!("An assignment must name the replicas of each of the {} new partitions.", total - now);
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, why));
    }
    if !validate_only {
        submit_within(&services.metadata, Command::CreatePartitions { topic: found.id, total }, timeout_ms).await?;
        tracing::info!(topic = %found.name, from = now, to = total, client = %context.client_id, "partitions added");
    }
    Ok(())
}
