use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::class::{Classify, ErrorClass};
use crate::command::{NewExtent, PartitionSwap, SwapExtents};
use crate::golden;

/// A state with something of every kind: the golden entry, whose session ends with it, and a live session.
fn rich() -> State {
    let mut state = State::default();
    state.apply(Lsn(1), &golden::entry());
    let commands = vec![
        Command::OpenSession(OpenSession {
            listeners: vec![crate::command::AdvertisedListener { name: "L".into(), host: "h".into(), port: 1 }],
            rack: Some("r".into()),
            feature_level: 0,
            ..opening(4)
        }),
        create(2, "other", 1),
        segment(SessionId(4), 1, tp(2, 0), vec![stamped(0, 3), plain(0), plain(2)]),
        segment(SessionId(4), 2, tp(2, 1), vec![plain(1)]),
        segment(SessionId(4), 3, tp(2, 0), vec![plain(1)]),
        Command::AdvanceLogStart { starts: vec![(tp(2, 0), offset(4))] },
        commit_offset("store", None, tp(2, 0), 2),
    ];
    state.apply(
        Lsn(2),
        &Entry { session: SessionId(4), sequence: 1, time_ms: 1_700_000_001_000, commands, follows: None },
    );
    state
}

#[test]
fn the_golden_entry_takes_effect() {
    let mut state = State::default();
    let outcomes = state.apply(Lsn(1), &golden::entry()).outcomes;
    let refused: Vec<_> = outcomes.iter().filter(|o| matches!(o, Outcome::Refused(_))).cloned().collect();
    let expected = [Refusal::UnknownGroup, Refusal::FeatureLevel, Refusal::UnknownTopic].map(Outcome::Refused);
    assert_eq!(refused, expected);
}

#[test]
fn d1_the_bytes_of_a_snapshot_are_pinned() {
    let state = rich();
    golden::check("snapshot_v1.hex", &state.encode());
    let decoded = State::decode(&golden::read("snapshot_v1.hex")).unwrap();
    assert_eq!(decoded.hash(), state.hash());
}

/// The same with extents that were merged and compacted, which older builds must not read.
fn merged() -> State {
    let mut state = rich();
    let log = state.log(tp(2, 0)).unwrap();
    let old: Vec<_> = log.all_unfolded().collect();
    let (base, end) = (old[0].base, old[old.len() - 1].end);
    let new = |base, end, position, sparse| NewExtent { base, end, position, length: 9, max_timestamp: 5, sparse };
    let swap = PartitionSwap {
        partition: tp(2, 0),
        base,
        end,
        old: old.iter().map(|extent| (extent.object, extent.position)).collect(),
        new: vec![new(offset(3), offset(5), 8, true), new(old[old.len() - 1].base, end, 20, false)],
    };
    let object = ObjectId { session: SessionId(4), counter: 70 };
    let swap = SwapExtents { object, object_bytes: 99, level: 2, partitions: vec![swap] };
    let commands = vec![Command::SwapExtents(swap)];
    let entry = Entry { session: SessionId(4), sequence: 2, time_ms: 1_700_000_002_000, commands, follows: None };
    assert_eq!(state.apply(Lsn(3), &entry).outcomes, [Outcome::Swapped(vec![Ok(())])]);
    state
}

