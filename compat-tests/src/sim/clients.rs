//! Producers and readers of the simulation: as those of `chaos`, without sockets; and one that knows nothing of idempotence.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use metadata::command::{BatchOutcome, Command, Outcome, Refusal};
use metadata::model::batch::{BatchIter, BatchSummary, ProducerStamp};
use metadata::model::ids::{ProducerId, TopicId, TopicPartition};
use metadata::model::offset::Offset;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::codec::records::{RecordIter, RecordsBuilder};
use storage::error::{ReadError, WriteError};
use storage::reader::ReadRequest;
use storage::writer::Submission;
use storage::writer::ticket::ProduceTicket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::log::Log;
use super::node::Node;
use crate::chaos::history::{Event, History, Mark};

/// The topic of all.
pub const TOPIC: TopicId = TopicId(uuid::Uuid::from_u128(7));
/// Its partitions.
pub const PARTITIONS: i32 = 3;
const IN_FLIGHT: usize = 5;
const RECORDS: u32 = 2;
const PACE: Duration = Duration::from_millis(60);
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(50);
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// One answer in so many makes a client go elsewhere.
const WANDERS: u32 = 30;
pub(super) const READ_BYTES: u32 = 2 << 10;
const TIMESTAMP: i64 = 1_700_000_000_000;

/// What the clients share.
#[derive(Debug, Clone)]
pub struct Work {
    /// The gateways there are to go to.
    pub nodes: Arc<Mutex<Vec<Arc<Node>>>>,
    /// What was seen.
    pub history: Arc<History>,
    /// Decides, with the number of each client, about everything random.
    pub seed: u64,
    /// When to stop.
    pub stop: watch::Receiver<bool>,
    /// Where everything is noted.
    pub log: Arc<Log>,
}

impl Work {
    /// Writes down what happened just now.
    pub fn note(&self, event: Event) {
        self.log.note(format_args!("{event:?}"));
        self.history.note(event);
    }

