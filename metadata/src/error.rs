//! What can go wrong between a caller and the journal, and what each means to the caller.

use std::sync::Arc;

use crate::class::{Classify, ErrorClass};
use crate::model::ids::{Lsn, SessionId};

/// Why a command has no outcome, or a barrier was not reached.
///
/// Everything but [`SubmitError::Unknown`] is definite: the command did not and will not take effect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// This handle is shut down, or the command was still waiting when it was.
    #[error("the journal is closed here")]
    Closed,
    /// The session was expired by another gateway before the command came into order. Never takes effect here; the same
    /// request through another session can succeed, so its class is [`ErrorClass::Retry`], not a refusal of the request.
    #[error("session {0} is fenced")]
    Fenced(SessionId),
    /// The command is larger than any entry may be.
    #[error("a command of about {bytes} bytes is above the cap of {max} bytes")]
    TooLarge {
        /// Its size, bytes.
        bytes: usize,
        /// The cap, bytes.
        max: usize,
    },
    /// The journal did not answer in time or refused for now; nothing was changed by asking.
    #[error("the journal is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The process stopped following the command before its outcome was known; it may have taken effect.
    #[error("whether the command was journalled is not known: {0}")]
    Unknown(Arc<str>),
    /// The journal's bytes are damaged, or written by a newer version; this gateway stopped applying.
    #[error("the journal cannot be read: {0}")]
    Corrupt(Arc<str>),
}

impl Classify for SubmitError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Closed => ErrorClass::Closed,
            Self::Fenced(_) | Self::Unavailable(_) => ErrorClass::Retry,
            Self::TooLarge { .. } => ErrorClass::Rejected,
            Self::Unknown(_) => ErrorClass::Unknown,
            Self::Corrupt(_) => ErrorClass::Corrupt,
        }
    }
}

/// What became of an entry whose append failed. The difference between the first two decides what clients may be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The entry is not in the journal and will not come to be in it by itself. Appending it again may succeed.
    #[error("the entry was not written: {0}")]
    KnownNotWritten(Arc<str>),
    /// The entry may be in the journal, or may still come to be in it. Append the same entry again.
    #[error("whether the entry was written is not known: {0}")]
    Unknown(Arc<str>),
    /// Another writer owns the journal now; the entry was not written and never will be.
    #[error("another writer has taken the journal over")]
    Fenced,
    /// The journal was closed before it took the entry.
    #[error("the journal is closed")]
    Closed,
    /// The journal is damaged; the entry was not written.
    #[error("the journal is damaged: {0}")]
    Corrupt(Arc<str>),
}

impl Classify for AppendError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::KnownNotWritten(_) => ErrorClass::Retry,
            Self::Unknown(_) => ErrorClass::Unknown,
            Self::Fenced => ErrorClass::Rejected,
            Self::Closed => ErrorClass::Closed,
            Self::Corrupt(_) => ErrorClass::Corrupt,
        }
    }
}

/// Why the journal could not be read or trimmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not now; trying again may succeed.
    #[error("the journal is unavailable: {0}")]
    Unavailable(Arc<str>),
    /// The entries asked for were trimmed away.
    #[error("the journal begins at {first}, entries after {after} were asked for")]
    Trimmed {
        /// What was asked for.
        after: Lsn,
        /// The first entry kept.
        first: Lsn,
    },
    /// Bytes that should be intact are not, or a newer version wrote them.
    #[error("the journal is damaged: {0}")]
    Corrupt(Arc<str>),
    /// The journal was closed.
    #[error("the journal is closed")]
    Closed,
}

impl Classify for ReadError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable(_) => ErrorClass::Retry,
            Self::Trimmed { .. } => ErrorClass::Rejected,
            Self::Corrupt(_) => ErrorClass::Corrupt,
            Self::Closed => ErrorClass::Closed,
        }
    }
}

impl From<ReadError> for SubmitError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(reason) => Self::Unavailable(reason),
            ReadError::Trimmed { .. } => Self::Corrupt(error.to_string().into()),
            ReadError::Corrupt(reason) => Self::Corrupt(reason),
            ReadError::Closed => Self::Closed,
        }
    }
}

/// Why a snapshot store did not do what it was asked. A put that failed may have happened: snapshots are named by their LSN,
/// so repeating it is harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot store: {reason}")]
pub struct SnapshotStoreError {
    /// What to do about it.
    pub class: ErrorClass,
    /// What happened, for a log.
    pub reason: Arc<str>,
}

impl Classify for SnapshotStoreError {
    fn class(&self) -> ErrorClass {
        self.class
    }
}

/// Why a snapshot was not taken whole. Nothing is lost by it but time at the next start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The state was not encoded: the process is stopping.
    #[error("the state was not encoded: {0}")]
    Encoding(Arc<str>),
    /// The snapshot was not put, or older ones not deleted.
    #[error(transparent)]
    Store(#[from] SnapshotStoreError),
    /// The snapshot was put, but the journal was not trimmed.
    #[error(transparent)]
    Journal(#[from] ReadError),
}

impl Classify for SnapshotError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Encoding(_) => ErrorClass::Closed,
            Self::Store(error) => error.class(),
            Self::Journal(error) => error.class(),
        }
    }
}

/// Why the metadata of a gateway could not be started. Shown to whoever starts the gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The options contradict themselves.
    #[error("metadata options: {0}")]
    Options(String),
    /// The journal could not be read.
    #[error(transparent)]
    Journal(#[from] ReadError),
    /// The snapshot store could not be read.
    #[error(transparent)]
    Snapshots(#[from] SnapshotStoreError),
    /// No snapshot reaches down to the first entry that the journal still keeps.
    #[error(
        "the journal begins at entry {first} and no readable snapshot reaches it ({tried}): \
         restore the snapshots that belong to this journal"
    )]
    SnapshotMissing {
        /// First entry the journal keeps.
        first: Lsn,
        /// What was found instead.
        tried: String,
    },
    /// The snapshot is of entries that this journal does not have.
    #[error(
        "the journal ends at entry {head}, but the newest snapshot is of entry {snapshot}: this journal is not the one the \
         stored data belongs to; start with the right data folder, or with an empty bucket prefix"
    )]
    JournalBehind {
        /// End of the journal.
        head: Lsn,
        /// Entry of the snapshot.
        snapshot: Lsn,
    },
    /// The session was not opened.
    #[error("the session was not opened: {0}")]
    Session(#[from] SubmitError),
    /// The state refused the session.
    #[error("the session was refused: {0}")]
    Refused(crate::command::Refusal),
}

impl Classify for StartError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Journal(error) => error.class(),
            Self::Snapshots(error) => error.class(),
            Self::SnapshotMissing { .. } => ErrorClass::Corrupt,
            Self::Options(_) | Self::JournalBehind { .. } | Self::Refused(_) => ErrorClass::Rejected,
            Self::Session(error) => error.class(),
        }
    }
}
