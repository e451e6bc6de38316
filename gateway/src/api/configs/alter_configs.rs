//! AlterConfigs (33), versions 0-2: replaces all configs of topics; what is not named falls back to its default.
//!
//! Only topics: a gateway's own settings come from its configuration (INVALID_REQUEST). A resource changes as a whole or not
//! at all.
//!
//! Source: Kafka's `ConfigurationControlManager`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::alter_configs_request::{AlterConfigsRequest, AlterableConfig};
use kafka_protocol::messages::alter_configs_response::{AlterConfigsResourceResponse, AlterConfigsResponse};

use super::change::{Altered, Change, Wanted, alter};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::submit::Refused;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct AlterConfigs;

impl Handler for AlterConfigs {
    const KEY: ApiKey = ApiKey::AlterConfigs;
    const VERSIONS: RangeInclusive<i16> = 0..=2;
    type Request = AlterConfigsRequest;
    type Response = AlterConfigsResponse;

    async fn begin(context: &Context, request: AlterConfigsRequest) -> Pending<AlterConfigsResponse> {
        let context = context.clone();
        Pending::later(async move {
            let wanted = request.resources.into_iter().map(|resource| Wanted {
                resource_type: resource.resource_type,
                changes: resource.configs.iter().map(change).collect(),
                name: resource.resource_name,
            });
            let altered = alter(&context, wanted.collect(), true, request.validate_only).await.into_iter();
            let answer = |altered: Altered| {
                AlterConfigsResourceResponse::default()
                    .with_resource_type(altered.resource_type)
                    .with_resource_name(altered.name)
                    .with_error_code(altered.error_code)
                    .with_error_message(altered.error_message)
            };
            AlterConfigsResponse::default().with_responses(altered.map(answer).collect())
        })
    }

    fn error_code(response: &AlterConfigsResponse) -> i16 {
        response.responses.iter().map(|resource| resource.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn change(config: &AlterableConfig) -> Result<(String, Change), Refused> {
    let name = config.name.to_string();
    match &config.value {
        Some(value) => Ok((name, Change::Set(value.to_string()))),
        None => Err(Refused::new(ErrorCode::InvalidRequest, format!("Null value not supported for: {name}"))),
    }
}
