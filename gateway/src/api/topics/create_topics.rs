//! CreateTopics (19), versions 2-7: makes topics.
//!
//! - Any replication factor is accepted and answered as asked: the bucket replicates. -1 for partitions or replicas takes
//!   the default (v4+). Manual assignments decide the number of partitions only.
//! - v5+: the answer carries every config in force, never null (Java's admin client and Connect fail otherwise). v7: topic id.
//!
//! Source: Kafka's `ReplicationControlManager.createTopics`.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;
use metadata::command::{Command, CreateTopic};
use metadata::model::ids::{InvalidTopicName, TopicId, TopicName};
use metadata::model::limits::PARTITIONS_PER_TOPIC_MAX;
use metadata::model::topic_config::validate;

use crate::api::configs::describe::topic_configs;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::options::kafka::KafkaSettings;
use crate::submit::{Refused, submit_within};
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct CreateTopics;

impl Handler for CreateTopics {
    const KEY: ApiKey = ApiKey::CreateTopics;
    const VERSIONS: RangeInclusive<i16> = 2..=7;
    type Request = CreateTopicsRequest;
    type Response = CreateTopicsResponse;

    async fn begin(context: &Context, request: CreateTopicsRequest) -> Pending<CreateTopicsResponse> {
        let context = context.clone();
        Pending::later(async move {
            let mut seen: HashMap<_, usize> = HashMap::new();
            request.topics.iter().for_each(|topic| *seen.entry(topic.name.clone()).or_default() += 1);
            let mut answered = HashSet::new();
            let mut topics = Vec::with_capacity(request.topics.len());
            for topic in &request.topics {
                if !answered.insert(topic.name.clone()) {
                    continue;
                }
                let made = if seen[&topic.name] > 1 {
                    Err(Refused::new(ErrorCode::InvalidRequest, "Duplicate topic name."))
                } else {
                    create(&context, topic, request.timeout_ms, request.validate_only).await
                };
                topics.push(made.unwrap_or_else(|refused| failed(topic, &refused)));
            }
            CreateTopicsResponse::default().with_topics(topics)
        })
    }

    fn error_code(response: &CreateTopicsResponse) -> i16 {
        response.topics.iter().map(|topic| topic.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn create(
    context: &Context,
    topic: &CreatableTopic,
    timeout_ms: i32,
    validate_only: bool,
) -> Result<CreatableTopicResult, Refused> {
    let services = &context.services;
    let name: TopicName = topic
        .name
        .parse()
        .map_err(|e: InvalidTopicName| Refused::new(ErrorCode::InvalidTopicException, e.to_string()))?;
    let partitions = partitions(topic, &services.kafka)?;
    let mut configs = Vec::with_capacity(topic.configs.len());
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            Refused::new(
                ErrorCode::InvalidConfig,
                format!("Null value not supported for topic configs: {}", config.name),
            )
        })?;
        let value = validate(&config.name, value).map_err(|e| Refused::new(ErrorCode::InvalidConfig, e.to_string()))?;
        configs.push((config.name.to_string(), value));
    }
    let id = TopicId::random();
    let exists = services.metadata.read(|state| state.topics().by_name(&name).is_some());
    if exists {
        return Err(Refused::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if !validate_only {
        let command =
            Command::CreateTopic(CreateTopic { id, name: name.clone(), partitions, configs: configs.clone() });
        submit_within(&services.metadata, command, timeout_ms).await.map_err(|refused| match refused.code {
            ErrorCode::TopicAlreadyExists => Refused::new(refused.code, format!("Topic '{name}' already exists.")),
            _ => refused,
        })?;
        tracing::info!(topic = %name, partitions, client = %context.client_id, "topic made");
    }
    let own: HashMap<_, _> = configs.into_iter().collect();
    let configs = topic_configs(&services.kafka, |name| own.get(name).map(String::as_str)).map(|described| {
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(described.name))
            .with_value(Some(StrBytes::from_string(described.value)))
            .with_config_source(described.source.number())
    });
    let replication_factor =
        if topic.replication_factor > 0 { topic.replication_factor } else { default_replication(&services.kafka) };
    Ok(CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_topic_id(if validate_only { uuid::Uuid::nil() } else { id.0 })
        .with_num_partitions(partitions)
        .with_replication_factor(replication_factor)
        .with_configs(Some(configs.collect())))
}

fn default_replication(kafka: &KafkaSettings) -> i16 {
    i16::try_from(kafka.number("default.replication.factor")).unwrap_or(1)
}

fn partitions(topic: &CreatableTopic, kafka: &KafkaSettings) -> Result<i32, Refused> {
    if topic.assignments.is_empty() {
        if topic.replication_factor == 0 || topic.replication_factor < -1 {
            let why = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(Refused::new(ErrorCode::InvalidReplicationFactor, why));
        }
        return match topic.num_partitions {
            -1 => Ok(i32::try_from(kafka.number("num.partitions")).unwrap_or(1)),
            n if (1..=PARTITIONS_PER_TOPIC_MAX).contains(&n) => Ok(n),
            n => Err(Refused::new(
                ErrorCode::InvalidPartitions,
                format!("{n} partitions: a topic has 1 to {PARTITIONS_PER_TOPIC_MAX}, or -1 to use the default value."),
            )),
        };
    }
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let why = "A manual partition assignment goes with num_partitions and replication_factor of -1.";
        return Err(Refused::new(ErrorCode::InvalidRequest, why));
    }
    let mut indexes: Vec<_> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let consecutive = indexes.iter().zip(0..).all(|(index, wanted)| *index == wanted);
    if !consecutive || topic.assignments.iter().any(|a| a.broker_ids.is_empty()) {
        let why = "Partitions of a manual assignment must be numbered from 0 without a gap, each with a replica.";
        return Err(Refused::new(ErrorCode::InvalidReplicaAssignment, why));
    }
    match i32::try_from(indexes.len()) {
        Ok(n) if n <= PARTITIONS_PER_TOPIC_MAX => Ok(n),
        _ => Err(Refused::new(
            ErrorCode::InvalidPartitions,
            format!("A topic has at most {PARTITIONS_PER_TOPIC_MAX} partitions."),
        )),
    }
}

fn failed(topic: &CreatableTopic, refused: &Refused) -> CreatableTopicResult {
    CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_error_code(refused.code.code())
        .with_error_message(refused.text().map(|text| StrBytes::from_string(text.to_owned())))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_configs(Some(Vec::new()))
}
