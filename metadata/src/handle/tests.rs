//! The appender, the replica, snapshots and the handle together, on a journal in memory that misbehaves.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::command::{CommitSegment, CreateTopic, Entry, PartitionCommit, Refusal, SaveGroup};
use crate::journal::memory::{AppendFault, Chances, MemoryJournal};
use crate::model::batch::BatchSummary;
use crate::model::extent::ObjectId;
use crate::model::ids::TopicId;
use crate::model::limits::COMMAND_BYTES_MAX;
use crate::snapshot::MemorySnapshots;
use crate::state::sessions::Standing;

mod cluster;
mod lives;
mod snapshots;

/// Longest wait for what must happen.
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens in time")
}

fn one_id() -> Command {
    Command::AllocateProducerIds { count: 1 }
}

fn id_of(outcome: Result<Outcome, SubmitError>) -> i64 {
    match outcome {
        Ok(Outcome::ProducerIds(first)) => first.0,
        other => panic!("no producer id but {other:?}"),
    }
}

async fn gateway(node: i32, journal: &Arc<MemoryJournal>) -> Metadata {
    let parts = MetadataParts::for_tests(node, Arc::clone(journal) as _, Arc::new(MemorySnapshots::default()));
    Metadata::start(parts).await.expect("it starts")
}

async fn fencing_gateway(journal: &Arc<MemoryJournal>) -> Metadata {
    let mut parts = MetadataParts::for_tests(99, Arc::clone(journal) as _, Arc::new(MemorySnapshots::default()));
    parts.session.fence_others = true;
    Metadata::start(parts).await.expect("it starts")
}

async fn topic(metadata: &Metadata, partitions: i32) -> TopicId {
    let id = TopicId::random();
    let name = format!("topic-{id}").parse().unwrap();
    let create = CreateTopic { id, name, partitions, configs: Vec::new() };
    assert_eq!(metadata.submit(Command::CreateTopic(create)).await, Ok(Outcome::Done));
    id
}

/// A commit of one batch of ten records.
fn commit(metadata: &Metadata, topic: TopicId, partition: i32, counter: u64) -> Command {
    let batch = BatchSummary { records: 10, length: 100, max_timestamp: 1, stamp: None };
    let partition = TopicPartition { topic, partition };
    Command::CommitSegment(CommitSegment {
        object: ObjectId { session: metadata.session(), counter },
        object_bytes: 200,
        partitions: vec![PartitionCommit { partition, position: 16, batches: vec![batch] }],
    })
}

#[tokio::test]
async fn a_command_is_answered_with_its_outcome() {
    let metadata = Metadata::for_tests().await;
    assert_eq!(metadata.read(|state| state.sessions().standing(metadata.session())), Standing::Live);
    assert_eq!(metadata.read(|state| state.cluster_id().to_owned()), "test-cluster");
    let first = id_of(metadata.submit(one_id()).await);
    assert_eq!(id_of(metadata.submit(one_id()).await), first + 1);
    assert_eq!(metadata.barrier().await, Ok(Lsn(3)));
}

#[tokio::test]
async fn the_order_of_enqueues_is_the_order_in_the_journal() {
    let metadata = Metadata::for_tests().await;
    let mut tickets = Vec::new();
    for _ in 0..300 {
        tickets.push(metadata.enqueue(one_id()).await.unwrap());
    }
    let mut last = -1;
    for ticket in tickets {
        let id = id_of(soon(ticket).await);
        assert!(id > last, "{id} after {last}");
        last = id;
    }
}

