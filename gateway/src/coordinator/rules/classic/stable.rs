//! What members do between rebalances: SyncGroup, Heartbeat, OffsetCommit.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicGroup, Effects, Phase, SyncReply, Synced, answer_sync};
use crate::coordinator::error::GroupError;

/// A SyncGroup request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The member.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// The generation it was told.
    pub generation: i32,
    /// What it takes the group's protocol type for (v5, KIP-559).
    pub protocol_type: Option<Arc<str>>,
    /// What it takes the chosen assignor for (v5).
    pub protocol: Option<Arc<str>>,
    /// From the leader: what each member gets.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Who asks, as heartbeats and commits say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The member; empty for one outside any generation.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance: Option<Arc<str>>,
    /// Its generation; negative for one outside any.
    pub generation: i32,
}

impl<J, S> ClassicGroup<J, S> {
    /// A member asks for its assignment; the leader brings everyone's. Answered now or at a later event.
    pub fn sync(&mut self, request: SyncRequest, waiting: S, now_ms: i64, effects: &mut Effects<J, S>) {
        if let Err(error) = self.check_sync(&request) {
            return effects.syncs.push((waiting, Err(error)));
        }
        let id = request.member_id;
        match self.phase {
            Phase::Empty | Phase::Preparing { .. } => {
                effects.syncs.push((waiting, Err(GroupError::RebalanceInProgress)));
            }
            Phase::Completing => {
                self.note_synced(&id);
                self.touch(&id, now_ms);
                let Some(member) = self.members.get_mut(&id) else { return };
                if let Some(earlier) = member.syncing.replace(waiting) {
                    effects.syncs.push((earlier, Err(GroupError::RebalanceInProgress)));
                }
                if self.leads(&id) {
                    self.assign(request.assignments, now_ms, effects);
                }
            }
            Phase::Stable => {
                self.note_synced(&id);
                self.touch(&id, now_ms);
                effects.syncs.push((waiting, self.synced(&id)));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        self.check_member(&request.member_id, request.instance.as_deref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs = |said: &Option<Arc<str>>, known: &Option<Arc<str>>| said.is_some() && said != known;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    fn note_synced(&mut self, id: &str) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_deadline_ms = None;
        }
    }

    /// The leader's assignment: saved, then told to everyone who waits. Members it left out get an empty one.
    fn assign(&mut self, assignments: Vec<(Arc<str>, Bytes)>, now_ms: i64, effects: &mut Effects<J, S>) {
        let bytes: usize = assignments.iter().map(|(_, assignment)| assignment.len()).sum();
        if bytes > self.limits.max_bytes {
            self.refuse_syncs(GroupError::AssignmentTooLarge, now_ms, effects);
            return self.prepare_or_complete(now_ms, effects);
        }
        let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.phase = Phase::Stable;
        effects.save = true;
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.synced(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.syncing.is_some() {
                answer_sync(member, effects, reply);
                self.touch(&id, now_ms);
            }
        }
    }

    fn synced(&self, id: &str) -> SyncReply {
        let member = self.members.get(id).ok_or(GroupError::UnknownMember)?;
        Ok(Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: member.assignment.clone(),
        })
    }

    /// A member says that it lives.
    pub fn heartbeat(&mut self, caller: &Caller, now_ms: i64) -> Result<(), GroupError> {
        self.check_member(&caller.member_id, caller.instance.as_deref())?;
        if caller.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => {
                self.touch(&caller.member_id, now_ms);
                Err(GroupError::RebalanceInProgress)
            }
            Phase::Completing | Phase::Stable => {
                self.touch(&caller.member_id, now_ms);
                Ok(())
            }
        }
    }

    /// Whether the caller may commit offsets of this group; a member's session starts anew by it. Callers outside any
    /// generation (assigned by hand, or an admin) may while the group is empty.
    pub fn check_commit(&mut self, caller: &Caller, now_ms: i64) -> Result<(), GroupError> {
        let outside = caller.generation < 0;
        if outside && self.phase == Phase::Empty {
            return Ok(());
        }
        if outside && caller.member_id.is_empty() && caller.instance.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(&caller.member_id, caller.instance.as_deref())?;
        if caller.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.phase {
            Phase::Completing => Err(GroupError::RebalanceInProgress),
            Phase::Empty | Phase::Preparing { .. } | Phase::Stable => {
                self.touch(&caller.member_id, now_ms);
                Ok(())
            }
        }
    }

    /// Whether offsets of the topic may be deleted: not under the feet of members that read it.
    pub fn check_delete_offsets(&self) -> Result<(), GroupError> {
        let is_consumer = self.protocol_type.as_deref() == Some(super::CONSUMER_PROTOCOL_TYPE);
        if self.phase == Phase::Empty || is_consumer { Ok(()) } else { Err(GroupError::NonEmptyGroup) }
    }

    /// Whether the group may be deleted.
    pub fn check_delete(&self) -> Result<(), GroupError> {
        if self.phase == Phase::Empty { Ok(()) } else { Err(GroupError::NonEmptyGroup) }
    }
}
