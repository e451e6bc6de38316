//! The journal in a bucket: the entry at position N is the object `journal/N`, made by a create-only PUT.
//!
//! The store decides who writes a position; there is no lock and no lease. A taken key (412) that does not hold our own entry
//! holds another session's: its writer reads on, and `apply` says which of the two sessions is fenced. So a second gateway
//! may start at any time; its session, opened at the first free position, ends the older one.
//!
//! ```text
//!   position   7    8    9   10   11   12   13         several PUTs fly side by side
//!              ■    ■    ■    ·    ■    ■    ·          ■ there   · not there (yet)
//!                        └ head      └ behind a gap: not known to anyone as written
//! ```
//!
//! **Gaps.** The head is the end of the unbroken row. What lies behind a gap was never acknowledged: an append returns when its
//! entry *and every one before it* are there. A PUT that fails is repeated at its position, with the same bytes. Past its
//! deadline the position is filled with an empty entry: if the filler finds the key free, the entry is definitely not
//! written, now or later; if it finds it taken, the journal says by whom. After a crash the next session writes its opening
//! into the first gap; what it then meets behind it is of a fenced session and has no effect ([`Carrier::take_over`]).
//!
//! **Trimming** leaves a marker, `journal-floor/N`; the objects before it go with the sweep, which knows those that still hold
//! referenced segments.

pub(crate) mod layout;
mod probe;
pub mod store;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::layout::{TRAILER_LEN, Trailer, filler, tail};
pub use self::probe::OpenError;
use self::store::{Created, EntryStore, EntryStoreError};
use crate::backoff::Backoff;
use crate::class::{Classify, ErrorClass};
use crate::command::Entry;
use crate::error::{AppendError, ReadError};
use crate::failpoint;
use crate::journal::{Carrier, Journal};
use crate::model::extent::ObjectId;
use crate::model::ids::{Lsn, SessionId};

/// Folder of the marker below which nothing is kept.
const FLOOR_PREFIX: &str = "journal-floor/";
const FLOOR: &[u8] = b"floor";
/// Keys of one page of a listing.
const PAGE: usize = 1_000;
/// Objects read side by side.
const READS_MAX: usize = 64;
/// Bytes of entries in one read, about.
const READ_BYTES_MAX: u64 = 32 << 20;
/// Read of an object's end at first; most entries are smaller.
const END_BYTES: u64 = 16 << 10;
/// How long an entry without a segment is tried before its position is filled.
const ENTRY_DEADLINE: Duration = Duration::from_secs(20);
/// How often an idle writer looks whether another has written.
const WATCH_EVERY: Duration = Duration::from_secs(5);
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A journal in a bucket, for one gateway at a time. Dropping it gives up what it was still trying to write.
#[derive(Debug)]
pub struct ObjectJournal {
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Desk {
    store: Arc<dyn EntryStore>,
    book: Mutex<Book>,
    /// End of the unbroken row of entries known to be there.
    head: watch::Sender<Lsn>,
    first: AtomicU64,
    closed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Book {
    /// The next position to hand out.
    next: u64,
    /// Positions behind the head that are known to be taken.
    beyond: BTreeSet<u64>,
    /// Whether the head was seen to be there, not only said to be.
    is_head_seen: bool,
}

/// What stands at a position that an entry was put to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupant {
    Ours,
    /// The empty entry, or one of another session.
    Another,
}

impl ObjectJournal {
    /// Opens the journal of a store, after a race that shows whether the store honours create-only writes. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`OpenError::NotExclusive`] if the store does not; [`OpenError::Store`] if it cannot be asked.
    pub async fn open(store: Arc<dyn EntryStore>) -> Result<Self, OpenError> {
        probe::probe(store.as_ref()).await?;
        Self::open_unprobed(store).await
    }

    /// The same for a store that is known to honour create-only writes, or a journal that is only to be read.
    ///
    /// # Errors
    /// [`OpenError::Store`] if it cannot be asked.
    pub async fn open_unprobed(store: Arc<dyn EntryStore>) -> Result<Self, OpenError> {
        let first = floor(store.as_ref()).await?.0;
        let desk = Arc::new(Desk {
            store,
            book: Mutex::new(Book { next: first, ..Book::default() }),
            head: watch::Sender::new(Lsn(first - 1)),
            first: first.into(),
            closed: watch::Sender::new(false),
        });
        let watched = Arc::downgrade(&desk);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WATCH_EVERY).await;
                let Some(desk) = watched.upgrade().filter(|desk| !*desk.closed.borrow()) else { return };
                if let Err(error) = desk.find_head().await {
                    tracing::debug!(%error, "the journal's head could not be looked at");
                }
            }
        });
        Ok(Self { desk })
    }
}

