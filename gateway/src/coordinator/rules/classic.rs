//! The classic group protocol (Kafka's `ClassicGroup` and the classic half of `GroupMetadataManager`), pure.
//!
//! A [`ClassicGroup`] takes requests and the time and says what follows: answers for members that wait ([`Effects`]), whether
//! the group must be saved *before* those answers leave, and when it wants to be woken. Waiting members are held as opaque
//! tokens `J` (JoinGroup) and `S` (SyncGroup).
//!
//! States, with Kafka's names:
//!
//! ```text
//! Empty --join--> PreparingRebalance --all joined, or time is up--> CompletingRebalance --leader's sync--> Stable
//!   ^                 |    ^                                              |                                 |
//!   +---nobody left---+    +------------- join, leave, expiry ------------+---------------------------------+
//! ```
//!
//! Kafka's fifth state, Dead, is a group that no longer exists here.
//!
//! One thing differs from Kafka on purpose: a new generation is saved before its members learn of it, not only with the
//! leader's assignment, so that no generation is ever given out twice (invariant C2).

pub mod join;
pub mod leave;
mod protocols;
mod rebalance;
pub mod stable;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::coordinator::error::GroupError;

/// The protocol type of consumers, as against Connect's workers and others.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// What bounds a group; from the options and the house's caps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Wait of the first rebalance of an empty group, ms.
    pub initial_rebalance_delay_ms: i64,
    /// Most members.
    pub max_size: usize,
    /// Most member ids handed out and not used yet.
    pub max_pending: usize,
    /// Most bytes of members' names and subscriptions.
    pub max_bytes: usize,
    /// Longest wait of a new member in its first JoinGroup, ms.
    pub new_member_join_timeout_ms: i64,
}

/// Where a group is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// Waiting for members to join.
    Preparing {
        /// The group was empty before; it waits for more members even if all known ones have joined.
        initial: bool,
    },
    /// Members know the generation; waiting for the leader's assignment.
    Completing,
    /// Every member may have its assignment.
    Stable,
}

impl Phase {
    /// Kafka's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing { .. } => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One assignor a member knows, with its subscription in that assignor's own format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The assignor's name.
    pub name: Arc<str>,
    /// Opaque here.
    pub metadata: Bytes,
}

/// One member.
#[derive(Debug)]
pub struct Member<J, S> {
    /// `group.instance.id` of a static member (KIP-345).
    pub instance: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// Silent for longer, it is dropped, ms.
    pub session_timeout_ms: i64,
    /// How long a rebalance waits for it, ms.
    pub rebalance_timeout_ms: i64,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    /// What the leader gave it in this generation; empty if nothing.
    pub assignment: Bytes,
    joining: Option<J>,
    syncing: Option<S>,
    is_new: bool,
    deadline_ms: Option<i64>,
}

/// What a wait for joins ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinTimer {
    /// The first rebalance of an empty group: extended while members keep coming.
    Initial { at_ms: i64, delay_ms: i64, remaining_ms: i64 },
    /// The rebalance timeout.
    Rebalance { at_ms: i64 },
}

impl JoinTimer {
    fn at_ms(self) -> i64 {
        match self {
            Self::Initial { at_ms, .. } | Self::Rebalance { at_ms } => at_ms,
        }
    }
}

/// A JoinGroup that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The member.
    pub member_id: Arc<str>,
    /// The generation it is part of.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen assignor.
    pub protocol: Option<Arc<str>>,
    /// Who assigns.
    pub leader: Arc<str>,
    /// For the leader: everyone's subscription. For others: empty.
    pub members: Vec<JoinedMember>,
    /// KIP-814: the leader came back to a stable group and need not assign.
    pub skip_assignment: bool,
}

/// One member as the leader is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// Its subscription for the chosen assignor.
    pub metadata: Bytes,
}

/// A JoinGroup that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// The id to answer with: the one to use next time (KIP-394), the member's own, or empty.
    pub member_id: Arc<str>,
}

/// Answer to a JoinGroup.
pub type JoinReply = Result<Joined, JoinRefused>;

/// A SyncGroup that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen assignor.
    pub protocol: Option<Arc<str>>,
    /// What the leader gave this member; may be empty.
    pub assignment: Bytes,
}

