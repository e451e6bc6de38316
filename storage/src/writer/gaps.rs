//! Producers one of whose batches was not stored: their later batches are held back until that one comes again.
//!
//! An idempotent producer has up to five requests in flight. If the segment of the first is lost and the others were
//! committed, their order would be lost with it wherever the state does not know the producer yet: there, any sequence is
//! accepted. So they are refused as out of order, which the producer answers by sending all of them again, in order (L8).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use metadata::command::{CommitSegment, PartitionCommit};
use metadata::model::batch::BatchSummary;
use metadata::model::ids::{ProducerId, TopicPartition};
use metadata::state::State;
use tokio::time::Instant;

/// A producer has given up on a batch after this long (clients' `delivery.timeout.ms` is 2 min): whatever it sends then is a
/// new beginning.
const HELD_MAX: Duration = Duration::from_secs(300);
/// Most gaps remembered; the oldest goes first.
const GAPS_MAX: usize = 65_536;

/// Sequences, 0 to `i32::MAX`, go round; what is less than half a round ahead is later.
const ROUND: i64 = 1 << 31;
const HALF: i64 = ROUND / 2;

/// A producer's life on a partition.
type Line = (TopicPartition, ProducerId, i16);

/// First sequences that were lost and have not come again.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    lost: HashMap<Line, (i32, Instant)>,
    order: VecDeque<(Line, Instant)>,
}

impl Gaps {
    /// Notes that these batches were not committed.
    pub(super) fn note(&mut self, partitions: &[PartitionCommit], now: Instant) {
        self.forget_old(now);
        for part in partitions {
            for stamp in part.batches.iter().filter_map(|batch| batch.stamp) {
                let line = (part.partition, stamp.id, stamp.epoch);
                // The first one lost stays: it is the first that comes again.
                self.lost.entry(line).or_insert_with(|| {
                    self.order.push_back((line, now));
                    (stamp.base_sequence, now)
                });
            }
        }
        while self.lost.len() > GAPS_MAX {
            let Some((line, since)) = self.order.pop_front() else { break };
            self.remove(&line, since);
        }
    }

    /// How far behind the lost batch one is, in sequences round the end; `None` where none is waited for.
    fn behind(&self, line: &Line, base_sequence: i32, now: Instant) -> Option<i64> {
        let (lost, since) = self.lost.get(line)?;
        (now.duration_since(*since) < HELD_MAX).then(|| steps(*lost, base_sequence))
    }

    /// Whether a batch must wait for an earlier one. The one that was lost closes the gap.
    fn holds_back(&mut self, partition: TopicPartition, batch: &BatchSummary, now: Instant) -> bool {
        let Some(stamp) = batch.stamp else { return false };
        let line = (partition, stamp.id, stamp.epoch);
        match self.behind(&line, stamp.base_sequence, now) {
            Some(1..HALF) => return true,
            // From before the gap: repeated because its answer was lost, and the state knows it.
            Some(HALF..) => return false,
            Some(_) | None => {}
        }
        self.lost.remove(&line);
        false
    }

    /// Whether a batch of this commit would be held back.
    pub(super) fn would_hold_back(&self, commit: &CommitSegment, now: Instant) -> bool {
        let of = |part: &PartitionCommit, batch: &BatchSummary| {
            let stamp = batch.stamp?;
            self.behind(&(part.partition, stamp.id, stamp.epoch), stamp.base_sequence, now)
        };
        let mut all = commit.partitions.iter().flat_map(|part| part.batches.iter().map(move |batch| of(part, batch)));
        all.any(|behind| matches!(behind, Some(1..HALF)))
    }

    /// Forgets the gaps of those producers of a commit whom the state knows by now: apply itself refuses what is out of order of
    /// them. Where several gateways write, what was lost here may have come again through another one.
    pub(super) fn leave_to_state(&mut self, commit: &CommitSegment, state: &State) {
        for part in &commit.partitions {
            let Some(log) = state.log(part.partition) else { continue };
            for stamp in part.batches.iter().filter_map(|batch| batch.stamp) {
                let line = (part.partition, stamp.id, stamp.epoch);
                if self.lost.contains_key(&line) && log.producers().any(|known| known.id() == stamp.id) {
                    self.lost.remove(&line);
                }
            }
        }
    }

