//! Puts batches together into a segment. Each is copied once, next to the others of its partition, and the frame it came in is free.

use std::collections::BTreeMap;

use bytes::Bytes;
use metadata::command::{CommitSegment, PartitionCommit};
use metadata::model::batch::BatchSummary;
use metadata::model::extent::ObjectId;
use metadata::model::ids::{TopicId, TopicPartition};

use super::format::{Footer, HEADER_LEN, Run, TopicRuns, header};
use crate::blob::Payload;

/// Bytes that are checksummed and then copied: so many stay in the processor's own cache between the two.
const PIECE_BYTES: usize = 32 << 10;

/// Batches on their way into one segment.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    runs: BTreeMap<TopicPartition, Vec<(Bytes, BatchSummary)>>,
    bytes: usize,
    batches: usize,
}

/// A finished segment.
#[derive(Debug)]
pub struct BuiltSegment {
    /// What is to be stored.
    pub payload: Payload,
    /// What is to be committed once it is.
    pub commit: CommitSegment,
    /// The batches' bytes, back to back, for each partition of the commit: chunks of the payload.
    pub runs: Vec<Bytes>,
}

impl SegmentBuilder {
    /// Adds a batch behind the others of its partition and tells its number among them.
    pub fn push(&mut self, partition: TopicPartition, batch: Bytes, summary: BatchSummary) -> usize {
        debug_assert_eq!(batch.len(), summary.length as usize, "a summary tells the length of its batch");
        self.bytes += batch.len();
        self.batches += 1;
        let run = self.runs.entry(partition).or_default();
        run.push((batch, summary));
        run.len() - 1
    }

    /// Bytes of all batches.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.batches
    }

    /// Where each partition's batches will lie, in the order of the commit.
    pub fn layout(&self) -> Vec<PartitionCommit> {
        let mut position = HEADER_LEN as u64;
        let place = |(partition, batches): (&TopicPartition, &Vec<(Bytes, BatchSummary)>)| {
            let batches: Vec<BatchSummary> = batches.iter().map(|(_, summary)| *summary).collect();
            let part = PartitionCommit { partition: *partition, position, batches };
            position += part.batches.iter().map(|batch| u64::from(batch.length)).sum::<u64>();
            part
        };
        self.runs.iter().map(place).collect()
    }

    /// Copies the batches into runs, checksums them and writes the footer. `None` past
    /// [`SEGMENT_MAX_BYTES`](super::format::SEGMENT_MAX_BYTES).
    pub fn finish(
        self,
        object: ObjectId,
        created_ms: i64,
        name_of: impl Fn(TopicId) -> Option<String>,
    ) -> Option<BuiltSegment> {
        let mut chunks = vec![Bytes::copy_from_slice(&header())];
        let mut footer = Footer { object, created_ms, placed: false, topics: Vec::new() };
        let mut partitions = Vec::with_capacity(self.runs.len());
        let mut runs = Vec::with_capacity(self.runs.len());
        let mut position = HEADER_LEN as u64;
        for (partition, batches) in self.runs {
            let (bytes, batches): (Vec<Bytes>, Vec<BatchSummary>) = batches.into_iter().unzip();
            let (joined, crc) = join(&bytes, position);
            let run = Run { partition: partition.partition, position, crc, batches: batches.clone() };
            match footer.topics.last_mut().filter(|topic| topic.id == partition.topic) {
                Some(topic) => topic.runs.push(run),
                None => footer.topics.push(TopicRuns {
                    id: partition.topic,
                    name: name_of(partition.topic).unwrap_or_default(),
                    runs: vec![run],
                }),
            }
            partitions.push(PartitionCommit { partition, position, batches });
            position += joined.len() as u64;
            chunks.push(joined.clone());
            runs.push(joined);
        }
        chunks.push(footer.encode(position)?.into());
        let payload = Payload::new(chunks);
        let commit = CommitSegment { object, object_bytes: payload.len(), partitions };
        Some(BuiltSegment { payload, commit, runs })
    }
}

/// The batches of a run that begins at `position`, back to back, and the checksum of it all.
fn join(batches: &[Bytes], position: u64) -> (Bytes, u32) {
    let mut run = Payload::room(position, batches.iter().map(Bytes::len).sum());
    let mut crc = 0;
    for piece in batches.iter().flat_map(|batch| batch.chunks(PIECE_BYTES)) {
        crc = crc32c::crc32c_append(crc, piece);
        run.extend_from_slice(piece);
    }
    (run.freeze(), crc)
}
