//! Reading ahead: whoever reads on from where a read ended has the next blocks loading already.
//!
//! A read is taken for sequential if it begins where an earlier one ended. Then as much again as it was given is loaded
//! behind it, without anyone waiting, so that a consumer that catches up is held up by its own pace and not by GETs.

use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::State;
use quick_cache::sync::Cache;

use super::ReadRequest;
use super::locate::{EXTENTS_PER_PARTITION_MAX, Wanted, pace_at};

/// Ends of reads that are remembered; a reader beyond so many others is not recognised.
const ENDS_MAX: usize = 16_384;
/// Most bytes loaded ahead of one partition's reader.
const AHEAD_MAX_BYTES: u64 = 8 << 20;

/// Where the latest reads ended.
#[derive(Debug)]
pub(super) struct Prefetch {
    ends: Cache<(TopicPartition, Offset), ()>,
}

impl Prefetch {
    pub(super) fn new() -> Self {
        Self { ends: Cache::new(ENDS_MAX) }
    }

    /// Notes where a read ended, and tells whether it had begun where another ended.
    pub(super) fn moves_on(&self, request: &ReadRequest, end: Offset) -> bool {
        let is_sequential = self.ends.get(&(request.partition, request.offset)).is_some();
        self.ends.insert((request.partition, end), ());
        is_sequential
    }
}

/// The extents behind what sequential readers were given, of each its partition, where it ended and how many bytes it had:
/// as many bytes again, but at least two extents.
pub(super) fn ahead(state: &State, readers: &[(TopicPartition, Offset, u64)]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for &(partition, end, given) in readers {
        let Some(log) = state.log(partition) else { continue };
        let pace = pace_at(log, end);
        let enough = given.min(AHEAD_MAX_BYTES);
        let mut bytes = 0;
        // From the extent in which the read ended, which the reader still needs if it ended inside.
        for (number, extent) in log.extents(end).take(EXTENTS_PER_PARTITION_MAX).enumerate() {
            if number >= 2 && bytes >= enough {
                break;
            }
            bytes += u64::from(extent.length);
            wanted.push(Wanted { extent, leader_epoch: log.leader_epoch(), pace });
        }
    }
    wanted
}