    /// Takes batches that must wait out of a commit. Tells for each batch, in the old order, whether it was taken out.
    pub(super) fn hold_back(&mut self, commit: &mut CommitSegment, now: Instant) -> Option<Vec<Vec<bool>>> {
        if self.lost.is_empty() {
            return None;
        }
        let mut held: Vec<Vec<bool>> = Vec::with_capacity(commit.partitions.len());
        for part in &commit.partitions {
            held.push(part.batches.iter().map(|batch| self.holds_back(part.partition, batch, now)).collect());
        }
        if !held.iter().flatten().any(|&held| held) {
            return None;
        }
        let partitions = std::mem::take(&mut commit.partitions);
        commit.partitions = partitions.iter().zip(&held).flat_map(|(part, held)| without(part, held)).collect();
        Some(held)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(&(line, since)) = self.order.front() {
            if now.duration_since(since) < HELD_MAX && self.lost.contains_key(&line) {
                break;
            }
            self.order.pop_front();
            self.remove(&line, since);
        }
    }

    fn remove(&mut self, line: &Line, since: Instant) {
        if self.lost.get(line).is_some_and(|(_, noted)| *noted == since) {
            self.lost.remove(line);
        }
    }
}

/// How far a sequence is ahead of another, round the end.
fn steps(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(ROUND)
}

/// A partition's batches without those held back: a piece for each row of neighbours that stay.
fn without(part: &PartitionCommit, held: &[bool]) -> Vec<PartitionCommit> {
    let mut pieces: Vec<PartitionCommit> = Vec::new();
    let (mut position, mut joins) = (part.position, false);
    for (batch, &held) in part.batches.iter().zip(held) {
        if !held {
            match pieces.last_mut().filter(|_| joins) {
                Some(piece) => piece.batches.push(*batch),
                None => pieces.push(PartitionCommit { partition: part.partition, position, batches: vec![*batch] }),
            }
        }
        joins = !held;
        position += u64::from(batch.length);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use metadata::model::batch::ProducerStamp;

    use super::*;
    use crate::sample::{object, partition};

    fn batch(id: i64, base_sequence: i32) -> BatchSummary {
        let stamp = ProducerStamp { id: ProducerId(id), epoch: 0, base_sequence, transactional: false };
        BatchSummary { records: 1, length: 10, max_timestamp: 0, stamp: Some(stamp) }
    }

    fn commit(batches: Vec<BatchSummary>) -> CommitSegment {
        let part = PartitionCommit { partition: partition(1, 0), position: 8, batches };
        CommitSegment { object: object(1), object_bytes: 1_000, partitions: vec![part] }
    }

    #[test]
    fn l8_later_batches_wait_until_the_lost_one_comes_again() {
        let now = Instant::now();
        let mut gaps = Gaps::default();
        assert_eq!(gaps.hold_back(&mut commit(vec![batch(1, 5)]), now), None);
        gaps.note(&commit(vec![batch(1, 0), batch(1, 1)]).partitions, now);
        let unstamped = BatchSummary { stamp: None, ..batch(0, 0) };
        let mut next = commit(vec![batch(1, 2), batch(2, 7), unstamped, batch(1, 3), batch(2, 8)]);
        assert_eq!(gaps.hold_back(&mut next, now), Some(vec![vec![true, false, false, true, false]]));
        let pieces: Vec<_> = next.partitions.iter().map(|p| (p.position, p.batches.len())).collect();
        assert_eq!(pieces, [(18, 2), (48, 1)]);
        let mut again = commit(vec![batch(1, 0), batch(1, 1), batch(1, 2)]);
        assert_eq!(gaps.hold_back(&mut again, now), None, "the gap is closed");
        assert!(gaps.lost.is_empty());
    }

    #[test]
    fn t1_a_repetition_from_before_the_gap_is_not_held_back() {
        let now = Instant::now();
        let mut gaps = Gaps::default();
        gaps.note(&commit(vec![batch(1, 1)]).partitions, now);
        let mut again = commit(vec![batch(1, i32::MAX), batch(1, 0), batch(1, 2)]);
        assert_eq!(gaps.hold_back(&mut again, now), Some(vec![vec![false, false, true]]), "the gap is still there");
        assert_eq!(gaps.hold_back(&mut commit(vec![batch(1, 1), batch(1, 2)]), now), None);
    }

    #[test]
    fn a_gap_is_forgotten_when_its_producer_must_have_given_up() {
        let now = Instant::now();
        let mut gaps = Gaps::default();
        gaps.note(&commit(vec![batch(1, 0)]).partitions, now);
        assert_eq!(gaps.hold_back(&mut commit(vec![batch(1, 9)]), now + HELD_MAX), None);
        (0..GAPS_MAX as i64 + 10).for_each(|id| gaps.note(&commit(vec![batch(id, 0)]).partitions, now));
        assert_eq!(gaps.lost.len(), GAPS_MAX);
        gaps.note(&commit(vec![batch(-1, 0)]).partitions, now + HELD_MAX);
        assert_eq!((gaps.lost.len(), gaps.order.len()), (1, 1));
    }
}
