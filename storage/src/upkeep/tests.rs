//! What is tidied away, and above all what is not.

use std::time::Duration;

use metadata::clock::Clock;
use metadata::command::{BatchOutcome, Outcome, Refusal};
use metadata::model::ids::{SessionId, TopicPartition};
use metadata::model::offset::Offset;
use metadata::state::sessions::Standing;

use super::*;
use crate::error::ReadError;
use crate::options::{CompactOptions, MergeOptions, WriterOptions};
use crate::sample::{batch_at, batch_of, partition};
use crate::testbed::{Bed, NOW_MS, PutFault, World, base_of, batches, read};

const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;

/// Passes happen only when a test asks for them.
pub(super) fn options() -> UpkeepOptions {
    let never = Duration::from_secs(1 << 30);
    UpkeepOptions {
        retain_every: never,
        sweep_every: never,
        list_every: never,
        expire_every: never,
        grace: Duration::from_secs(60),
        merge: MergeOptions { every: never, ..MergeOptions::default() },
        compact: CompactOptions { every: never, ..CompactOptions::default() },
        ..UpkeepOptions::default()
    }
}

/// Sweeps, and once more when the grace is over.
pub(super) async fn sweep(upkeep: &Upkeep) {
    upkeep.sweep().await.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    upkeep.sweep().await.unwrap();
}

async fn append_at(bed: &Bed, tp: TopicPartition, time_ms: i64) -> i64 {
    base_of(bed.submit(vec![(tp, batch_at(&[time_ms], 1, None))]).await)
}

fn start_of(bed: &Bed, tp: TopicPartition) -> i64 {
    bed.metadata.read(|state| state.log(tp).unwrap().log_start().get())
}

/// Ends a gateway's session, as another gateway does that has not heard of it for long.
async fn expire(by: &Bed, session: SessionId) {
    by.metadata.barrier().await.unwrap();
    let last_seen = by.metadata.read(|state| state.sessions().get(session).unwrap().last_lsn);
    let expire = Command::ExpireSession { session, last_seen };
    assert_eq!(by.metadata.submit(expire).await, Ok(Outcome::Done));
}

#[tokio::test(start_paused = true)]
async fn retention_by_time_follows_the_topic_and_kafkas_default_of_seven_days() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.topic_with(2, 1, &[("retention.ms", "3600000")]).await;
    bed.topic_with(3, 1, &[("retention.ms", "-1")]).await;
    for topic in 1..4 {
        for age_ms in [8 * 24 * HOUR_MS, 2 * HOUR_MS, 10] {
            append_at(&bed, partition(topic, 0), NOW_MS - age_ms).await;
        }
    }
    let upkeep = bed.upkeep(options());
    upkeep.retain().await.unwrap();
    assert_eq!([1, 2, 3].map(|topic| start_of(&bed, partition(topic, 0))), [1, 2, 0]);
    bed.clock.advance_ms(2 * HOUR_MS);
    upkeep.retain().await.unwrap();
    assert_eq!(start_of(&bed, partition(2, 0)), 3, "up to the end of the log, as Kafka rolls and deletes");
    assert_eq!(bed.append(partition(2, 0), 1, 9).await, 3);
    upkeep.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn retention_stops_at_the_first_young_extent_and_dates_the_timeless_by_their_commit() {
    let bed = Bed::new().await;
    bed.topic_with(1, 2, &[("retention.ms", "3600000")]).await;
    append_at(&bed, partition(1, 0), NOW_MS).await;
    append_at(&bed, partition(1, 0), NOW_MS - 9 * HOUR_MS).await;
    append_at(&bed, partition(1, 1), -1).await;
    let upkeep = bed.upkeep(options());
    upkeep.retain().await.unwrap();
    assert_eq!([0, 1].map(|p| start_of(&bed, partition(1, p))), [0, 0]);
    bed.clock.advance_ms(HOUR_MS + 1);
    upkeep.retain().await.unwrap();
    assert_eq!([0, 1].map(|p| start_of(&bed, partition(1, p))), [2, 1]);
}

#[tokio::test(start_paused = true)]
async fn retention_by_size_keeps_at_least_what_was_asked_for() {
    let bed = Bed::new().await;
    let one = batch_of(1, 1).len();
    bed.topic_with(1, 1, &[("retention.bytes", &(one * 2 + 1).to_string()), ("retention.ms", "-1")]).await;
    for n in 0..6 {
        bed.append(partition(1, 0), 1, n % 2).await;
    }
    bed.upkeep(options()).retain().await.unwrap();
    assert_eq!(start_of(&bed, partition(1, 0)), 3, "three batches stay, for two would be less than asked for");
}

