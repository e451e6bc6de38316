//! FindCoordinator (10), versions 0-6: which gateway runs a group, or a transaction.
//!
//! - One gateway per journal: it is the coordinator of everything, at the address of the listener the client came in by.
//! - Version 4 asks for many keys at once (KIP-699).
//! - Share coordinators (key type 2, version 6) are for brokers among themselves: INVALID_REQUEST, as on a Kafka broker
//!   without share groups. So is any other key type.

use std::ops::RangeInclusive;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use super::words::told;
use crate::api::handler::{Handler, Pending};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// The handler.
pub struct FindCoordinator;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

impl Handler for FindCoordinator {
    const KEY: ApiKey = ApiKey::FindCoordinator;
    const VERSIONS: RangeInclusive<i16> = 0..=6;
    type Request = FindCoordinatorRequest;
    type Response = FindCoordinatorResponse;

    async fn begin(context: &Context, request: FindCoordinatorRequest) -> Pending<FindCoordinatorResponse> {
        let found = match request.key_type {
            GROUP | TRANSACTION => this_gateway(context).ok_or(ErrorCode::CoordinatorNotAvailable),
            _ => Err(ErrorCode::InvalidRequest),
        };
        Pending::ready(answer(context.version, &request, found.as_ref().map_err(|error| *error)))
    }

    fn error_code(response: &FindCoordinatorResponse) -> i16 {
        let first = response.coordinators.first();
        first.map_or(response.error_code, |coordinator| coordinator.error_code)
    }
}

/// Node, host and port.
type Place = (BrokerId, StrBytes, i32);

/// Where this gateway is for the client's listener; `None` once its session is over.
fn this_gateway(context: &Context) -> Option<Place> {
    let metadata = context.services.groups.metadata();
    metadata.read(|state| {
        let session = state.sessions().get(metadata.session())?;
        let listener = session.listeners.iter().find(|listener| *listener.name == *context.peer.listener)?;
        Some((BrokerId(session.node.0), told(&listener.host), i32::from(listener.port)))
    })
}

fn answer(version: i16, request: &FindCoordinatorRequest, found: Result<&Place, ErrorCode>) -> FindCoordinatorResponse {
    let nobody = (BrokerId(-1), StrBytes::new(), -1);
    let (node, host, port) = found.unwrap_or(&nobody);
    let error = found.err().unwrap_or(ErrorCode::None);
    let message = error.is_error().then(|| StrBytes::from_static_str(error.name()));
    let response = FindCoordinatorResponse::default();
    if version < 4 {
        let placed = response.with_node_id(*node).with_host(host.clone()).with_port(*port);
        return placed.with_error_code(error.code()).with_error_message(message);
    }
    let one = |key: &StrBytes| {
        let placed = Coordinator::default().with_node_id(*node).with_host(host.clone()).with_port(*port);
        placed.with_key(key.clone()).with_error_code(error.code()).with_error_message(message.clone())
    };
    response.with_coordinators(request.coordinator_keys.iter().map(one).collect())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn every_version_is_encoded_with_and_without_an_error() {
        let place: Place = (BrokerId(1), told("localhost"), 9092);
        for version in FindCoordinator::VERSIONS {
            let request = if version < 4 {
                FindCoordinatorRequest::default().with_key(told("g"))
            } else {
                FindCoordinatorRequest::default().with_coordinator_keys(vec![told("g"), told("h")])
            };
            for found in [Ok(&place), Err(ErrorCode::CoordinatorNotAvailable)] {
                let response = answer(version, &request, found);
                response.encode(&mut BytesMut::new(), version).unwrap();
                let expected = found.map_or(ErrorCode::CoordinatorNotAvailable.code(), |_| 0);
                assert_eq!(FindCoordinator::error_code(&response), expected);
                assert_eq!(response.coordinators.len(), if version < 4 { 0 } else { 2 });
            }
        }
    }
}
