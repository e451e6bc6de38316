use super::*;
use crate::model::extent::ObjectId;
use crate::model::ids::SessionId;

fn object(counter: u64) -> ObjectId {
    ObjectId { session: SessionId(1), counter }
}

fn offset(value: i64) -> Offset {
    Offset::new(value).unwrap()
}

/// A log of three objects: [0,10) and [10,20) joined in object 0, [20,30) in object 1, [30,40) in object 2.
fn three_objects() -> (LogIndex, ObjectLedger) {
    let (mut log, mut objects) = (LogIndex::default(), ObjectLedger::default());
    for (counter, batches) in [(0, &[100, 300][..]), (1, &[50]), (2, &[250])] {
        let slot = objects.insert(object(counter), 1_000, 0).unwrap();
        let mut position = 64;
        for &max_timestamp in batches {
            let place = Place { object: slot, position, length: 70 };
            log.append(10, max_timestamp, place, &mut objects).unwrap();
            position += 70;
        }
    }
    (log, objects)
}

#[test]
fn adjacent_batches_join_into_one_extent() {
    let (log, objects) = three_objects();
    let log = Log::new(&log, &objects);
    let extents: Vec<Extent> = log.all_unfolded().collect();
    assert_eq!(extents.len(), 3);
    let joined = Extent {
        base: offset(0),
        end: offset(20),
        object: object(0),
        position: 64,
        length: 140,
        max_timestamp: 300,
        sparse: false,
    };
    assert_eq!(extents[0], joined);
    assert_eq!((log.bytes(), log.high_watermark(), log.last_stable()), (280, offset(40), offset(40)));
    assert!(objects.iter().all(|object| object.references == 1));
}

#[test]
fn from_any_offset_on_the_same_extents_are_found_near_the_end_and_far_from_it() {
    let (mut log, mut objects) = (LogIndex::default(), ObjectLedger::default());
    for count in 0..20_u64 {
        for from in 0..=i64::try_from(count * 3).unwrap() + 1 {
            let found: Vec<_> = Log::new(&log, &objects).unfolded(offset(from)).map(|e| e.base.get()).collect();
            let expected: Vec<_> = (0..i64::try_from(count).unwrap()).map(|n| n * 3).filter(|n| n + 3 > from).collect();
            assert_eq!(found, expected, "{count} extents, from {from}");
        }
        let slot = objects.insert(object(count), 1_000, 0).unwrap();
        log.append(3, 1, Place { object: slot, position: 64, length: 9 }, &mut objects).unwrap();
    }
}

#[test]
fn bytes_that_do_not_adjoin_do_not_join() {
    let (mut log, mut objects) = (LogIndex::default(), ObjectLedger::default());
    let slot = objects.insert(object(0), 1_000, 0).unwrap();
    for position in [0, 100, 190] {
        log.append(1, -1, Place { object: slot, position, length: 90 }, &mut objects).unwrap();
    }
    let extents: Vec<_> = Log::new(&log, &objects).all_unfolded().map(|e| (e.position, e.length)).collect();
    assert_eq!(extents, [(0, 90), (100, 180)]);
    assert_eq!(objects.get(object(0)).unwrap().references, 2);
}

#[test]
fn an_extent_that_cannot_count_its_records_any_more_is_followed_by_another() {
    let (mut log, mut objects) = (LogIndex::default(), ObjectLedger::default());
    let slot = objects.insert(object(0), 1_000, 0).unwrap();
    for position in [0, 1] {
        log.append(u32::MAX, -1, Place { object: slot, position, length: 1 }, &mut objects).unwrap();
    }
    let log = Log::new(&log, &objects);
    assert_eq!(log.extent_count(), 2);
    assert_eq!(log.high_watermark(), offset(2 * i64::from(u32::MAX)));
}

#[test]
fn extents_are_found_from_any_offset() {
    let (log, objects) = three_objects();
    let log = Log::new(&log, &objects);
    let bases = |from| log.unfolded(offset(from)).map(|e| e.base.get()).collect::<Vec<_>>();
    assert_eq!(bases(0), [0, 20, 30]);
    assert_eq!(bases(19), [0, 20, 30]);
    assert_eq!(bases(20), [20, 30]);
    assert_eq!(bases(39), [30]);
    assert_eq!(bases(40), [0; 0]);
}

