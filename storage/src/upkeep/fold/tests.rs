use std::time::Duration;

use metadata::command::{BatchOutcome, Command, Outcome};
use metadata::model::extent::ObjectId;
use metadata::model::offset::Offset;
use metadata::state::FEATURE_LEVEL;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::blob::BlobStore;
use crate::error::ReadError;
use crate::options::{FoldOptions, MergeOptions, UpkeepOptions, WriterOptions};
use crate::reader::Reader;
use crate::sample::{batch_at, batch_of, partition};
use crate::segment::parser::parse_segment;
use crate::testbed::{Bed, GetFault, NOW_MS, PutFault, World, batches, read, read_all, records_of};
use crate::upkeep::Upkeep;
use crate::upkeep::tests::{options as quiet, sweep};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Passes happen only when a test asks for them; the newest six extents stay, and every object is large enough to be left where it
/// is by merges.
fn options() -> UpkeepOptions {
    let quiet = quiet();
    UpkeepOptions {
        merge: MergeOptions { target_bytes: 4, age_min: Duration::ZERO, ..quiet.merge },
        fold: FoldOptions {
            index_bytes_max: 0,
            run_extents: 4,
            run_extents_min: 2,
            keep_extents: 6,
            run_bytes: 1 << 30,
        },
        ..quiet
    }
}

fn world() -> World {
    World { feature_level: FEATURE_LEVEL, ..World::default() }
}

fn folds_of(bed: &Bed, tp: TopicPartition) -> Vec<Fold> {
    bed.metadata.read(|state| state.log(tp).map_or(Vec::new(), |log| log.folds().to_vec()))
}

fn unfolded(bed: &Bed, tp: TopicPartition) -> usize {
    bed.metadata.read(|state| state.log(tp).map_or(0, |log| log.unfolded_count()))
}

async fn advance_start(bed: &Bed, tp: TopicPartition, to: i64) {
    let starts = vec![(tp, Offset::new(to).unwrap())];
    bed.metadata.submit(Command::AdvanceLogStart { starts }).await.unwrap();
}

/// `count` objects with a batch of two records for partition 0 of topic 1 each, a minute apart; tells what the log holds.
async fn fill(bed: &Bed, count: u64) -> Vec<(i64, Vec<u8>)> {
    let mut log = Vec::new();
    for number in 0..count {
        let at = NOW_MS + number as i64 * MINUTE_MS;
        let batch = batch_at(&[at, at + 7], number, None);
        let answers = bed.submit(vec![(partition(1, 0), batch.clone())]).await.unwrap();
        let [BatchOutcome::Appended { base, .. }] = answers[..] else { panic!("{answers:?}") };
        log.push((base.get(), records_of(&batch)));
    }
    log
}

/// A gateway whose log of thirty extents is to be folded.
async fn filled(world: &World) -> (Bed, Vec<(i64, Vec<u8>)>) {
    let bed = world.gateway(1, WriterOptions::default()).await;
    bed.topic_with(1, 1, &[("retention.ms", "3600000")]).await;
    let log = fill(&bed, 30).await;
    (bed, log)
}

/// Ends every session but this gateway's.
async fn expire_others(by: &Bed) {
    by.metadata.barrier().await.unwrap();
    let others: Vec<_> = by.metadata.read(|state| {
        let others = state.sessions().live().filter(|session| session.id != by.metadata.session());
        others.map(|session| (session.id, session.last_lsn)).collect()
    });
    for (session, last_seen) in others {
        let expired = by.metadata.submit(Command::ExpireSession { session, last_seen }).await;
        assert_eq!(expired, Ok(Outcome::Done));
    }
}

