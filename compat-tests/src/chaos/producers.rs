//! Idempotent producers with up to five requests in flight, that go to another gateway whenever one fails them, and now and
//! then without a reason.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use metadata::model::batch::ProducerStamp;
use metadata::model::ids::ProducerId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::codec::records::RecordsBuilder;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::chaos::history::{Event, History, Mark};
use crate::raw_client::{RawClient, Sent};
use crate::requests::{PRODUCE_VERSION, new_producer, produce, produced};

/// Requests in flight, at most: as many as an idempotent producer may have.
const IN_FLIGHT: usize = 5;
/// Between two batches of a producer.
const PACE: Duration = Duration::from_millis(50);
const RECORDS: u32 = 2;
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// What the producer says of its patience, and its own, after which it goes elsewhere.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// One answer in so many makes it go elsewhere.
const WANDERS: u32 = 40;
/// Longest a producer goes on with what it has in flight when it is to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(180);
/// Timestamp of all records: in the range that topics allow by default.
const TIMESTAMP: i64 = 1_700_000_000_000;
/// OUT_OF_ORDER_SEQUENCE_NUMBER, DUPLICATE_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID, and the errors of a
/// batch that is not as it should be.
const ACCUSATIONS: [i16; 8] = [-1, 2, 10, 42, 45, 46, 47, 59];

/// The gateways that clients may go to; changes while they work.
#[derive(Debug, Clone, Default)]
pub struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

