//! Which part of a log to compact, and whether. Pure.
//!
//! What was compacted before is told by its extents: they are sparse, and stand at the log's beginning. The rest is dirty, up
//! to what is too young. The log's last extent is left alone, as Kafka leaves the active segment: so a log never ends in a gap.
//!
//! Source: Kafka's `LogCleanerManager.cleanableOffsets`, `grabFilthiestCompactedLog`, `maxCompactionDelay`.

use metadata::model::extent::Extent;
use metadata::model::offset::Offset;
use metadata::model::topic_config::Compaction;

/// What is to be compacted; not nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cleaning {
    /// Compacted before, and the dirty extents behind it; all neighbours in the log.
    pub(super) extents: Vec<Extent>,
    /// How many of them were compacted before.
    pub(super) clean: usize,
}

/// An extent of the log and when its object was committed, ms.
pub(super) type Dated = (Extent, i64);

/// The part of a log to compact now, of all its extents; `None` if there is nothing, or it is not yet worth it.
pub(super) fn plan(extents: &[Dated], last_stable: Offset, config: &Compaction, now_ms: i64) -> Option<Cleaning> {
    let (_, closed) = extents.split_last()?;
    let clean = closed.iter().take_while(|(extent, _)| extent.sparse).count();
    let oldest_young_ms = now_ms.saturating_sub(config.min_lag_ms);
    let may_be_cleaned = |(extent, committed_ms): &&Dated| {
        let is_young = config.min_lag_ms > 0 && time_of(extent, *committed_ms) > oldest_young_ms;
        extent.end <= last_stable && !is_young
    };
    let dirty = closed[clean..].iter().take_while(may_be_cleaned).count();
    if dirty == 0 {
        return None;
    }
    let bytes = |extents: &[Dated]| extents.iter().map(|(extent, _)| u128::from(extent.length)).sum::<u128>();
    let (clean_bytes, dirty_bytes) = (bytes(&closed[..clean]), bytes(&closed[clean..clean + dirty]));
    let is_filthy = dirty_bytes * 1_000_000 > u128::from(config.dirty_ratio_ppm) * (clean_bytes + dirty_bytes);
    let (first, committed_ms) = &closed[clean];
    let is_due = time_of(first, *committed_ms).min(*committed_ms) < now_ms.saturating_sub(config.max_lag_ms);
    (is_filthy || is_due)
        .then(|| Cleaning { extents: closed[..clean + dirty].iter().map(|(extent, _)| *extent).collect(), clean })
}

/// The time of the newest record; of records without timestamps, when they were committed.
fn time_of(extent: &Extent, committed_ms: i64) -> i64 {
    if extent.max_timestamp >= 0 { extent.max_timestamp } else { committed_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{batch_of, extent_of};

    const NOW: i64 = 1_000_000;

    fn config() -> Compaction {
        Compaction { min_lag_ms: 0, max_lag_ms: i64::MAX, dirty_ratio_ppm: 500_000, delete_retention_ms: 0 }
    }

    /// Extents of ten offsets each: bytes, time, whether compacted.
    fn log(extents: &[(u32, i64, bool)]) -> Vec<Dated> {
        let one = extent_of(0, &batch_of(1, 1));
        let extent = |(number, &(length, max_timestamp, sparse)): (i64, &(u32, i64, bool))| {
            let at = |offset| Offset::new(offset).unwrap();
            let (base, end) = (at(number * 10), at(number * 10 + 10));
            (Extent { base, end, length, max_timestamp, sparse, ..one }, 500)
        };
        (0..).zip(extents).map(extent).collect()
    }

    /// How many extents are to be compacted, and how many of them were before.
    fn planned(extents: &[(u32, i64, bool)], config: &Compaction) -> Option<(usize, usize)> {
        let cleaning = plan(&log(extents), Offset::new(i64::MAX).unwrap(), config, NOW);
        cleaning.map(|cleaning| (cleaning.extents.len(), cleaning.clean))
    }

    #[test]
    fn a_log_is_compacted_when_enough_of_it_is_dirty_but_for_its_last_extent() {
        let (clean, dirty) = ((100, 1, true), (100, 1, false));
        assert_eq!(planned(&[], &config()), None);
        assert_eq!(planned(&[dirty], &config()), None);
        assert_eq!(planned(&[dirty, dirty], &config()), Some((1, 0)));
        assert_eq!(planned(&[clean, dirty, dirty], &config()), None, "half is not more than half");
        assert_eq!(planned(&[clean, dirty, dirty, dirty], &config()), Some((3, 1)));
        assert_eq!(planned(&[clean, clean, dirty], &config()), None);
        let always = Compaction { dirty_ratio_ppm: 0, ..config() };
        assert_eq!(planned(&[clean, clean, clean, dirty, dirty], &always), Some((4, 3)));
    }

    #[test]
    fn young_records_wait_and_old_ones_do_not() {
        let lag = Compaction { min_lag_ms: 100, ..config() };
        let at = |time| (100, time, false);
        assert_eq!(planned(&[at(NOW - 200), at(NOW - 100), at(NOW - 99), at(5), at(NOW)], &lag), Some((2, 0)));
        assert_eq!(planned(&[at(-1), at(-1), at(NOW)], &lag), Some((2, 0)), "as old as their objects");
        let due = Compaction { max_lag_ms: 100, ..config() };
        let clean = (10_000, 1, true);
        assert_eq!(planned(&[clean, at(NOW - 101), at(NOW)], &due), Some((2, 1)));
        assert_eq!(planned(&[clean, at(NOW), at(NOW)], &Compaction { max_lag_ms: NOW - 500, ..due }), None);
    }

    #[test]
    fn g5_what_a_transaction_may_still_change_is_left_alone() {
        let dirty = (100, 1, false);
        let cleaning = plan(&log(&[dirty; 5]), Offset::new(25).unwrap(), &config(), NOW).unwrap();
        assert_eq!(cleaning.extents.len(), 2);
    }
}
