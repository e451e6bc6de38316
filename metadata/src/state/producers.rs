//! What a partition remembers of idempotent producers: epoch and the last five batches, to tell the next batch from a
//! repetition and from a gap. Source: Kafka's `ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry`.

use crate::command::Refusal;
use crate::failpoint::bug_here;
use crate::model::batch::ProducerStamp;
use crate::model::ids::ProducerId;
use crate::model::limits::{PRODUCER_WINDOW_BATCHES, PRODUCERS_PER_PARTITION_MAX};
use crate::model::offset::Offset;

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RememberedBatch {
    /// Sequence of its first record.
    pub base_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base: Offset,
    /// Largest record timestamp, ms; -1 if none.
    pub max_timestamp: i64,
}

/// One producer on one partition. 144 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    id: ProducerId,
    epoch: i16,
    remembered: u8,
    last_active_ms: i64,
    /// The first `remembered` are valid, oldest first.
    window: [RememberedBatch; PRODUCER_WINDOW_BATCHES],
}

impl Producer {
    /// The producer.
    pub fn id(&self) -> ProducerId {
        self.id
    }

    /// Its epoch.
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// State time of its last append, ms.
    pub fn last_active_ms(&self) -> i64 {
        self.last_active_ms
    }

    /// The remembered batches, oldest first.
    pub fn window(&self) -> &[RememberedBatch] {
        &self.window[..usize::from(self.remembered)]
    }

    /// Sequence of the last appended record; `None` if no batch is remembered.
    pub fn last_sequence(&self) -> Option<i32> {
        self.window().last().map(|batch| batch.last_sequence)
    }

    fn remember(&mut self, batch: RememberedBatch) {
        if usize::from(self.remembered) == PRODUCER_WINDOW_BATCHES {
            self.window.rotate_left(1);
            self.remembered -= 1;
        }
        self.window[usize::from(self.remembered)] = batch;
        self.remembered += 1;
    }
}

/// Whether a batch is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Append it, then [`Producers::remember`] it.
    Next,
    /// It was appended before.
    Duplicate(RememberedBatch),
}

/// All producers of one partition, in order of their ids.
///
/// A sorted vector: most partitions have few producers, and new ids are the largest, so insertion is an append.
#[derive(Debug, Clone, Default)]
pub(super) struct Producers(Vec<Producer>);

impl Producers {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Producer> {
        self.0.iter()
    }

    /// Judges a batch of `records` records; changes nothing.
    pub(super) fn judge(&self, stamp: ProducerStamp, records: u32) -> Result<Verdict, Refusal> {
        if stamp.base_sequence < 0 {
            return Err(Refusal::OutOfOrderSequence);
        }
        let Ok(at) = self.find(stamp.id) else { return Ok(Verdict::Next) };
        if bug_here("state::window_unchecked") {
            return Ok(Verdict::Next);
        }
        let known = &self.0[at];
        if stamp.epoch < known.epoch {
            return Err(Refusal::InvalidProducerEpoch);
        }
        if stamp.epoch > known.epoch {
            return if stamp.base_sequence == 0 { Ok(Verdict::Next) } else { Err(Refusal::OutOfOrderSequence) };
        }
        let last_sequence = last_sequence(stamp.base_sequence, records);
        let same = |b: &&RememberedBatch| b.base_sequence == stamp.base_sequence && b.last_sequence == last_sequence;
        if let Some(batch) = known.window().iter().find(same) {
            return Ok(Verdict::Duplicate(*batch));
        }
        // With no batch remembered the sequence starts again from 0.
        let expected = known.last_sequence().map_or(0, |last| last_sequence_after(last, 1));
        if stamp.base_sequence == expected { Ok(Verdict::Next) } else { Err(Refusal::OutOfOrderSequence) }
    }

    /// Remembers a batch that was judged [`Verdict::Next`] and appended at `base`. Past
    /// [`PRODUCERS_PER_PARTITION_MAX`] the least recently active other producer is forgotten (the smallest id of several).
    pub(super) fn remember(
        &mut self,
        stamp: ProducerStamp,
        records: u32,
        base: Offset,
        max_timestamp: i64,
        now_ms: i64,
    ) {
        let batch = RememberedBatch {
            base_sequence: stamp.base_sequence,
            last_sequence: last_sequence(stamp.base_sequence, records),
            base,
            max_timestamp,
        };
        let at = self.find(stamp.id).unwrap_or_else(|_| self.make_room(stamp));
        let producer = &mut self.0[at];
        if producer.epoch != stamp.epoch {
            producer.epoch = stamp.epoch;
            producer.remembered = 0;
        }
        producer.last_active_ms = now_ms;
        producer.remember(batch);
    }

    /// Forgets producers whose last append is more than `idle_ms` ago.
    pub(super) fn expire(&mut self, now_ms: i64, idle_ms: i64) {
        self.0.retain(|producer| now_ms.saturating_sub(producer.last_active_ms) <= idle_ms);
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    /// Puts a producer back as a snapshot remembers it; `false` if the snapshot contradicts itself.
    pub(super) fn restore(
        &mut self,
        id: ProducerId,
        epoch: i16,
        last_active_ms: i64,
        batches: &[RememberedBatch],
    ) -> bool {
        let ordered = self.0.last().is_none_or(|last| last.id < id);
        if !ordered || batches.len() > PRODUCER_WINDOW_BATCHES {
            return false;
        }
        let mut producer = Producer::new(id, epoch);
        producer.last_active_ms = last_active_ms;
        batches.iter().for_each(|&batch| producer.remember(batch));
        self.0.push(producer);
        true
    }

    fn find(&self, id: ProducerId) -> Result<usize, usize> {
        match self.0.last() {
            Some(last) if last.id < id => Err(self.0.len()),
            _ => self.0.binary_search_by_key(&id, |producer| producer.id),
        }
    }

    /// Index of a new, empty entry for the producer.
    fn make_room(&mut self, stamp: ProducerStamp) -> usize {
        if self.0.len() >= PRODUCERS_PER_PARTITION_MAX {
            let oldest = self.0.iter().enumerate().min_by_key(|(_, p)| (p.last_active_ms, p.id)).map(|(at, _)| at);
            oldest.map(|at| self.0.remove(at));
        }
        if self.0.len() == self.0.capacity() {
            // One producer a partition is the usual case: do not let the vector begin with four.
            self.0.reserve_exact((self.0.len() / 2).max(1));
        }
        let at = self.find(stamp.id).unwrap_or_else(|at| at);
        self.0.insert(at, Producer::new(stamp.id, stamp.epoch));
        at
    }
}

impl Producer {
    fn new(id: ProducerId, epoch: i16) -> Self {
        Self {
            id,
            epoch,
            remembered: 0,
            last_active_ms: 0,
            window: [RememberedBatch::default(); PRODUCER_WINDOW_BATCHES],
        }
    }
}

/// Sequence of the last of `records` records that start at `base`; wraps from `i32::MAX` to 0.
fn last_sequence(base: i32, records: u32) -> i32 {
    last_sequence_after(base, records.saturating_sub(1))
}

/// `sequence + steps`, wrapping from `i32::MAX` to 0 (`DefaultRecordBatch.incrementSequence`).
fn last_sequence_after(sequence: i32, steps: u32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(steps)) % (i64::from(i32::MAX) + 1);
    i32::try_from(sum).expect("a remainder of 2^31 fits")
}

#[cfg(test)]
mod tests;
