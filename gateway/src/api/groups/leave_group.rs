//! LeaveGroup (13), versions 0-5: members say good-bye; an administrator says it for static ones.
//!
//! - Before version 3 one member, whose error is the answer's; from 3 many, each with its own (KIP-345).
//! - From version 5 a reason (KIP-800, logged).

use std::ops::RangeInclusive;

use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{ApiKey, LeaveGroupRequest, LeaveGroupResponse};

use super::words::{kept, kept_option, member_code, told, told_option};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::groups::Each;
use crate::coordinator::rules::classic::leave::Leaver;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct LeaveGroup;

impl Handler for LeaveGroup {
    const KEY: ApiKey = ApiKey::LeaveGroup;
    const VERSIONS: RangeInclusive<i16> = 0..=5;
    type Request = LeaveGroupRequest;
    type Response = LeaveGroupResponse;

    async fn begin(context: &Context, request: LeaveGroupRequest) -> Pending<LeaveGroupResponse> {
        for member in &request.members {
            if let Some(reason) = member.reason.as_deref().filter(|reason| !reason.is_empty()) {
                tracing::debug!(group = &*request.group_id.0, member = &*member.member_id, reason, "a member leaves");
            }
        }
        let leavers: Vec<Leaver> = if context.version < 3 {
            vec![Leaver { member_id: kept(&request.member_id), instance: None }]
        } else {
            let leaver = |member: &kafka_protocol::messages::leave_group_request::MemberIdentity| Leaver {
                member_id: kept(&member.member_id),
                instance: kept_option(member.group_instance_id.as_ref()),
            };
            request.members.iter().map(leaver).collect()
        };
        let left = context.services.groups.leave(&request.group_id.0, &leavers).await;
        Pending::ready(answer(context.version, &leavers, left))
    }

    fn error_code(response: &LeaveGroupResponse) -> i16 {
        let first = response.members.iter().map(|member| member.error_code).find(|code| *code != 0);
        if response.error_code != 0 { response.error_code } else { first.unwrap_or(0) }
    }
}

fn answer(version: i16, leavers: &[Leaver], left: Each) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    let code = |result: &Result<(), _>| result.map_or_else(member_code, |()| ErrorCode::None).code();
    match left {
        Err(error) => response.with_error_code(member_code(error).code()),
        Ok(left) if version < 3 => response.with_error_code(left.first().map_or(0, code)),
        Ok(left) => {
            let members = leavers.iter().zip(&left).map(|(leaver, result)| {
                MemberResponse::default()
                    .with_member_id(told(&leaver.member_id))
                    .with_group_instance_id(told_option(leaver.instance.as_ref()))
                    .with_error_code(code(result))
            });
            response.with_members(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::coordinator::error::GroupError;

    #[test]
    fn every_version_is_encoded_and_tells_the_first_error() {
        let leavers = [Leaver { member_id: kept("m"), instance: Some(kept("i")) }];
        for version in LeaveGroup::VERSIONS {
            for (left, expected) in [
                (Ok(vec![Ok(())]), 0),
                (Ok(vec![Err(GroupError::FencedInstance)]), 82),
                (Err(GroupError::Unavailable), 15),
            ] {
                let response = answer(version, &leavers, left);
                response.encode(&mut BytesMut::new(), version).unwrap();
                assert_eq!(LeaveGroup::error_code(&response), expected);
            }
        }
    }
}
