//! DescribeConfigs (32), versions 1-4: configs of topics and of the gateway, with sources, types, synonyms and docs.
//!
//! Other resource types (groups, loggers, client metrics) have no configs here: INVALID_REQUEST.
//!
//! Source: Kafka's `ConfigHelper`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::protocol::StrBytes;

use super::change::{BROKER, TOPIC, topic};
use super::describe::{Described, broker_configs, topic_configs};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::submit::Refused;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct DescribeConfigs;

impl Handler for DescribeConfigs {
    const KEY: ApiKey = ApiKey::DescribeConfigs;
    const VERSIONS: RangeInclusive<i16> = 1..=4;
    type Request = DescribeConfigsRequest;
    type Response = DescribeConfigsResponse;

    async fn begin(context: &Context, request: DescribeConfigsRequest) -> Pending<DescribeConfigsResponse> {
        let context = context.clone();
        Pending::later(async move {
            let mut results = Vec::with_capacity(request.resources.len());
            for resource in &request.resources {
                let result = DescribeConfigsResult::default()
                    .with_resource_type(resource.resource_type)
                    .with_resource_name(resource.resource_name.clone());
                results.push(match described(&context, resource).await {
                    Ok(configs) => {
                        let wanted = configs.into_iter().filter(|config| is_wanted(resource, config));
                        result.with_configs(wanted.map(|config| entry(config, &request)).collect())
                    }
                    Err(refused) => result
                        .with_error_code(refused.code.code())
                        .with_error_message(Some(StrBytes::from_string(refused.message))),
                });
            }
            DescribeConfigsResponse::default().with_results(results)
        })
    }

    fn error_code(response: &DescribeConfigsResponse) -> i16 {
        response.results.iter().map(|result| result.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

async fn described(context: &Context, resource: &DescribeConfigsResource) -> Result<Vec<Described>, Refused> {
    let services = &context.services;
    match resource.resource_type {
        TOPIC => {
            let found = topic(context, &resource.resource_name).await?;
            Ok(services.metadata.read(|state| {
                let topic = state.topics().get(found.id);
                let own = |name: &str| topic.and_then(|t| t.configs().get(name)).map(String::as_str);
                topic_configs(&services.kafka, own).collect()
            }))
        }
        BROKER => {
            let node = resource.resource_name.parse::<i32>().ok();
            let is_live = node.is_some_and(|node| {
                services.metadata.read(|state| state.sessions().live().any(|session| session.node.0 == node))
            });
            // The empty name asks for the defaults of all brokers.
            if is_live || resource.resource_name.is_empty() {
                Ok(broker_configs(&services.kafka))
            } else {
                let why = format!("Unexpected broker id {}: no such gateway is live.", resource.resource_name.as_str());
                Err(Refused::new(ErrorCode::InvalidRequest, why))
            }
        }
        other => {
            Err(Refused::new(ErrorCode::InvalidRequest, format!("Configs of resource type {other} are not supported.")))
        }
    }
}

fn is_wanted(resource: &DescribeConfigsResource, config: &Described) -> bool {
    resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == config.name))
}

fn entry(config: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonym = |(name, value, source): (&'static str, String, super::describe::Source)| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_source(source.number())
    };
    let synonyms =
        if request.include_synonyms { config.synonyms.into_iter().map(synonym).collect() } else { Vec::new() };
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(config.name))
        .with_value(Some(StrBytes::from_string(config.value)))
        .with_read_only(config.read_only)
        .with_config_source(config.source.number())
        .with_config_type(config.kind)
        .with_synonyms(synonyms)
        .with_documentation(request.include_documentation.then(|| StrBytes::from_string(config.doc)))
}
