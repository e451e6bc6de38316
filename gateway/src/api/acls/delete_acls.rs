//! DeleteAcls (31), versions 1-3: SECURITY_DISABLED for each filter, as by a broker without an authorizer.
//!
//! Source: Kafka's `AclApis.handleDeleteAcls`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::delete_acls_request::DeleteAclsRequest;
use kafka_protocol::messages::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::NO_AUTHORIZER;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct DeleteAcls;

impl Handler for DeleteAcls {
    const KEY: ApiKey = ApiKey::DeleteAcls;
    const VERSIONS: RangeInclusive<i16> = 1..=3;
    type Request = DeleteAclsRequest;
    type Response = DeleteAclsResponse;

    async fn begin(_context: &Context, request: DeleteAclsRequest) -> Pending<DeleteAclsResponse> {
        let refused = DeleteAclsFilterResult::default()
            .with_error_code(ErrorCode::SecurityDisabled.code())
            .with_error_message(Some(StrBytes::from_static_str(NO_AUTHORIZER)));
        Pending::ready(DeleteAclsResponse::default().with_filter_results(vec![refused; request.filters.len()]))
    }

    fn error_code(response: &DeleteAclsResponse) -> i16 {
        response.filter_results.first().map_or(0, |result| result.error_code)
    }
}
