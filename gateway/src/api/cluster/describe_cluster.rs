//! DescribeCluster (60), versions 0-2: the live gateways, for admin clients.
//!
//! `endpoint_type` 2 (controllers) is answered with UNSUPPORTED_ENDPOINT_TYPE: there is no controller listener.
//!
//! Source: Kafka's `KafkaApis.handleDescribeCluster`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{ApiKey, BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::metadata::controller;
use crate::api::handler::{Handler, Pending};
use crate::cluster::{Operations, brokers};
use crate::context::Context;
use crate::wire::error_code::ErrorCode;

/// Endpoints of brokers, as Kafka's `EndpointType` numbers them.
const BROKERS: i8 = 1;

/// The handler.
pub struct DescribeCluster;

impl Handler for DescribeCluster {
    const KEY: ApiKey = ApiKey::DescribeCluster;
    const VERSIONS: RangeInclusive<i16> = 0..=2;
    type Request = DescribeClusterRequest;
    type Response = DescribeClusterResponse;

    async fn begin(context: &Context, request: DescribeClusterRequest) -> Pending<DescribeClusterResponse> {
        if context.version >= 1 && request.endpoint_type != BROKERS {
            let refused = DescribeClusterResponse::default()
                .with_error_code(ErrorCode::UnsupportedEndpointType.code())
                .with_endpoint_type(request.endpoint_type);
            return Pending::ready(refused);
        }
        Pending::ready(context.services.metadata.read(|state| {
            let brokers = brokers(context, state);
            let nodes: Vec<_> = brokers.iter().map(|broker| broker.node).collect();
            let described = brokers.into_iter().map(|broker| {
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(broker.node.0))
                    .with_host(StrBytes::from_string(broker.host))
                    .with_port(i32::from(broker.port))
                    .with_rack(broker.rack.map(StrBytes::from_string))
            });
            DescribeClusterResponse::default()
                .with_endpoint_type(BROKERS)
                .with_cluster_id(StrBytes::from_string(state.cluster_id().to_owned()))
                .with_controller_id(BrokerId(controller(&nodes)))
                .with_brokers(described.collect())
                .with_cluster_authorized_operations(
                    Operations::Cluster.bits(request.include_cluster_authorized_operations),
                )
        }))
    }

    fn error_code(response: &DescribeClusterResponse) -> i16 {
        response.error_code
    }
}
