use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::command::{FoldExtents, NewExtent, PartitionFold, PartitionSwap, SwapExtents, UnfoldExtents};
use crate::golden;

fn topic() -> impl Strategy<Value = TopicId> {
    any::<(u64, u64)>().prop_map(|(high, low)| TopicId(Uuid::from_u64_pair(high, low)))
}

fn partition() -> impl Strategy<Value = TopicPartition> {
    (topic(), any::<i32>()).prop_map(|(topic, partition)| TopicPartition { topic, partition })
}

fn offset() -> impl Strategy<Value = Offset> {
    prop_oneof![0..1_000i64, 0..=i64::MAX].prop_map(|value| Offset::new(value).unwrap())
}

fn object() -> impl Strategy<Value = ObjectId> {
    any::<(u64, u64)>().prop_map(|(session, counter)| ObjectId { session: SessionId(session), counter })
}

fn batch() -> impl Strategy<Value = BatchSummary> {
    let stamp = any::<(i64, i16, i32, bool)>().prop_map(|(id, epoch, base_sequence, transactional)| ProducerStamp {
        id: ProducerId(id),
        epoch,
        base_sequence,
        transactional,
    });
    (any::<(u32, u32, i64)>(), prop::option::of(stamp))
        .prop_map(|((records, length, max_timestamp), stamp)| BatchSummary { records, length, max_timestamp, stamp })
}

fn committed() -> impl Strategy<Value = (TopicPartition, CommittedOffset)> {
    let fields = (partition(), offset(), any::<i32>(), ".{0,9}", any::<i64>(), any::<Option<i64>>());
    fields.prop_map(|(tp, offset, leader_epoch, metadata, commit_ms, expire_ms)| {
        (tp, CommittedOffset { offset, leader_epoch, metadata, commit_ms, expire_ms })
    })
}

fn open_session() -> impl Strategy<Value = Command> {
    let listener =
        (".{0,5}", ".{0,5}", any::<u16>()).prop_map(|(name, host, port)| AdvertisedListener { name, host, port });
    let fields = (any::<i32>(), vec(listener, 0..3), prop::option::of(".{0,5}"), any::<u32>(), ".{0,9}", any::<bool>());
    fields.prop_map(|(node, listeners, rack, feature_level, cluster_id, fence_others)| {
        Command::OpenSession(OpenSession {
            node: NodeId(node),
            listeners,
            rack,
            feature_level,
            cluster_id,
            fence_others,
        })
    })
}

fn topic_command() -> impl Strategy<Value = Command> {
    let create = (topic(), "[a-z.]{3,9}", any::<i32>(), vec((".{0,5}", ".{0,5}"), 0..3));
    prop_oneof![
        create.prop_map(|(id, name, partitions, configs)| {
            Command::CreateTopic(CreateTopic { id, name: format!("t{name}").parse().unwrap(), partitions, configs })
        }),
        topic().prop_map(|topic| Command::DeleteTopic { topic }),
        (topic(), any::<i32>()).prop_map(|(topic, total)| Command::CreatePartitions { topic, total }),
        (topic(), vec((".{0,5}", prop::option::of(".{0,5}")), 0..3))
            .prop_map(|(topic, changes)| Command::SetTopicConfigs { topic, changes }),
        vec((partition(), offset()), 0..3).prop_map(|starts| Command::AdvanceLogStart { starts }),
    ]
}

fn commit_segment() -> impl Strategy<Value = Command> {
    let part = (partition(), any::<u64>(), vec(batch(), 0..4))
        .prop_map(|(partition, position, batches)| PartitionCommit { partition, position, batches });
    (object(), any::<u64>(), vec(part, 0..4)).prop_map(|(object, object_bytes, partitions)| {
        Command::CommitSegment(CommitSegment { object, object_bytes, partitions })
    })
}

