//! The swap of extents: merge and compact put the extents of a new object in the place of old ones.
//!
//! Costs O(extents of each partition that is named); nothing is decided by what the bytes are, only by what the index says.

use super::log::swap::{Swap, SwapRun};
use super::objects::ObjectLedger;
use super::topics::Topics;
use crate::command::{NewExtent, Outcome, PartitionSwap, Refusal, SwapExtents};
use crate::model::ids::SessionId;
use crate::model::limits::OBJECT_BYTES_MAX;

/// Decides every partition, in order. An object of which nothing was taken is dead at once, for the sweep to find.
pub(super) fn swap_extents(
    swap: &SwapExtents,
    session: SessionId,
    topics: &mut Topics,
    objects: &mut ObjectLedger,
    now_ms: i64,
) -> Outcome {
    if let Err(refusal) = check(swap, session) {
        return Outcome::Refused(refusal);
    }
    let slot = match objects.insert(swap.object, swap.object_bytes, now_ms) {
        Ok(slot) => slot,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    let mut newest_ms = None;
    let mut outcomes = Vec::with_capacity(swap.partitions.len());
    for part in &swap.partitions {
        let run = SwapRun { base: part.base, end: part.end, old: &part.old };
        let swap = Swap { run, new: &part.new, slot, now_ms };
        let swapped = topics.log_mut(part.partition).and_then(|log| log.swap(swap, objects));
        outcomes.push(swapped.map(|committed_ms| newest_ms = newest_ms.max(Some(committed_ms))));
    }
    objects.describe(slot, swap.level, newest_ms.unwrap_or(now_ms));
    objects.settle(slot, now_ms);
    Outcome::Swapped(outcomes)
}

/// As of a commit: an object is put in by the session that wrote it, so that an uncommitted object of a fenced session can be
/// deleted (G1).
fn check(swap: &SwapExtents, session: SessionId) -> Result<(), Refusal> {
    if swap.object.session != session {
        return Err(Refusal::Malformed);
    }
    if swap.object_bytes > OBJECT_BYTES_MAX {
        return Err(Refusal::LimitReached);
    }
    let fits = |part: &PartitionSwap| part.base < part.end && !part.old.is_empty() && are_in_order(part, swap);
    if swap.partitions.iter().all(fits) { Ok(()) } else { Err(Refusal::Malformed) }
}

/// The new extents lie one behind the other in the run, and inside the object.
fn are_in_order(part: &PartitionSwap, swap: &SwapExtents) -> bool {
    let mut from = part.base;
    part.new.iter().all(|&NewExtent { base, end, position, length, .. }| {
        let ends = position.checked_add(u64::from(length));
        let is_legal = from <= base
            && base < end
            && end <= part.end
            && u32::try_from(end.since(base)).is_ok()
            && length > 0
            && ends.is_some_and(|ends| ends <= swap.object_bytes);
        from = end;
        is_legal
    })
}
