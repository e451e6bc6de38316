//! The log of one partition: its start, its end, and where its bytes lie.
//!
//! ```text
//!   gone    |  extent  |   extent   |..marker..|  extent |
//!           ^ log start                                  ^ high watermark = last stable offset, today
//! ```
//!
//! The oldest extents may be folded: references to runs in manifest objects stand in their place (`fold`). Whoever wants to know
//! all of a log asks for its [`Log::parts`].
//!
//! Extents carry their own base offset, so offsets without bytes (transaction markers, what compaction took away) fit between
//! two of them; behind the last one there are none. A log with open transactions will have a last stable offset of its own
//! and a list of aborted ranges beside the extents.
//!
//! Memory: an empty log takes 88 bytes, a fold 112, an extent 32, a producer 144; a growing index has at most half as much again in
//! reserve. 100,000 partitions with 200 extents and one producer each take about 800 MB (measured by the tests below).

pub mod fold;
pub(super) mod swap;

use std::collections::VecDeque;

use self::fold::Folds;
use super::objects::{ObjectLedger, Slot};
use super::producers::{Producer, Producers};
use crate::command::Refusal;
use crate::model::extent::Extent;
use crate::model::offset::Offset;

/// Every partition is led by everyone since ever: the epoch never moves.
const LEADER_EPOCH: i32 = 0;

/// So many extents are looked at from the end of a log before it is searched: a search through a long index in memory that
/// no one touched lately costs more.
const STEPS_BACK: usize = 4;

/// A view of one partition's log.
#[derive(Debug, Clone, Copy)]
pub struct Log<'a> {
    index: &'a LogIndex,
    objects: &'a ObjectLedger,
}

impl<'a> Log<'a> {
    pub(super) fn new(index: &'a LogIndex, objects: &'a ObjectLedger) -> Self {
        Self { index, objects }
    }

    /// First offset that may be read.
    pub fn log_start(self) -> Offset {
        self.index.start
    }

    /// Offset the next record will get.
    pub fn high_watermark(self) -> Offset {
        self.index.end
    }

    /// Offset up to which no transaction is open.
    pub fn last_stable(self) -> Offset {
        self.index.end
    }

    /// Leader epoch of the partition.
    pub fn leader_epoch(self) -> i32 {
        LEADER_EPOCH
    }

    /// Bytes of all extents, also of one that the log start stands inside.
    pub fn bytes(self) -> u64 {
        self.index.bytes
    }

    /// How many extents there are, folded ones included.
    pub fn extent_count(self) -> usize {
        let folded: u64 = self.index.folds().iter().map(|fold| u64::from(fold.extents)).sum();
        self.index.extents.len() + usize::try_from(folded).unwrap_or(usize::MAX)
    }

    /// How many extents there are in memory.
    pub fn unfolded_count(self) -> usize {
        self.index.extents.len()
    }

    /// The extents in memory from the one that holds `from` on (or the first one after it), in offset order; what is folded
    /// stands before them and is left out: see [`Log::parts`]. Costs O(log n) plus
    /// what is taken, and near the end of the log, where most readers are, no more than a few steps. An extent may begin
    /// before `from`, and before the log start.
    pub fn unfolded(self, from: Offset) -> impl DoubleEndedIterator<Item = Extent> + 'a {
        let first = self.index.first_from(from);
        self.index.extents.range(first..).map(move |packed| packed.unpack(self.objects))
    }

    /// All extents in memory, in offset order.
    pub fn all_unfolded(self) -> impl DoubleEndedIterator<Item = Extent> + 'a {
        self.index.extents.iter().map(move |packed| packed.unpack(self.objects))
    }

    /// The extents in memory that lie in any of some objects, in offset order.
    pub(super) fn extents_in(self, chosen: &'a SlotSet) -> impl Iterator<Item = Extent> + 'a {
        let is_chosen = |packed: &&PackedExtent| chosen.holds(packed.slot());
        self.index.extents.iter().filter(is_chosen).map(move |packed| packed.unpack(self.objects))
    }

    /// Bytes that extents and folds take in memory.
    pub fn index_bytes(self) -> usize {
        self.index.extents.capacity() * size_of::<PackedExtent>() + size_of_val(self.index.folds())
    }

    /// What is remembered of idempotent producers, in order of their ids.
    pub fn producers(self) -> impl Iterator<Item = &'a Producer> {
        self.index.producers.iter()
    }
}

