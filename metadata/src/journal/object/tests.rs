use std::collections::BTreeMap;

use super::*;
use crate::command::Command;
use crate::error::SnapshotStoreError;
use crate::handle::{Metadata, MetadataParts};
use crate::journal::contract;
use crate::journal::contract::entry;
use crate::snapshot::{Kept, MemorySnapshots, SnapshotStore};

/// A bucket in memory. What a call does and tells may differ.
#[derive(Debug, Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// What happens to the next creates: whether it happens, whether it is told.
    creates: Mutex<std::collections::VecDeque<(bool, bool)>>,
    /// Ignores the condition.
    is_careless: bool,
    sizes: AtomicU64,
    lists: AtomicU64,
    reads: AtomicU64,
}

impl Bucket {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.objects.lock().unwrap()
    }

    fn next(&self, faults: impl IntoIterator<Item = (bool, bool)>) {
        self.creates.lock().unwrap().extend(faults);
    }

    fn positions(&self) -> Vec<u64> {
        self.objects().keys().filter_map(|key| Some(ObjectId::from_key(key)?.position()?.0)).collect()
    }
}

const LOST: (bool, bool) = (true, false);
const FAILED: (bool, bool) = (false, false);

#[async_trait]
impl EntryStore for Bucket {
    async fn create(&self, key: &str, chunks: &[Bytes]) -> Result<Created, EntryStoreError> {
        tokio::task::yield_now().await;
        let (happens, told) = if key.starts_with(ObjectId::JOURNAL_PREFIX) {
            self.creates.lock().unwrap().pop_front().unwrap_or((true, true))
        } else {
            (true, true)
        };
        let mut created = Created::Taken;
        if happens {
            let mut objects = self.objects();
            if self.is_careless || !objects.contains_key(key) {
                objects.insert(key.to_owned(), chunks.concat().into());
                created = Created::New;
            }
        }
        let lost = EntryStoreError { class: ErrorClass::Unknown, reason: "injected".into() };
        if told { Ok(created) } else { Err(lost) }
    }

    async fn size(&self, key: &str) -> Result<Option<u64>, EntryStoreError> {
        self.sizes.fetch_add(1, Ordering::Relaxed);
        Ok(self.objects().get(key).map(|bytes| bytes.len() as u64))
    }

    async fn read(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, EntryStoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.objects()[key].slice(range.start as usize..range.end as usize))
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, u64)>, EntryStoreError> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        let after = after.unwrap_or_default();
        let objects = self.objects();
        let found = objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > after);
        Ok(found.take(limit).map(|(key, bytes)| (key.clone(), bytes.len() as u64)).collect())
    }

    async fn delete(&self, keys: &[String]) -> Result<(), EntryStoreError> {
        keys.iter().for_each(|key| drop(self.objects().remove(key)));
        Ok(())
    }
}

async fn open(bucket: &Arc<Bucket>) -> ObjectJournal {
    ObjectJournal::open(Arc::clone(bucket) as _).await.unwrap()
}

fn in_a_second() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(1))
}