#[test]
fn g3_the_start_moves_forward_only_and_lets_go_of_whole_extents() {
    let (mut log, mut objects) = three_objects();
    assert_eq!(log.advance_start(offset(41), &mut objects, 7), Err(Refusal::OffsetOutOfRange));
    assert_eq!(log.advance_start(offset(19), &mut objects, 7), Ok(offset(19)));
    assert_eq!(Log::new(&log, &objects).extent_count(), 3, "an extent the start stands in stays");
    assert_eq!(log.advance_start(offset(25), &mut objects, 8), Ok(offset(25)));
    assert_eq!(objects.dead().map(|o| (o.id, o.dead_since_ms)).collect::<Vec<_>>(), [(object(0), Some(8))]);
    assert_eq!(log.advance_start(offset(3), &mut objects, 9), Ok(offset(25)));
    assert_eq!(Log::new(&log, &objects).bytes(), 140);
    assert_eq!(log.advance_start(offset(40), &mut objects, 9), Ok(offset(40)));
    let view = Log::new(&log, &objects);
    assert_eq!((view.extent_count(), view.bytes(), view.log_start()), (0, 0, offset(40)));
    assert_eq!(objects.dead().count(), 3);
}

#[test]
fn offsets_end_before_they_overflow() {
    let mut objects = ObjectLedger::default();
    let slot = objects.insert(object(0), 1_000, 0).unwrap();
    let mut log = LogIndex::restore(offset(i64::MAX - 5), offset(i64::MAX - 5)).unwrap();
    let place = Place { object: slot, position: 0, length: 1 };
    assert_eq!(log.append(6, -1, place, &mut objects), Err(Refusal::OffsetOutOfRange));
    assert_eq!(log.append(5, -1, place, &mut objects), Ok(offset(i64::MAX - 5)));
    assert_eq!(Log::new(&log, &objects).all_unfolded().count(), 1);
}

#[test]
fn restored_extents_must_lie_in_the_log_in_order() {
    let mut objects = ObjectLedger::default();
    let slot = objects.insert(object(0), 1_000, 0).unwrap();
    let extent = |base, end| Extent {
        base: offset(base),
        end: offset(end),
        object: object(0),
        position: 0,
        length: 1,
        max_timestamp: -1,
        sparse: false,
    };
    assert!(LogIndex::restore(offset(2), offset(1)).is_none());
    let mut log = LogIndex::restore(offset(10), offset(30)).unwrap();
    for (base, end) in [(0, 10), (5, 31), (20, 20)] {
        assert_eq!(log.restore_extent(&extent(base, end), slot, &mut objects), None, "{base}..{end}");
    }
    log.restore_extent(&extent(5, 15), slot, &mut objects).unwrap();
    assert_eq!(log.restore_extent(&extent(14, 20), slot, &mut objects), None);
    log.restore_extent(&extent(17, 30), slot, &mut objects).unwrap();
    assert_eq!(objects.get(object(0)).unwrap().references, 2);
}

/// The numbers this file's head promises.
#[test]
fn memory_per_partition_and_extent_is_small() {
    const LOGS: usize = 100;
    let (mut logs, mut objects) = (vec![LogIndex::default(); LOGS], ObjectLedger::default());
    for counter in 0..200 {
        let slot = objects.insert(object(counter), 1 << 30, 0).unwrap();
        for (log, position) in logs.iter_mut().zip((8..).step_by(1_024)) {
            log.append(10, 1, Place { object: slot, position, length: 70 }, &mut objects).unwrap();
        }
    }
    let (empty, extent, producer) = (size_of::<LogIndex>(), size_of::<PackedExtent>(), size_of::<Producer>());
    assert!(empty <= 88 && extent == 32 && producer <= 144, "{empty} {extent} {producer}");
    let capacity: usize = logs.iter().map(|log| log.extents.capacity()).sum();
    let partition = empty + capacity / LOGS * extent + producer;
    assert!(partition * 100_000 < 800_000_000, "{partition} bytes a partition");
}

#[test]
fn logs_that_are_written_side_by_side_do_not_all_grow_at_once() {
    const LOGS: usize = 1_600;
    let (mut logs, mut objects) = (vec![LogIndex::default(); LOGS], ObjectLedger::default());
    for count in 0..400 {
        let slot = objects.insert(object(count), 1 << 30, 0).unwrap();
        let mut grown = 0;
        for (log, position) in logs.iter_mut().zip((8..).step_by(1_024)) {
            let before = log.extents.capacity();
            log.append(1, 1, Place { object: slot, position, length: 1_000 }, &mut objects).unwrap();
            grown += usize::from(log.extents.capacity() > before);
            assert!(log.extents.capacity() <= log.extents.len() * 3 / 2 + 1, "at most half as much again");
        }
        assert!(count < 100 || grown < LOGS / 10, "{grown} logs grow when they have {count} extents");
    }
}
