//! The reader against a store and a journal that are slow, damaged, or move on meanwhile.

use std::time::Duration;

use metadata::command::{BatchOutcome, Command, Outcome, Refusal};
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use proptest::prelude::*;
use tokio::time::Instant;

use super::*;

mod ahead;
use crate::blob::BlobStore;
use crate::blob::lanes::{LaneOptions, LanesOptions};
use crate::options::WriterOptions;
use crate::sample::{batch_at, batch_of, partition};
use crate::testbed::{Bed, GetFault, batches, read, records_of, segments_of, want};

const GET: Duration = Duration::from_millis(25);

/// Appends a batch of one record to each of `count` partitions of topic 1, each in an object of its own.
async fn scattered(bed: &Bed, count: i32) -> Vec<ReadRequest> {
    bed.topic(1, count).await;
    for p in 0..count {
        bed.append(partition(1, p), 1, p.cast_unsigned().into()).await;
    }
    (0..count).map(|p| want(partition(1, p), 0, 1 << 20)).collect()
}

async fn start_of(bed: &Bed, tp: TopicPartition, to: i64) {
    let starts = vec![(tp, Offset::new(to).unwrap())];
    let moved = bed.metadata.submit(Command::AdvanceLogStart { starts }).await.unwrap();
    assert!(matches!(&moved, Outcome::LogStarts(starts) if starts[0].is_ok()), "{moved:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_cold_partitions_cost_the_latency_of_one() {
    let bed = Bed::new().await;
    let requests = scattered(&bed, 100).await;
    bed.world.stage.script().get_delay = GET;
    let began = Instant::now();
    let results = bed.cold_reader().read(&requests, 50 << 20).await;
    assert!(began.elapsed() < GET * 3 / 2, "{:?}", began.elapsed());
    assert_eq!(bed.world.stage.script().get_count, 100, "each in an object of its own");
    for (p, result) in results.iter().enumerate() {
        assert_eq!(batches(result), [(0, records_of(&batch_of(1, p as u64)))]);
    }
}

#[tokio::test(start_paused = true)]
async fn partitions_of_one_segment_share_a_get_and_blocks_stay() {
    let bed = Bed::new().await;
    bed.topic(1, 10).await;
    bed.submit((0..10).map(|p| (partition(1, p), batch_of(3, 1))).collect()).await.unwrap();
    let requests: Vec<_> = (0..10).map(|p| want(partition(1, p), 1, 1 << 20)).collect();
    let reader = bed.cold_reader();
    for _ in 0..3 {
        let results = reader.read(&requests, 1 << 20).await;
        assert!(results.iter().all(|result| batches(result) == [(0, records_of(&batch_of(3, 1)))]));
    }
    assert_eq!(bed.world.stage.script().get_count, 1);
}

#[tokio::test(start_paused = true)]
async fn readers_of_the_same_bytes_share_one_get_and_its_error() {
    let bed = Bed::new().await;
    let requests = scattered(&bed, 1).await;
    bed.world.stage.script().get_delay = GET;
    let reader = bed.cold_reader();
    bed.world.stage.script().gets.push_back(GetFault::Refused);
    let (a, b, c) = tokio::join!(reader.read(&requests, 99), reader.read(&requests, 99), async {
        tokio::time::sleep(GET / 2).await;
        reader.read(&requests, 99).await
    });
    assert!(matches!(a[0].error, Some(ReadError::Storage(_))), "{a:?}");
    assert_eq!((&a, &a), (&b, &c));
    assert_eq!(bed.world.stage.script().get_count, 1);
    assert_eq!(batches(&reader.read(&requests, 99).await[0]).len(), 1, "an error is not kept");
}

#[tokio::test(start_paused = true)]
async fn gets_in_flight_are_capped_by_number_and_bytes() {
    let bed = Bed::new().await;
    let requests = scattered(&bed, 20).await;
    bed.world.stage.script().get_delay = GET;
    let all = LanesOptions::default();
    for hot in [LaneOptions { requests: 3, ..all.hot }, LaneOptions { bytes: 3 << 10, ..all.hot }] {
        let lanes = bed.world.lanes(&LanesOptions { hot, ..all });
        let results = bed.cold_reader_by(ReaderOptions::default(), lanes).read(&requests, 1 << 20).await;
        assert!(results.iter().all(|result| batches(result).len() == 1));
        assert_eq!(std::mem::take(&mut bed.world.stage.script().gets_now), (0, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn budgets_are_kept_and_claimed_in_the_order_of_the_requests() {
    let bed = Bed::new().await;
    bed.topic(1, 3).await;
    let one = batch_of(1, 1).len();
    for p in 0..3 {
        for _ in 0..4 {
            bed.append(partition(1, p), 1, 1).await;
        }
    }
    for reader in [bed.reader.clone(), bed.cold_reader()] {
        let read = async |limits: [usize; 3], max_bytes: usize| {
            let requests: Vec<_> = (0..3).map(|p| want(partition(1, p), 0, limits[p as usize] as u32)).collect();
            let results = reader.read(&requests, max_bytes).await;
            [0, 1, 2].map(|p: usize| batches(&results[p]).len())
        };
        assert_eq!(read([99_999; 3], 99_999).await, [4, 4, 4]);
        assert_eq!(read([2 * one; 3], 99_999).await, [2, 2, 2], "each its own limit");
        assert_eq!(read([2 * one + 1; 3], 5 * one).await, [2, 2, 1], "the first ones claim first");
        assert_eq!(read([99_999; 3], 5 * one).await, [4, 1, 0]);
        assert_eq!(read([0; 3], 0).await, [1, 0, 0], "one batch in any case");
        assert_eq!(read([0, 99_999, 0], one - 1).await, [1, 0, 0]);
        let end = [want(partition(1, 0), 4, 0), want(partition(1, 1), 3, 0)];
        let results = reader.read(&end, 0).await;
        assert_eq!((results[0].bytes(), batches(&results[1]).len()), (0, 1), "the first partition that has any");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_begin_at_the_batch_that_holds_the_offset() {
    let bed = Bed::with(segments_of(400, WriterOptions::default())).await;
    bed.topic(1, 1).await;
    let tickets: Vec<_> = (0..30).map(|n| bed.submit(vec![(partition(1, 0), batch_of(1 + n % 4, n as u64))])).collect();
    let mut bases = Vec::new();
    for ticket in tickets {
        bases.push(crate::testbed::base_of(ticket.await));
    }
    let reader = bed.cold_reader();
    let end = read(&reader, partition(1, 0), 0).await.high_watermark.get();
    for offset in 0..end {
        let found = batches(&read(&reader, partition(1, 0), offset).await);
        let expected: Vec<i64> = bases.iter().rev().take_while(|&&b| b > offset).copied().collect();
        let holder = *bases.iter().rfind(|&&b| b <= offset).unwrap();
        let expected: Vec<i64> = std::iter::once(holder).chain(expected.into_iter().rev()).collect();
        assert_eq!(found.iter().map(|(base, _)| *base).collect::<Vec<_>>(), expected, "from {offset}");
    }
    let at_end = read(&reader, partition(1, 0), end).await;
    assert_eq!((at_end.bytes(), at_end.error), (0, None));
}

#[tokio::test(start_paused = true)]
async fn l7_damage_is_read_again_once_and_then_an_error() {
    let bed = Bed::new().await;
    let requests = scattered(&bed, 2).await;
    for fault in [GetFault::FlipBit, GetFault::Shifted] {
        let reader = bed.cold_reader();
        bed.world.stage.script().gets.push_back(fault.clone());
        let results = reader.read(&requests[..1], 99).await;
        assert_eq!(batches(&results[0]).len(), 1, "the second GET was fine");
        let reader = bed.cold_reader();
        bed.world.stage.script().gets.extend([fault.clone(), fault]);
        let results = reader.read(&requests[..1], 99).await;
        assert!(matches!(results[0].error, Some(ReadError::Corrupt(_))), "{results:?}");
        assert_eq!(results[0].bytes(), 0);
    }
    let key = bed.objects()[0].clone();
    let whole = bed.world.stage.store.get(&key).await.unwrap();
    let cut = crate::blob::Payload::from(whole.slice(..20));
    bed.world.stage.store.put(&key, cut).await.unwrap();
    let results = bed.cold_reader().read(&requests, 1 << 20).await;
    assert!(matches!(results[0].error, Some(ReadError::Corrupt(_))), "truncated: {results:?}");
    assert_eq!(batches(&results[1]).len(), 1, "the neighbour is unharmed");
}

#[tokio::test(start_paused = true)]
async fn l7_a_damaged_extent_behind_good_ones_is_neither_data_nor_a_gap() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    for n in 0..3 {
        bed.append(partition(1, 0), 1, n).await;
    }
    let key = bed.objects()[1].clone();
    let mut whole = bed.world.stage.store.get(&key).await.unwrap().to_vec();
    whole[70] ^= 1;
    bed.world.stage.store.put(&key, whole.into()).await.unwrap();
    let reader = bed.cold_reader();
    let found = read(&reader, partition(1, 0), 0).await;
    assert_eq!((batches(&found).len(), found.error), (1, None), "what stands before it is given");
    let found = read(&reader, partition(1, 0), 1).await;
    assert!(found.records.is_empty() && matches!(found.error, Some(ReadError::Corrupt(_))));
}

#[tokio::test(start_paused = true)]
async fn l10_an_acked_offset_is_never_out_of_range_elsewhere_and_one_below_the_start_always_is() {
    let bed = Bed::new().await;
    let other = bed.world.gateway(2, WriterOptions::default()).await;
    bed.topic(1, 1).await;
    for n in 0..20 {
        let base = bed.append(partition(1, 0), 2, n as u64).await;
        // The other gateway may not have followed the journal yet.
        for offset in [base, base + 1, base + 2] {
            let found = read(&other.reader, partition(1, 0), offset).await;
            assert_eq!(found.error, None, "offset {offset}");
            assert_eq!(found.high_watermark.get(), base + 2);
        }
    }
    start_of(&bed, partition(1, 0), 5).await;
    for reader in [&bed.reader, &other.reader] {
        assert_eq!(read(reader, partition(1, 0), 3).await.error, Some(ReadError::OffsetOutOfRange));
        let past = read(reader, partition(1, 0), 41).await;
        assert_eq!((past.error, past.log_start.get()), (Some(ReadError::OffsetOutOfRange), 5));
        assert_eq!(batches(&read(reader, partition(1, 0), 5).await)[0].0, 4, "the batch that holds the start");
    }
    let unknown = read(&other.reader, partition(7, 0), 0).await;
    assert_eq!(unknown.error, Some(ReadError::UnknownPartition));
    bed.world.journal.set_away(true);
    let asked = read(&bed.reader, partition(1, 0), 41).await;
    assert!(matches!(asked.error, Some(ReadError::Journal(_))), "without the journal no one can tell: {asked:?}");
}

#[tokio::test(start_paused = true)]
async fn g4_a_slow_reader_gets_data_or_out_of_range_or_a_storage_error_never_a_gap() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    for n in 0..4 {
        bed.append(partition(1, 0), 1, n).await;
    }
    bed.world.stage.script().get_delay = GET;
    let reader = bed.cold_reader();
    let slow = read(&reader, partition(1, 0), 1);
    let deleted = async {
        tokio::time::sleep(GET / 2).await; // located, not fetched
        start_of(&bed, partition(1, 0), 2).await;
        let keys = bed.objects()[..2].to_vec();
        bed.world.stage.store.delete_many(&keys).await.unwrap();
    };
    let (found, ()) = tokio::join!(slow, deleted);
    assert_eq!((found.bytes(), found.error), (0, Some(ReadError::OffsetOutOfRange)));
    let keys = bed.objects()[1..].to_vec();
    bed.world.stage.store.delete_many(&keys).await.unwrap();
    let lost = read(&bed.cold_reader(), partition(1, 0), 3).await;
    assert!(lost.records.is_empty() && matches!(lost.error, Some(ReadError::Storage(_))), "{lost:?}");
    let before = read(&bed.cold_reader(), partition(1, 0), 2).await;
    assert_eq!(batches(&before).iter().map(|(base, _)| *base).collect::<Vec<_>>(), [2], "up to what is lost");
}

#[tokio::test(start_paused = true)]
async fn g6_nothing_of_a_deleted_topic_appears_in_its_successor() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.append(partition(1, 0), 3, 1).await;
    bed.world.stage.script().put_delay = GET;
    let in_flight = bed.submit(vec![(partition(1, 0), batch_of(1, 2))]);
    let topic = partition(1, 0).topic;
    assert_eq!(bed.metadata.submit(Command::DeleteTopic { topic }).await, Ok(Outcome::Done));
    bed.topic(2, 1).await;
    assert_eq!(in_flight.await, Ok(vec![BatchOutcome::Refused(Refusal::UnknownTopic)]));
    for reader in [bed.reader.clone(), bed.cold_reader()] {
        assert_eq!(read(&reader, partition(1, 0), 0).await.error, Some(ReadError::UnknownPartition));
        let fresh = read(&reader, partition(2, 0), 0).await;
        assert_eq!((fresh.bytes(), fresh.high_watermark, fresh.error), (0, Offset::ZERO, None));
    }
    assert_eq!(bed.append(partition(2, 0), 1, 3).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_available_is_what_a_read_gives() {
    let bed = Bed::new().await;
    bed.topic(1, 2).await;
    for _ in 0..3 {
        bed.append(partition(1, 0), 2, 1).await;
    }
    let batch = batch_of(2, 1).len() as u64;
    let available =
        |offset, max| bed.reader.available(&[want(partition(1, 0), offset, max), want(partition(1, 1), 0, max)]);
    assert_eq!(available(0, 9_999), available::Available { bytes: 3 * batch, has_error: false });
    assert_eq!(available(2, 9_999).bytes, 2 * batch);
    assert_eq!(available(0, 10).bytes, 10);
    assert_eq!(available(6, 9_999).bytes, 0);
    assert!(available(7, 9_999).has_error);
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_on_finds_the_next_blocks_loading() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    for n in 0..40 {
        bed.append(partition(1, 0), 1, n).await;
    }
    bed.world.stage.script().get_delay = GET;
    let reader = bed.cold_reader();
    let began = Instant::now();
    for offset in 0..40 {
        let results = reader.read(&[want(partition(1, 0), offset, 1)], 1).await;
        assert_eq!(batches(&results[0])[0].0, offset);
        tokio::time::sleep(GET / 2).await; // what a consumer does with it
    }
    let waited = began.elapsed() - 40 * GET / 2;
    assert!(waited < GET * 5, "{waited:?} for 40 objects");
    assert_eq!(bed.world.stage.script().get_count, 40, "nothing twice");
    let reader = bed.cold_reader();
    for offset in [5, 20, 10, 30] {
        reader.read(&[want(partition(1, 0), offset, 1)], 1).await;
    }
    assert_eq!(bed.world.stage.script().get_count, 44, "who jumps about is not read ahead for");
}

/// The answer by going through all records.
fn model(times: &[(i64, Vec<i64>)], start: i64) -> Vec<(i64, i64)> {
    let records = times.iter().flat_map(|(base, times)| times.iter().enumerate().map(|(n, t)| (*base + n as i64, *t)));
    records.filter(|(offset, _)| *offset >= start).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn g7_timestamp_lookup_gives_the_first_record_at_or_after_a_time(
        written in proptest::collection::vec(proptest::collection::vec(0_i64..60, 1..5), 1..14),
        grouped in any::<bool>(),
        start in 0_i64..30,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let bed = Bed::new().await;
            bed.topic(1, 1).await;
            if grouped {
                bed.world.stage.script().put_delay = GET; // several batches to an extent
            }
            let tickets: Vec<_> = written.iter().map(|times| bed.submit(vec![(partition(1, 0), batch_at(times, 1, None))])).collect();
            let mut times = Vec::new();
            for (ticket, written) in tickets.into_iter().zip(&written) {
                times.push((crate::testbed::base_of(ticket.await), written.clone()));
            }
            let end = bed.metadata.read(|state| state.log(partition(1, 0)).unwrap().high_watermark().get());
            let start = start.min(end);
            start_of(&bed, partition(1, 0), start).await;
            let records = model(&times, start);
            for reader in [bed.reader.clone(), bed.cold_reader()] {
                for wanted in -1..62 {
                    let expected = records.iter().find(|(_, time)| *time >= wanted).copied();
                    let found = reader.offset_for_timestamp(partition(1, 0), wanted).await.unwrap();
                    assert_eq!(found.map(|(offset, time)| (offset.get(), time)), expected, "at or after {wanted}");
                }
                let latest = records.iter().map(|(_, time)| *time).max();
                let expected = records.iter().find(|(_, time)| Some(*time) == latest).copied();
                let found = reader.max_timestamp(partition(1, 0)).await.unwrap();
                assert_eq!(found.map(|(offset, time)| (offset.get(), time)), expected, "latest");
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn g7_broker_time_is_the_time_of_every_record_of_its_batch() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    for now in [100, 200] {
        let mut batch = batch_of(3, 1);
        metadata::model::batch::stamp_append_time(&mut batch, now);
        bed.submit(vec![(partition(1, 0), batch)]).await.unwrap();
    }
    let at =
        async |time| bed.reader.offset_for_timestamp(partition(1, 0), time).await.unwrap().map(|(o, t)| (o.get(), t));
    assert_eq!(at(1).await, Some((0, 100)));
    assert_eq!(at(101).await, Some((3, 200)));
    assert_eq!(at(201).await, None);
    start_of(&bed, partition(1, 0), 4).await;
    assert_eq!(at(1).await, Some((4, 200)));
    assert_eq!(bed.reader.max_timestamp(partition(1, 0)).await.unwrap().map(|(o, _)| o.get()), Some(4));
    assert_eq!(bed.reader.max_timestamp(partition(9, 0)).await, Err(ReadError::UnknownPartition));
}
