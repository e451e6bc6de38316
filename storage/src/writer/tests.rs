//! The writer as its callers see it: order, durability, pace, memory, and what they are told when a store or journal fails.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesOrdered, StreamExt};
use metadata::class::{Classify, ErrorClass};
use metadata::command::{BatchOutcome, Refusal};
use metadata::journal::memory::AppendFault;
use metadata::model::batch::{BatchIter, ProducerStamp};
use metadata::model::ids::ProducerId;
use metadata::model::offset::Offset;
use tokio::time::{Instant, advance};

use super::*;
use crate::options::ProfileNumbers;
use crate::sample::{batch_at, batch_of, partition};
use crate::testbed::{Bed, PutFault, World, base_of, batches, read, records_of, segments_of, submissions};

mod profiles;

const PUT: Duration = Duration::from_millis(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn options() -> WriterOptions {
    WriterOptions::default()
}

fn free() -> WriterOptions {
    options().with(ProfileNumbers::with_free_puts)
}

fn stamped(sequence: i32) -> Vec<u8> {
    let stamp = ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: sequence, transactional: false };
    batch_at(&[5], sequence.cast_unsigned().into(), Some(stamp))
}

#[tokio::test(start_paused = true)]
async fn an_idle_gateway_acks_in_one_put() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = PUT;
    for _ in 0..3 {
        let began = Instant::now();
        bed.append(partition(1, 0), 1, 1).await;
        assert!(began.elapsed() <= PUT + ms(10), "{:?}", began.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Keeps `in_flight` requests outstanding for `lasting`, each sent `think` after an answer; tells how many were answered.
async fn closed_loop(bed: &Bed, in_flight: usize, lasting: Duration, think: Duration) -> usize {
    let until = Instant::now() + lasting;
    let mut outstanding = FuturesOrdered::new();
    let mut answered = 0;
    loop {
        while outstanding.len() < in_flight && Instant::now() < until {
            outstanding.push_back(bed.submit(vec![(partition(1, 0), batch_of(1, 1))]));
            tokio::time::sleep(think).await;
        }
        let Some(answer) = outstanding.next().await else { return answered };
        base_of(answer);
        answered += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_with_five_in_flight_gets_five_requests_per_put() {
    for think in [Duration::ZERO, Duration::from_micros(300)] {
        let bed = Bed::new().await;
        bed.topic(1, 1).await;
        bed.world.stage.script().put_delay = PUT;
        let lasting = Duration::from_secs(10);
        let answered = closed_loop(&bed, 5, lasting, think).await;
        let puts = bed.world.stage.script().put_count;
        assert!(answered as f64 >= 0.9 * 5.0 * puts as f64, "{answered} requests in {puts} PUTs");
        let possible = 5.0 * lasting.as_secs_f64() / (PUT + 5 * think).as_secs_f64();
        assert!(answered as f64 >= 0.9 * possible, "{answered} of {possible} requests that the PUTs allow");
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_gateway_keeps_to_its_put_budget() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = ms(200);
    let mut tickets = FuturesOrdered::new();
    for _ in 0..10_000 {
        tickets.push_back(bed.submit(vec![(partition(1, 0), batch_of(1, 1))]));
        tokio::time::sleep(ms(1)).await;
    }
    while let Some(answer) = tickets.next().await {
        base_of(answer);
    }
    let puts = bed.world.stage.script().put_count as f64;
    assert!(puts <= options().numbers.put_budget * 10.5, "{puts} PUTs in 10 s");
}

#[tokio::test(start_paused = true)]
async fn l8_offsets_come_in_submission_order_whatever_order_puts_complete_in() {
    let bed = Bed::with(segments_of(1, options())).await;
    bed.topic(1, 2).await;
    let slow = |n: u64| PutFault::Slow(ms(500 - 100 * n));
    bed.world.stage.script().puts.extend((0..5).map(slow));
    let tickets: Vec<_> = (0..5)
        .map(|n| bed.submit(vec![(partition(1, 0), stamped(n)), (partition(1, 1), batch_of(2, n as u64))]))
        .collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        let outcomes = ticket.await.unwrap();
        let base = |records: i64| Offset::new(records * n as i64).unwrap();
        let appended = |base| BatchOutcome::Appended { base, log_start: Offset::ZERO };
        assert_eq!(outcomes, [appended(base(1)), appended(base(2))]);
    }
    assert_eq!(bed.world.stage.script().put_count, 5);
    let found = batches(&read(&bed.cold_reader(), partition(1, 0), 0).await);
    assert_eq!(found, (0..5).map(|n| (i64::from(n), records_of(&stamped(n)))).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn l8_a_new_producer_whose_first_put_fails_keeps_its_order() {
    let bed = Bed::with(segments_of(1, options())).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().puts.push_back(PutFault::Refused);
    let send = |n| bed.submit(vec![(partition(1, 0), stamped(n))]);
    let tickets: Vec<_> = (0..5).map(send).collect();
    let mut answers = Vec::new();
    for ticket in tickets {
        answers.push(ticket.await);
    }
    assert_eq!(answers[0].as_ref().unwrap_err().class(), ErrorClass::Retry);
    for answer in &answers[1..] {
        assert_eq!(answer, &Ok(vec![BatchOutcome::Refused(Refusal::OutOfOrderSequence)]));
    }
    let again: Vec<_> = (0..5).map(send).collect();
    for (n, ticket) in again.into_iter().enumerate() {
        assert_eq!(base_of(ticket.await), n as i64);
    }
    let found = batches(&read(&bed.cold_reader(), partition(1, 0), 0).await);
    assert_eq!(found, (0..5).map(|n| (i64::from(n), records_of(&stamped(n)))).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn l1_an_ack_means_durable_and_applied() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    let mut acked = Vec::new();
    for n in 0..20_u64 {
        let batch = batch_of(1 + n as usize % 3, n);
        let base = base_of(bed.submit(vec![(partition(1, 0), batch.clone())]).await);
        acked.push((base, records_of(&batch)));
        let known = bed.metadata.read(|state| state.log(partition(1, 0)).unwrap().high_watermark());
        assert!(known.get() > base, "applied before it is acked");
    }
    assert_eq!(batches(&read(&bed.reader, partition(1, 0), 0).await), acked, "from the tail");
    assert_eq!(batches(&read(&bed.cold_reader(), partition(1, 0), 0).await), acked, "from the bucket");
    let other = bed.world.gateway(2, options()).await;
    assert_eq!(batches(&read(&other.reader, partition(1, 0), 0).await), acked, "through another gateway");
}

#[tokio::test(start_paused = true)]
async fn l3_a_put_that_failed_or_whose_answer_was_lost_is_never_visible() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    for fault in [PutFault::Refused, PutFault::AnswerLost, PutFault::Late(ms(100))] {
        bed.world.stage.script().puts.push_back(fault.clone());
        let error = bed.submit(vec![(partition(1, 0), batch_of(1, 1))]).await.unwrap_err();
        assert!(matches!(error, WriteError::Storage(_)), "{error}");
        assert_eq!(error.class(), ErrorClass::Retry, "{fault:?} is a definite failure");
    }
    tokio::time::sleep(ms(200)).await;
    assert_eq!(bed.append(partition(1, 0), 1, 2).await, 0);
    assert_eq!(batches(&read(&bed.cold_reader(), partition(1, 0), 0).await), [(0, records_of(&batch_of(1, 2)))]);
    assert_eq!(bed.writer.take_leftovers(Instant::now(), 10).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn l9_a_bucket_away_gives_retriable_errors_in_bounded_time_and_recovers() {
    let memory = 10_000;
    let bed = Bed::with(WriterOptions { memory_bytes: memory, ..options() }).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().is_away = true;
    let batch = batch_of(10, 1);
    let fit = memory / batch.len();
    let mut tickets = FuturesOrdered::new();
    for _ in 0..fit {
        tickets.push_back(bed.submit(vec![(partition(1, 0), batch.clone())]));
    }
    assert!(bed.writer.admit(batch.len()).now_or_never().is_none(), "memory is capped: the next one waits");
    let began = Instant::now();
    while let Some(answer) = tickets.next().await {
        assert_eq!(answer.unwrap_err().class(), ErrorClass::Retry);
    }
    assert!(began.elapsed() < Duration::from_secs(30), "within request.timeout.ms: {:?}", began.elapsed());
    bed.world.stage.script().is_away = false;
    let began = Instant::now();
    assert_eq!(bed.append(partition(1, 0), 1, 7).await, 0);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn l9_a_journal_away_gives_bounded_answers_and_recovers() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.world.journal.set_away(true);
    let began = Instant::now();
    let error = bed.submit(vec![(partition(1, 0), stamped(0))]).await.unwrap_err();
    assert!(matches!(error.class(), ErrorClass::Retry | ErrorClass::Unknown), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    bed.world.journal.set_away(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let answer = bed.submit(vec![(partition(1, 0), stamped(0))]).await.unwrap();
    let is_first = |outcome: &BatchOutcome| match outcome {
        BatchOutcome::Appended { base, .. } | BatchOutcome::Duplicate { base, .. } => *base == Offset::ZERO,
        BatchOutcome::Refused(_) => false,
    };
    assert!(answer.iter().all(is_first), "stored once, at its place: {answer:?}");
    assert_eq!(batches(&read(&bed.cold_reader(), partition(1, 0), 0).await).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn l4_a_lost_answer_of_the_journal_changes_nothing() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    for fault in [AppendFault::AnswerLost, AppendFault::RequestLost, AppendFault::Late] {
        bed.world.journal.script([fault]);
        bed.append(partition(1, 0), 1, 1).await;
    }
    let found = batches(&read(&bed.cold_reader(), partition(1, 0), 0).await);
    assert_eq!(found.iter().map(|(base, _)| *base).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn l6_a_fenced_gateway_commits_nothing() {
    let world = World::default();
    let (old, new) = (world.gateway(1, options()).await, world.gateway(2, options()).await);
    new.topic(1, 1).await;
    world.stage.script().puts.push_back(PutFault::Slow(ms(500)));
    old.metadata.barrier().await.unwrap();
    let ticket = old.submit(vec![(partition(1, 0), batch_of(1, 1))]);
    tokio::time::sleep(ms(100)).await;
    new.metadata.barrier().await.unwrap();
    let (session, last_seen) = new.metadata.read(|state| {
        let session = state.sessions().live().find(|session| session.id == old.metadata.session()).unwrap();
        (session.id, session.last_lsn)
    });
    let expire = metadata::command::Command::ExpireSession { session, last_seen };
    assert_eq!(new.metadata.submit(expire).await, Ok(metadata::command::Outcome::Done));
    let error = ticket.await.unwrap_err();
    assert_eq!(error, WriteError::Fenced);
    assert_eq!(error.class(), ErrorClass::Retry);
    assert_eq!(new.append(partition(1, 0), 1, 2).await, 0, "nothing was before it");
}

/// Expires the session of a gateway, as `by` would that had heard nothing of it.
async fn expire(by: &Bed, of: &Bed) {
    by.metadata.barrier().await.unwrap();
    let session = of.metadata.session();
    let last_seen = by.metadata.read(|state| state.sessions().get(session).unwrap().last_lsn);
    let expire = metadata::command::Command::ExpireSession { session, last_seen };
    assert_eq!(by.metadata.submit(expire).await, Ok(metadata::command::Outcome::Done));
}

/// A session that ends takes batches along, and the next one begins: no later batch of a producer goes before them, though the
/// state does not know the producer yet and would take any sequence.
#[tokio::test(start_paused = true)]
async fn l8_nothing_overtakes_what_was_lost_with_a_session() {
    for is_under_way in [false, true] {
        let world = World { is_shared: true, ..World::default() };
        let (bed, other) = (world.gateway(1, options()).await, world.gateway(2, options()).await);
        other.topic(1, 1).await;
        bed.metadata.barrier().await.unwrap();
        let old = bed.metadata.session();
        match is_under_way {
            // The commit is on its way, and comes into order behind the fence.
            true => world.journal.script([AppendFault::RequestLost]),
            false => world.stage.script().puts.push_back(PutFault::Slow(ms(500))),
        }
        let first = bed.submit(vec![(partition(1, 0), stamped(0))]);
        tokio::time::sleep(ms(100)).await;
        expire(&other, &bed).await;
        while bed.metadata.session() == old {
            tokio::time::sleep(ms(10)).await;
        }
        let second = bed.submit(vec![(partition(1, 0), stamped(1))]);
        assert_eq!(first.await, Err(WriteError::Fenced));
        let told = second.await.unwrap();
        assert_eq!(told, [BatchOutcome::Refused(Refusal::OutOfOrderSequence)], "{is_under_way}");
        for sequence in 0..2 {
            let again = bed.submit(vec![(partition(1, 0), stamped(sequence))]).await;
            assert_eq!(base_of(again), i64::from(sequence));
        }
    }
}

/// What a gateway lost comes again through another one; then the producer comes back, with what is next. It is not told that
/// something is missing.
#[tokio::test(start_paused = true)]
async fn l8_what_was_lost_here_may_come_again_elsewhere() {
    let world = World { is_shared: true, ..World::default() };
    let (bed, other) = (world.gateway(1, options()).await, world.gateway(2, options()).await);
    other.topic(1, 1).await;
    bed.metadata.barrier().await.unwrap();
    let old = bed.metadata.session();
    world.stage.script().puts.push_back(PutFault::Slow(ms(500)));
    let lost = bed.submit(vec![(partition(1, 0), stamped(0))]);
    tokio::time::sleep(ms(100)).await;
    expire(&other, &bed).await;
    while bed.metadata.session() == old {
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(lost.await, Err(WriteError::Fenced));
    assert_eq!(base_of(other.submit(vec![(partition(1, 0), stamped(0))]).await), 0);
    assert_eq!(base_of(bed.submit(vec![(partition(1, 0), stamped(1))]).await), 1);
}

#[tokio::test(start_paused = true)]
async fn shutdown_stores_and_answers_everything_and_then_refuses() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = PUT;
    let tickets: Vec<_> = (0..20).map(|n| bed.submit(vec![(partition(1, 0), batch_of(1, n))])).collect();
    let late = bed.writer.admit(1).await.unwrap();
    let waits = bed.writer.admit(options().memory_bytes);
    tokio::pin!(waits);
    assert!((&mut waits).now_or_never().is_none());
    bed.writer.shutdown().await;
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(base_of(ticket.now_or_never().expect("answered before shutdown returns")), n as i64);
    }
    assert_eq!(waits.await.unwrap_err(), WriteError::Closed);
    assert_eq!(bed.writer.admit(1).await.unwrap_err(), WriteError::Closed);
    let refused = bed.writer.submit(late, submissions(vec![(partition(1, 0), batch_of(1, 1))]));
    assert_eq!(refused.await, Err(WriteError::Closed));
    bed.writer.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn admission_is_first_come_first_served_and_a_dropped_ticket_cancels_nothing() {
    let bed = Bed::with(WriterOptions { memory_bytes: 1_000, ..options() }).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = PUT;
    assert_eq!(bed.writer.admit(1_001).await.unwrap_err(), WriteError::TooLarge { bytes: 1_001, limit: 1_000 });
    let permit = bed.writer.admit(900).await.unwrap();
    drop(bed.writer.submit(permit, submissions(vec![(partition(1, 0), batch_of(1, 1))])));
    let (large, small) = (bed.writer.admit(200), bed.writer.admit(50));
    tokio::pin!(large, small);
    assert!((&mut large).now_or_never().is_none());
    assert!((&mut small).now_or_never().is_none(), "a small request does not overtake a large one");
    let (_large, _small) = (large.await.unwrap(), small.await.unwrap());
    let end = bed.metadata.read(|state| state.log(partition(1, 0)).unwrap().high_watermark().get());
    assert_eq!(end, 1, "the unheard request took its course");
}

#[tokio::test(start_paused = true)]
async fn what_a_watcher_is_woken_for_is_in_the_tail() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    let mut watch = bed.metadata.watch([partition(1, 0)].into_iter());
    let ticket = bed.submit(vec![(partition(1, 0), batch_of(2, 1))]);
    watch.changed().await;
    let found = read(&bed.reader, partition(1, 0), 0).await;
    assert_eq!(batches(&found), [(0, records_of(&batch_of(2, 1)))]);
    ticket.await.unwrap();
    assert_eq!(bed.world.stage.script().get_count, 0, "the bucket was not asked");
}

#[tokio::test(start_paused = true)]
async fn full_segments_go_without_waiting_and_large_requests_go_alone() {
    let batch = batch_of(1, 1);
    let bed = Bed::with(segments_of(batch.len() * 2, options())).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = PUT;
    let began = Instant::now();
    let tickets: Vec<_> = (0..8).map(|_| bed.submit(vec![(partition(1, 0), batch.clone())])).collect();
    let large = bed.submit(vec![(partition(1, 0), batch_of(100, 1))]);
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(base_of(large.await), 8);
    assert!(began.elapsed() < PUT * 2, "side by side");
    assert_eq!(bed.objects().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_empty_request_and_an_unknown_topic_are_answered() {
    let bed = Bed::new().await;
    let permit = bed.writer.admit(0).await.unwrap();
    assert_eq!(bed.writer.submit(permit, Vec::new()).await, Ok(Vec::new()));
    let answer = bed.submit(vec![(partition(9, 0), batch_of(1, 1))]).await;
    assert_eq!(answer, Ok(vec![BatchOutcome::Refused(Refusal::UnknownTopic)]));
    advance(ms(1)).await;
}

#[test]
fn profiles_differ_in_the_numbers_of_the_cut_only() {
    let (fast, slow) = (WriterOptions::of(Profile::Realtime), WriterOptions::of(Profile::Throughput));
    let (f, s) = (fast.numbers, slow.numbers);
    assert!(f.linger_max < s.linger_max && f.segment_bytes < s.segment_bytes && f.put_budget > s.put_budget);
    assert_eq!(WriterOptions { numbers: slow.numbers, ..fast }, slow);
}

#[tokio::test(start_paused = true)]
async fn on_a_folder_a_client_that_waits_for_each_ack_gets_it_after_one_put() {
    let bed = Bed::with(free()).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = ms(1);
    let began = Instant::now();
    for n in 0..500 {
        assert_eq!(bed.append(partition(1, 0), 1, 1).await, n);
    }
    assert!(began.elapsed() <= 500 * ms(2), "{:?}", began.elapsed());
}

/// Many producers on many threads, in real time, with PUTs that take as long as they like: what each was told is what
/// every reader finds, in the order in which it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l1_l2_l5_l8_hold_for_many_producers_at_once() {
    const PRODUCERS: u64 = 8;
    const REQUESTS: u64 = 150;
    let bed = Arc::new(Bed::with(segments_of(2_000, WriterOptions { uploads_max: 4, ..free() })).await);
    bed.topic(1, 3).await;
    for n in 0..400_u64 {
        let fault =
            if n % 37 == 36 { PutFault::AnswerLost } else { PutFault::Slow(Duration::from_micros(n * 977 % 5_000)) };
        bed.world.stage.script().puts.push_back(fault);
    }
    let produce = |producer: u64| {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move {
            let send = |n: u64| {
                let fill = producer * 1_000_000 + n;
                let batch = batch_of(1 + (n % 3) as usize, fill);
                (fill, (n % 3) as i32, bed.submit(vec![(partition(1, (n % 3) as i32), batch)]))
            };
            let (mut waiting, mut acked) = (VecDeque::new(), Vec::new());
            for n in 0..REQUESTS {
                waiting.push_back(send(n));
                if waiting.len() == 5 {
                    let (fill, p, ticket) = waiting.pop_front().unwrap();
                    acked.extend(ticket.await.ok().map(|outcome| (p, base_of(Ok(outcome)), fill)));
                }
            }
            for (fill, p, ticket) in waiting {
                acked.extend(ticket.await.ok().map(|outcome| (p, base_of(Ok(outcome)), fill)));
            }
            for p in 0..3 {
                let bases: Vec<i64> = acked.iter().filter(|a| a.0 == p).map(|a| a.1).collect();
                assert!(bases.is_sorted(), "producer {producer}, partition {p}: {bases:?}");
            }
            acked
        })
    };
    let producers: Vec<_> = (0..PRODUCERS).map(produce).collect();
    let mut acked = Vec::new();
    for producer in producers {
        acked.extend(producer.await.unwrap());
    }
    assert!(acked.len() as u64 > PRODUCERS * REQUESTS / 2, "only {} were acked", acked.len());
    for reader in [bed.reader.clone(), bed.cold_reader()] {
        let mut found = Vec::new();
        for p in 0..3 {
            let mut next = 0;
            loop {
                let result = read(&reader, partition(1, p), next).await;
                let before = next;
                for batch in result.records.iter().flat_map(|bytes| BatchIter::new(bytes)) {
                    let batch = batch.unwrap();
                    let (count, fill) = (batch.record_count(), fill_of(batch.records()));
                    assert_eq!(batch.base_offset(), next, "dense");
                    assert_eq!(batch.records(), records_of(&batch_of(count as usize, fill)), "as it was sent");
                    found.push((p, next, fill));
                    next += i64::from(count);
                }
                if next == before {
                    break;
                }
            }
        }
        found.sort_unstable();
        acked.sort_unstable();
        assert_eq!(found, acked, "what was acked, at its offset, and nothing else");
    }
}

/// The number that a sample batch carries in its first record.
fn fill_of(records: &[u8]) -> u64 {
    let text: String = records.iter().skip(6).take_while(|b| b.is_ascii_digit()).map(|b| char::from(*b)).collect();
    text.parse().unwrap()
}
