//! The object that a merge or a compaction writes: runs of extents of many partitions, each in one piece, and the swap that
//! puts them in the place of the old ones.
//!
//! Nothing refers to the object before the swap is applied, and everything to the old ones; after it the reverse. A crash in
//! between leaves an object of a session that is over, which the sweep finds.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use metadata::class::{Classify, ErrorClass};
use metadata::command::{Command, NewExtent, Outcome, PartitionSwap, Refusal, SwapExtents};
use metadata::failpoint::crash_here;
use metadata::model::batch::{BatchIter, BatchSummary};
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::model::offset::Offset;
use tokio::time::timeout;

use super::sources::off_thread;
use super::{Keeper, UpkeepError};
use crate::blob::{BlobError, BlobStore, Operation, Payload};
use crate::segment::format::{Footer, HEADER_LEN, Run, TopicRuns, header};

/// How long the PUT may take.
const PUT_DEADLINE: Duration = Duration::from_secs(120);

/// What takes the place of one run of neighbouring extents.
#[derive(Debug)]
pub(super) struct Replacement {
    pub(super) partition: TopicPartition,
    /// The extents replaced; not none.
    pub(super) old: Vec<Extent>,
    /// What replaces them, in offset order; none removes them.
    pub(super) new: Vec<Piece>,
}

/// The bytes of a new extent.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) max_timestamp: i64,
    pub(super) sparse: bool,
    /// Whole batches, at their final offsets.
    pub(super) chunks: Vec<Bytes>,
}

impl Piece {
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.len() as u64).sum()
    }
}

/// An object in the making.
#[derive(Debug)]
struct Layout {
    chunks: Vec<Bytes>,
    position: u64,
    footer: Footer,
    swaps: Vec<PartitionSwap>,
}

impl Keeper {
    /// Stores the replacements as one object and swaps them in. Tells for each, in the order of their partitions, whether it
    /// took effect. `level` as in [`SwapExtents`].
    pub(super) async fn rewrite(
        &self,
        blobs: &dyn BlobStore,
        replacements: Vec<Replacement>,
        level: u32,
    ) -> Result<Vec<(TopicPartition, Result<(), Refusal>)>, UpkeepError> {
        let object = self.parts.writer.new_object();
        let (metadata, created_ms) = (self.parts.metadata.clone(), self.parts.clock.now_ms());
        let name_of =
            move |topic| metadata.read(|state| state.topics().get(topic).map(|topic| topic.name().as_str().to_owned()));
        let layout = off_thread(move || lay_out(replacements, object, created_ms, name_of)).await?;
        let partitions: Vec<TopicPartition> = layout.swaps.iter().map(|swap| swap.partition).collect();
        let Some((payload, swap)) = layout.finish(object, level) else {
            return Err(BlobError::Invalid("a rewritten object would be larger than 4 GiB".into()).into());
        };
        let bytes = payload.len();
        crash_here("upkeep::before_put");
        self.store(blobs, object, payload).await?;
        self.parts.metrics.rewritten_objects.inc();
        self.parts.metrics.rewritten_bytes.inc_by(bytes);
        crash_here("upkeep::before_swap");
        let swapped = self.put_in(object, Command::SwapExtents(swap), partitions.len()).await?;
        crash_here("upkeep::after_swap");
        let refused = swapped.iter().filter(|swapped| swapped.is_err()).count() as u64;
        self.parts.metrics.refused_swaps.inc_by(refused);
        Ok(partitions.into_iter().zip(swapped).collect())
    }

    /// Puts an object into the bucket. One that may be there though it failed is left behind for the sweep.
    pub(super) async fn store(
        &self,
        blobs: &dyn BlobStore,
        object: ObjectId,
        payload: Payload,
    ) -> Result<(), BlobError> {
        let put = timeout(PUT_DEADLINE, blobs.put(&object.key(), payload)).await;
        let put = put.unwrap_or(Err(BlobError::Timeout { operation: Operation::Put, after: PUT_DEADLINE }));
        put.inspect_err(|error| {
            self.parts.writer.return_leftover(object);
            if matches!(error, BlobError::Timeout { .. }) {
                self.aim_lower();
            }
        })
    }