/// Answer to a SyncGroup.
pub type SyncReply = Result<Synced, GroupError>;

/// What follows from an event.
#[derive(Debug)]
pub struct Effects<J, S> {
    /// Answers to JoinGroups that waited.
    pub joins: Vec<(J, JoinReply)>,
    /// Answers to SyncGroups that waited.
    pub syncs: Vec<(S, SyncReply)>,
    /// The group must be saved, and the save applied, before any answer of this event leaves.
    pub save: bool,
}

impl<J, S> Default for Effects<J, S> {
    fn default() -> Self {
        Self { joins: Vec::new(), syncs: Vec::new(), save: false }
    }
}

/// One group under the classic protocol.
#[derive(Debug)]
pub struct ClassicGroup<J, S> {
    limits: Limits,
    phase: Phase,
    generation: i32,
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member<J, S>>,
    /// Static members: instance id to member id.
    instances: BTreeMap<Arc<str>, Arc<str>>,
    /// Ids handed out and not used yet, with the time they lapse, ms.
    pending: BTreeMap<Arc<str>, i64>,
    /// How many members know each protocol.
    support: BTreeMap<Arc<str>, usize>,
    /// Members whose JoinGroup waits.
    joining: usize,
    /// Members of this generation that have not sent SyncGroup yet.
    unsynced: BTreeSet<Arc<str>>,
    /// When sessions of members and pending ids lapse, ms.
    deadlines: BTreeSet<(i64, Arc<str>)>,
    join_timer: Option<JoinTimer>,
    sync_deadline_ms: Option<i64>,
    /// A member came during the initial delay, which is then extended.
    newcomer: bool,
    /// Bytes of members' names and subscriptions.
    bytes: usize,
}

/// A member as it is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// See [`Member::session_timeout_ms`].
    pub session_timeout_ms: i64,
    /// See [`Member::rebalance_timeout_ms`].
    pub rebalance_timeout_ms: i64,
    /// See [`Member::protocols`].
    pub protocols: Vec<Protocol>,
    /// See [`Member::assignment`].
    pub assignment: Bytes,
}

/// A group as it is saved and restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The chosen assignor.
    pub protocol: Option<Arc<str>>,
    /// Who assigns.
    pub leader: Option<Arc<str>>,
    /// Whether the leader's assignment is in.
    pub is_stable: bool,
    /// The members.
    pub members: Vec<RestoredMember>,
}

