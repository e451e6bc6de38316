use std::collections::BTreeMap;

use metadata::command::{Command, Outcome};
use metadata::model::ids::SessionId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::options::{MergeOptions, UpkeepOptions, WriterOptions};
use crate::sample::{batch_of, partition};
use crate::segment::parser::parse_segment;
use crate::testbed::{Bed, GetFault, World, batches, read, read_all, records_of};
use crate::upkeep::Upkeep;
use crate::upkeep::tests::{options as quiet, sweep};

/// Passes happen only when a test asks for them; four objects are enough for a merge.
fn options() -> UpkeepOptions {
    let quiet = quiet();
    UpkeepOptions { merge: MergeOptions { objects_min: 4, age_min: Duration::ZERO, ..quiet.merge }, ..quiet }
}

fn extent_count(bed: &Bed) -> usize {
    let count = |tp| bed.metadata.read(|state| state.log(tp).map_or(0, |log| log.extent_count()));
    (1..4).flat_map(|topic| (0..3).map(move |p| partition(topic, p))).map(count).sum()
}

/// Three partitions, `rounds` objects with a batch for each; tells what each partition holds.
async fn fill(bed: &Bed, rounds: u64) -> BTreeMap<TopicPartition, Vec<(i64, Vec<u8>)>> {
    let mut model: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for round in 0..rounds {
        let of = |p: i32| (partition(1, p), batch_of(1 + (round as usize + p as usize) % 3, round * 10 + p as u64));
        let batches: Vec<_> = (0..3).map(of).collect();
        let answers = bed.submit(batches.clone()).await.unwrap();
        for ((tp, batch), answer) in batches.into_iter().zip(answers) {
            let metadata::command::BatchOutcome::Appended { base, .. } = answer else { panic!("{answer:?}") };
            model.entry(tp).or_default().push((base.get(), records_of(&batch)));
        }
    }
    model
}

#[tokio::test(start_paused = true)]
async fn l1_l2_many_small_objects_become_one_and_every_record_stays_where_it_was() {
    let world = World::default();
    let bed = world.gateway(1, WriterOptions::default()).await;
    bed.topic(1, 3).await;
    let model = fill(&bed, 40).await;
    assert_eq!((bed.objects().len(), extent_count(&bed)), (40, 120));
    let upkeep = bed.upkeep(options());
    let metrics = &bed.metrics.upkeep;
    upkeep.keeper.measure_index();
    let (extents, index_bytes) = (metrics.extents.get(), metrics.index_bytes.get());
    upkeep.merge().await.unwrap();
    assert_eq!(extent_count(&bed), 3, "the index shrinks");
    assert_eq!(world.stage.script().get_count, 0, "all of it was in the tail cache");
    assert_eq!((metrics.merged.get(), metrics.rewritten_objects.get(), extents), (40, 1, 120));
    upkeep.merge().await.unwrap();
    upkeep.keeper.measure_index();
    assert_eq!((metrics.rewritten_objects.get(), metrics.extents.get()), (1, 3), "and that is that");
    assert!(metrics.index_bytes.get() * 10 < index_bytes, "{} of {index_bytes}", metrics.index_bytes.get());
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 1, "the old ones are gone");
    let other = world.gateway(2, WriterOptions::default()).await;
    other.metadata.barrier().await.unwrap();
    for (tp, expected) in &model {
        for reader in [&bed.reader, &bed.cold_reader(), &other.reader] {
            assert_eq!(&read_all(reader, *tp, 0).await, expected);
        }
        for (number, (base, _)) in expected.iter().enumerate() {
            assert_eq!(read_all(&bed.reader, *tp, *base).await, expected[number..], "from the middle");
        }
    }
    let key = &bed.objects()[0];
    let footer = parse_segment(&crate::blob::BlobStore::get(&world.stage.store, key).await.unwrap()).unwrap();
    assert!(footer.placed);
    assert_eq!(footer.topics[0].runs.iter().map(|run| run.batches.len()).collect::<Vec<_>>(), [40, 40, 40]);
    assert_eq!(bed.append(partition(1, 0), 1, 7).await, model[&partition(1, 0)].last().unwrap().0 + 1);
}

