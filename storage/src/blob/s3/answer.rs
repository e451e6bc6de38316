//! What the answers of a bucket mean to us.

use std::error::Error;
use std::io::ErrorKind;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::blob::BlobError;

/// Which bucket, where; for messages.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) bucket: String,
    pub(super) endpoint: String,
}

impl Place {
    /// What a failed request for `key` means.
    pub(super) fn error<E>(&self, key: &str, error: SdkError<E, HttpResponse>) -> BlobError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match &error {
            SdkError::ServiceError(context) => {
                let status = context.raw().status().as_u16();
                self.coded(key, context.err().code(), Some(status), context.err().message())
            }
            SdkError::ConstructionFailure(_) => BlobError::Invalid(whole_text(&error)),
            // A request that never left is known not to have been done; of any other failure on the way that is not known.
            SdkError::DispatchFailure(_) if was_never_sent(&error) => BlobError::Unavailable(whole_text(&error)),
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) | SdkError::ResponseError(_) => {
                BlobError::Unknown(whole_text(&error))
            }
            // The enum may grow; what is not known here is not known to have been done or not.
            _ => BlobError::Unknown(whole_text(&error)),
        }
    }

    /// What an error code means; where there is none (HEAD has no body), what the status means.
    pub(super) fn coded(&self, key: &str, code: Option<&str>, status: Option<u16>, message: Option<&str>) -> BlobError {
        let text = || {
            let status = status.map(|s| format!("HTTP {s}"));
            let parts = [status.as_deref(), code, message];
            parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        };
        match (code.unwrap_or_default(), status.unwrap_or_default()) {
            ("NoSuchBucket", _) => {
                BlobError::NoSuchBucket { bucket: self.bucket.clone(), endpoint: self.endpoint.clone() }
            }
            ("PreconditionFailed", _) | (_, 412) => BlobError::already_exists(key),
            ("InvalidRange", _) | (_, 416) => {
                BlobError::ShortRead { key: key.to_owned(), position: 0, wanted: 0, found: 0 }
            }
            // Another create of the same key is under way; it may still fail.
            ("ConditionalRequestConflict" | "OperationAborted", _) => BlobError::Throttled(text()),
            ("SlowDown" | "ServiceUnavailable" | "RequestLimitExceeded" | "ThrottlingException", _)
            | (_, 503 | 429) => BlobError::Throttled(text()),
            (
                "InvalidAccessKeyId"
                | "XAdminUserNotFound" // versitygw's name for it
                | "SignatureDoesNotMatch"
                | "ExpiredToken"
                | "InvalidToken"
                | "TokenRefreshRequired"
                | "RequestTimeTooSkewed"
                | "InvalidSecurity",
                _,
            )
            | (_, 401) => BlobError::Credentials(text()),
            (
                "PermanentRedirect"
                | "TemporaryRedirect"
                | "AuthorizationHeaderMalformed"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => {
                let bucket = &self.bucket;
                BlobError::Invalid(format!("bucket {bucket} is in another region ({}); set AWS_REGION", text()))
            }
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 403) => BlobError::Denied(text()),
            // The body did not arrive whole: nothing was written.
            ("RequestTimeout" | "IncompleteBody" | "BadDigest", _) => BlobError::Unavailable(text()),
            // Someone gave the upload up, or it was completed by a request whose answer was lost.
            ("NoSuchUpload" | "InvalidPart", _) => BlobError::Unknown(text()),
            ("NoSuchKey" | "NotFound", _) | ("", 404) => BlobError::not_found(key),
            ("NotImplemented", _) | (_, 400..=499 | 501) => {
                BlobError::Invalid(format!("the store refused the request ({})", text()))
            }
            _ => BlobError::Unknown(text()),
        }
    }
}

/// An error with all its causes: the SDK's own texts say little.
pub(super) fn whole_text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn was_never_sent(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if let Some(ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) = kind {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use metadata::class::{Classify, ErrorClass};

    use super::*;

    #[test]
    fn codes_and_statuses_have_classes() {
        let place = Place { bucket: "b".to_owned(), endpoint: "e".to_owned() };
        let class =
            |code: &str, status| place.coded("k", Some(code).filter(|c| !c.is_empty()), Some(status), None).class();
        for (code, status, expected) in [
            ("NoSuchKey", 404, ErrorClass::Rejected),
            ("", 404, ErrorClass::Rejected),
            ("NoSuchBucket", 404, ErrorClass::Rejected),
            ("NoSuchThing", 404, ErrorClass::Rejected),
            ("AccessDenied", 403, ErrorClass::Rejected),
            ("PreconditionFailed", 412, ErrorClass::Rejected),
            ("ConditionalRequestConflict", 409, ErrorClass::Retry),
            ("SlowDown", 503, ErrorClass::Retry),
            ("", 503, ErrorClass::Retry),
            ("RequestTimeout", 400, ErrorClass::Retry),
            ("NoSuchUpload", 404, ErrorClass::Unknown),
            ("InternalError", 500, ErrorClass::Unknown),
            ("", 502, ErrorClass::Unknown),
            ("", 504, ErrorClass::Unknown),
            ("InvalidArgument", 400, ErrorClass::Rejected),
            ("InvalidRange", 416, ErrorClass::Corrupt),
        ] {
            assert_eq!(class(code, status), expected, "{code} {status}");
        }
    }

    #[test]
    fn texts_say_what_was_answered() {
        let place = Place { bucket: "b".to_owned(), endpoint: "e".to_owned() };
        let error = place.coded("k", Some("InvalidAccessKeyId"), Some(403), Some("no such key id"));
        let text = error.to_string();
        assert!(text.contains("HTTP 403, InvalidAccessKeyId, no such key id"), "{text}");
        assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    }
}