fn swap_extents() -> impl Strategy<Value = Command> {
    let new = (offset(), offset(), any::<(u64, u32, i64, bool)>()).prop_map(|(base, end, rest)| {
        let (position, length, max_timestamp, sparse) = rest;
        NewExtent { base, end, position, length, max_timestamp, sparse }
    });
    // Few objects, named often.
    let objects = vec(object(), 1..3);
    let old = vec((any::<prop::sample::Index>(), any::<u64>()), 0..5);
    let part = (partition(), offset(), offset(), old, vec(new, 0..3));
    (object(), any::<(u64, u32)>(), objects, vec(part, 0..4)).prop_map(|(object, numbers, objects, parts)| {
        let part = |(partition, base, end, old, new): (_, _, _, Vec<(prop::sample::Index, u64)>, _)| {
            let old = old.into_iter().map(|(at, position)| (*at.get(&objects), position)).collect();
            PartitionSwap { partition, base, end, old, new }
        };
        let (object_bytes, level) = numbers;
        let partitions = parts.into_iter().map(part).collect();
        Command::SwapExtents(SwapExtents { object, object_bytes, level, partitions })
    })
}

fn fold_command() -> impl Strategy<Value = Command> {
    let run = (partition(), any::<(u32, u64, u32, [u8; 32])>()).prop_map(|(partition, numbers)| {
        let (extents, position, length, hash) = numbers;
        PartitionFold { partition, extents, position, length, hash }
    });
    let unfold = (prop::option::of(partition()), object(), any::<u64>(), vec(any::<u8>(), 0..20));
    prop_oneof![
        (object(), any::<u64>(), vec(run, 0..4)).prop_map(|(object, object_bytes, runs)| {
            Command::FoldExtents(FoldExtents { object, object_bytes, runs })
        }),
        unfold.prop_map(|(partition, object, position, run)| {
            Command::UnfoldExtents(UnfoldExtents { partition, object, position, run })
        }),
    ]
}

fn group_command() -> impl Strategy<Value = Command> {
    let save = (".{0,9}", any::<u64>(), ".{0,9}", any::<i32>(), any::<bool>(), vec(any::<u8>(), 0..20));
    prop_oneof![
        save.prop_map(|(group, expected_version, protocol_type, generation, is_empty, record)| {
            Command::SaveGroup(SaveGroup { group, expected_version, protocol_type, generation, is_empty, record })
        }),
        (".{0,9}", any::<u64>()).prop_map(|(group, expected_version)| Command::DeleteGroup { group, expected_version }),
        (".{0,9}", any::<Option<u64>>(), vec(committed(), 0..4)).prop_map(|(group, expected_version, offsets)| {
            Command::CommitOffsets(CommitOffsets { group, expected_version, offsets })
        }),
        (".{0,9}", vec(partition(), 0..4)).prop_map(|(group, partitions)| Command::DeleteOffsets { group, partitions }),
    ]
}

fn other_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::CloseSession),
        Just(Command::LeaveSoon),
        Just(Command::MarkState),
        any::<(u64, u64)>().prop_map(|(at, hash)| Command::SayStateHash { at: Lsn(at), hash }),
        any::<(u64, u64)>()
            .prop_map(|(session, lsn)| Command::ExpireSession { session: SessionId(session), last_seen: Lsn(lsn) }),
        any::<u32>().prop_map(|count| Command::AllocateProducerIds { count }),
        vec(object(), 0..4).prop_map(|objects| Command::ForgetObjects { objects }),
        any::<(i64, i64)>().prop_map(|(producer_idle_ms, offsets_retention_ms)| Command::ExpireState {
            producer_idle_ms,
            offsets_retention_ms
        }),
        any::<u32>().prop_map(|level| Command::RaiseFeatureLevel { level }),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    let command = prop_oneof![
        open_session(),
        topic_command(),
        commit_segment(),
        swap_extents(),
        fold_command(),
        group_command(),
        other_command()
    ];
    let fields = (any::<(u64, u64, i64)>(), vec(command, 0..6), any::<Option<u64>>());
    fields.prop_map(|((session, sequence, time_ms), commands, follows)| Entry {
        follows: follows.map(Lsn),
        session: SessionId(session),
        sequence,
        time_ms,
        commands,
    })
}

