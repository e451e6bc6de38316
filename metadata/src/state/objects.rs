//! The object ledger: every committed object, how many extents point into it, and since when none does.
//!
//! Extents name their object by a slot of this ledger (4 bytes instead of 16). Slots are private to a process: they are
//! never encoded, so two gateways with the same state may number them differently.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Refusal;
use crate::model::extent::ObjectId;
use crate::model::fold::Fold;

/// What the ledger knows of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRecord {
    /// The object.
    pub id: ObjectId,
    /// Its whole size, bytes.
    pub bytes: u64,
    /// Extents that point into it, and folds of which it is the manifest.
    pub references: u32,
    /// Those of them that no extent in memory makes: folded extents, and the folds themselves. While there are any, the object
    /// is left where it is.
    pub folded: u32,
    /// Bytes of these.
    pub folded_bytes: u64,
    /// State time of its commit, ms; of an object that took the place of others, the latest of theirs, so that records
    /// without a timestamp do not grow younger.
    pub committed_ms: i64,
    /// Bytes of the extents that point into it.
    pub referenced_bytes: u64,
    /// How often its bytes have been merged: 0 for what producers wrote and for what was compacted.
    pub level: u32,
    /// State time at which its last reference went away, ms; `None` while something points into it.
    pub dead_since_ms: Option<i64>,
}

/// Largest slot: the index keeps a mark in the highest bit.
const SLOT_MAX: u32 = u32::MAX >> 1;

/// Place of an object in the ledger; at most 31 bits wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

/// Every committed object that has not been forgotten. About 130 bytes each.
#[derive(Debug, Clone, Default)]
pub struct ObjectLedger {
    slots: Vec<ObjectRecord>,
    free: Vec<u32>,
    by_id: BTreeMap<ObjectId, u32>,
    dead: BTreeSet<(i64, ObjectId)>,
    /// Folds that no log has any more, by manifest and position. What they refer to is alive until it is told.
    dropped: BTreeMap<(ObjectId, u32), Fold>,
    live_bytes: u64,
    dead_bytes: u64,
}

impl ObjectLedger {
    /// The record of an object; `None` if it was never committed or is forgotten.
    pub fn get(&self, id: ObjectId) -> Option<&ObjectRecord> {
        self.by_id.get(&id).map(|&slot| &self.slots[slot as usize])
    }

