use std::collections::BTreeMap;
use std::time::Duration;

use metadata::command::{BatchOutcome, Command};
use metadata::model::batch::ProducerStamp;
use metadata::model::ids::ProducerId;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::codec::compression::Codec;
use crate::codec::inflate_batch;
use crate::codec::records::{RecordIter, RecordsBuilder};
use crate::options::{CompactOptions, MergeOptions, UpkeepOptions, WriterOptions};
use crate::reader::Reader;
use crate::sample::partition;
use crate::testbed::{Bed, GetFault, NOW_MS, PutFault, World, base_of, read};
use crate::upkeep::Upkeep;
use crate::upkeep::tests::{options as quiet, sweep};

const HOUR_MS: i64 = 3_600_000;

/// Offset, key and value.
type Kept = (i64, String, Option<String>);

/// Passes happen only when a test asks for them.
fn options() -> UpkeepOptions {
    let quiet = quiet();
    UpkeepOptions { merge: MergeOptions { objects_min: 4, age_min: Duration::ZERO, ..quiet.merge }, ..quiet }
}

/// A gateway with topic 1 of one partition, compacted whenever anything is dirty.
async fn compacted(configs: &[(&str, &str)]) -> Bed {
    let bed = Bed::new().await;
    topic(&bed, configs).await;
    bed
}

async fn topic(bed: &Bed, configs: &[(&str, &str)]) {
    let always = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("retention.ms", "1")];
    bed.topic_with(1, 1, &[&always[..], configs].concat()).await;
}

fn tp() -> TopicPartition {
    partition(1, 0)
}

fn batch_of(records: &[(&str, Option<&str>)], time_ms: i64) -> RecordsBuilder {
    let add = |batch: RecordsBuilder, (key, value): &(&str, Option<&str>)| {
        batch.record(time_ms, Some(key.as_bytes()), value.map(str::as_bytes))
    };
    records.iter().fold(RecordsBuilder::new(), add)
}

/// Appends one batch, in an object of its own.
async fn put(bed: &Bed, records: &[(&str, Option<&str>)]) -> i64 {
    base_of(bed.submit(vec![(tp(), batch_of(records, NOW_MS).build().to_vec())]).await)
}

/// All records from an offset on, by as many reads as it takes.
async fn read_from(reader: &Reader, from: i64) -> Vec<Kept> {
    let (mut all, mut next) = (Vec::new(), from);
    loop {
        let found = read(reader, tp(), next).await;
        assert_eq!(found.error, None, "at {next}");
        let start = next;
        for bytes in &found.records {
            for batch in metadata::model::batch::BatchIter::new(bytes) {
                let batch = batch.unwrap();
                assert!(batch.crc_is_valid() && batch.base_offset() + i64::from(batch.last_offset_delta()) >= next);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                for record in RecordIter::new(&inflate_batch(&batch, 1 << 20).unwrap(), batch.record_count()) {
                    let record = record.unwrap();
                    let offset = batch.base_offset() + i64::from(record.offset_delta);
                    if offset >= from {
                        all.push((offset, text(record.key.unwrap()), record.value.map(text)));
                    }
                }
                next = batch.base_offset() + i64::from(batch.last_offset_delta()) + 1;
            }
        }
        if next == start {
            assert_eq!(found.high_watermark.get(), next, "a reader stands before the end and is given nothing");
            return all;
        }
    }
}

fn kept(records: &[(i64, &str, Option<&str>)]) -> Vec<Kept> {
    records.iter().map(|(offset, key, value)| (*offset, (*key).into(), value.map(Into::into))).collect()
}

fn extents(bed: &Bed) -> Vec<Extent> {
    bed.metadata.read(|state| state.log(tp()).unwrap().all_unfolded().collect())
}

