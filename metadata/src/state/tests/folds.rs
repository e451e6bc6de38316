use super::*;
use crate::codec::run::{encode_run, hash_run};
use crate::command::{FoldExtents, NewExtent, PartitionFold, PartitionSwap, SwapExtents, UnfoldExtents};
use crate::model::fold::Fold;
use crate::state::log::fold::Part;

/// Folds the first extents of partitions, as upkeep does; tells the runs too.
pub(super) fn fold_of(
    state: &State,
    session: SessionId,
    counter: u64,
    parts: &[(TopicPartition, u32)],
) -> (FoldExtents, Vec<Vec<u8>>) {
    let (mut runs, mut bytes, mut position) = (Vec::new(), Vec::new(), 8);
    for &(partition, extents) in parts {
        let log = state.log(partition).unwrap();
        let run = encode_run(&log.all_unfolded().take(extents as usize).collect::<Vec<_>>());
        let length = u32::try_from(run.len()).unwrap();
        runs.push(PartitionFold { partition, extents, position, length, hash: hash_run(&run) });
        bytes.push(run);
        position += u64::from(length);
    }
    (FoldExtents { object: ObjectId { session, counter }, object_bytes: position, runs }, bytes)
}

/// A topic of two partitions with `count` extents of two records each in the first one, of objects 1, 2, ...
fn bed(count: usize) -> Bed {
    let mut bed = Bed::new();
    bed.topic(1, "t");
    for number in 0..count {
        bed.produce(tp(1, 0), vec![BatchSummary { max_timestamp: number as i64 * 10, ..plain(2) }]);
    }
    bed
}

fn unfold(partition: Option<TopicPartition>, fold: &Fold, run: &[u8]) -> Command {
    let position = fold.position.into();
    Command::UnfoldExtents(UnfoldExtents { partition, object: fold.object, position, run: run.to_vec() })
}

fn folded(bed: &Bed) -> Vec<(i64, i64)> {
    bed.state.log(tp(1, 0)).unwrap().folds().iter().map(|fold| (fold.base.get(), fold.end.get())).collect()
}

fn unfolded(bed: &Bed) -> Vec<Extent> {
    bed.state.log(tp(1, 0)).unwrap().all_unfolded().collect()
}

fn main_object(counter: u64) -> ObjectId {
    ObjectId { session: MAIN, counter }
}

fn is_live(bed: &Bed, counter: u64) -> bool {
    bed.state.objects().get(main_object(counter)).is_some_and(|object| object.dead_since_ms.is_none())
}

fn advance(bed: &mut Bed, to: i64) {
    bed.say(Command::AdvanceLogStart { starts: vec![(tp(1, 0), offset(to))] });
}

#[test]
fn g1_what_is_folded_leaves_memory_and_its_objects_stay() {
    let mut bed = bed(10);
    let before = unfolded(&bed);
    let log_bytes = bed.state.log(tp(1, 0)).unwrap().bytes();
    let (fold, runs) = fold_of(&bed.state, MAIN, 100, &[(tp(1, 0), 4)]);
    assert_eq!(bed.say(Command::FoldExtents(fold)), Outcome::Swapped(vec![Ok(())]));
    assert_eq!((folded(&bed), unfolded(&bed)), (vec![(0, 8)], before[4..].to_vec()));
    let log = bed.state.log(tp(1, 0)).unwrap();
    assert_eq!((log.extent_count(), log.unfolded_count(), log.bytes()), (10, 6, log_bytes));
    let fold = log.folds()[0];
    assert_eq!((fold.extents, fold.bytes, fold.max_timestamp, fold.oldest_ms, fold.newest_ms), (4, 400, 30, 0, 30));
    let parts: Vec<_> = log.parts(offset(7)).collect();
    assert_eq!((parts.len(), parts[0]), (7, Part::Folded(&fold)));
    assert_eq!(log.parts(offset(8)).next(), Some(Part::Extent(before[4])));
    assert!((1..=10).all(|counter| is_live(&bed, counter)) && is_live(&bed, 100));
    let object = bed.state.objects().get(main_object(1)).unwrap();
    assert_eq!((object.references, object.folded, object.referenced_bytes), (1, 1, 100));
    let all = (1..=10).chain([100]).map(main_object).collect();
    assert_eq!(bed.say(Command::ForgetObjects { objects: all }), refused(Refusal::ObjectReferenced));

    // And back.
    assert_eq!(bed.say(unfold(Some(tp(1, 0)), &fold, &runs[0])), Outcome::Done);
    assert_eq!((folded(&bed), unfolded(&bed)), (vec![], before));
    assert_eq!(bed.state.log(tp(1, 0)).unwrap().bytes(), log_bytes);
    assert!((1..=10).all(|counter| is_live(&bed, counter)) && !is_live(&bed, 100), "the manifest is for the sweep");
    assert!(bed.state.objects().iter().all(|object| (object.folded, object.folded_bytes) == (0, 0)));
}

