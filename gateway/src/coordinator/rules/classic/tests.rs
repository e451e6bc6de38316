//! The classic rules, scenario by scenario; `random` throws dice.

mod random;
mod scenarios;

use std::collections::BTreeSet;

use super::join::JoinRequest;
use super::leave::Leaver;
use super::stable::{Caller, SyncRequest};
use super::*;

/// Waiting requests are numbered in the tests.
type Group = ClassicGroup<u32, u32>;

const LIMITS: Limits = Limits {
    initial_rebalance_delay_ms: 3_000,
    max_size: 100,
    max_pending: 50,
    max_bytes: 1 << 20,
    new_member_join_timeout_ms: 300_000,
};
const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 60_000;

/// A group with a clock, and everything it ever answered.
struct Table {
    group: Group,
    now_ms: i64,
    next: u32,
    joins: Vec<(u32, JoinReply)>,
    syncs: Vec<(u32, SyncReply)>,
    saves: usize,
}

impl Table {
    fn new(limits: Limits) -> Self {
        Self { group: Group::new(limits), now_ms: 1_000, next: 0, joins: Vec::new(), syncs: Vec::new(), saves: 0 }
    }

    fn take(&mut self, effects: Effects<u32, u32>) {
        self.joins.extend(effects.joins);
        self.syncs.extend(effects.syncs);
        self.saves += usize::from(effects.save);
        check(&self.group);
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn join(&mut self, request: JoinRequest) -> u32 {
        let (number, mut effects) = (self.number(), Effects::default());
        self.group.join(request, number, self.now_ms, &mut effects);
        self.take(effects);
        number
    }

    fn sync(&mut self, request: SyncRequest) -> u32 {
        let (number, mut effects) = (self.number(), Effects::default());
        self.group.sync(request, number, self.now_ms, &mut effects);
        self.take(effects);
        number
    }

    fn leave(&mut self, leavers: &[Leaver]) -> Vec<Result<(), GroupError>> {
        let mut effects = Effects::default();
        let answers = self.group.leave(leavers, self.now_ms, &mut effects);
        self.take(effects);
        answers
    }

    /// Lets time pass, waking the group when it asked for it.
    fn pass(&mut self, ms: i64) {
        let end = self.now_ms + ms;
        for _ in 0..10_000 {
            let due = self.group.next_deadline_ms().filter(|at_ms| *at_ms <= end);
            self.now_ms = due.map_or(end, |at_ms| at_ms.max(self.now_ms));
            let mut effects = Effects::default();
            self.group.tick(self.now_ms, &mut effects);
            self.take(effects);
            if due.is_none() {
                return;
            }
        }
        panic!("the group never comes to rest");
    }

    fn joined(&self, number: u32) -> &JoinReply {
        self.find_join(number).unwrap_or_else(|| panic!("join {number} has no answer"))
    }

    fn find_join(&self, number: u32) -> Option<&JoinReply> {
        let mut answers = self.joins.iter().filter(|(n, _)| *n == number);
        let first = answers.next().map(|(_, reply)| reply);
        assert!(answers.next().is_none(), "join {number} was answered twice");
        first
    }

    fn synced(&self, number: u32) -> Option<&SyncReply> {
        let mut answers = self.syncs.iter().filter(|(n, _)| *n == number);
        let first = answers.next().map(|(_, reply)| reply);
        assert!(answers.next().is_none(), "sync {number} was answered twice");
        first
    }

    /// A dynamic member joins as today's clients do: once for an id, once with it.
    fn join_twice(&mut self, client: &str) -> (Arc<str>, u32) {
        let first = self.join(dynamic(client, ""));
        let refused = self.joined(first).clone().unwrap_err();
        assert_eq!(refused.error, GroupError::MemberIdRequired);
        let number = self.join(dynamic(client, &refused.member_id));
        (refused.member_id, number)
    }

    /// Everyone syncs, the leader (first) giving each its own name as assignment.
    fn sync_all(&mut self, ids: &[&Arc<str>]) {
        let generation = self.group.generation();
        let leader = self.group.leader.clone().unwrap();
        for id in ids.iter().filter(|id| ***id != leader) {
            self.sync(sync(id, generation, &[]));
        }
        let assignments: Vec<&str> = ids.iter().map(|id| &***id).collect();
        self.sync(sync(&leader, generation, &assignments));
        assert_eq!(self.group.phase(), Phase::Stable);
    }

    /// A stable group of these clients.
    fn stable(clients: &[&str]) -> (Self, Vec<Arc<str>>) {
        let mut table = Self::new(LIMITS);
        let ids: Vec<_> = clients.iter().map(|client| table.join_twice(client).0).collect();
        table.pass(3_000 + LIMITS.initial_rebalance_delay_ms * clients.len() as i64);
        table.sync_all(&ids.iter().collect::<Vec<_>>());
        (table, ids)
    }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names
        .iter()
        .map(|name| Protocol { name: (*name).into(), metadata: Bytes::copy_from_slice(name.as_bytes()) })
        .collect()
}

fn dynamic(client: &str, member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        instance: None,
        client_id: client.into(),
        client_host: "/h".into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
        protocols: protocols(&["range", "sticky"]),
        requires_known_id: true,
        can_skip_assignment: true,
        unique: format!("u{client}").into(),
    }
}

