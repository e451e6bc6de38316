//! Producers that write down what they were told, and the judge who holds it against the log.
//!
//! A lane is one connection with up to five requests in flight, each with a batch for every partition of the lane. Records
//! are numbered by partition; an idempotent lane sends a request again, with the same sequences, until it is acked, whatever
//! happens to the connection. So its partitions must hold record n at offset n, nothing else.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use metadata::clock::{Clock, SystemClock};
use metadata::model::batch::ProducerStamp;
use metadata::model::ids::ProducerId;
use storage::codec::records::RecordsBuilder;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::raw_client::{RawClient, Sent};
use crate::requests::{PRODUCE_VERSION, new_producer, produce, produced, read_all};

/// Requests a lane has in flight, at most: as many as an idempotent producer may.
const IN_FLIGHT: usize = 5;
/// Pause before a lane connects or sends again.
const RETRY_AFTER: Duration = Duration::from_millis(25);
/// Longest a lane goes on with what it has in flight when it is to stop.
const DRAIN_WITHIN: Duration = Duration::from_secs(180);
const OUT_OF_ORDER: i16 = 45;
/// NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR: what clients answer by trying again.
const RETRIABLE: [i16; 4] = [6, 7, 19, 56];
/// Of these, the ones after which nothing may be visible.
const NOT_WRITTEN: [i16; 3] = [6, 19, 56];

/// What lanes produce to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The gateway.
    pub address: SocketAddr,
    /// The topic; its partitions belong to one lane each.
    pub topic: String,
    /// Bytes of a value, at least.
    pub value_bytes: usize,
    /// What the producer says of its patience, ms.
    pub timeout_ms: i32,
}

/// How a lane deals with failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// With sequences, again and again until acked.
    Idempotent,
    /// Without sequences, each record sent once and never again.
    Once,
}

/// What became of the records `first..first + count` of a partition.
#[derive(Debug, Clone, Copy)]
struct Told {
    first: u64,
    count: u64,
    /// The base offset, if acked; else whether it is known that nothing was written.
    outcome: Result<i64, bool>,
}

/// What the producers were told.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Pages>);

#[derive(Debug, Default)]
struct Pages {
    told: BTreeMap<(i32, u64), Told>,
    manners: BTreeMap<i32, Manner>,
    errors: BTreeMap<i16, u64>,
    acked: u64,
    longest: Duration,
}

impl Ledger {
    /// Batches acked so far.
    pub fn acked(&self) -> u64 {
        self.pages().acked
    }

    /// Error codes told so far, and how often.
    pub fn errors(&self) -> BTreeMap<i16, u64> {
        self.pages().errors.clone()
    }