#[tokio::test(start_paused = true)]
async fn l1_g7_what_is_folded_is_read_and_found_as_before() {
    let world = world();
    let (bed, log) = filled(&world).await;
    let tp = partition(1, 0);
    let upkeep = bed.upkeep(options());
    upkeep.fold().await.unwrap();
    assert_eq!((folds_of(&bed, tp).len(), unfolded(&bed, tp)), (6, 6));
    let metrics = &bed.metrics.upkeep;
    assert_eq!((metrics.folded.get(), metrics.folds.get(), metrics.extents.get()), (24, 6, 6));
    assert_eq!(bed.objects().len(), 31, "one manifest");
    upkeep.fold().await.unwrap();
    assert_eq!(metrics.folded.get(), 24, "and that is that");
    let other = world.gateway(2, WriterOptions::default()).await;
    other.metadata.barrier().await.unwrap();
    for (number, (base, _)) in log.iter().enumerate() {
        for reader in [&bed.reader, &bed.cold_reader(), &other.reader] {
            assert_eq!(read_all(reader, tp, *base).await, log[number..]);
            let at = NOW_MS + number as i64 * MINUTE_MS;
            let found = |offset: i64, time| Ok(Some((Offset::new(offset).unwrap(), time)));
            assert_eq!(reader.offset_for_timestamp(tp, at).await, found(*base, at));
            assert_eq!(reader.offset_for_timestamp(tp, at + 1).await, found(*base + 1, at + 7));
            assert_eq!(reader.max_timestamp(tp).await, found(59, NOW_MS + 29 * MINUTE_MS + 7));
        }
    }
    assert_eq!(bed.reader.offset_for_timestamp(tp, NOW_MS + HOUR_MS).await, Ok(None));
    assert_eq!(bed.append(tp, 1, 7).await, 60);
    let manifest = world.stage.store.get(&folds_of(&bed, tp)[0].object.key()).await.unwrap();
    let footer = parse_segment(&manifest).map(|footer| (footer.placed, footer.topics.len()));
    assert_eq!(footer, Ok((true, 0)), "a restore finds no batch in it");
}

#[tokio::test(start_paused = true)]
async fn as_much_is_folded_as_the_bound_asks_for_and_of_the_longest_logs() {
    let world = world();
    let bed = world.gateway(1, WriterOptions::default()).await;
    bed.topic(1, 3).await;
    for number in 0..300_u64 {
        let p = if number < 40 { (number % 2) as i32 } else { 2 };
        bed.submit(vec![(partition(1, p), batch_of(1, number))]).await.unwrap();
    }
    let bound = |index_bytes_max| {
        let fold = FoldOptions { index_bytes_max, run_extents: 64, run_extents_min: 8, ..options().fold };
        UpkeepOptions { fold, ..options() }
    };
    bed.upkeep(bound(16_000)).fold().await.unwrap();
    assert_eq!(bed.metrics.upkeep.folded.get(), 0, "there is room");
    bed.upkeep(bound(6_000)).fold().await.unwrap();
    let folded: Vec<_> = (0..3).map(|p| folds_of(&bed, partition(1, p)).len()).collect();
    assert_eq!(folded[..2], [0, 0], "short logs stay");
    let bytes = bed.metrics.upkeep.index_bytes.get();
    assert!(folded[2] > 0 && (2_000..6_000).contains(&bytes), "{folded:?}, {bytes} bytes left");
}

#[tokio::test(start_paused = true)]
async fn a_run_costs_one_get_however_many_read_and_the_next_one_is_loaded_ahead() {
    let world = world();
    let (bed, log) = filled(&world).await;
    bed.upkeep(options()).fold().await.unwrap();
    world.stage.script().get_delay = Duration::from_millis(20);
    let reader = bed.cold_reader();
    let gets = || world.stage.script().get_count;
    let mut before = gets();
    for (number, from) in (0..5).zip([0, 8, 16, 24, 32]) {
        let one = |reader: Reader| async move { read(&reader, partition(1, 0), from).await };
        let all = futures_util::future::join_all((0..20).map(|_| one(reader.clone()))).await;
        assert!(all.iter().all(|result| result.error.is_none() && result.records == all[0].records));
        assert_eq!(batches(&all[0]), log[number * 4..number * 4 + 4], "up to the next run, for which nobody waits");
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The four objects, the run of the first, and the one behind.
        assert_eq!(gets() - before, 4 + usize::from(number == 0) + 1, "{number}");
        before = gets();
    }
}