impl<J, S> ClassicGroup<J, S> {
    /// A group that never had a member.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending: BTreeMap::new(),
            support: BTreeMap::new(),
            joining: 0,
            unsynced: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            join_timer: None,
            sync_deadline_ms: None,
            newcomer: false,
            bytes: 0,
        }
    }

    /// The group as it was saved; sessions start anew, as after a coordinator failover in Kafka.
    pub fn restore(limits: Limits, saved: Restored, now_ms: i64) -> Self {
        let mut group = Self::new(limits);
        group.generation = saved.generation;
        for member in saved.members {
            let session_timeout_ms = member.session_timeout_ms;
            let id = member.member_id;
            let restored = Member {
                instance: member.instance,
                client_id: member.client_id,
                client_host: member.client_host,
                session_timeout_ms,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                protocols: member.protocols,
                assignment: member.assignment,
                joining: None,
                syncing: None,
                is_new: false,
                deadline_ms: None,
            };
            group.insert(id.clone(), restored);
            group.schedule(&id, now_ms.saturating_add(session_timeout_ms));
        }
        group.protocol_type = saved.protocol_type;
        group.protocol = saved.protocol;
        group.leader = saved.leader.filter(|leader| group.members.contains_key(leader));
        if group.leader.is_none() {
            group.leader = group.members.keys().next().cloned();
        }
        group.phase = match (group.members.is_empty(), saved.is_stable) {
            (true, _) => Phase::Empty,
            (false, true) => Phase::Stable,
            (false, false) => Phase::Completing,
        };
        if group.phase == Phase::Completing {
            group.await_syncs(now_ms);
        }
        group
    }

    /// What must survive. Members that wait in a rebalance are saved as the generation they will be part of.
    pub fn to_restore(&self) -> Restored {
        let member = |(id, member): (&Arc<str>, &Member<J, S>)| RestoredMember {
            member_id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: member.session_timeout_ms,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        };
        Restored {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            is_stable: self.phase == Phase::Stable,
            members: self.members.iter().map(member).collect(),
        }
    }

    /// Everyone who waits, when the group is given up here.
    pub fn into_waiting(self) -> (Vec<J>, Vec<S>) {
        let (mut joins, mut syncs) = (Vec::new(), Vec::new());
        for member in self.members.into_values() {
            joins.extend(member.joining);
            syncs.extend(member.syncing);
        }
        (joins, syncs)
    }

    /// Where the group is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The present generation; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The protocol type the first member brought, if there ever was one.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The chosen assignor, once there is one.
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// The members by id.
    pub fn members(&self) -> &BTreeMap<Arc<str>, Member<J, S>> {
        &self.members
    }

    /// Whether nothing is lost by forgetting the group here: no member, nobody who was given an id.
    pub fn is_vacant(&self) -> bool {
        self.members.is_empty() && self.pending.is_empty() && self.phase == Phase::Empty
    }

    fn leads(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    fn all_joined(&self) -> bool {
        self.members.len() == self.joining && self.pending.is_empty()
    }

    /// The longest any member wants a rebalance to wait, ms.
    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0)
    }

    /// That `member_id` is a member, and the one of that instance.
    fn check_member(&self, member_id: &str, instance: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(known) if &**known != member_id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    /// Adds a member that is not there yet.
    fn insert(&mut self, id: Arc<str>, member: Member<J, S>) {
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        self.count_support(&member.protocols, 1);
        self.bytes += weight(&id, &member);
        self.joining += usize::from(member.joining.is_some());
        self.drop_pending(&id);
        self.members.insert(id, member);
    }

    /// Takes a member out; whatever it still waits for is answered UNKNOWN_MEMBER_ID.
    fn remove(&mut self, id: &str, effects: &mut Effects<J, S>) {
        self.drop_pending(id);
        self.unsynced.remove(id);
        let Some(mut member) = self.members.remove(id) else { return };
        self.answer_join(&mut member, effects, Err(refused(GroupError::UnknownMember, "")));
        answer_sync(&mut member, effects, Err(GroupError::UnknownMember));
        self.count_support(&member.protocols, -1);
        self.bytes -= weight(id, &member);
        if let Some(deadline) = member.deadline_ms {
            self.deadlines.remove(&(deadline, id.into()));
        }
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leads(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn drop_pending(&mut self, id: &str) {
        if let Some((id, deadline)) = self.pending.remove_entry(id) {
            self.deadlines.remove(&(deadline, id));
        }
    }

    /// Sets when a member's session lapses.
    fn schedule(&mut self, id: &str, deadline_ms: i64) {
        let Some((id, _)) = self.members.get_key_value(id) else { return };
        let id = id.clone();
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Some(old) = member.deadline_ms.replace(deadline_ms) {
            self.deadlines.remove(&(old, id.clone()));
        }
        self.deadlines.insert((deadline_ms, id));
    }

    /// The member was heard of: its session starts anew.
    fn touch(&mut self, id: &str, now_ms: i64) {
        if let Some(member) = self.members.get(id) {
            let deadline = now_ms.saturating_add(member.session_timeout_ms);
            self.schedule(id, deadline);
        }
    }

    fn answer_join(&mut self, member: &mut Member<J, S>, effects: &mut Effects<J, S>, reply: JoinReply) {
        if let Some(waiting) = member.joining.take() {
            self.joining -= 1;
            effects.joins.push((waiting, reply));
        }
    }
}

fn answer_sync<J, S>(member: &mut Member<J, S>, effects: &mut Effects<J, S>, reply: SyncReply) {
    if let Some(waiting) = member.syncing.take() {
        effects.syncs.push((waiting, reply));
    }
}

fn refused(error: GroupError, member_id: &str) -> JoinRefused {
    JoinRefused { error, member_id: member_id.into() }
}

/// Bytes a member takes in memory and in the saved group, assignment aside.
fn weight<J, S>(id: &str, member: &Member<J, S>) -> usize {
    let names = id.len() + member.client_id.len() + member.client_host.len();
    names + member.instance.as_ref().map_or(0, |instance| instance.len()) + protocols_weight(&member.protocols)
}

fn protocols_weight(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}
