//! Several gateways on one journal: who is silent is expired, who was expired comes back by itself.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::error::{AppendError, ReadError};
use crate::model::ids::{NodeId, SessionId};

/// Of a gateway that shares its journal.
async fn sharing(node: i32, journal: &Arc<MemoryJournal>, change: impl FnOnce(&mut MetadataParts)) -> Metadata {
    let mut parts = MetadataParts::for_tests(node, Arc::clone(journal) as _, Arc::new(MemorySnapshots::default()));
    parts.options.session_timeout_ms = Some(1_000);
    parts.options = parts.options.shared();
    change(&mut parts);
    Metadata::start(parts).await.expect("it starts")
}

fn standing(of: SessionId, seen_by: &Metadata) -> Standing {
    seen_by.read(|state| state.sessions().standing(of))
}

fn node_of(metadata: &Metadata) -> NodeId {
    metadata.read(|state| state.sessions().get(metadata.session()).expect("it lives").node)
}

async fn until(what: impl AsyncFn() -> bool) {
    soon(async {
        while !what().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Expires the session of another gateway, as one that has heard nothing of it.
async fn expire(by: &Metadata, session: SessionId) {
    let expire = |last_seen| Command::ExpireSession { session, last_seen };
    until(async || {
        let Some(last_seen) = by.read(|state| state.sessions().get(session).map(|session| session.last_lsn)) else {
            return true;
        };
        by.submit(expire(last_seen)).await == Ok(Outcome::Done)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_gateway_is_expired_and_a_living_one_is_not() {
    let journal = Arc::new(MemoryJournal::default());
    let (living, watching) = (sharing(1, &journal, |_| {}).await, sharing(3, &journal, |_| {}).await);
    // It has a session, and says nothing more.
    let silent = gateway(2, &journal).await;
    until(async || standing(silent.session(), &living) == Standing::Live).await;
    let began = tokio::time::Instant::now();
    until(async || standing(silent.session(), &living) == Standing::Expired).await;
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(2_200)).await;
    for one in [&living, &watching] {
        assert_eq!(standing(one.session(), &living), Standing::Live, "it renews when idle");
    }
    assert!(matches!(soon(silent.ended()).await, SubmitError::Fenced(_)), "one that does not share ends");
}

/// While nobody can reach the journal, nobody is dead.
#[tokio::test(start_paused = true)]
async fn a_journal_that_was_away_kills_nobody() {
    let journal = Arc::new(MemoryJournal::default());
    let gateways = [sharing(1, &journal, |_| {}).await, sharing(2, &journal, |_| {}).await];
    let sessions = gateways.each_ref().map(Metadata::session);
    journal.set_away(true);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    journal.set_away(false);
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    assert_eq!(gateways.each_ref().map(Metadata::session), sessions);
    for session in sessions {
        assert_eq!(standing(session, &gateways[0]), Standing::Live);
    }
}

/// L6: what a gateway had under way when it was taken for dead is refused, and it comes back by itself.
#[tokio::test(start_paused = true)]
async fn l6_a_fenced_gateway_comes_back_and_nothing_of_its_old_life_counts() {
    let journal = Arc::new(MemoryJournal::default());
    // It repeats an append late enough for the fence to come before it.
    let late = |parts: &mut MetadataParts| (parts.options.retry_initial_ms, parts.options.retry_max_ms) = (600, 600);
    let (paused, other) = (sharing(1, &journal, late).await, sharing(2, &journal, |_| {}).await);
    let id = topic(&paused, 1).await;
    let old = paused.session();
    let object = commit(&paused, id, 0, 0);
    journal.script([AppendFault::RequestLost]);
    let appends = journal.appends();
    let late = paused.enqueue(object.clone()).await.unwrap();
    until(async || journal.appends() > appends).await;
    expire(&other, old).await;
    let error = soon(late).await;
    assert_eq!(error, Err(SubmitError::Fenced(old)));
    until(async || paused.session() != old).await;
    assert_eq!(node_of(&paused), NodeId(1));
    assert_eq!(standing(paused.session(), &paused), Standing::Live);
    let refused = soon(paused.submit(object)).await;
    assert_eq!(refused, Ok(Outcome::Refused(Refusal::Malformed)), "an object of the old life is never committed");
    assert!(matches!(soon(paused.submit(commit(&paused, id, 0, 1))).await, Ok(Outcome::Segment(_))));
    other.barrier().await.unwrap();
    let end = other.read(|state| state.log(TopicPartition { topic: id, partition: 0 }).unwrap().high_watermark().get());
    assert_eq!(end, 10, "one batch of ten, of the new life");
    let zombie = Entry { session: old, sequence: 99, time_ms: 0, commands: vec![one_id()], follows: None };
    let at = journal.append(&zombie).await.unwrap();
    other.barrier().await.unwrap();
    assert!(other.read(|state| state.applied()) >= at);
    assert_eq!(standing(old, &other), Standing::Expired);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_a_life_ends_is_refused_and_what_comes_later_is_not() {
    let journal = Arc::new(MemoryJournal::default());
    let (paused, other) = (sharing(1, &journal, |_| {}).await, sharing(2, &journal, |_| {}).await);
    let old = paused.session();
    for _ in 0..5 {
        let mut tickets = Vec::new();
        for _ in 0..200 {
            tickets.push(paused.enqueue(one_id()).await.unwrap());
        }
        expire(&other, paused.session()).await;
        for ticket in tickets {
            let told = soon(ticket).await;
            assert!(matches!(told, Ok(Outcome::ProducerIds(_)) | Err(SubmitError::Fenced(_))), "{told:?}");
        }
        until(async || paused.submit(one_id()).await.is_ok()).await;
    }
    assert_ne!(paused.session(), old);
    let ids = [id_of(paused.submit(one_id()).await), id_of(other.submit(one_id()).await)];
    assert_eq!(ids[0] + 1, ids[1], "each counted once");
    soon(paused.shutdown()).await;
    until(async || other.read(|state| state.sessions().live_count()) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_with_one_node_id_the_newer_goes_on() {
    let journal = Arc::new(MemoryJournal::default());
    let older = sharing(7, &journal, |_| {}).await;
    let newer = sharing(7, &journal, |_| {}).await;
    assert_eq!(soon(older.ended()).await, SubmitError::Fenced(older.session()));
    assert!(matches!(older.submit(one_id()).await, Err(SubmitError::Fenced(_))));
    newer.submit(one_id()).await.unwrap();
    assert_eq!(standing(newer.session(), &newer), Standing::Live);
}

#[tokio::test(start_paused = true)]
async fn node_ids_are_allotted() {
    let journal = Arc::new(MemoryJournal::default());
    let allotted = |parts: &mut MetadataParts| parts.allot_node = true;
    let given = sharing(2, &journal, |_| {}).await;
    let first = sharing(1, &journal, allotted).await;
    let second = sharing(1, &journal, allotted).await;
    assert_eq!([&given, &first, &second].map(node_of), [NodeId(2), NodeId(1), NodeId(3)]);
    // A gateway to which that id was given takes it: the one that had it by chance takes another.
    let old = first.session();
    let owner = sharing(1, &journal, |_| {}).await;
    until(async || first.session() != old).await;
    assert_eq!([&owner, &first].map(node_of), [NodeId(1), NodeId(4)]);
}

/// A way to the journal that can be cut for one gateway, and may be slow.
#[derive(Debug)]
struct Wire {
    journal: Arc<MemoryJournal>,
    is_cut: AtomicBool,
    /// How long it takes to hear where the journal ends.
    head_takes: Duration,
}

impl Wire {
    fn check(&self) -> Result<(), ReadError> {
        match self.is_cut.load(Ordering::SeqCst) {
            true => Err(ReadError::Unavailable("the wire is cut".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Journal for Wire {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        self.check().map_err(|error| AppendError::KnownNotWritten(error.to_string().into()))?;
        self.journal.append(entry).await
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        self.check()?;
        self.journal.read(after, limit).await
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        self.check()?;
        tokio::time::sleep(self.head_takes).await;
        self.journal.head().await
    }

    fn tail(&self) -> tokio::sync::watch::Receiver<Lsn> {
        self.journal.tail()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        self.journal.trim(before).await
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        self.journal.first().await
    }
}

/// Gateways that are late with each of their looks find the silent all the same, and none of those who speak.
#[tokio::test(start_paused = true)]
async fn who_is_always_late_finds_the_silent() {
    let journal = Arc::new(MemoryJournal::default());
    let head_takes = Duration::from_millis(400);
    let wire = Arc::new(Wire { journal: Arc::clone(&journal), is_cut: AtomicBool::new(false), head_takes });
    let slow = |parts: &mut MetadataParts| parts.journal = Arc::clone(&wire) as _;
    let (late, living) = (sharing(1, &journal, slow).await, sharing(3, &journal, slow).await);
    let silent = gateway(2, &journal).await;
    until(async || standing(silent.session(), &late) == Standing::Live).await;
    tokio::time::timeout(
        Duration::from_secs(20),
        until(async || standing(silent.session(), &late) == Standing::Expired),
    )
    .await
    .expect("it is found");
    assert_eq!(standing(living.session(), &late), Standing::Live);
}

/// Who was cut off for so long that the journal was trimmed meanwhile goes on from a snapshot, and hears no lie.
#[tokio::test(start_paused = true)]
async fn who_falls_behind_a_trim_goes_on_from_a_snapshot() {
    let (journal, snapshots) = (Arc::new(MemoryJournal::default()), Arc::new(MemorySnapshots::default()));
    let wire =
        Arc::new(Wire { journal: Arc::clone(&journal), is_cut: AtomicBool::new(false), head_takes: Duration::ZERO });
    let parts = |node, journal: Arc<dyn Journal>, timeout_ms| {
        let mut parts = MetadataParts::for_tests(node, journal, Arc::clone(&snapshots) as _);
        parts.options.session_timeout_ms = Some(timeout_ms);
        parts.options.snapshot_entries = 20;
        parts.options = parts.options.shared();
        parts
    };
    let cut = Metadata::start(parts(1, Arc::clone(&wire) as _, 60_000)).await.unwrap();
    let other = Metadata::start(parts(2, Arc::clone(&journal) as _, 600)).await.unwrap();
    let id = topic(&cut, 1).await;
    let old = cut.session();
    let mut watch = cut.watch([TopicPartition { topic: id, partition: 0 }].into_iter());
    wire.is_cut.store(true, Ordering::SeqCst);
    let lost = cut.enqueue(commit(&cut, id, 0, 0)).await.unwrap();
    until(async || standing(old, &other) == Standing::Expired).await;
    // Alone, it takes the snapshots.
    for counter in 0..100 {
        let told = other.submit(commit(&other, id, 0, counter)).await;
        assert!(matches!(told, Ok(Outcome::Segment(_))), "{told:?}");
    }
    until(async || journal.first().await.unwrap() > Lsn(20)).await;
    wire.is_cut.store(false, Ordering::SeqCst);
    assert_eq!(soon(lost).await, Err(SubmitError::Fenced(old)));
    soon(watch.changed()).await;
    until(async || cut.submit(commit(&cut, id, 0, 1)).await.is_ok_and(|told| matches!(told, Outcome::Segment(_))))
        .await;
    other.barrier().await.unwrap();
    cut.barrier().await.unwrap();
    let seen = [&cut, &other].map(|one| one.read(|state| (state.applied(), state.hash())));
    if seen[0].0 == seen[1].0 {
        assert_eq!(seen[0], seen[1], "D1");
    }
    let end = cut.read(|state| state.log(TopicPartition { topic: id, partition: 0 }).unwrap().high_watermark().get());
    assert_eq!(end, 1_010);
}
