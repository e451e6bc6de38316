//! Readers of everything, each through one gateway after the other, and once more where it has read before.

use std::io;
use std::time::Duration;

use metadata::model::batch::BatchIter;
use rand::RngExt;
use storage::codec::records::RecordIter;
use tokio::time::{sleep, timeout};

use crate::chaos::history::{Event, History, Mark};
use crate::chaos::producers::Work;
use crate::raw_client::RawClient;
use crate::requests::{FETCH_VERSION, fetch};

const PAUSE: Duration = Duration::from_millis(100);
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The same of who reads everything, from a gateway that has nothing in memory.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// Bytes of one answer, about: small, so that reads begin at many places.
const BYTES: i32 = 8 << 10;
const OFFSET_OUT_OF_RANGE: i16 = 1;
/// One round in so many makes it go to another gateway.
const WANDERS: u32 = 20;

/// Who reads, on which connection.
#[derive(Debug)]
pub struct Eye<'a> {
    reader: u32,
    connection: u64,
    client: RawClient,
    topic: &'a str,
    history: &'a History,
    within: Duration,
}

impl<'a> Eye<'a> {
    /// Reads through this connection, and writes down what it sees.
    pub fn new(reader: u32, client: RawClient, topic: &'a str, history: &'a History) -> Self {
        Self { reader, connection: history.number(), client, topic, history, within: ANSWER_WITHIN }
    }

    /// Reads about `bytes` from an offset that is there or the next to come; the offset behind, and the high watermark.
    ///
    /// # Errors
    /// If the gateway answers with an error, or not in time: the connection is of no more use.
    pub async fn read(&mut self, partition: i32, offset: i64, bytes: i32) -> io::Result<(i64, i64)> {
        let mut request = fetch(self.topic, partition, offset).with_max_bytes(bytes);
        for asked in request.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            asked.partition_max_bytes = bytes;
        }
        let answer = timeout(self.within, self.client.ask(FETCH_VERSION, &request)).await;
        let answer = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let found = found.ok_or_else(|| io::Error::other(format!("no partition, error {}", answer.error_code)))?;
        let reader = self.reader;
        if found.error_code != 0 {
            self.history.note_error("reader", found.error_code);
            if found.error_code == OFFSET_OUT_OF_RANGE {
                self.history.note(Event::OutOfRange { reader, partition, offset });
            }
            return Err(io::Error::other(format!("error {}", found.error_code)));
        }
        let (connection, high_watermark) = (self.connection, found.high_watermark);
        self.history.note(Event::Watermark { connection, partition, offset: high_watermark });
        let mut next = offset;
        for batch in BatchIter::new(&found.records.unwrap_or_default()) {
            let batch = batch.map_err(io::Error::other)?;
            if !batch.crc_is_valid() {
                return Err(io::Error::other("a broken batch"));
            }
            for record in RecordIter::new(batch.records(), batch.record_count()) {
                let record = record.map_err(io::Error::other)?;
                let at = batch.base_offset() + i64::from(record.offset_delta);
                if at >= offset {
                    let mark = Mark::of_value(record.value.unwrap_or_default());
                    self.history.note(Event::Read { reader, partition, offset: at, mark });
                    next = at + 1;
                }
            }
        }
        Ok((next, high_watermark))
    }
}

/// Follows all partitions until told to stop.
pub async fn run(work: Work, number: u32) {
    let mut random = work.random(number);
    let mut next = vec![0_i64; work.partitions as usize];
    while !work.is_over() {
        let Ok(client) = work.addresses.connect(&mut random).await else {
            sleep(PAUSE).await;
            continue;
        };
        let mut eye = Eye::new(number, client, &work.topic, &work.history);
        loop {
            let partition = random.random_range(0..work.partitions);
            let end = &mut next[partition as usize];
            // Every other time somewhere in what it has read.
            let is_again = random.random_range(0..2) == 0;
            let from = if is_again { random.random_range(0..=*end) } else { *end };
            match eye.read(partition, from, BYTES).await {
                Ok((read, _)) => *end = (*end).max(read),
                Err(_) => break,
            }
            sleep(PAUSE / 5).await;
            if work.is_over() || random.random_range(0..WANDERS) == 0 {
                break;
            }
        }
        sleep(PAUSE / 5).await;
    }
}

/// Reads everything through one connection.
///
/// # Errors
/// If the gateway answers with an error, or with nothing below the high watermark.
pub async fn read_everything(
    client: RawClient,
    number: u32,
    topic: &str,
    partitions: i32,
    history: &History,
) -> io::Result<()> {
    const WHOLE_BYTES: i32 = 1 << 20;
    let mut eye = Eye { within: WHOLE_WITHIN, ..Eye::new(number, client, topic, history) };
    for partition in 0..partitions {
        let (mut at, mut end) = (0, 1);
        while at < end {
            let (next, high_watermark) = eye.read(partition, at, WHOLE_BYTES).await?;
            if next == at && at < high_watermark {
                return Err(io::Error::other(format!("nothing at {partition}@{at} below {high_watermark}")));
            }
            (at, end) = (next, high_watermark);
        }
        history.note(Event::ReadAll { reader: number, partition, end });
    }
    Ok(())
}
