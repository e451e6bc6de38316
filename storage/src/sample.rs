//! Batches for tests: real ones, with records in them.

use bytes::Bytes;
use metadata::model::batch::{BatchSummary, BatchView, HEADER_LEN, LOG_OVERHEAD, ProducerStamp, seal};
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::ids::{SessionId, TopicId, TopicPartition};
use metadata::model::offset::Offset;

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// An uncompressed batch with a record for each timestamp; the values say `fill` and their number.
pub fn batch_at(timestamps: &[i64], fill: u64, stamp: Option<ProducerStamp>) -> Vec<u8> {
    let mut batch = vec![0; HEADER_LEN];
    for (number, timestamp) in timestamps.iter().enumerate() {
        let mut record = vec![0]; // attributes
        put_varint(&mut record, timestamp - timestamps[0]);
        put_varint(&mut record, number as i64);
        put_varint(&mut record, -1); // no key
        let value = format!("{fill}/{number}");
        put_varint(&mut record, value.len() as i64);
        record.extend_from_slice(value.as_bytes());
        put_varint(&mut record, 0); // no headers
        put_varint(&mut batch, record.len() as i64);
        batch.extend_from_slice(&record);
    }
    let length = (batch.len() - LOG_OVERHEAD) as i32;
    let max = timestamps.iter().max().copied().unwrap_or(-1);
    let (id, epoch, sequence) = stamp.map_or((-1, -1, -1), |s| (s.id.0, s.epoch, s.base_sequence));
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    batch[23..27].copy_from_slice(&(timestamps.len() as i32 - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&timestamps[0].to_be_bytes());
    batch[35..43].copy_from_slice(&max.to_be_bytes());
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&sequence.to_be_bytes());
    batch[57..61].copy_from_slice(&(timestamps.len() as i32).to_be_bytes());
    seal(&mut batch);
    batch
}

/// A batch of `records` records at time 1000.
pub fn batch_of(records: usize, fill: u64) -> Vec<u8> {
    batch_at(&vec![1_000; records], fill, None)
}

/// What is to be said of a batch.
pub fn summary_of(batch: &[u8]) -> BatchSummary {
    let view = BatchView::first(batch).unwrap();
    BatchSummary {
        records: view.last_offset_delta().cast_unsigned() + 1,
        length: view.bytes().len() as u32,
        max_timestamp: view.max_timestamp(),
        stamp: view.stamp(),
    }
}

/// The extent that `bytes` would be, at the start of object 1.
pub fn extent_of(base: i64, bytes: &[u8]) -> Extent {
    let batches = metadata::model::batch::BatchIter::new(bytes).map(|batch| summary_of(batch.unwrap().bytes()));
    let (records, max_timestamp) =
        batches.fold((0, -1), |(records, max), s| (records + u64::from(s.records), s.max_timestamp.max(max)));
    let base = Offset::new(base).unwrap();
    Extent {
        base,
        end: base.checked_add(records).unwrap(),
        object: object(1),
        position: 8,
        length: bytes.len() as u32,
        max_timestamp,
        sparse: false,
    }
}

/// An object of session 7.
pub fn object(counter: u64) -> ObjectId {
    ObjectId { session: SessionId(7), counter }
}

/// A partition of topic number `topic`.
pub fn partition(topic: u128, partition: i32) -> TopicPartition {
    TopicPartition { topic: TopicId(uuid::Uuid::from_u128(topic)), partition }
}

/// The batch as a shared slice.
pub fn shared(batch: Vec<u8>) -> Bytes {
    batch.into()
}