fn of(session: u64, sequence: u64) -> Entry {
    Entry { session: SessionId(session), sequence, time_ms: 0, commands: Vec::new(), follows: None }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    contract::every_case(async || Arc::new(open(&Arc::default()).await) as Arc<dyn Journal>).await;
    let bucket = Arc::default();
    contract::survives_reopening(async || Arc::new(open(&bucket).await) as Arc<dyn Journal>).await;
    assert_eq!(bucket.objects().keys().filter(|key| !key.starts_with("journal/")).count(), 1, "one floor, no probe");
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_refused() {
    let careless = Arc::new(Bucket { is_careless: true, ..Bucket::default() });
    let error = ObjectJournal::open(careless.clone()).await.unwrap_err();
    assert_eq!(error, OpenError::NotExclusive(3));
    assert!(error.to_string().contains("--journal sqlite"), "{error}");
    assert!(careless.objects().is_empty(), "the probe is gone");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_found_out() {
    let bucket = Arc::default();
    let journal = open(&bucket).await;
    bucket.next([LOST, FAILED, LOST]);
    assert_eq!(journal.append(&entry(1)).await, Ok(Lsn(1)));
    assert_eq!(journal.append(&entry(2)).await, Ok(Lsn(2)));
    assert_eq!(bucket.positions(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn past_its_deadline_a_position_is_filled_and_the_entry_definitely_not_written() {
    let bucket = Arc::default();
    let journal = open(&bucket).await;
    bucket.next([FAILED; 6]);
    let late = Some(Instant::now() + Duration::from_millis(30));
    let lost = journal.put_at(journal.reserve(), &of(7, 1), vec![Bytes::from_static(b"segment")], late).await;
    assert!(matches!(lost, Err(AppendError::KnownNotWritten(_))), "{lost:?}");
    assert_eq!(journal.read(Lsn(0), 9).await.unwrap(), [(Lsn(1), filler())]);
    bucket.next([LOST, FAILED]);
    let late = Some(Instant::now() + Duration::from_millis(1));
    let written = journal.put_at(journal.reserve(), &of(7, 2), vec![Bytes::from_static(b"segment")], late).await;
    assert_eq!(written, Ok(()), "the filler lost: the entry was there");
    assert_eq!(journal.read(Lsn(1), 9).await.unwrap(), [(Lsn(2), of(7, 2))]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_counts_only_when_all_before_it_are_there() {
    let bucket = Arc::default();
    let journal = Arc::new(open(&bucket).await);
    let (first, second) = (journal.reserve(), journal.reserve());
    let behind = Arc::clone(&journal);
    let behind = tokio::spawn(async move { behind.put_at(second, &of(7, 2), Vec::new(), in_a_second()).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bucket.positions(), [2]);
    assert!(!behind.is_finished(), "it is there, but behind a gap");
    assert_eq!(journal.head().await, Ok(Lsn(0)));
    assert_eq!(*journal.tail().borrow(), Lsn(0));
    assert_eq!(journal.put_at(first, &of(7, 1), Vec::new(), in_a_second()).await, Ok(()));
    assert_eq!(behind.await.unwrap(), Ok(()));
    assert_eq!(journal.head().await, Ok(Lsn(2)));
}

#[tokio::test(start_paused = true)]
async fn a_new_writer_goes_into_the_first_gap_and_past_what_lies_behind_it() {
    let bucket = Arc::default();
    let old = open(&bucket).await;
    assert_eq!(old.append(&of(1, 1)).await, Ok(Lsn(1)));
    let places = [old.reserve(), old.reserve(), old.reserve(), old.reserve()];
    for (at, sequence) in [(places[1], 3), (places[3], 5)] {
        let entry = of(1, sequence);
        let put = old.put_at(at, &entry, Vec::new(), in_a_second());
        tokio::time::timeout(Duration::from_millis(10), put).await.unwrap_err();
    }
    let new = open(&bucket).await;
    assert_eq!(new.head().await, Ok(Lsn(1)));
    assert_eq!(new.append(&of(2, 1)).await, Ok(Lsn(2)));
    new.take_over().await.unwrap();
    assert_eq!(new.head().await, Ok(Lsn(5)));
    let read = new.read(Lsn(1), 9).await.unwrap();
    let said: Vec<_> = read.iter().map(|(at, entry)| (at.0, entry.session.0, entry.sequence)).collect();
    assert_eq!(said, [(2, 2, 1), (3, 1, 3), (4, 0, 0), (5, 1, 5)]);
    assert_eq!(new.append(&of(2, 2)).await, Ok(Lsn(6)));
    let zombie = old.put_at(places[0], &of(1, 2), Vec::new(), in_a_second()).await;
    assert!(matches!(zombie, Err(AppendError::KnownNotWritten(_))), "{zombie:?}");
    assert_eq!(old.head().await, Ok(Lsn(6)), "it reads on");
}

#[tokio::test(start_paused = true)]
async fn an_idle_writer_hears_of_another() {
    let bucket = Arc::default();
    let (one, other) = (open(&bucket).await, open(&bucket).await);
    let mut tail = one.tail();
    assert_eq!(other.append(&of(2, 1)).await, Ok(Lsn(1)));
    tokio::time::timeout(WATCH_EVERY * 2, tail.wait_for(|head| *head == Lsn(1))).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_long_journal_is_read_from_its_snapshot_on_and_in_pages() {
    let bucket = Arc::default();
    let journal = open(&bucket).await;
    let count = 2_500;
    for sequence in 1..=count {
        bucket.objects().insert(key(sequence), tail(Lsn(sequence), 0, &of(1, sequence)));
    }
    assert_eq!(journal.head().await, Ok(Lsn(count)));
    let new = open(&bucket).await;
    let before = bucket.lists.load(Ordering::Relaxed);
    new.reached(Lsn(count - 20));
    assert_eq!(new.head().await, Ok(Lsn(count)));
    let read = new.read(Lsn(count - 20), 512).await.unwrap();
    assert_eq!(read.len(), 20);
    assert_eq!(bucket.lists.load(Ordering::Relaxed) - before, 2, "one page for the head, one for the entries");
    bucket.objects().remove(&key(count - 7));
    assert!(matches!(new.read(Lsn(count - 20), 512).await, Err(ReadError::Corrupt(_))), "a hole is no end");
    bucket.objects().remove(&key(count - 20));
    let other = open(&bucket).await;
    other.reached(Lsn(count - 20));
    assert!(matches!(other.head().await, Err(ReadError::Corrupt(_))), "the snapshot's own entry is gone");
}

#[tokio::test(start_paused = true)]
async fn l7_a_damaged_object_is_refused_not_skipped() {
    let bucket: Arc<Bucket> = Arc::default();
    let journal = open(&bucket).await;
    for sequence in 1..=3 {
        journal.append(&entry(sequence)).await.unwrap();
    }
    let whole = bucket.objects()[&key(2)].clone();
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    let damaged = [
        flipped(0),
        flipped(whole.len() - 1),
        whole.slice(..whole.len() - 1),
        whole.slice(1..),
        Bytes::new(),
        bucket.objects()[&key(3)].clone(),
    ];
    for (number, bytes) in damaged.into_iter().enumerate() {
        bucket.objects().insert(key(2), bytes.clone());
        let read = journal.read(Lsn(0), 9).await;
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "{number}: {read:?}");
        bucket.objects().insert(key(4), bytes);
        let other = open(&bucket).await;
        let put = other.put_at(Lsn(4), &of(9, 1), Vec::new(), in_a_second()).await;
        assert!(matches!(put, Err(AppendError::Corrupt(_))), "{number}: whose it is cannot be told: {put:?}");
        bucket.objects().remove(&key(4));
    }
    bucket.objects().insert(key(2), whole);
    assert_eq!(journal.read(Lsn(0), 9).await.unwrap().len(), 3);
}

/// Keeps every snapshot, as a window for restores does.
#[derive(Debug, Default)]
struct AllKept(MemorySnapshots);

#[async_trait]
impl SnapshotStore for AllKept {
    async fn put(&self, lsn: Lsn, bytes: Vec<u8>) -> Result<(), SnapshotStoreError> {
        self.0.put(lsn, bytes).await
    }

    async fn newest(&self, below: Option<Lsn>) -> Result<Option<(Lsn, Vec<u8>)>, SnapshotStoreError> {
        self.0.newest(below).await
    }

    async fn delete_before(&self, lsn: Lsn) -> Result<Kept, SnapshotStoreError> {
        let oldest = self.0.lsns().first().map_or(lsn, |first| lsn.min(*first));
        Ok(Kept { oldest, copied: None })
    }
}

#[tokio::test(start_paused = true)]
async fn entries_behind_the_oldest_snapshot_kept_are_not_trimmed() {
    let (bucket, snapshots) = (Arc::default(), Arc::new(AllKept::default()));
    let journal = Arc::new(open(&bucket).await);
    let mut parts = MetadataParts::for_tests(1, Arc::clone(&journal) as _, Arc::clone(&snapshots) as _);
    parts.options.snapshot_entries = 5;
    let metadata = Metadata::start(parts).await.unwrap();
    for _ in 0..30 {
        metadata.submit(Command::AllocateProducerIds { count: 1 }).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await; // a snapshot may be due
    }
    let kept = snapshots.0.lsns();
    assert!(kept.len() > 3, "{kept:?}");
    assert_eq!(journal.first().await, Ok(Lsn(kept[0].0 + 1)), "a restore begins at {}", kept[0]);
}
