//! The commit of a segment: which batches are appended, at which offsets, and which bytes of the object they are.
//!
//! Costs O(batches); nothing is allocated but the outcomes and what the log keeps.

use super::log::{LogIndex, Place};
use super::objects::{ObjectLedger, Slot};
use super::producers::Verdict;
use super::topics::Topics;
use crate::command::{BatchOutcome, CommitSegment, Outcome, PartitionCommit, Refusal};
use crate::failpoint::bug_here;
use crate::model::batch::BatchSummary;
use crate::model::ids::{Lsn, SessionId, TopicPartition};
use crate::model::limits::OBJECT_BYTES_MAX;

/// Decides every batch of the segment, in order. Pushes the partitions whose end moved to `changed`.
pub(super) fn commit_segment(
    commit: &CommitSegment,
    session: SessionId,
    lsn: Lsn,
    topics: &mut Topics,
    objects: &mut ObjectLedger,
    now_ms: i64,
    changed: &mut Vec<TopicPartition>,
) -> Outcome {
    if let Err(refusal) = check(commit, session, lsn) {
        return Outcome::Refused(refusal);
    }
    let object = match objects.insert(commit.object, commit.object_bytes, now_ms) {
        Ok(slot) => slot,
        Err(refusal) => match objects.slot_of(commit.object).filter(|_| bug_here("state::applies_twice")) {
            Some(slot) => slot,
            None => return Outcome::Refused(refusal),
        },
    };
    let mut outcomes = Vec::with_capacity(commit.partitions.len());
    for part in &commit.partitions {
        let decided = match topics.log_mut(part.partition) {
            Ok(log) => commit_partition(part, log, object, objects, now_ms),
            Err(refusal) => vec![BatchOutcome::Refused(refusal); part.batches.len()],
        };
        if decided.iter().any(|outcome| matches!(outcome, BatchOutcome::Appended { .. })) {
            changed.push(part.partition);
        }
        outcomes.push(decided);
    }
    objects.settle(object, now_ms);
    Outcome::Segment(outcomes)
}

/// An object is committed by the session that wrote it: once that session is fenced, no commit of its objects can succeed any
/// more, which is what lets an uncommitted object of a fenced session be deleted (G1). An object of the journal is committed by
/// the entry it carries, at its own position, or never.
fn check(commit: &CommitSegment, session: SessionId, lsn: Lsn) -> Result<(), Refusal> {
    let is_own = match commit.object.position() {
        Some(position) => position == lsn,
        None => commit.object.session == session,
    };
    if !is_own {
        return Err(Refusal::Malformed);
    }
    if commit.object_bytes > OBJECT_BYTES_MAX {
        return Err(Refusal::LimitReached);
    }
    let fits = |part: &PartitionCommit| {
        let end = part.batches.iter().try_fold(part.position, |at, batch| at.checked_add(u64::from(batch.length)));
        end.is_some_and(|end| end <= commit.object_bytes)
    };
    if commit.partitions.iter().all(fits) { Ok(()) } else { Err(Refusal::Malformed) }
}

fn commit_partition(
    part: &PartitionCommit,
    log: &mut LogIndex,
    object: Slot,
    objects: &mut ObjectLedger,
    now_ms: i64,
) -> Vec<BatchOutcome> {
    let mut position = part.position;
    let decide = |batch: &BatchSummary| {
        let place = Place {
            object,
            position: u32::try_from(position).expect("checked against the object's size"),
            length: batch.length,
        };
        position += u64::from(batch.length);
        append_batch(batch, place, log, objects, now_ms).unwrap_or_else(BatchOutcome::Refused)
    };
    part.batches.iter().map(decide).collect()
}

/// A refusal leaves log, producers and ledger as they were.
fn append_batch(
    batch: &BatchSummary,
    place: Place,
    log: &mut LogIndex,
    objects: &mut ObjectLedger,
    now_ms: i64,
) -> Result<BatchOutcome, Refusal> {
    if batch.records == 0 || batch.length == 0 {
        return Err(Refusal::Malformed);
    }
    if let Some(stamp) = batch.stamp {
        if stamp.transactional {
            return Err(Refusal::InvalidTxnState);
        }
        if let Verdict::Duplicate(first) = log.producers.judge(stamp, batch.records)? {
            let (base, max_timestamp) = (first.base, first.max_timestamp);
            return Ok(BatchOutcome::Duplicate { base, log_start: log.start(), max_timestamp });
        }
    }
    let base = log.append(batch.records, batch.max_timestamp, place, objects)?;
    if let Some(stamp) = batch.stamp {
        log.producers.remember(stamp, batch.records, base, batch.max_timestamp, now_ms);
    }
    Ok(BatchOutcome::Appended { base, log_start: log.start() })
}

#[cfg(test)]
mod tests;