/// Puts an entry at a position, for whoever restores a journal. Tells whether the position was free; if not, nothing was
/// changed.
pub async fn begin_at(store: &dyn EntryStore, lsn: Lsn, entry: &Entry) -> Result<bool, EntryStoreError> {
    Ok(store.create(&key(lsn.0), &[tail(lsn, 0, entry)]).await? == Created::New)
}

/// The position that the journal begins at, as the store says.
pub async fn floor(store: &dyn EntryStore) -> Result<Lsn, EntryStoreError> {
    let floors = store.list(FLOOR_PREFIX, None, PAGE).await?;
    let floor = floors.iter().filter_map(|(key, _)| key.strip_prefix(FLOOR_PREFIX)?.parse().ok()).max();
    Ok(Lsn(floor.unwrap_or(1).max(1)))
}

/// Says that the journal begins at a position, whose snapshot is there.
pub async fn set_floor(store: &dyn EntryStore, lsn: Lsn) -> Result<(), EntryStoreError> {
    store.create(&floor_key(lsn), &[Bytes::from_static(FLOOR)]).await.map(drop)
}

impl Drop for ObjectJournal {
    fn drop(&mut self) {
        self.desk.closed.send_replace(true);
    }
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics while it holds the book")
    }

    fn head(&self) -> Lsn {
        *self.head.borrow()
    }

    fn first(&self) -> Lsn {
        Lsn(self.first.load(Ordering::Acquire))
    }

    /// The next position that nobody is known to have taken.
    fn reserve(&self) -> Lsn {
        let mut book = self.book();
        book.next = book.next.max(self.head().0 + 1);
        while book.beyond.contains(&book.next) {
            book.next += 1;
        }
        let at = book.next;
        book.next += 1;
        Lsn(at)
    }

    /// Notes positions that are taken; moves the head if that closes a gap.
    fn note(&self, taken: impl IntoIterator<Item = u64>) {
        let mut book = self.book();
        let mut head = self.head().0;
        book.beyond = book.beyond.split_off(&(head + 1));
        book.beyond.extend(taken.into_iter().filter(|at| *at > head));
        while book.beyond.first() == Some(&(head + 1)) {
            book.beyond.pop_first();
            head += 1;
        }
        book.is_head_seen |= head > self.head().0;
        self.head.send_if_modified(|shown| std::mem::replace(shown, Lsn(head)) != Lsn(head));
    }

    /// Asks the store how far the row goes on behind what is known, and notes all that lies behind it.
    async fn find_head(&self) -> Result<Lsn, ReadError> {
        let known = self.head();
        if known.0 >= self.first().0 && !self.book().is_head_seen {
            self.check_head(known).await?;
        }
        if self.store.size(&key(known.0 + 1)).await.map_err(unreadable)?.is_some() {
            self.list_from(known).await?;
        }
        Ok(self.head())
    }

    /// Whether the entry that a snapshot says was written is there: else the objects are not those of this journal.
    async fn check_head(&self, known: Lsn) -> Result<(), ReadError> {
        if self.store.size(&key(known.0)).await.map_err(unreadable)?.is_none() {
            let reason = format!("entry {known} was written and its object {} is gone", key(known.0));
            return Err(ReadError::Corrupt(reason.into()));
        }
        self.book().is_head_seen = true;
        Ok(())
    }

    /// Notes everything behind `after`; returns the last of it.
    async fn list_from(&self, after: Lsn) -> Result<Lsn, ReadError> {
        let mut last = key(after.0);
        loop {
            let page = self.store.list(ObjectId::JOURNAL_PREFIX, Some(&last), PAGE).await.map_err(unreadable)?;
            self.note(page.iter().filter_map(|(key, _)| Some(ObjectId::from_key(key)?.counter)));
            let is_last = page.len() < PAGE;
            if let Some((key, _)) = page.into_iter().next_back() {
                last = key;
            }
            if is_last {
                return Ok(ObjectId::from_key(&last).and_then(ObjectId::position).unwrap_or(after));
            }
        }
    }

    /// Puts an object at a position, again and again, until it is known what stands there. Past the deadline an empty entry
    /// is put there instead.
    async fn place(
        &self,
        at: Lsn,
        chunks: &[Bytes],
        own: Option<(SessionId, u64)>,
        deadline: Instant,
    ) -> Result<Occupant, AppendError> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(AppendError::Closed),
            occupant = self.place_by(at, chunks, own, deadline) => occupant,
        }
    }

    async fn place_by(
        &self,
        at: Lsn,
        chunks: &[Bytes],
        own: Option<(SessionId, u64)>,
        deadline: Instant,
    ) -> Result<Occupant, AppendError> {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_MAX, at.0);
        let filling = [tail(at, 0, &filler())];
        loop {
            let is_late = Instant::now() >= deadline;
            if is_late {
                failpoint::crash_here("journal::before_fill");
            }
            let created = if is_late {
                self.store.create(&key(at.0), &filling).await
            } else {
                let lost = |_| Err(EntryStoreError { class: ErrorClass::Unknown, reason: "no answer in time".into() });
                timeout_at(deadline, self.store.create(&key(at.0), chunks)).await.unwrap_or_else(lost)
            };
            let problem = match created {
                Ok(Created::New) if is_late => return Ok(Occupant::Another),
                Ok(Created::New) => return Ok(Occupant::Ours),
                Ok(Created::Taken) => match self.occupant(at, own).await {
                    Ok(occupant) => return Ok(occupant),
                    Err(ReadError::Corrupt(reason)) => return Err(AppendError::Corrupt(reason)),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            tracing::warn!(position = %at, %problem, filling = is_late, "a position was not written; trying again");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn occupant(&self, at: Lsn, own: Option<(SessionId, u64)>) -> Result<Occupant, ReadError> {
        let Some(size) = self.store.size(&key(at.0)).await.map_err(unreadable)? else {
            return Err(ReadError::Unavailable("it was taken, and is free".into()));
        };
        let entry = self.entry(at, size).await?;
        Ok(if Some((entry.session, entry.sequence)) == own { Occupant::Ours } else { Occupant::Another })
    }

    /// The entry of an object of `size` bytes.
    async fn entry(&self, at: Lsn, size: u64) -> Result<Entry, ReadError> {
        let corrupt = |error: crate::codec::CodecError| ReadError::Corrupt(format!("entry {at}: {error}").into());
        let end_len = size.min(END_BYTES);
        if end_len < TRAILER_LEN as u64 {
            return Err(ReadError::Corrupt(format!("entry {at}: its object has only {size} bytes").into()));
        }
        let read = |from: u64| async move { self.store.read(&key(at.0), from..size).await.map_err(unreadable) };
        let end = read(size - end_len).await?;
        let trailer = Trailer::parse(at, size, &end).map_err(corrupt)?;
        let end = if trailer.tail_len() > end_len { read(size - trailer.tail_len()).await? } else { end };
        trailer.entry(&end).map_err(corrupt)
    }

    /// Puts an entry at a reserved position; on a task of its own, for a position that is given up in the middle would hold
    /// up all behind it.
    async fn put(
        self: &Arc<Self>,
        at: Lsn,
        entry: &Entry,
        mut chunks: Vec<Bytes>,
        deadline: Instant,
    ) -> Result<Occupant, AppendError> {
        let own = Some((entry.session, entry.sequence));
        chunks.push(tail(at, chunks.iter().map(|chunk| chunk.len() as u64).sum(), entry));
        let desk = Arc::clone(self);
        let placing = tokio::spawn(async move {
            let occupant = desk.place(at, &chunks, own, deadline).await?;
            desk.note([at.0]);
            Ok(occupant)
        });
        let occupant = placing.await.map_err(|ended| AppendError::Unknown(ended.to_string().into()))??;
        let (mut head, mut closed) = (self.head.subscribe(), self.closed.subscribe());
        tokio::select! {
            biased;
            _ = head.wait_for(|head| *head >= at) => Ok(occupant),
            _ = closed.wait_for(|closed| *closed) => Err(AppendError::Closed),
        }
    }

    /// The entries of a page of a listing, read side by side.
    async fn entries(self: &Arc<Self>, page: &[(Lsn, u64)]) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        let mut reads = JoinSet::new();
        for (at, size) in page.iter().copied() {
            let desk = Arc::clone(self);
            reads.spawn(async move { desk.entry(at, size).await.map(|entry| (at, entry)) });
        }
        let mut entries = Vec::with_capacity(page.len());
        while let Some(read) = reads.join_next().await {
            entries.push(read.map_err(|ended| ReadError::Unavailable(ended.to_string().into()))??);
        }
        entries.sort_unstable_by_key(|(at, _)| *at);
        Ok(entries)
    }
}

#[async_trait]
impl Journal for ObjectJournal {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        let deadline = Instant::now() + ENTRY_DEADLINE;
        loop {
            let at = self.desk.reserve();
            match self.desk.put(at, entry, Vec::new(), deadline).await? {
                Occupant::Ours => return Ok(at),
                Occupant::Another if Instant::now() < deadline => {}
                Occupant::Another => return Err(AppendError::KnownNotWritten("the store took it in no time".into())),
            }
        }
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        let (first, head) = (self.desk.first(), self.desk.head());
        if after.0 + 1 < first.0 {
            return Err(ReadError::Trimmed { after, first });
        }
        let wanted = usize::try_from(head.0.saturating_sub(after.0)).unwrap_or(usize::MAX).min(limit).min(PAGE);
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let listed = self.desk.store.list(ObjectId::JOURNAL_PREFIX, Some(&key(after.0)), wanted).await;
        let page: Vec<(Lsn, u64)> = listed
            .map_err(unreadable)?
            .into_iter()
            .filter_map(|(key, size)| Some((ObjectId::from_key(&key)?.position()?, size)))
            .collect();
        let is_whole = (after.0 + 1..).zip(&page).all(|(expected, (at, _))| at.0 == expected);
        if page.len() < wanted || !is_whole {
            let last = after.0 + wanted as u64;
            return Err(ReadError::Corrupt(format!("of the entries after {after}, to {last}, some are gone").into()));
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for some in page.chunks(READS_MAX) {
            entries.extend(self.desk.entries(some).await?);
            bytes += some.iter().map(|(_, size)| size.min(&END_BYTES)).sum::<u64>();
            if bytes >= READ_BYTES_MAX {
                break;
            }
        }
        Ok(entries)
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        self.desk.find_head().await
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.desk.head.subscribe()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        let (first, before) = (self.desk.first(), before.min(self.desk.head()));
        if before <= first {
            return Ok(());
        }
        self.desk.store.create(&floor_key(before), &[Bytes::from_static(FLOOR)]).await.map_err(unreadable)?;
        self.desk.first.fetch_max(before.0, Ordering::AcqRel);
        let older = self.desk.store.list(FLOOR_PREFIX, None, PAGE).await.map_err(unreadable)?;
        let older: Vec<String> = older.into_iter().map(|(key, _)| key).filter(|key| *key < floor_key(before)).collect();
        if older.is_empty() { Ok(()) } else { self.desk.store.delete(&older).await.map_err(unreadable) }
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        Ok(self.desk.first())
    }

    fn reached(&self, lsn: Lsn) {
        self.desk.head.send_if_modified(|head| {
            let is_ahead = lsn > *head;
            *head = lsn.max(*head);
            is_ahead
        });
    }

    fn carrier(&self) -> Option<&dyn Carrier> {
        Some(self)
    }
}

#[async_trait]
impl Carrier for ObjectJournal {
    fn reserve(&self) -> Lsn {
        self.desk.reserve()
    }

    async fn put_at(
        &self,
        at: Lsn,
        entry: &Entry,
        segment: Vec<Bytes>,
        deadline: Option<Instant>,
    ) -> Result<(), AppendError> {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + ENTRY_DEADLINE);
        match self.desk.put(at, entry, segment, deadline).await? {
            Occupant::Ours => Ok(()),
            Occupant::Another => Err(AppendError::KnownNotWritten("its position holds another entry".into())),
        }
    }

    fn close(&self) {
        self.desk.closed.send_replace(true);
    }

    async fn take_over(&self) -> Result<(), ReadError> {
        let desk = &self.desk;
        let last = desk.list_from(desk.head()).await?;
        let gaps: Vec<u64> = {
            let book = desk.book();
            (desk.head().0 + 1..=last.0).filter(|at| !book.beyond.contains(at)).collect()
        };
        for gap in gaps {
            let placed = desk.place(Lsn(gap), &[], None, Instant::now()).await;
            placed.map_err(|error| match error {
                AppendError::Corrupt(reason) => ReadError::Corrupt(reason),
                AppendError::Closed => ReadError::Closed,
                other => ReadError::Unavailable(other.to_string().into()),
            })?;
            desk.note([gap]);
        }
        Ok(())
    }
}

fn key(position: u64) -> String {
    ObjectId::at(Lsn(position)).key()
}

fn floor_key(lsn: Lsn) -> String {
    format!("{FLOOR_PREFIX}{:020}", lsn.0)
}

fn unreadable(error: EntryStoreError) -> ReadError {
    match error.class() {
        ErrorClass::Corrupt => ReadError::Corrupt(error.reason),
        ErrorClass::Closed => ReadError::Closed,
        ErrorClass::Rejected | ErrorClass::Retry | ErrorClass::Unknown => ReadError::Unavailable(error.reason),
    }
}