#[tokio::test(start_paused = true)]
async fn g2_g3_retention_goes_into_a_fold_and_past_it_and_what_it_held_is_deleted() {
    let world = world();
    let (bed, log) = filled(&world).await;
    let tp = partition(1, 0);
    let upkeep = bed.upkeep(options());
    upkeep.fold().await.unwrap();
    bed.clock.advance_ms(HOUR_MS);
    upkeep.retain().await.unwrap();
    assert_eq!(bed.metrics.upkeep.runs.loaded.get(), 0, "no run is read to know that all are young");
    let start = || bed.metadata.read(|state| state.log(tp).unwrap().log_start().get());
    // All of the first run is old, and two extents of the second.
    bed.clock.advance_ms(5 * MINUTE_MS + 8);
    upkeep.retain().await.unwrap();
    assert_eq!((start(), folds_of(&bed, tp).len(), bed.metrics.upkeep.runs.loaded.get()), (12, 5, 1));
    assert_eq!(read_all(&bed.cold_reader(), tp, 12).await, log[6..]);
    assert_eq!(read(&bed.reader, tp, 11).await.error, Some(ReadError::OffsetOutOfRange));
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 31, "G1: nobody has said yet what was in the first run");
    upkeep.fold().await.unwrap();
    assert_eq!(bed.metadata.read(|state| state.objects().dropped().len()), 0);
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 27, "the four of the first run are gone, those of the second are not");
    assert_eq!(read_all(&bed.cold_reader(), tp, 12).await, log[6..]);
    advance_start(&bed, tp, 60).await;
    upkeep.fold().await.unwrap();
    sweep(&upkeep).await;
    assert_eq!(bed.objects(), Vec::<String>::new(), "G2: manifests too");
}

#[tokio::test(start_paused = true)]
async fn g2_g6_a_deleted_topic_leaves_nothing_behind() {
    let world = world();
    let (bed, _) = filled(&world).await;
    let upkeep = bed.upkeep(options());
    upkeep.fold().await.unwrap();
    bed.metadata.submit(Command::DeleteTopic { topic: partition(1, 0).topic }).await.unwrap();
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 25, "six were in no fold");
    upkeep.fold().await.unwrap();
    sweep(&upkeep).await;
    assert_eq!(bed.objects(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn g5_a_topic_that_becomes_compacted_is_unfolded_first() {
    let world = world();
    let (bed, log) = filled(&world).await;
    let tp = partition(1, 0);
    let upkeep = bed.upkeep(options());
    upkeep.fold().await.unwrap();
    let set = |value: &str| Command::SetTopicConfigs {
        topic: tp.topic,
        changes: vec![("cleanup.policy".into(), Some(value.into()))],
    };
    bed.metadata.submit(set("compact")).await.unwrap();
    upkeep.compact().await.unwrap();
    let compacted = |bed: &Bed| bed.metrics.upkeep.compacted.get() + bed.metrics.upkeep.failed_compactions.get();
    assert_eq!((folds_of(&bed, tp).len(), compacted(&bed)), (6, 0), "not while it is folded");
    upkeep.fold().await.unwrap();
    assert_eq!((folds_of(&bed, tp).len(), unfolded(&bed, tp)), (0, 30));
    assert_eq!(read_all(&bed.cold_reader(), tp, 0).await, log);
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 30, "the manifest is gone");
    bed.metadata.submit(set("delete")).await.unwrap();
    upkeep.fold().await.unwrap();
    assert_eq!(folds_of(&bed, tp).len(), 6);
    assert_eq!(read_all(&bed.cold_reader(), tp, 0).await, log);
}

#[tokio::test(start_paused = true)]
async fn l7_g1_g4_a_damaged_missing_or_foreign_manifest_gives_an_error_and_never_other_data() {
    let world = world();
    let (bed, log) = filled(&world).await;
    let tp = partition(1, 0);
    let upkeep = bed.upkeep(options());
    upkeep.fold().await.unwrap();
    let (first, fold) = (folds_of(&bed, tp)[0], folds_of(&bed, tp)[1]);
    let (key, store) = (fold.object.key(), &world.stage.store);
    let whole = store.get(&key).await.unwrap();
    // Once damaged on its way: read again.
    world.stage.script().gets.push_back(GetFault::FlipBit);
    assert_eq!(read_all(&bed.cold_reader(), tp, 0).await, log);
    let (from, to) = (first.position as usize, fold.position as usize);
    let mut flipped = whole.to_vec();
    flipped[to + 20] ^= 1;
    let torn = whole[..to + 9].to_vec();
    // The run of the first fold where the second one's should be.
    let mut foreign = whole.to_vec();
    foreign.copy_within(from..from + first.length.min(fold.length) as usize, to);
    for wrong in [Some(flipped.clone()), Some(torn), Some(foreign), None] {
        match &wrong {
            Some(bytes) => store.put(&key, Payload::from(bytes.clone())).await.unwrap(),
            None => assert!(store.delete_many(std::slice::from_ref(&key)).await.unwrap().is_empty()),
        }
        let reader = bed.cold_reader();
        let result = read(&reader, tp, fold.base.get()).await;
        assert!(result.records.is_empty(), "no gap, no other data");
        match result.error {
            Some(ReadError::Corrupt(_)) if wrong.is_some() => {}
            Some(ReadError::Storage(BlobError::NotFound { .. })) if wrong.is_none() => {}
            other => panic!("{other:?}"),
        }
        assert!(reader.offset_for_timestamp(tp, NOW_MS + 5 * MINUTE_MS).await.is_err());
        assert_eq!(read_all(&reader, tp, 48).await, log[24..], "the rest is not concerned");
    }
    // Nor does upkeep believe it: what it may name stays.
    store.put(&key, Payload::from(flipped)).await.unwrap();
    advance_start(&bed, tp, fold.end.get()).await;
    for _ in 0..2 {
        upkeep.fold().await.unwrap();
        sweep(&upkeep).await;
        let dropped: Vec<Fold> = bed.metadata.read(|state| state.objects().dropped().copied().collect());
        assert_eq!((dropped, bed.objects().len()), (vec![fold], 27), "G1");
    }
    store.put(&key, Payload::from(whole.to_vec())).await.unwrap();
    upkeep.fold().await.unwrap();
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 23, "G2: all eight are gone at last");
    assert_eq!(read_all(&bed.cold_reader(), tp, 16).await, log[8..]);
}

