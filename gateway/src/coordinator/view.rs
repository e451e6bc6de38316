//! Groups as administrators see them.

use std::sync::Arc;

use bytes::Bytes;

use super::rules::classic::{ClassicGroup, Phase};

/// Kafka's name of the state of a group that does not exist.
pub const DEAD: &str = "Dead";

/// How an active group stands.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// `None` while it is being read, or if there is no such group after all.
    pub phase: Option<Phase>,
    /// "consumer" for consumers.
    pub protocol_type: Option<Arc<str>>,
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: Arc<str>,
    /// "consumer" for consumers; empty for a plain store of offsets.
    pub protocol_type: Arc<str>,
    /// Kafka's name of its state.
    pub state: &'static str,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// "consumer" for consumers; empty for a plain store of offsets.
    pub protocol_type: Arc<str>,
    /// The assignor; empty unless the group is stable.
    pub protocol: Arc<str>,
    /// The members, by id.
    pub members: Vec<MemberView>,
}

/// A member in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// The member.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// Its subscription for the chosen assignor; empty unless the group is stable.
    pub metadata: Bytes,
    /// What it was given; empty unless the group is stable.
    pub assignment: Bytes,
}

impl GroupView {
    /// The group as it is now. Subscriptions and assignments are shown of a stable group only, as Kafka does.
    pub fn of<J, S>(group: &ClassicGroup<J, S>) -> Self {
        let stable = group.phase() == Phase::Stable;
        let text = |text: Option<&Arc<str>>| text.cloned().unwrap_or_else(|| "".into());
        let members = group.members().iter().map(|(id, member)| MemberView {
            member_id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { group.metadata_of(member) } else { Bytes::new() },
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        });
        Self {
            state: group.phase().name(),
            protocol_type: text(group.protocol_type()),
            protocol: text(group.protocol().filter(|_| stable)),
            members: members.collect(),
        }
    }
}
