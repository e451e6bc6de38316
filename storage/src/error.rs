//! What a produce, a fetch or a piece of upkeep can fail with, and what each failure means to who asked.

use std::sync::Arc;

use metadata::class::{Classify, ErrorClass};
use metadata::error::SubmitError;

use crate::blob::BlobError;

/// Why a request's batches have no offsets. One answer for the whole request: its batches share a segment.
///
/// Everything but [`WriteError::Unknown`] is definite: no batch of the request is or will become visible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The writer is shutting down, or has.
    #[error("the writer is closed")]
    Closed,
    /// The segment could not be made durable in time. Nothing was committed and nothing will be; worth trying again.
    #[error("the segment was not stored: {0}")]
    Storage(BlobError),
    /// The journal was away or refused for now. Nothing was committed and nothing will be; worth trying again.
    #[error("the commit was not journalled: {0}")]
    Journal(SubmitError),
    /// This gateway's session was expired by another gateway. Nothing was committed; worth trying again anywhere.
    #[error("this gateway's session is fenced")]
    Fenced,
    /// Whether the batches are committed cannot be told. Only an idempotent repetition may be tried.
    #[error("whether the batches were committed is not known: {0}")]
    Unknown(Arc<str>),
    /// More bytes than the writer may ever hold.
    #[error("a request of {bytes} bytes is above the cap of {limit} bytes")]
    TooLarge {
        /// Bytes of the request.
        bytes: usize,
        /// The cap, bytes.
        limit: usize,
    },
}

impl Classify for WriteError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Closed => ErrorClass::Closed,
            Self::Storage(_) | Self::Journal(_) | Self::Fenced => ErrorClass::Retry,
            Self::Unknown(_) => ErrorClass::Unknown,
            Self::TooLarge { .. } => ErrorClass::Rejected,
        }
    }
}

impl From<SubmitError> for WriteError {
    /// Keeps the one line that matters: what is unknown stays unknown, all else is definite.
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Closed => Self::Closed,
            SubmitError::Fenced(_) => Self::Fenced,
            SubmitError::Unknown(reason) => Self::Unknown(reason),
            SubmitError::TooLarge { .. } | SubmitError::Unavailable(_) | SubmitError::Corrupt(_) => {
                Self::Journal(error)
            }
        }
    }
}

/// Why a partition could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No such partition, asked again at the head of the journal.
    #[error("unknown partition")]
    UnknownPartition,
    /// The offset is before the log's start or past its end, asked again at the head of the journal.
    #[error("offset out of range")]
    OffsetOutOfRange,
    /// The bytes are there but could not be had. Worth trying again.
    #[error("the bytes could not be read: {0}")]
    Storage(BlobError),
    /// The head of the journal could not be asked. Worth trying again.
    #[error("the journal could not be asked: {0}")]
    Journal(SubmitError),
    /// The bytes in the bucket are not what was written. Neither data nor a gap is given for them.
    #[error("stored bytes are damaged: {0}")]
    Corrupt(Arc<str>),
}

impl Classify for ReadError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownPartition | Self::OffsetOutOfRange => ErrorClass::Rejected,
            Self::Storage(_) | Self::Journal(_) => ErrorClass::Retry,
            Self::Corrupt(_) => ErrorClass::Corrupt,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Operation;

    #[test]
    fn only_unknown_stays_unknown() {
        let unknown = SubmitError::Unknown("the process went away".into());
        assert_eq!(WriteError::from(unknown).class(), ErrorClass::Unknown);
        assert_eq!(WriteError::from(SubmitError::Closed).class(), ErrorClass::Closed);
        let away = WriteError::from(SubmitError::Unavailable("no answer".into()));
        assert_eq!(away.class(), ErrorClass::Retry);
        let timeout = BlobError::Timeout { operation: Operation::Put, after: std::time::Duration::from_secs(1) };
        assert_eq!(WriteError::Storage(timeout).class(), ErrorClass::Retry, "an unacknowledged PUT commits nothing");
    }
}