    /// The longest that an answer took so far; the count starts anew.
    pub fn take_longest(&self) -> Duration {
        std::mem::take(&mut self.pages().longest)
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ack(&self, partition: i32, first: u64, count: u64, offset: i64) -> Result<(), String> {
        let mut pages = self.pages();
        let told = Told { first, count, outcome: Ok(offset) };
        let before = pages.told.insert((partition, first), told).map(|told| told.outcome);
        match before {
            Some(Ok(before)) if before != offset => {
                Err(format!("{partition}: records from {first} were acked at {before}, and again at {offset}"))
            }
            Some(Ok(_)) => Ok(()),
            _ => {
                pages.acked += 1;
                Ok(())
            }
        }
    }

    /// Waits until this many batches more are acked.
    ///
    /// # Errors
    /// If they are not in time.
    pub async fn more(&self, batches: u64, within: Duration) -> Result<(), String> {
        let (until, deadline) = (self.acked() + batches, Instant::now() + within);
        while self.acked() < until {
            if Instant::now() > deadline {
                return Err(format!(
                    "{} batches acked after {within:?}, not {until}: {:?}",
                    self.acked(),
                    self.errors()
                ));
            }
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    /// Reads everything and holds it against what was told (invariants L1, L3, L5, L8, T1). Returns the number of records.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub async fn judge(&self, target: &Target) -> Result<u64, String> {
        let mut client = RawClient::connect(target.address).await.map_err(|error| error.to_string())?;
        let manners = self.pages().manners.clone();
        let mut read = 0;
        for (partition, manner) in manners {
            let log = read_all(&mut client, &target.topic, partition).await.map_err(|error| error.to_string())?;
            let log: Vec<u64> =
                log.iter().map(|value| number(value)).collect::<Option<_>>().ok_or("a foreign value")?;
            read += log.len() as u64;
            self.judge_partition(partition, manner, &log).map_err(|why| format!("partition {partition}: {why}"))?;
        }
        Ok(read)
    }

    fn judge_partition(&self, partition: i32, manner: Manner, log: &[u64]) -> Result<(), String> {
        let mut seen = HashSet::new();
        for (offset, number) in log.iter().enumerate() {
            if !seen.insert(*number) {
                return Err(format!("record {number} is there twice, the second time at {offset}"));
            }
            if manner == Manner::Idempotent && *number != offset as u64 {
                return Err(format!("record {number} at offset {offset}: a gap or out of order"));
            }
        }
        for told in self.pages().told.range((partition, 0)..=(partition, u64::MAX)).map(|(_, told)| told) {
            for at in 0..told.count {
                let number = told.first + at;
                match told.outcome {
                    Ok(offset) if log.get((offset + at as i64) as usize) != Some(&number) => {
                        return Err(format!("record {number} was acked at {} and is not there", offset + at as i64));
                    }
                    Err(true) if seen.contains(&number) => {
                        return Err(format!("record {number} was refused for good and is there"));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(())
    }
}

/// Lanes at work.
#[derive(Debug)]
pub struct Load {
    /// What they were told.
    pub ledger: Arc<Ledger>,
    /// What they produce to.
    pub target: Target,
    stop: watch::Sender<bool>,
    lanes: JoinSet<Result<(), String>>,
}

impl Load {
    /// Sets lanes to work, each on its partitions.
    ///
    /// # Errors
    /// If there is no producer id to be had.
    pub async fn start(target: Target, lanes: &[(Manner, &[i32])]) -> io::Result<Self> {
        let mut client = RawClient::connect(target.address).await?;
        let (id, epoch) = new_producer(&mut client).await?;
        let load = Self { ledger: Arc::default(), target, stop: watch::Sender::new(false), lanes: JoinSet::new() };
        Ok(lanes.iter().fold(load, |mut load, (manner, partitions)| {
            let manners = partitions.iter().map(|partition| (*partition, *manner));
            load.ledger.pages().manners.extend(manners);
            let lane = Lane {
                target: load.target.clone(),
                manner: *manner,
                stamp: ProducerStamp { id: ProducerId(id), epoch, base_sequence: 0, transactional: false },
                partitions: partitions.to_vec(),
                next: 0,
                rounds: 0,
                pending: VecDeque::new(),
                ledger: Arc::clone(&load.ledger),
                stop: load.stop.subscribe(),
            };
            load.lanes.spawn(lane.run());
            load
        }))
    }

    /// Lets the lanes bring home what they have in flight.
    ///
    /// # Errors
    /// If one of them met what must not be.
    pub async fn finish(mut self) -> Result<(Arc<Ledger>, Target), String> {
        self.stop.send_replace(true);
        while let Some(ended) = self.lanes.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok((self.ledger, self.target))
    }
}

struct Lane {
    target: Target,
    manner: Manner,
    stamp: ProducerStamp,
    partitions: Vec<i32>,
    /// Number of the next record, of each partition.
    next: u64,
    rounds: u64,
    pending: VecDeque<Round>,
    ledger: Arc<Ledger>,
    stop: watch::Receiver<bool>,
}

/// A request, to be sent until it is acked.
struct Round {
    first: u64,
    count: u64,
    request: ProduceRequest,
    sent: Option<(Sent, Instant)>,
}

impl Lane {
    async fn run(mut self) -> Result<(), String> {
        let mut stopping: Option<Instant> = None;
        loop {
            if *self.stop.borrow() {
                let since = *stopping.get_or_insert_with(Instant::now);
                if since.elapsed() > DRAIN_WITHIN {
                    return Err(format!("{:?}: not acked in time: {:?}", self.partitions, self.ledger.errors()));
                }
            }
            let Ok(mut client) = RawClient::connect(self.target.address).await else {
                if self.manner == Manner::Once && stopping.is_some() {
                    return Ok(());
                }
                sleep(RETRY_AFTER).await;
                continue;
            };
            match self.talk(&mut client).await {
                Ok(()) => return Ok(()),
                Err(Lost::Connection) => self.lose(),
                Err(Lost::Faith(why)) => return Err(format!("{:?}: {why}", self.partitions)),
            }
            sleep(RETRY_AFTER).await;
        }
    }

    /// One connection's worth.
    async fn talk(&mut self, client: &mut RawClient) -> Result<(), Lost> {
        for round in &mut self.pending {
            round.send(client).await?;
        }
        loop {
            while self.pending.len() < IN_FLIGHT && !*self.stop.borrow() {
                let at = self.pending.len();
                let round = self.round();
                self.pending.push_back(round); // before it is sent: its numbers are taken
                self.pending[at].send(client).await?;
            }
            if self.pending.is_empty() {
                return Ok(());
            }
            if self.hear(client, 0, false).await? {
                self.pending.pop_front();
                continue;
            }
            // What follows in flight may have failed for this one: hear it all, then send again in order.
            for at in 1..self.pending.len() {
                self.hear(client, at, true).await?;
            }
            if self.manner == Manner::Once {
                self.pending.clear();
                continue;
            }
            sleep(RETRY_AFTER).await;
            for round in &mut self.pending {
                round.send(client).await?;
            }
        }
    }

    /// Hears the answer to a round; whether all of it was acked.
    async fn hear(&mut self, client: &mut RawClient, at: usize, after_failure: bool) -> Result<bool, Lost> {
        let round = &mut self.pending[at];
        let (sent, since) = round.sent.take().ok_or(Lost::Connection)?;
        let answer = client.receive::<ProduceRequest>(sent).await.map_err(|_| Lost::Connection)?;
        let took = since.elapsed();
        let (first, count) = (round.first, round.count);
        let mut all = true;
        let told: Vec<_> = produced(&answer).map(|part| (part.index, part.error_code, part.base_offset)).collect();
        let mut pages = self.ledger.pages();
        pages.longest = pages.longest.max(took);
        for (_, code, _) in told.iter().filter(|(_, code, _)| *code != 0) {
            *pages.errors.entry(*code).or_default() += 1;
        }
        drop(pages);
        for (partition, code, offset) in told {
            match code {
                0 => self.ledger.ack(partition, first, count, offset).map_err(Lost::Faith)?,
                OUT_OF_ORDER if self.manner == Manner::Idempotent && after_failure => all = false,
                code if RETRIABLE.contains(&code) => {
                    all = false;
                    if self.manner == Manner::Once {
                        let told = Told { first, count, outcome: Err(NOT_WRITTEN.contains(&code)) };
                        self.ledger.pages().told.insert((partition, first), told);
                    }
                }
                code => return Err(Lost::Faith(format!("{partition}: error {code} for records from {first}"))),
            }
        }
        Ok(all)
    }

    /// The connection is gone, and with it what was in flight, unless it is to be sent again.
    fn lose(&mut self) {
        if self.manner == Manner::Once {
            self.pending.clear();
        }
    }

    fn round(&mut self) -> Round {
        let (first, count) = (self.next, 1 + self.rounds % 3);
        self.next += count;
        self.rounds += 1;
        let batch = |partition: &i32| (*partition, Some(self.batch(*partition, first, count)));
        let batches = self.partitions.iter().map(batch).collect();
        let request = produce(&self.target.topic, -1, self.target.timeout_ms, batches);
        Round { first, count, request, sent: None }
    }

    fn batch(&self, partition: i32, first: u64, count: u64) -> Bytes {
        let values = (first..first + count).map(|number| value(partition, number, self.target.value_bytes));
        let records = RecordsBuilder::new().values(SystemClock.now_ms(), values);
        match self.manner {
            Manner::Idempotent => records.stamp(ProducerStamp { base_sequence: first as i32, ..self.stamp }).build(),
            Manner::Once => records.build(),
        }
    }
}

/// Why a lane cannot go on with its connection.
enum Lost {
    Connection,
    /// It was told what must not be.
    Faith(String),
}

impl Round {
    async fn send(&mut self, client: &mut RawClient) -> Result<(), Lost> {
        let sent = client.send(PRODUCE_VERSION, &self.request).await.map_err(|_| Lost::Connection)?;
        self.sent = Some((sent, Instant::now()));
        Ok(())
    }
}

fn value(partition: i32, number: u64, bytes: usize) -> Vec<u8> {
    format!("{number} of {partition} {:>bytes$}", "").into_bytes()
}

fn number(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}