#[tokio::test(start_paused = true)]
async fn g3_log_starts_only_move_forward_and_never_past_the_end() {
    let bed = Bed::new().await;
    bed.topic_with(1, 1, &[("retention.ms", "1")]).await;
    let upkeep = bed.upkeep(options());
    let mut last = 0;
    for round in 0..10 {
        let produced = async {
            for n in 0..3 {
                append_at(&bed, partition(1, 0), NOW_MS - HOUR_MS + n).await;
            }
        };
        let cut = Command::AdvanceLogStart { starts: vec![(partition(1, 0), Offset::new(round * 2).unwrap())] };
        let (_, cut, retained) = tokio::join!(produced, bed.metadata.submit(cut), upkeep.retain());
        retained.unwrap();
        assert!(matches!(cut, Ok(Outcome::LogStarts(_))));
        let (start, end) = bed.metadata.read(|state| {
            let log = state.log(partition(1, 0)).unwrap();
            (log.log_start().get(), log.high_watermark().get())
        });
        assert!(last <= start && start <= end, "{last} <= {start} <= {end}");
        last = start;
    }
    assert!(last > 0);
    let past = Command::AdvanceLogStart { starts: vec![(partition(1, 0), Offset::new(1_000).unwrap())] };
    assert_eq!(bed.metadata.submit(past).await, Ok(Outcome::LogStarts(vec![Err(Refusal::OffsetOutOfRange)])));
}

#[tokio::test(start_paused = true)]
async fn g2_what_nothing_refers_to_goes_after_its_grace_however_many_deletes_fail() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.topic(2, 1).await;
    for n in 0..20 {
        bed.append(partition(1, 0), 1, n).await;
    }
    bed.append(partition(2, 0), 1, 99).await;
    let upkeep = bed.upkeep(options());
    let topic = partition(1, 0).topic;
    assert_eq!(bed.metadata.submit(Command::DeleteTopic { topic }).await, Ok(Outcome::Done));
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects().len(), 21, "readers may be on their way");
    tokio::time::advance(Duration::from_secs(61)).await;
    bed.world.stage.script().failing_deletes = 6;
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects().len(), 7);
    assert_eq!(bed.metadata.read(|state| state.objects().dead().count()), 6, "the ledger remembers those");
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects().len(), 1);
    assert_eq!(bed.metadata.read(|state| (state.objects().len(), state.objects().dead().count())), (1, 0));
    assert_eq!(batches(&read(&bed.cold_reader(), partition(2, 0), 0).await).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn g2_an_object_whose_batches_were_all_refused_goes_too() {
    let bed = Bed::new().await;
    let answer = bed.submit(vec![(partition(9, 0), batch_of(1, 1))]).await;
    assert_eq!(answer, Ok(vec![BatchOutcome::Refused(Refusal::UnknownTopic)]));
    let upkeep = bed.upkeep(options());
    upkeep.sweep().await.unwrap();
    tokio::time::advance(Duration::from_secs(61)).await;
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn g2_failed_uploads_of_this_session_go_after_the_grace() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.world.stage.script().puts.extend([PutFault::AnswerLost, PutFault::AnswerLost, PutFault::AnswerLost]);
    for _ in 0..3 {
        bed.submit(vec![(partition(1, 0), batch_of(1, 1))]).await.unwrap_err();
    }
    bed.append(partition(1, 0), 1, 1).await;
    let upkeep = bed.upkeep(options());
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects().len(), 4);
    tokio::time::advance(Duration::from_secs(61)).await;
    bed.world.stage.script().failing_deletes = 2;
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects().len(), 3);
    tokio::time::advance(Duration::from_secs(61)).await;
    upkeep.sweep().await.unwrap();
    assert_eq!(bed.objects().len(), 1, "the committed one stays");
}

#[tokio::test(start_paused = true)]
async fn g2_a_crash_between_put_and_commit_leaves_an_object_that_goes_once_its_session_is_over() {
    let world = World::default();
    let (crashed, bed) =
        (world.gateway(1, WriterOptions::default()).await, world.gateway(2, WriterOptions::default()).await);
    bed.topic(1, 1).await;
    crashed.metadata.barrier().await.unwrap();
    crashed.append(partition(1, 0), 1, 1).await;
    // As if it had died right after the PUT: the object is there, its commit is not.
    let orphan = ObjectId { session: crashed.metadata.session(), counter: 77 };
    world.stage.store.put(&orphan.key(), vec![1, 2, 3].into()).await.unwrap();
    let upkeep = bed.upkeep(options());
    upkeep.sweep_listed().await.unwrap();
    assert_eq!(bed.objects().len(), 2, "its session lives: it may still commit");
    expire(&bed, crashed.metadata.session()).await;
    upkeep.sweep_listed().await.unwrap();
    assert_eq!(bed.objects().len(), 1);
    assert_eq!(batches(&read(&bed.cold_reader(), partition(1, 0), 0).await).len(), 1, "what it had committed stays");
}

