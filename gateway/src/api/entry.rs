//! A handler without its types, so that all of them fit in one table.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Decodable;

use super::handler::{Handler, Pending, Reply, Turn};
use crate::context::Context;
use crate::wire::answer::{Encoded, encode};

/// One line of the table.
#[derive(Debug)]
pub struct Entry {
    /// The API's key.
    pub key: ApiKey,
    /// The versions answered.
    pub versions: RangeInclusive<i16>,
    /// Largest request frame, bytes.
    pub max_frame: usize,
    /// How it stands among its neighbours on a connection.
    pub turn: Turn,
    begin: Begin,
}

type Begin = for<'a> fn(&'a Context, i32, Bytes) -> BoxFuture<'a, Result<Begun, Malformed>>;

/// A request that has begun.
pub enum Begun {
    /// And ended.
    Ready(End),
    /// And will end.
    Later(BoxFuture<'static, End>),
}

/// How a request ended, as bytes.
#[derive(Debug)]
pub enum End {
    /// With an answer, counted under this error code.
    Answer(Encoded, i16),
    /// With nothing to send.
    Silence,
    /// With nothing to send and the connection closed; the text is logged.
    Close(String),
}

/// The body is not what its API and version say; the connection closes, as on a Kafka broker.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

impl Entry {
    /// The line of one handler.
    pub const fn of<H: Handler>() -> Self {
        Self { key: H::KEY, versions: H::VERSIONS, max_frame: H::MAX_FRAME, turn: H::TURN, begin: begin::<H> }
    }

    /// Decodes `body` and begins the request.
    ///
    /// # Errors
    /// When the body does not decode.
    pub async fn begin(&self, context: &Context, correlation_id: i32, body: Bytes) -> Result<Begun, Malformed> {
        (self.begin)(context, correlation_id, body).await
    }
}

fn begin<H: Handler>(
    context: &Context,
    correlation_id: i32,
    mut body: Bytes,
) -> BoxFuture<'_, Result<Begun, Malformed>> {
    Box::pin(async move {
        let version = context.version;
        let request = H::Request::decode(&mut body, version).map_err(|error| Malformed(format!("{error}")))?;
        if !body.is_empty() {
            return Err(Malformed(format!("{} bytes behind the request", body.len())));
        }
        Ok(match H::begin(context, request).await {
            Pending::Ready(reply) => Begun::Ready(end::<H>(reply, version, correlation_id)),
            Pending::Later(reply) => {
                Begun::Later(Box::pin(async move { end::<H>(reply.await, version, correlation_id) }))
            }
        })
    })
}

fn end<H: Handler>(reply: Reply<H::Response>, version: i16, correlation_id: i32) -> End {
    match reply {
        Reply::Answer(response) => match encode(H::KEY, version, correlation_id, &response) {
            Ok(encoded) => End::Answer(encoded, H::error_code(&response)),
            Err(error) => End::Close(format!("the answer cannot be encoded: {error}")),
        },
        Reply::Silence => End::Silence,
        Reply::Close(why) => End::Close(why.to_owned()),
    }
}
