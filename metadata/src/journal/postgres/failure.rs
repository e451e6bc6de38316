//! What an error of PostgreSQL means: whether the statement was carried out, and what may be done about it.

use std::error::Error as _;
use std::sync::Arc;

use tokio_postgres::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// The server's commits would not be durable; raised by our function.
const NOT_DURABLE: &str = "SH001";
/// The history is another one than the caller has seen; raised by our function.
const OTHER_HISTORY: &str = "SH002";

/// Why a statement has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// It was not carried out, and trying again may help.
    #[error("{0}")]
    NotDone(Arc<str>),
    /// It may have been carried out, or may still be.
    #[error("{0}")]
    Unknown(Arc<str>),
    /// It was not carried out: entries that were there are gone or others.
    #[error("{0}")]
    Lost(Arc<str>),
    /// It was not carried out: our tables are not as we left them.
    #[error("{0}")]
    Damaged(Arc<str>),
    /// Not connected, and trying again will not help: no such user, password, database.
    #[error("{0}")]
    Refused(Arc<str>),
}

impl Failure {
    /// What became of a statement that was sent.
    ///
    /// An ERROR ends the statement's transaction, whatever it is about. After a FATAL one, or when the connection just ends,
    /// the commit may have come first: a server that is told to stop while it waits for its replicas has committed already.
    pub(super) fn of(error: &Error) -> Self {
        let text = reason(error).into();
        let Some(db) = error.as_db_error() else { return Self::Unknown(text) };
        let code = db.code();
        if code.code() == OTHER_HISTORY {
            return Self::Lost(text);
        }
        let is_gone = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_FUNCTION,
            SqlState::UNDEFINED_COLUMN,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::UNIQUE_VIOLATION,
            SqlState::NO_DATA_FOUND,
            SqlState::TOO_MANY_ROWS,
            SqlState::DATA_CORRUPTED,
            SqlState::INDEX_CORRUPTED,
        ];
        if is_gone.contains(code) {
            return Self::Damaged(text);
        }
        match is_error(db) {
            true => Self::NotDone(text),
            false => Self::Unknown(text),
        }
    }

    /// What became of an attempt to connect: nothing was sent yet.
    pub(super) fn of_connecting(error: &Error) -> Self {
        let text = reason(error).into();
        let Some(db) = error.as_db_error() else { return Self::NotDone(text) };
        let refused = [
            SqlState::INVALID_PASSWORD,
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            SqlState::INVALID_CATALOG_NAME,
            SqlState::INSUFFICIENT_PRIVILEGE,
        ];
        if refused.contains(db.code()) { Self::Refused(text) } else { Self::NotDone(text) }
    }
}

/// Whether the server may answer the next statement on this connection just as wrongly: it has become a replica, stops, or
/// its settings have changed.
pub(super) fn is_of_the_server(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        db.code() == &SqlState::READ_ONLY_SQL_TRANSACTION || db.code().code() == NOT_DURABLE || !is_error(db)
    })
}

/// Whether a pooler refuses what we wish to set when connecting.
pub(super) fn is_of_startup(error: &Error) -> bool {
    error.as_db_error().is_some_and(|db| db.message().contains("startup parameter"))
}

fn is_error(db: &DbError) -> bool {
    matches!(db.parsed_severity(), Some(Severity::Error)) || db.severity() == "ERROR"
}

/// One line that says all the error knows.
pub(super) fn reason(error: &Error) -> String {
    if let Some(db) = error.as_db_error() {
        let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{}{detail}, SQLSTATE {}", db.message(), db.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    text
}
