//! What every journal must do: each case a plain async function over a fresh journal.
//!
//! Backends run [`every_case`]; durable ones also [`survives_reopening`]. A case panics when the journal breaks its word.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::codec::encode_entry;
use crate::command::{Command, Entry, SaveGroup};
use crate::error::ReadError;
use crate::journal::Journal;
use crate::model::ids::{Lsn, SessionId};

/// How long a wake may take.
const WAKE_MAX: Duration = Duration::from_secs(30);
/// Larger than any cap on one entry.
const LARGE_BYTES: usize = 20 << 20;

/// Runs all cases, each on a journal of its own from `fresh`.
pub async fn every_case<F>(fresh: F)
where
    F: AsyncFn() -> Arc<dyn Journal>,
{
    empty_journal(fresh().await.as_ref()).await;
    lsns_are_dense_and_in_order(fresh().await.as_ref()).await;
    reads_respect_after_and_limit(fresh().await.as_ref()).await;
    entries_come_back_identical(fresh().await.as_ref()).await;
    large_entries(fresh().await.as_ref()).await;
    repetitions_take_places_of_their_own(fresh().await.as_ref()).await;
    trim_keeps_head_and_the_rest(fresh().await.as_ref()).await;
    tail_wakes(fresh().await).await;
    concurrent_appends(fresh().await).await;
}

/// An entry that no other call makes.
pub fn entry(sequence: u64) -> Entry {
    entry_of(SessionId(7), sequence, 40)
}

fn entry_of(session: SessionId, sequence: u64, bytes: usize) -> Entry {
    let filled = u8::try_from(sequence % 251).unwrap_or(0);
    let save = SaveGroup {
        group: format!("group-{sequence}"),
        expected_version: sequence,
        protocol_type: "consumer".into(),
        generation: 3,
        is_empty: false,
        record: vec![filled; bytes],
    };
    let commands = vec![Command::SaveGroup(save), Command::AllocateProducerIds { count: 5 }];
    Entry { session, sequence, time_ms: 1_700_000_000_000, commands, follows: None }
}

async fn append_many(journal: &dyn Journal, count: u64) {
    for sequence in 1..=count {
        journal.append(&entry(sequence)).await.expect("append");
    }
}

/// Everything the journal keeps.
async fn read_all(journal: &dyn Journal) -> Vec<(Lsn, Entry)> {
    let mut after = Lsn(journal.first().await.expect("first").0 - 1);
    let mut all = Vec::new();
    loop {
        let some = journal.read(after, 7).await.expect("read");
        match some.last() {
            Some((last, _)) => after = *last,
            None => return all,
        }
        all.extend(some);
    }
}

/// Before the first append.
pub async fn empty_journal(journal: &dyn Journal) {
    assert_eq!(journal.head().await.expect("head"), Lsn(0));
    assert_eq!(journal.first().await.expect("first"), Lsn(1));
    assert_eq!(*journal.tail().borrow(), Lsn(0));
    assert!(journal.read(Lsn(0), 10).await.expect("read").is_empty());
    journal.trim(Lsn(1)).await.expect("trim of nothing");
    assert_eq!(journal.append(&entry(1)).await.expect("append"), Lsn(1));
}

/// LSNs are 1, 2, 3 and read in that order; the head follows each append at once.
pub async fn lsns_are_dense_and_in_order(journal: &dyn Journal) {
    for sequence in 1..=30 {
        assert_eq!(journal.append(&entry(sequence)).await.expect("append"), Lsn(sequence));
        assert_eq!(journal.head().await.expect("head"), Lsn(sequence));
    }
    let all = read_all(journal).await;
    assert_eq!(all.len(), 30);
    for (expected, (lsn, read)) in (1..).zip(&all) {
        assert_eq!((*lsn, read.sequence), (Lsn(expected), expected));
    }
}

/// A read begins after `after`, gives at most `limit`, and nothing only at the head.
pub async fn reads_respect_after_and_limit(journal: &dyn Journal) {
    append_many(journal, 10).await;
    let some = journal.read(Lsn(3), 4).await.expect("read");
    assert!(!some.is_empty() && some.len() <= 4, "{} entries", some.len());
    assert_eq!(some[0].0, Lsn(4));
    assert_eq!(journal.read(Lsn(9), 100).await.expect("read").len(), 1);
    assert!(journal.read(Lsn(10), 100).await.expect("read").is_empty());
}

/// What is read encodes to the bytes of what was appended.
pub async fn entries_come_back_identical(journal: &dyn Journal) {
    let appended: Vec<Entry> = (1..=20).map(|sequence| entry_of(SessionId(sequence), sequence, 100)).collect();
    for entry in &appended {
        journal.append(entry).await.expect("append");
    }
    for ((_, read), entry) in read_all(journal).await.iter().zip(&appended) {
        assert_eq!(read, entry);
        assert_eq!(encode_entry(read), encode_entry(entry));
    }
}

