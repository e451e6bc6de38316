//! ApiVersions (18), versions 0-4: what this gateway answers, and in which versions.
//!
//! - A version above 4 is answered by `dispatch`, in version 0 with UNSUPPORTED_VERSION and the list (KIP-511), so that a newer
//!   client can ask again.
//! - The response header is version 0 in every version, so that a client can read it before it knows anything.
//! - Software name and version (KIP-511, version 3) must be of `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`, else INVALID_REQUEST.
//! - Default-valued tagged fields are left out: librdkafka 2.0 fails on them.
//! - Features (KIP-584) are told as they come to work; none is yet.

use std::ops::RangeInclusive;

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use crate::api::advertised::Advertised;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct ApiVersions;

impl Handler for ApiVersions {
    const KEY: ApiKey = ApiKey::ApiVersions;
    const VERSIONS: RangeInclusive<i16> = 0..=4;
    type Request = ApiVersionsRequest;
    type Response = ApiVersionsResponse;

    async fn begin(context: &Context, request: ApiVersionsRequest) -> Pending<ApiVersionsResponse> {
        let named = context.version < 3
            || (is_software_name(&request.client_software_name) && is_software_name(&request.client_software_version));
        if !named {
            return Pending::ready(ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code()));
        }
        Pending::ready(answer(ErrorCode::None, context.advertised))
    }

    fn error_code(response: &ApiVersionsResponse) -> i16 {
        response.error_code
    }
}

/// The list, under this error.
pub fn answer(error: ErrorCode, advertised: &[Advertised]) -> ApiVersionsResponse {
    let api_keys = advertised
        .iter()
        .map(|api| ApiVersion::default().with_api_key(api.key).with_min_version(api.min).with_max_version(api.max));
    ApiVersionsResponse::default().with_error_code(error.code()).with_api_keys(api_keys.collect())
}

/// Kafka's `ApiVersionsRequest.SOFTWARE_NAME_VERSION_PATTERN`.
fn is_software_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_what_kafka_takes() {
        for good in ["a", "apache-kafka-java", "librdkafka", "2.13.0", "1-2.3"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a\n", "é", "a_b"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
