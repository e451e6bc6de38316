//! DescribeGroups (15), versions 0-6: groups and their members in full.
//!
//! - An unknown group is "Dead" without an error; from version 6 it is GROUP_ID_NOT_FOUND with a text (KIP-1043).
//! - From version 3 the operations the client may do, if it asks; without an authorizer all. From version 4 static members.

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{ApiKey, DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::words::{code, told, told_option};
use crate::api::handler::{Handler, Pending};
use crate::cluster::Operations;
use crate::context::Context;
use crate::coordinator::error::GroupError;
use crate::coordinator::view::{DEAD, GroupView, MemberView};
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct DescribeGroups;

impl Handler for DescribeGroups {
    const KEY: ApiKey = ApiKey::DescribeGroups;
    const VERSIONS: RangeInclusive<i16> = 0..=6;
    type Request = DescribeGroupsRequest;
    type Response = DescribeGroupsResponse;

    async fn begin(context: &Context, request: DescribeGroupsRequest) -> Pending<DescribeGroupsResponse> {
        let (version, services) = (context.version, Arc::clone(&context.services));
        Pending::later(async move {
            let mut described = Vec::with_capacity(request.groups.len());
            for group in &request.groups {
                let view = services.groups.describe(&group.0).await;
                described.push(describe(version, group, view, request.include_authorized_operations));
            }
            DescribeGroupsResponse::default().with_groups(described)
        })
    }

    fn error_code(response: &DescribeGroupsResponse) -> i16 {
        response.groups.iter().map(|group| group.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}

fn describe(
    version: i16,
    group: &GroupId,
    view: Result<Option<GroupView>, GroupError>,
    operations: bool,
) -> DescribedGroup {
    let described = DescribedGroup::default().with_group_id(group.clone());
    let view = match view {
        Err(error) => return described.with_error_code(code(error).code()),
        Ok(Some(view)) => view,
        Ok(None) => {
            let dead = described.with_group_state(StrBytes::from_static_str(DEAD));
            if version < 6 {
                return with_operations(version, dead, operations);
            }
            let text = format!("Group {} not found.", &*group.0);
            return dead.with_error_code(ErrorCode::GroupIdNotFound.code()).with_error_message(Some(told(&text)));
        }
    };
    let described = described
        .with_group_state(StrBytes::from_static_str(view.state))
        .with_protocol_type(told(&view.protocol_type))
        .with_protocol_data(told(&view.protocol))
        .with_members(view.members.into_iter().map(|one| member(version, one)).collect());
    with_operations(version, described, operations)
}

fn with_operations(version: i16, described: DescribedGroup, asked: bool) -> DescribedGroup {
    if version >= 3 && asked { described.with_authorized_operations(Operations::Group.bits(true)) } else { described }
}

fn member(version: i16, member: MemberView) -> DescribedGroupMember {
    let described = DescribedGroupMember::default()
        .with_member_id(told(&member.member_id))
        .with_client_id(told(&member.client_id))
        .with_client_host(told(&member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment);
    if version < 4 { described } else { described.with_group_instance_id(told_option(member.instance.as_ref())) }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_version_is_encoded_and_unknown_groups_are_dead() {
        let shown = MemberView {
            member_id: "m".into(),
            instance: Some("i".into()),
            client_id: "c".into(),
            client_host: "/::1".into(),
            metadata: Bytes::new(),
            assignment: Bytes::from_static(b"a"),
        };
        let view = GroupView {
            state: "Stable",
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            members: vec![shown],
        };
        let group = GroupId(told("g"));
        for version in DescribeGroups::VERSIONS {
            for view in [Ok(Some(view.clone())), Ok(None), Err(GroupError::Unavailable)] {
                let described = describe(version, &group, view.clone(), true);
                let expected = match view {
                    Ok(Some(_)) => ("Stable", 0),
                    Ok(None) => ("Dead", if version < 6 { 0 } else { 69 }),
                    Err(_) => ("", 15),
                };
                assert_eq!((&*described.group_state, described.error_code), expected);
                let response = DescribeGroupsResponse::default().with_groups(vec![described]);
                response.encode(&mut BytesMut::new(), version).unwrap();
            }
        }
    }
}