#[tokio::test(start_paused = true)]
async fn two_gateways_that_fold_the_same_run_fold_it_once() {
    let world = World { is_shared: true, ..world() };
    let (one, log) = filled(&world).await;
    let two = world.gateway(2, WriterOptions::default()).await;
    two.metadata.barrier().await.unwrap();
    let tp = partition(1, 0);
    let (first, second) = (one.upkeep(options()), two.upkeep(options()));
    let (a, b) = tokio::join!(first.fold(), second.fold());
    a.unwrap();
    b.unwrap();
    one.metadata.barrier().await.unwrap();
    two.metadata.barrier().await.unwrap();
    assert_eq!((folds_of(&one, tp).len(), one.objects().len()), (6, 32), "two manifests");
    assert_eq!(one.metrics.upkeep.refused_swaps.get() + two.metrics.upkeep.refused_swaps.get(), 6);
    assert_eq!(folds_of(&one, tp), folds_of(&two, tp));
    sweep(&first).await;
    assert_eq!(one.objects().len(), 31, "the one that came too late is swept");
    for bed in [&one, &two] {
        assert_eq!(read_all(&bed.cold_reader(), tp, 0).await, log);
    }
}

#[tokio::test(start_paused = true)]
async fn g1_g2_a_gateway_that_ends_or_fails_while_it_folds_leaves_nothing_that_is_not_swept() {
    let world = world();
    let tp = partition(1, 0);
    let log = {
        let (bed, log) = filled(&world).await;
        // A manifest without its command.
        let orphan = ObjectId { session: bed.metadata.session(), counter: 999 };
        world.stage.store.put(&orphan.key(), Payload::from(vec![1, 2, 3])).await.unwrap();
        log
    };
    let bed = world.gateway(2, WriterOptions::default()).await;
    let beside = bed.upkeep(options());
    beside.sweep_listed().await.unwrap();
    assert_eq!(bed.objects().len(), 31, "G1: its session may yet say so");
    beside.shutdown().await;
    expire_others(&bed).await;
    let upkeep = bed.upkeep(options());
    upkeep.sweep_listed().await.unwrap();
    assert_eq!(bed.objects().len(), 30);
    // A PUT whose answer is lost: nothing is folded, and nothing stays.
    world.stage.script().puts.push_back(PutFault::AnswerLost);
    assert!(upkeep.fold().await.is_err());
    assert_eq!((folds_of(&bed, tp).len(), bed.objects().len()), (0, 31));
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 30);
    upkeep.fold().await.unwrap();
    assert_eq!(folds_of(&bed, tp).len(), 6);
    assert_eq!(read_all(&bed.cold_reader(), tp, 0).await, log);
}

