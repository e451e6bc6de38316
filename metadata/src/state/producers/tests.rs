use proptest::prelude::*;

use super::*;

fn stamp(id: i64, epoch: i16, base_sequence: i32) -> ProducerStamp {
    ProducerStamp { id: ProducerId(id), epoch, base_sequence, transactional: false }
}

fn offset(value: i64) -> Offset {
    Offset::new(value).unwrap()
}

/// Judges, and remembers what is next.
fn append(producers: &mut Producers, stamp: ProducerStamp, records: u32, base: i64) -> Result<Verdict, Refusal> {
    let verdict = producers.judge(stamp, records)?;
    if verdict == Verdict::Next {
        producers.remember(stamp, records, offset(base), base * 10, base);
    }
    Ok(verdict)
}

#[test]
fn an_unknown_producer_may_start_anywhere_but_not_below_zero() {
    let producers = Producers::default();
    assert_eq!(producers.judge(stamp(1, 5, 77), 1), Ok(Verdict::Next));
    assert_eq!(producers.judge(stamp(1, 5, -1), 1), Err(Refusal::OutOfOrderSequence));
}

#[test]
fn t5_an_old_epoch_is_fenced_and_a_new_one_starts_at_zero() {
    let mut producers = Producers::default();
    append(&mut producers, stamp(1, 3, 0), 10, 0).unwrap();
    assert_eq!(producers.judge(stamp(1, 2, 10), 1), Err(Refusal::InvalidProducerEpoch));
    assert_eq!(producers.judge(stamp(1, 4, 10), 1), Err(Refusal::OutOfOrderSequence));
    assert_eq!(append(&mut producers, stamp(1, 4, 0), 10, 10), Ok(Verdict::Next));
    // The window of the old epoch is gone: the same sequences are a repetition of the new epoch's batch only.
    assert_eq!(producers.iter().next().unwrap().window().len(), 1);
    assert!(matches!(producers.judge(stamp(1, 4, 0), 10), Ok(Verdict::Duplicate(batch)) if batch.base == offset(10)));
}

#[test]
fn a_repetition_must_match_both_ends_of_the_batch() {
    let mut producers = Producers::default();
    append(&mut producers, stamp(1, 0, 0), 10, 0).unwrap();
    for records in [9, 11] {
        assert_eq!(producers.judge(stamp(1, 0, 0), records), Err(Refusal::OutOfOrderSequence));
    }
}

#[test]
fn sequences_wrap_from_the_maximum_to_zero() {
    assert_eq!(last_sequence(i32::MAX, 1), i32::MAX);
    assert_eq!(last_sequence(i32::MAX, 2), 0);
    assert_eq!(last_sequence(i32::MAX - 1, 5), 2);
    assert_eq!(last_sequence(0, 0), 0);
    let mut producers = Producers::default();
    append(&mut producers, stamp(1, 0, i32::MAX - 4), 5, 0).unwrap();
    assert_eq!(producers.judge(stamp(1, 0, 1), 1), Err(Refusal::OutOfOrderSequence));
    assert_eq!(append(&mut producers, stamp(1, 0, 0), 1, 5), Ok(Verdict::Next));
}

#[test]
fn past_the_cap_the_least_recently_active_is_forgotten() {
    let mut producers = Producers::default();
    let cap = i64::try_from(PRODUCERS_PER_PARTITION_MAX).unwrap();
    for id in 0..cap {
        // The two oldest are 17 and 23; of equals the smaller id goes first.
        let now_ms = if id == 17 || id == 23 { 5 } else { 10 + id };
        producers.remember(stamp(id, 0, 0), 1, offset(id), -1, now_ms);
    }
    producers.remember(stamp(cap, 0, 0), 1, offset(cap), -1, 99_999);
    producers.remember(stamp(-5, 0, 0), 1, offset(cap), -1, 99_999);
    let ids: Vec<i64> = producers.iter().map(|p| p.id().0).collect();
    assert_eq!(ids.len(), PRODUCERS_PER_PARTITION_MAX);
    assert!(!ids.contains(&17) && !ids.contains(&23));
    assert!(ids.is_sorted() && ids[0] == -5);
}

