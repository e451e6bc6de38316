//! Committed offsets of groups.

use std::collections::BTreeMap;

use crate::command::{CommittedOffset, Refusal};
use crate::model::ids::{TopicId, TopicPartition};
use crate::model::limits::{COMMITTED_OFFSETS_MAX, GROUP_STRING_MAX_LEN};

/// The committed offsets of one group.
type GroupOffsets = BTreeMap<TopicPartition, CommittedOffset>;

/// All committed offsets. About 120 bytes each, and the client's metadata.
#[derive(Debug, Clone, Default)]
pub struct CommittedOffsets {
    by_group: BTreeMap<Box<str>, GroupOffsets>,
    count: usize,
}

impl CommittedOffsets {
    /// The committed offset of a partition.
    pub fn get(&self, group: &str, tp: TopicPartition) -> Option<&CommittedOffset> {
        self.by_group.get(group).and_then(|offsets| offsets.get(&tp))
    }

    /// All committed offsets of a group, in order of topic id and partition.
    pub fn iter(&self, group: &str) -> impl Iterator<Item = (TopicPartition, &CommittedOffset)> {
        self.by_group.get(group).into_iter().flatten().map(|(&tp, offset)| (tp, offset))
    }

    /// The groups that have any, in order of their names.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.by_group.keys().map(|group| &**group)
    }

    /// How many there are, all groups together.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn has_any(&self, group: &str) -> bool {
        self.by_group.contains_key(group)
    }

    /// Commits one offset; the caller has checked group and partition.
    pub(super) fn commit(&mut self, group: &str, tp: TopicPartition, offset: CommittedOffset) -> Result<(), Refusal> {
        let is_new = self.get(group, tp).is_none();
        if (is_new && self.count >= COMMITTED_OFFSETS_MAX) || offset.metadata.len() > GROUP_STRING_MAX_LEN {
            return Err(Refusal::LimitReached);
        }
        self.count += usize::from(is_new);
        match self.by_group.get_mut(group) {
            Some(offsets) => drop(offsets.insert(tp, offset)),
            None => drop(self.by_group.insert(group.into(), BTreeMap::from([(tp, offset)]))),
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, group: &str, partitions: &[TopicPartition]) {
        self.edit(group, |offsets| partitions.iter().for_each(|tp| drop(offsets.remove(tp))));
    }

    pub(super) fn delete_group(&mut self, group: &str) {
        self.edit(group, BTreeMap::clear);
    }

    /// Deletes what every group committed for the topic.
    pub(super) fn delete_topic(&mut self, topic: TopicId) {
        let whole = TopicPartition { topic, partition: i32::MIN }..=TopicPartition { topic, partition: i32::MAX };
        let count = &mut self.count;
        self.by_group.retain(|_, offsets| {
            let gone: Vec<_> = offsets.range(whole.clone()).map(|(&tp, _)| tp).collect();
            *count -= gone.len();
            gone.iter().for_each(|tp| drop(offsets.remove(tp)));
            !offsets.is_empty()
        });
    }

    /// Deletes the offsets of a group that `expired` says so of.
    pub(super) fn expire(&mut self, group: &str, expired: impl Fn(&CommittedOffset) -> bool) {
        self.edit(group, |offsets| offsets.retain(|_, offset| !expired(offset)));
    }

    fn edit(&mut self, group: &str, edit: impl FnOnce(&mut GroupOffsets)) {
        let Some(offsets) = self.by_group.get_mut(group) else { return };
        let before = offsets.len();
        edit(offsets);
        self.count -= before - offsets.len();
        if offsets.is_empty() {
            self.by_group.remove(group);
        }
    }
}