#[tokio::test(start_paused = true)]
async fn g1_an_object_whose_commit_can_still_succeed_is_not_deleted_however_old_it_is() {
    let world = World::default();
    let (stalled, bed) =
        (world.gateway(1, WriterOptions::default()).await, world.gateway(2, WriterOptions::default()).await);
    bed.topic(1, 1).await;
    stalled.metadata.barrier().await.unwrap();
    // Uploaded, with its commit stuck before the journal.
    world.journal.hold_appends(true);
    let ticket = stalled.submit(vec![(partition(1, 0), batch_of(1, 1))]);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(bed.objects().len(), 1);
    let upkeep = bed.upkeep(options());
    bed.clock.advance_ms(24 * HOUR_MS);
    for _ in 0..3 {
        upkeep.sweep_listed().await.unwrap();
        upkeep.sweep().await.unwrap();
        assert_eq!(bed.objects().len(), 1);
    }
    world.journal.hold_appends(false);
    assert_eq!(base_of(ticket.await), 0);
    bed.metadata.barrier().await.unwrap();
    upkeep.sweep_listed().await.unwrap();
    assert_eq!(batches(&read(&bed.cold_reader(), partition(1, 0), 0).await).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn g1_a_stalled_upload_of_a_fenced_session_is_deleted_or_committed_never_both() {
    let world = World::default();
    let (stalled, bed) =
        (world.gateway(1, WriterOptions::default()).await, world.gateway(2, WriterOptions::default()).await);
    bed.topic(1, 1).await;
    stalled.metadata.barrier().await.unwrap();
    let upkeep = bed.upkeep(options());
    world.stage.script().puts.push_back(PutFault::Slow(Duration::from_secs(10)));
    let ticket = stalled.submit(vec![(partition(1, 0), batch_of(1, 1))]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    expire(&bed, stalled.metadata.session()).await;
    upkeep.sweep_listed().await.unwrap();
    ticket.await.unwrap_err();
    assert_eq!(bed.objects().len(), 1, "it arrived after the sweep");
    upkeep.sweep_listed().await.unwrap();
    assert_eq!(bed.objects().len(), 0, "and went with the next");
    let found = read(&bed.cold_reader(), partition(1, 0), 0).await;
    assert_eq!((found.high_watermark, found.error), (Offset::ZERO, None));
}

#[tokio::test(start_paused = true)]
async fn g1_objects_of_sessions_the_journal_does_not_know_are_left_alone() {
    let bed = Bed::new().await;
    let foreign = ObjectId { session: SessionId(4242), counter: 0 };
    bed.world.stage.store.put(&foreign.key(), vec![1].into()).await.unwrap();
    bed.world.stage.store.put("segments/notes.txt", vec![1].into()).await.unwrap();
    let upkeep = bed.upkeep(options());
    upkeep.sweep_listed().await.unwrap();
    assert_eq!(bed.metadata.read(|state| state.sessions().standing(foreign.session)), Standing::Unknown);
    assert_eq!(bed.objects().len(), 2);
    assert_eq!(bed.metrics.upkeep.foreign.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn g1_g4_an_object_that_a_slow_reader_is_about_to_read_has_its_grace() {
    let bed = Bed::new().await;
    bed.topic(1, 1).await;
    bed.append(partition(1, 0), 1, 1).await;
    bed.append(partition(1, 0), 1, 2).await;
    let upkeep = bed.upkeep(options());
    bed.world.stage.script().get_delay = Duration::from_secs(5);
    let reader = bed.cold_reader();
    let slow = read(&reader, partition(1, 0), 0);
    let swept = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let starts = vec![(partition(1, 0), Offset::new(1).unwrap())];
        bed.metadata.submit(Command::AdvanceLogStart { starts }).await.unwrap();
        upkeep.sweep().await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        upkeep.sweep().await.unwrap();
    };
    let (found, ()) = tokio::join!(slow, swept);
    assert_eq!(batches(&found).len(), 2, "as it stood when the reader looked");
    assert_eq!(read(&reader, partition(1, 0), 0).await.error, Some(ReadError::OffsetOutOfRange));
}

#[tokio::test(start_paused = true)]
async fn passes_run_by_themselves_and_survive_errors() {
    let bed = Bed::new().await;
    bed.topic_with(1, 1, &[("retention.ms", "1000")]).await;
    append_at(&bed, partition(1, 0), NOW_MS - HOUR_MS).await;
    bed.world.stage.script().failing_deletes = 1;
    let upkeep = bed.upkeep(UpkeepOptions { retain_every: HOUR, sweep_every: HOUR, ..options() });
    tokio::time::sleep(HOUR * 5 + Duration::from_secs(1)).await;
    assert_eq!(bed.objects().len(), 0);
    assert!(bed.clock.now_ms() >= NOW_MS);
    upkeep.shutdown().await;
}
