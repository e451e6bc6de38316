//! SyncGroup (14), versions 0-5: a member asks for its assignment, the leader brings everyone's; answered when it is saved.
//!
//! - From version 3 static members (KIP-345).
//! - From version 5 protocol type and name are mandatory and must be the group's (KIP-559).

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, SyncGroupRequest, SyncGroupResponse};

use super::words::{kept, kept_option, member_code, told_option};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::error::GroupError;
use crate::coordinator::rules::classic::SyncReply;
use crate::coordinator::rules::classic::stable::SyncRequest;
use crate::limits;

/// The handler.
pub struct SyncGroup;

impl Handler for SyncGroup {
    const KEY: ApiKey = ApiKey::SyncGroup;
    const VERSIONS: RangeInclusive<i16> = 0..=5;
    const MAX_FRAME: usize = limits::FRAME_BYTES_GROUP;
    type Request = SyncGroupRequest;
    type Response = SyncGroupResponse;

    async fn begin(context: &Context, request: SyncGroupRequest) -> Pending<SyncGroupResponse> {
        if context.version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            return Pending::ready(answer(Err(GroupError::InconsistentProtocol)));
        }
        let sync = SyncRequest {
            member_id: kept(&request.member_id),
            instance: kept_option(request.group_instance_id.as_ref()),
            generation: request.generation_id,
            protocol_type: kept_option(request.protocol_type.as_ref()),
            protocol: kept_option(request.protocol_name.as_ref()),
            assignments: request
                .assignments
                .iter()
                .map(|given| (kept(&given.member_id), Bytes::copy_from_slice(&given.assignment)))
                .collect(),
        };
        let group = kept(&request.group_id.0);
        drop(request);
        let services = Arc::clone(&context.services);
        Pending::later(async move { answer(services.groups.sync(&group, sync).await) })
    }

    fn error_code(response: &SyncGroupResponse) -> i16 {
        response.error_code
    }
}

fn answer(reply: SyncReply) -> SyncGroupResponse {
    let response = SyncGroupResponse::default();
    match reply {
        Err(error) => response.with_error_code(member_code(error).code()),
        Ok(synced) => response
            .with_protocol_type(told_option(synced.protocol_type.as_ref()))
            .with_protocol_name(told_option(synced.protocol.as_ref()))
            .with_assignment(synced.assignment),
    }
}