/// L4, P6: whatever becomes of the appends, each command takes effect once and its ticket hears that outcome.
#[tokio::test]
async fn each_fault_yields_each_command_once() {
    use AppendFault::{AnswerLost, Late, Refused, RequestLost, Stall};
    let stall = Stall(Duration::from_millis(3));
    let scripts: &[&[AppendFault]] = &[
        &[AnswerLost],
        &[Refused],
        &[RequestLost],
        &[Late],
        &[stall],
        &[AnswerLost, AnswerLost, AnswerLost],
        &[Late, Late, RequestLost, Refused, AnswerLost],
        &[RequestLost, Late, stall, AnswerLost, Refused],
    ];
    for script in scripts {
        let journal = Arc::new(MemoryJournal::default());
        let metadata = gateway(1, &journal).await;
        for expected in 0..4 {
            journal.script(script.iter().copied());
            assert_eq!(id_of(soon(metadata.submit(one_id())).await), expected, "{script:?}");
        }
        assert_eq!(metadata.read(|state| state.applied()), metadata.barrier().await.unwrap());
    }
}

/// L4, D1: two gateways, every fault by chance: ids dense and told once each, and one state.
#[tokio::test]
async fn faults_by_chance_on_two_gateways() {
    for seed in 0..12 {
        let chances = Chances {
            answer_lost: 150,
            refused: 100,
            request_lost: 150,
            late: 150,
            stall: 50,
            stall_max: Duration::from_millis(2),
            read_failed: 50,
        };
        let journal = Arc::new(MemoryJournal::default());
        let gateways = [gateway(1, &journal).await, gateway(2, &journal).await];
        journal.set_chances(chances);
        let mut submits = tokio::task::JoinSet::new();
        for at in 0..80_usize {
            let metadata = gateways[at % 2].clone();
            submits.spawn(async move { id_of(metadata.submit(one_id()).await) });
        }
        let ids: BTreeSet<i64> = soon(submits.join_all()).await.into_iter().collect();
        assert_eq!(ids, (0..80).collect(), "seed {seed}");
        journal.set_chances(Chances::default());
        let ends = [gateways[0].barrier().await.unwrap(), gateways[1].barrier().await.unwrap()];
        assert_eq!(ends[0], ends[1]);
        let hashes = gateways.each_ref().map(|metadata| metadata.read(|state| (state.applied(), state.hash())));
        assert_eq!(hashes[0], hashes[1], "seed {seed}: one history, two states");
    }
}

#[tokio::test]
async fn what_waits_together_shares_an_entry() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.hold_appends(true);
    let mut submits = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let metadata = metadata.clone();
        submits.spawn(async move { id_of(metadata.submit(one_id()).await) });
    }
    tokio::task::yield_now().await;
    journal.hold_appends(false);
    let ids: BTreeSet<i64> = soon(submits.join_all()).await.into_iter().collect();
    assert_eq!(ids.len(), 1_000);
    let entries = metadata.barrier().await.unwrap().0;
    assert!(entries <= 10, "{entries} entries for 1,000 commands");
}

#[tokio::test]
async fn large_commands_do_not_overfill_an_entry() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    let save = |group: i32, bytes: usize| {
        Command::SaveGroup(SaveGroup {
            group: format!("group-{group}"),
            expected_version: 0,
            protocol_type: "consumer".into(),
            generation: 1,
            is_empty: true,
            record: vec![0; bytes],
        })
    };
    journal.hold_appends(true);
    let mut tickets = vec![metadata.enqueue(one_id()).await.unwrap()];
    for group in 0..3 {
        tickets.push(metadata.enqueue(save(group, 3 << 20)).await.unwrap());
    }
    tickets.push(metadata.enqueue(save(3, 16 << 20)).await.unwrap());
    journal.hold_appends(false);
    for ticket in tickets {
        assert!(!matches!(soon(ticket).await, Err(_) | Ok(Outcome::Refused(_))));
    }
    let entries = journal.read(Lsn(0), 100).await.unwrap();
    let sizes: Vec<usize> = entries.iter().map(|(_, entry)| crate::codec::encode_entry(entry).len()).collect();
    assert!(sizes.iter().filter(|size| **size > 4 << 20).count() == 1, "{sizes:?}");
    let refused = metadata.submit(save(4, COMMAND_BYTES_MAX)).await;
    assert!(matches!(refused, Err(SubmitError::TooLarge { .. })), "{refused:?}");
}

