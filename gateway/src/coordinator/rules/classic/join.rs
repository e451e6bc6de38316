//! JoinGroup: new members, members that come back, static members that take their old place.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    ClassicGroup, Effects, JoinReply, Joined, JoinedMember, Member, Phase, Protocol, answer_sync, protocols_weight,
    refused, weight,
};
use crate::coordinator::error::GroupError;

/// A JoinGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Empty for a member that has no id yet.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance: Option<Arc<str>>,
    /// The client's own name.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// ms; within the allowed range.
    pub session_timeout_ms: i64,
    /// ms.
    pub rebalance_timeout_ms: i64,
    /// "consumer" for consumers.
    pub protocol_type: Arc<str>,
    /// In order of preference.
    pub protocols: Vec<Protocol>,
    /// The client knows MEMBER_ID_REQUIRED (JoinGroup v4, KIP-394).
    pub requires_known_id: bool,
    /// The client knows skip_assignment (JoinGroup v9, KIP-814).
    pub can_skip_assignment: bool,
    /// A text never seen before, to make a member id of.
    pub unique: Arc<str>,
}

impl<J, S> ClassicGroup<J, S> {
    /// A member joins. The answer is among `effects`, now or at a later event.
    pub fn join(&mut self, request: JoinRequest, waiting: J, now_ms: i64, effects: &mut Effects<J, S>) {
        if !self.accepts(&request.member_id) {
            self.remove(&request.member_id, effects);
            effects.joins.push((waiting, Err(refused(GroupError::GroupFull, ""))));
            if self.phase == (Phase::Preparing { initial: false }) {
                self.complete_if_all_joined(now_ms, effects);
            }
            return;
        }
        let answer = if !self.supports(&request.protocol_type, &request.protocols) {
            Err(refused(GroupError::InconsistentProtocol, &request.member_id))
        } else if self.outgrows(&request) {
            Err(refused(GroupError::GroupFull, ""))
        } else if request.member_id.is_empty() {
            return self.join_new(request, waiting, now_ms, effects);
        } else {
            return self.join_known(request, waiting, now_ms, effects);
        };
        effects.joins.push((waiting, answer));
    }

    /// `group.max.size`: while members gather, those already waiting count; else those in the group.
    fn accepts(&self, member_id: &str) -> bool {
        match self.phase {
            Phase::Empty => self.members.len() < self.limits.max_size,
            Phase::Preparing { .. } => {
                let waits = self.members.get(member_id).is_some_and(|member| member.joining.is_some());
                waits || self.joining < self.limits.max_size
            }
            Phase::Completing | Phase::Stable => {
                self.members.contains_key(member_id) || self.members.len() < self.limits.max_size
            }
        }
    }

    fn outgrows(&self, request: &JoinRequest) -> bool {
        let present = self.members.get(&request.member_id).map_or(0, |member| weight(&request.member_id, member));
        let names = request.client_id.len() + request.client_host.len() + 2 * request.unique.len();
        let instance = request.instance.as_ref().map_or(0, |instance| 2 * instance.len());
        self.bytes - present + names + instance + protocols_weight(&request.protocols) > self.limits.max_bytes
    }

    fn join_new(&mut self, request: JoinRequest, waiting: J, now_ms: i64, effects: &mut Effects<J, S>) {
        let stem = request.instance.as_ref().unwrap_or(&request.client_id);
        let new_id: Arc<str> = format!("{stem}-{}", request.unique).into();
        if let Some(instance) = &request.instance {
            if let Some(old_id) = self.instances.get(instance).cloned() {
                return self.take_place(request, &old_id, new_id, waiting, now_ms, effects);
            }
        } else if request.requires_known_id {
            let error = if self.pending.len() >= self.limits.max_pending {
                refused(GroupError::Busy, "")
            } else {
                let lapses_ms = now_ms.saturating_add(request.session_timeout_ms);
                self.deadlines.insert((lapses_ms, new_id.clone()));
                self.pending.insert(new_id.clone(), lapses_ms);
                refused(GroupError::MemberIdRequired, &new_id)
            };
            return effects.joins.push((waiting, Err(error)));
        }
        self.add(request, new_id, waiting, now_ms, effects);
    }

    fn join_known(&mut self, request: JoinRequest, waiting: J, now_ms: i64, effects: &mut Effects<J, S>) {
        let id = request.member_id.clone();
        if request.instance.is_none() && self.pending.contains_key(&id) {
            return self.add(request, id, waiting, now_ms, effects);
        }
        if let Err(error) = self.check_member(&id, request.instance.as_deref()) {
            return effects.joins.push((waiting, Err(refused(error, &id))));
        }
        let unchanged = self.members.get(&id).is_some_and(|member| member.protocols == request.protocols);
        let rebalances = match self.phase {
            Phase::Preparing { .. } => true,
            // The answer to its JoinGroup may have been lost: say it again.
            Phase::Completing => !unchanged,
            // A leader that joins asks for a rebalance: topics may have changed.
            Phase::Stable => self.leads(&id) || !unchanged,
            Phase::Empty => {
                return effects.joins.push((waiting, Err(refused(GroupError::UnknownMember, &id))));
            }
        };
        if rebalances {
            self.update(&id, &request, effects);
            self.await_join(&id, waiting, effects);
            self.prepare_or_complete(now_ms, effects);
        } else {
            let shows_members = self.phase == Phase::Completing && self.leads(&id);
            self.touch(&id, now_ms);
            effects.joins.push((waiting, Ok(self.joined(&id, shows_members))));
        }
    }

