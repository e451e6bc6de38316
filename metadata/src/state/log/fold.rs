//! The oldest extents of a log, folded: references to runs in manifests stand in their place.
//!
//! Folds are always the oldest of a log, one behind the other, and what is not folded stands behind all of them. Objects that
//! folded extents lie in stay counted, so nothing of them can be swept (G1); they are released one by one when somebody who has
//! read the run says what it holds (`UnfoldExtents`).

use super::{Log, LogIndex, PackedExtent, SPARSE};
use crate::codec::run::{encode_run, hash_run};
use crate::command::{PartitionFold, Refusal};
use crate::model::extent::Extent;
use crate::model::fold::Fold;
use crate::model::limits::FOLD_EXTENTS_MAX;
use crate::model::offset::Offset;
use crate::state::objects::{ObjectLedger, Slot};

/// What a log consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Extents that are to be looked up in a manifest.
    Folded(&'a Fold),
    /// An extent.
    Extent(Extent),
}

/// The folds of a log, in offset order; not none.
#[derive(Debug, Clone, Default)]
pub(super) struct Folds(Vec<Fold>);

impl<'a> Log<'a> {
    /// Everything from what holds `from` on, in offset order: no offset that may be read is missing. A part may begin before
    /// `from`, and before the log start. Costs as [`Log::unfolded`].
    pub fn parts(self, from: Offset) -> impl Iterator<Item = Part<'a>> {
        let folded = self.index.folds().iter().skip_while(move |fold| fold.end <= from);
        folded.map(Part::Folded).chain(self.unfolded(from).map(Part::Extent))
    }

    /// The folds, in offset order.
    pub fn folds(self) -> &'a [Fold] {
        self.index.folds()
    }
}

impl LogIndex {
    pub(super) fn folds(&self) -> &[Fold] {
        self.folds.as_deref().map_or(&[], |folds| &folds.0)
    }

    /// Folds the oldest extents that are not folded yet if they come to the hash that the run has, and there is at least one
    /// behind them. A refusal leaves log and ledger as they were.
    pub(in crate::state) fn fold(
        &mut self,
        run: &PartitionFold,
        manifest: Slot,
        objects: &mut ObjectLedger,
    ) -> Result<(), Refusal> {
        let count = usize::try_from(run.extents).unwrap_or(usize::MAX);
        if count == 0 || count >= self.extents.len() {
            return Err(Refusal::ExtentsChanged);
        }
        let extents: Vec<Extent> = self.extents.range(..count).map(|packed| packed.unpack(objects)).collect();
        let bytes = encode_run(&extents);
        if u32::try_from(bytes.len()) != Ok(run.length) || hash_run(&bytes) != run.hash {
            return Err(Refusal::ExtentsChanged);
        }
        let position = u32::try_from(run.position).map_err(|_| Refusal::Malformed)?;
        let time_of = |extent: &PackedExtent| match extent.max_timestamp {
            timestamp @ 0.. => timestamp,
            _ => objects.committed_ms(extent.slot()),
        };
        let times = || self.extents.range(..count).map(time_of);
        let fold = Fold {
            base: extents[0].base,
            end: extents[count - 1].end,
            extents: run.extents,
            bytes: extents.iter().map(|extent| u64::from(extent.length)).sum(),
            max_timestamp: extents.iter().map(|extent| extent.max_timestamp).fold(-1, i64::max),
            oldest_ms: times().fold(i64::MAX, i64::min),
            newest_ms: times().fold(i64::MIN, i64::max),
            object: objects.id_of(manifest),
            position,
            length: run.length,
            hash: run.hash,
        };
        for extent in self.extents.drain(..count) {
            objects.fold(extent.slot(), extent.length);
        }
        // What was folded shall not stay as an empty reserve; nor shall every run of a long log copy the rest of it.
        if self.extents.len() < self.extents.capacity() / 2 {
            self.extents.shrink_to(self.extents.len() + self.extents.len() / 4);
        }
        objects.refer(manifest, run.length);
        objects.fold(manifest, run.length);
        self.folds.get_or_insert_default().0.push(fold);
        Ok(())
    }

    /// The newest fold.
    pub(in crate::state) fn last_fold(&self) -> Option<&Fold> {
        self.folds().last()
    }

    /// Puts the extents of the newest fold back in its place; those that the log start has passed are let go of. The caller has
    /// checked that they are the fold's and found their objects' slots.
    pub(in crate::state) fn unfold(&mut self, extents: &[(Extent, Slot)], objects: &mut ObjectLedger, now_ms: i64) {
        let Some(fold) = self.folds.as_deref_mut().and_then(|folds| folds.0.pop()) else { return };
        if self.folds().is_empty() {
            self.folds = None;
        }
        self.bytes -= fold.bytes;
        self.extents.reserve_exact(extents.len());
        for (extent, slot) in extents.iter().rev() {
            objects.unfold(*slot, extent.length);
            if extent.end <= self.start {
                objects.release(*slot, extent.length, now_ms);
                continue;
            }
            self.bytes += u64::from(extent.length);
            let checked = "these bytes were made of packed extents";
            self.extents.push_front(PackedExtent {
                base: extent.base.get(),
                max_timestamp: extent.max_timestamp,
                span: u32::try_from(extent.end.since(extent.base)).expect(checked),
                length: extent.length,
                position: u32::try_from(extent.position).expect(checked),
                object: slot.0 | if extent.sparse { SPARSE } else { 0 },
            });
        }
    }

    /// Lets go of the folds that end at or before an offset: nothing is read from them any more, and what they refer to stays
    /// until it is said what that is.
    pub(super) fn drop_folds(&mut self, until: Offset, objects: &mut ObjectLedger) {
        let Some(Folds(folds)) = self.folds.as_deref_mut() else { return };
        let passed = folds.partition_point(|fold| fold.end <= until);
        for fold in folds.drain(..passed) {
            self.bytes -= fold.bytes;
            objects.drop_fold(fold);
        }
        if folds.is_empty() {
            self.folds = None;
        }
    }

    /// Puts a fold back as a snapshot has it, before any extent; `None` if it does not fit behind the last one and into the log.
    pub(in crate::state) fn restore_fold(&mut self, fold: Fold) -> Option<()> {
        let from = self.last_fold().map_or(Offset::ZERO, |last| last.end);
        let fits = from <= fold.base && fold.base < fold.end && fold.end <= self.end && fold.end > self.start;
        let is_legal = (1..=FOLD_EXTENTS_MAX).contains(&fold.extents)
            && fold.bytes <= u64::from(fold.extents) * u64::from(u32::MAX);
        if !fits || !is_legal {
            return None;
        }
        self.bytes = self.bytes.checked_add(fold.bytes)?;
        self.folds.get_or_insert_default().0.push(fold);
        Some(())
    }
}
