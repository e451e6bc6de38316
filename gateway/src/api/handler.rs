//! The shape every API has: a key, its versions, and `begin`.
//!
//! A handler is a unit struct in its own file. `begin` is awaited in the order of the connection's requests, so whatever it
//! does (a look at the state, a submit to the writer) happens in that order; the [`Pending`] it returns may finish later.
//! No handler sees a socket, a channel, a blob store or the journal.

use std::future::Future;
use std::ops::RangeInclusive;

use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;

use crate::context::Context;
use crate::limits;
use crate::wire::answer::Answer;
use crate::wire::question::Question;

/// One API of the Kafka protocol.
pub trait Handler: Send + Sync + 'static {
    /// Its key.
    const KEY: ApiKey;
    /// The versions that are advertised and answered; anything else never reaches `begin`.
    const VERSIONS: RangeInclusive<i16>;
    /// Largest request frame, bytes, header included. A decoded request is many times its frame, so only the APIs that carry
    /// records or assignments are given more.
    const MAX_FRAME: usize = limits::FRAME_BYTES;
    /// Whether the answer may still be pending when the connection's next request begins.
    const TURN: Turn = Turn::Alone;
    /// The request, decoded. It has passed the guard (`wire::guard`): its size is in proportion to its frame.
    type Request: Question + Send;
    /// The answer; what the message crate can encode, or a type of ours with its own encoder.
    type Response: Answer + Send + 'static;

    /// Begins the request. Awaited before the connection's next request begins; while it waits, the socket is not read.
    /// May be dropped when the connection closes: a submitted write stays submitted, nothing else may be lost by it.
    fn begin(context: &Context, request: Self::Request) -> impl Future<Output = Pending<Self::Response>> + Send;

    /// The error code the metrics count this answer under: the top-level one, or the first of a partition. 0 is success.
    fn error_code(_response: &Self::Response) -> i16 {
        0
    }
}

/// How a request stands among its neighbours on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Begins when every earlier request is answered, and is answered before the next one begins, as on a Kafka broker.
    Alone,
    /// Neighbours of the same kind run side by side once begun; answers still leave in request order. For Produce.
    Together,
}

/// An answer that is there or will be.
pub enum Pending<T> {
    /// It is there.
    Ready(Reply<T>),
    /// It will be. Dropped when the connection closes, at any await.
    Later(BoxFuture<'static, Reply<T>>),
}

/// How a request ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<T> {
    /// With this answer.
    Answer(T),
    /// With none: a produce with acks=0 that went well.
    Silence,
    /// With none, and the connection closes: the only way to tell a client that sent acks=0 of an error. The text is logged.
    Close(&'static str),
}

impl<T> Pending<T> {
    /// The answer, now.
    pub fn ready(response: T) -> Self {
        Self::Ready(Reply::Answer(response))
    }

    /// The answer, when `future` is done.
    pub fn later(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Later(Box::pin(async move { Reply::Answer(future.await) }))
    }

    /// No answer, now.
    pub fn silent() -> Self {
        Self::Ready(Reply::Silence)
    }

    /// No answer; the connection closes, and `why` is logged.
    pub fn close(why: &'static str) -> Self {
        Self::Ready(Reply::Close(why))
    }

    /// An answer, silence or a close, when `future` is done. An acks=0 produce ends here, so that its frame stays counted
    /// against the memory of requests until its records are written.
    pub fn reply(future: impl Future<Output = Reply<T>> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }
}
