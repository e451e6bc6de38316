//! What a connection asks of whoever answers its requests, and what it is told.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::api::handler::Turn;
use crate::context::Peer;
use crate::wire::answer::Encoded;
use crate::wire::header::Fixed;

/// Answers requests; one for all connections.
pub trait Requests: Send + Sync + 'static {
    /// Most bytes a frame of this API and version may have; `None` if it is not served and the connection is to close.
    fn cap(&self, fixed: Fixed) -> Option<usize>;

    /// Judges a frame, without waiting and without memory beyond its own.
    ///
    /// # Errors
    /// When the frame is no request; the connection is then closed.
    fn open(&self, caller: &mut Caller, frame: Bytes) -> Result<Asked, Malformed>;
}

/// A connection as it is known to [`Requests`], from one request to the next.
#[derive(Debug)]
pub struct Caller {
    /// Who and where.
    pub peer: Arc<Peer>,
    /// The client id of the last request.
    pub client_id: Arc<str>,
}

/// A request that may begin.
pub struct Asked {
    /// Kafka's name of the API.
    pub api: &'static str,
    /// How it stands among its neighbours.
    pub turn: Turn,
    /// Bytes it takes while it begins, at most, beside its frame.
    pub decoded: usize,
    /// Begins it when polled.
    pub begin: BoxFuture<'static, Result<Begun, Malformed>>,
}

/// A request that has begun.
pub enum Begun {
    /// And ended.
    Ready(End),
    /// And will end.
    Later(BoxFuture<'static, End>),
}

/// How a request ended.
#[derive(Debug)]
pub enum End {
    /// With an answer, counted under this error code.
    Answer(Encoded, i16),
    /// With nothing to send.
    Silence,
    /// With nothing to send and the connection closed; the text is logged.
    Close(String),
}

/// The frame is not what its API and version say; the connection closes, as on a Kafka broker.
#[derive(Debug, thiserror::Error)]
#[error("malformed {api} request: {why}")]
pub struct Malformed {
    /// Kafka's name of the API.
    pub api: &'static str,
    /// What is wrong with it.
    pub why: String,
}
