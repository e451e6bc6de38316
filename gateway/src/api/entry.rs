//! A handler without its types, so that all of them fit in one table.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::ApiKey;

use super::handler::{Handler, Pending, Reply, Turn};
use crate::context::Context;
use crate::net::request::{Begun, End};
use crate::wire::answer::encode;
use crate::wire::guard;
use crate::wire::question::{Question, Undecodable};

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
    read: fn(&mut Bytes, i16) -> Result<(), Undecodable>,
}

type Begin = fn(Context, i32, Bytes) -> BoxFuture<'static, Result<Begun, Undecodable>>;

impl Entry {
    /// The line of one handler.
    pub const fn of<H: Handler>() -> Self {
        const {
            let known = H::Request::VERSIONS;
            let (low, high) = (*H::VERSIONS.start(), *H::VERSIONS.end());
            assert!(
                known.min <= low && high <= known.max,
                "the request cannot be read in all versions of this handler"
            );
        }
        Self {
            key: H::KEY,
            versions: H::VERSIONS,
            max_frame: H::MAX_FRAME,
            turn: H::TURN,
            begin: begin::<H>,
            read: read::<H>,
        }
    }

    /// Kafka's name of the API.
    pub fn name(&self) -> &'static str {
        guard::shape(self.key as i16).map_or("unknown", |shape| shape.name)
    }

    /// Decodes a body and forgets it: what `begin` does first, for those who try what bytes can do to it.
    ///
    /// # Errors
    /// When the body does not decode.
    pub fn read(&self, body: &mut Bytes, version: i16) -> Result<(), Undecodable> {
        (self.read)(body, version)
    }

    /// Decodes `body`, which has passed the guard, and begins the request.
    ///
    /// # Errors
    /// When the body does not decode.
    pub fn begin(
        &self,
        context: Context,
        correlation_id: i32,
        body: Bytes,
    ) -> BoxFuture<'static, Result<Begun, Undecodable>> {
        (self.begin)(context, correlation_id, body)
    }
}

fn read<H: Handler>(body: &mut Bytes, version: i16) -> Result<(), Undecodable> {
    H::Request::read(body, version).map(drop)
}

fn begin<H: Handler>(
    context: Context,
    correlation_id: i32,
    mut body: Bytes,
) -> BoxFuture<'static, Result<Begun, Undecodable>> {
    Box::pin(async move {
        let version = context.version;
        let request = H::Request::read(&mut body, version)?;
        if !body.is_empty() {
            return Err(Undecodable(format!("{} bytes were not understood", body.len())));
        }
        drop(body);
        Ok(match H::begin(&context, request).await {
            Pending::Ready(reply) => Begun::Ready(end::<H>(reply, version, correlation_id)),
            Pending::Later(reply) => {
                Begun::Later(Box::pin(async move { end::<H>(reply.await, version, correlation_id) }))
            }
        })
    })
}

fn end<H: Handler>(reply: Reply<H::Response>, version: i16, correlation_id: i32) -> End {
    match reply {
        Reply::Answer(response) => {
            let error = H::error_code(&response);
            match encode(H::KEY, version, correlation_id, response) {
                Ok(encoded) => End::Answer(encoded, error),
                Err(error) => End::Close(format!("the answer cannot be encoded in version {version}: {error}")),
            }
        }
        Reply::Silence => End::Silence,
        Reply::Close(why) => End::Close(why.to_owned()),
    }
}
