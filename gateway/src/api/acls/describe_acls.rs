//! DescribeAcls (29), versions 1-3: SECURITY_DISABLED, as by a broker without an authorizer.
//!
//! Source: Kafka's `AclApis.handleDescribeAcls`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::describe_acls_request::DescribeAclsRequest;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResponse;
use kafka_protocol::protocol::StrBytes;

use super::NO_AUTHORIZER;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct DescribeAcls;

impl Handler for DescribeAcls {
    const KEY: ApiKey = ApiKey::DescribeAcls;
    const VERSIONS: RangeInclusive<i16> = 1..=3;
    type Request = DescribeAclsRequest;
    type Response = DescribeAclsResponse;

    async fn begin(_context: &Context, _request: DescribeAclsRequest) -> Pending<DescribeAclsResponse> {
        Pending::ready(
            DescribeAclsResponse::default()
                .with_error_code(ErrorCode::SecurityDisabled.code())
                .with_error_message(Some(StrBytes::from_static_str(NO_AUTHORIZER))),
        )
    }

    fn error_code(response: &DescribeAclsResponse) -> i16 {
        response.error_code
    }
}
