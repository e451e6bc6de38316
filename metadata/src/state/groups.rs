//! Groups: what must survive of them. The group's rules run on its coordinator; here only versions are checked, so that a
//! coordinator that was replaced cannot write (C2).

use std::collections::BTreeMap;

use crate::command::{Refusal, SaveGroup};
use crate::failpoint::bug_here;
use crate::model::limits::{GROUP_RECORD_MAX_BYTES, GROUP_STRING_MAX_LEN, GROUPS_MAX};

/// One group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Grows with every save. A group that is deleted and made again goes on above every deleted one, so a coordinator of the
    /// old group cannot mistake the new one for it.
    pub version: u64,
    /// "consumer" for groups of consumers; empty for a plain store of offsets.
    pub protocol_type: String,
    /// Generation; never goes backwards.
    pub generation: i32,
    /// State time since which it has no members, ms; `None` while it has some.
    pub empty_since_ms: Option<i64>,
    /// The coordinator's own record of members and assignment.
    pub record: Vec<u8>,
}

impl Group {
    /// Whether the group has no members.
    pub fn is_empty(&self) -> bool {
        self.empty_since_ms.is_some()
    }
}

/// All groups.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    groups: BTreeMap<Box<str>, Group>,
    /// Largest version of any deleted group.
    deleted_version: u64,
}

impl Groups {
    /// The group of that name.
    pub fn get(&self, group: &str) -> Option<&Group> {
        self.groups.get(group)
    }

    /// All groups, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    pub(super) fn save(&mut self, save: &SaveGroup, now_ms: i64) -> Result<u64, Refusal> {
        let present = self.groups.get(&*save.group);
        let is_stale = save.expected_version != present.map_or(0, |group| group.version)
            || present.is_some_and(|group| save.generation < group.generation);
        if is_stale && !bug_here("groups::goes_on") {
            return Err(Refusal::StaleGroup);
        }
        let too_long = save.group.len().max(save.protocol_type.len()) > GROUP_STRING_MAX_LEN;
        let full = present.is_none() && self.groups.len() >= GROUPS_MAX;
        if too_long || full || save.record.len() > GROUP_RECORD_MAX_BYTES {
            return Err(Refusal::LimitReached);
        }
        let empty_since = present.and_then(|group| group.empty_since_ms).unwrap_or(now_ms);
        let version = present.map_or(self.deleted_version, |group| group.version);
        let version = version.checked_add(1).ok_or(Refusal::LimitReached)?;
        let group = Group {
            version,
            protocol_type: save.protocol_type.clone(),
            generation: save.generation,
            empty_since_ms: save.is_empty.then_some(empty_since),
            record: save.record.clone(),
        };
        match self.groups.get_mut(&*save.group) {
            Some(present) => *present = group,
            None => drop(self.groups.insert(save.group.as_str().into(), group)),
        }
        Ok(version)
    }

    /// Makes a group without members if there is none of that name: somebody stores offsets under it.
    pub(super) fn ensure(&mut self, group: &str, now_ms: i64) {
        if self.groups.contains_key(group) {
            return;
        }
        let made = Group {
            version: self.deleted_version.saturating_add(1),
            protocol_type: String::new(),
            generation: 0,
            empty_since_ms: Some(now_ms),
            record: Vec::new(),
        };
        self.groups.insert(group.into(), made);
    }

    pub(super) fn delete(&mut self, group: &str, expected_version: u64) -> Result<(), Refusal> {
        let present = self.groups.get(group).ok_or(Refusal::UnknownGroup)?;
        if present.version != expected_version {
            return Err(Refusal::StaleGroup);
        }
        if !present.is_empty() {
            return Err(Refusal::GroupNotEmpty);
        }
        self.remove(group);
        Ok(())
    }

    pub(super) fn remove(&mut self, group: &str) {
        if let Some(group) = self.groups.remove(group) {
            self.deleted_version = self.deleted_version.max(group.version);
        }
    }

    /// Whether offsets may be committed by one who knows this version; see [`crate::command::CommitOffsets`].
    pub(super) fn may_commit(&self, group: &str, expected_version: Option<u64>) -> Result<(), Refusal> {
        let present = self.groups.get(group);
        let allowed = match expected_version {
            Some(version) => version == present.map_or(0, |group| group.version),
            None => present.is_none_or(Group::is_empty),
        };
        if !allowed {
            return Err(Refusal::StaleGroup);
        }
        let full = present.is_none() && self.groups.len() >= GROUPS_MAX;
        if full || group.len() > GROUP_STRING_MAX_LEN { Err(Refusal::LimitReached) } else { Ok(()) }
    }

    pub(super) fn deleted_version(&self) -> u64 {
        self.deleted_version
    }

    pub(super) fn restore(groups: BTreeMap<Box<str>, Group>, deleted_version: u64) -> Self {
        Self { groups, deleted_version }
    }
}
