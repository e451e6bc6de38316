//! Every row of "what a batch gets", one input each.

use bytes::{Bytes, BytesMut};
use metadata::model::batch::{BatchView, ProducerStamp, seal};
use metadata::model::ids::ProducerId;
use metadata::model::topic_config::{TargetCodec, TopicConfig};
use proptest::prelude::*;
use storage::codec::compression::{Codec, inflate};
use storage::codec::records::RecordsBuilder;

use super::*;

const NOW: i64 = 1_700_000_000_000;

fn config() -> TopicConfig {
    TopicConfig::resolve(|_| None)
}

fn check_with(bytes: &Bytes, config: &TopicConfig, version: i16) -> Result<ValidBatch, InvalidBatch> {
    validate(Some(bytes), Rules { config, now_ms: NOW, version })
}

fn check(bytes: &Bytes) -> Result<ValidBatch, InvalidBatch> {
    check_with(bytes, &config(), 13)
}

fn code(bytes: &Bytes) -> ErrorCode {
    check(bytes).unwrap_err().code
}

fn batch() -> RecordsBuilder {
    RecordsBuilder::new().record(NOW, Some(b"k1"), Some(b"v1")).record(NOW + 5, None, None)
}

/// A valid batch with some header bytes changed and the checksum renewed.
fn changed(at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&batch().build()[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    seal(&mut bytes);
    bytes.freeze()
}

#[test]
fn good_batches_pass_untouched() {
    for codec in Codec::ALL {
        let bytes = batch().codec(codec).build();
        let valid = check(&bytes).unwrap();
        assert_eq!(valid.bytes, bytes, "{codec}");
        assert_eq!(valid.bytes.as_ptr(), bytes.as_ptr(), "not even copied");
        assert_eq!((valid.summary.records, valid.summary.max_timestamp), (2, NOW + 5));
        assert_eq!(valid.append_time_ms, None);
    }
}

#[test]
fn the_stamp_is_told() {
    let stamp = ProducerStamp { id: ProducerId(7), epoch: 1, base_sequence: 3, transactional: false };
    assert_eq!(check(&batch().stamp(stamp).build()).unwrap().summary.stamp, Some(stamp));
}

#[test]
fn nothing_more_than_one_or_not_v2_is_invalid() {
    assert_eq!(
        validate(None, Rules { config: &config(), now_ms: NOW, version: 13 }).unwrap_err().code,
        ErrorCode::InvalidRecord
    );
    assert_eq!(code(&Bytes::new()), ErrorCode::InvalidRecord);
    let one = batch().build();
    assert_eq!(code(&Bytes::from([&one[..], &one[..]].concat())), ErrorCode::InvalidRecord);
    let mut old = one.to_vec();
    old[16] = 1;
    assert_eq!(code(&old[..40].to_vec().into()), ErrorCode::InvalidRecord, "old ones may be this short");
    assert_eq!(code(&old.into()), ErrorCode::InvalidRecord);
    assert_eq!(code(&one.slice(..one.len() - 1)), ErrorCode::CorruptMessage);
}

#[test]
fn headers_that_lie_are_invalid() {
    assert_eq!(code(&changed(0, &1_i64.to_be_bytes())), ErrorCode::InvalidRecord, "base offset");
    assert_eq!(code(&changed(57, &0_i32.to_be_bytes())), ErrorCode::InvalidRecord, "no records");
    assert_eq!(code(&changed(57, &(-1_i32).to_be_bytes())), ErrorCode::InvalidRecord, "negative count");
    assert_eq!(code(&changed(23, &7_i32.to_be_bytes())), ErrorCode::InvalidRecord, "last offset delta");
    assert_eq!(code(&changed(43, &9_i64.to_be_bytes())), ErrorCode::InvalidRecord, "producer id without sequence");
    assert_eq!(code(&changed(21, &0b10_0000_i16.to_be_bytes())), ErrorCode::InvalidRecord, "control");
    let both = [&3_i32.to_be_bytes()[..], &2_i32.to_be_bytes()[..]];
    let mut bytes = BytesMut::from(&batch().build()[..]);
    bytes[57..61].copy_from_slice(both[0]);
    bytes[23..27].copy_from_slice(both[1]);
    seal(&mut bytes);
    assert_eq!(code(&bytes.freeze()), ErrorCode::InvalidRecord, "fewer records than said");
    let mut bytes = BytesMut::from(&batch().build()[..]);
    bytes[57..61].copy_from_slice(&1_i32.to_be_bytes());
    bytes[23..27].copy_from_slice(&0_i32.to_be_bytes());
    seal(&mut bytes);
    assert_eq!(code(&bytes.freeze()), ErrorCode::InvalidRecord, "more records than said");
}

#[test]
fn the_checksum_is_held_against_the_bytes() {
    let mut bytes = batch().build().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(code(&bytes.into()), ErrorCode::CorruptMessage);
}

#[test]
fn size_comes_before_the_checksum() {
    let mut bytes = batch().build().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let bytes = Bytes::from(bytes);
    let small = TopicConfig { max_message_bytes: u32::try_from(bytes.len()).unwrap() - 1, ..config() };
    assert_eq!(check_with(&bytes, &small, 13).unwrap_err().code, ErrorCode::MessageTooLarge);
    let exact = TopicConfig { max_message_bytes: u32::try_from(bytes.len()).unwrap(), ..config() };
    assert_eq!(
        check_with(&bytes, &exact, 13).unwrap_err().code,
        ErrorCode::CorruptMessage,
        "the limit itself is allowed"
    );
}

#[test]
fn codecs_are_known_and_old_enough() {
    assert_eq!(code(&changed(21, &5_i16.to_be_bytes())), ErrorCode::UnsupportedCompressionType);
    let zstd = batch().codec(Codec::Zstd).build();
    assert_eq!(check_with(&zstd, &config(), 6).unwrap_err().code, ErrorCode::UnsupportedCompressionType);
    assert!(check_with(&zstd, &config(), 7).is_ok());
}

#[test]
fn a_bomb_is_invalid_and_stays_small() {
    let zeros = vec![0_u8; INFLATED_BATCH_BYTES + 1];
    let bytes = RecordsBuilder::new().codec(Codec::Zstd).record(NOW, None, Some(&zeros)).build();
    assert!(bytes.len() < 100_000);
    assert_eq!(code(&bytes), ErrorCode::InvalidRecord);
}

#[test]
fn timestamps_outside_the_range_name_their_records() {
    let late = NOW + 3_600_001;
    let bytes = RecordsBuilder::new().record(NOW, None, None).record(late, None, None).build();
    let refused = check(&bytes).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidTimestamp);
    assert_eq!(refused.records.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    let narrow = TopicConfig { timestamp_before_max_ms: 10, ..config() };
    let old = RecordsBuilder::new().record(NOW - 11, None, None).build();
    assert_eq!(check_with(&old, &narrow, 13).unwrap_err().code, ErrorCode::InvalidTimestamp);
    let edge = RecordsBuilder::new().record(NOW - 10, None, None).build();
    assert!(check_with(&edge, &narrow, 13).is_ok());
}

/// A time that goes round the end is judged as what readers will see, not as the end.
#[test]
fn timestamps_go_round_the_end() {
    let round = RecordsBuilder::new().record(i64::MIN + 10, None, None).record(i64::MAX, None, None).build();
    let refused = check(&round).unwrap_err();
    assert_eq!((refused.code, refused.records.len(), refused.records[0].0), (ErrorCode::InvalidTimestamp, 1, 1));
}

/// A producer may claim that its batch has the broker's time. The claim goes, so the records' own times are judged and told.
#[test]
fn a_claim_of_append_time_is_not_kept() {
    let claiming = batch().append_time(NOW + 1).build();
    let valid = check(&claiming).unwrap();
    let view = BatchView::first(&valid.bytes).unwrap();
    assert!(view.crc_is_valid() && !view.is_log_append_time());
    assert_eq!((view.max_timestamp(), valid.summary.max_timestamp), (NOW + 5, NOW + 5));
    let late = RecordsBuilder::new().record(NOW + 3_600_001, None, None).append_time(NOW).build();
    assert_eq!(code(&late), ErrorCode::InvalidTimestamp);
}

#[test]
fn append_time_is_stamped_before_the_put() {
    let stamping = TopicConfig { log_append_time: true, ..config() };
    for codec in Codec::ALL {
        let old = RecordsBuilder::new().codec(codec).record(5, None, Some(b"v")).build();
        let valid = check_with(&old, &stamping, 13).unwrap();
        let view = BatchView::first(&valid.bytes).unwrap();
        assert!(view.crc_is_valid() && view.is_log_append_time(), "{codec}");
        assert_eq!((view.max_timestamp(), valid.summary.max_timestamp, valid.append_time_ms), (NOW, NOW, Some(NOW)));
    }
}

#[test]
fn a_wrong_maximum_timestamp_is_put_right() {
    let lying = changed(35, &(NOW + 99).to_be_bytes());
    let valid = check(&lying).unwrap();
    let view = BatchView::first(&valid.bytes).unwrap();
    assert!(view.crc_is_valid());
    assert_eq!((view.max_timestamp(), valid.summary.max_timestamp), (NOW + 5, NOW + 5));
}

#[test]
fn the_topics_codec_wins() {
    for (from, to) in [(Codec::None, 4), (Codec::Gzip, 3), (Codec::Lz4, 0), (Codec::Zstd, 2), (Codec::Snappy, 1)] {
        let wanting = TopicConfig { compression: TargetCodec::Number(to), ..config() };
        let sent = batch().codec(from).build();
        let valid = check_with(&sent, &wanting, 13).unwrap();
        let view = BatchView::first(&valid.bytes).unwrap();
        assert!(view.crc_is_valid());
        assert_eq!(view.codec(), to);
        let before = BatchView::first(&sent).unwrap();
        let inflated = inflate(from, before.records(), 1 << 20).unwrap();
        let after = inflate(Codec::of(&view).unwrap(), view.records(), 1 << 20).unwrap();
        assert_eq!(inflated, after);
        assert_eq!(valid.summary.length as usize, valid.bytes.len());
    }
}

proptest! {
    /// No bytes panic, and what passes is one whole batch with a valid checksum (P1).
    #[test]
    fn any_bytes_are_judged(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), flips in proptest::collection::vec((0_usize..200, any::<u8>()), 0..4), real in any::<bool>()) {
        if real {
            bytes = batch().build().to_vec();
            for (at, with) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = with;
                }
            }
            if bytes.len() > 61 {
                seal(&mut bytes);
            }
        }
        if let Ok(valid) = check(&Bytes::from(bytes)) {
            let view = BatchView::first(&valid.bytes).unwrap();
            prop_assert!(view.crc_is_valid());
            prop_assert_eq!(view.bytes().len(), valid.bytes.len());
        }
    }
}

#[test]
fn a_compacted_topic_takes_no_record_without_a_key() {
    let compacted = TopicConfig::resolve(|name| (name == "cleanup.policy").then_some("compact,delete"));
    let refused = check_with(&batch().build(), &compacted, 13).unwrap_err();
    assert_eq!((refused.code, refused.records.len(), refused.records[0].0), (ErrorCode::InvalidRecord, 1, 1));
    let keyed = RecordsBuilder::new().record(NOW, Some(b""), None).build();
    assert!(check_with(&keyed, &compacted, 13).is_ok(), "an empty key is one, and a tombstone is welcome");
}