proptest! {
    #[test]
    fn entries_round_trip(entry in entry()) {
        prop_assert_eq!(decode_entry(&encode_entry(&entry)), Ok(entry));
    }

    /// L7: whatever bit flips, it is an error, never another entry.
    #[test]
    fn l7_a_flipped_bit_is_found(entry in entry(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = encode_entry(&entry);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(decode_entry(&bytes).is_err());
    }

    #[test]
    fn l7_a_cut_entry_is_found(entry in entry(), at in any::<prop::sample::Index>()) {
        let bytes = encode_entry(&entry);
        prop_assert!(decode_entry(&bytes[..at.index(bytes.len())]).is_err());
    }

    /// P1: the checksum keeps noise away from the body's decoder, so noise is given to it directly.
    #[test]
    fn p1_decoding_is_total(bytes in vec(any::<u8>(), 0..200)) {
        drop(decode_entry(&bytes));
        drop(decode_entry_body(&bytes));
    }

    /// P1: near misses get further into the decoder than noise does.
    #[test]
    fn p1_decoding_damaged_bodies_is_total(entry in entry(), damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut body = encode_entry(&entry).split_off(FRAME_LEN);
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        if let Ok(decoded) = decode_entry_body(&body) {
            prop_assert_eq!(decode_entry(&encode_entry(&decoded)), Ok(decoded));
        }
    }
}

#[test]
fn a_newer_version_is_refused_clearly() {
    let mut bytes = encode_entry(&golden::entry());
    bytes[0] = 3;
    let error = decode_entry(&bytes).unwrap_err();
    assert_eq!(error, CodecError::Newer { what: "journal entry", found: 3, known: 2 });
    assert_eq!(error.class(), ErrorClass::Rejected);
    assert_eq!(error.to_string(), "journal entry has format version 3, this build knows up to 2: upgrade it");
}

#[test]
fn a_command_of_a_later_build_is_refused_not_skipped() {
    // Field 4 (a command) that holds only field 99, of length 0.
    let body = [&[0x22, 0x03][..], &[0x9a, 0x06, 0x00]].concat();
    assert_eq!(decode_entry(&frame(ENTRY_VERSION, body)), Err(CodecError::UnknownCommand));
}

#[test]
fn corruption_is_of_its_class() {
    for bytes in [&[][..], &[1, 0, 0], &[0; 6], &[1, 0, 9, 9, 9, 9, 1]] {
        assert_eq!(decode_entry(bytes).unwrap_err().class(), ErrorClass::Corrupt, "{bytes:?}");
    }
}

#[test]
fn d1_the_bytes_of_a_swap_are_pinned() {
    golden::check("entry_swap_v1.hex", &encode_entry(&golden::swap_entry()));
    assert_eq!(decode_entry(&golden::read("entry_swap_v1.hex")), Ok(golden::swap_entry()));
}

#[test]
fn d1_the_bytes_of_the_commands_of_level_1_are_pinned() {
    golden::check("entry_level_1_v1.hex", &encode_entry(&golden::level_1_entry()));
    assert_eq!(decode_entry(&golden::read("entry_level_1_v1.hex")), Ok(golden::level_1_entry()));
}

#[test]
fn d1_the_bytes_of_the_commands_of_level_2_are_pinned() {
    golden::check("entry_level_2_v1.hex", &encode_entry(&golden::level_2_entry()));
    assert_eq!(decode_entry(&golden::read("entry_level_2_v1.hex")), Ok(golden::level_2_entry()));
}

#[test]
fn d1_the_bytes_of_an_entry_are_pinned() {
    golden::check("entry_v1.hex", &encode_entry(&golden::entry()));
    let follower = Entry { follows: Some(Lsn(300)), sequence: 2, ..golden::entry() };
    golden::check("entry_v2.hex", &encode_entry(&follower));
    assert_eq!(decode_entry(&golden::read("entry_v2.hex")), Ok(follower));
    assert_eq!(decode_entry(&golden::read("entry_v1.hex")), Ok(golden::entry()));
}
