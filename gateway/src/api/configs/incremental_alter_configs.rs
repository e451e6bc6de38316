//! IncrementalAlterConfigs (44), versions 0-1: changes single configs of topics (KIP-339).
//!
//! Only topics: a gateway's own settings come from its configuration (INVALID_REQUEST). A resource changes as a whole or not
//! at all.
//!
//! Source: Kafka's `ConfigurationControlManager`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterableConfig, IncrementalAlterConfigsRequest};
use kafka_protocol::messages::incremental_alter_configs_response::{
    AlterConfigsResourceResponse, IncrementalAlterConfigsResponse,
};

use super::change::{Altered, Change, Wanted, alter};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::submit::Refused;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct IncrementalAlterConfigs;

impl Handler for IncrementalAlterConfigs {
    const KEY: ApiKey = ApiKey::IncrementalAlterConfigs;
    const VERSIONS: RangeInclusive<i16> = 0..=1;
    type Request = IncrementalAlterConfigsRequest;
    type Response = IncrementalAlterConfigsResponse;

    async fn begin(
        context: &Context,
        request: IncrementalAlterConfigsRequest,
    ) -> Pending<IncrementalAlterConfigsResponse> {
        let context = context.clone();
        Pending::later(async move {
            let wanted = request.resources.into_iter().map(|resource| Wanted {
                resource_type: resource.resource_type,
                changes: resource.configs.iter().map(change).collect(),
                name: resource.resource_name,
            });
            let altered = alter(&context, wanted.collect(), false, request.validate_only).await.into_iter();
            let answer = |altered: Altered| {
                AlterConfigsResourceResponse::default()
                    .with_resource_type(altered.resource_type)
                    .with_resource_name(altered.name)
                    .with_error_code(altered.error_code)
                    .with_error_message(altered.error_message)
            };
            IncrementalAlterConfigsResponse::default().with_responses(altered.map(answer).collect())
        })
    }

    fn error_code(response: &IncrementalAlterConfigsResponse) -> i16 {
        response.responses.iter().map(|resource| resource.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

/// Kafka's `AlterConfigOp.OpType` by number.
fn change(config: &AlterableConfig) -> Result<(String, Change), Refused> {
    let name = config.name.to_string();
    let refuse = |why: String| Refused::new(ErrorCode::InvalidRequest, why);
    let value = config.value.as_ref().map(ToString::to_string);
    let value = value.ok_or_else(|| refuse(format!("Null value not supported for: {name}")));
    let change = match config.config_operation {
        0 => Change::Set(value?),
        1 => Change::Delete,
        2 => Change::Append(value?),
        3 => Change::Subtract(value?),
        other => return Err(refuse(format!("Unknown config operation {other} for {name}"))),
    };
    Ok((name, change))
}
