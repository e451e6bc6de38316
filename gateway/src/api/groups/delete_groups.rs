//! DeleteGroups (42), versions 0-2: removes groups without members, with their offsets (KIP-229).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{ApiKey, DeleteGroupsRequest, DeleteGroupsResponse};

use super::words::code_of;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;

/// The handler.
pub struct DeleteGroups;

impl Handler for DeleteGroups {
    const KEY: ApiKey = ApiKey::DeleteGroups;
    const VERSIONS: RangeInclusive<i16> = 0..=2;
    type Request = DeleteGroupsRequest;
    type Response = DeleteGroupsResponse;

    async fn begin(context: &Context, request: DeleteGroupsRequest) -> Pending<DeleteGroupsResponse> {
        let services = Arc::clone(&context.services);
        Pending::later(async move {
            let (mut seen, mut results) = (BTreeSet::new(), Vec::new());
            for group in &request.groups_names {
                // A group named twice is deleted, and answered, once.
                if seen.insert(&*group.0) {
                    let deleted = services.groups.delete(&group.0).await;
                    let result = DeletableGroupResult::default().with_group_id(group.clone());
                    results.push(result.with_error_code(code_of(deleted)));
                }
            }
            DeleteGroupsResponse::default().with_results(results)
        })
    }

    fn error_code(response: &DeleteGroupsResponse) -> i16 {
        response.results.iter().map(|result| result.error_code).find(|code| *code != 0).unwrap_or(0)
    }
}