#[tokio::test(start_paused = true)]
async fn g5_the_newest_of_each_key_stays_at_its_offset_and_gaps_hold_no_one_up() {
    let bed = compacted(&[]).await;
    put(&bed, &[("a", Some("1")), ("b", Some("1")), ("a", Some("2"))]).await;
    put(&bed, &[("c", Some("1"))]).await;
    put(&bed, &[("a", Some("3")), ("c", Some("2"))]).await;
    put(&bed, &[("a", Some("4"))]).await;
    let upkeep = bed.upkeep(options());
    upkeep.compact().await.unwrap();
    let expected = kept(&[(1, "b", Some("1")), (4, "a", Some("3")), (5, "c", Some("2")), (6, "a", Some("4"))]);
    assert_eq!(read_from(&bed.reader, 0).await, expected, "the last object counts as active");
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 2);
    assert_eq!(
        extents(&bed).iter().map(|e| (e.base.get(), e.end.get(), e.sparse)).collect::<Vec<_>>(),
        [(0, 6, true), (6, 7, false)]
    );
    for from in 0..=7 {
        let of_rest: Vec<Kept> = expected.iter().filter(|(offset, ..)| *offset >= from).cloned().collect();
        assert_eq!(read_from(&bed.cold_reader(), from).await, of_rest, "from {from}");
    }
    put(&bed, &[("z", Some("1"))]).await;
    upkeep.compact().await.unwrap();
    assert_eq!(read_from(&bed.cold_reader(), 0).await[1], (5, "c".into(), Some("2".into())), "a went on");
    upkeep.compact().await.unwrap();
    assert_eq!(bed.metrics.upkeep.rewritten_objects.get(), 2, "nothing is dirty");
    assert_eq!(bed.metrics.upkeep.compacted_records.get(), 4);
    upkeep.retain().await.unwrap();
    assert_eq!(read_from(&bed.reader, 0).await.len(), 4, "retention.ms is for cleanup.policy=delete");
}

#[tokio::test(start_paused = true)]
async fn g5_tombstones_are_kept_for_their_time_and_what_they_deleted_does_not_come_back() {
    let bed = compacted(&[("delete.retention.ms", "3600000")]).await;
    let upkeep = bed.upkeep(options());
    put(&bed, &[("a", Some("1")), ("b", Some("1"))]).await;
    put(&bed, &[("z", None)]).await;
    upkeep.compact().await.unwrap();
    put(&bed, &[("a", None)]).await;
    put(&bed, &[("z", None)]).await;
    upkeep.compact().await.unwrap();
    let without_z = |left: Vec<Kept>| left.into_iter().filter(|(_, key, _)| key != "z").collect::<Vec<_>>();
    let with_tombstone = kept(&[(1, "b", Some("1")), (3, "a", None)]);
    assert_eq!(without_z(read_from(&bed.reader, 0).await), with_tombstone);
    bed.clock.advance_ms(HOUR_MS - 1);
    put(&bed, &[("z", None)]).await;
    upkeep.compact().await.unwrap();
    assert!(read_from(&bed.reader, 0).await.contains(&(3, "a".into(), None)), "its time is not over");
    bed.clock.advance_ms(1);
    put(&bed, &[("z", None)]).await;
    upkeep.compact().await.unwrap();
    assert_eq!(without_z(read_from(&bed.cold_reader(), 0).await), with_tombstone[..1]);
}

#[tokio::test(start_paused = true)]
async fn g5_more_keys_than_memory_takes_several_passes() {
    let bed = compacted(&[]).await;
    for round in 0..6 {
        let value = round.to_string();
        let keys: Vec<String> = (0..10).map(|n| format!("{}", (n + round) % 12)).collect();
        let records: Vec<(&str, Option<&str>)> = keys.iter().map(|key| (&**key, Some(&*value))).collect();
        put(&bed, &records).await;
    }
    put(&bed, &[("end", Some("1"))]).await;
    let few = UpkeepOptions { compact: CompactOptions { keys_bytes: 1_000, ..options().compact }, ..options() };
    let upkeep = bed.upkeep(few);
    let mut passes = 0;
    while extents(&bed).iter().filter(|extent| !extent.sparse).count() > 1 {
        upkeep.compact().await.unwrap();
        passes += 1;
        assert!(passes < 10);
    }
    assert!(passes > 1, "twenty keys of memory, ten in a batch");
    let left = read_from(&bed.cold_reader(), 0).await;
    // Ten keys of the last round, and the two that it did not have.
    assert_eq!(left.len(), 13, "{left:?}");
    assert!(left.iter().filter(|(offset, ..)| *offset >= 50).count() == 11);
}