#[tokio::test(start_paused = true)]
async fn what_merging_is_not_done_with_is_not_folded_and_what_is_folded_is_not_merged() {
    let world = world();
    let (bed, log) = filled(&world).await;
    let tp = partition(1, 0);
    let merge = MergeOptions { target_bytes: 1 << 20, objects_min: 4, ..options().merge };
    let merging = UpkeepOptions { merge, ..options() };
    bed.upkeep(merging.clone()).fold().await.unwrap();
    assert_eq!(folds_of(&bed, tp).len(), 0);
    bed.upkeep(options()).fold().await.unwrap();
    assert_eq!(folds_of(&bed, tp).len(), 6);
    let upkeep = bed.upkeep(merging);
    upkeep.merge().await.unwrap();
    upkeep.merge().await.unwrap();
    assert_eq!((bed.metrics.upkeep.merged.get(), unfolded(&bed, tp)), (6, 1), "neither objects of folds nor manifests");
    assert_eq!(read_all(&bed.cold_reader(), tp, 0).await, log);
}

/// What a random history does.
#[derive(Debug, Clone)]
enum Step {
    /// An object with a batch for a partition: records, and minutes from now of its timestamps; none at all below 0.
    Append(i32, usize, i64),
    Fold,
    Sweep,
    /// Time goes on by so many minutes, then retention.
    Retain(i64),
    /// DeleteRecords somewhere, in thousandths of the log.
    Cut(i32, u64),
    /// Another gateway takes over.
    Restart,
    /// The next GETs are damaged.
    Faults(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0i32..3, 1usize..4, -8i64..90).prop_map(|(p, records, minutes)| Step::Append(p, records, minutes)),
        4 => Just(Step::Fold),
        1 => Just(Step::Sweep),
        2 => (0i64..40).prop_map(Step::Retain),
        1 => (0i32..3, 0u64..=1_000).prop_map(|(p, part)| Step::Cut(p, part)),
        1 => Just(Step::Restart),
        1 => (1usize..3).prop_map(Step::Faults),
    ];
    vec(step, 10..90)
}

/// One gateway with everything it needs.
struct House {
    world: World,
    bed: Bed,
    upkeep: Upkeep,
    folds: bool,
}

/// The partition of one of three topics, each with a retention of its own.
fn log_of(p: i32) -> TopicPartition {
    partition(u128::from(p.unsigned_abs()) + 1, 0)
}

impl House {
    async fn new(folds: bool) -> Self {
        let world = world();
        let bed = world.gateway(1, WriterOptions::default()).await;
        bed.topic_with(1, 1, &[("retention.ms", "3600000")]).await;
        bed.topic_with(2, 1, &[("retention.bytes", "1500"), ("retention.ms", "-1")]).await;
        bed.topic_with(3, 1, &[("retention.ms", "-1")]).await;
        let upkeep = bed.upkeep(Self::options());
        Self { world, bed, upkeep, folds }
    }

    fn options() -> UpkeepOptions {
        UpkeepOptions { fold: FoldOptions { keep_extents: 2, ..options().fold }, ..options() }
    }

