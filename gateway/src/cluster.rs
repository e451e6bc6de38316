//! The cluster as a client sees it: by the listener it came in by, and by its zone.
//!
//! A client that says its zone (`zone`) is shown the gateways of its zone only, as long as one lives; else all. Only the
//! coordinator of a group may be elsewhere: it is one for members of all zones, and no records go through it.

use metadata::model::ids::{NodeId, TopicPartition};
use metadata::rendezvous::unless_none;
use metadata::state::State;
use metadata::state::sessions::{Session, Sessions};

use crate::context::Context;
use crate::placement;
use crate::zone;

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

impl Broker {
    /// A gateway as clients of this listener find it; `None` if it has no such listener.
    pub fn of(session: &Session, listener: &str) -> Option<Self> {
        let found = session.listeners.iter().find(|l| l.name == listener)?;
        let (host, port) = (found.host.clone(), found.port);
        Some(Self { node: session.node, host, port, rack: session.rack.clone() })
    }
}

/// The gateways that the client is shown, in order of their ids.
pub fn brokers(context: &Context, state: &State) -> Vec<Broker> {
    shown(state.sessions(), &context.peer.listener, zone::of_client_id(&context.client_id))
}

/// The gateways shown to a client of this listener and zone, in order of their ids: those that stay before those that are
/// about to leave, and among them those of its zone before others.
pub fn shown(sessions: &Sessions, listener: &str, zone: Option<&str>) -> Vec<Broker> {
    let reached = sessions.live().filter(|session| session.listeners.iter().any(|l| l.name == listener)).collect();
    let mut shown = unless_none(reached, |session| !session.leaving);
    if let Some(zone) = zone {
        shown = unless_none(shown, |session| session.rack.as_deref() == Some(zone));
    }
    let mut brokers: Vec<_> = shown.into_iter().filter_map(|session| Broker::of(session, listener)).collect();
    brokers.sort_by_key(|broker| broker.node);
    brokers
}

/// Where a client that says its rack when it fetches (`client.rack`, KIP-392) should read a partition: at a gateway of that
/// rack. `None` if it is at one already, if none lives there, or if it said its zone in its name and was sent here for that.
pub struct Nearer(Vec<NodeId>);

impl Nearer {
    /// Looks for gateways of the rack.
    pub fn than_this(context: &Context, state: &State, rack: &str) -> Option<Self> {
        if rack.is_empty() || zone::of_client_id(&context.client_id).is_some() {
            return None;
        }
        let own = state.sessions().get(context.services.metadata.session())?;
        let brokers = shown(state.sessions(), &context.peer.listener, Some(rack));
        Self::among(&brokers, own.node, rack)
    }

    fn among(brokers: &[Broker], own: NodeId, rack: &str) -> Option<Self> {
        let there = brokers.iter().filter(|broker| broker.rack.as_deref() == Some(rack));
        let nodes: Vec<_> = there.map(|broker| broker.node).collect();
        (!nodes.is_empty() && !nodes.contains(&own)).then_some(Self(nodes))
    }

    /// The gateway to read this partition at.
    pub fn node(&self, partition: TopicPartition) -> Option<NodeId> {
        placement::leader(partition, &self.0)
    }
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

#[cfg(test)]
mod tests {
    use metadata::command::{AdvertisedListener, Command, Entry, OpenSession};
    use metadata::model::ids::{Lsn, SessionId};
    use metadata::state::FEATURE_LEVEL;
    use proptest::prelude::*;

    use super::*;

    /// A gateway, made by hand.
    #[derive(Debug, Clone)]
    struct Made {
        node: i32,
        rack: Option<&'static str>,
        outside: bool,
        leaving: bool,
    }

    fn cluster(made: &[Made]) -> State {
        let mut state = State::default();
        let listener = |name: &str, node: i32| AdvertisedListener {
            name: name.into(),
            host: format!("{name}-{node}"),
            port: 9092,
        };
        for (at, gateway) in made.iter().enumerate() {
            let mut listeners = vec![listener("IN", gateway.node)];
            listeners.extend(gateway.outside.then(|| listener("OUT", gateway.node)));
            let open = Command::OpenSession(OpenSession {
                node: NodeId(gateway.node),
                listeners,
                rack: gateway.rack.map(str::to_owned),
                feature_level: FEATURE_LEVEL,
                cluster_id: "c".into(),
                fence_others: false,
            });
            let mut commands = vec![open];
            commands.extend(gateway.leaving.then_some(Command::LeaveSoon));
            let session = SessionId(1000 - at as u64);
            let entry = Entry { session, sequence: 1, time_ms: 0, commands, follows: None };
            assert!(state.apply(Lsn(at as u64 + 1), &entry).sessions);
        }
        state
    }

