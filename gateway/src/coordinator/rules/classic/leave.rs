//! LeaveGroup: members say good-bye, or an administrator says it for static ones.

use std::sync::Arc;

use super::{ClassicGroup, Effects, Phase};
use crate::coordinator::error::GroupError;

/// Who leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaver {
    /// The member; empty to name a static member by its instance only.
    pub member_id: Arc<str>,
    /// The `group.instance.id`.
    pub instance: Option<Arc<str>>,
}

impl<J, S> ClassicGroup<J, S> {
    /// Members leave. One answer per leaver, in order; they must wait for the save if there is one.
    pub fn leave(
        &mut self,
        leavers: &[Leaver],
        now_ms: i64,
        effects: &mut Effects<J, S>,
    ) -> Vec<Result<(), GroupError>> {
        let members_before = self.members.len();
        let answers: Vec<_> = leavers.iter().map(|leaver| self.leave_one(leaver, effects)).collect();
        let members_left = self.members.len() < members_before;
        match self.phase {
            // While the first members of an empty group gather, the delay goes on.
            Phase::Empty | Phase::Preparing { initial: true } => {}
            Phase::Preparing { initial: false } => self.complete_if_all_joined(now_ms, effects),
            Phase::Completing | Phase::Stable if members_left => self.after_removal(now_ms, effects),
            Phase::Completing | Phase::Stable => {}
        }
        answers
    }

    fn leave_one(&mut self, leaver: &Leaver, effects: &mut Effects<J, S>) -> Result<(), GroupError> {
        let id = if leaver.member_id.is_empty() {
            let instance = leaver.instance.as_ref().ok_or(GroupError::UnknownMember)?;
            self.instances.get(instance).cloned().ok_or(GroupError::UnknownMember)?
        } else {
            if !self.pending.contains_key(&leaver.member_id) {
                self.check_member(&leaver.member_id, leaver.instance.as_deref())?;
            }
            leaver.member_id.clone()
        };
        self.remove(&id, effects);
        Ok(())
    }
}
