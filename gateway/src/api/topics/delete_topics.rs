//! DeleteTopics (20), versions 1-6: removes topics by name, or by id from v6 (KIP-516).
//!
//! Source: Kafka's `ControllerApis.deleteTopics`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::delete_topics_request::{DeleteTopicState, DeleteTopicsRequest};
use kafka_protocol::messages::delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse};
use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::StrBytes;
use metadata::command::Command;

use crate::api::handler::{Handler, Pending};
use crate::catalog::{TopicRef, resolve};
use crate::context::Context;
use crate::submit::{Refused, submit_within};
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct DeleteTopics;

impl Handler for DeleteTopics {
    const KEY: ApiKey = ApiKey::DeleteTopics;
    const VERSIONS: RangeInclusive<i16> = 1..=6;
    type Request = DeleteTopicsRequest;
    type Response = DeleteTopicsResponse;

    async fn begin(context: &Context, request: DeleteTopicsRequest) -> Pending<DeleteTopicsResponse> {
        let context = context.clone();
        Pending::later(async move {
            let named =
                request.topic_names.iter().map(|name| DeleteTopicState::default().with_name(Some(name.clone())));
            let topics: Vec<_> = if context.version < 6 { named.collect() } else { request.topics };
            let mut responses = Vec::with_capacity(topics.len());
            for topic in topics {
                let result =
                    DeletableTopicResult::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
                responses.push(match delete(&context, &topic, request.timeout_ms).await {
                    Ok((name, id)) => result.with_name(Some(name)).with_topic_id(id),
                    Err(refused) => result
                        .with_error_code(refused.code.code())
                        .with_error_message(refused.text().map(|text| StrBytes::from_string(text.to_owned()))),
                });
            }
            DeleteTopicsResponse::default().with_responses(responses)
        })
    }

    fn error_code(response: &DeleteTopicsResponse) -> i16 {
        response.responses.iter().map(|topic| topic.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn delete(
    context: &Context,
    topic: &DeleteTopicState,
    timeout_ms: i32,
) -> Result<(TopicName, uuid::Uuid), Refused> {
    let services = &context.services;
    if !services.kafka.flag("delete.topic.enable") {
        return Err(Refused::new(ErrorCode::TopicDeletionDisabled, "delete.topic.enable is false"));
    }
    let wanted = match &topic.name {
        Some(_) if !topic.topic_id.is_nil() => {
            return Err(Refused::new(ErrorCode::InvalidRequest, "A topic is named by name or by id, not by both."));
        }
        Some(name) => TopicRef::Name(name.as_str().into()),
        None => TopicRef::Id(topic.topic_id),
    };
    let found = resolve(services, std::slice::from_ref(&wanted)).await.pop().flatten();
    let found = found.ok_or_else(|| match wanted {
        TopicRef::Name(_) => {
            Refused::new(ErrorCode::UnknownTopicOrPartition, "This server does not host this topic-partition.")
        }
        TopicRef::Id(_) => Refused::new(ErrorCode::UnknownTopicId, "This server does not host this topic ID."),
    })?;
    submit_within(&services.metadata, Command::DeleteTopic { topic: found.id }, timeout_ms).await?;
    tracing::info!(topic = %found.name, client = %context.client_id, "topic deleted");
    Ok((TopicName(StrBytes::from_string(found.name.to_string())), found.id.0))
}