/// Some objects, one bit for each slot of the ledger.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotSet(Vec<u64>);

impl SlotSet {
    pub(super) fn insert(&mut self, slot: Slot) {
        let (word, bit) = (slot.0 as usize / 64, slot.0 % 64);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn holds(&self, slot: Slot) -> bool {
        self.0.get(slot.0 as usize / 64).is_some_and(|word| word >> (slot.0 % 64) & 1 == 1)
    }
}

/// An extent in 32 bytes.
#[derive(Debug, Clone, Copy)]
struct PackedExtent {
    base: i64,
    max_timestamp: i64,
    /// Offsets from base to end.
    span: u32,
    length: u32,
    position: u32,
    /// The object's slot, and [`SPARSE`] if the extent is.
    object: u32,
}

/// Marks a sparse extent; slots are 31 bits wide.
const SPARSE: u32 = 1 << 31;

impl PackedExtent {
    fn end(&self) -> i64 {
        self.base + i64::from(self.span)
    }

    fn slot(&self) -> Slot {
        Slot(self.object & !SPARSE)
    }

    fn is_sparse(&self) -> bool {
        self.object & SPARSE != 0
    }

    fn unpack(&self, objects: &ObjectLedger) -> Extent {
        Extent {
            base: Offset::new(self.base).expect("base offsets come from an Offset"),
            end: Offset::new(self.end()).expect("ends are checked when appended"),
            object: objects.id_of(self.slot()),
            position: u64::from(self.position),
            length: self.length,
            max_timestamp: self.max_timestamp,
            sparse: self.is_sparse(),
        }
    }
}

/// Where the bytes of an appended batch lie.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) object: Slot,
    /// Bytes into the object.
    pub(super) position: u32,
    /// Bytes.
    pub(super) length: u32,
}

/// One partition's log.
#[derive(Debug, Clone, Default)]
pub(super) struct LogIndex {
    start: Offset,
    end: Offset,
    /// Of folds and extents.
    bytes: u64,
    /// They stand before all extents. Most logs have none.
    folds: Option<Box<Folds>>,
    extents: VecDeque<PackedExtent>,
    pub(super) producers: Producers,
}

impl LogIndex {
    /// Number of the first extent with offsets at or after `from`.
    fn first_from(&self, from: Offset) -> usize {
        if from >= self.end {
            return self.extents.len(); // most fetches of a waiting consumer: its index need not even be in the CPU's cache
        }
        let is_before = |extent: &PackedExtent| extent.end() <= from.get();
        let behind = self.extents.iter().rev().take(STEPS_BACK + 1).take_while(|extent| !is_before(extent)).count();
        match behind <= STEPS_BACK {
            true => self.extents.len() - behind,
            false => self.extents.partition_point(is_before),
        }
    }

    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// Appends a batch; it joins the last extent if its bytes stand right behind it. Returns its base offset.
    pub(super) fn append(
        &mut self,
        records: u32,
        max_timestamp: i64,
        place: Place,
        objects: &mut ObjectLedger,
    ) -> Result<Offset, Refusal> {
        let base = self.end;
        let end = base.checked_add(u64::from(records)).ok_or(Refusal::OffsetOutOfRange)?;
        let joined = self.extents.back_mut().is_some_and(|last| last.join(base, records, max_timestamp, place));
        if joined {
            objects.lengthen(place.object, place.length);
        } else {
            objects.refer(place.object, place.length);
            self.push(PackedExtent {
                base: base.get(),
                max_timestamp,
                span: records,
                length: place.length,
                position: place.position,
                object: place.object.0,
            });
        }
        self.bytes += u64::from(place.length);
        self.end = end;
        Ok(base)
    }

