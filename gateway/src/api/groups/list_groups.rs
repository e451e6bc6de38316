//! ListGroups (16), versions 0-5: every group, of every protocol type.
//!
//! - From version 4 states can be filtered (KIP-518), from 5 types (KIP-848); both without regard to case. Every group here
//!   is of type "classic".

use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup as Listed;
use kafka_protocol::messages::{ApiKey, GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use super::words::{code, told};
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::coordinator::view::ListedGroup;

/// The handler.
pub struct ListGroups;

/// The type of every group under the classic protocol.
const CLASSIC: &str = "classic";

impl Handler for ListGroups {
    const KEY: ApiKey = ApiKey::ListGroups;
    const VERSIONS: RangeInclusive<i16> = 0..=5;
    type Request = ListGroupsRequest;
    type Response = ListGroupsResponse;

    async fn begin(context: &Context, request: ListGroupsRequest) -> Pending<ListGroupsResponse> {
        let services = Arc::clone(&context.services);
        Pending::later(async move {
            match services.groups.list().await {
                Ok(all) => answer(&request, all),
                Err(error) => ListGroupsResponse::default().with_error_code(code(error).code()),
            }
        })
    }

    fn error_code(response: &ListGroupsResponse) -> i16 {
        response.error_code
    }
}

fn answer(request: &ListGroupsRequest, all: Vec<ListedGroup>) -> ListGroupsResponse {
    let passes = |filter: &[StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let wanted =
        |group: &ListedGroup| passes(&request.states_filter, group.state) && passes(&request.types_filter, CLASSIC);
    let line = |group: ListedGroup| {
        Listed::default()
            .with_group_id(GroupId(told(&group.group)))
            .with_protocol_type(told(&group.protocol_type))
            .with_group_state(StrBytes::from_static_str(group.state))
            .with_group_type(StrBytes::from_static_str(CLASSIC))
    };
    ListGroupsResponse::default().with_groups(all.into_iter().filter(wanted).map(line).collect())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn filters_act_and_every_version_is_encoded() {
        let all = || {
            let one = |group: &str, state| ListedGroup { group: group.into(), protocol_type: "consumer".into(), state };
            vec![one("a", "Stable"), one("b", "Empty")]
        };
        let count = |states: &[&'static str], types: &[&'static str]| {
            let texts = |texts: &[&'static str]| texts.iter().map(|text| StrBytes::from_static_str(text)).collect();
            let request =
                ListGroupsRequest::default().with_states_filter(texts(states)).with_types_filter(texts(types));
            let response = answer(&request, all());
            for version in ListGroups::VERSIONS {
                response.encode(&mut BytesMut::new(), version).unwrap();
            }
            response.groups.len()
        };
        assert_eq!(count(&[], &[]), 2);
        assert_eq!(count(&["stable"], &["Classic"]), 1);
        assert_eq!(count(&["Dead"], &[]), 0);
        assert_eq!(count(&[], &["consumer"]), 0);
    }
}