#[tokio::test(start_paused = true)]
async fn a_batch_cut_by_a_full_map_leaves_a_dense_rest() {
    let bed = compacted(&[]).await;
    // One object, two batches of one extent.
    let batches = |value| vec![(tp(), batch_of(&[("a", Some(value)), ("b", Some(value))], NOW_MS).build().to_vec())];
    let all: Vec<_> = ["1", "2", "3"].into_iter().flat_map(batches).collect();
    bed.submit(all).await.unwrap();
    put(&bed, &[("end", Some("1"))]).await;
    let few = UpkeepOptions { compact: CompactOptions { keys_bytes: 50, ..options().compact }, ..options() };
    let upkeep = bed.upkeep(few);
    upkeep.compact().await.unwrap();
    let shape = |bed: &Bed| extents(bed).iter().map(|e| (e.base.get(), e.end.get(), e.sparse)).collect::<Vec<_>>();
    assert_eq!(shape(&bed), [(0, 2, true), (2, 6, false), (6, 7, false)]);
    upkeep.compact().await.unwrap();
    assert_eq!(shape(&bed), [(2, 4, true), (4, 6, false), (6, 7, false)], "the first batch is gone: a gap");
    upkeep.compact().await.unwrap();
    let expected = kept(&[(4, "a", Some("3")), (5, "b", Some("3")), (6, "end", Some("1"))]);
    for from in 0..4 {
        assert_eq!(read_from(&bed.cold_reader(), from).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_merged_is_compacted_and_what_was_compacted_is_merged() {
    let bed = compacted(&[]).await;
    let upkeep = bed.upkeep(options());
    for n in 0..6 {
        put(&bed, &[("a", Some(&*n.to_string())), ("b", Some("1"))]).await;
    }
    upkeep.merge().await.unwrap();
    let shape = |bed: &Bed| extents(bed).iter().map(|e| (e.base.get(), e.end.get(), e.sparse)).collect::<Vec<_>>();
    assert_eq!(shape(&bed), [(0, 10, false), (10, 12, false)], "the newest extent does not hold up the others");
    upkeep.compact().await.unwrap();
    assert_eq!(shape(&bed), [(8, 10, true), (10, 12, false)]);
    for _ in 0..4 {
        put(&bed, &[("c", Some("1"))]).await;
    }
    upkeep.merge().await.unwrap();
    assert_eq!(
        shape(&bed),
        [(8, 10, true), (10, 12, false), (12, 15, false), (15, 16, false)],
        "what is dirty is told from what is clean"
    );
    upkeep.compact().await.unwrap();
    let left: Vec<i64> = read_from(&bed.cold_reader(), 0).await.iter().map(|kept| kept.0).collect();
    assert_eq!(left, [10, 11, 14, 15]);
    sweep(&upkeep).await;
    assert_eq!(read_from(&bed.cold_reader(), 0).await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn g3_g4_g5_what_changes_during_a_compaction_stays_changed() {
    let bed = compacted(&[]).await;
    for _ in 0..4 {
        put(&bed, &[("a", Some("1")), ("b", Some("1"))]).await;
    }
    let upkeep = bed.upkeep(options());
    bed.world.stage.script().put_delay = Duration::from_secs(3);
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let starts = vec![(tp(), Offset::new(3).unwrap())];
        bed.metadata.submit(Command::AdvanceLogStart { starts }).await.unwrap();
    };
    let (done, ()) = tokio::join!(upkeep.compact(), cut);
    done.unwrap();
    bed.world.stage.script().put_delay = Duration::ZERO;
    assert_eq!(bed.metrics.upkeep.refused_swaps.get(), 1);
    assert_eq!(read_from(&bed.reader, 3).await.len(), 5, "all of it is there");
    sweep(&upkeep).await;
    assert_eq!(bed.objects().len(), 3, "what was refused is swept");
    upkeep.compact().await.unwrap();
    assert_eq!(read_from(&bed.cold_reader(), 3).await.iter().map(|kept| kept.0).collect::<Vec<_>>(), [4, 5, 6, 7]);
    put(&bed, &[("a", Some("2"))]).await;
    bed.world.stage.script().put_delay = Duration::from_secs(3);
    let delete = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        bed.metadata.submit(Command::DeleteTopic { topic: tp().topic }).await.unwrap();
    };
    let (done, ()) = tokio::join!(upkeep.compact(), delete);
    done.unwrap();
    bed.world.stage.script().put_delay = Duration::ZERO;
    sweep(&upkeep).await;
    assert_eq!(bed.objects(), Vec::<String>::new(), "G6: nothing of it is left");
}

/// Compacts while the log's start moves past the first record, and tells how many objects that wrote.
async fn overtaken(bed: &Bed, target_bytes: u64) -> u64 {
    let mut options = options();
    (options.compact.chunk_bytes, options.merge.target_bytes) = (1, target_bytes);
    let upkeep = bed.upkeep(options);
    let before = bed.metrics.upkeep.rewritten_objects.get();
    bed.world.stage.script().put_delay = Duration::from_secs(3);
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let starts = vec![(tp(), Offset::new(1).unwrap())];
        bed.metadata.submit(Command::AdvanceLogStart { starts }).await.unwrap();
    };
    let (done, ()) = tokio::join!(upkeep.compact(), cut);
    done.unwrap();
    bed.world.stage.script().put_delay = Duration::ZERO;
    assert_eq!(bed.metrics.upkeep.refused_swaps.get(), 1);
    bed.metrics.upkeep.rewritten_objects.get() - before
}

#[tokio::test(start_paused = true)]
async fn g5_nothing_behind_a_refused_swap_is_cleaned_by_the_same_pass() {
    let bed = compacted(&[]).await;
    for record in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")] {
        put(&bed, &[(record.0, Some(record.1))]).await;
    }
    assert_eq!(overtaken(&bed, 1).await, 1, "the object of the refused swap, and no other");
    assert!(extents(&bed).iter().all(|extent| !extent.sparse), "nothing was cleaned");
    bed.upkeep(options()).compact().await.unwrap();
    let all = kept(&[(1, "b", Some("1")), (2, "a", Some("2")), (3, "c", Some("1"))]);
    assert_eq!(read_from(&bed.cold_reader(), 1).await, all);
}

#[tokio::test(start_paused = true)]
async fn g5_nor_behind_extents_that_stay_as_they_are() {
    let bed = compacted(&[]).await;
    for key in ["a", "b", "c"] {
        put(&bed, &[(key, Some("1"))]).await;
    }
    let mut apart = options();
    (apart.compact.chunk_bytes, apart.merge.target_bytes) = (1, 1);
    bed.upkeep(apart).compact().await.unwrap();
    let sparse = |bed: &Bed| extents(bed).iter().map(|extent| extent.sparse).collect::<Vec<_>>();
    assert_eq!(sparse(&bed), [true, true, false], "an extent of each");
    put(&bed, &[("a", Some("2"))]).await;
    put(&bed, &[("d", Some("1"))]).await;
    assert_eq!(overtaken(&bed, 1 << 20).await, 1, "the object of the refused swap, and no other");
    assert_eq!(sparse(&bed), [true, false, false, false], "what is behind it is dirty still");
    bed.upkeep(options()).compact().await.unwrap();
    let all = [(1, "b", Some("1")), (2, "c", Some("1")), (3, "a", Some("2")), (4, "d", Some("1"))];
    assert_eq!(read_from(&bed.cold_reader(), 1).await, kept(&all));
}

#[tokio::test(start_paused = true)]
async fn l7_damaged_bytes_stop_a_compaction_and_nothing_is_lost() {
    let world = World::default();
    let first = world.gateway(1, WriterOptions::default()).await;
    topic(&first, &[]).await;
    for _ in 0..3 {
        put(&first, &[("a", Some("1"))]).await;
    }
    let bed =
        Bed { tail: std::sync::Arc::new(crate::cache::tail::TailCache::new(0, first.metrics.tail.clone())), ..first };
    let upkeep = bed.upkeep(options());
    world.stage.script().gets.extend(vec![GetFault::FlipBit; 4]); // two objects, each read again
    upkeep.compact().await.unwrap();
    world.stage.script().gets.clear();
    assert_eq!((bed.metrics.upkeep.failed_compactions.get(), extents(&bed).len()), (1, 3));
    world.stage.script().puts.push_back(PutFault::Refused);
    tokio::time::advance(Duration::from_secs(700)).await;
    upkeep.compact().await.unwrap_err();
    assert_eq!(extents(&bed).len(), 3);
    assert_eq!(read_from(&bed.cold_reader(), 0).await.len(), 3);
    upkeep.compact().await.unwrap();
    assert_eq!(read_from(&bed.cold_reader(), 0).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn t1_a_repetition_is_known_although_its_batch_was_compacted_away() {
    let bed = compacted(&[]).await;
    let stamp = ProducerStamp { id: ProducerId(7), epoch: 0, base_sequence: 0, transactional: false };
    let batch = batch_of(&[("a", Some("1"))], NOW_MS).stamp(stamp).build().to_vec();
    assert_eq!(base_of(bed.submit(vec![(tp(), batch.clone())]).await), 0);
    put(&bed, &[("a", Some("2"))]).await;
    put(&bed, &[("a", Some("3"))]).await;
    bed.upkeep(options()).compact().await.unwrap();
    assert_eq!(read_from(&bed.reader, 0).await.len(), 2);
    let again = bed.submit(vec![(tp(), batch)]).await.unwrap();
    assert!(matches!(again[..], [BatchOutcome::Duplicate { base, .. }] if base == Offset::ZERO), "{again:?}");
    let next = ProducerStamp { base_sequence: 1, ..stamp };
    assert_eq!(base_of(bed.submit(vec![(tp(), batch_of(&[("b", None)], 5).stamp(next).build().to_vec())]).await), 3);
}

#[tokio::test(start_paused = true)]
async fn g7_timestamps_are_found_where_compaction_left_gaps() {
    let bed = compacted(&[]).await;
    for (key, time) in [("a", 10), ("b", 20), ("a", 30), ("c", 40), ("b", 50), ("end", 60)] {
        base_of(bed.submit(vec![(tp(), batch_of(&[(key, Some("1"))], time).build().to_vec())]).await);
    }
    bed.upkeep(options()).compact().await.unwrap();
    assert_eq!(read_from(&bed.reader, 0).await.iter().map(|kept| kept.0).collect::<Vec<_>>(), [2, 3, 4, 5]);
    for (time, offset, at) in [(0, 2, 30), (20, 2, 30), (31, 3, 40), (41, 4, 50), (60, 5, 60)] {
        let found = bed.cold_reader().offset_for_timestamp(tp(), time).await;
        assert_eq!(found, Ok(Some((Offset::new(offset).unwrap(), at))), "{time}");
    }
    let latest = bed.cold_reader().max_timestamp(tp()).await;
    assert_eq!(latest, Ok(Some((Offset::new(5).unwrap(), 60))));
}

#[tokio::test(start_paused = true)]
async fn logs_that_are_compacted_and_deleted_are_both() {
    let bed = compacted(&[("cleanup.policy", "compact,delete"), ("retention.ms", "3600000")]).await;
    let upkeep = bed.upkeep(options());
    put(&bed, &[("a", Some("1"))]).await;
    put(&bed, &[("a", Some("2"))]).await;
    put(&bed, &[("a", Some("3"))]).await;
    upkeep.compact().await.unwrap();
    assert_eq!(read_from(&bed.reader, 0).await.len(), 2);
    bed.clock.advance_ms(HOUR_MS + 1);
    upkeep.retain().await.unwrap();
    assert_eq!(bed.metadata.read(|state| state.log(tp()).unwrap().log_start().get()), 3);
}

/// What a random history does.
#[derive(Debug, Clone)]
enum Step {
    /// Batches of keys and values (none is a tombstone), all in one object.
    Append(Vec<Vec<(u8, Option<u8>)>>, usize),
    Compact,
    Merge,
    Sweep,
    /// Cuts the log somewhere, in thousandths of its length.
    Cut(u64),
    /// Time passes, in thousandths of the tombstones' time.
    Wait(i64),
    Restart,
    Faults(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let record = (0u8..6, prop_oneof![3 => any::<u8>().prop_map(Some), 1 => Just(None)]);
    let append = (vec(vec(record, 1..4), 1..4), 0..Codec::ALL.len());
    let step = prop_oneof![
        10 => append.prop_map(|(batches, codec)| Step::Append(batches, codec)),
        6 => Just(Step::Compact),
        3 => Just(Step::Merge),
        1 => Just(Step::Sweep),
        1 => (0u64..=600).prop_map(Step::Cut),
        3 => (0i64..1_500).prop_map(Step::Wait),
        1 => Just(Step::Restart),
        1 => (1usize..3).prop_map(Step::Faults),
    ];
    vec(step, 1..60)
}

struct History {
    world: World,
    bed: Bed,
    upkeep: Upkeep,
    /// Everything that was ever acked, with the time of each.
    log: Vec<(Kept, i64)>,
    passed_ms: i64,
    start: i64,
}

impl History {
    async fn begin() -> Self {
        let world = World::default();
        let bed = world.gateway(1, WriterOptions::default()).await;
        topic(&bed, &[("delete.retention.ms", "1000")]).await;
        let upkeep = bed.upkeep(Self::options());
        Self { world, bed, upkeep, log: Vec::new(), passed_ms: 0, start: 0 }
    }

    /// Small objects and small maps, so that every cut is seen.
    fn options() -> UpkeepOptions {
        let merge = MergeOptions { target_bytes: 400, objects_min: 3, ..options().merge };
        UpkeepOptions { merge, compact: CompactOptions { keys_bytes: 200, ..options().compact }, ..options() }
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append(batches, codec) => self.append(batches, Codec::ALL[*codec]).await,
            Step::Compact => drop(self.upkeep.compact().await), // an injected fault may end it
            Step::Merge => drop(self.upkeep.merge().await),
            Step::Sweep => sweep(&self.upkeep).await,
            Step::Cut(part) => {
                let (start, end) = self.bed.metadata.read(|state| {
                    let log = state.log(tp()).unwrap();
                    (log.log_start(), log.high_watermark())
                });
                let to = start.checked_add(end.since(start) * part / 1_000).unwrap();
                self.bed.metadata.submit(Command::AdvanceLogStart { starts: vec![(tp(), to)] }).await.unwrap();
                self.start = to.get();
            }
            Step::Wait(ms) => {
                self.passed_ms += ms;
                self.bed.clock.advance_ms(*ms);
                tokio::time::advance(Duration::from_secs(700)).await;
            }
            Step::Restart => {
                self.bed = self.world.gateway(2, WriterOptions::default()).await;
                self.bed.metadata.barrier().await.unwrap();
                let own = self.bed.metadata.session();
                let others = self.bed.metadata.read(|state| {
                    let others = state.sessions().live().filter(|session| session.id != own);
                    others.map(|session| (session.id, session.last_lsn)).collect::<Vec<_>>()
                });
                for (session, last_seen) in others {
                    self.bed.metadata.submit(Command::ExpireSession { session, last_seen }).await.unwrap();
                }
                self.bed.clock.advance_ms(self.passed_ms);
                self.upkeep = self.bed.upkeep(Self::options());
            }
            Step::Faults(count) => {
                let mut script = self.world.stage.script();
                script.gets.extend((0..*count).map(|_| GetFault::FlipBit));
                script.puts.extend((0..*count).map(|_| PutFault::Refused));
            }
        }
    }

    async fn append(&mut self, batches: &[Vec<(u8, Option<u8>)>], codec: Codec) {
        let text = |batch: &[(u8, Option<u8>)]| -> Vec<(String, Option<String>)> {
            batch.iter().map(|(key, value)| (key.to_string(), value.map(|value| value.to_string()))).collect()
        };
        let build = |batch: &Vec<(u8, Option<u8>)>| {
            let records = text(batch);
            let records: Vec<(&str, Option<&str>)> = records.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
            (tp(), batch_of(&records, NOW_MS + self.passed_ms).codec(codec).build().to_vec())
        };
        let Ok(answers) = self.bed.submit(batches.iter().map(build).collect()).await else { return };
        for (batch, answer) in batches.iter().zip(answers) {
            let BatchOutcome::Appended { base, .. } = answer else { panic!("{answer:?}") };
            for (offset, (key, value)) in (base.get()..).zip(text(batch)) {
                self.log.push(((offset, key, value), self.passed_ms));
            }
        }
    }

    async fn check(&self) {
        let faults = std::mem::take(&mut *self.world.stage.script());
        let warm = read_from(&self.bed.reader, self.start).await;
        assert_eq!(read_from(&self.bed.cold_reader(), self.start).await, warm, "L2");
        *self.world.stage.script() = faults;
        let mut newest: BTreeMap<&str, (&Kept, i64)> = BTreeMap::new();
        let written: Vec<&Kept> = self.log.iter().map(|(kept, _)| kept).collect();
        for (kept, at) in self.log.iter().filter(|(kept, _)| kept.0 >= self.start) {
            newest.insert(&kept.1, (kept, *at));
        }
        assert!(warm.iter().all(|kept| written.contains(&kept)), "L1: nothing but what was written, at its offset");
        assert!(warm.is_sorted_by(|a, b| a.0 < b.0), "G5: in order");
        for (key, (kept, at)) in newest {
            let may_be_gone = kept.2.is_none() && self.passed_ms - at >= 1_000;
            let is_here = warm.contains(kept);
            assert!(is_here || may_be_gone, "G5: the newest of {key}, {kept:?}, is gone");
            let older = warm.iter().any(|other| other.1 == key && other.0 < kept.0);
            assert!(is_here || !older, "G5: {key} came to life again");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn g5_holds_in_any_history(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut history = History::begin().await;
            for step in &steps {
                history.step(step).await;
                if !matches!(step, Step::Append(..) | Step::Faults(_) | Step::Wait(_)) {
                    history.check().await;
                }
            }
            history.check().await;
            // With nothing in its way, compaction leaves one record of a key, but for the last object.
            *history.world.stage.script() = Default::default();
            tokio::time::advance(Duration::from_secs(700)).await;
            put(&history.bed, &[("end", None)]).await;
            for _ in 0..40 {
                history.upkeep.compact().await.unwrap();
            }
            let left = read_from(&history.bed.cold_reader(), history.start).await;
            let mut keys: Vec<&str> = left.iter().map(|kept| &*kept.1).collect();
            keys.sort_unstable();
            prop_assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{:?}", left);
            Ok(())
        })?;
    }
}