#[test]
fn d1_the_bytes_of_a_merged_snapshot_are_pinned() {
    let state = merged();
    golden::check("snapshot_v2.hex", &state.encode());
    let decoded = State::decode(&golden::read("snapshot_v2.hex")).unwrap();
    assert_eq!(decoded.hash(), state.hash());
    let extents = |state: &State| state.log(tp(2, 0)).unwrap().all_unfolded().collect::<Vec<_>>();
    assert_eq!(extents(&decoded), extents(&state));
    assert_eq!(extents(&decoded).iter().map(|extent| extent.sparse).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn d1_the_bytes_of_a_snapshot_with_a_leaving_session_are_pinned() {
    let mut state = merged();
    let commands = vec![Command::LeaveSoon];
    let entry = Entry { session: SessionId(4), sequence: 3, time_ms: 1_700_000_003_000, commands, follows: None };
    assert!(state.apply(Lsn(4), &entry).sessions);
    golden::check("snapshot_v3.hex", &state.encode());
    let decoded = State::decode(&golden::read("snapshot_v3.hex")).unwrap();
    assert_eq!(decoded.hash(), state.hash());
    assert!(decoded.sessions().get(SessionId(4)).unwrap().leaving);
}

/// The same with a fold in a log, and one that its log has let go of.
fn folded() -> State {
    let mut state = merged();
    let session = SessionId(4);
    let more = |counter, position| {
        let partition = PartitionCommit { partition: tp(2, 0), position, batches: vec![plain(2)] };
        let object = ObjectId { session, counter };
        Command::CommitSegment(CommitSegment { object, object_bytes: 2_000, partitions: vec![partition] })
    };
    let commands = vec![more(80, 8), more(81, 9), more(82, 10)];
    let entry = Entry { session, sequence: 3, time_ms: 1_700_000_004_000, commands, follows: None };
    state.apply(Lsn(state.applied().0 + 1), &entry);
    for (sequence, counter) in [(4, 90), (5, 91)] {
        let (fold, _) = folds::fold_of(&state, session, counter, &[(tp(2, 0), 2)]);
        let lsn = Lsn(state.applied().0 + 1);
        let commands = vec![Command::FoldExtents(fold)];
        let entry = Entry { session, sequence, time_ms: 1_700_000_005_000, commands, follows: None };
        assert_eq!(state.apply(lsn, &entry).outcomes, [Outcome::Swapped(vec![Ok(())])]);
    }
    let to = state.log(tp(2, 0)).unwrap().folds()[0].end;
    let commands = vec![Command::AdvanceLogStart { starts: vec![(tp(2, 0), to)] }];
    let entry = Entry { session, sequence: 6, time_ms: 1_700_000_006_000, commands, follows: None };
    state.apply(Lsn(state.applied().0 + 1), &entry);
    assert_eq!((state.log(tp(2, 0)).unwrap().folds().len(), state.objects().dropped().len()), (1, 1));
    state
}

#[test]
fn d1_the_bytes_of_a_folded_snapshot_are_pinned() {
    let state = folded();
    golden::check("snapshot_v4.hex", &state.encode());
    let decoded = State::decode(&golden::read("snapshot_v4.hex")).unwrap();
    assert_eq!(decoded.hash(), state.hash());
    assert_eq!(decoded.log(tp(2, 0)).unwrap().folds(), state.log(tp(2, 0)).unwrap().folds());
    assert!(decoded.objects().iter().eq(state.objects().iter()));
    assert!(decoded.objects().dropped().eq(state.objects().dropped()));
}

#[test]
fn a_newer_snapshot_is_refused_clearly() {
    let mut bytes = rich().encode();
    bytes[0] = 5;
    let error = State::decode(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "state snapshot has format version 5, this build knows up to 4: upgrade it");
    assert_eq!(error.class(), ErrorClass::Rejected);
}

#[test]
fn an_empty_body_is_no_state() {
    assert_eq!(State::decode_body(&[]).unwrap_err().class(), ErrorClass::Corrupt);
    assert_eq!(State::decode(&State::default().encode()).unwrap().hash(), State::default().hash());
}

#[test]
fn d1_the_hash_tells_states_apart() {
    let mut bed = Bed::new();
    let mut hashes = vec![bed.state.hash()];
    bed.topic(1, "t");
    hashes.push(bed.state.hash());
    bed.produce(tp(1, 0), vec![plain(1)]);
    hashes.push(bed.state.hash());
    bed.time(5);
    hashes.push(bed.state.hash());
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

proptest! {
    /// But for the number of the format, which stands before the checksum: a later one that is known says the same of these bytes.
    #[test]
    fn l7_a_flipped_bit_in_a_snapshot_is_found(at in any::<prop::sample::Index>(), bit in 0..8) {
        let state = rich();
        let mut bytes = state.encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        if let Ok(read) = State::decode(&bytes) {
            prop_assert!(at == 0 && read.hash() == state.hash());
        }
    }

    #[test]
    fn p1_decoding_a_state_is_total(bytes in vec(any::<u8>(), 0..300)) {
        drop(State::decode(&bytes));
        drop(State::decode_body(&bytes));
    }

    /// P1: a body damaged under an honest checksum is an error, or a state that applies and encodes without panic.
    #[test]
    fn p1_a_damaged_body_gives_an_error_or_a_sound_state(damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut body = folded().encode_body();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(mut state) = State::decode_body(&body) {
            let next = Lsn(state.applied().0.wrapping_add(1));
            if next > state.applied() {
                let commands = vec![
                    open(9),
                    segment(SessionId(77), 1, tp(2, 0), vec![stamped(3, 1), plain(1)]),
                    Command::DeleteTopic { topic: topic_id(2) },
                    Command::ExpireState { producer_idle_ms: 0, offsets_retention_ms: 0 },
                ];
                state.apply(next, &Entry { session: SessionId(77), sequence: 1, time_ms: 0, commands, follows: None });
            }
            prop_assert_eq!(State::decode_body(&state.encode_body()).unwrap().hash(), state.hash());
        }
    }
}