    /// All objects, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &ObjectRecord> {
        self.by_id.values().map(|&slot| &self.slots[slot as usize])
    }

    /// Objects nothing points into any more, the longest dead first.
    pub fn dead(&self) -> impl Iterator<Item = &ObjectRecord> {
        self.dead.iter().filter_map(|&(_, id)| self.get(id))
    }

    /// Folds that no log has any more and of which it is yet to be said what they hold.
    pub fn dropped(&self) -> impl ExactSizeIterator<Item = &Fold> {
        self.dropped.values()
    }

    /// How many objects there are, dead ones included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no object is known.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Sizes of all objects that something points into, bytes.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Sizes of all objects that wait to be deleted, bytes.
    pub fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }

    /// Whether any object took the place of others.
    pub(super) fn has_levels(&self) -> bool {
        self.iter().any(|object| object.level > 0)
    }

    pub(super) fn id_of(&self, slot: Slot) -> ObjectId {
        self.slots[slot.0 as usize].id
    }

    /// Enters an object with no reference yet. The caller refers to it, or calls [`ObjectLedger::settle`].
    pub(super) fn insert(&mut self, id: ObjectId, bytes: u64, now_ms: i64) -> Result<Slot, Refusal> {
        if self.by_id.contains_key(&id) {
            return Err(Refusal::ObjectCommitted);
        }
        let record = ObjectRecord {
            id,
            bytes,
            references: 0,
            folded: 0,
            folded_bytes: 0,
            committed_ms: now_ms,
            referenced_bytes: 0,
            level: 0,
            dead_since_ms: None,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = record;
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|&slot| slot <= SLOT_MAX);
                let slot = slot.ok_or(Refusal::LimitReached)?;
                self.slots.push(record);
                slot
            }
        };
        self.by_id.insert(id, slot);
        self.live_bytes += bytes;
        Ok(Slot(slot))
    }

    pub(super) fn slot_of(&self, id: ObjectId) -> Option<Slot> {
        self.by_id.get(&id).copied().map(Slot)
    }

    /// Dates an object that took the place of others, and tells how often its bytes were merged.
    pub(super) fn describe(&mut self, slot: Slot, level: u32, committed_ms: i64) {
        let record = &mut self.slots[slot.0 as usize];
        (record.level, record.committed_ms) = (level, committed_ms);
    }

    pub(super) fn committed_ms(&self, slot: Slot) -> i64 {
        self.slots[slot.0 as usize].committed_ms
    }

    /// Counts one more extent of the object, of so many bytes.
    pub(super) fn refer(&mut self, slot: Slot, bytes: u32) {
        self.slots[slot.0 as usize].references += 1;
        self.lengthen(slot, bytes);
    }

    /// Counts bytes that joined an extent of the object.
    pub(super) fn lengthen(&mut self, slot: Slot, bytes: u32) {
        self.slots[slot.0 as usize].referenced_bytes += u64::from(bytes);
    }

    /// Counts one extent of the object away, of so many bytes.
    pub(super) fn release(&mut self, slot: Slot, bytes: u32, now_ms: i64) {
        let record = &mut self.slots[slot.0 as usize];
        debug_assert!(record.references > 0, "an extent is released once");
        record.references = record.references.saturating_sub(1);
        record.referenced_bytes = record.referenced_bytes.saturating_sub(u64::from(bytes));
        self.settle(slot, now_ms);
    }

    /// Notes that one of the extents of the object, of so many bytes, is folded.
    pub(super) fn fold(&mut self, slot: Slot, bytes: u32) {
        let record = &mut self.slots[slot.0 as usize];
        record.folded += 1;
        record.folded_bytes += u64::from(bytes);
    }

    /// Notes that one of the folded extents of the object is one in memory again, or is about to be released.
    pub(super) fn unfold(&mut self, slot: Slot, bytes: u32) {
        let record = &mut self.slots[slot.0 as usize];
        debug_assert!(record.folded > 0, "an extent is unfolded once");
        record.folded = record.folded.saturating_sub(1);
        record.folded_bytes = record.folded_bytes.saturating_sub(u64::from(bytes));
    }

    /// Takes over a fold that its log lets go of.
    pub(super) fn drop_fold(&mut self, fold: Fold) {
        self.dropped.insert(fold.place(), fold);
    }

    /// The dropped fold at a place.
    pub(super) fn dropped_at(&self, place: (ObjectId, u32)) -> Option<&Fold> {
        self.dropped.get(&place)
    }

    /// Forgets a dropped fold: what it refers to is released.
    pub(super) fn forget_dropped(&mut self, place: (ObjectId, u32)) {
        self.dropped.remove(&place);
    }

    /// The references that a snapshot says no extent in memory makes; before any other.
    pub(super) fn restore_folded(&mut self, slot: Slot, folded: u32, bytes: u64) {
        let record = &mut self.slots[slot.0 as usize];
        (record.references, record.referenced_bytes) = (folded, bytes);
        (record.folded, record.folded_bytes) = (folded, bytes);
    }

    pub(super) fn folded(&self, slot: Slot) -> u32 {
        self.slots[slot.0 as usize].folded
    }

    /// Whether any object is referred to by what is folded.
    pub(super) fn has_folded(&self) -> bool {
        self.iter().any(|object| object.folded > 0)
    }

    /// Records the object as dead if nothing points into it.
    pub(super) fn settle(&mut self, slot: Slot, now_ms: i64) {
        let record = &mut self.slots[slot.0 as usize];
        if record.references == 0 && record.dead_since_ms.is_none() {
            record.dead_since_ms = Some(now_ms);
            self.live_bytes -= record.bytes;
            self.dead_bytes += record.bytes;
            self.dead.insert((now_ms, record.id));
        }
    }

    /// Forgets dead objects; unknown ones were forgotten before. If any is referenced, none is forgotten.
    pub(super) fn forget(&mut self, ids: &[ObjectId]) -> Result<(), Refusal> {
        if ids.iter().filter_map(|&id| self.get(id)).any(|record| record.dead_since_ms.is_none()) {
            return Err(Refusal::ObjectReferenced);
        }
        for id in ids {
            let Some(slot) = self.by_id.remove(id) else { continue };
            let record = &self.slots[slot as usize];
            self.dead_bytes -= record.bytes;
            if let Some(since_ms) = record.dead_since_ms {
                self.dead.remove(&(since_ms, *id));
            }
            self.free.push(slot);
        }
        Ok(())
    }

    pub(super) fn is_referenced(&self, slot: Slot) -> bool {
        self.slots[slot.0 as usize].references > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::SessionId;

    fn object(counter: u64) -> ObjectId {
        ObjectId { session: SessionId(1), counter }
    }

    #[test]
    fn g2_an_object_dies_with_its_last_reference_and_is_forgotten_once_deleted() {
        let mut ledger = ObjectLedger::default();
        let slot = ledger.insert(object(1), 100, 5).unwrap();
        ledger.refer(slot, 10);
        ledger.refer(slot, 10);
        ledger.release(slot, 10, 10);
        assert_eq!(ledger.dead().count(), 0);
        assert_eq!(ledger.forget(&[object(1)]), Err(Refusal::ObjectReferenced));
        ledger.release(slot, 10, 20);
        assert_eq!(ledger.dead().map(|o| (o.id, o.dead_since_ms)).collect::<Vec<_>>(), [(object(1), Some(20))]);
        assert_eq!((ledger.live_bytes(), ledger.dead_bytes()), (0, 100));
        assert_eq!(ledger.forget(&[object(1), object(9)]), Ok(()));
        assert!(ledger.is_empty());
        assert_eq!(ledger.dead_bytes(), 0);
        let again = ledger.insert(object(2), 7, 30).unwrap();
        assert_eq!(again, slot, "slots are reused");
        assert_eq!(ledger.id_of(again), object(2));
    }

    #[test]
    fn g1_forgetting_is_all_or_nothing() {
        let mut ledger = ObjectLedger::default();
        let live = ledger.insert(object(1), 1, 0).unwrap();
        ledger.refer(live, 1);
        let dead = ledger.insert(object(2), 1, 0).unwrap();
        ledger.settle(dead, 0);
        assert_eq!(ledger.forget(&[object(2), object(1)]), Err(Refusal::ObjectReferenced));
        assert_eq!(ledger.len(), 2);
        assert_eq!(ledger.insert(object(2), 1, 0), Err(Refusal::ObjectCommitted));
    }
}
