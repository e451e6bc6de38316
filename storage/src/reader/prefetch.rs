//! Reading ahead: whoever reads on from where a read ended has the next segments loading already.
//!
//! A read is taken for sequential if it begins where an earlier one ended, or at the start of the log. Once such a reader has
//! read 80 % of a segment, or so much that the next read may leave it, the two behind it are loaded side by side, without
//! anyone waiting, so that a consumer that catches up is held up by its own pace and not by GETs.

use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::State;
use quick_cache::sync::Cache;

use super::ReadRequest;
use super::locate::{EXTENTS_PER_PARTITION_MAX, Wanted, bytes_from, pace_at};

/// Ends of reads that are remembered; a reader beyond so many others is not recognised.
const ENDS_MAX: usize = 16_384;
/// Segments loaded ahead, at least.
const SEGMENTS: usize = 2;
/// Where segments are small, as many of them as hold this many times what the reader was given.
const GIVEN_TIMES: u64 = 2;
/// Most bytes loaded ahead of one partition's reader, unless two segments are more.
const AHEAD_MAX_BYTES: u64 = 8 << 20;
/// Part of a segment that is left when those behind it are loaded, percent.
const LEFT_PERCENT: u64 = 20;

/// Where the latest reads ended.
#[derive(Debug)]
pub(super) struct Prefetch {
    ends: Cache<(TopicPartition, Offset), ()>,
}

/// A sequential reader, after a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadOn {
    pub(super) partition: TopicPartition,
    /// Where it will read on.
    pub(super) end: Offset,
    /// Bytes it was given.
    pub(super) given: u64,
}

impl Prefetch {
    pub(super) fn new() -> Self {
        Self { ends: Cache::new(ENDS_MAX) }
    }

    /// Notes where a read ended, and tells whether it had begun where another ended, or at the start of the log.
    pub(super) fn moves_on(&self, request: &ReadRequest, log_start: Offset, end: Offset) -> bool {
        // Not taken out: several readers may be at one place.
        let is_sequential = self.ends.get(&(request.partition, request.offset)).is_some();
        self.ends.insert((request.partition, end), ());
        is_sequential || request.offset == log_start
    }
}

/// What to have loaded for readers that read on.
pub(super) fn ahead(state: &State, readers: &[ReadOn]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for &ReadOn { partition, end, given } in readers {
        let Some(log) = state.log(partition) else { continue };
        let (pace, leader_epoch) = (pace_at(log, end), log.leader_epoch());
        let enough = (given * GIVEN_TIMES).min(AHEAD_MAX_BYTES);
        let (mut segments, mut bytes) = (0, 0);
        for extent in log.extents(end).take(EXTENTS_PER_PARTITION_MAX) {
            if segments >= SEGMENTS && bytes >= enough {
                break;
            }
            wanted.push(Wanted { extent, leader_epoch, pace });
            if extent.base < end {
                // The last read ended inside: its rest is still needed, but it is not one of those behind.
                let left = bytes_from(&extent, end);
                if left > given && left * 100 > u64::from(extent.length) * LEFT_PERCENT {
                    break;
                }
            } else {
                segments += 1;
                bytes += u64::from(extent.length);
            }
        }
    }
    wanted
}
