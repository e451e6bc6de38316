//! Folding: runs of cold extents move into a manifest object, and come back by those who have read it.
//!
//! Nothing here reads a manifest. What is folded is decided by the extents that the log has, what comes back by the hash that was
//! taken of them; so every gateway holds the same state whatever the bucket holds (D1).
//!
//! Costs O(extents of each partition that is named).

use super::objects::{ObjectLedger, Slot};
use super::topics::Topics;
use crate::codec::run::{decode_run, hash_run};
use crate::command::{FoldExtents, Outcome, Refusal, UnfoldExtents};
use crate::model::extent::Extent;
use crate::model::fold::Fold;
use crate::model::ids::SessionId;
use crate::model::limits::{FOLD_EXTENTS_MAX, OBJECT_BYTES_MAX};

/// Decides every run, in order. A manifest of which nothing was taken is dead at once, for the sweep to find.
pub(super) fn fold_extents(
    fold: &FoldExtents,
    session: SessionId,
    topics: &mut Topics,
    objects: &mut ObjectLedger,
    now_ms: i64,
) -> Outcome {
    if let Err(refusal) = check(fold, session) {
        return Outcome::Refused(refusal);
    }
    let manifest = match objects.insert(fold.object, fold.object_bytes, now_ms) {
        Ok(slot) => slot,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    let mut outcomes = Vec::with_capacity(fold.runs.len());
    for run in &fold.runs {
        outcomes.push(topics.log_mut(run.partition).and_then(|log| log.fold(run, manifest, objects)));
    }
    objects.settle(manifest, now_ms);
    Outcome::Swapped(outcomes)
}

/// As of a commit: an object is put in by the session that wrote it, so that an uncommitted object of a fenced session can be
/// deleted (G1). Runs lie one behind the other in it, so that a place names one run.
fn check(fold: &FoldExtents, session: SessionId) -> Result<(), Refusal> {
    if fold.object.session != session {
        return Err(Refusal::Malformed);
    }
    if fold.object_bytes > OBJECT_BYTES_MAX || fold.runs.iter().any(|run| run.extents > FOLD_EXTENTS_MAX) {
        return Err(Refusal::LimitReached);
    }
    let mut from = 0;
    for run in &fold.runs {
        let end = run.position.checked_add(u64::from(run.length)).filter(|&end| end <= fold.object_bytes);
        if run.position < from || run.length == 0 {
            return Err(Refusal::Malformed);
        }
        from = end.ok_or(Refusal::Malformed)?;
    }
    Ok(())
}

/// Puts the extents of a log's newest fold back, or releases those of a dropped one. What a run holds is believed only if it has
/// the hash that was taken when it was folded. A refusal changes nothing.
pub(super) fn unfold_extents(
    unfold: &UnfoldExtents,
    topics: &mut Topics,
    objects: &mut ObjectLedger,
    now_ms: i64,
) -> Result<(), Refusal> {
    let place = (unfold.object, u32::try_from(unfold.position).map_err(|_| Refusal::ExtentsChanged)?);
    let log = unfold.partition.map(|partition| topics.log_mut(partition)).transpose()?;
    let found = match &log {
        Some(log) => log.last_fold().filter(|fold| fold.place() == place),
        None => objects.dropped_at(place),
    };
    let fold = *found.ok_or(Refusal::ExtentsChanged)?;
    let manifest = objects.slot_of(fold.object).ok_or(Refusal::Malformed)?;
    let extents = read(&unfold.run, &fold, objects)?;
    match log {
        Some(log) => log.unfold(&extents, objects, now_ms),
        None => {
            for (extent, slot) in &extents {
                objects.unfold(*slot, extent.length);
                objects.release(*slot, extent.length, now_ms);
            }
            objects.forget_dropped(place);
        }
    }
    objects.unfold(manifest, fold.length);
    objects.release(manifest, fold.length, now_ms);
    Ok(())
}

/// The extents of a fold, each with its object's slot, as bytes tell that are the fold's.
fn read(run: &[u8], fold: &Fold, objects: &ObjectLedger) -> Result<Vec<(Extent, Slot)>, Refusal> {
    if hash_run(run) != fold.hash {
        return Err(Refusal::Malformed);
    }
    let extents = decode_run(run).map_err(|_| Refusal::Malformed)?;
    let slot_of = |extent: Extent| objects.slot_of(extent.object).map(|slot| (extent, slot)).ok_or(Refusal::Malformed);
    extents.into_iter().map(slot_of).collect()
}