#[test]
fn g2_what_the_start_has_passed_is_let_go_of_once_it_is_said_what_it_was() {
    let mut bed = bed(10);
    let (fold, runs) = fold_of(&bed.state, MAIN, 100, &[(tp(1, 0), 4)]);
    bed.say(Command::FoldExtents(fold));
    let fold = bed.state.log(tp(1, 0)).unwrap().folds()[0];
    advance(&mut bed, 7);
    assert_eq!(folded(&bed), [(0, 8)], "a fold that the start stands in stays");
    assert_eq!(bed.say(unfold(None, &fold, &runs[0])), refused(Refusal::ExtentsChanged), "it is not dropped");
    advance(&mut bed, 9);
    assert_eq!((folded(&bed), bed.state.objects().dropped().copied().collect::<Vec<_>>()), (vec![], vec![fold]));
    assert_eq!(bed.state.log(tp(1, 0)).unwrap().bytes(), 600);
    assert!((1..=4).all(|counter| is_live(&bed, counter)), "G1: nobody has said what was in it");
    assert_eq!(bed.say(unfold(Some(tp(1, 0)), &fold, &runs[0])), refused(Refusal::ExtentsChanged), "it is in no log");
    assert_eq!(bed.say(unfold(None, &fold, &runs[0])), Outcome::Done);
    assert_eq!(bed.state.objects().dropped().len(), 0);
    assert!((1..=4).chain([100]).all(|counter| !is_live(&bed, counter)));
    assert!((5..=10).all(|counter| is_live(&bed, counter)));
    assert_eq!(bed.say(unfold(None, &fold, &runs[0])), refused(Refusal::ExtentsChanged), "once");
}

#[test]
fn g2_g6_a_deleted_topic_leaves_its_folds_to_be_let_go_of() {
    let mut bed = bed(10);
    for (counter, count) in [(100, 4), (101, 3)] {
        let (fold, _) = fold_of(&bed.state, MAIN, counter, &[(tp(1, 0), count)]);
        assert_eq!(bed.say(Command::FoldExtents(fold)), Outcome::Swapped(vec![Ok(())]));
    }
    let runs: Vec<Vec<u8>> = {
        let mut again = self::bed(10);
        let (first, bytes) = fold_of(&again.state, MAIN, 100, &[(tp(1, 0), 4)]);
        again.say(Command::FoldExtents(first));
        let (_, more) = fold_of(&again.state, MAIN, 101, &[(tp(1, 0), 3)]);
        bytes.into_iter().chain(more).collect()
    };
    bed.say(Command::DeleteTopic { topic: topic_id(1) });
    assert_eq!(bed.state.objects().dropped().len(), 2);
    bed.state = State::decode(&bed.state.encode()).unwrap();
    assert!((1..=7).all(|counter| is_live(&bed, counter)) && (8..=10).all(|counter| !is_live(&bed, counter)));
    let dropped: Vec<Fold> = bed.state.objects().dropped().copied().collect();
    for (fold, run) in dropped.iter().zip(&runs) {
        assert_eq!(bed.say(unfold(None, fold, run)), Outcome::Done);
    }
    assert!(bed.state.objects().iter().all(|object| object.dead_since_ms.is_some()));
}

#[test]
fn g1_nothing_but_the_folded_bytes_is_believed() {
    let mut bed = bed(10);
    let (fold, runs) = fold_of(&bed.state, MAIN, 100, &[(tp(1, 0), 4)]);
    bed.say(Command::FoldExtents(fold));
    let fold = bed.state.log(tp(1, 0)).unwrap().folds()[0];
    let before = bed.essence();
    let mut flipped = runs[0].clone();
    flipped[20] ^= 1;
    let foreign = encode_run(&unfolded(&bed)[..4]);
    for wrong in [&flipped, &foreign, &runs[0][..30].to_vec(), &Vec::new()] {
        assert_eq!(bed.say(unfold(Some(tp(1, 0)), &fold, wrong)), refused(Refusal::Malformed));
    }
    let elsewhere = Fold { position: fold.position + 1, ..fold };
    assert_eq!(bed.say(unfold(Some(tp(1, 0)), &elsewhere, &runs[0])), refused(Refusal::ExtentsChanged));
    assert_eq!(bed.say(unfold(Some(tp(1, 1)), &fold, &runs[0])), refused(Refusal::ExtentsChanged));
    assert_eq!(bed.say(unfold(Some(tp(9, 0)), &fold, &runs[0])), refused(Refusal::UnknownTopic));
    assert_eq!(bed.essence().len(), before.len());
    assert_eq!(folded(&bed), [(0, 8)]);
}

