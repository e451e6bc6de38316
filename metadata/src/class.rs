//! What a caller may do about an error: five classes, asked of every error in the house.

/// What a failure means to whoever asked. Error families map themselves here once; callers decide by class, not by text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Definitely did not happen and will not by trying again: bad input, a refusal, a fenced session.
    Rejected,
    /// Definitely did not happen; trying again later may succeed.
    Retry,
    /// May or may not have happened. Only an idempotent repetition or a look at the journal can tell.
    Unknown,
    /// Bytes that should be intact are not. Never answered with data, never skipped.
    Corrupt,
    /// This part of the process is stopping or has stopped.
    Closed,
}

/// Implemented by every error family of the house.
pub trait Classify {
    /// The class of this error.
    fn class(&self) -> ErrorClass;
}
