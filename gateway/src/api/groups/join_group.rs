//! JoinGroup (11), versions 0-9: a member enters a rebalance; answered when it ends.
//!
//! - Version 0 has no rebalance timeout: the session timeout stands in.
//! - From version 4 a new dynamic member is first given an id (MEMBER_ID_REQUIRED, KIP-394).
//! - From version 5 static members (KIP-345), from 8 a reason (KIP-800, logged), from 9 skip_assignment (KIP-814).
//! - Before version 7 the chosen protocol cannot be null: empty text instead.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{ApiKey, JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::words::{code, kept, kept_option, told, told_option};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::rules::classic::join::JoinRequest;
use crate::coordinator::rules::classic::{JoinReply, JoinedMember, Protocol};
use crate::limits;

/// The handler.
pub struct JoinGroup;

impl Handler for JoinGroup {
    const KEY: ApiKey = ApiKey::JoinGroup;
    const VERSIONS: RangeInclusive<i16> = 0..=9;
    const MAX_FRAME: usize = limits::FRAME_BYTES_GROUP;
    type Request = JoinGroupRequest;
    type Response = JoinGroupResponse;

    async fn begin(context: &Context, request: JoinGroupRequest) -> Pending<JoinGroupResponse> {
        let version = context.version;
        if let Some(reason) = request.reason.as_deref().filter(|reason| !reason.is_empty()) {
            tracing::debug!(group = &*request.group_id.0, member = &*request.member_id, reason, "a member joins");
        }
        let join = read(context, &request);
        let group = kept(&request.group_id.0);
        drop(request);
        let services = Arc::clone(&context.services);
        Pending::later(async move { answer(version, services.groups.join(&group, join).await) })
    }

    fn error_code(response: &JoinGroupResponse) -> i16 {
        response.error_code
    }
}

fn read(context: &Context, request: &JoinGroupRequest) -> JoinRequest {
    let rebalance_timeout_ms =
        if context.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| Protocol { name: kept(&protocol.name), metadata: Bytes::copy_from_slice(&protocol.metadata) });
    JoinRequest {
        member_id: kept(&request.member_id),
        instance: kept_option(request.group_instance_id.as_ref()),
        client_id: kept(&context.client_id),
        client_host: format!("/{}", context.peer.address.ip()).into(),
        session_timeout_ms: i64::from(request.session_timeout_ms),
        rebalance_timeout_ms: i64::from(rebalance_timeout_ms),
        protocol_type: kept(&request.protocol_type),
        protocols: protocols.collect(),
        requires_known_id: context.version >= 4,
        can_skip_assignment: context.version >= 9,
        unique: kept(""),
    }
}

fn answer(version: i16, reply: JoinReply) -> JoinGroupResponse {
    let response = JoinGroupResponse::default();
    let nothing_chosen = (version < 7).then(StrBytes::new);
    match reply {
        Err(refused) => response
            .with_error_code(code(refused.error).code())
            .with_protocol_name(nothing_chosen)
            .with_member_id(told(&refused.member_id)),
        Ok(joined) => response
            .with_generation_id(joined.generation)
            .with_protocol_type(told_option(joined.protocol_type.as_ref()))
            .with_protocol_name(told_option(joined.protocol.as_ref()).or(nothing_chosen))
            .with_leader(told(&joined.leader))
            .with_skip_assignment(joined.skip_assignment)
            .with_member_id(told(&joined.member_id))
            .with_members(joined.members.iter().map(member).collect()),
    }
}

fn member(member: &JoinedMember) -> JoinGroupResponseMember {
    JoinGroupResponseMember::default()
        .with_member_id(told(&member.member_id))
        .with_group_instance_id(told_option(member.instance.as_ref()))
        .with_metadata(member.metadata.clone())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::coordinator::error::GroupError;
    use crate::coordinator::rules::classic::{JoinRefused, Joined};

    #[test]
    fn every_version_is_encoded_with_and_without_an_error() {
        let shown =
            JoinedMember { member_id: kept("m"), instance: Some(kept("i")), metadata: Bytes::from_static(b"x") };
        for version in JoinGroup::VERSIONS {
            let joined = Joined {
                member_id: kept("m"),
                generation: 3,
                protocol_type: Some(kept("consumer")),
                protocol: Some(kept("range")),
                leader: kept("m"),
                members: vec![shown.clone()],
                skip_assignment: version >= 9,
            };
            let refused = JoinRefused { error: GroupError::MemberIdRequired, member_id: kept("m") };
            for reply in [Ok(joined), Err(refused)] {
                let error = reply.is_err();
                let response = answer(version, reply);
                response.encode(&mut BytesMut::new(), version).unwrap();
                assert_eq!(response.error_code == 79, error);
                assert_eq!(&*response.member_id, "m");
                assert_eq!(response.generation_id, if error { -1 } else { 3 });
            }
        }
    }
}
