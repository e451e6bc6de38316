//! The single records of a v2 batch: read as slices of the inflated bytes, written into whole batches.
//!
//! ```text
//! length           varint   bytes after this
//! attributes       i8       unused
//! timestamp delta  varlong  from the batch's first timestamp
//! offset delta     varint   from the batch's base offset
//! key              varint length, -1 for null; bytes
//! value            varint length, -1 for null; bytes
//! headers          varint count; each: key (varint length, bytes), value (as above)
//! ```
//!
//! Source: Kafka's `DefaultRecord`, `ByteUtils`.

use bytes::Bytes;
use metadata::model::batch::{self, BatchView, HEADER_LEN, LOG_OVERHEAD, MAGIC, ProducerStamp};

use super::CodecError;
use super::compression::{Codec, deflate};
use super::inflate_batch;

const LOG_APPEND_TIME_BIT: i16 = 0b1000;
const TRANSACTIONAL_BIT: i16 = 0b1_0000;
const CONTROL_BIT: i16 = 0b10_0000;
const DELETE_HORIZON_BIT: i16 = 0b100_0000;

/// One record, as slices of the inflated batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Unused by Kafka; kept.
    pub attributes: i8,
    /// Milliseconds after the batch's first timestamp.
    pub timestamp_delta: i64,
    /// Offsets after the batch's base offset.
    pub offset_delta: i32,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The headers of a record, checked when the record was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keys and values, in order, duplicates included.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor(self.bytes);
        (0..self.count).map_while(move |_| cursor.header().ok())
    }
}

/// The records of a section, one after the other. Yields one error and ends if a record is malformed, or if there are fewer or
/// more of them than declared; total on any bytes.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    cursor: Cursor<'a>,
    declared: i32,
    next: i32,
    ended: bool,
}

impl<'a> RecordIter<'a> {
    /// Iterates over an inflated records section that should hold `declared` records.
    pub fn new(records: &'a [u8], declared: i32) -> Self {
        Self { cursor: Cursor(records), declared, next: 0, ended: false }
    }

    fn end(&mut self) -> Option<Result<Record<'a>, CodecError>> {
        self.ended = true;
        let left_over = i32::from(!self.cursor.0.is_empty());
        let found = self.next + left_over;
        (found != self.declared).then_some(Err(CodecError::Count { declared: self.declared, found }))
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, CodecError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if self.next >= self.declared || self.cursor.0.is_empty() {
            return self.end();
        }
        let index = self.next;
        self.next += 1;
        Some(self.cursor.record().map_err(|why| {
            self.ended = true;
            CodecError::Record { index, why }
        }))
    }
}

/// The first record of the batch with a timestamp of at least `timestamp`: its offset delta and its timestamp. Inflates to at
/// most `limit` bytes. With `timestamp` = the batch's maximum this finds the record that has it.
pub fn lookup_timestamp(batch: &BatchView<'_>, timestamp: i64, limit: usize) -> Result<Option<(i32, i64)>, CodecError> {
    let max_timestamp = batch.max_timestamp();
    if max_timestamp < timestamp {
        return Ok(None);
    }
    if batch.is_log_append_time() {
        return Ok(Some((0, max_timestamp)));
    }
    for record in RecordIter::new(&inflate_batch(batch, limit)?, batch.record_count()) {
        let record = record?;
        let at = batch.first_timestamp().wrapping_add(record.timestamp_delta);
        if at >= timestamp {
            return Ok(Some((record.offset_delta, at)));
        }
    }
    Ok(None)
}

/// Gathers records into one whole, valid batch. Used by compaction, and by every test that needs one.
#[derive(Debug, Clone)]
pub struct RecordsBuilder {
    codec: Codec,
    level: Option<i32>,
    stamp: Option<ProducerStamp>,
    attributes: i16,
    base_offset: i64,
    append_time: Option<i64>,
    first_timestamp: Option<i64>,
    max_timestamp: i64,
    last_offset_delta: i32,
    count: i32,
    records: Vec<u8>,
}

impl Default for RecordsBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordsBuilder {
    /// An uncompressed batch without records and without a producer, at base offset 0.
    pub fn new() -> Self {
        Self {
            codec: Codec::None,
            level: None,
            stamp: None,
            attributes: 0,
            base_offset: 0,
            append_time: None,
            first_timestamp: None,
            max_timestamp: -1,
            last_offset_delta: -1,
            count: 0,
            records: Vec::new(),
        }
    }

    /// Compresses the records.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Compresses at this level.
    pub fn level(mut self, level: i32) -> Self {
        self.level = Some(level);
        self
    }

    /// Stamps the batch as an idempotent or transactional producer's.
    pub fn stamp(mut self, stamp: ProducerStamp) -> Self {
        self.stamp = Some(stamp);
        self
    }

    /// Makes it a control batch.
    pub fn control(mut self) -> Self {
        self.attributes |= CONTROL_BIT;
        self
    }

    /// Sets the base offset.
    pub fn base_offset(mut self, base_offset: i64) -> Self {
        self.base_offset = base_offset;
        self
    }

    /// Gives all records the broker's time, as `message.timestamp.type=LogAppendTime` does.
    pub fn append_time(mut self, timestamp_ms: i64) -> Self {
        self.append_time = Some(timestamp_ms);
        self
    }

    /// Dates the end of the batch's tombstones, which takes the place of the first timestamp (KIP-534). Comes before the
    /// records.
    pub fn delete_horizon(mut self, horizon_ms: i64) -> Self {
        self.first_timestamp = Some(horizon_ms);
        self.attributes |= DELETE_HORIZON_BIT;
        self
    }