impl Addresses {
    /// Puts these in the place of those.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// All of them.
    pub fn all(&self) -> Vec<SocketAddr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Any of them.
    ///
    /// # Errors
    /// If there is none.
    pub fn any(&self, random: &mut StdRng) -> io::Result<SocketAddr> {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = random.random_range(0..addresses.len().max(1));
        addresses.get(at).copied().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// A connection to any of them.
    ///
    /// # Errors
    /// If it does not take one.
    pub async fn connect(&self, random: &mut StdRng) -> io::Result<RawClient> {
        let connect = RawClient::connect(self.any(random)?);
        timeout(ANSWER_WITHIN, connect).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// What all of a workload share.
#[derive(Debug, Clone)]
pub struct Work {
    /// Where to.
    pub addresses: Addresses,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// What they write down.
    pub history: Arc<History>,
    /// Decides, with the number of each worker, about everything random.
    pub seed: u64,
    /// When to stop.
    pub stop: watch::Receiver<bool>,
}

impl Work {
    /// The chances of one worker.
    pub fn random(&self, worker: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (u64::from(worker) << 32))
    }

    /// Whether to stop.
    pub fn is_over(&self) -> bool {
        *self.stop.borrow()
    }
}

/// A batch that is not acked yet.
#[derive(Debug, Clone)]
struct Batch {
    first: u32,
    bytes: Bytes,
}

#[derive(Debug)]
struct Producer {
    work: Work,
    number: u32,
    partition: i32,
    identity: (i64, i16),
    random: StdRng,
    next: u32,
    next_at: Instant,
    waiting: VecDeque<Batch>,
}

/// Produces until told to stop and everything is acked.
///
/// # Errors
/// If what was in flight at the end is not acked in time.
pub async fn run(work: Work, number: u32) -> io::Result<()> {
    let mut random = work.random(number);
    let identity = loop {
        match identity(&work, &mut random).await {
            Ok(identity) => break identity,
            Err(_) if !work.is_over() => sleep(RETRY_AFTER).await,
            Err(error) => return Err(error),
        }
    };
    let partition = i32::try_from(number).map_err(io::Error::other)? % work.partitions;
    let (next_at, waiting) = (Instant::now(), VecDeque::new());
    let mut producer = Producer { work, number, partition, identity, random, next: 0, next_at, waiting };
    let mut drain_until = None;
    loop {
        let served = producer.serve().await;
        if producer.work.is_over() {
            let until = *drain_until.get_or_insert_with(|| Instant::now() + DRAIN_WITHIN);
            if producer.waiting.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                let oldest = producer.waiting[0].first;
                return Err(io::Error::other(format!("producer {number}: no ack for record {oldest}: {served:?}")));
            }
        }
        if served.is_err() {
            sleep(RETRY_AFTER).await;
        }
    }
}

async fn identity(work: &Work, random: &mut StdRng) -> io::Result<(i64, i16)> {
    let mut client = work.addresses.connect(random).await?;
    timeout(ANSWER_WITHIN, new_producer(&mut client)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

impl Producer {
    /// One connection: everything not acked again, in order, then more. Ends well when it wanders or is to stop.
    async fn serve(&mut self) -> io::Result<()> {
        let mut client = self.work.addresses.connect(&mut self.random).await?;
        let mut flying = VecDeque::new();
        loop {
            let is_over = self.work.is_over();
            if !is_over && self.next_at <= Instant::now() && self.waiting.len() < IN_FLIGHT {
                self.make();
            }
            while flying.len() < self.waiting.len() {
                let batch = self.waiting[flying.len()].bytes.clone();
                let timeout_ms = ANSWER_WITHIN.as_millis() as i32;
                let request = produce(&self.work.topic, -1, timeout_ms, vec![(self.partition, Some(batch))]);
                flying.push_back(client.send(PRODUCE_VERSION, &request).await?);
            }
            let Some(oldest) = flying.front().copied() else {
                if is_over {
                    return Ok(());
                }
                tokio::time::sleep_until(self.next_at).await;
                continue;
            };
            let may_send = !is_over && self.waiting.len() < IN_FLIGHT;
            let answer_within = if may_send { self.next_at } else { Instant::now() + ANSWER_WITHIN };
            match tokio::time::timeout_at(answer_within, client.arriving()).await {
                Ok(arriving) => arriving.inspect_err(|_| self.work.history.note_error("producer", 0))?,
                Err(_) if may_send => continue,
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
            }
            self.hear(&mut client, oldest).await?;
            flying.pop_front();
            if !flying.is_empty() && self.random.random_range(0..WANDERS) == 0 {
                return Ok(()); // leaves with requests in flight
            }
        }
    }

    fn make(&mut self) {
        let (number, partition, first) = (self.number, self.partition, self.next);
        let values = (first..first + RECORDS).map(|sequence| Mark { producer: number, sequence }.to_string());
        let (id, epoch) = self.identity;
        let base_sequence = i32::try_from(first).expect("a test sends fewer than 2^31 records");
        let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence, transactional: false };
        let bytes = RecordsBuilder::new().values(TIMESTAMP, values).stamp(stamp).build();
        self.work.history.note(Event::Sent { producer: number, partition, first, count: RECORDS });
        self.waiting.push_back(Batch { first, bytes });
        self.next += RECORDS;
        self.next_at = self.next_at.max(Instant::now() - PACE) + PACE;
    }

    /// The answer to the oldest batch. An error ends the connection: what flies behind it is sent again in order.
    async fn hear(&mut self, client: &mut RawClient, oldest: Sent) -> io::Result<()> {
        let answer = timeout(ANSWER_WITHIN, client.receive::<ProduceRequest>(oldest)).await;
        let answer = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
        let answer = answer.inspect_err(|_| self.work.history.note_error("producer", 0))?;
        let told = produced(&answer).next().ok_or_else(|| io::Error::other("no partition in the answer"))?;
        let (producer, partition) = (self.number, self.partition);
        let batch = self.waiting.front().ok_or_else(|| io::Error::other("an answer to nothing"))?;
        let (first, code) = (batch.first, told.error_code);
        if code != 0 {
            self.work.history.note_error("producer", code);
            if ACCUSATIONS.contains(&code) {
                self.work.history.note(Event::Accused { producer, first, code });
            }
            return Err(io::Error::other(format!("error {code}")));
        }
        self.work.history.note(Event::Acked { producer, partition, first, count: RECORDS, offset: told.base_offset });
        self.waiting.pop_front();
        Ok(())
    }
}