    /// A client's source of chance.
    pub fn random(&self, client: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ (u64::from(client) << 40))
    }

    /// Any of the gateways.
    pub fn any(&self, random: &mut StdRng) -> Option<Arc<Node>> {
        let nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let at = random.random_range(0..nodes.len().max(1));
        nodes.get(at).cloned()
    }

    /// Whether clients are to stop.
    pub fn is_over(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Why a client goes elsewhere.
#[derive(Debug)]
struct Elsewhere;

#[derive(Debug)]
struct Batch {
    first: u32,
    submission: Submission,
}

#[derive(Debug)]
struct Producer {
    work: Work,
    number: u32,
    id: ProducerId,
    random: StdRng,
    next: u32,
    next_at: Instant,
    waiting: VecDeque<Batch>,
}

/// Produces until told to stop and everything is acked; tells whether it was within `drain`.
pub async fn produce(work: Work, number: u32, drain: Duration) -> bool {
    let mut random = work.random(number);
    let id = loop {
        if let Some(id) = identity(&work, &mut random).await {
            break id;
        }
        sleep(RETRY_AFTER).await;
    };
    let (next, next_at, waiting) = (0, Instant::now(), VecDeque::new());
    let mut producer = Producer { work, number, id, random, next, next_at, waiting };
    let mut until = None;
    loop {
        let node = producer.work.any(&mut producer.random);
        let served = match node {
            Some(node) => producer.serve(&node).await,
            None => Err(Elsewhere),
        };
        if producer.work.is_over() {
            if producer.waiting.is_empty() {
                return true;
            }
            if Instant::now() > *until.get_or_insert_with(|| Instant::now() + drain) {
                return false;
            }
        }
        if served.is_err() {
            sleep(RETRY_AFTER).await;
        }
    }
}

/// A producer id, as a gateway allots it.
async fn identity(work: &Work, random: &mut StdRng) -> Option<ProducerId> {
    let node = work.any(random)?;
    let asked = tokio::select! {
        asked = timeout(ANSWER_WITHIN, node.metadata.submit(Command::AllocateProducerIds { count: 1 })) => asked.ok()?.ok()?,
        () = node.dead() => return None,
    };
    match asked {
        Outcome::ProducerIds(id) => Some(id),
        _ => None,
    }
}

impl Producer {
    /// One connection: everything not acked again, in order, then more.
    async fn serve(&mut self, node: &Node) -> Result<(), Elsewhere> {
        let mut flying = VecDeque::<ProduceTicket>::new();
        loop {
            let is_over = self.work.is_over();
            if !is_over && self.next_at <= Instant::now() && self.waiting.len() < IN_FLIGHT {
                self.make();
            }
            while flying.len() < self.waiting.len() {
                let submission = self.waiting[flying.len()].submission.clone();
                let permit = timeout(ANSWER_WITHIN, node.writer.admit(submission.batch.len())).await;
                let permit = permit.ok().and_then(Result::ok).ok_or(Elsewhere)?;
                flying.push_back(node.writer.submit(permit, vec![submission]));
            }
            let may_send = !is_over && self.waiting.len() < IN_FLIGHT;
            let Some(oldest) = flying.front_mut() else {
                if is_over {
                    return Ok(());
                }
                sleep_until(self.next_at).await;
                continue;
            };
            let patience = if may_send { self.next_at } else { Instant::now() + ANSWER_WITHIN };
            let answer = tokio::select! {
                biased;
                () = node.dead() => return Err(Elsewhere),
                answer = oldest => answer,
                () = sleep_until(patience) => match may_send {
                    true => continue,
                    false => return Err(Elsewhere),
                },
            };
            flying.pop_front();
            self.hear(answer)?;
            if !flying.is_empty() && self.random.random_range(0..WANDERS) == 0 {
                return Ok(()); // leaves with requests in flight
            }
        }
    }

    fn make(&mut self) {
        let (producer, first) = (self.number, self.next);
        let partition = producer.cast_signed() % PARTITIONS;
        let values = (first..first + RECORDS).map(|sequence| Mark { producer, sequence }.to_string());
        let stamp = ProducerStamp { id: self.id, epoch: 0, base_sequence: first.cast_signed(), transactional: false };
        let batch = RecordsBuilder::new().values(TIMESTAMP, values).stamp(stamp).build();
        let length = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let summary = BatchSummary { records: RECORDS, length, max_timestamp: TIMESTAMP, stamp: Some(stamp) };
        let to = TopicPartition { topic: TOPIC, partition };
        self.work.note(Event::Sent { producer, partition, first, count: RECORDS });
        self.waiting
            .push_back(Batch { first, submission: Submission { partition: to, batch, summary, profile: None } });
        self.next += RECORDS;
        self.next_at = self.next_at.max(Instant::now() - PACE) + PACE;
    }

    /// The answer to the oldest batch. After an error what flies behind it is sent again, in order.
    fn hear(&mut self, answer: Result<Vec<BatchOutcome>, WriteError>) -> Result<(), Elsewhere> {
        let Some(batch) = self.waiting.front() else { return Err(Elsewhere) };
        let (producer, first, partition) = (self.number, batch.first, batch.submission.partition.partition);
        match answer.ok().and_then(|outcomes| outcomes.into_iter().next()) {
            Some(BatchOutcome::Appended { base, .. } | BatchOutcome::Duplicate { base, .. }) => {
                self.work.note(Event::Acked { producer, partition, first, count: RECORDS, offset: base.get() });
                self.waiting.pop_front();
                Ok(())
            }
            Some(BatchOutcome::Refused(why)) => {
                let code = match why {
                    Refusal::OutOfOrderSequence => 45,
                    Refusal::InvalidProducerEpoch => 47,
                    Refusal::UnknownTopic | Refusal::UnknownPartition => 3,
                    _ => 6,
                };
                self.work.history.note_error("producer", code);
                if code != 6 {
                    self.work.note(Event::Accused { producer, first, code });
                }
                Err(Elsewhere)
            }
            None => {
                self.work.history.note_error("producer", 56);
                Err(Elsewhere)
            }
        }
    }
}

/// Sends batches without a stamp until told to stop, one after the other and each of them once: whatever it is told, none may be there
/// twice (L3). To the checker each batch is a producer of its own, numbered from `first`: what failed may come behind what follows it.
pub async fn produce_once(work: Work, first: u32) {
    let mut random = work.random(first);
    for producer in first.. {
        if work.is_over() {
            return;
        }
        if let Some(node) = work.any(&mut random) {
            send_once(&work, &node, producer).await;
        }
        sleep(PACE).await;
    }
}

async fn send_once(work: &Work, node: &Node, producer: u32) {
    let partition = producer.cast_signed() % PARTITIONS;
    let values = (0..RECORDS).map(|sequence| Mark { producer, sequence }.to_string());
    let batch = RecordsBuilder::new().values(TIMESTAMP, values).build();
    let length = u32::try_from(batch.len()).unwrap_or(u32::MAX);
    let summary = BatchSummary { records: RECORDS, length, max_timestamp: TIMESTAMP, stamp: None };
    let partition_of = TopicPartition { topic: TOPIC, partition };
    let submission = Submission { partition: partition_of, batch, summary, profile: None };
    work.note(Event::Sent { producer, partition, first: 0, count: RECORDS });
    let sent = async {
        let permit = node.writer.admit(submission.batch.len()).await.ok()?;
        node.writer.submit(permit, vec![submission]).await.ok()
    };
    let told = tokio::select! {
        biased;
        () = node.dead() => None,
        told = timeout(ANSWER_WITHIN, sent) => told.ok().flatten(),
    };
    if let Some(BatchOutcome::Appended { base, .. }) = told.and_then(|outcomes| outcomes.into_iter().next()) {
        work.note(Event::Acked { producer, partition, first: 0, count: RECORDS, offset: base.get() });
    }
}

/// Who reads, by which connection.
#[derive(Debug)]
pub struct Eye<'a> {
    /// Its number.
    pub reader: u32,
    /// A number of the connection.
    pub connection: u64,
    /// Where it asks.
    pub node: &'a Node,
    /// Where it notes what it reads.
    pub work: &'a Work,
}

