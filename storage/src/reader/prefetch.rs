//! Reading ahead: whoever reads on from where a read ended has the next segments loading already.
//!
//! A read is taken for sequential if it begins where an earlier one ended, or at the start of the log. Once such a reader has
//! read 80 % of a segment, or so much that the next read may leave it, the two behind it are loaded side by side, without
//! anyone waiting. The longer a reader reads on, the more is loaded ahead of it: as much again as it has been given, up to a
//! cap, so that a consumer that catches up is held up by its own pace and not by GETs, and one that reads a little and leaves
//! costs little. Readers share a part of the cache, so that what is loaded ahead is still there when it is wanted.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::State;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::ReadRequest;
use super::locate::{EXTENTS_PER_PARTITION_MAX, Wanted, bytes_from, pace_at};

/// Ends of reads that are remembered; a reader beyond so many others is not recognised.
const ENDS_MAX: usize = 16_384;
/// Segments loaded ahead, at least, if the reader's share of the cache allows.
const SEGMENTS: usize = 2;
/// Where segments are small, as many of them as hold this many times what the reader was given last.
const GIVEN_TIMES: u64 = 2;
/// Most bytes loaded ahead of one reader.
const AHEAD_MAX_BYTES: u64 = 16 << 20;
/// Part of a segment that is left when those behind it are loaded, percent. Not asked of one that has read a whole one before.
const LEFT_PERCENT: u64 = 20;
/// What is loaded ahead of all readers together takes this part of the cache.
const CACHE_PART: u64 = 4;
/// A reader counts as one of those who share for so long after it has read.
const SHARES_FOR: Duration = Duration::from_secs(1);

/// Where the latest reads ended, and who reads on.
#[derive(Debug)]
pub(super) struct Prefetch {
    /// How many bytes a reader that ended there has been given in a row.
    ends: Cache<(TopicPartition, Offset), u64>,
    sharing: Mutex<Sharing>,
    /// For all that is loaded ahead, bytes.
    bytes: u64,
}

/// Partitions that someone reads on in, in this second and in the one before it.
#[derive(Debug)]
struct Sharing {
    since: Instant,
    now: HashSet<TopicPartition>,
    before: usize,
}

/// A sequential reader, after a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadOn {
    pub(super) partition: TopicPartition,
    /// Where it will read on.
    pub(super) end: Offset,
    /// Bytes it was given.
    pub(super) given: u64,
    /// Bytes it has been given in a row, these included.
    pub(super) run: u64,
}

impl Prefetch {
    /// For readers with a block cache of so many bytes.
    pub(super) fn new(cache_bytes: usize) -> Self {
        let sharing = Sharing { since: Instant::now(), now: HashSet::new(), before: 0 };
        Self { ends: Cache::new(ENDS_MAX), sharing: Mutex::new(sharing), bytes: cache_bytes as u64 / CACHE_PART }
    }

    /// Notes where a read ended that was given so many bytes. If it had begun where another ended, or at the start of the
    /// log, it is one of a sequential reader.
    pub(super) fn read_on(&self, request: &ReadRequest, log_start: Offset, end: Offset, given: u64) -> Option<ReadOn> {
        // Not taken out: several readers may be at one place.
        let before = self.ends.get(&(request.partition, request.offset));
        let run = before.unwrap_or(0).saturating_add(given);
        self.ends.insert((request.partition, end), run);
        let is_sequential = before.is_some() || request.offset == log_start;
        is_sequential.then_some(ReadOn { partition: request.partition, end, given, run })
    }

    /// How many bytes may be loaded ahead of each of these readers.
    pub(super) fn share(&self, readers: &[ReadOn]) -> u64 {
        let mut sharing = self.sharing.lock().expect("nothing panics while it holds the readers");
        if sharing.since.elapsed() > SHARES_FOR {
            *sharing = Sharing { since: Instant::now(), before: sharing.now.len(), now: HashSet::new() };
        }
        let room = ENDS_MAX.saturating_sub(sharing.now.len());
        sharing.now.extend(readers.iter().take(room).map(|reader| reader.partition));
        self.bytes / sharing.now.len().max(sharing.before).max(1) as u64
    }
}

/// What to have loaded for readers that read on, each up to `share` bytes or twice what it was given last.
pub(super) fn ahead(state: &State, readers: &[ReadOn], share: u64) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for &ReadOn { partition, end, given, run } in readers {
        let Some(log) = state.log(partition) else { continue };
        let (pace, leader_epoch) = (pace_at(log, end), log.leader_epoch());
        let most = share.max(given * GIVEN_TIMES).min(AHEAD_MAX_BYTES);
        let enough = run.max(given * GIVEN_TIMES).min(most);
        let (mut segments, mut bytes) = (0, 0);
        for extent in log.extents(end).take(EXTENTS_PER_PARTITION_MAX) {
            let is_enough = bytes >= enough && (segments >= SEGMENTS || bytes >= most);
            if is_enough {
                break;
            }
            wanted.push(Wanted { extent, leader_epoch, pace });
            bytes += bytes_from(&extent, end);
            if extent.base < end {
                // The last read ended inside: its rest is still needed, but it is not one of those behind.
                let left = bytes_from(&extent, end);
                let is_far = left > given && left * 100 > u64::from(extent.length) * LEFT_PERCENT;
                if is_far && run < u64::from(extent.length) {
                    break;
                }
            } else {
                segments += 1;
            }
        }
    }
    wanted
}