#[test]
fn l2_a_fold_of_other_extents_than_the_log_has_is_refused_and_its_manifest_is_for_the_sweep() {
    let mut bed = bed(10);
    let (first, _) = fold_of(&bed.state, MAIN, 100, &[(tp(1, 0), 4)]);
    // Another gateway has seen the same, and is later.
    let second = FoldExtents { object: main_object(101), ..first.clone() };
    assert_eq!(bed.say(Command::FoldExtents(first.clone())), Outcome::Swapped(vec![Ok(())]));
    assert_eq!(bed.say(Command::FoldExtents(second)), Outcome::Swapped(vec![Err(Refusal::ExtentsChanged)]));
    assert_eq!((folded(&bed), is_live(&bed, 100), is_live(&bed, 101)), (vec![(0, 8)], true, false));
    assert_eq!(bed.say(Command::FoldExtents(first)), refused(Refusal::ObjectCommitted));

    // A merge came first.
    let (third, _) = fold_of(&bed.state, MAIN, 102, &[(tp(1, 0), 2)]);
    let old = unfolded(&bed);
    let new =
        NewExtent { base: old[0].base, end: old[1].end, position: 8, length: 200, max_timestamp: 9, sparse: false };
    let swap = PartitionSwap {
        partition: tp(1, 0),
        base: old[0].base,
        end: old[1].end,
        old: old[..2].iter().map(|extent| (extent.object, extent.position)).collect(),
        new: vec![new],
    };
    let swap = SwapExtents { object: main_object(200), object_bytes: 999, level: 1, partitions: vec![swap] };
    assert_eq!(bed.say(Command::SwapExtents(swap.clone())), Outcome::Swapped(vec![Ok(())]));
    assert_eq!(bed.say(Command::FoldExtents(third)), Outcome::Swapped(vec![Err(Refusal::ExtentsChanged)]));

    // A merge of what is folded comes too late.
    let (fold, _) = fold_of(&bed.state, MAIN, 103, &[(tp(1, 0), 1)]);
    assert_eq!(bed.say(Command::FoldExtents(fold)), Outcome::Swapped(vec![Ok(())]));
    let swap = SwapExtents { object: main_object(201), ..swap };
    assert_eq!(bed.say(Command::SwapExtents(swap)), Outcome::Swapped(vec![Err(Refusal::ExtentsChanged)]));
}

#[test]
fn l5_the_last_extent_of_a_log_is_never_folded_and_the_log_goes_on() {
    let mut bed = bed(3);
    for count in [3, 4] {
        let (fold, _) = fold_of(&bed.state, MAIN, 100 + u64::from(count), &[(tp(1, 0), count)]);
        assert_eq!(bed.say(Command::FoldExtents(fold)), Outcome::Swapped(vec![Err(Refusal::ExtentsChanged)]));
    }
    let (fold, runs) = fold_of(&bed.state, MAIN, 100, &[(tp(1, 0), 2)]);
    bed.say(Command::FoldExtents(fold));
    assert_eq!(bed.produce(tp(1, 0), vec![plain(2)]), [appended(6)]);
    let fold = bed.state.log(tp(1, 0)).unwrap().folds()[0];
    // The start stands inside: what is before it does not come back.
    advance(&mut bed, 2);
    assert_eq!(bed.say(unfold(Some(tp(1, 0)), &fold, &runs[0])), Outcome::Done);
    assert_eq!(unfolded(&bed).iter().map(|extent| extent.base.get()).collect::<Vec<_>>(), [2, 4, 6]);
    assert!(!is_live(&bed, 1) && is_live(&bed, 2));
}

#[test]
fn a_fold_that_contradicts_itself_is_refused() {
    let mut bed = bed(10);
    assert_eq!(bed.say_as(SessionId(7), open(2)), Outcome::Done);
    let (fold, _) = fold_of(&bed.state, MAIN, 100, &[(tp(1, 0), 4)]);
    let run = fold.runs[0].clone();
    let with = |runs| FoldExtents { runs, ..fold.clone() };
    let foreign = Command::FoldExtents(fold.clone());
    assert_eq!(bed.say_as(SessionId(7), foreign), refused(Refusal::Malformed), "G1: of another session");
    for (wrong, refusal) in [
        (with(vec![PartitionFold { position: 9, ..run.clone() }]), Refusal::Malformed),
        (with(vec![PartitionFold { length: 0, ..run.clone() }]), Refusal::Malformed),
        (with(vec![PartitionFold { position: u64::MAX, ..run.clone() }]), Refusal::Malformed),
        (with(vec![run.clone(), run.clone()]), Refusal::Malformed),
        (with(vec![PartitionFold { extents: 4_097, ..run }]), Refusal::LimitReached),
        (FoldExtents { object_bytes: 1 << 40, ..fold.clone() }, Refusal::LimitReached),
    ] {
        assert_eq!(bed.say(Command::FoldExtents(wrong)), refused(refusal));
    }
    for (wrong, refusal) in [
        (PartitionFold { hash: [0; 32], ..run.clone() }, Refusal::ExtentsChanged),
        (PartitionFold { length: run.length - 1, ..run.clone() }, Refusal::ExtentsChanged),
        (PartitionFold { extents: 0, ..run.clone() }, Refusal::ExtentsChanged),
        (PartitionFold { extents: 3, ..run.clone() }, Refusal::ExtentsChanged),
        (PartitionFold { partition: tp(1, 2), ..run }, Refusal::UnknownPartition),
    ] {
        bed.next_object += 1_000;
        let object = main_object(bed.next_object);
        let fold = FoldExtents { object, ..with(vec![wrong]) };
        assert_eq!(bed.say(Command::FoldExtents(fold)), Outcome::Swapped(vec![Err(refusal)]));
    }
    assert_eq!(folded(&bed), []);
}