/// An entry may be as large as the largest command, and others beside it are not lost.
pub async fn large_entries(journal: &dyn Journal) {
    let large = entry_of(SessionId(7), 2, LARGE_BYTES);
    for entry in [entry(1), large.clone(), entry(3)] {
        journal.append(&entry).await.expect("append");
    }
    let all = read_all(journal).await;
    assert_eq!(all.len(), 3);
    assert!(all[1].1 == large, "the large entry came back changed");
}

/// The journal does not know repetitions; `apply` does.
pub async fn repetitions_take_places_of_their_own(journal: &dyn Journal) {
    for expected in 1..=3 {
        assert_eq!(journal.append(&entry(1)).await.expect("append"), Lsn(expected));
    }
}

/// Trimmed entries are gone and said to be gone; the rest, the head and the numbering stay, even when all are trimmed.
pub async fn trim_keeps_head_and_the_rest(journal: &dyn Journal) {
    append_many(journal, 10).await;
    journal.trim(Lsn(6)).await.expect("trim");
    assert_eq!(journal.first().await.expect("first"), Lsn(6));
    assert_eq!(journal.head().await.expect("head"), Lsn(10));
    let trimmed = journal.read(Lsn(4), 10).await;
    assert_eq!(trimmed, Err(ReadError::Trimmed { after: Lsn(4), first: Lsn(6) }));
    let kept: Vec<_> = journal.read(Lsn(5), 10).await.expect("read").iter().map(|(lsn, _)| lsn.0).collect();
    assert_eq!(kept, [6, 7, 8, 9, 10]);
    journal.trim(Lsn(3)).await.expect("an older trim changes nothing");
    assert_eq!(journal.first().await.expect("first"), Lsn(6));
    journal.trim(Lsn(1_000)).await.expect("trim past the head");
    assert_eq!(journal.first().await.expect("first"), Lsn(10));
    assert_eq!(journal.append(&entry(11)).await.expect("append"), Lsn(11));
    let kept: Vec<_> = read_all(journal).await.iter().map(|(lsn, _)| lsn.0).collect();
    assert_eq!(kept, [10, 11]);
}

/// Whoever waits for the tail hears of an append, and never of one that cannot be read yet.
pub async fn tail_wakes(journal: Arc<dyn Journal>) {
    let mut tail = journal.tail();
    let writer = Arc::clone(&journal);
    let writing = tokio::spawn(async move { append_many(writer.as_ref(), 20).await });
    let mut heard = Lsn(0);
    while heard < Lsn(20) {
        tokio::time::timeout(WAKE_MAX, tail.changed()).await.expect("woken in time").expect("the journal is open");
        let now = *tail.borrow_and_update();
        assert!(now > heard, "the tail went from {heard} to {now}");
        let visible = journal.read(Lsn(now.0 - 1), 1).await.expect("read");
        assert_eq!(visible.first().map(|(lsn, _)| *lsn), Some(now), "told, but not there");
        heard = now;
    }
    writing.await.expect("the writer ends");
}

/// Appends side by side each get a place of their own, without a hole, each where its writer was told.
pub async fn concurrent_appends(journal: Arc<dyn Journal>) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 1..=16 {
        let journal = Arc::clone(&journal);
        writers.spawn(async move {
            let mut told = Vec::new();
            for sequence in 1..=25 {
                let entry = entry_of(SessionId(writer), sequence, 10);
                told.push((journal.append(&entry).await.expect("append"), (entry.session, sequence)));
            }
            told
        });
    }
    let told: BTreeMap<Lsn, _> = writers.join_all().await.into_iter().flatten().collect();
    let read: BTreeMap<Lsn, _> = read_all(journal.as_ref())
        .await
        .into_iter()
        .map(|(lsn, entry)| (lsn, (entry.session, entry.sequence)))
        .collect();
    assert_eq!(told.len(), 400, "two appends were given one place");
    assert_eq!(told, read);
    assert_eq!((told.keys().next(), told.keys().last()), (Some(&Lsn(1)), Some(&Lsn(400))));
}

/// For durable journals: `open` opens the same one each time; the one before is dropped first.
pub async fn survives_reopening<F>(open: F)
where
    F: AsyncFn() -> Arc<dyn Journal>,
{
    let journal = open().await;
    append_many(journal.as_ref(), 10).await;
    let before = read_all(journal.as_ref()).await;
    drop(journal);
    let journal = open().await;
    assert_eq!(journal.head().await.expect("head"), Lsn(10));
    assert_eq!(*journal.tail().borrow(), Lsn(10));
    assert_eq!(read_all(journal.as_ref()).await, before);
    journal.trim(Lsn(8)).await.expect("trim");
    drop(journal);
    let journal = open().await;
    assert_eq!(journal.first().await.expect("first"), Lsn(8));
    assert_eq!(journal.append(&entry(11)).await.expect("append"), Lsn(11));
    journal.trim(Lsn(100)).await.expect("trim");
    drop(journal);
    let journal = open().await;
    assert_eq!(journal.first().await.expect("first"), Lsn(11));
    assert_eq!(journal.append(&entry(12)).await.expect("append"), Lsn(12));
}
