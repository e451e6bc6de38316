use super::*;
use crate::model::extent::Extent;
use crate::model::ids::SessionId;
use crate::state::log::{Log, Place};

fn object(counter: u64) -> ObjectId {
    ObjectId { session: SessionId(1), counter }
}

fn offset(value: i64) -> Offset {
    Offset::new(value).unwrap()
}

/// Objects 0 to 3 with ten offsets each, committed at 100, 101, ... ms.
fn four_objects() -> (LogIndex, ObjectLedger) {
    let (mut log, mut objects) = (LogIndex::default(), ObjectLedger::default());
    for counter in 0..4 {
        let slot = objects.insert(object(counter), 1_000, 100 + i64::try_from(counter).unwrap()).unwrap();
        log.append(10, 5, Place { object: slot, position: 64, length: 70 }, &mut objects).unwrap();
    }
    (log, objects)
}

fn new(base: i64, end: i64, sparse: bool) -> NewExtent {
    NewExtent { base: offset(base), end: offset(end), position: 8, length: 100, max_timestamp: 5, sparse }
}

/// Replaces objects `from..until` in `base..end`.
fn swap(
    log: &mut LogIndex,
    objects: &mut ObjectLedger,
    (base, end): (i64, i64),
    old: &[(ObjectId, u64)],
    new: &[NewExtent],
) -> Result<i64, Refusal> {
    let slot = objects.insert(object(50 + objects.len() as u64), 1_000, 900).unwrap();
    let run = SwapRun { base: offset(base), end: offset(end), old };
    let swapped = log.swap(Swap { run, new, slot, now_ms: 900 }, objects);
    objects.settle(slot, 900);
    swapped
}

fn shape(log: &LogIndex, objects: &ObjectLedger) -> Vec<(i64, i64, bool)> {
    Log::new(log, objects).all_unfolded().map(|e: Extent| (e.base.get(), e.end.get(), e.sparse)).collect()
}

fn dead(objects: &ObjectLedger) -> Vec<u64> {
    let mut dead: Vec<u64> = objects.dead().map(|object| object.id.counter).collect();
    dead.sort_unstable();
    dead
}

#[test]
fn a_run_in_the_middle_becomes_one_extent_and_its_objects_die() {
    let (mut log, mut objects) = four_objects();
    let old = [(object(1), 64), (object(2), 64)];
    assert_eq!(swap(&mut log, &mut objects, (10, 30), &old, &[new(10, 30, false)]), Ok(102), "as old as the newest");
    assert_eq!(shape(&log, &objects), [(0, 10, false), (10, 30, false), (30, 40, false)]);
    assert_eq!(dead(&objects), [1, 2]);
    assert_eq!(Log::new(&log, &objects).bytes(), 240);
    assert_eq!(objects.get(object(54)).unwrap().referenced_bytes, 100);
}

#[test]
fn l2_anything_but_the_very_extents_is_refused_and_changes_nothing() {
    let old = [(object(1), 64), (object(2), 64)];
    let wrong: [(_, &[(ObjectId, u64)]); 7] = [
        ((10, 30), &[(object(1), 64), (object(2), 65)]),
        ((10, 30), &[(object(1), 64), (object(3), 64)]),
        ((10, 30), &[(object(1), 64)]),
        ((10, 30), &[(object(1), 64), (object(2), 64), (object(3), 64)]),
        ((11, 30), &old),
        ((10, 31), &old),
        ((30, 50), &[(object(3), 64), (object(4), 64)]),
    ];
    for (range, old) in wrong {
        let (mut log, mut objects) = four_objects();
        let swapped = swap(&mut log, &mut objects, range, old, &[new(range.0, range.1, false)]);
        assert_eq!(swapped, Err(Refusal::ExtentsChanged), "{range:?} {old:?}");
        assert_eq!(shape(&log, &objects).len(), 4);
        assert_eq!(dead(&objects), [54], "only what was to take their place");
    }
}

#[test]
fn g5_compaction_may_leave_holes_but_none_behind_the_last_extent() {
    let (mut log, mut objects) = four_objects();
    let old = [(object(0), 64), (object(1), 64)];
    swap(&mut log, &mut objects, (0, 20), &old, &[new(3, 5, true), new(9, 11, true)]).unwrap();
    assert_eq!(shape(&log, &objects), [(3, 5, true), (9, 11, true), (20, 30, false), (30, 40, false)]);
    let bases = |log: &LogIndex, from| {
        let extents = Log::new(log, &objects).unfolded(offset(from)).map(|e| e.base.get()).collect::<Vec<_>>();
        extents[0]
    };
    assert_eq!([0, 4, 5, 11, 20].map(|from| bases(&log, from)), [3, 3, 9, 20, 20], "no offset is without a next one");
    let behind = swap(&mut log, &mut objects, (20, 40), &[(object(2), 64), (object(3), 64)], &[new(20, 39, true)]);
    assert_eq!(behind, Err(Refusal::Malformed), "whoever reads on from 39 would find nothing");
    assert_eq!(swap(&mut log, &mut objects, (20, 30), &[(object(2), 64)], &[]), Ok(102));
    assert_eq!(shape(&log, &objects), [(3, 5, true), (9, 11, true), (30, 40, false)]);
    assert_eq!(swap(&mut log, &mut objects, (30, 40), &[(object(3), 64)], &[]), Err(Refusal::Malformed));
}

#[test]
fn l2_what_is_called_dense_must_have_been() {
    let (mut log, mut objects) = four_objects();
    let old = [(object(0), 64), (object(1), 64)];
    swap(&mut log, &mut objects, (0, 20), &old, &[new(3, 5, true), new(9, 11, true)]).unwrap();
    let (first, second) = ((object(54), 8), (object(54), 8));
    let all = [first, second, (object(2), 64)];
    for wrong in [&[new(3, 30, false)][..], &[new(3, 5, false)], &[new(3, 5, true), new(10, 30, false)]] {
        assert_eq!(swap(&mut log, &mut objects, (3, 30), &all, wrong), Err(Refusal::Malformed), "{wrong:?}");
    }
    let right = [new(3, 11, true), new(20, 25, false), new(25, 30, false)];
    assert_eq!(swap(&mut log, &mut objects, (3, 30), &all, &right), Ok(900));
}

#[test]
fn g3_what_the_log_start_has_passed_is_left_out() {
    let (mut log, mut objects) = four_objects();
    log.advance_start(offset(7), &mut objects, 1).unwrap();
    let old = [(object(0), 64), (object(1), 64)];
    swap(&mut log, &mut objects, (0, 20), &old, &[new(0, 7, false), new(7, 20, false)]).unwrap();
    assert_eq!(shape(&log, &objects), [(7, 20, false), (20, 30, false), (30, 40, false)]);
    assert_eq!(log.start(), offset(7));
    log.advance_start(offset(20), &mut objects, 1).unwrap();
    assert_eq!(log.extents.len(), 2);
}