    /// Submits a command that puts a stored object in the place of something, in so many parts; tells which took effect. An object
    /// that will never be part of a log is left behind for the sweep.
    pub(super) async fn put_in(
        &self,
        object: ObjectId,
        command: Command,
        parts: usize,
    ) -> Result<Vec<Result<(), Refusal>>, UpkeepError> {
        let outcome = self.parts.metadata.submit(command).await.inspect_err(|error| {
            if error.class() != ErrorClass::Unknown {
                self.parts.writer.return_leftover(object);
            }
        })?;
        Ok(match outcome {
            Outcome::Swapped(swapped) => swapped,
            Outcome::Refused(refusal) => {
                self.parts.writer.return_leftover(object);
                vec![Err(refusal); parts]
            }
            Outcome::Done
            | Outcome::ProducerIds(_)
            | Outcome::Segment(_)
            | Outcome::LogStarts(_)
            | Outcome::GroupSaved { .. }
            | Outcome::Offsets(_) => Vec::new(), // not the answer to such a command
        })
    }
}

fn lay_out(
    mut replacements: Vec<Replacement>,
    object: ObjectId,
    created_ms: i64,
    name_of: impl Fn(TopicId) -> Option<String>,
) -> Layout {
    // By partition, as in a segment; the runs of one partition stay in their order.
    replacements.sort_by_key(|replacement| replacement.partition);
    let mut layout = Layout {
        chunks: vec![Bytes::copy_from_slice(&header())],
        position: HEADER_LEN as u64,
        footer: Footer { object, created_ms, placed: true, topics: Vec::new() },
        swaps: Vec::with_capacity(replacements.len()),
    };
    let mut names: BTreeMap<TopicId, String> = BTreeMap::new();
    for Replacement { partition, old, new } in replacements {
        let name = names.entry(partition.topic).or_insert_with(|| name_of(partition.topic).unwrap_or_default());
        let new = new.into_iter().map(|piece| layout.push(partition, name, piece)).collect();
        let (first, last) = (old[0], old[old.len() - 1]);
        layout.swaps.push(PartitionSwap {
            partition,
            base: first.base,
            end: last.end,
            old: old.iter().map(|extent| (extent.object, extent.position)).collect(),
            new,
        });
    }
    layout
}

impl Layout {
    /// Puts a piece behind the others.
    fn push(&mut self, partition: TopicPartition, name: &str, piece: Piece) -> NewExtent {
        let (position, length) = (self.position, piece.bytes());
        let run = self.run_of(partition, name);
        for chunk in &piece.chunks {
            run.crc = crc32c::crc32c_append(run.crc, chunk);
            run.batches.extend(BatchIter::new(chunk).map_while(Result::ok).map(|batch| BatchSummary {
                records: batch.last_offset_delta().cast_unsigned() + 1,
                length: u32::try_from(batch.bytes().len()).expect("a batch is below 2 GiB"),
                max_timestamp: batch.max_timestamp(),
                stamp: batch.stamp(),
            }));
        }
        self.chunks.extend(piece.chunks);
        self.position += length;
        NewExtent {
            base: piece.base,
            end: piece.end,
            position,
            length: u32::try_from(length).expect("pieces are far below 4 GiB"),
            max_timestamp: piece.max_timestamp,
            sparse: piece.sparse,
        }
    }

    /// The run of a partition, which stands last.
    fn run_of(&mut self, partition: TopicPartition, name: &str) -> &mut Run {
        let position = self.position;
        if self.footer.topics.last().is_none_or(|topic| topic.id != partition.topic) {
            self.footer.topics.push(TopicRuns { id: partition.topic, name: name.to_owned(), runs: Vec::new() });
        }
        let topic = self.footer.topics.last_mut().expect("it was pushed just now, or stood there");
        if topic.runs.last().is_none_or(|run| run.partition != partition.partition) {
            topic.runs.push(Run { partition: partition.partition, position, crc: 0, batches: Vec::new() });
        }
        topic.runs.last_mut().expect("it was pushed just now, or stood there")
    }

    /// What to store and what to submit; `None` past the largest object.
    fn finish(mut self, object: ObjectId, level: u32) -> Option<(Payload, SwapExtents)> {
        self.chunks.push(self.footer.encode(self.position)?.into());
        let payload = Payload::new(self.chunks);
        let swap = SwapExtents { object, object_bytes: payload.len(), level, partitions: self.swaps };
        Some((payload, swap))
    }
}