/// Writes eight times what the tail cache holds, in small objects none of which is old; tells bytes that were merged from the tail
/// cache, and from the bucket.
async fn write_past_the_tail(tail_bytes: usize, merge: MergeOptions) -> (u64, u64) {
    let world = World { tail_bytes: Some(tail_bytes), ..World::default() };
    let bed = world.gateway(1, WriterOptions::default()).await;
    bed.topic(1, 3).await;
    let hours = Duration::from_secs(36_000);
    let upkeep =
        bed.upkeep(UpkeepOptions { merge: MergeOptions { every: hours, age_min: hours, ..merge }, ..options() });
    let mut model: BTreeMap<TopicPartition, Vec<(i64, Vec<u8>)>> = BTreeMap::new();
    let mut written = 0;
    while written < 8 * tail_bytes {
        for (tp, part) in fill(&bed, 1).await {
            written += part.iter().map(|(_, records)| records.len()).sum::<usize>();
            model.entry(tp).or_default().extend(part);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (tp, expected) in &model {
        assert_eq!(&read_all(&bed.cold_reader(), *tp, 0).await, expected);
    }
    upkeep.shutdown().await;
    (bed.metrics.upkeep.source_tail_bytes.get(), bed.metrics.upkeep.source_bytes.get())
}

#[tokio::test(start_paused = true)]
async fn what_leaves_the_tail_cache_is_merged_before_and_read_from_there() {
    let tail_bytes = 16 << 10;
    let merge = || MergeOptions { target_bytes: 8 << 10, ..options().merge };
    let (from_tail, from_bucket) = write_past_the_tail(tail_bytes, merge()).await;
    assert!(from_tail > 6 * tail_bytes as u64 && from_bucket == 0, "{from_tail} and {from_bucket}");
    let large = MergeOptions { target_bytes: 1 << 20, ..merge() };
    assert_eq!(write_past_the_tail(tail_bytes, large).await, (0, 0), "it would be merged again, and read for that");
    let slow = MergeOptions { bytes_per_second: 1, ..merge() };
    let (once, from_bucket) = write_past_the_tail(tail_bytes, slow).await;
    assert!(
        once > 0 && once <= tail_bytes as u64 && from_bucket == 0,
        "{once} and {from_bucket}: no faster than upkeep may go"
    );
}

#[tokio::test(start_paused = true)]
async fn a_merge_from_the_bucket_takes_one_get_for_each_object() {
    let world = World::default();
    let model = {
        let bed = world.gateway(1, WriterOptions::default()).await;
        bed.topic(1, 3).await;
        fill(&bed, 8).await
    };
    let bed = world.gateway(2, WriterOptions::default()).await;
    expire_others(&bed).await;
    bed.upkeep(options()).merge().await.unwrap();
    assert_eq!((world.stage.script().get_count, extent_count(&bed)), (8, 3));
    for (tp, expected) in &model {
        assert_eq!(&read_all(&bed.cold_reader(), *tp, 0).await, expected);
    }
}

/// Ends every session but this gateway's.
async fn expire_others(by: &Bed) {
    by.metadata.barrier().await.unwrap();
    let others: Vec<(SessionId, metadata::model::ids::Lsn)> = by.metadata.read(|state| {
        let others = state.sessions().live().filter(|session| session.id != by.metadata.session());
        others.map(|session| (session.id, session.last_lsn)).collect()
    });
    for (session, last_seen) in others {
        let expired = by.metadata.submit(Command::ExpireSession { session, last_seen }).await;
        assert_eq!(expired, Ok(Outcome::Done));
    }
}

#[tokio::test(start_paused = true)]
async fn l7_damaged_bytes_stop_their_merge_and_no_other_and_nothing_is_lost() {
    let world = World::default();
    let model = {
        let bed = world.gateway(1, WriterOptions::default()).await;
        bed.topic(1, 3).await;
        fill(&bed, 10).await
    };
    let bed = world.gateway(2, WriterOptions::default()).await;
    expire_others(&bed).await;
    let upkeep = bed.upkeep(options());
    // Damaged on the way once: read again.
    world.stage.script().gets.push_back(GetFault::FlipBit);
    let key = bed.objects()[3].clone();
    let whole = crate::blob::BlobStore::get(&world.stage.store, &key).await.unwrap();
    let mut damaged = whole.to_vec();
    damaged[40] ^= 1;
    crate::blob::BlobStore::put(&world.stage.store, &key, damaged.into()).await.unwrap();
    upkeep.merge().await.unwrap();
    assert_eq!((extent_count(&bed), bed.metrics.upkeep.rewritten_objects.get()), (30, 0), "all is as it was");
    upkeep.merge().await.unwrap();
    assert_eq!(bed.metrics.upkeep.rewritten_objects.get(), 1, "the others go on without it");
    assert_eq!(extent_count(&bed), 9, "before it, itself, and behind it");
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 2, "what is damaged is kept: it may be all there is");
    crate::blob::BlobStore::put(&world.stage.store, &key, whole.into()).await.unwrap();
    for (tp, expected) in &model {
        assert_eq!(&read_all(&bed.cold_reader(), *tp, 0).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn g1_g2_a_crash_between_put_and_swap_loses_nothing_and_leaves_nothing() {
    let world = World::default();
    let crashed = world.gateway(1, WriterOptions::default()).await;
    crashed.topic(1, 3).await;
    let model = fill(&crashed, 6).await;
    let upkeep = crashed.upkeep(options());
    world.journal.hold_appends(true);
    let merge = tokio::spawn(async move { upkeep.merge().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    merge.abort();
    assert_eq!(world.stage.store.keys().len(), 7, "stored, and named by nothing");
    drop(crashed);
    world.journal.hold_appends(false);
    let bed = world.gateway(2, WriterOptions::default()).await;
    expire_others(&bed).await;
    let upkeep = bed.upkeep(options());
    upkeep.sweep_listed().await.unwrap();
    let swapped = extent_count(&bed) == 3; // the command may have been on its way: then it is the old ones that go
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), if swapped { 1 } else { 6 });
    for (tp, expected) in &model {
        assert_eq!(&read_all(&bed.cold_reader(), *tp, 0).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn g3_g4_g6_what_changes_during_a_merge_stays_changed_and_slow_readers_have_their_data() {
    let bed = Bed::new().await;
    bed.topic(1, 3).await;
    let model = fill(&bed, 6).await;
    bed.topic(2, 1).await;
    bed.append(partition(2, 0), 3, 5).await;
    let cold = bed.cold_reader();
    bed.world.stage.script().get_delay = Duration::from_secs(5);
    let slow = read(&cold, partition(1, 2), 0);
    let upkeep = bed.upkeep(options());
    bed.world.stage.script().put_delay = Duration::from_secs(3);
    let changes = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let starts = vec![(partition(1, 0), Offset::new(3).unwrap()), (partition(1, 1), Offset::new(1).unwrap())];
        bed.metadata.submit(Command::AdvanceLogStart { starts }).await.unwrap();
        bed.metadata.submit(Command::DeleteTopic { topic: partition(2, 0).topic }).await.unwrap();
    };
    let (merged, found, ()) = tokio::join!(upkeep.merge(), slow, changes);
    merged.unwrap();
    bed.world.stage.script().put_delay = Duration::ZERO;
    bed.world.stage.script().get_delay = Duration::ZERO;
    assert_eq!(batches(&found), model[&partition(1, 2)], "as it stood when the reader looked");
    let counts = [0, 1, 2].map(|p| bed.metadata.read(|state| state.log(partition(1, p)).unwrap().extent_count()));
    assert_eq!(counts, [4, 1, 1], "the first lost extents meanwhile, the second only began to be cut");
    assert_eq!(bed.metrics.upkeep.refused_swaps.get(), 2);
    let start = |p| bed.metadata.read(|state| state.log(partition(1, p)).unwrap().log_start().get());
    assert_eq!([start(0), start(1)], [3, 1]);
    sweep(&upkeep).await;
    for p in 0..3 {
        let expected: Vec<_> = model[&partition(1, p)].iter().filter(|(base, _)| *base >= start(p)).cloned().collect();
        let found = read_all(&bed.cold_reader(), partition(1, p), start(p)).await;
        assert!(found.ends_with(&expected) && found.len() <= expected.len() + 1);
    }
}

/// What a random history does.
#[derive(Debug, Clone)]
enum Step {
    /// One object with a batch for each of these partitions.
    Append(Vec<(i32, usize)>),
    Merge,
    Sweep,
    /// Cuts a partition somewhere, in thousandths of its length.
    Cut(i32, u64),
    /// A topic goes and comes again under a new identity.
    Recreate,
    /// Another gateway takes over.
    Restart,
    /// The next GETs and PUTs fail.
    Faults(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = vec((0i32..3, 1usize..4), 1..4).prop_map(Step::Append);
    let step = prop_oneof![
        12 => append,
        4 => Just(Step::Merge),
        2 => Just(Step::Sweep),
        2 => (0i32..3, 0u64..=1_000).prop_map(|(p, part)| Step::Cut(p, part)),
        1 => Just(Step::Recreate),
        1 => Just(Step::Restart),
        1 => (1usize..3).prop_map(Step::Faults),
    ];
    vec(step, 1..60)
}

/// A world, the gateway that lives in it, and what its one topic must hold.
struct History {
    world: World,
    bed: Bed,
    upkeep: Upkeep,
    topic: u128,
    logs: BTreeMap<i32, Vec<(i64, Vec<u8>)>>,
    starts: BTreeMap<i32, i64>,
    fill: u64,
}

impl History {
    async fn begin() -> Self {
        let world = World::default();
        let bed = world.gateway(1, WriterOptions::default()).await;
        let upkeep = bed.upkeep(Self::options());
        let mut history =
            Self { world, bed, upkeep, topic: 1, logs: BTreeMap::new(), starts: BTreeMap::new(), fill: 0 };
        history.recreate().await;
        history
    }

    /// Small targets and extents, so that all levels and long logs are seen.
    fn options() -> UpkeepOptions {
        let merge = MergeOptions { target_bytes: 3_000, extent_bytes: 400, objects_min: 3, ..options().merge };
        UpkeepOptions { merge, ..options() }
    }

    async fn recreate(&mut self) {
        let topic = partition(self.topic, 0).topic;
        let _ = self.bed.metadata.submit(Command::DeleteTopic { topic }).await;
        self.topic += 1;
        self.bed.topic(self.topic, 3).await;
        (self.logs, self.starts) = (BTreeMap::new(), BTreeMap::new());
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append(parts) => {
                for (p, records) in parts {
                    self.fill += 1;
                    let batch = batch_of(*records, self.fill);
                    let submitted = self.bed.submit(vec![(partition(self.topic, *p), batch.clone())]).await;
                    // A refused PUT leaves nothing.
                    let Ok(answers) = submitted else { continue };
                    let [metadata::command::BatchOutcome::Appended { base, .. }] = answers[..] else {
                        panic!("{answers:?}")
                    };
                    self.logs.entry(*p).or_default().push((base.get(), records_of(&batch)));
                }
            }
            Step::Merge => drop(self.upkeep.merge().await), // an injected fault may end it
            Step::Sweep => {
                drop(self.upkeep.sweep_listed().await);
                sweep(&self.upkeep).await;
            }
            Step::Cut(p, part) => {
                let tp = partition(self.topic, *p);
                let (start, end) = self.bed.metadata.read(|state| {
                    let log = state.log(tp).unwrap();
                    (log.log_start(), log.high_watermark())
                });
                let to = start.checked_add(end.since(start) * part / 1_000).unwrap();
                self.bed.metadata.submit(Command::AdvanceLogStart { starts: vec![(tp, to)] }).await.unwrap();
                self.starts.insert(*p, to.get());
            }
            Step::Recreate => self.recreate().await,
            Step::Restart => {
                self.bed = self.world.gateway(2, WriterOptions::default()).await;
                expire_others(&self.bed).await;
                self.upkeep = self.bed.upkeep(Self::options());
            }
            Step::Faults(count) => {
                let mut script = self.world.stage.script();
                script.gets.extend((0..*count).map(|_| GetFault::FlipBit));
                script.puts.extend((0..*count).map(|_| crate::testbed::PutFault::Refused));
            }
        }
    }

    /// Every log is what it must be, warm and cold, from its start and from a place in the middle.
    async fn check(&self) {
        let faults = std::mem::take(&mut *self.world.stage.script());
        for p in 0..3 {
            let tp = partition(self.topic, p);
            let start = self.starts.get(&p).copied().unwrap_or(0);
            let log = self.logs.get(&p).cloned().unwrap_or_default();
            let first = log.partition_point(|(base, _)| *base <= start).saturating_sub(1);
            let is_gone = log
                .last()
                .is_none_or(|_| start >= self.bed.metadata.read(|state| state.log(tp).unwrap().high_watermark().get()));
            let expected = if is_gone { &[][..] } else { &log[first..] };
            for reader in [&self.bed.reader, &self.bed.cold_reader()] {
                assert_eq!(read_all(reader, tp, start).await, expected, "L1, L2, G4: {tp} from {start}");
            }
        }
        *self.world.stage.script() = faults;
        let (referenced, stored) = (self.bed.metadata.read(|state| state.objects().iter().count()), self.bed.objects());
        assert!(referenced <= stored.len(), "G1: an object that is referred to was deleted");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn l1_l2_g1_g3_g4_g6_hold_in_any_history(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut history = History::begin().await;
            for step in &steps {
                history.step(step).await;
                if !matches!(step, Step::Append(_) | Step::Faults(_)) {
                    history.check().await;
                }
            }
            history.check().await;
        });
    }
}

#[test]
fn neighbours_are_joined_and_others_are_not() {
    let extent = |base: i64, end: i64, sparse| Extent {
        base: Offset::new(base).unwrap(),
        end: Offset::new(end).unwrap(),
        sparse,
        ..crate::sample::extent_of(0, &batch_of(1, 1))
    };
    let all =
        vec![extent(0, 5, true), extent(5, 7, true), extent(7, 9, false), extent(9, 12, false), extent(13, 14, false)];
    let runs = |open_end: Option<i64>| -> Vec<usize> {
        let open_end = open_end.map(|end| Offset::new(end).unwrap());
        split(partition(1, 0), all.clone(), open_end).iter().map(|(_, run)| run.len()).collect()
    };
    assert_eq!(runs(None), [2, 2, 1]);
    assert_eq!(runs(Some(12)), [2, 1, 1, 1], "compaction waits for what is behind the last extent only");
    assert_eq!(runs(Some(14)), [2, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn merged_extents_are_no_longer_than_a_reader_is_to_load_at_once() {
    let world = World::default();
    let bed = world.gateway(1, WriterOptions::default()).await;
    bed.topic(1, 3).await;
    let model = fill(&bed, 40).await;
    let options = options();
    let merge = MergeOptions { extent_bytes: 1_000, ..options.merge };
    bed.upkeep(UpkeepOptions { merge, ..options }).merge().await.unwrap();
    let extents = |p| bed.metadata.read(|state| state.log(partition(1, p)).unwrap().all_unfolded().collect::<Vec<_>>());
    for p in 0..3 {
        let extents = extents(p);
        let bytes: u32 = extents.iter().map(|extent| extent.length).sum();
        assert!(extents.iter().all(|extent| extent.length <= 1_000 && extent.max_timestamp == 1_000));
        assert!(extents.len() as u32 <= bytes / 800 + 1, "{} for {bytes} bytes", extents.len());
        assert!(extents.windows(2).all(|pair| pair[0].end == pair[1].base));
        assert_eq!(read_all(&bed.cold_reader(), partition(1, p), 0).await, model[&partition(1, p)]);
    }
}
