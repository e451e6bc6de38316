//! The way of batches into the bucket: admit, submit, cut, upload, commit, answer.
//!
//! ```text
//!  admit ─► permit ─► submit ─► open segment ─► cut ─► PUT ┐
//!  (waits for memory) (never waits:              ├───► PUT ├─► commits, in cut order ─► answers
//!                      the order is fixed here)  └───► PUT ┘
//! ```
//!
//! Batches of one partition get their offsets in the order in which they were submitted, whatever order the PUTs complete
//! in (L8): one task journals the commits in the order of the cuts. A request is answered once, after its object is durable
//! and its commit applied (L1), or with a definite error after which nothing of it will ever be visible (L3).
//!
//! Where the journal lies in the bucket too, commit and segment travel in one object (`carry`), and an ack costs one PUT.
pub mod budget;
mod carry;
pub mod cut;
mod flush;
mod gaps;
mod open;
pub mod ticket;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use metadata::clock::Clock;
use metadata::handle::Metadata;
use metadata::model::batch::BatchSummary;
use metadata::model::extent::ObjectId;
use metadata::model::ids::TopicPartition;
use metadata::model::profile::Profile;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::budget::Budgets;
use self::cut::CutOptions;
use self::flush::Flights;
use self::open::{OpenSegment, Waiting};
use self::ticket::ProduceTicket;
use crate::blob::BlobStore;
use crate::blob::hedge::{Hedges, PaidHedges};
use crate::cache::tail::TailCache;
use crate::error::WriteError;
use crate::metrics::WriterMetrics;
use crate::options::WriterOptions;

/// Most batches of a segment; keeps its commit far below the journal's caps however small the batches are.
const SEGMENT_BATCHES_MAX: usize = 65_536;
/// Most objects of failed uploads that are remembered for the sweep; what is beyond is found by listing, once this session
/// is over.
const LEFTOVERS_MAX: usize = 65_536;

/// What a writer is made of.
#[derive(Debug)]
pub struct WriterParts {
    /// Where segments go.
    pub blobs: Arc<dyn BlobStore>,
    /// Where commits go.
    pub metadata: Metadata,
    /// Where the batches stay for readers; the reader's too.
    pub tail: Arc<TailCache>,
    /// Dates the segments.
    pub clock: Arc<dyn Clock>,
    /// Where to count.
    pub metrics: WriterMetrics,
    /// Numbers.
    pub options: WriterOptions,
}

/// A batch to be appended.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Where to.
    pub partition: TopicPartition,
    /// The whole batch, already validated; stored as it is.
    pub batch: Bytes,
    /// What the journal is told of it.
    pub summary: BatchSummary,
    /// By whose numbers its segment is to be cut; `None` for the gateway's.
    pub profile: Option<Profile>,
}

/// Memory that a request may take until it is answered.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Takes batches and makes them durable and visible. Clones share it.
#[derive(Debug, Clone)]
pub struct Writer {
    desk: Arc<Desk>,
}

/// What the writer's callers and its tasks share.
#[derive(Debug)]
struct Desk {
    parts: WriterParts,
    memory: Arc<Semaphore>,
    next_object: AtomicU64,
    books: Mutex<Books>,
    /// Told when there is something to look at for the task that cuts.
    look: Notify,
    hedges: Hedges,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Books {
    open: Option<OpenSegment>,
    /// Segments that reached the target size and wait for an upload to end.
    full: VecDeque<OpenSegment>,
    closing: bool,
    budgets: Budgets,
    flights: Flights,
    leftovers: VecDeque<(ObjectId, Instant)>,
}

impl Writer {
    /// Starts the writer's tasks; needs a tokio runtime. They end with [`Writer::shutdown`].
    pub fn start(parts: WriterParts) -> Self {
        let books = Books {
            open: None,
            full: VecDeque::new(),
            closing: false,
            budgets: Budgets::new(&parts.options, Instant::now()),
            flights: Flights::default(),
            leftovers: VecDeque::new(),
        };
        let desk = Arc::new(Desk {
            memory: Arc::new(Semaphore::new(parts.options.memory_bytes.min(Semaphore::MAX_PERMITS))),
            next_object: AtomicU64::new(0),
            books: Mutex::new(books),
            look: Notify::new(),
            hedges: Hedges::new(parts.metrics.hedges.clone()),
            tasks: TaskTracker::new(),
            parts,
        });
        match desk.parts.metadata.carries() {
            true => carry::start(&desk),
            false => flush::start(&desk),
        }
        Self { desk }
    }

