//! How a rebalance starts, waits and ends; and everything that happens because time passed.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicGroup, Effects, JoinTimer, Phase, answer_sync};
use crate::coordinator::error::GroupError;

/// Shortest wait before a rebalance that nobody joined looks again, ms.
const LOOK_AGAIN_MIN_MS: i64 = 1_000;

impl<J, S> ClassicGroup<J, S> {
    /// When [`tick`](Self::tick) wants to be called, ms; `None` if nothing is due ever.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let session = self.deadlines.first().map(|(at_ms, _)| *at_ms);
        let join = self.join_timer.map(JoinTimer::at_ms);
        [session, join, self.sync_deadline_ms].into_iter().flatten().min()
    }

    /// Does what is due by `now_ms`: sessions and unused ids lapse, waits for joins and syncs end.
    pub fn tick(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        while let Some((_, id)) = self.deadlines.first().filter(|(at_ms, _)| *at_ms <= now_ms).cloned() {
            self.lapse(&id, now_ms, effects);
        }
        match self.join_timer {
            Some(timer) if timer.at_ms() > now_ms => {}
            Some(JoinTimer::Initial { delay_ms, remaining_ms, .. }) if self.newcomer && remaining_ms > 0 => {
                self.newcomer = false;
                let next_ms = self.limits.initial_rebalance_delay_ms.min(remaining_ms);
                self.join_timer = Some(JoinTimer::Initial {
                    at_ms: now_ms.saturating_add(next_ms),
                    delay_ms: next_ms,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
            }
            Some(_) => self.complete_join(now_ms, effects),
            None => {}
        }
        if self.sync_deadline_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.drop_unsynced(now_ms, effects);
        }
    }

    /// For `by_ms` the coordinator listened to nobody (a save took that long): nobody's time ran.
    pub fn pause(&mut self, by_ms: i64) {
        let later = std::mem::take(&mut self.deadlines);
        self.deadlines = later.into_iter().map(|(at_ms, id)| (at_ms.saturating_add(by_ms), id)).collect();
        for at_ms in self.pending.values_mut() {
            *at_ms = at_ms.saturating_add(by_ms);
        }
        for at_ms in self.members.values_mut().filter_map(|member| member.deadline_ms.as_mut()) {
            *at_ms = at_ms.saturating_add(by_ms);
        }
        if let Some(JoinTimer::Initial { at_ms, .. } | JoinTimer::Rebalance { at_ms }) = &mut self.join_timer {
            *at_ms = at_ms.saturating_add(by_ms);
        }
        if let Some(at_ms) = &mut self.sync_deadline_ms {
            *at_ms = at_ms.saturating_add(by_ms);
        }
    }

    /// A member that may not keep its place without a heartbeat, or an id nobody used, goes.
    fn lapse(&mut self, id: &Arc<str>, now_ms: i64, effects: &mut Effects<J, S>) {
        if self.pending.contains_key(id) {
            self.drop_pending(id);
            return self.complete_if_all_joined(now_ms, effects);
        }
        let Some(member) = self.members.get_mut(id) else {
            self.deadlines.retain(|(_, known)| known != id);
            return;
        };
        if let Some(at_ms) = member.deadline_ms.take() {
            self.deadlines.remove(&(at_ms, id.clone()));
        }
        // One that waits for the rebalance cannot heartbeat; its session starts when it is answered.
        let waits = member.joining.is_some() || member.syncing.is_some();
        if member.is_new || !waits {
            self.remove(id, effects);
            self.after_removal(now_ms, effects);
        }
    }

    /// What a member's going means to the others.
    pub(super) fn after_removal(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        match self.phase {
            Phase::Stable | Phase::Completing => self.prepare(now_ms, effects),
            Phase::Preparing { .. } => self.complete_if_all_joined(now_ms, effects),
            Phase::Empty => {}
        }
    }

    /// Ends the wait for joins if nobody is missing, even within the initial delay.
    pub(super) fn complete_if_all_joined(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        if matches!(self.phase, Phase::Preparing { .. }) && self.all_joined() {
            self.complete_join(now_ms, effects);
        }
    }

    /// Starts a rebalance, or ends its wait for joins if this was the last one missing.
    pub(super) fn prepare_or_complete(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        match self.phase {
            Phase::Empty | Phase::Stable | Phase::Completing => self.prepare(now_ms, effects),
            Phase::Preparing { initial: true } => {}
            Phase::Preparing { initial: false } => self.complete_if_all_joined(now_ms, effects),
        }
    }

    fn prepare(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        if self.phase == Phase::Completing {
            self.refuse_syncs(GroupError::RebalanceInProgress, now_ms, effects);
        }
        self.sync_deadline_ms = None;
        self.unsynced.clear();
        let initial = self.phase == Phase::Empty;
        self.phase = Phase::Preparing { initial };
        if initial {
            let delay_ms = self.limits.initial_rebalance_delay_ms;
            self.newcomer = false;
            self.join_timer = Some(JoinTimer::Initial {
                at_ms: now_ms.saturating_add(delay_ms),
                delay_ms,
                remaining_ms: (self.rebalance_timeout_ms() - delay_ms).max(0),
            });
        } else if self.all_joined() {
            self.complete_join(now_ms, effects);
        } else {
            let at_ms = now_ms.saturating_add(self.rebalance_timeout_ms());
            self.join_timer = Some(JoinTimer::Rebalance { at_ms });
        }
    }

    /// The wait for joins is over: who did not join is out (static members keep their place), a new generation begins.
    fn complete_join(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        self.join_timer = None;
        let missing = self.members.iter().filter(|(_, member)| member.joining.is_none() && member.instance.is_none());
        let missing: Vec<Arc<str>> = missing.map(|(id, _)| id.clone()).collect();
        for id in missing {
            self.remove(&id, effects);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Only silent static members are left: wait until they join or their sessions lapse.
            let wait_ms = self.rebalance_timeout_ms().max(LOOK_AGAIN_MIN_MS);
            self.join_timer = Some(JoinTimer::Rebalance { at_ms: now_ms.saturating_add(wait_ms) });
            return;
        }
        self.generation = self.generation.saturating_add(1);
        self.protocol = self.select_protocol();
        effects.save = true;
        if self.members.is_empty() {
            self.phase = Phase::Empty;
            self.unsynced.clear();
            return;
        }
        self.phase = Phase::Completing;
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
        self.answer_joins(now_ms, effects);
        self.await_syncs(now_ms);
    }

    /// From here every member owes a SyncGroup, within the rebalance timeout.
    pub(super) fn await_syncs(&mut self, now_ms: i64) {
        self.unsynced = self.members.keys().cloned().collect();
        self.sync_deadline_ms = Some(now_ms.saturating_add(self.rebalance_timeout_ms()));
    }

    /// A leader that did not join loses its office to one that did. False if nobody joined.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |id: &Arc<str>| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if !self.leader.as_ref().is_some_and(joined) {
            let Some((id, _)) = self.members.iter().find(|(_, member)| member.joining.is_some()) else { return false };
            self.leader = Some(id.clone());
        }
        true
    }

    /// Whoever waits in SyncGroup gets the error; no assignment of this generation stands.
    pub(super) fn refuse_syncs(&mut self, error: GroupError, now_ms: i64, effects: &mut Effects<J, S>) {
        let mut answered = Vec::new();
        for (id, member) in &mut self.members {
            member.assignment = Bytes::new();
            if member.syncing.is_some() {
                answer_sync(member, effects, Err(error));
                answered.push(id.clone());
            }
        }
        for id in answered {
            self.touch(&id, now_ms);
        }
    }

    /// Members that never asked for their assignment within the rebalance timeout are out.
    fn drop_unsynced(&mut self, now_ms: i64, effects: &mut Effects<J, S>) {
        self.sync_deadline_ms = None;
        let silent = std::mem::take(&mut self.unsynced);
        if silent.is_empty() {
            return;
        }
        for id in &silent {
            self.remove(id, effects);
        }
        if matches!(self.phase, Phase::Completing | Phase::Stable) {
            self.prepare(now_ms, effects);
        }
    }
}
