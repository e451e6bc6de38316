//! From extents to ranges: which GETs to make. Pure.

use std::ops::Range;

use metadata::model::extent::{Extent, ObjectId};

/// Extents of one object with no more than this between them are read by one GET, bytes: what travels in the time that
/// another request would cost.
pub(super) const JOIN_GAP_BYTES: u64 = 256 << 10;
/// A joined range is no longer than this, bytes; beyond it, ranges side by side are faster. One extent may be longer.
pub(super) const JOINED_MAX_BYTES: u64 = 8 << 20;

/// One GET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangePlan {
    /// From where.
    pub object: ObjectId,
    /// Which of its bytes.
    pub range: Range<u64>,
    /// Numbers of the extents it brings, in order of their position.
    pub extents: Vec<usize>,
}

/// Groups extents by object and joins those that lie near each other, up to `joined_max` bytes. Every extent is in exactly one
/// range.
pub fn plan(extents: &[Extent], joined_max: u64) -> Vec<RangePlan> {
    let mut order: Vec<usize> = (0..extents.len()).collect();
    order.sort_unstable_by_key(|&number| (extents[number].object, extents[number].position));
    let mut ranges: Vec<RangePlan> = Vec::new();
    for number in order {
        let extent = &extents[number];
        let (from, until) = (extent.position, extent.position + u64::from(extent.length));
        let near = |last: &&mut RangePlan| {
            last.object == extent.object
                && from <= last.range.end.saturating_add(JOIN_GAP_BYTES)
                && until.max(last.range.end) - last.range.start <= joined_max
        };
        match ranges.last_mut().filter(near) {
            Some(last) => {
                last.range.end = last.range.end.max(until);
                last.extents.push(number);
            }
            None => ranges.push(RangePlan { object: extent.object, range: from..until, extents: vec![number] }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use metadata::model::offset::Offset;
    use proptest::prelude::*;

    use super::*;
    use crate::sample::object;

    fn extent(counter: u64, position: u64, length: u32) -> Extent {
        let end = Offset::ZERO.checked_add(1).unwrap();
        Extent { base: Offset::ZERO, end, object: object(counter), position, length, max_timestamp: 0, sparse: false }
    }

    #[test]
    fn near_extents_share_a_get_and_far_ones_do_not() {
        let extents = [
            extent(2, 0, 10),
            extent(1, 100 + JOIN_GAP_BYTES, 10),
            extent(1, 90, 10),
            extent(1, 111 + 2 * JOIN_GAP_BYTES, 10),
        ];
        let ranges = plan(&extents, JOINED_MAX_BYTES);
        assert_eq!(ranges.len(), 3);
        assert_eq!((ranges[0].range.clone(), &ranges[0].extents[..]), (90..110 + JOIN_GAP_BYTES, &[2, 1][..]));
        assert_eq!((&ranges[1].extents[..], ranges[2].object), (&[3][..], object(2)));
    }

    #[test]
    fn a_hundred_partitions_of_one_segment_are_one_get() {
        let extents: Vec<_> = (0..100).map(|n| extent(1, 8 + n * 1_000, 1_000)).collect();
        assert_eq!(plan(&extents, JOINED_MAX_BYTES).len(), 1);
    }

    proptest! {
        #[test]
        fn every_extent_is_in_exactly_one_range_and_no_range_is_too_long(
            places in proptest::collection::vec((0_u64..3, 0_u64..40_000_000, 1_u32..10_000_000), 0..60)
        ) {
            let extents: Vec<_> = places.into_iter().map(|(o, p, l)| extent(o, p, l)).collect();
            let ranges = plan(&extents, JOINED_MAX_BYTES);
            let mut seen = vec![0; extents.len()];
            for range in &ranges {
                for &number in &range.extents {
                    let e = &extents[number];
                    seen[number] += 1;
                    prop_assert_eq!(e.object, range.object);
                    prop_assert!(range.range.start <= e.position);
                    prop_assert!(e.position + u64::from(e.length) <= range.range.end);
                }
                let length = range.range.end - range.range.start;
                prop_assert!(length <= JOINED_MAX_BYTES || range.extents.len() == 1);
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