impl Eye<'_> {
    /// Reads from an offset that is there or the next to come; the offset behind, and the high watermark.
    ///
    /// # Errors
    /// What the gateway said, or that it died.
    pub async fn read(&self, partition: i32, offset: i64, max_bytes: u32) -> Result<(i64, i64), String> {
        let wanted = Offset::new(offset).ok_or("a negative offset")?;
        let to = TopicPartition { topic: TOPIC, partition };
        let request = [ReadRequest { partition: to, offset: wanted, max_bytes }];
        let asked = tokio::select! {
            biased;
            () = self.node.dead() => return Err("the gateway died".into()),
            asked = timeout(ANSWER_WITHIN * 3, self.node.reader.read(&request, max_bytes as usize)) => asked,
        };
        let found = asked.map_err(|_| "no answer")?.into_iter().next().ok_or("no partition")?;
        if let Some(error) = found.error {
            if matches!(error, ReadError::OffsetOutOfRange | ReadError::UnknownPartition) {
                self.work.note(Event::OutOfRange { reader: self.reader, partition, offset });
            }
            return Err(error.to_string());
        }
        let (connection, end) = (self.connection, found.high_watermark.get());
        self.work.note(Event::Watermark { connection, partition, offset: end });
        let records: Bytes = found.records.concat().into();
        let mut next = offset;
        for batch in BatchIter::new(&records) {
            let batch = batch.map_err(|error| error.to_string())?;
            for record in RecordIter::new(batch.records(), batch.record_count()) {
                let record = record.map_err(|error| error.to_string())?;
                let at = batch.base_offset() + i64::from(record.offset_delta);
                if at >= offset {
                    let mark = Mark::of_value(record.value.unwrap_or_default());
                    self.work.note(Event::Read { reader: self.reader, partition, offset: at, mark });
                    next = at + 1;
                }
            }
        }
        Ok((next, end))
    }
}

/// Follows all partitions, and reads again what it has read, until told to stop.
pub async fn read(work: Work, reader: u32) {
    let mut random = work.random(reader);
    let mut next = [0_i64; PARTITIONS as usize];
    while !work.is_over() {
        let Some(node) = work.any(&mut random) else {
            sleep(RETRY_AFTER).await;
            continue;
        };
        let eye = Eye { reader, connection: work.history.number(), node: &node, work: &work };
        loop {
            let partition = random.random_range(0..PARTITIONS);
            let end = &mut next[partition as usize];
            let from = if random.random_range(0..2) == 0 { random.random_range(0..=*end) } else { *end };
            match eye.read(partition, from, READ_BYTES).await {
                Ok((read, _)) => *end = (*end).max(read),
                Err(_) => break,
            }
            sleep(RETRY_AFTER).await;
            if work.is_over() || random.random_range(0..WANDERS) == 0 {
                break;
            }
        }
        sleep(RETRY_AFTER).await;
    }
}

/// Reads everything through one gateway, from behind a read barrier.
///
/// # Errors
/// If that is not possible; the text says why.
pub async fn read_everything(node: &Node, reader: u32, work: &Work) -> Result<(), String> {
    node.metadata.barrier().await.map_err(|error| error.to_string())?;
    let eye = Eye { reader, connection: work.history.number(), node, work };
    for partition in 0..PARTITIONS {
        let (mut at, mut end) = (0, 1);
        while at < end {
            let (next, high_watermark) = eye.read(partition, at, 1 << 20).await?;
            if next == at && at < high_watermark {
                return Err(format!("nothing at {partition}@{at} below {high_watermark}"));
            }
            (at, end) = (next, high_watermark);
        }
        work.note(Event::ReadAll { reader, partition, end });
    }
    Ok(())
}
