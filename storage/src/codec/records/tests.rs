//! Records and batches: bytes by hand, round trips, and damage of every kind.

use metadata::model::batch::{BatchIter, stamp_append_time};
use metadata::model::ids::ProducerId;
use proptest::prelude::*;

use super::*;
use crate::codec::recompress;

const LIMIT: usize = 1 << 20;

type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone, PartialEq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<OwnedHeader>,
}

fn build(codec: Codec, records: &[Owned]) -> Bytes {
    let mut builder = RecordsBuilder::new().codec(codec);
    for (delta, record) in records.iter().enumerate() {
        let headers = record.headers.iter().map(|(k, v)| (&k[..], v.as_deref()));
        builder.push(delta as i32, record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    }
    builder.build()
}

fn read(batch: &BatchView<'_>) -> Result<Vec<Owned>, CodecError> {
    let records = inflate_batch(batch, LIMIT)?;
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    RecordIter::new(&records, batch.record_count())
        .map(|record| {
            let record = record?;
            Ok(Owned {
                timestamp: batch.first_timestamp().wrapping_add(record.timestamp_delta),
                key: own(record.key),
                value: own(record.value),
                headers: record.headers.iter().map(|(k, v)| (k.to_vec(), own(v))).collect(),
            })
        })
        .collect()
}

fn any_record() -> impl Strategy<Value = Owned> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4);
    (any::<i64>(), proptest::option::of(bytes()), proptest::option::of(bytes()), headers)
        .prop_map(|(timestamp, key, value, headers)| Owned { timestamp, key, value, headers })
}

#[test]
fn a_batch_has_the_bytes_that_kafka_gives_it() {
    // One record "v" at timestamp 5, worked out by hand from the format of DefaultRecordBatch.
    let batch = RecordsBuilder::new().record(5, None, Some(b"v")).build();
    let records = [14, 0, 0, 0, 1, 2, b'v', 0];
    assert_eq!(batch.len(), 61 + records.len());
    assert_eq!(&batch[..17], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 57, 255, 255, 255, 255, 2]);
    assert_eq!(&batch[21..27], &[0, 0, 0, 0, 0, 0]); // attributes, last offset delta
    assert_eq!(&batch[27..43], &[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5]);
    assert_eq!(&batch[43..57], &[255; 14]); // no producer
    assert_eq!(&batch[57..], &[&[0, 0, 0, 1][..], &records[..]].concat()[..]);
    assert!(BatchView::first(&batch).unwrap().crc_is_valid());
}

#[test]
fn stamps_and_marks_stand_in_the_header() {
    let stamp = ProducerStamp { id: ProducerId(9), epoch: 3, base_sequence: 70, transactional: true };
    let batch = RecordsBuilder::new().stamp(stamp).base_offset(40).control().values(1, ["a", "b"]).build();
    let view = BatchView::first(&batch).unwrap();
    assert_eq!(view.stamp(), Some(stamp));
    assert!(view.is_control() && view.is_transactional() && !view.is_log_append_time());
    assert_eq!((view.base_offset(), view.last_offset_delta(), view.record_count()), (40, 1, 2));
}

#[test]
fn gaps_of_compaction_are_kept() {
    let mut builder = RecordsBuilder::new();
    builder.push(3, 10, Some(b"k"), Some(b"v"), []);
    builder.push(7, 11, Some(b"l"), None, []);
    let batch = builder.last_offset_delta(9).build();
    let view = BatchView::first(&batch).unwrap();
    assert_eq!((view.last_offset_delta(), view.record_count()), (9, 2));
    let deltas: Vec<_> = RecordIter::new(view.records(), 2).map(|r| r.unwrap().offset_delta).collect();
    assert_eq!(deltas, [3, 7]);
}

#[test]
fn more_or_fewer_records_than_declared_are_an_error() {
    let batch = RecordsBuilder::new().values(1, ["a", "b", "c"]).build();
    let records = BatchView::first(&batch).unwrap().records();
    for (declared, found) in [(2, 3), (4, 3), (0, 1), (-1, 1)] {
        let last = RecordIter::new(records, declared).last();
        assert_eq!(last, Some(Err(CodecError::Count { declared, found })));
    }
    assert!(RecordIter::new(records, 3).all(|r| r.is_ok()));
    assert_eq!(RecordIter::new(&[], 0).count(), 0);
}