    /// Adds a record at the next offset.
    pub fn record(self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Self {
        self.record_with_headers(timestamp_ms, key, value, &[])
    }

    /// Adds a record with headers at the next offset.
    pub fn record_with_headers(
        mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> Self {
        self.push(self.last_offset_delta + 1, timestamp_ms, key, value, headers.iter().copied());
        self
    }

    /// Adds a value without key at the next offset, for each of `values`.
    pub fn values<V: AsRef<[u8]>>(mut self, timestamp_ms: i64, values: impl IntoIterator<Item = V>) -> Self {
        for value in values {
            self.push(self.last_offset_delta + 1, timestamp_ms, None, Some(value.as_ref()), []);
        }
        self
    }

    /// Adds a record at any offset; offsets must rise (compaction leaves gaps).
    pub fn push<'a>(
        &mut self,
        offset_delta: i32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        debug_assert!(offset_delta > self.last_offset_delta, "offsets rise");
        let first = *self.first_timestamp.get_or_insert(timestamp_ms);
        let mut body = vec![0]; // attributes
        put_varlong(&mut body, timestamp_ms.wrapping_sub(first));
        put_varint(&mut body, offset_delta);
        put_bytes(&mut body, key);
        put_bytes(&mut body, value);
        let mut count = 0;
        let mut packed = Vec::new();
        for (key, value) in headers {
            put_bytes(&mut packed, Some(key));
            put_bytes(&mut packed, value);
            count += 1;
        }
        put_varint(&mut body, count);
        body.extend_from_slice(&packed);
        put_varint(&mut self.records, length(&body));
        self.records.extend_from_slice(&body);
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.last_offset_delta = offset_delta;
        self.count += 1;
    }

    /// Makes the batch cover offsets up to this delta although its last record is before it (compaction).
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = self.last_offset_delta.max(delta);
        self
    }

    /// How many records were added.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// The batch. Fails only if the codec does not take the level.
    pub fn try_build(self) -> Result<Bytes, CodecError> {
        let records = deflate(self.codec, self.level, &self.records)?;
        let mut attributes = self.codec.set_in(self.attributes);
        let mut max_timestamp = self.max_timestamp;
        if let Some(now) = self.append_time {
            attributes |= LOG_APPEND_TIME_BIT;
            max_timestamp = now;
        }
        if self.stamp.is_some_and(|s| s.transactional) {
            attributes |= TRANSACTIONAL_BIT;
        }
        let mut out = Vec::with_capacity(HEADER_LEN + records.len());
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&[0; 4]); // length: see finish_header
        out.extend_from_slice(&(-1_i32).to_be_bytes()); // leader epoch: none
        out.push(MAGIC as u8);
        out.extend_from_slice(&[0; 6]); // checksum and attributes: see finish_header
        out.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        out.extend_from_slice(&self.first_timestamp.unwrap_or(-1).to_be_bytes());
        out.extend_from_slice(&max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.stamp.map_or(-1, |s| s.id.0).to_be_bytes());
        out.extend_from_slice(&self.stamp.map_or(-1, |s| s.epoch).to_be_bytes());
        out.extend_from_slice(&self.stamp.map_or(-1, |s| s.base_sequence).to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&records);
        finish_header(&mut out, attributes);
        Ok(out.into())
    }

    /// The batch.
    ///
    /// # Panics
    /// If a compression level was set that the codec does not take.
    pub fn build(self) -> Bytes {
        self.try_build().expect("compressing into memory fails only for a level out of range")
    }
}

/// Writes length, attributes and checksum of a batch whose other header fields and records stand.
pub(super) fn finish_header(batch: &mut [u8], attributes: i16) {
    let after_length = length(&batch[LOG_OVERHEAD..]);
    batch[8..12].copy_from_slice(&after_length.to_be_bytes());
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch::seal(batch);
}

fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).expect("a batch is far below 2 GiB: requests are capped")
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(out, bytes.map_or(-1, length));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_varlong(out, i64::from(value));
}

/// Zigzag, seven bits a byte, lowest first.
fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// What is left to read; every read is checked against it.
#[derive(Debug, Clone)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Result<Record<'a>, &'static str> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| "negative length")?;
        let mut body = Cursor(self.take(length).ok_or("longer than the batch")?);
        let record = Record {
            attributes: body.take(1).ok_or("no attributes")?[0] as i8,
            timestamp_delta: body.varlong()?,
            offset_delta: body.varint()?,
            key: body.nullable_bytes()?,
            value: body.nullable_bytes()?,
            headers: body.headers()?,
        };
        if body.0.is_empty() { Ok(record) } else { Err("shorter than its length says") }
    }

    fn headers(&mut self) -> Result<Headers<'a>, &'static str> {
        let count = usize::try_from(self.varint()?).map_err(|_| "negative header count")?;
        let bytes = self.0;
        // Each header takes at least two bytes, so a count that lies ends here soon.
        for _ in 0..count {
            self.header()?;
        }
        Ok(Headers { count, bytes: &bytes[..bytes.len() - self.0.len()] })
    }

    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), &'static str> {
        let key = self.nullable_bytes()?.ok_or("header without a key")?;
        Ok((key, self.nullable_bytes()?))
    }

    fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, &'static str> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some).ok_or("a field leaves the record"),
            Err(_) => Ok(None), // Kafka takes any negative length for null
        }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Result<i32, &'static str> {
        let raw = self.raw_varint(5)? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, &'static str> {
        let raw = self.raw_varint(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    fn raw_varint(&mut self, max_len: u32) -> Result<u64, &'static str> {
        let mut raw = 0;
        for at in 0..max_len {
            let byte = self.take(1).ok_or("a number is cut")?[0];
            raw |= u64::from(byte & 0x7F) << (7 * at);
            if byte < 0x80 {
                return Ok(raw);
            }
        }
        Err("a number has too many bytes")
    }
}

#[cfg(test)]
mod tests;