/// L10: what another gateway was told is done is seen after a barrier.
#[tokio::test]
async fn a_barrier_sees_the_entries_of_others() {
    let journal = Arc::new(MemoryJournal::default());
    let (here, there) = (gateway(1, &journal).await, gateway(2, &journal).await);
    for round in 0..50 {
        let id = topic(&there, 1).await;
        here.barrier().await.unwrap();
        let is_seen = here.read(|state| state.log(TopicPartition { topic: id, partition: 0 }).is_some());
        assert!(is_seen, "round {round}");
    }
}

#[tokio::test]
async fn a_barrier_fails_in_bounded_time_and_askers_share_it() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.set_away(true);
    let failed = soon(metadata.barrier()).await;
    assert!(matches!(failed, Err(SubmitError::Unavailable(_))), "{failed:?}");
    journal.set_away(false);
    let before = journal.heads();
    let askers = futures_of(200, || {
        let metadata = metadata.clone();
        async move { metadata.barrier().await }
    });
    for reached in soon(askers.join_all()).await {
        assert_eq!(reached, Ok(Lsn(1)));
    }
    assert!(journal.heads() - before < 200, "every asker asked the journal");
}

fn futures_of<F: Future<Output: Send + 'static> + Send + 'static>(
    count: usize,
    make: impl Fn() -> F,
) -> tokio::task::JoinSet<F::Output> {
    (0..count).map(|_| make()).collect()
}

#[tokio::test]
async fn a_watch_wakes_for_its_partition_on_every_gateway() {
    let journal = Arc::new(MemoryJournal::default());
    let (here, there) = (gateway(1, &journal).await, gateway(2, &journal).await);
    let id = topic(&there, 2).await;
    here.barrier().await.unwrap();
    let at = |partition| TopicPartition { topic: id, partition };
    let mut moved = here.watch([at(0)].into_iter());
    let mut still = here.watch([at(1)].into_iter());
    let outcome = there.submit(commit(&there, id, 0, 0)).await;
    assert!(matches!(outcome, Ok(Outcome::Segment(_))), "{outcome:?}");
    soon(moved.changed()).await;
    assert_eq!(here.read(|state| state.log(at(0)).unwrap().high_watermark().get()), 10);
    assert!(tokio::time::timeout(Duration::from_millis(10), still.changed()).await.is_err());
}

