//! Which gateway does what for clients, told from the live sessions alone, so that all gateways agree without asking each other:
//! who is shown as leader of a partition (a hint that keeps its cache warm, nothing more), who coordinates a group.

use metadata::model::ids::{NodeId, SessionId, TopicPartition};
use metadata::rendezvous;
use metadata::state::State;
use metadata::state::sessions::Session;

/// The gateway shown for a partition, of those that the client is shown; `None` without gateways.
pub fn leader(partition: TopicPartition, nodes: &[NodeId]) -> Option<NodeId> {
    rendezvous::of_partition(partition, nodes)
}

/// The one of these gateways that coordinates a transaction; `None` without gateways.
pub fn transaction_coordinator(id: &str, nodes: &[NodeId]) -> Option<NodeId> {
    rendezvous::of_name(id, nodes)
}

/// The gateway that coordinates a group for clients of every zone and listener; `None` without gateways.
pub fn group_owner<'a>(state: &'a State, group: &str) -> Option<&'a Session> {
    rendezvous::owner(state.sessions(), group)
}

/// Whether the gateway of this session coordinates a group, as far as this state knows.
pub fn owns_group(state: &State, session: SessionId, group: &str) -> bool {
    group_owner(state, group).is_some_and(|owner| owner.id == session)
}
