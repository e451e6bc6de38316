//! From offsets to extents: one look at the state for all partitions of a read, and another one when folded extents that were
//! missing are at hand.

use std::ops::Range;

use metadata::failpoint::bug_here;
use metadata::model::extent::Extent;
use metadata::model::offset::Offset;
use metadata::state::State;
use metadata::state::log::Log;
use metadata::state::log::fold::Part;

use super::ReadRequest;
use crate::error::ReadError;
use crate::folds::Runs;

/// Most extents of one partition in one read; the rest comes with the next.
pub(super) const EXTENTS_PER_PARTITION_MAX: usize = 256;

/// Whoever has no more than this before the end of a log, in extents and in bytes, reads the tail.
const TAIL_EXTENTS_MAX: usize = 32;
const TAIL_MAX_BYTES: u64 = 32 << 20;

/// How far behind a reader is; decides which lane and which part of the cache it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pace {
    /// Near the end of the log.
    Tail,
    /// Far from it.
    #[default]
    CatchUp,
}

/// An extent, the epoch to write into its batches, and for whom it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) extent: Extent,
    pub(super) leader_epoch: i32,
    pub(super) pace: Pace,
}

/// Where a partition's bytes are.
#[derive(Debug, Clone, Default)]
pub(super) struct Located {
    pub(super) high_watermark: Offset,
    pub(super) last_stable: Offset,
    pub(super) log_start: Offset,
    pub(super) leader_epoch: i32,
    /// In offset order; the first one holds the offset asked for, or is the next one after it.
    pub(super) extents: Vec<Extent>,
    pub(super) pace: Pace,
    pub(super) error: Option<ReadError>,
}

/// Looks all requests up. Extents are handed out in the order of the requests until `max_bytes` are, by estimate, reached;
/// the first partition with any gets at least one.
pub(super) fn locate(state: &State, requests: &[ReadRequest], max_bytes: usize, runs: &mut Runs<'_>) -> Vec<Located> {
    let mut left = max_bytes as u64;
    let mut nothing_yet = true;
    let mut located = Vec::with_capacity(requests.len());
    for request in requests {
        let Some(log) = state.log(request.partition) else {
            located.push(Located { error: Some(ReadError::UnknownPartition), ..Located::default() });
            continue;
        };
        let mut found = Located {
            high_watermark: log.high_watermark(),
            last_stable: log.last_stable(),
            log_start: log.log_start(),
            leader_epoch: log.leader_epoch(),
            extents: Vec::new(),
            pace: pace_at(log, request.offset),
            error: None,
        };
        if bug_here("reader::watermark_ahead") {
            found.high_watermark = found.high_watermark.checked_add(1).unwrap_or(found.high_watermark);
        }
        if request.offset < found.log_start || request.offset > found.high_watermark {
            found.error = Some(ReadError::OffsetOutOfRange);
            located.push(found);
            continue;
        }
        let limit = left.min(u64::from(request.max_bytes));
        let mut taken = 0;
        let mut extents = runs.extents_at_hand(log, request.offset).take(EXTENTS_PER_PARTITION_MAX);
        while taken < limit || nothing_yet {
            match extents.next() {
                Some(Ok(extent)) => {
                    taken += bytes_from(&extent, request.offset);
                    found.extents.push(extent);
                    nothing_yet = false;
                }
                Some(Err(error)) => {
                    found.error = Some(error);
                    taken = limit; // who comes next takes no part of this share
                    break;
                }
                None => break,
            }
        }
        drop(extents);
        left -= taken.min(limit);
        located.push(found);
    }
    located
}

impl Located {
    /// Its extents, as they are fetched.
    pub(super) fn wanted(&self) -> impl Iterator<Item = Wanted> {
        let (leader_epoch, pace) = (self.leader_epoch, self.pace);
        self.extents.iter().map(move |&extent| Wanted { extent, leader_epoch, pace })
    }
}

/// How far behind a reader at `offset` is.
pub(super) fn pace_at(log: Log<'_>, offset: Offset) -> Pace {
    let mut bytes = 0;
    for (number, part) in log.parts(offset).enumerate() {
        let Part::Extent(extent) = part else { return Pace::CatchUp };
        bytes += bytes_from(&extent, offset);
        if number >= TAIL_EXTENTS_MAX || bytes > TAIL_MAX_BYTES {
            return Pace::CatchUp;
        }
    }
    Pace::Tail
}

/// About how many bytes of an extent lie at or after an offset: exact if its records are of one size and none is missing.
pub(super) fn bytes_from(extent: &Extent, offset: Offset) -> u64 {
    share_from(extent.base..extent.end, extent.length.into(), offset)
}

/// The same of any part of a log.
pub(super) fn bytes_of(part: &Part<'_>, offset: Offset) -> u64 {
    match part {
        Part::Extent(extent) => bytes_from(extent, offset),
        Part::Folded(fold) => share_from(fold.base..fold.end, fold.bytes, offset),
    }
}

fn share_from(offsets: Range<Offset>, bytes: u64, from: Offset) -> u64 {
    let (all, wanted) = (offsets.end.since(offsets.start), offsets.end.since(from.max(offsets.start)));
    let share = u128::from(bytes) * u128::from(wanted) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).max(u64::from(wanted > 0))
}