    async fn step(&mut self, step: &Step, fill: u64) {
        match step {
            Step::Append(p, records, minutes) => {
                let at = if *minutes < 0 { -1 } else { NOW_MS + minutes * MINUTE_MS };
                let batch = batch_at(&vec![at; *records], fill, None);
                self.bed.submit(vec![(log_of(*p), batch)]).await.unwrap();
            }
            Step::Fold if self.folds => self.upkeep.fold().await.unwrap(),
            Step::Faults(count) if self.folds => {
                self.world.stage.script().gets.extend((0..*count).map(|_| GetFault::FlipBit));
            }
            Step::Fold | Step::Faults(_) => {}
            Step::Sweep => sweep(&self.upkeep).await,
            Step::Retain(minutes) => {
                // Damaged twice, a run is as good as missing, and retention waits for the next pass.
                self.world.stage.script().gets.clear();
                self.bed.clock.advance_ms(minutes * MINUTE_MS);
                self.upkeep.retain().await.unwrap();
            }
            Step::Cut(p, part) => {
                let (start, end) = self.marks(log_of(*p));
                advance_start(&self.bed, log_of(*p), start + (end - start) * *part as i64 / 1_000).await;
            }
            Step::Restart => {
                let clock = std::sync::Arc::clone(&self.bed.clock);
                self.bed = self.world.gateway(2, WriterOptions::default()).await;
                self.bed.clock = clock;
                expire_others(&self.bed).await;
                self.upkeep = self.bed.upkeep(Self::options());
            }
        }
    }

    fn marks(&self, tp: TopicPartition) -> (i64, i64) {
        self.bed.metadata.read(|state| {
            let log = state.log(tp).unwrap();
            (log.log_start().get(), log.high_watermark().get())
        })
    }
}

/// Whoever reads sees no difference.
async fn check_same(folded: &House, plain: &House) {
    let faults = std::mem::take(&mut folded.world.stage.script().gets);
    for tp in (0..3).map(log_of) {
        assert_eq!(folded.marks(tp), plain.marks(tp), "G3: {tp}");
        let (start, end) = plain.marks(tp);
        let cold = folded.bed.cold_reader();
        for from in [start, start + (end - start) / 2, end] {
            let expected = read_all(&plain.bed.reader, tp, from).await;
            for reader in [&folded.bed.reader, &cold] {
                assert_eq!(read_all(reader, tp, from).await, expected, "L1, L2, G4: {tp} from {from}");
            }
        }
        for minutes in (0..90).step_by(11) {
            let at = NOW_MS + minutes * MINUTE_MS;
            let expected = plain.bed.reader.offset_for_timestamp(tp, at).await;
            assert_eq!(cold.offset_for_timestamp(tp, at).await, expected, "G7: {tp} at {minutes} min");
        }
        assert_eq!(cold.max_timestamp(tp).await, plain.bed.reader.max_timestamp(tp).await);
    }
    folded.world.stage.script().gets = faults;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn l1_l2_g1_g2_g3_g4_g7_folds_change_nothing_for_anyone(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut folded, mut plain) = (House::new(true).await, House::new(false).await);
            for (fill, step) in (0..).zip(&steps) {
                folded.step(step, fill).await;
                plain.step(step, fill).await;
                if !matches!(step, Step::Append(..) | Step::Faults(_)) {
                    check_same(&folded, &plain).await;
                }
            }
            folded.world.stage.script().gets.clear();
            check_same(&folded, &plain).await;
            // Everything goes: then nothing is left of either.
            for house in [&mut folded, &mut plain] {
                for p in 0..3 {
                    house.step(&Step::Cut(p, 1_000), 0).await;
                }
                house.step(&Step::Fold, 0).await;
                house.step(&Step::Sweep, 0).await;
                house.upkeep.sweep_listed().await.unwrap();
                assert_eq!(house.bed.objects(), Vec::<String>::new(), "G2");
            }
        });
    }
}

#[test]
fn a_run_is_as_long_as_it_may_be_and_never_empty() {
    let extents = vec![Extent { length: 100, ..crate::sample::extent_of(0, &batch_of(1, 1)) }; 10];
    assert_eq!(run_of(&extents, 4, 1 << 30), 4);
    assert_eq!(run_of(&extents, 40, 250), 2);
    assert_eq!(run_of(&extents, 4, 1), 1);
    assert_eq!(run_of(&extents[..3], 4, 1 << 30), 3);
}
