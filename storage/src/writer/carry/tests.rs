//! Segments in the journal's objects: one PUT for an ack, order, what is told of failures, crashes and zombies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use metadata::command::{BatchOutcome, Refusal};
use metadata::model::batch::ProducerStamp;
use metadata::model::ids::ProducerId;
use metadata::model::offset::Offset;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::options::{UpkeepOptions, WriterOptions};
use crate::sample::{batch_at, batch_of, partition};
use crate::testbed::{Bed, PutFault, World, base_of, batches, read, records_of, segments_of};

const PUT: Duration = Duration::from_millis(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A segment for each request.
fn small() -> WriterOptions {
    segments_of(1, WriterOptions::default())
}

fn stamped(sequence: i32) -> Vec<u8> {
    let stamp = ProducerStamp { id: ProducerId(1), epoch: 0, base_sequence: sequence, transactional: false };
    batch_at(&[5], sequence.cast_unsigned().into(), Some(stamp))
}

async fn whole(bed: &Bed) -> Vec<(i64, Vec<u8>)> {
    let reader = bed.cold_reader();
    let mut log = Vec::new();
    let mut next = bed.metadata.read(|state| state.log(partition(1, 0)).unwrap().log_start().get());
    loop {
        let found = batches(&read(&reader, partition(1, 0), next).await);
        let Some((base, _)) = found.last() else { return log };
        next = base + 1;
        log.extend(found);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_gateway_acks_in_one_put_and_no_other_request() {
    let bed = Bed::carrying(WriterOptions::default()).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().put_delay = PUT;
    for n in 0..3 {
        let before = bed.world.stage.script().put_count;
        let began = Instant::now();
        assert_eq!(bed.append(partition(1, 0), 1, 1).await, n);
        assert!(began.elapsed() <= PUT + ms(10), "{:?}", began.elapsed());
        assert_eq!(bed.world.stage.script().put_count, before + 1);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(!bed.objects().iter().any(|key| key.starts_with("segments/")), "{:?}", bed.objects());
    assert_eq!(whole(&bed).await.len(), 3, "read from the journal's objects");
}

#[tokio::test(start_paused = true)]
async fn l8_offsets_come_in_submission_order_whatever_order_puts_complete_in() {
    let bed = Bed::carrying(small()).await;
    bed.topic(1, 1).await;
    bed.world.stage.script().puts.extend((0..5).map(|n| PutFault::Slow(ms(500 - 100 * n))));
    let tickets: Vec<_> = (0..5).map(|n| bed.submit(vec![(partition(1, 0), stamped(n))])).collect();
    let began = Instant::now();
    for (n, ticket) in tickets.into_iter().enumerate() {
        assert_eq!(base_of(ticket.await), n as i64);
    }
    assert!(began.elapsed() <= ms(510), "side by side: {:?}", began.elapsed());
    let found = whole(&bed).await;
    assert_eq!(found, (0..5).map(|n| (i64::from(n), records_of(&stamped(n)))).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_overtaken_by_a_second_one_and_nothing_is_written_twice() {
    let world = World { is_in_bucket: true, upload_hedges: Some(Arc::default()), ..World::default() };
    let bed = world.gateway(1, WriterOptions::default()).await;
    bed.topic(1, 1).await;
    let mut slowest = Vec::new();
    for n in 0..400 {
        let took = if n % 40 == 0 { ms(2_000) } else { PUT };
        world.stage.script().puts.push_back(PutFault::Slow(took));
        world.stage.script().put_delay = PUT; // of a second one
        let began = Instant::now();
        assert_eq!(bed.append(partition(1, 0), 1, n).await, n as i64);
        slowest.push(began.elapsed());
        world.stage.script().puts.clear();
        tokio::time::sleep(ms(100)).await;
    }
    let late = slowest.split_off(200);
    assert!(late.iter().all(|took| *took <= ms(140)), "{:?}", late.iter().max());
    assert_eq!(bed.metrics.writer.hedges.get(), 8, "those of 2 s, but for two before anything was known");
    assert_eq!(whole(&bed).await.len(), 400);
}

#[tokio::test(start_paused = true)]
async fn l8_a_new_producer_whose_first_segment_is_lost_keeps_its_order() {
    let bed = Bed::carrying(WriterOptions { deadline: ms(100), ..small() }).await;
    bed.topic(1, 1).await;
    let send = |n| bed.submit(vec![(partition(1, 0), stamped(n))]);
    let first = next_key(&bed);
    bed.world.stage.script().refused_keys.insert(first.clone());
    let tickets: Vec<_> = (0..5).map(send).collect();
    tokio::time::sleep(PAST_DEADLINE).await;
    bed.world.stage.script().refused_keys.clear();
    for ticket in tickets {
        let error = ticket.await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Retry, "{error}");
    }
    let late = send(3).await.unwrap();
    assert_eq!(late, [BatchOutcome::Refused(Refusal::OutOfOrderSequence)], "it waits for those lost before it");
    let again: Vec<_> = (0..5).map(send).collect();
    for (n, ticket) in again.into_iter().enumerate() {
        assert_eq!(base_of(ticket.await), n as i64);
    }
    assert_eq!(whole(&bed).await.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn l8_what_is_queued_while_a_lost_place_is_looked_at_does_not_overtake() {
    let bed = Bed::carrying(WriterOptions { deadline: ms(100), ..small() }).await;
    bed.topic(1, 1).await;
    let first = next_key(&bed);
    bed.world.stage.script().refused_keys.insert(first.clone());
    let lost = bed.submit(vec![(partition(1, 0), stamped(0))]);
    tokio::time::sleep(PAST_DEADLINE).await;
    bed.world.stage.script().get_delay = ms(2_000);
    bed.world.stage.script().refused_keys.clear();
    while !bed.objects().contains(&first) {
        tokio::time::sleep(ms(10)).await;
    }
    let behind = bed.submit(vec![(partition(1, 0), stamped(1))]).await;
    assert_eq!(behind.unwrap_err().class(), ErrorClass::Retry, "its producer is new: nothing else tells the order");
    lost.await.unwrap_err();
    bed.world.stage.script().get_delay = Duration::ZERO;
    for n in 0..2 {
        assert_eq!(base_of(bed.submit(vec![(partition(1, 0), stamped(n))]).await), i64::from(n));
    }
}

#[tokio::test(start_paused = true)]
async fn l3_what_cannot_be_told_in_time_is_unknown_and_the_writer_goes_on() {
    let bed = Bed::carrying(WriterOptions { deadline: ms(100), ..small() }).await;
    bed.topic(1, 1).await;
    let key = next_key(&bed);
    bed.world.stage.script().refused_keys.insert(key);
    let tickets: Vec<_> = (0..40).map(|n| bed.submit(vec![(partition(1, 0), batch_of(1, n))])).collect();
    let began = Instant::now();
    let (mut unknown, mut definite) = (0, 0);
    for ticket in tickets {
        match ticket.await.unwrap_err().class() {
            ErrorClass::Unknown => unknown += 1,
            _ => definite += 1,
        }
    }
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(unknown > 0 && definite > 0, "{unknown} unknown, {definite} never sent");
    bed.world.stage.script().refused_keys.clear();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let base = bed.append(partition(1, 0), 1, 99).await;
    let log = whole(&bed).await;
    assert_eq!(log.last(), Some(&(base, records_of(&batch_of(1, 99)))));
    let distinct: BTreeSet<_> = log.iter().map(|(_, records)| records.clone()).collect();
    assert_eq!(distinct.len(), log.len(), "an unknown outcome is visible at most once");
}

#[tokio::test(start_paused = true)]
async fn l4_a_lost_answer_and_a_late_write_change_nothing() {
    let bed = Bed::carrying(small()).await;
    bed.topic(1, 1).await;
    for (n, fault) in [PutFault::AnswerLost, PutFault::Late(ms(700)), PutFault::Refused].into_iter().enumerate() {
        bed.world.stage.script().puts.push_back(fault);
        assert_eq!(bed.append(partition(1, 0), 1, n as u64).await, n as i64);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(whole(&bed).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn l6_a_newer_gateway_ends_the_older_one_which_never_acks_again() {
    let old = Bed::carrying(small()).await;
    old.topic(1, 1).await;
    assert_eq!(old.append(partition(1, 0), 1, 1).await, 0);
    old.world.stage.script().put_delay = ms(500);
    let overtaken: Vec<_> = (2..6).map(|n| old.submit(vec![(partition(1, 0), batch_of(1, n))])).collect();
    tokio::time::sleep(ms(100)).await;
    let world = World { stage: Arc::new(old.world.stage.beside()), ..old.world.clone() };
    let new = world.gateway(2, small()).await;
    assert_eq!(new.append(partition(1, 0), 1, 100).await, 1, "nothing of the old one came before it");
    for ticket in overtaken {
        assert_eq!(ticket.await.unwrap_err(), WriteError::Fenced);
    }
    assert!(matches!(old.metadata.ended().await, SubmitError::Fenced(_)));
    let late = old.submit(vec![(partition(1, 0), batch_of(1, 9))]).await.unwrap_err();
    assert_eq!(late, WriteError::Fenced);
    let idle = new;
    let newest = world.gateway(3, small()).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), idle.metadata.ended()).await.unwrap();
    assert!(matches!(ended, SubmitError::Fenced(_)), "an idle one hears of it too: {ended}");
    assert_eq!(whole(&newest).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn l6_a_newer_gateway_takes_over_however_busy_the_older_one_is() {
    let old = Bed::carrying(small()).await;
    old.topic(1, 1).await;
    old.world.stage.script().put_delay = ms(60);
    let world = World { stage: Arc::new(old.world.stage.beside()), ..old.world.clone() };
    {
        let mut script = world.stage.script();
        (script.put_delay, script.get_delay) = (ms(60), ms(20));
    }
    let busy = async {
        for n in 0.. {
            drop(old.submit(vec![(partition(1, 0), batch_of(1, n))]));
            tokio::time::sleep(ms(10)).await;
        }
    };
    let began = Instant::now();
    let new = tokio::select! {
        new = world.gateway(2, small()) => new,
        () = busy => unreachable!("it never ends"),
    };
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(old.metadata.ended().await, SubmitError::Fenced(_)));
    let mut lost = 0;
    while new.submit(vec![(partition(1, 0), batch_of(1, 1 << 40))]).await.is_err() {
        lost += 1; // what the older one had under way stands there
    }
    assert!(lost < 3, "{lost}");
}

#[tokio::test(start_paused = true)]
async fn g1_an_object_of_the_journal_goes_when_neither_entry_nor_segment_is_needed() {
    let world = World { is_in_bucket: true, snapshot_entries: Some(4), ..World::default() };
    let bed = world.gateway(1, small()).await;
    bed.topic(1, 1).await;
    for n in 0..3 {
        bed.append(partition(1, 0), 1, n).await;
    }
    let never = Duration::from_secs(1 << 30);
    let upkeep = bed.upkeep(UpkeepOptions {
        retain_every: never,
        sweep_every: never,
        list_every: never,
        expire_every: never,
        grace: Duration::ZERO,
        ..UpkeepOptions::default()
    });
    let start = Offset::new(2).unwrap();
    let advance = metadata::command::Command::AdvanceLogStart { starts: vec![(partition(1, 0), start)] };
    bed.metadata.submit(advance).await.unwrap();
    let positions = || -> Vec<u64> {
        bed.objects().iter().filter_map(|key| Some(ObjectId::from_key(key)?.position()?.0)).collect()
    };
    let sweep = async || {
        upkeep.sweep().await.unwrap();
        upkeep.sweep_listed().await.unwrap();
        tokio::time::sleep(ms(100)).await; // a snapshot may be due
    };
    assert_eq!(bed.metadata.journal_first().await, Ok(metadata::model::ids::Lsn(1)));
    sweep().await;
    assert_eq!(
        positions()[..6],
        [1, 2, 3, 4, 5, 6],
        "the journal keeps its entries, whatever became of their segments"
    );
    for n in 3..12 {
        bed.append(partition(1, 0), 1, n).await;
        tokio::time::sleep(ms(100)).await;
    }
    let first = bed.metadata.journal_first().await.unwrap().0;
    assert!(first > 6, "two snapshots let go of what was before them: {first}");
    // Known to this life: nothing needs to be listed for it.
    upkeep.sweep().await.unwrap();
    upkeep.sweep().await.unwrap();
    let kept = positions();
    assert!(!kept.contains(&1) && !kept.contains(&3) && !kept.contains(&4), "{kept:?}");
    assert!(kept.contains(&5), "its segment is the start of the log: {kept:?}");
    assert_eq!(whole(&bed).await.len(), 10);
    let next = world.gateway(2, small()).await;
    assert_eq!(whole(&next).await.len(), 10, "the next life finds all of it");
    assert_eq!(next.append(partition(1, 0), 1, 77).await, 12);
}

/// What a producer of the simulation was told of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Acked(i64),
    NotWritten,
    Unknown,
}

/// One gateway after the other, each on a line to the bucket that loses and delays; some end by a cut of the line, with
/// PUTs on their way, some go on as zombies. What was acked is read at its offset, what was refused is not there, nothing is
/// there twice.
async fn simulate(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let world = World { is_in_bucket: true, ..World::default() };
    let mut told: BTreeMap<u64, Told> = BTreeMap::new();
    let (mut next, mut zombies) = (0, Vec::new());
    for life in 0..4 {
        let line = World { stage: Arc::new(world.stage.beside()), ..world.clone() };
        let bed = line.gateway(life, WriterOptions { deadline: ms(2_000), uploads_max: 6, ..small() }).await;
        if life == 0 {
            bed.topic(1, 1).await;
        }
        let waiting = FuturesUnordered::new();
        for _ in 0..random.random_range(5..40) {
            {
                let mut script = line.stage.script();
                script.puts.push_back(match random.random_range(0..10) {
                    0 => PutFault::Refused,
                    1 => PutFault::AnswerLost,
                    2 => PutFault::Late(ms(random.random_range(0..6_000))),
                    _ => PutFault::Slow(ms(random.random_range(0..400))),
                });
                if random.random_range(0..25) == 0 {
                    let ahead = metadata::model::ids::Lsn(
                        bed.metadata.read(|state| state.applied().0) + random.random_range(1..5),
                    );
                    script.refused_keys.insert(ObjectId::at(ahead).key());
                } else if random.random_range(0..12) == 0 {
                    script.refused_keys.clear();
                }
            }
            let (number, ticket) = (next, bed.submit(vec![(partition(1, 0), batch_of(1, next))]));
            next += 1;
            waiting.push(async move { (number, ticket.await) });
            tokio::time::sleep(ms(random.random_range(0..120))).await;
        }
        let ends_soon = random.random_range(0..3);
        if ends_soon == 0 {
            line.stage.script().is_away = true; // what is past this point still lands; nothing else ever does
        }
        if ends_soon == 2 {
            tokio::time::sleep(ms(random.random_range(0..9_000))).await;
        }
        zombies.push((bed, line, waiting));
    }
    let last = world.gateway(99, small()).await;
    let base = last.append(partition(1, 0), 1, 1 << 40).await;
    for (bed, line, mut waiting) in zombies {
        line.stage.script().refused_keys.clear();
        let is_cut = line.stage.script().is_away;
        loop {
            let answer = tokio::time::timeout(Duration::from_secs(60), waiting.next()).await;
            let Ok(Some((number, answer))) = answer else { break };
            let said = match answer {
                Ok(outcomes) => match outcomes[..] {
                    [BatchOutcome::Appended { base, .. }] => Told::Acked(base.get()),
                    ref other => panic!("{other:?}"),
                },
                Err(error) if error.class() == ErrorClass::Unknown => Told::Unknown,
                Err(_) => Told::NotWritten,
            };
            told.insert(number, said);
        }
        if !is_cut {
            tokio::time::timeout(Duration::from_secs(60), bed.metadata.ended()).await.expect("a zombie ends");
        }
    }
    let mut found: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for (base, records) in whole(&last).await {
        assert_eq!(found.insert(records, base), None, "seed {seed}: a batch is there twice");
    }
    assert_eq!(found.get(&records_of(&batch_of(1, 1 << 40))), Some(&base), "seed {seed}");
    let mut acked = 0;
    for (number, told) in told {
        let there = found.get(&records_of(&batch_of(1, number))).copied();
        match told {
            Told::Acked(base) => assert_eq!(there, Some(base), "seed {seed}: batch {number} was acked"),
            Told::NotWritten => assert_eq!(there, None, "seed {seed}: batch {number} was refused for good"),
            Told::Unknown => {}
        }
        acked += usize::from(matches!(told, Told::Acked(_)));
    }
    assert!(acked > 0, "seed {seed}: nothing was acked");
}

#[tokio::test(start_paused = true)]
async fn l1_l3_l6_through_lives_of_loss_delay_cuts_and_zombies() {
    for seed in 0..60 {
        simulate(seed).await;
    }
}

/// Past the deadline of a segment that was submitted just now.
const PAST_DEADLINE: Duration = Duration::from_millis(4_100);

/// Key of the next position.
fn next_key(bed: &Bed) -> String {
    ObjectId::at(metadata::model::ids::Lsn(bed.metadata.read(|state| state.applied().0) + 1)).key()
}