    /// Waits, first come first served, until the memory for a request of `bytes` bytes is free. Cancel safe: a dropped wait
    /// gives up its place and takes nothing.
    ///
    /// Errors: [`WriteError::TooLarge`] if there is not so much at all, [`WriteError::Closed`] after shutdown.
    pub async fn admit(&self, bytes: usize) -> Result<Permit, WriteError> {
        let limit = self.desk.parts.options.memory_bytes;
        let wanted = u32::try_from(bytes.max(1)).ok().filter(|_| bytes <= limit);
        let wanted = wanted.ok_or(WriteError::TooLarge { bytes, limit })?;
        let asked = Instant::now();
        let memory = Arc::clone(&self.desk.memory);
        let permit = memory.acquire_many_owned(wanted).await.map_err(|_| WriteError::Closed)?;
        self.desk.parts.metrics.admit_wait.observe(asked.elapsed().as_secs_f64());
        Ok(Permit(permit))
    }

    /// Hands a request's batches in. Never waits: on return their place among all batches is fixed, and they take their
    /// course even if the ticket is dropped. The permit is given back when the request is answered.
    pub fn submit(&self, permit: Permit, submissions: Vec<Submission>) -> ProduceTicket {
        let (answer, ticket) = oneshot::channel();
        if submissions.is_empty() {
            let _ = answer.send(Ok(Vec::new()));
            return ProduceTicket::new(ticket);
        }
        let waiting = Waiting { places: Vec::with_capacity(submissions.len()), answer, permit };
        {
            let mut books = self.desk.books();
            if books.closing {
                waiting.answer(Err(WriteError::Closed));
                return ProduceTicket::new(ticket);
            }
            let bytes: usize = submissions.iter().map(|submission| submission.batch.len()).sum();
            let options = &self.desk.parts.options;
            let wanted = submissions.iter().map(|s| options.numbers_of(s.profile).segment_bytes).min();
            let has_no_room = |open: &mut OpenSegment| {
                let batches = open.builder.batches() + submissions.len();
                let target = open.segment_bytes().min(wanted.unwrap_or(usize::MAX));
                open.bytes() > 0 && (open.bytes() + bytes > target || batches > SEGMENT_BATCHES_MAX)
            };
            if let Some(full) = books.open.take_if(has_no_room) {
                books.full.push_back(full);
            }
            let now = Instant::now();
            let open = books.open.get_or_insert_with(|| OpenSegment::new(now));
            open.add(waiting, submissions, options, now);
        }
        self.desk.look.notify_one();
        ProduceTicket::new(ticket)
    }

    /// Refuses new requests, then stores, commits and answers all that were submitted. Takes at most about
    /// [`WriterOptions::deadline`], twice. Harmless if repeated.
    pub async fn shutdown(&self) {
        self.desk.memory.close();
        self.desk.books().closing = true;
        self.desk.look.notify_one();
        self.desk.tasks.close();
        self.desk.tasks.wait().await;
    }

    /// Objects of this session that will never be committed although their PUT may have happened, given up at or before
    /// `until`; each is told once. At most `limit`.
    pub fn take_leftovers(&self, until: Instant, limit: usize) -> Vec<ObjectId> {
        let mut books = self.desk.books();
        let old = books.leftovers.iter().take(limit).take_while(|(_, since)| *since <= until).count();
        let taken = books.leftovers.drain(..old).map(|(object, _)| object).collect();
        self.desk.parts.metrics.leftovers.set(books.leftovers.len() as i64);
        taken
    }

    /// Lets segments that carry their commit be hedged as all others are, by this writer's options and budget.
    pub fn decide_hedges(&self, hedges: &PaidHedges) {
        let desk = Arc::downgrade(&self.desk);
        hedges.decide_by(move || desk.upgrade().is_some_and(|desk| desk.pays_a_hedge()));
    }

    /// A name for an object that is not a segment of this writer's: one that upkeep is about to write.
    pub fn new_object(&self) -> ObjectId {
        self.desk.new_object()
    }

    /// Takes an object back whose deletion failed, or one of upkeep's that will never be part of a log.
    pub fn return_leftover(&self, object: ObjectId) {
        self.desk.leave_behind(object);
    }
}

impl Desk {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nothing panics while it holds the books")
    }

    fn cut_options(&self) -> CutOptions {
        CutOptions { uploads_max: self.parts.options.uploads_max }
    }

    fn new_object(&self) -> ObjectId {
        let counter = self.next_object.fetch_add(1, Ordering::Relaxed);
        ObjectId { session: self.parts.metadata.session(), counter }
    }

    /// Takes a token for a second PUT, if one is to spare.
    fn pays_a_hedge(&self) -> bool {
        let pays = self.parts.options.hedge && self.books().budgets.take_spare(Instant::now());
        self.parts.metrics.hedges.inc_by(u64::from(pays));
        pays
    }

    /// Remembers an object that is in no commit and will never be.
    fn leave_behind(&self, object: ObjectId) {
        let mut books = self.books();
        if books.leftovers.len() < LEFTOVERS_MAX {
            books.leftovers.push_back((object, Instant::now()));
        }
        self.parts.metrics.leftovers.set(books.leftovers.len() as i64);
    }
}

#[cfg(test)]
mod tests;
