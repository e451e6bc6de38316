//! ListPartitionReassignments (46), version 0: partitions on their way to other replicas (KIP-455).
//!
//! Never one: a partition has no replicas to move, its records lie in the bucket. As Kafka answers, partitions that are not on their way,
//! and such as are not there, are left out. Consoles ask this and show an error where it is refused.
//!
//! Source: Kafka's `ReplicationControlManager.listPartitionReassignments`.

use std::ops::RangeInclusive;

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsRequest;
use kafka_protocol::messages::list_partition_reassignments_response::ListPartitionReassignmentsResponse;

use crate::api::handler::{Handler, Pending};
use crate::context::Context;

/// The handler.
pub struct ListPartitionReassignments;

impl Handler for ListPartitionReassignments {
    const KEY: ApiKey = ApiKey::ListPartitionReassignments;
    const VERSIONS: RangeInclusive<i16> = 0..=0;
    type Request = ListPartitionReassignmentsRequest;
    type Response = ListPartitionReassignmentsResponse;

    async fn begin(
        _context: &Context,
        _request: ListPartitionReassignmentsRequest,
    ) -> Pending<ListPartitionReassignmentsResponse> {
        Pending::ready(ListPartitionReassignmentsResponse::default())
    }
}
