//! From timestamps to offsets, as ListOffsets asks for them.
//!
//! Source: Kafka's `UnifiedLog.fetchOffsetByTimestamp`, `FileRecords.searchForTimestamp`, `RecordBatch.offsetOfMaxTimestamp`.

use metadata::model::batch::BatchView;
use metadata::model::extent::Extent;
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::log::Log;
use metadata::state::log::fold::Part;

use super::locate::{Pace, Wanted};
use super::{Reader, is_gone};
use crate::cache::block::Block;
use crate::codec::inflate_batch;
use crate::codec::records::RecordIter;
use crate::error::ReadError;
use crate::folds::Runs;

/// Most bytes a batch is inflated to; none that inflates to more was accepted.
const INFLATED_MAX_BYTES: usize = 256 << 20;

/// A record's place and time.
type Found = Option<(Offset, i64)>;

impl Reader {
    /// The first record at or after `timestamp_ms`, in offset order, with its own timestamp; `None` if there is none, asked
    /// again at the head of the journal.
    pub async fn offset_for_timestamp(&self, tp: TopicPartition, timestamp_ms: i64) -> Result<Found, ReadError> {
        let answer = self.first_at_or_after(tp, timestamp_ms).await;
        if !may_be_stale(&answer) {
            return answer;
        }
        self.metadata.barrier().await.map_err(ReadError::Journal)?;
        self.first_at_or_after(tp, timestamp_ms).await
    }

    /// The first of the records with the largest timestamp; `None` if there is none, asked again at the head of the journal.
    pub async fn max_timestamp(&self, tp: TopicPartition) -> Result<Found, ReadError> {
        let answer = self.latest(tp).await;
        if !may_be_stale(&answer) {
            return answer;
        }
        self.metadata.barrier().await.map_err(ReadError::Journal)?;
        self.latest(tp).await
    }

    async fn first_at_or_after(&self, tp: TopicPartition, timestamp_ms: i64) -> Result<Found, ReadError> {
        let mut after = Offset::ZERO;
        // Each round is at a later extent; a second one is only needed where the log start cuts through the first.
        loop {
            let candidate = self.folds.look(&self.metadata, |state, runs| {
                let log = state.log(tp).ok_or(ReadError::UnknownPartition)?;
                let from = after.max(log.log_start());
                let extent = extent_at_or_after(log, from, timestamp_ms, runs)?;
                Ok::<_, ReadError>(extent.map(|extent| (extent, from, log.leader_epoch())))
            });
            let candidate = candidate.await?;
            let Some((extent, from, epoch)) = candidate else { return Ok(None) };
            let block = self.fetcher.block(looked_at(extent, epoch)).await?;
            for number in block.batch_with(from)..block.batch_count() {
                if let Some(found) = first_in_batch(&block, number, timestamp_ms, from)? {
                    return Ok(Some(found));
                }
            }
            after = extent.end;
        }
    }