#[test]
fn idle_producers_expire_and_active_ones_stay() {
    let mut producers = Producers::default();
    producers.remember(stamp(1, 0, 0), 1, offset(0), -1, 1_000);
    producers.remember(stamp(2, 0, 0), 1, offset(1), -1, 1_500);
    producers.expire(2_000, 1_000);
    assert_eq!(producers.iter().count(), 2, "idle for exactly the limit is not longer than it");
    producers.expire(2_001, 1_000);
    assert_eq!(producers.iter().map(|p| p.id().0).collect::<Vec<_>>(), [2]);
}

/// What a client does next: mostly the right thing.
#[derive(Debug, Clone)]
enum Step {
    Next { records: u32 },
    Repeat { back: usize },
    Gap { skip: u32 },
    NewEpoch { starts_at_zero: bool },
    OldEpoch,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..20).prop_map(|records| Step::Next { records }),
        2 => (0usize..9).prop_map(|back| Step::Repeat { back }),
        1 => (1u32..20).prop_map(|skip| Step::Gap { skip }),
        1 => any::<bool>().prop_map(|starts_at_zero| Step::NewEpoch { starts_at_zero }),
        1 => Just(Step::OldEpoch),
    ]
}

/// A sequence number as it would be if it never wrapped, on the wire.
fn wrapped(sequence: u64) -> i32 {
    i32::try_from(sequence % (1 << 31)).unwrap()
}

proptest! {
    /// T1: against a model that remembers every batch and never wraps.
    #[test]
    fn t1_the_window_agrees_with_a_model(start in 0u64..60, steps in prop::collection::vec(step(), 1..80)) {
        let mut producers = Producers::default();
        let mut epoch = 0i16;
        // Close below the wrap, so that most runs cross it.
        let mut next = (1u64 << 31) - start;
        let mut history: Vec<(u64, u32, i64)> = Vec::new();
        let mut end = 0i64;
        for step in steps {
            match step {
                Step::Next { records } => {
                    prop_assert_eq!(append(&mut producers, stamp(7, epoch, wrapped(next)), records, end), Ok(Verdict::Next));
                    history.push((next, records, end));
                    next += u64::from(records);
                    end += i64::from(records);
                }
                Step::Repeat { back } if back < history.len() => {
                    let (sequence, records, base) = history[history.len() - 1 - back];
                    let verdict = producers.judge(stamp(7, epoch, wrapped(sequence)), records);
                    if back < PRODUCER_WINDOW_BATCHES {
                        let found = matches!(verdict, Ok(Verdict::Duplicate(b)) if b.base == offset(base) && b.max_timestamp == base * 10);
                        prop_assert!(found, "{:?}", verdict);
                    } else {
                        prop_assert_eq!(verdict, Err(Refusal::OutOfOrderSequence));
                    }
                }
                Step::Gap { skip } if !history.is_empty() => {
                    let verdict = producers.judge(stamp(7, epoch, wrapped(next + u64::from(skip))), 1);
                    prop_assert_eq!(verdict, Err(Refusal::OutOfOrderSequence));
                }
                Step::NewEpoch { starts_at_zero: true } if !history.is_empty() => {
                    epoch += 1;
                    prop_assert_eq!(append(&mut producers, stamp(7, epoch, 0), 3, end), Ok(Verdict::Next));
                    history = vec![(0, 3, end)];
                    next = 3;
                    end += 3;
                }
                Step::NewEpoch { starts_at_zero: false } if !history.is_empty() => {
                    let verdict = producers.judge(stamp(7, epoch + 1, 1), 1);
                    prop_assert_eq!(verdict, Err(Refusal::OutOfOrderSequence));
                }
                Step::OldEpoch if !history.is_empty() => {
                    let verdict = producers.judge(stamp(7, epoch - 1, wrapped(next)), 1);
                    prop_assert_eq!(verdict, Err(Refusal::InvalidProducerEpoch));
                }
                Step::Repeat { .. } | Step::Gap { .. } | Step::NewEpoch { .. } | Step::OldEpoch => {}
            }
        }
    }
}
