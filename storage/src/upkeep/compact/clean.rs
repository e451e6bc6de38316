//! One batch, compacted: which of its records stay. Pure.
//!
//! A batch that loses records keeps its base offset and its last one, its producer's stamp, its codec and its kind of time, as
//! in Kafka, so that those who read it go on at the same place. One that loses all of them goes away: what is known of its
//! producer stands in the state, not in the log, so no empty batch has to stay for its sequence.
//!
//! Tombstones: the first time one is seen by compaction its batch is given a horizon, now and `delete.retention.ms`; past that
//! it goes. The horizon stands where Kafka puts it (KIP-534), in place of the batch's first timestamp.
//!
//! Control batches and those of transactions are left as they are; their keys displace nothing.
//!
//! Source: Kafka's `Cleaner.shouldRetainRecord`, `MemoryRecords.filterTo`.

use bytes::Bytes;
use metadata::model::batch::BatchView;

use super::keymap::KeyMap;
use crate::codec::compression::Codec;
use crate::codec::records::{Record, RecordIter, RecordsBuilder};
use crate::codec::{CodecError, inflate_batch};

/// Most bytes a batch is inflated to; none that inflates to more was accepted.
const INFLATED_MAX_BYTES: usize = 256 << 20;

/// What a batch is cleaned by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) newest: &'a KeyMap,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
}

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cleaned {
    /// All of it stays as it is.
    Same,
    /// These bytes are left, and so many records went.
    Rebuilt(Bytes, u64),
    /// Nothing is left of so many records.
    Gone(u64),
}

/// Notes the keys of a batch, which stands at its final offset. Tells whether there was room; if not, none was noted.
pub(super) fn note_keys(batch: &BatchView<'_>, map: &mut KeyMap) -> Result<bool, CodecError> {
    if is_left_alone(batch) {
        return Ok(true);
    }
    if map.is_full_with(usize::try_from(batch.record_count()).unwrap_or(0)) {
        return Ok(false);
    }
    for record in RecordIter::new(&inflate_batch(batch, INFLATED_MAX_BYTES)?, batch.record_count()) {
        let record = record?;
        if let Some(key) = record.key {
            map.put(key, batch.base_offset() + i64::from(record.offset_delta));
        }
    }
    Ok(true)
}

/// Cleans a batch, which stands at its final offset.
pub(super) fn clean(batch: &BatchView<'_>, rules: Rules<'_>) -> Result<Cleaned, CodecError> {
    if is_left_alone(batch) {
        return Ok(Cleaned::Same);
    }
    let inflated = inflate_batch(batch, INFLATED_MAX_BYTES)?;
    let (mut kept, mut has_tombstones) = (Vec::new(), false);
    for record in RecordIter::new(&inflated, batch.record_count()) {
        let record = record?;
        if stays(&record, batch, rules) {
            has_tombstones |= record.value.is_none();
            kept.push(record);
        }
    }
    let gone = u64::try_from(batch.record_count()).unwrap_or(0) - kept.len() as u64;
    if kept.is_empty() {
        return Ok(Cleaned::Gone(gone));
    }
    let needs_horizon = has_tombstones && batch.delete_horizon_ms().is_none();
    if gone == 0 && !needs_horizon {
        return Ok(Cleaned::Same);
    }
    let horizon_ms = if needs_horizon {
        Some(rules.now_ms.saturating_add(rules.delete_retention_ms))
    } else {
        batch.delete_horizon_ms()
    };
    rebuild(batch, &kept, horizon_ms).map(|bytes| Cleaned::Rebuilt(bytes, gone))
}

fn is_left_alone(batch: &BatchView<'_>) -> bool {
    batch.is_control() || batch.is_transactional()
}

fn stays(record: &Record<'_>, batch: &BatchView<'_>, rules: Rules<'_>) -> bool {
    // There are such only from before the topic was compacted; Kafka drops them, too.
    let Some(key) = record.key else { return false };
    let offset = batch.base_offset() + i64::from(record.offset_delta);
    let is_newest = rules.newest.newest(key).is_none_or(|newest| newest <= offset);
    let is_over = || batch.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= rules.now_ms);
    is_newest && (record.value.is_some() || !is_over())
}

fn rebuild(batch: &BatchView<'_>, kept: &[Record<'_>], horizon_ms: Option<i64>) -> Result<Bytes, CodecError> {
    let mut builder = RecordsBuilder::new().codec(Codec::of(batch)?).base_offset(batch.base_offset());
    if let Some(stamp) = batch.stamp() {
        builder = builder.stamp(stamp);
    }
    if let Some(horizon_ms) = horizon_ms {
        builder = builder.delete_horizon(horizon_ms);
    }
    if batch.is_log_append_time() {
        builder = builder.append_time(batch.max_timestamp());
    }
    for record in kept {
        let timestamp = batch.first_timestamp().wrapping_add(record.timestamp_delta);
        builder.push(record.offset_delta, timestamp, record.key, record.value, record.headers.iter());
    }
    builder.last_offset_delta(batch.last_offset_delta()).try_build()
}

#[cfg(test)]
mod tests {
    use metadata::model::batch::ProducerStamp;
    use metadata::model::ids::ProducerId;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn map(newest: &[(&str, i64)]) -> KeyMap {
        let mut map = KeyMap::new(1 << 20);
        newest.iter().for_each(|(key, offset)| map.put(key.as_bytes(), *offset));
        map
    }

