//! What a handler knows about the request it serves, besides the request.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::api::advertised::Advertised;
use crate::services::Services;

/// One request's surroundings.
#[derive(Debug, Clone)]
pub struct Context {
    /// The parts of the gateway that do the work.
    pub services: Arc<Services>,
    /// The connection the request came on.
    pub peer: Arc<Peer>,
    /// Every API this gateway answers, as ApiVersions tells it.
    pub advertised: &'static [Advertised],
    /// The version of the request; the answer is encoded in the same.
    pub version: i16,
    /// The client's name for itself, from the request header; empty if it gave none.
    pub client_id: Arc<str>,
}

/// One connection as handlers see it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// Name of the listener it came in by; decides the addresses it is told about.
    pub listener: Arc<str>,
    /// Who the client is, as Kafka writes it: `User:ANONYMOUS` where a listener asks for no proof.
    pub principal: Arc<str>,
}
