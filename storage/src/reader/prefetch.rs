//! Reading ahead: whoever reads on from where a read ended has the next segments loading already.
//!
//! A read is taken for sequential if it begins where an earlier one ended, or at the start of the log. Once such a reader has
//! read 80 % of a segment, or so much that the next read may leave it, the two behind it are loaded side by side, without
//! anyone waiting. The longer a reader reads on, the more is loaded ahead of it: twice as much as it has been given, up to a
//! cap, so that a consumer that catches up is held up by its own pace and not by GETs, and one that reads a little and leaves
//! costs little. More is begun when half of that is used up, so that what is waited for comes together and not one by one.
//! Readers share a part of the cache, so that what is loaded ahead is still there when it is wanted.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use metadata::model::extent::Extent;
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::State;
use metadata::state::log::Log;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::ReadRequest;
use super::locate::{EXTENTS_PER_PARTITION_MAX, Wanted, bytes_from, pace_at};
use crate::folds::Runs;

/// Ends of reads that are remembered; a reader beyond so many others is not recognised.
const ENDS_MAX: usize = 16_384;
/// Segments loaded ahead, at least, if the reader's share of the cache allows.
const SEGMENTS: usize = 2;
/// Where segments are small, as many of them as hold this many times what the reader was given last.
const GIVEN_TIMES: u64 = 2;
/// What is loaded ahead of a reader is this many times what it has been given in a row.
const RUN_TIMES: u64 = 2;
/// Most bytes loaded ahead of one reader.
const AHEAD_MAX_BYTES: u64 = 32 << 20;
/// Part of a segment that is left when those behind it are loaded, percent. Not asked of one that has read a whole one before.
const LEFT_PERCENT: u64 = 20;
/// What is loaded ahead of all readers together takes this part of the cache.
const CACHE_PART: u64 = 4;
/// A reader counts as one of those who share for so long after it has read.
const SHARES_FOR: Duration = Duration::from_secs(1);

/// Where the latest reads ended, and who reads on.
#[derive(Debug)]
pub(super) struct Prefetch {
    ends: Cache<(TopicPartition, Offset), Run>,
    sharing: Mutex<Sharing>,
    /// For all that is loaded ahead, bytes.
    bytes: u64,
}

/// What is known of a reader by where it ended.
#[derive(Debug, Clone, Copy, Default)]
struct Run {
    /// Bytes it has been given in a row.
    bytes: u64,
    /// Where what was begun to be loaded ahead of it ends.
    ahead: Offset,
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
    /// Up to where loads ahead of it were begun.
    pub(super) ahead: Offset,
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
        let Run { bytes, ahead } = before.unwrap_or_default();
        let run = bytes.saturating_add(given);
        self.ends.insert((request.partition, end), Run { bytes: run, ahead });
        let is_sequential = before.is_some() || request.offset == log_start;
        is_sequential.then_some(ReadOn { partition: request.partition, end, given, run, ahead })
    }

    /// Notes up to where loads ahead of readers are begun: the first `begun` of what was wanted.
    pub(super) fn note(&self, readers: &[ReadOn], wanted: &Ahead, begun: usize) {
        let mut from = 0;
        for (reader, &until) in readers.iter().zip(&wanted.until) {
            let begun = wanted.extents[from..until.min(begun).max(from)].last();
            let ahead = begun.map_or(reader.ahead, |last| last.extent.end);
            self.ends.insert((reader.partition, reader.end), Run { bytes: reader.run, ahead });
            from = until;
        }
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

/// What to have loaded for readers that read on.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) extents: Vec<Wanted>,
    /// For each reader, how many of them are wanted by it and by those before it.
    until: Vec<usize>,
}

/// What to have loaded, of each reader up to `share` bytes or twice what it was given last.
///
/// What is folded and not at hand is noted in `runs` as missing; it is gone on there once it has come.
pub(super) fn ahead(state: &State, readers: &[ReadOn], share: u64, runs: &mut Runs<'_>) -> Ahead {
    let mut wanted = Ahead::default();
    for reader in readers {
        if let Some(log) = state.log(reader.partition) {
            let (pace, leader_epoch) = (pace_at(log, reader.end), log.leader_epoch());
            let extents = of_one(log, reader, share, runs).into_iter();
            wanted.extents.extend(extents.map(|extent| Wanted { extent, leader_epoch, pace }));
        }
        wanted.until.push(wanted.extents.len());
    }
    wanted
}

/// The extents to be loaded ahead of one reader.
fn of_one(log: Log<'_>, reader: &ReadOn, share: u64, runs: &mut Runs<'_>) -> Vec<Extent> {
    let &ReadOn { end, given, run, ahead, .. } = reader;
    let most = share.max(given * GIVEN_TIMES).min(AHEAD_MAX_BYTES);
    let enough = (run * RUN_TIMES).max(given * GIVEN_TIMES).min(most);
    let (mut segments, mut bytes, mut begun) = (0, 0, 0);
    let mut missing: Vec<Extent> = Vec::new();
    for extent in runs.extents(log, end).map_while(Result::ok).take(EXTENTS_PER_PARTITION_MAX) {
        if bytes >= enough && (segments >= SEGMENTS || bytes >= most) {
            break;
        }
        let left = bytes_from(&extent, end);
        bytes += left;
        if extent.end <= ahead {
            begun = bytes;
        } else {
            missing.push(extent);
        }
        if extent.base >= end {
            segments += 1;
            continue;
        }
        // The last read ended inside: its rest is still needed, but it is not one of those behind.
        let is_far = left > given && left * 100 > u64::from(extent.length) * LEFT_PERCENT;
        if is_far && run < u64::from(extent.length) {
            break;
        }
    }
    if begun * 2 > bytes {
        missing.clear(); // later, together with others
    }
    missing
}