    async fn latest(&self, tp: TopicPartition) -> Result<Found, ReadError> {
        let seen = self.folds.look(&self.metadata, |state, runs| {
            let log = state.log(tp).ok_or(ReadError::UnknownPartition)?;
            let from = log.log_start();
            let (straddling, best) = latest_extents(log, from, runs)?;
            Ok::<_, ReadError>((straddling, best, from, log.leader_epoch()))
        });
        let (straddling, best, from, epoch) = seen.await?;
        // What the index says of an extent that the log start cuts through may be true of records that are gone.
        let ahead = best.map_or(0, |best| best.max_timestamp);
        if let Some(extent) = straddling.filter(|extent| extent.max_timestamp >= ahead) {
            let block = self.fetcher.block(looked_at(extent, epoch)).await?;
            let mut found: Found = None;
            for number in block.batch_with(from)..block.batch_count() {
                let above = found.map_or(ahead, |(_, timestamp)| timestamp + 1);
                found = max_in_batch(&block, number, above, from)?.or(found);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some(extent) = best else { return Ok(None) };
        let block = self.fetcher.block(looked_at(extent, epoch)).await?;
        for number in 0..block.batch_count() {
            if let Some(found) = first_in_batch(&block, number, extent.max_timestamp, from)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Somewhere in the log, most often far from its end.
fn looked_at(extent: Extent, leader_epoch: i32) -> Wanted {
    Wanted { extent, leader_epoch, pace: Pace::CatchUp }
}

/// Whether there was nothing, or what there was is gone: then it is asked once more with everything applied.
fn may_be_stale(answer: &Result<Found, ReadError>) -> bool {
    match answer {
        Ok(None) | Err(ReadError::UnknownPartition) => true,
        Ok(Some(_)) => false,
        Err(error) => is_gone(error),
    }
}

/// The first extent that ends behind an offset and has a record at or after a time. Of folds that have none the run is not needed.
fn extent_at_or_after(
    log: Log<'_>,
    from: Offset,
    timestamp_ms: i64,
    runs: &mut Runs<'_>,
) -> Result<Option<Extent>, ReadError> {
    for part in log.parts(from) {
        match part {
            Part::Extent(extent) if extent.max_timestamp >= timestamp_ms => return Ok(Some(extent)),
            Part::Folded(fold) if fold.max_timestamp >= timestamp_ms => {
                let run = runs.get(fold)?;
                let fits = |extent: &&Extent| extent.end > from && extent.max_timestamp >= timestamp_ms;
                if let Some(extent) = run.iter().find(fits) {
                    return Ok(Some(*extent));
                }
            }
            Part::Extent(_) | Part::Folded(_) => {}
        }
    }
    Ok(None)
}

/// The extent that an offset cuts through, and of those behind it the one with the largest timestamp, if any has one.
fn latest_extents(
    log: Log<'_>,
    from: Offset,
    runs: &mut Runs<'_>,
) -> Result<(Option<Extent>, Option<Extent>), ReadError> {
    let (mut straddling, mut best) = (None, None);
    for part in log.parts(from) {
        match part {
            Part::Extent(extent) if extent.base < from => straddling = Some(extent),
            Part::Folded(fold) if fold.base < from => {
                for extent in runs.get(fold)?.iter().filter(|extent| extent.end > from) {
                    match extent.base < from {
                        true => straddling = Some(*extent),
                        false => best = later(best, Part::Extent(*extent)),
                    }
                }
            }
            part => best = later(best, part),
        }
    }
    let best = match best {
        Some(Part::Folded(fold)) => {
            let run = runs.get(fold)?;
            run.iter().find(|extent| extent.max_timestamp == fold.max_timestamp).copied()
        }
        Some(Part::Extent(extent)) => Some(extent),
        None => None,
    };
    Ok((straddling, best))
}

/// Of two parts the one with the larger timestamp, the earlier of equals, if either has one.
fn later<'a>(best: Option<Part<'a>>, part: Part<'a>) -> Option<Part<'a>> {
    let time = |part: &Part<'_>| match part {
        Part::Extent(extent) => extent.max_timestamp,
        Part::Folded(fold) => fold.max_timestamp,
    };
    match best {
        Some(best) if time(&best) >= time(&part) => Some(best),
        best => Some(part).filter(|part| time(part) >= 0).or(best),
    }
}

/// The first record of a batch that is at or after both a time and an offset.
fn first_in_batch(block: &Block, number: usize, timestamp_ms: i64, from: Offset) -> Result<Found, ReadError> {
    let mut first = None;
    each_record(block, number, timestamp_ms, from, |offset, timestamp| {
        first = Some((offset, timestamp));
        false
    })?;
    Ok(first)
}

/// The record of a batch with the largest timestamp of at least `above`, at or after an offset; the first of equals.
fn max_in_batch(block: &Block, number: usize, above: i64, from: Offset) -> Result<Found, ReadError> {
    let mut best: Found = None;
    each_record(block, number, above, from, |offset, timestamp| {
        if best.is_none_or(|(_, largest)| timestamp > largest) {
            best = Some((offset, timestamp));
        }
        true
    })?;
    Ok(best)
}

/// Shows the records of a batch that are at or after both a time and an offset, until `visit` says stop. A batch that says
/// it has none is not inflated.
fn each_record(
    block: &Block,
    number: usize,
    timestamp_ms: i64,
    from: Offset,
    mut visit: impl FnMut(Offset, i64) -> bool,
) -> Result<(), ReadError> {
    let damaged = |what: String| ReadError::Corrupt(what.into());
    let bytes = block.batch(number);
    let batch = BatchView::first(&bytes).map_err(|error| damaged(error.to_string()))?;
    let base = Offset::new(batch.base_offset()).ok_or_else(|| damaged("a negative offset".into()))?;
    let offset_at = |delta: i32| base.checked_add(u64::from(delta.cast_unsigned()));
    if batch.max_timestamp() < timestamp_ms || offset_at(batch.last_offset_delta()).is_none_or(|last| last < from) {
        return Ok(());
    }
    if batch.is_log_append_time() {
        visit(base.max(from), batch.max_timestamp());
        return Ok(());
    }
    let records = inflate_batch(&batch, INFLATED_MAX_BYTES).map_err(|error| damaged(error.to_string()))?;
    for record in RecordIter::new(&records, batch.record_count()) {
        let record = record.map_err(|error| damaged(error.to_string()))?;
        let timestamp = batch.first_timestamp().wrapping_add(record.timestamp_delta);
        let Some(offset) = offset_at(record.offset_delta) else { continue };
        if timestamp >= timestamp_ms && offset >= from && !visit(offset, timestamp) {
            return Ok(());
        }
    }
    Ok(())
}
