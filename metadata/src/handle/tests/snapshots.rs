//! Starting from a snapshot and the tail; trimming; what happens when either is damaged or missing.

use super::*;

fn parts(journal: &Arc<MemoryJournal>, snapshots: &Arc<MemorySnapshots>) -> MetadataParts {
    let mut parts = MetadataParts::for_tests(1, Arc::clone(journal) as _, Arc::clone(snapshots) as _);
    parts.options.snapshot_entries = 10;
    parts
}

/// Lives once, writes `entries` entries, and waits until no snapshot is due.
async fn live(journal: &Arc<MemoryJournal>, snapshots: &Arc<MemorySnapshots>, entries: u64) -> (i64, u64) {
    let metadata = Metadata::start(parts(journal, snapshots)).await.unwrap();
    let mut last = 0;
    for _ in 0..entries {
        last = id_of(metadata.submit(one_id()).await);
        let growth = &metadata.inner.replica.growth;
        soon(async {
            while growth.is_due(&metadata.inner.options) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    let hash = metadata.read(|state| state.hash());
    // The journal is trimmed after the snapshot counts as taken: the lock is free when that is over, too.
    drop(soon(metadata.inner.snapshotter.last.lock()).await);
    (last, hash)
}

#[tokio::test]
async fn snapshots_are_taken_and_the_journal_is_trimmed_to_the_one_before() {
    let (journal, snapshots) = (Arc::default(), Arc::default());
    live(&journal, &snapshots, 35).await;
    let kept = snapshots.lsns();
    assert_eq!(kept, [Lsn(20), Lsn(30)]);
    assert_eq!(journal.first().await, Ok(Lsn(21)));
}

#[tokio::test]
async fn a_start_continues_from_snapshot_and_tail() {
    let (journal, snapshots) = (Arc::default(), Arc::default());
    let (last, hash) = live(&journal, &snapshots, 34).await;
    let loaded = load(journal.as_ref(), snapshots.as_ref(), &JournalMetrics::unregistered()).await.unwrap();
    assert_eq!((loaded.base, loaded.state.applied(), loaded.state.hash()), (Lsn(30), Lsn(35), hash));
    let metadata = Metadata::start(parts(&journal, &snapshots)).await.unwrap();
    assert_eq!(id_of(metadata.submit(one_id()).await), last + 1);
}

#[tokio::test]
async fn a_damaged_snapshot_is_passed_over_while_the_journal_covers_it() {
    let (journal, snapshots) = (Arc::default(), Arc::<MemorySnapshots>::default());
    let (last, hash) = live(&journal, &snapshots, 34).await;
    snapshots.damage(Lsn(30));
    let loaded = load(journal.as_ref(), snapshots.as_ref(), &JournalMetrics::unregistered()).await.unwrap();
    assert_eq!((loaded.base, loaded.state.hash()), (Lsn(20), hash));
    snapshots.damage(Lsn(20));
    let refused = Metadata::start(parts(&journal, &snapshots)).await.map(drop);
    let Err(StartError::SnapshotMissing { first: Lsn(21), tried }) = &refused else { panic!("{refused:?}") };
    assert!(tried.contains("snapshot 30") && tried.contains("snapshot 20"), "{tried}");
    snapshots.damage(Lsn(20)); // the same bit: whole again
    let metadata = Metadata::start(parts(&journal, &snapshots)).await.unwrap();
    assert_eq!(id_of(metadata.submit(one_id()).await), last + 1);
}

#[tokio::test]
async fn without_snapshots_the_whole_journal_is_enough() {
    let (journal, snapshots) = (Arc::default(), Arc::<MemorySnapshots>::default());
    let (_, hash) = live(&journal, &snapshots, 12).await;
    assert_eq!(snapshots.lsns(), [Lsn(10)]);
    let none = MemorySnapshots::default();
    let loaded = load(journal.as_ref(), &none, &JournalMetrics::unregistered()).await.unwrap();
    assert_eq!((loaded.base, loaded.state.hash()), (Lsn(0), hash));
}

#[tokio::test]
async fn a_trimmed_journal_without_its_snapshots_is_refused() {
    let (journal, snapshots) = (Arc::default(), Arc::default());
    live(&journal, &snapshots, 25).await;
    let refused = Metadata::start(parts(&journal, &Arc::default())).await.map(drop);
    assert!(matches!(refused, Err(StartError::SnapshotMissing { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_journal_that_ends_before_the_snapshot_is_refused() {
    let (journal, snapshots) = (Arc::default(), Arc::default());
    live(&journal, &snapshots, 25).await;
    let refused = Metadata::start(parts(&Arc::default(), &snapshots)).await.map(drop);
    assert_eq!(refused, Err(StartError::JournalBehind { head: Lsn(0), snapshot: Lsn(20) }));
}

#[tokio::test]
async fn shutdown_takes_a_snapshot_that_is_due() {
    let (journal, snapshots): (Arc<MemoryJournal>, Arc<MemorySnapshots>) = (Arc::default(), Arc::default());
    let mut parts = parts(&journal, &snapshots);
    parts.options.snapshot_entries = 3;
    let metadata = Metadata::start(parts).await.unwrap();
    id_of(metadata.submit(one_id()).await);
    metadata.shutdown().await;
    assert_eq!(snapshots.lsns(), [Lsn(3)]);
}
