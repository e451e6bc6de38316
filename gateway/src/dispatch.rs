//! From a frame to its handler.
//!
//! A key or version that is not in the table closes the connection, as on a Kafka broker, with two exceptions: ApiVersions is
//! answered whatever the version asked, and Produce is told from version 0 and so answered from version 0.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::ApiKey;

use crate::api::cluster::api_versions;
use crate::api::entry::Entry;
use crate::api::table;
use crate::context::Context;
use crate::net::request::{Asked, Begun, Caller, End, Malformed, Requests};
use crate::services::Services;
use crate::wire::answer::encode;
use crate::wire::error_code::ErrorCode;
use crate::wire::guard;
use crate::wire::header::{self, Fixed, Header};
use crate::wire::old_produce;

/// Answers requests with the handlers of the table.
#[derive(Debug)]
pub struct Dispatch {
    services: Arc<Services>,
    /// Largest frame of any API, bytes (`socket.request.max.bytes`).
    largest: usize,
}

/// How a key and version are served.
enum Route {
    Handler(&'static Entry),
    /// ApiVersions in a version we do not know.
    NewerApiVersions(&'static Entry),
    /// Produce in a version Kafka 4 no longer takes.
    OldProduce(&'static Entry),
}

impl Dispatch {
    /// Dispatches to handlers that work with these services.
    pub fn new(services: Arc<Services>) -> Self {
        let largest = usize::try_from(services.kafka.number("socket.request.max.bytes")).unwrap_or(0);
        Self { services, largest }
    }

    fn context(&self, caller: &Caller, version: i16) -> Context {
        Context {
            services: Arc::clone(&self.services),
            peer: Arc::clone(&caller.peer),
            advertised: table::advertised(),
            version,
            client_id: Arc::clone(&caller.client_id),
        }
    }
}

impl Requests for Dispatch {
    fn cap(&self, fixed: Fixed) -> Option<usize> {
        Some(match route(fixed)? {
            Route::Handler(entry) | Route::NewerApiVersions(entry) | Route::OldProduce(entry) => {
                entry.max_frame.min(self.largest)
            }
        })
    }

    fn open(&self, caller: &mut Caller, frame: Bytes) -> Result<Asked, Malformed> {
        let Header { fixed, client_id, len } =
            header::read(&frame, &caller.client_id).map_err(|why| Malformed { api: "header", why: why.to_string() })?;
        caller.client_id = client_id;
        let unserved = || Malformed { api: "header", why: format!("API {} is not served", fixed.key) };
        let route = route(fixed).ok_or_else(unserved)?;
        let body = frame.slice(len..);
        let (entry, begun) = match route {
            Route::NewerApiVersions(entry) => (entry, newer_api_versions(fixed)),
            Route::OldProduce(entry) => (entry, old_produce(fixed, &body)),
            Route::Handler(entry) => {
                let api = entry.name();
                let passed = guard::check(fixed.key, fixed.version, &body);
                let guard::Passed { decoded, len } = passed.map_err(|why| Malformed { api, why: why.to_string() })?;
                let body = body.slice(..len);
                let begin = entry.begin(self.context(caller, fixed.version), fixed.correlation_id, body);
                let begin = async move { begin.await.map_err(|why| Malformed { api, why: why.to_string() }) };
                return Ok(Asked { api, turn: entry.turn, decoded, begin: Box::pin(begin) });
            }
        };
        let api = entry.name();
        let begun = begun.map_err(|why| Malformed { api, why });
        Ok(Asked { api, turn: entry.turn, decoded: 0, begin: Box::pin(std::future::ready(begun)) })
    }
}

fn route(fixed: Fixed) -> Option<Route> {
    let entry = table::find(fixed.key)?;
    if entry.versions.contains(&fixed.version) {
        Some(Route::Handler(entry))
    } else if entry.key == ApiKey::ApiVersions {
        Some(Route::NewerApiVersions(entry))
    } else if entry.key == ApiKey::Produce && old_produce::VERSIONS.contains(&fixed.version) {
        Some(Route::OldProduce(entry))
    } else {
        None
    }
}

/// Version 0 is what every client can read; the list in it tells the client what to ask again in.
fn newer_api_versions(fixed: Fixed) -> Result<Begun, String> {
    let answer = api_versions::answer(ErrorCode::UnsupportedVersion, table::advertised());
    let encoded = encode(ApiKey::ApiVersions, 0, fixed.correlation_id, answer).map_err(|error| error.to_string())?;
    Ok(Begun::Ready(End::Answer(encoded, ErrorCode::UnsupportedVersion.code())))
}

fn old_produce(fixed: Fixed, body: &Bytes) -> Result<Begun, String> {
    guard::check(fixed.key, fixed.version, body).map_err(|why| why.to_string())?;
    Ok(Begun::Ready(match old_produce::refusal(fixed.version, body) {
        Some(answer) => {
            let encoded = encode(ApiKey::Produce, fixed.version, fixed.correlation_id, answer);
            End::Answer(encoded.map_err(|error| error.to_string())?, ErrorCode::UnsupportedVersion.code())
        }
        None => End::Close(format!("acks=0 in version {}, which is not supported", fixed.version)),
    }))
}