    /// Moves the start forward and lets go of whole extents before it. Returns the start now in force, which is the old one
    /// if that is larger.
    pub(super) fn advance_start(
        &mut self,
        to: Offset,
        objects: &mut ObjectLedger,
        now_ms: i64,
    ) -> Result<Offset, Refusal> {
        if to > self.end {
            return Err(Refusal::OffsetOutOfRange);
        }
        self.start = self.start.max(to);
        self.drop_folds(self.start, objects);
        while let Some(first) = self.extents.front().copied().filter(|first| first.end() <= self.start.get()) {
            self.extents.pop_front();
            self.bytes -= u64::from(first.length);
            objects.release(first.slot(), first.length, now_ms);
        }
        self.shrink();
        Ok(self.start)
    }

    fn shrink(&mut self) {
        if self.extents.len() < self.extents.capacity() / 4 {
            self.extents.shrink_to(self.extents.len() * 2);
        }
    }

    /// Lets go of everything.
    pub(super) fn release_all(mut self, objects: &mut ObjectLedger, now_ms: i64) {
        self.drop_folds(self.end, objects);
        for extent in self.extents {
            objects.release(extent.slot(), extent.length, now_ms);
        }
    }

    /// An empty log as a snapshot has it; `None` if start and end contradict each other.
    pub(super) fn restore(start: Offset, end: Offset) -> Option<Self> {
        (start <= end).then(|| Self { start, end, ..Self::default() })
    }

    /// Puts an extent back as a snapshot has it; `None` if it does not fit behind the last one and into the log.
    pub(super) fn restore_extent(&mut self, extent: &Extent, slot: Slot, objects: &mut ObjectLedger) -> Option<()> {
        let folded = self.folds().last().map_or(0, |fold| fold.end.get());
        let from = self.extents.back().map_or(folded, PackedExtent::end);
        let span = u32::try_from(extent.end.since(extent.base)).ok().filter(|&span| span > 0)?;
        let position = u32::try_from(extent.position).ok()?;
        if extent.base.get() < from || extent.end > self.end || extent.end <= self.start {
            return None;
        }
        objects.refer(slot, extent.length);
        self.bytes += u64::from(extent.length);
        self.push(PackedExtent {
            base: extent.base.get(),
            max_timestamp: extent.max_timestamp,
            span,
            length: extent.length,
            position,
            object: slot.0 | if extent.sparse { SPARSE } else { 0 },
        });
        Some(())
    }

    fn push(&mut self, extent: PackedExtent) {
        if self.extents.len() == self.extents.capacity() {
            self.extents.reserve_exact(room(self.extents.len(), extent.position));
        }
        self.extents.push_back(extent);
    }
}

/// By how much a full index of this length grows. Many partitions have one extent, and long indexes should not be half empty.
///
/// Logs that are written side by side are of one length. If they also grew at once, one commit in some hundred would copy the indexes
/// of all of them, which is tens of milliseconds for 1,600 partitions: so it depends on where the batch lies in its segment, which
/// is elsewhere for each.
fn room(length: usize, position: u32) -> usize {
    let quarter = length / 4;
    let spread = (position.wrapping_mul(0x9E37_79B9) >> 8) as usize % (quarter + 1);
    (quarter + spread).max(1)
}

impl PackedExtent {
    /// Takes the batch in if it continues this extent in offsets and in bytes.
    fn join(&mut self, base: Offset, records: u32, max_timestamp: i64, place: Place) -> bool {
        let adjacent = self.object == place.object.0
            && self.end() == base.get()
            && self.position.checked_add(self.length) == Some(place.position);
        let (Some(span), Some(length)) = (self.span.checked_add(records), self.length.checked_add(place.length)) else {
            return false;
        };
        if adjacent {
            self.span = span;
            self.length = length;
            self.max_timestamp = self.max_timestamp.max(max_timestamp);
        }
        adjacent
    }
}

#[cfg(test)]
mod tests;