    fn add(&mut self, request: JoinRequest, id: Arc<str>, waiting: J, now_ms: i64, effects: &mut Effects<J, S>) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type);
        }
        if self.phase == (Phase::Preparing { initial: true }) {
            self.newcomer = true;
        }
        let member = Member {
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            joining: Some(waiting),
            syncing: None,
            is_new: true,
            deadline_ms: None,
        };
        self.insert(id.clone(), member);
        // It cannot heartbeat before it is answered; if its connection is gone, only this ends its place.
        self.schedule(&id, now_ms.saturating_add(self.limits.new_member_join_timeout_ms));
        self.prepare_or_complete(now_ms, effects);
    }

    /// What a member said anew about itself.
    fn update(&mut self, id: &str, request: &JoinRequest, effects: &mut Effects<J, S>) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.count_support(&member.protocols, -1);
        self.bytes -= weight(id, &member);
        member.protocols.clone_from(&request.protocols);
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        answer_sync(&mut member, effects, Err(GroupError::RebalanceInProgress));
        self.count_support(&member.protocols, 1);
        self.bytes += weight(id, &member);
        self.members.insert(id.into(), member);
    }

    /// The member's JoinGroup waits; one that waited before is let go.
    fn await_join(&mut self, id: &str, waiting: J, effects: &mut Effects<J, S>) {
        let Some(member) = self.members.get_mut(id) else { return };
        match member.joining.replace(waiting) {
            None => self.joining += 1,
            Some(earlier) => effects.joins.push((earlier, Err(refused(GroupError::RebalanceInProgress, id)))),
        }
    }

    /// A static member without an id takes the place of its former self, which is fenced (KIP-345).
    fn take_place(
        &mut self,
        request: JoinRequest,
        old_id: &str,
        new_id: Arc<str>,
        waiting: J,
        now_ms: i64,
        effects: &mut Effects<J, S>,
    ) {
        let led = self.leads(old_id);
        self.rename(old_id, &new_id, effects);
        self.update(&new_id, &request, effects);
        self.touch(&new_id, now_ms);
        match self.phase {
            Phase::Stable if self.protocol == self.select_protocol() => {
                effects.save = true;
                let mut joined = self.joined(&new_id, led && request.can_skip_assignment);
                joined.skip_assignment = led && request.can_skip_assignment;
                if !request.can_skip_assignment && led {
                    // An older client would assign anew if it thought itself the leader.
                    joined.leader = old_id.into();
                }
                effects.joins.push((waiting, Ok(joined)));
            }
            Phase::Stable | Phase::Completing | Phase::Preparing { .. } | Phase::Empty => {
                self.await_join(&new_id, waiting, effects);
                self.prepare_or_complete(now_ms, effects);
            }
        }
    }

    /// The member goes on under another id; whatever waits under the old one is told that it is fenced.
    fn rename(&mut self, old_id: &str, new_id: &Arc<str>, effects: &mut Effects<J, S>) {
        let Some(mut member) = self.members.remove(old_id) else { return };
        self.answer_join(&mut member, effects, Err(refused(GroupError::FencedInstance, old_id)));
        answer_sync(&mut member, effects, Err(GroupError::FencedInstance));
        if let Some(deadline) = member.deadline_ms.take() {
            self.deadlines.remove(&(deadline, old_id.into()));
        }
        if let Some(instance) = &member.instance {
            self.instances.insert(instance.clone(), new_id.clone());
        }
        if self.leads(old_id) {
            self.leader = Some(new_id.clone());
        }
        if self.unsynced.remove(old_id) {
            self.unsynced.insert(new_id.clone());
        }
        self.bytes = self.bytes - old_id.len() + new_id.len();
        member.is_new = false;
        self.members.insert(new_id.clone(), member);
    }

    /// The answer to a member of the present generation.
    pub(super) fn joined(&self, id: &Arc<str>, shows_members: bool) -> Joined {
        let shown = |(member_id, member): (&Arc<str>, &Member<J, S>)| JoinedMember {
            member_id: member_id.clone(),
            instance: member.instance.clone(),
            metadata: self.metadata_of(member),
        };
        Joined {
            member_id: id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            members: if shows_members { self.members.iter().map(shown).collect() } else { Vec::new() },
            skip_assignment: false,
        }
    }

    /// A member's subscription for the chosen assignor.
    pub fn metadata_of(&self, member: &Member<J, S>) -> Bytes {
        let chosen = member.protocols.iter().find(|protocol| Some(&protocol.name) == self.protocol.as_ref());
        chosen.map(|protocol| protocol.metadata.clone()).unwrap_or_default()
    }

    /// Answers everyone who waits in JoinGroup with the new generation.
    pub(super) fn answer_joins(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let reply: JoinReply = Ok(self.joined(&id, self.leads(&id)));
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            if let Some(waiting) = member.joining.take() {
                self.joining -= 1;
                effects.joins.push((waiting, reply));
            }
            self.touch(&id, now_ms);
        }
    }
}