    fn gateway(node: i32, rack: Option<&'static str>) -> Made {
        Made { node, rack, outside: true, leaving: false }
    }

    fn nodes(state: &State, listener: &str, zone: Option<&str>) -> Vec<i32> {
        shown(state.sessions(), listener, zone).iter().map(|broker| broker.node.0).collect()
    }

    #[test]
    fn a_client_is_told_the_addresses_of_its_own_listener() {
        let mut three = [gateway(3, None), gateway(1, None), gateway(2, None)];
        three[0].outside = false;
        let state = cluster(&three);
        assert_eq!(nodes(&state, "IN", None), [1, 2, 3]);
        assert_eq!(nodes(&state, "OUT", None), [1, 2], "the third has no such listener");
        assert_eq!(shown(state.sessions(), "OUT", None)[0].host, "OUT-1");
        assert_eq!(nodes(&state, "ELSE", None), [0; 0]);
    }

    #[test]
    fn a_zoned_client_is_sent_to_its_zone_while_one_lives_there() {
        let mut made = [gateway(1, Some("a")), gateway(2, Some("b")), gateway(3, Some("b")), gateway(4, None)];
        assert_eq!(nodes(&cluster(&made), "IN", Some("b")), [2, 3]);
        made[1].leaving = true;
        assert_eq!(nodes(&cluster(&made), "IN", Some("b")), [3]);
        made[2].leaving = true;
        assert_eq!(nodes(&cluster(&made), "IN", Some("b")), [1, 4], "one that stays is better than one near by");
        assert_eq!(nodes(&cluster(&made), "IN", None), [1, 4]);
        assert_eq!(nodes(&cluster(&made[1..3]), "IN", None), [2, 3], "all are about to leave");
    }

    #[test]
    fn a_reader_is_sent_to_its_rack_unless_it_is_there() {
        let state = cluster(&[gateway(1, Some("a")), gateway(2, Some("b")), gateway(3, Some("b"))]);
        let nearer = |own, rack: &str| {
            let brokers = shown(state.sessions(), "IN", Some(rack));
            Nearer::among(&brokers, NodeId(own), rack).map(|nearer| nearer.0)
        };
        assert_eq!(nearer(1, "b"), Some(vec![NodeId(2), NodeId(3)]));
        assert_eq!(nearer(2, "b"), None, "it is there");
        assert_eq!(nearer(1, "c"), None, "nobody is there");
    }

    proptest! {
        /// Whatever the gateways: some are shown if any has the listener; none that leaves beside one that stays; none of
        /// another zone beside one of the client's that stays.
        #[test]
        fn who_is_shown_is_right(
            made in proptest::collection::vec(
                (prop::option::of(prop::sample::select(vec!["a", "b"])), any::<bool>(), any::<bool>()), 0..9),
            zone in prop::option::of(prop::sample::select(vec!["a", "b", "c"])),
        ) {
            let made = (1..).zip(made).map(|(node, (rack, outside, leaving))| Made { node, rack, outside, leaving });
            let made: Vec<_> = made.collect();
            let found = nodes(&cluster(&made), "OUT", zone);
            let reached: Vec<_> = made.iter().filter(|g| g.outside).collect();
            let shown: Vec<_> = reached.iter().filter(|g| found.contains(&g.node)).collect();
            prop_assert_eq!(shown.len(), found.len());
            prop_assert_eq!(found.is_empty(), reached.is_empty());
            let stays = reached.iter().any(|g| !g.leaving);
            prop_assert!(!stays || shown.iter().all(|g| !g.leaving));
            let near = reached.iter().any(|g| g.leaving != stays && zone.is_some() && g.rack == zone);
            prop_assert!(!near || shown.iter().all(|g| g.rack == zone));
        }
    }
}
