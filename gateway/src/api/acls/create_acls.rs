//! CreateAcls (30), versions 1-3: SECURITY_DISABLED for each rule, as by a broker without an authorizer.
//!
//! Source: Kafka's `AclApis.handleCreateAcls`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_acls_request::CreateAclsRequest;
use kafka_protocol::messages::create_acls_response::{AclCreationResult, CreateAclsResponse};
use kafka_protocol::protocol::StrBytes;

use super::NO_AUTHORIZER;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct CreateAcls;

impl Handler for CreateAcls {
    const KEY: ApiKey = ApiKey::CreateAcls;
    const VERSIONS: RangeInclusive<i16> = 1..=3;
    type Request = CreateAclsRequest;
    type Response = CreateAclsResponse;

    async fn begin(_context: &Context, request: CreateAclsRequest) -> Pending<CreateAclsResponse> {
        let refused = AclCreationResult::default()
            .with_error_code(ErrorCode::SecurityDisabled.code())
            .with_error_message(Some(StrBytes::from_static_str(NO_AUTHORIZER)));
        Pending::ready(CreateAclsResponse::default().with_results(vec![refused; request.creations.len()]))
    }

    fn error_code(response: &CreateAclsResponse) -> i16 {
        response.results.first().map_or(0, |result| result.error_code)
    }
}
