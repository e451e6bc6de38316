//! FindCoordinator (10), versions 0-6: which gateway runs a group, or a transaction.
//!
//! - The coordinator of a group is the same for all its members, whatever their zone: see `placement`. A transaction has one
//!   client, which is sent to a gateway of its zone: any gateway can run it.
//! - Version 4 asks for many keys at once (KIP-699).
//! - Share coordinators (key type 2, version 6) are for brokers among themselves: INVALID_REQUEST, as on a Kafka broker
//!   without share groups. So is any other key type.

use std::ops::RangeInclusive;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{ApiKey, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use metadata::state::State;

use crate::api::handler::{Handler, Pending};
use crate::cluster::{Broker, brokers};
use crate::context::Context;
use crate::placement;
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
        Pending::ready(context.services.metadata.read(|state| {
            answer(context.version, &request, |key| {
                match request.key_type {
                    GROUP => Ok(group(context, state, key)),
                    TRANSACTION => Ok(transaction(context, state, key)),
                    _ => Err(ErrorCode::InvalidRequest),
                }
                .and_then(|found| found.ok_or(ErrorCode::CoordinatorNotAvailable))
            })
        }))
    }

    fn error_code(response: &FindCoordinatorResponse) -> i16 {
        let first = response.coordinators.first();
        first.map_or(response.error_code, |coordinator| coordinator.error_code)
    }
}

/// Node, host and port.
type Place = (BrokerId, StrBytes, i32);

fn place(broker: Broker) -> Place {
    (BrokerId(broker.node.0), StrBytes::from_string(broker.host), i32::from(broker.port))
}

/// `None` if nobody lives, or the one who coordinates it cannot be reached by the client's listener.
fn group(context: &Context, state: &State, key: &str) -> Option<Place> {
    let owner = placement::group_owner(state, key)?;
    Broker::of(owner, &context.peer.listener).map(place)
}

fn transaction(context: &Context, state: &State, key: &str) -> Option<Place> {
    let brokers = brokers(context, state);
    let nodes: Vec<_> = brokers.iter().map(|broker| broker.node).collect();
    let node = placement::transaction_coordinator(key, &nodes)?;
    brokers.into_iter().find(|broker| broker.node == node).map(place)
}

fn answer(
    version: i16,
    request: &FindCoordinatorRequest,
    find: impl Fn(&str) -> Result<Place, ErrorCode>,
) -> FindCoordinatorResponse {
    let one = |key: &StrBytes| {
        let found = find(key);
        let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
        let (node, host, port) = found.unwrap_or((BrokerId(-1), StrBytes::new(), -1));
        let message = error.is_error().then(|| StrBytes::from_static_str(error.name()));
        let placed = Coordinator::default().with_node_id(node).with_host(host).with_port(port);
        placed.with_key(key.clone()).with_error_code(error.code()).with_error_message(message)
    };
    if version >= 4 {
        let coordinators = request.coordinator_keys.iter().map(one).collect();
        return FindCoordinatorResponse::default().with_coordinators(coordinators);
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = one(&request.key);
    let placed = FindCoordinatorResponse::default().with_node_id(node_id).with_host(host).with_port(port);
    placed.with_error_code(error_code).with_error_message(error_message)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    use super::*;
    use crate::api::groups::words::told;

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
                let response = answer(version, &request, |_| found.cloned());
                response.encode(&mut BytesMut::new(), version).unwrap();
                let expected = found.map_or(ErrorCode::CoordinatorNotAvailable.code(), |_| 0);
                assert_eq!(FindCoordinator::error_code(&response), expected);
                assert_eq!(response.coordinators.len(), if version < 4 { 0 } else { 2 });
            }
        }
    }
}