    fn rules(newest: &KeyMap, now_ms: i64) -> Rules<'_> {
        Rules { newest, now_ms, delete_retention_ms: HOUR_MS }
    }

    fn builder() -> RecordsBuilder {
        RecordsBuilder::new().base_offset(100)
    }

    fn cleaned(batch: &Bytes, rules: Rules<'_>) -> Cleaned {
        clean(&BatchView::first(batch).unwrap(), rules).unwrap()
    }

    /// Offset, timestamp, key and value of each record.
    fn records(batch: &[u8]) -> Vec<(i64, i64, String, Option<String>)> {
        let batch = BatchView::first(batch).unwrap();
        assert!(batch.crc_is_valid());
        let inflated = inflate_batch(&batch, 1 << 20).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let record = |r: Record<'_>| {
            let (offset, time) = (batch.base_offset() + i64::from(r.offset_delta), r.timestamp_delta);
            (offset, batch.first_timestamp() + time, text(r.key.unwrap_or(b"-")), r.value.map(text))
        };
        RecordIter::new(&inflated, batch.record_count()).map(|r| record(r.unwrap())).collect()
    }

    #[test]
    fn g5_the_newest_of_each_key_stays_where_it_was_in_every_codec() {
        let newest = map(&[("a", 102), ("b", 300)]);
        for codec in Codec::ALL {
            let stamp = ProducerStamp { id: ProducerId(7), epoch: 2, base_sequence: 40, transactional: false };
            let batch = builder().codec(codec).stamp(stamp);
            let batch = batch.record(5, Some(b"a"), Some(b"old")).record(6, Some(b"c"), Some(b"unknown"));
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", None)];
            let batch = batch.record_with_headers(7, Some(b"a"), Some(b"new"), headers);
            let batch = batch.record(9, Some(b"b"), Some(b"newer elsewhere")).build();
            let Cleaned::Rebuilt(left, 2) = cleaned(&batch, rules(&newest, 0)) else { panic!("{codec}") };
            let record = |offset, time, key: &str, value: &str| (offset, time, key.into(), Some(value.into()));
            assert_eq!(records(&left), [record(101, 6, "c", "unknown"), record(102, 7, "a", "new")]);
            let view = BatchView::first(&left).unwrap();
            assert_eq!((view.base_offset(), view.last_offset_delta(), view.record_count()), (100, 3, 2));
            assert_eq!((view.stamp(), Codec::of(&view), view.max_timestamp()), (Some(stamp), Ok(codec), 7));
            let inflated = inflate_batch(&view, 1 << 20).unwrap();
            let last = RecordIter::new(&inflated, 2).last().unwrap().unwrap();
            assert_eq!(last.headers.iter().collect::<Vec<_>>(), headers);
        }
    }

    #[test]
    fn what_is_whole_stays_the_same_bytes_and_what_is_old_goes() {
        let batch = builder().record(5, Some(b"a"), Some(b"1")).record(5, Some(b"b"), Some(b"2")).build();
        assert_eq!(cleaned(&batch, rules(&map(&[("a", 100), ("b", 101)]), 0)), Cleaned::Same);
        assert_eq!(cleaned(&batch, rules(&map(&[("a", 500), ("b", 101 + 1)]), 0)), Cleaned::Gone(2));
        let keyless = builder().values(5, ["x"]).build();
        assert_eq!(cleaned(&keyless, rules(&map(&[]), 0)), Cleaned::Gone(1));
    }

    #[test]
    fn g5_a_tombstone_stays_for_its_time_and_keeps_its_timestamp() {
        let newest = map(&[]);
        for append_time in [None, Some(77)] {
            let mut first = builder().record(50, Some(b"a"), None).record(60, Some(b"b"), Some(b"2"));
            if let Some(now) = append_time {
                first = first.append_time(now);
            }
            let Cleaned::Rebuilt(dated, 0) = cleaned(&first.build(), rules(&newest, 1_000)) else {
                panic!("no horizon")
            };
            let view = BatchView::first(&dated).unwrap();
            assert_eq!(view.delete_horizon_ms(), Some(1_000 + HOUR_MS));
            assert_eq!(view.max_timestamp(), append_time.unwrap_or(60));
            assert_eq!(records(&dated).iter().map(|r| r.1).collect::<Vec<_>>(), [50, 60]);
            assert_eq!(cleaned(&dated, rules(&newest, 999 + HOUR_MS)), Cleaned::Same);
            let Cleaned::Rebuilt(left, 1) = cleaned(&dated, rules(&newest, 1_000 + HOUR_MS)) else {
                panic!("it stays")
            };
            assert_eq!(records(&left), [(101, 60, "b".into(), Some("2".into()))]);
        }
    }

    #[test]
    fn g5_transactions_and_markers_are_left_alone() {
        let stamp = ProducerStamp { id: ProducerId(7), epoch: 2, base_sequence: 40, transactional: true };
        let of_transaction = builder().stamp(stamp).record(5, Some(b"a"), Some(b"1")).build();
        let marker = builder().control().record(5, Some(b"a"), Some(b"1")).build();
        let newest = map(&[("a", 500)]);
        for batch in [&of_transaction, &marker] {
            assert_eq!(cleaned(batch, rules(&newest, 0)), Cleaned::Same);
            let mut none = map(&[]);
            assert_eq!(note_keys(&BatchView::first(batch).unwrap(), &mut none), Ok(true));
            assert_eq!(none.newest(b"a"), None);
        }
    }

    #[test]
    fn keys_are_noted_by_whole_batches() {
        let batch = builder().record(5, Some(b"a"), Some(b"1")).record(5, Some(b"a"), None).build();
        let view = BatchView::first(&batch).unwrap();
        let mut newest = KeyMap::new(1);
        assert_eq!(note_keys(&view, &mut newest), Ok(true));
        assert_eq!(newest.newest(b"a"), Some(101));
        assert_eq!(note_keys(&view, &mut newest), Ok(false));
    }
}
