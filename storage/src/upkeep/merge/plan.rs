//! Which objects to merge with which. Pure.
//!
//! Objects have levels: what producers wrote is of level 0, and a merge of objects of one level gives one of the next. So a
//! byte is rewritten at most [`LEVELS`] times, and once where fresh objects fill the target together. Objects of a quarter of
//! the target or more are left alone, whatever their level, and so are those whose extents are long already.
//!
//! A merge costs one PUT and about one GET for each of its objects. It waits until there are enough of them: `objects_min` on
//! level 0, a quarter of that (at least two) above, or as many as fill the target. So the PUTs of merging are a few hundredths
//! of those of producing where objects are small, be there many or few, and at most a quarter where they are nearly too large
//! to be merged; what waits is fewer than `objects_min` fresh objects and half as many merged ones.
//!
//! Objects whose bytes are mostly dead (their other partitions' records were deleted) join the merges, for each such rewrite
//! moves at most a quarter of what it frees.

use metadata::model::extent::ObjectId;
use metadata::state::objects::ObjectRecord;

/// Times that a byte is merged, at most.
pub(super) const LEVELS: u32 = 3;
/// Objects of at least this part of the target are left alone.
const SMALL_PART: u64 = 4;
/// An object is mostly dead if no more than this part of it is referred to.
const DEAD_PART: u64 = 4;
/// Dead bytes that are worth a rewrite.
const DEAD_BYTES_MIN: u64 = 4 << 20;
/// Most extents that one merge replaces; keeps its command far below the journal's cap.
pub(super) const EXTENTS_MAX: u64 = 131_072;
/// Most objects of one merge.
const OBJECTS_MAX: usize = 4_096;

/// An object that something points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: ObjectId,
    /// Its whole size.
    pub(super) bytes: u64,
    /// Bytes that something points to.
    pub(super) referenced: u64,
    pub(super) extents: u32,
    pub(super) level: u32,
    pub(super) committed_ms: i64,
}

/// What merging is to reach.
#[derive(Debug, Clone, Copy)]
pub(in crate::upkeep) struct Sizes {
    /// Size of a merged object.
    pub(super) target_bytes: u64,
    /// Extents of this size on average are long.
    pub(super) long_extent_bytes: u64,
}

impl Sizes {
    /// Whether an object with so many bytes referred to is large enough to be left alone.
    pub(super) fn is_large(self, bytes: u64) -> bool {
        bytes >= self.target_bytes / SMALL_PART
    }
}

impl Candidate {
    pub(super) fn of(object: &ObjectRecord) -> Self {
        Self {
            id: object.id,
            bytes: object.bytes,
            referenced: object.referenced_bytes,
            extents: object.references,
            level: object.level,
            committed_ms: object.committed_ms,
        }
    }
}

/// Whether merging is done with an object, as it is now.
pub(in crate::upkeep) fn is_settled(object: &ObjectRecord, sizes: Sizes) -> bool {
    !settle_level(&mut Candidate::of(object), sizes)
}

/// What becomes one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) objects: Vec<ObjectId>,
    /// Level of the new object.
    pub(super) level: u32,
}

/// The merges to make, the oldest objects of each level first, so that neighbours in time become neighbours in an object.
pub(super) fn plan(mut candidates: Vec<Candidate>, sizes: Sizes, objects_min: usize) -> Vec<Group> {
    let target_bytes = sizes.target_bytes;
    candidates.retain_mut(|candidate| settle_level(candidate, sizes));
    candidates.sort_unstable_by_key(|candidate| (candidate.level, candidate.committed_ms, candidate.id));
    let mut groups = Vec::new();
    for of_level in candidates.chunk_by(|a, b| a.level == b.level) {
        let level = of_level[0].level;
        let enough = if level == 0 { objects_min } else { objects_min / 4 }.max(2);
        let mut rest = of_level;
        while rest.len() > 1 {
            let (count, is_full) = fill(rest, target_bytes);
            if count < 2 {
                rest = &rest[1..]; // an object of very many extents stays as it is
                continue;
            }
            if !is_full && count < enough {
                break;
            }
            let objects = rest[..count].iter().map(|candidate| candidate.id).collect();
            groups.push(Group { objects, level: level + 1 });
            rest = &rest[count..];
        }
    }
    groups
}

/// Whether the object is to be merged at all; one that is mostly dead may be merged once more.
fn settle_level(candidate: &mut Candidate, sizes: Sizes) -> bool {
    let dead = candidate.bytes.saturating_sub(candidate.referenced);
    let is_mostly_dead = candidate.referenced <= candidate.bytes / DEAD_PART && dead >= DEAD_BYTES_MIN;
    if is_mostly_dead {
        candidate.level = candidate.level.min(LEVELS - 1);
    }
    let is_long = candidate.referenced / u64::from(candidate.extents.max(1)) >= sizes.long_extent_bytes;
    let is_small = !sizes.is_large(candidate.referenced);
    candidate.level < LEVELS && is_small && (is_mostly_dead || !is_long)
}

