//! Heartbeat (12), versions 0-4: a member says that it lives, and hears whether it must rejoin.
//!
//! - From version 3 static members (KIP-345).

use std::ops::RangeInclusive;

use kafka_protocol::messages::{ApiKey, HeartbeatRequest, HeartbeatResponse};

use super::words::{kept, kept_option, member_code};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::rules::classic::stable::Caller;

/// The handler.
pub struct Heartbeat;

impl Handler for Heartbeat {
    const KEY: ApiKey = ApiKey::Heartbeat;
    const VERSIONS: RangeInclusive<i16> = 0..=4;
    type Request = HeartbeatRequest;
    type Response = HeartbeatResponse;

    async fn begin(context: &Context, request: HeartbeatRequest) -> Pending<HeartbeatResponse> {
        let caller = Caller {
            member_id: kept(&request.member_id),
            instance: kept_option(request.group_instance_id.as_ref()),
            generation: request.generation_id,
        };
        let heard = context.services.groups.heartbeat(&request.group_id.0, &caller).await;
        let response = HeartbeatResponse::default();
        Pending::ready(match heard {
            Ok(()) => response,
            Err(error) => response.with_error_code(member_code(error).code()),
        })
    }

    fn error_code(response: &HeartbeatResponse) -> i16 {
        response.error_code
    }
}