fn fixed(instance: &str, member_id: &str, life: u32) -> JoinRequest {
    let unique = format!("life{life}").as_str().into();
    JoinRequest { instance: Some(instance.into()), unique, ..dynamic("c", member_id) }
}

fn sync(id: &str, generation: i32, assigned: &[&str]) -> SyncRequest {
    let give = |id: &&str| (Arc::from(*id), Bytes::copy_from_slice(id.as_bytes()));
    SyncRequest {
        member_id: id.into(),
        instance: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: assigned.iter().map(give).collect(),
    }
}

fn caller(id: &str, generation: i32) -> Caller {
    Caller { member_id: id.into(), instance: None, generation }
}

fn leaver(id: &str) -> Leaver {
    Leaver { member_id: id.into(), instance: None }
}

/// What must hold after every event.
fn check(group: &Group) {
    let waiting = group.members.values().filter(|member| member.joining.is_some()).count();
    assert_eq!(waiting, group.joining, "the count of waiting joins");
    let bytes: usize = group.members.iter().map(|(id, member)| weight(id, member)).sum();
    assert_eq!(bytes, group.bytes, "the count of bytes");
    let mut support: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for member in group.members.values() {
        for name in member.protocols.iter().map(|protocol| &protocol.name).collect::<BTreeSet<_>>() {
            *support.entry(name.clone()).or_default() += 1;
        }
    }
    assert_eq!(support, group.support, "the count of protocols");
    let statics = group.members.iter().filter_map(|(id, member)| Some((member.instance.clone()?, id.clone())));
    assert_eq!(statics.collect::<BTreeMap<_, _>>(), group.instances, "static members");
    let sessions = group.members.iter().filter_map(|(id, member)| Some((member.deadline_ms?, id.clone())));
    let ids = group.pending.iter().map(|(id, at_ms)| (*at_ms, id.clone()));
    assert_eq!(sessions.chain(ids).collect::<BTreeSet<_>>(), group.deadlines, "deadlines");
    assert!(group.pending.keys().all(|id| !group.members.contains_key(id)), "pending and a member");
    assert!(group.pending.len() <= group.limits.max_pending && group.members.len() <= group.limits.max_size);
    assert!(group.bytes <= group.limits.max_bytes);
    for (id, member) in &group.members {
        let waits = member.joining.is_some() || member.syncing.is_some();
        assert!(waits || member.deadline_ms.is_some(), "{id} would live for ever");
    }
    assert_eq!(group.leader.is_some(), !group.members.is_empty(), "a leader");
    assert!(group.leader.as_ref().is_none_or(|leader| group.members.contains_key(leader)));
    check_phase(group);
}

fn check_phase(group: &Group) {
    assert!(group.unsynced.iter().all(|id| group.members.contains_key(id)));
    assert_eq!(group.sync_deadline_ms.is_some(), !group.unsynced.is_empty(), "C9: a wait for syncs has an end");
    let preparing = matches!(group.phase, Phase::Preparing { .. });
    assert_eq!(group.join_timer.is_some(), preparing, "C9: a wait for joins has an end");
    assert_eq!(group.joining > 0, preparing && group.joining > 0, "joins wait only while members gather");
    let syncing = group.members.values().any(|member| member.syncing.is_some());
    match group.phase {
        Phase::Empty => assert!(group.members.is_empty()),
        Phase::Completing => {
            let leader = group.leader.as_ref().and_then(|leader| group.members.get(leader)).unwrap();
            assert!(leader.syncing.is_none(), "the leader's sync ends the wait");
        }
        Phase::Preparing { .. } | Phase::Stable => assert!(!syncing, "a sync waits only for the leader's"),
    }
    if matches!(group.phase, Phase::Completing | Phase::Stable) {
        assert!(!group.members.is_empty() && group.protocol.is_some());
    }
}