/// How many of the first objects fit into one, and whether that one is full.
fn fill(candidates: &[Candidate], target_bytes: u64) -> (usize, bool) {
    let (mut bytes, mut extents) = (0, 0);
    for (number, candidate) in candidates.iter().enumerate() {
        bytes += candidate.referenced;
        extents += u64::from(candidate.extents);
        if bytes > target_bytes || extents > EXTENTS_MAX || number >= OBJECTS_MAX {
            return (number, true);
        }
    }
    (candidates.len(), false)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample::object;

    const TARGET: u64 = 64 << 20;
    const SIZES: Sizes = Sizes { target_bytes: TARGET, long_extent_bytes: 8 << 20 };

    fn fresh(counter: u64, bytes: u64) -> Candidate {
        Candidate {
            id: object(counter),
            bytes,
            referenced: bytes,
            extents: 10,
            level: 0,
            committed_ms: i64::try_from(counter).unwrap(),
        }
    }

    fn counts(groups: &[Group]) -> Vec<(usize, u32)> {
        groups.iter().map(|group| (group.objects.len(), group.level)).collect()
    }

    #[test]
    fn objects_of_long_extents_are_left_alone_unless_they_are_mostly_dead() {
        let sizes = Sizes { long_extent_bytes: 256 << 10, ..SIZES };
        let of = |extents, bytes, referenced| {
            (0..64).map(move |n| Candidate { bytes, referenced, extents, ..fresh(n, bytes) }).collect::<Vec<_>>()
        };
        assert_eq!(plan(of(4, 1 << 20, 1 << 20), sizes, 64), []);
        assert_eq!(counts(&plan(of(5, 1 << 20, 1 << 20), sizes, 64)), [(64, 1)]);
        assert_eq!(counts(&plan(of(4, 8 << 20, 1 << 20), sizes, 64)), [(64, 1)], "mostly dead");
    }

    #[test]
    fn small_objects_wait_for_one_another_and_large_ones_for_nobody() {
        let few: Vec<_> = (0..63).map(|n| fresh(n, 1_000)).collect();
        assert_eq!(plan(few, SIZES, 64), []);
        let enough: Vec<_> = (0..64).rev().map(|n| fresh(n, 1_000)).collect();
        let groups = plan(enough, SIZES, 64);
        assert_eq!(counts(&groups), [(64, 1)]);
        assert!(groups[0].objects.is_sorted(), "the oldest first");
        let large: Vec<_> = (0..100).map(|n| fresh(n, TARGET / 4)).collect();
        assert_eq!(plan(large, SIZES, 64), []);
        let filling: Vec<_> = (0..15).map(|n| fresh(n, 10 << 20)).collect();
        assert_eq!(counts(&plan(filling, SIZES, 64)), [(6, 1), (6, 1)], "the last three wait");
    }

    #[test]
    fn levels_are_not_mixed_and_end() {
        let of = |level| (0..16).map(move |n| Candidate { level, ..fresh(u64::from(level) * 100 + n, 1_000) });
        let groups = plan((0..=LEVELS).flat_map(of).collect(), SIZES, 64);
        assert_eq!(counts(&groups), [(16, 2), (16, 3)]);
    }

    #[test]
    fn what_is_mostly_dead_is_moved_out_of_its_object() {
        let dead = |n| Candidate { referenced: 1 << 20, level: LEVELS, ..fresh(n, TARGET) };
        let half = |n| Candidate { referenced: TARGET / 2, level: LEVELS, ..fresh(n, TARGET) };
        let groups = plan((0..16).map(dead).chain((20..50).map(half)).collect(), SIZES, 64);
        assert_eq!(counts(&groups), [(16, LEVELS)]);
    }

    #[test]
    fn a_merge_replaces_no_more_extents_than_a_command_holds() {
        let many = |n| Candidate { extents: 50_000, ..fresh(n, 1_000) };
        assert_eq!(counts(&plan((0..5).map(many).collect(), SIZES, 64)), [(2, 1), (2, 1)]);
        let huge = |n| Candidate { extents: 200_000, ..fresh(n, 1_000) };
        assert_eq!(plan((0..5).map(huge).collect(), SIZES, 64), []);
    }

    /// What a day of writing costs: PUTs and rewritten bytes of merging, against those of producing, and what is left.
    fn day(objects: u64, bytes: u64) -> (f64, f64, usize) {
        let mut live: BTreeMap<ObjectId, Candidate> = BTreeMap::new();
        let (mut next, mut puts, mut moved) = (1_000_000, 0, 0);
        for n in 0..objects {
            live.insert(object(n), fresh(n, bytes));
            for group in plan(live.values().copied().collect(), SIZES, 64) {
                let sources: Vec<_> = group.objects.iter().filter_map(|id| live.remove(id)).collect();
                let sum = sources.iter().map(|s| s.bytes).sum();
                let newest = sources.iter().map(|s| s.committed_ms).max().unwrap();
                next += 1;
                puts += 1;
                moved += sum;
                live.insert(object(next), Candidate { level: group.level, committed_ms: newest, ..fresh(next, sum) });
            }
        }
        (f64::from(puts) / objects as f64, moved as f64 / (objects * bytes) as f64, live.len())
    }

    #[test]
    fn a_byte_is_rewritten_three_times_at_most_and_puts_are_few() {
        // Objects, bytes of each, then what is allowed: merge PUTs per PUT, rewrites of a byte, objects left.
        for (objects, bytes, puts, rewrites, left) in [
            (8_640, 1_000, 0.02, 3.0, 110),
            (8_640, 100 << 10, 0.02, 2.3, 110),
            (2_000, 2 << 20, 0.04, 1.01, 100),
            (600, 10 << 20, 0.17, 1.01, 110),
            (200, 20 << 20, 0.0, 0.0, 200),
        ] {
            let (did_put, did_rewrite, are_left) = day(objects, bytes);
            let is_cheap = did_put <= puts && did_rewrite <= rewrites && are_left <= left;
            assert!(is_cheap, "{objects} x {bytes}: {did_put} PUTs, {did_rewrite} rewrites, {are_left} left");
        }
    }
}
