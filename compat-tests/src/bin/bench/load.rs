//! A steady load over the wire: producers that behave as default idempotent ones do, and consumers that poll.
//!
//! A producer makes records at a fixed rate, whatever the gateway does; what could not be sent yet waits, and its wait counts
//! (no coordinated omission). It sends what has gathered when it has lingered 5 ms and fewer than five requests are in
//! flight, in batches of up to 16 KiB, each for the next of its partitions. Every record carries the times it was made and sent.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::storage::codec::records::{RecordIter, RecordsBuilder};
use bytes::Bytes;
use compat_tests::raw_client::{RawClient, Sent};
use compat_tests::requests::{FETCH_VERSION, PRODUCE_VERSION, new_producer, produce, produced, topic_name};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest};
use metadata::clock::{Clock as _, SystemClock};
use metadata::model::batch::{BatchIter, ProducerStamp};
use metadata::model::ids::ProducerId;
use tokio::task::JoinSet;

use super::report::Result;

const RECORD_BYTES: usize = 1024;
/// `batch.size` of a default producer.
const BATCH_BYTES: usize = 16 << 10;
/// `max.request.size` of a default producer.
const REQUEST_BYTES: usize = 1 << 20;
const LINGER: Duration = Duration::from_millis(5);
const IN_FLIGHT: usize = 5;
const FETCH_PARTITION_BYTES: i32 = 1 << 20;
const FETCH_BYTES: i32 = 8 << 20;

/// What is asked of a gateway.
#[derive(Debug, Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub topic: &'static str,
    pub partitions: Vec<i32>,
    pub producers: usize,
    /// Consumers that share the partitions; each group of them reads everything.
    pub consumers: usize,
    pub groups: usize,
    pub bytes_per_second: f64,
    pub lasts: Duration,
    /// What is done in this time at the start is not timed.
    pub warmup: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Seen {
    /// From the making of a batch's oldest record to its ack: what an application waits.
    pub acks: Vec<Duration>,
    /// From the sending of a request to its answer: what the gateway takes.
    pub requests: Vec<Duration>,
    /// The same, once for each of its batches: what arrivals are held against.
    pub sends: Vec<Duration>,
    /// From the sending of a batch to its arrival at a consumer.
    pub arrivals: Vec<Duration>,
    /// From the making of a batch's oldest record to its arrival at a consumer.
    pub end_to_end: Vec<Duration>,
    /// In all the time, as CPU is counted.
    pub produced_bytes: u64,
    pub consumed_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    load: Load,
    began: Instant,
    stop: AtomicBool,
}

impl Shared {
    fn counts(&self) -> bool {
        self.began.elapsed() > self.load.warmup
    }
}

/// Microseconds since the first call: what producer and consumer compare.
fn now_us() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    FIRST.get_or_init(Instant::now).elapsed().as_micros() as u64
}

fn since_us(made: u64) -> Duration {
    Duration::from_micros(now_us().saturating_sub(made))
}

/// Runs the load; the consumers begin at the end of the logs and drain what was produced.
pub async fn run(load: Load) -> Result<Seen> {
    let (producers, consumers, groups) = (load.producers, load.consumers, load.groups);
    let shared = Arc::new(Shared { load, began: Instant::now(), stop: AtomicBool::new(false) });
    let mut consuming = JoinSet::new();
    for _ in 0..groups {
        for number in 0..consumers {
            consuming.spawn(consume(Arc::clone(&shared), number));
        }
    }
    let mut producing = JoinSet::new();
    for number in 0..producers {
        producing.spawn(produce_steadily(Arc::clone(&shared), number));
    }
    let mut seen = Seen::default();
    while let Some(done) = producing.join_next().await {
        let of_one = done??;
        seen.acks.extend(of_one.acks);
        seen.requests.extend(of_one.requests);
        seen.sends.extend(of_one.sends);
        seen.produced_bytes += of_one.produced_bytes;
    }
    tokio::time::sleep(Duration::from_secs(1)).await; // what was acked last is on its way
    shared.stop.store(true, Ordering::Relaxed);
    while let Some(done) = consuming.join_next().await {
        let of_one = done??;
        seen.arrivals.extend(of_one.arrivals);
        seen.end_to_end.extend(of_one.end_to_end);
        seen.consumed_bytes += of_one.consumed_bytes;
    }
    Ok(seen)
}

struct Flying {
    sent: Sent,
    sent_at: Instant,
    made: u64,
    batches: usize,
    bytes: usize,
}