#[test]
fn malformed_records_are_named() {
    let reason = |bytes: &[u8]| match RecordIter::new(bytes, 1).next() {
        Some(Err(CodecError::Record { index: 0, why })) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&[1]), "negative length");
    assert_eq!(reason(&[100, 0]), "longer than the batch");
    assert_eq!(reason(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80]), "a number has too many bytes");
    assert_eq!(reason(&[0x80]), "a number is cut");
    assert_eq!(reason(&[16, 0, 0, 0, 1, 2, b'v', 0, 0]), "shorter than its length says");
    assert_eq!(reason(&[14, 0, 0, 0, 1, 10, b'v', 0]), "a field leaves the record");
    assert_eq!(reason(&[14, 0, 0, 0, 1, 2, b'v', 1]), "negative header count");
    assert_eq!(reason(&[16, 0, 0, 0, 1, 2, b'v', 2, 1]), "header without a key");
    // Two thousand million headers in no bytes.
    assert_eq!(reason(&[22, 0, 0, 0, 1, 1, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F, 0]), "a number is cut");
}

#[test]
fn timestamps_are_found_where_they_are() {
    for codec in Codec::ALL {
        let mut batch = RecordsBuilder::new()
            .codec(codec)
            .record(100, None, Some(b"a"))
            .record(300, None, Some(b"b"))
            .record(200, None, Some(b"c"))
            .build()
            .to_vec();
        let found = |bytes: &[u8], at| lookup_timestamp(&BatchView::first(bytes).unwrap(), at, LIMIT).unwrap();
        assert_eq!(found(&batch, 0), Some((0, 100)));
        assert_eq!(found(&batch, 101), Some((1, 300)));
        assert_eq!(found(&batch, 250), Some((1, 300)));
        assert_eq!(found(&batch, 301), None);
        stamp_append_time(&mut batch, 777);
        assert_eq!(found(&batch, 301), Some((0, 777)));
    }
}

#[test]
fn recompression_changes_nothing_but_the_codec() {
    let stamp = ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: 5, transactional: true };
    let value = vec![b'x'; 5000];
    let original = RecordsBuilder::new().codec(Codec::Gzip).stamp(stamp).values(42, [&value, &value]).build();
    let original = BatchView::first(&original).unwrap();
    for codec in Codec::ALL {
        let changed = recompress(&original, codec, None, LIMIT).unwrap();
        let views: Vec<_> = BatchIter::new(&changed).collect::<Result<_, _>>().unwrap();
        assert_eq!(views.len(), 1);
        assert!(views[0].crc_is_valid());
        assert_eq!(views[0].codec(), codec.number());
        assert_eq!(views[0].stamp(), Some(stamp));
        assert_eq!(views[0].bytes()[23..HEADER_LEN], original.bytes()[23..HEADER_LEN]);
        assert_eq!(read(&views[0]), read(&original));
    }
}

#[test]
fn an_unknown_codec_is_refused() {
    let mut batch = RecordsBuilder::new().values(1, ["a"]).build().to_vec();
    batch[22] = 5;
    let view = BatchView::first(&batch).unwrap();
    assert_eq!(inflate_batch(&view, LIMIT), Err(CodecError::UnknownCodec(5)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn records_round_trip(records in proptest::collection::vec(any_record(), 1..20), codec in 0_usize..5) {
        let batch = build(Codec::ALL[codec], &records);
        let view = BatchView::first(&batch).unwrap();
        prop_assert!(view.crc_is_valid());
        prop_assert_eq!(view.max_timestamp(), records.iter().map(|r| r.timestamp).max().unwrap().max(-1));
        prop_assert_eq!(view.last_offset_delta() + 1, view.record_count());
        prop_assert_eq!(read(&view).unwrap(), records);
    }

    #[test]
    fn any_bytes_give_an_answer(noise in proptest::collection::vec(any::<u8>(), 0..200), declared in -2_i32..50) {
        let answers: Vec<_> = RecordIter::new(&noise, declared).collect();
        prop_assert!(answers.len() <= noise.len() + 1);
        prop_assert!(answers.iter().rev().skip(1).all(Result::is_ok));
    }

    #[test]
    fn a_damaged_batch_gives_an_answer(
        records in proptest::collection::vec(any_record(), 1..5), at in 0_usize..1000, bits in 1_u8..,
    ) {
        for codec in Codec::ALL {
            let mut batch = build(codec, &records).to_vec();
            let at = 61 + at % (batch.len() - 61);
            batch[at] ^= bits;
            let view = BatchView::first(&batch).unwrap();
            prop_assert!(!view.crc_is_valid());
            let _ = read(&view);
            let _ = lookup_timestamp(&view, 5, LIMIT);
        }
    }
}
