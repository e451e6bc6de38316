//! Replacing a run of extents of one log.

use super::{LogIndex, PackedExtent, SPARSE};
use crate::command::{NewExtent, Refusal};
use crate::model::extent::ObjectId;
use crate::model::offset::Offset;
use crate::state::objects::{ObjectLedger, Slot};

/// Which extents are to be replaced.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct SwapRun<'a> {
    pub(in crate::state) base: Offset,
    pub(in crate::state) end: Offset,
    pub(in crate::state) old: &'a [(ObjectId, u64)],
}

/// What replaces them; in order, inside the run, and inside the object of `slot`.
#[derive(Debug, Clone, Copy)]
pub(in crate::state) struct Swap<'a> {
    pub(in crate::state) run: SwapRun<'a>,
    pub(in crate::state) new: &'a [NewExtent],
    pub(in crate::state) slot: Slot,
    pub(in crate::state) now_ms: i64,
}

impl LogIndex {
    /// Replaces the run if the log has exactly these extents there. Tells when the newest of the old objects was committed,
    /// ms. A refusal leaves log and ledger as they were.
    ///
    /// New extents that the log start has passed meanwhile are left out (G3); the start itself never moves here, nor does the
    /// end: the last extent of a log ends where the log does (L5). An offset is never given other bytes than before unless
    /// the new extent says that it is sparse: a dense one only takes the place of dense ones without a gap between (L2).
    pub(in crate::state) fn swap(&mut self, swap: Swap<'_>, objects: &mut ObjectLedger) -> Result<i64, Refusal> {
        let Swap { run, new, slot, now_ms } = swap;
        let first = self.extents.partition_point(|extent| extent.end() <= run.base.get());
        let until = first + run.old.len();
        if !self.is_run(first, run, objects) {
            return Err(Refusal::ExtentsChanged);
        }
        if until == self.extents.len() && new.last().is_none_or(|last| last.end != run.end) {
            return Err(Refusal::Malformed);
        }
        if !new.iter().filter(|new| !new.sparse).all(|new| self.is_dense(first, until, new)) {
            return Err(Refusal::Malformed);
        }
        let start = self.start;
        let kept: Vec<PackedExtent> = new.iter().filter(|new| new.end > start).map(|new| pack(new, slot)).collect();
        let behind = self.extents.split_off(until);
        let old = self.extents.split_off(first);
        for extent in &kept {
            objects.refer(slot, extent.length);
            self.bytes += u64::from(extent.length);
        }
        self.extents.reserve_exact(kept.len() + behind.len());
        self.extents.extend(kept);
        self.extents.extend(behind);
        let mut newest_ms = i64::MIN;
        for extent in old {
            newest_ms = newest_ms.max(objects.committed_ms(extent.slot()));
            self.bytes -= u64::from(extent.length);
            objects.release(extent.slot(), extent.length, now_ms);
        }
        self.shrink();
        Ok(newest_ms)
    }

    /// Whether the extents from number `first` on are the run, no more and no less.
    fn is_run(&self, first: usize, run: SwapRun<'_>, objects: &ObjectLedger) -> bool {
        let Some(last) = first.checked_add(run.old.len()).filter(|&until| until <= self.extents.len()) else {
            return false;
        };
        let extents = self.extents.range(first..last);
        let begins = extents.clone().next().is_some_and(|extent| extent.base == run.base.get());
        let ends = extents.clone().next_back().is_some_and(|extent| extent.end() == run.end.get());
        begins
            && ends
            && extents.zip(run.old).all(|(extent, &(object, position))| {
                u64::from(extent.position) == position && objects.id_of(extent.slot()) == object
            })
    }

    /// Whether dense extents among those numbered hold every offset of a new one.
    fn is_dense(&self, first: usize, until: usize, new: &NewExtent) -> bool {
        let mut next = new.base.get();
        for extent in self.extents.range(first..until).skip_while(|extent| extent.end() <= new.base.get()) {
            if next >= new.end.get() {
                break;
            }
            if extent.is_sparse() || extent.base > next {
                return false;
            }
            next = extent.end();
        }
        next >= new.end.get()
    }

    pub(in crate::state) fn has_sparse_extents(&self) -> bool {
        self.extents.iter().any(PackedExtent::is_sparse)
    }
}

fn pack(new: &NewExtent, slot: Slot) -> PackedExtent {
    let checked = "checked against the object's size and the width of an extent";
    PackedExtent {
        base: new.base.get(),
        max_timestamp: new.max_timestamp,
        span: u32::try_from(new.end.since(new.base)).expect(checked),
        length: new.length,
        position: u32::try_from(new.position).expect(checked),
        object: slot.0 | if new.sparse { SPARSE } else { 0 },
    }
}

#[cfg(test)]
mod tests;
