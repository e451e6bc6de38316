//! The cluster as a client of one listener sees it.

use metadata::model::ids::NodeId;
use metadata::state::State;

use crate::context::Context;

/// A live gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its broker id.
    pub node: NodeId,
    /// Where clients of the asking listener reach it.
    pub host: String,
    /// Its port there.
    pub port: u16,
    /// Its zone.
    pub rack: Option<String>,
}

/// Live gateways that have the client's listener, in order of their ids.
pub fn brokers(context: &Context, state: &State) -> Vec<Broker> {
    let mut found: Vec<_> = state
        .sessions()
        .live()
        .filter_map(|session| {
            let listener = session.listeners.iter().find(|l| *l.name == *context.peer.listener)?;
            Some(Broker {
                node: session.node,
                host: listener.host.clone(),
                port: listener.port,
                rack: session.rack.clone(),
            })
        })
        .collect();
    found.sort_by_key(|broker| broker.node);
    found
}

/// The operations an ACL could name on a resource, as Kafka's bit field; without an authorizer all are allowed.
#[derive(Debug, Clone, Copy)]
pub enum Operations {
    /// On the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
    Cluster,
    /// On a topic: READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
    Topic,
    /// On a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
    Group,
}

impl Operations {
    /// The bits if they were asked for, else Kafka's "not asked".
    pub fn bits(self, asked: bool) -> i32 {
        let numbers: &[u32] = match self {
            Self::Cluster => &[5, 7, 8, 9, 10, 11, 12],
            Self::Topic => &[3, 4, 5, 6, 7, 8, 10, 11],
            Self::Group => &[3, 6, 8, 10, 11],
        };
        if asked { numbers.iter().fold(0, |bits, n| bits | 1 << n) } else { i32::MIN }
    }
}