/// A reader that makes its watch, looks, and waits, sees every commit: none falls between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_misses_nothing() {
    let metadata = Metadata::for_tests().await;
    let id = topic(&metadata, 1).await;
    let partition = TopicPartition { topic: id, partition: 0 };
    let end = |metadata: &Metadata| metadata.read(|state| state.log(partition).unwrap().high_watermark().get());
    let writer = metadata.clone();
    let writing = tokio::spawn(async move {
        for counter in 0..300 {
            writer.submit(commit(&writer, id, 0, counter)).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < 3_000 {
        let mut watch = metadata.watch([partition].into_iter());
        let now = end(&metadata);
        if now == seen {
            soon(watch.changed()).await;
        }
        seen = end(&metadata);
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn shutdown_flushes_the_queue_and_closes_the_session() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.hold_appends(true);
    let mut tickets = Vec::new();
    for _ in 0..50 {
        tickets.push(metadata.enqueue(one_id()).await.unwrap());
    }
    let leaving = tokio::spawn({
        let metadata = metadata.clone();
        async move { metadata.shutdown().await }
    });
    tokio::task::yield_now().await;
    journal.hold_appends(false);
    for (expected, ticket) in (0..).zip(tickets) {
        assert_eq!(id_of(soon(ticket).await), expected);
    }
    soon(leaving).await.unwrap();
    assert_eq!(metadata.read(|state| state.sessions().standing(metadata.session())), Standing::Expired);
    assert_eq!(metadata.submit(one_id()).await, Err(SubmitError::Closed));
    assert_eq!(metadata.barrier().await, Err(SubmitError::Closed));
    assert_eq!(metadata.ended().await, SubmitError::Closed);
    let last = journal.read(Lsn(journal.head().await.unwrap().0 - 1), 1).await.unwrap();
    assert_eq!(last[0].1.commands, [Command::CloseSession]);
    soon(metadata.shutdown()).await;
}

/// P6: at the end of its patience a shutdown calls unknown what may have been written, and closed what was not.
#[tokio::test(start_paused = true)]
async fn shutdown_without_a_journal_ends_and_tells_the_truth() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.hold_appends(true);
    let under_way = metadata.enqueue(one_id()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let queued = metadata.enqueue(one_id()).await.unwrap();
    let before = tokio::time::Instant::now();
    metadata.shutdown().await;
    assert!(before.elapsed() <= Duration::from_secs(11), "{:?}", before.elapsed());
    let under_way = under_way.await;
    assert!(matches!(under_way, Err(SubmitError::Unknown(_))), "{under_way:?}");
    assert_eq!(queued.await, Err(SubmitError::Closed));
}

/// L6: from the fence on nothing of the old session takes effect, not even what it sent before.
#[tokio::test]
async fn a_fenced_session_ends_and_its_late_entry_does_nothing() {
    let journal = Arc::new(MemoryJournal::default());
    let old = gateway(1, &journal).await;
    let id = topic(&old, 1).await;
    journal.script([AppendFault::Late]);
    let late = old.enqueue(commit(&old, id, 0, 0)).await.unwrap();
    let new = fencing_gateway(&journal).await;
    // The new session's first entry is the next append, unless the old one's retry came first; both are legal histories.
    let late = soon(late).await;
    assert!(matches!(soon(old.ended()).await, SubmitError::Fenced(_)));
    assert!(matches!(old.submit(one_id()).await, Err(SubmitError::Fenced(_))));
    new.barrier().await.unwrap();
    let end = new.read(|state| state.log(TopicPartition { topic: id, partition: 0 }).unwrap().high_watermark().get());
    match late {
        Err(SubmitError::Fenced(_)) => assert_eq!(end, 0, "told fenced, but visible"),
        Ok(Outcome::Segment(_)) => assert_eq!(end, 10, "told appended, but not visible"),
        other => panic!("{other:?}"),
    }
}

/// All that waits when the fence comes is told so, and none of it takes effect.
#[tokio::test]
async fn a_fence_answers_everyone_who_waits() {
    let journal = Arc::new(MemoryJournal::default());
    let old = gateway(1, &journal).await;
    let id = topic(&old, 1).await;
    journal.hold_appends(true);
    let mut tickets = Vec::new();
    for counter in 0..20 {
        tickets.push(old.enqueue(commit(&old, id, 0, counter)).await.unwrap());
        tokio::task::yield_now().await;
    }
    let fence = Entry {
        session: SessionId(5),
        sequence: 1,
        time_ms: 0,
        follows: None,
        commands: vec![Command::OpenSession(OpenSession {
            fence_others: true,
            ..MetadataParts::for_tests(2, Arc::clone(&journal) as _, Arc::new(MemorySnapshots::default())).session
        })],
    };
    journal.append_now(&fence);
    for ticket in tickets {
        assert_eq!(soon(ticket).await, Err(SubmitError::Fenced(old.session())));
    }
    journal.hold_appends(false);
    let reader = gateway(3, &journal).await;
    let end =
        reader.read(|state| state.log(TopicPartition { topic: id, partition: 0 }).unwrap().high_watermark().get());
    assert_eq!(end, 0);
}

#[tokio::test]
async fn a_journal_taken_over_fences_the_session() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.script([AppendFault::TakenOver]);
    assert_eq!(soon(metadata.submit(one_id())).await, Err(SubmitError::Fenced(metadata.session())));
    assert_eq!(soon(metadata.ended()).await, SubmitError::Fenced(metadata.session()));
}

#[tokio::test]
async fn a_dropped_ticket_takes_its_course() {
    let metadata = Metadata::for_tests().await;
    drop(metadata.enqueue(one_id()).await.unwrap());
    assert_eq!(id_of(metadata.submit(one_id()).await), 1);
}

/// L9: while the journal is away commands wait, within the caps; then all take effect.
#[tokio::test(start_paused = true)]
async fn a_journal_away_for_minutes_loses_nothing() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.set_away(true);
    let submits = futures_of(JOURNAL_QUEUE_COMMANDS + 2_000, || {
        let metadata = metadata.clone();
        async move { id_of(metadata.submit(one_id()).await) }
    });
    tokio::time::sleep(Duration::from_secs(600)).await;
    let queued = metadata.inner.snapshotter.metrics.queue_commands.get();
    assert!(queued <= i64::try_from(JOURNAL_QUEUE_COMMANDS).unwrap(), "{queued} in the queue");
    journal.set_away(false);
    let ids: BTreeSet<i64> = soon(submits.join_all()).await.into_iter().collect();
    assert_eq!(ids.len(), JOURNAL_QUEUE_COMMANDS + 2_000);
    assert_eq!(metadata.inner.snapshotter.metrics.queue_commands.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_never_answers_is_repeated() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    journal.script([AppendFault::Stall(Duration::from_secs(3_600))]);
    assert_eq!(id_of(metadata.submit(one_id()).await), 0);
    assert_eq!(id_of(metadata.submit(one_id()).await), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_writes_only_if_told_to_renew() {
    let journal = Arc::new(MemoryJournal::default());
    let silent = gateway(1, &journal).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(silent.barrier().await, Ok(Lsn(1)), "an idle gateway writes nothing");
    let mut parts = MetadataParts::for_tests(2, Arc::clone(&journal) as _, Arc::new(MemorySnapshots::default()));
    parts.options.renew_interval_ms = Some(1_000);
    let renewing = Metadata::start(parts).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    let last = renewing.read(|state| state.sessions().get(renewing.session()).unwrap().last_lsn);
    assert_eq!(last, Lsn(7), "opened, then renewed five times");
}

#[tokio::test]
async fn a_damaged_journal_stops_the_gateway_and_a_start() {
    let journal = Arc::new(MemoryJournal::default());
    let (here, there) = (gateway(1, &journal).await, gateway(2, &journal).await);
    here.barrier().await.unwrap();
    journal.set_chances(Chances { read_failed: 1_000, ..Chances::default() });
    topic(&there, 1).await;
    journal.damage(journal.tail().borrow().to_owned());
    journal.set_chances(Chances::default());
    assert!(matches!(soon(here.ended()).await, SubmitError::Corrupt(_)));
    let refused = here.submit(one_id()).await;
    assert!(matches!(refused, Err(SubmitError::Corrupt(_))), "{refused:?}");
    let parts = MetadataParts::for_tests(3, Arc::clone(&journal) as _, Arc::new(MemorySnapshots::default()));
    let started = Metadata::start(parts).await.map(drop);
    assert!(matches!(started, Err(StartError::Journal(crate::error::ReadError::Corrupt(_)))), "{started:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_the_journal_and_gives_up() {
    let journal = Arc::new(MemoryJournal::default());
    journal.set_away(true);
    let parts = || MetadataParts::for_tests(1, Arc::clone(&journal) as _, Arc::new(MemorySnapshots::default()));
    let started = Metadata::start(parts()).await.map(drop);
    assert!(matches!(started, Err(StartError::Journal(_))), "{started:?}");
    let starting = tokio::spawn(Metadata::start(parts()));
    tokio::time::sleep(Duration::from_secs(5)).await;
    journal.set_away(false);
    assert!(starting.await.unwrap().is_ok());
    let mut ignorant = parts();
    ignorant.options.snapshot_entries = 0;
    assert!(matches!(Metadata::start(ignorant).await, Err(StartError::Options(_))));
}

#[tokio::test]
async fn a_refused_session_is_told_why() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    let outcome = metadata.submit(Command::RaiseFeatureLevel { level: 1 }).await;
    assert_eq!(outcome, Ok(Outcome::Refused(Refusal::FeatureLevel)), "this session knows level 0 only");
}