async fn produce_steadily(shared: Arc<Shared>, number: usize) -> Result<Seen> {
    let load = &shared.load;
    let mut client = RawClient::connect(load.address).await?;
    let (id, epoch) = new_producer(&mut client).await?;
    let rate = load.bytes_per_second / load.producers as f64 / RECORD_BYTES as f64;
    let mut sequences = vec![0_i32; load.partitions.len()];
    let mut next_partition = number * load.partitions.len() / load.producers;
    let (mut flying, mut seen, mut made) = (VecDeque::<Flying>::new(), Seen::default(), 0_u64);
    let value = vec![b'v'; RECORD_BYTES - 16];
    let (began, began_us) = (Instant::now(), now_us());
    let made_at = |record: u64| began_us + (record as f64 / rate * 1e6) as u64;
    while shared.began.elapsed() < load.lasts || !flying.is_empty() {
        let goes_on = shared.began.elapsed() < load.lasts;
        let due = (began.elapsed().as_secs_f64() * rate) as u64;
        if goes_on && due > made && flying.len() < IN_FLIGHT {
            let first = made;
            let (mut batches, sent) = (Vec::new(), now_us().to_be_bytes());
            let most = due.min(made + (REQUEST_BYTES / RECORD_BYTES) as u64);
            while made < most && batches.len() < load.partitions.len() {
                let count = (most - made).min((BATCH_BYTES / RECORD_BYTES) as u64);
                let place = next_partition % load.partitions.len();
                next_partition += 1;
                let base_sequence = sequences[place];
                let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence, transactional: false };
                sequences[place] += count as i32;
                let values =
                    (made..made + count).map(|record| [&made_at(record).to_be_bytes()[..], &sent, &value].concat());
                let batch = RecordsBuilder::new().stamp(stamp).values(SystemClock.now_ms(), values).build();
                batches.push((load.partitions[place], Some(batch)));
                made += count;
            }
            let number = batches.len();
            let size = (made - first) as usize * RECORD_BYTES;
            let request = produce(load.topic, -1, 30_000, batches);
            let sent_at = Instant::now();
            let sent = client.send(PRODUCE_VERSION, &request).await?;
            flying.push_back(Flying { sent, sent_at, made: made_at(first), batches: number, bytes: size });
        }
        let wait = if flying.len() < IN_FLIGHT && goes_on { LINGER } else { Duration::from_secs(30) };
        let Some(oldest) = flying.front() else {
            tokio::time::sleep(LINGER).await;
            continue;
        };
        // Reading a frame is not cancel safe, so the linger waits beside it only until its first byte is there.
        if tokio::time::timeout(wait, client.arriving()).await.is_err() {
            continue;
        }
        let answer = client.receive::<ProduceRequest>(oldest.sent).await?;
        if let Some(failed) = produced(&answer).find(|partition| partition.error_code != 0) {
            return Err(format!("a produce failed with error {}", failed.error_code).into());
        }
        seen.produced_bytes += oldest.bytes as u64;
        if shared.counts() {
            seen.acks.extend(std::iter::repeat_n(since_us(oldest.made), oldest.batches));
            seen.sends.extend(std::iter::repeat_n(oldest.sent_at.elapsed(), oldest.batches));
            seen.requests.push(oldest.sent_at.elapsed());
        }
        flying.pop_front();
    }
    Ok(seen)
}

async fn consume(shared: Arc<Shared>, number: usize) -> Result<Seen> {
    let load = &shared.load;
    let mut client = RawClient::connect(load.address).await?;
    let mine = load.partitions.iter().skip(number).step_by(load.consumers);
    let mut offsets: Vec<(i32, i64)> = mine.map(|partition| (*partition, 0)).collect();
    let (mut seen, mut first) = (Seen::default(), true);
    // As clients do: what has not changed since the last poll is not said again (KIP-227).
    let (mut session, mut epoch, mut changed) = (0, 0, offsets.clone());
    while !shared.stop.load(Ordering::Relaxed) {
        let request = poll(load.topic, &changed, 500).with_session_id(session).with_session_epoch(epoch);
        let answer = client.ask(FETCH_VERSION, &request).await?;
        if answer.error_code != 0 {
            return Err(format!("a fetch failed with error {}", answer.error_code).into());
        }
        (session, epoch) = (answer.session_id, epoch + 1);
        changed.clear();
        for found in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            if found.error_code != 0 {
                return Err(format!("a fetch failed with error {}", found.error_code).into());
            }
            let records = found.records.clone().unwrap_or_default();
            let place = offsets.iter_mut().find(|(partition, _)| *partition == found.partition_index);
            let (_, offset) = place.ok_or("a partition nobody asked for")?;
            seen.consumed_bytes += records.len() as u64;
            let before = *offset;
            for (made, sent) in times_of_batches(&records, offset)? {
                if shared.counts() && !first {
                    seen.end_to_end.push(since_us(made));
                    seen.arrivals.push(since_us(sent));
                }
            }
            if *offset != before {
                changed.push((found.partition_index, *offset));
            }
        }
        first = false;
    }
    Ok(seen)
}

/// When the first record of each batch was made, and sent; moves the offset behind the last.
pub fn times_of_batches(records: &Bytes, offset: &mut i64) -> Result<Vec<(u64, u64)>> {
    let mut times = Vec::new();
    for batch in BatchIter::new(records) {
        let batch = batch?;
        if batch.base_offset() != *offset {
            return Err(format!("offset {} where {offset} was expected", batch.base_offset()).into());
        }
        *offset = batch.base_offset() + i64::from(batch.record_count());
        let record = RecordIter::new(batch.records(), batch.record_count()).next().ok_or("an empty batch")??;
        let stamps = record.value.and_then(|value| value.first_chunk::<16>()).ok_or("a record without times")?;
        let (made, sent) = stamps.split_at(8);
        let time = |stamp: &[u8]| stamp.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
        times.push((time(made), time(sent)));
    }
    Ok(times)
}

/// A fetch of these partitions that waits up to `wait_ms`.
pub fn poll(topic: &str, offsets: &[(i32, i64)], wait_ms: i32) -> FetchRequest {
    let asked = offsets.iter().map(|(partition, offset)| {
        FetchPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(-1)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(FETCH_PARTITION_BYTES)
    });
    let asked: Vec<_> = asked.collect();
    let named = FetchTopic::default().with_topic(topic_name(topic));
    let topics = if asked.is_empty() { Vec::new() } else { vec![named.with_partitions(asked)] };
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_session_epoch(-1)
        .with_max_bytes(FETCH_BYTES)
        .with_min_bytes(1)
        .with_max_wait_ms(wait_ms)
        .with_topics(topics)
}
