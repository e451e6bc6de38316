//! Raw records of one partition to a batch that may be submitted. Pure: no state, no clock, no I/O.
//!
//! Source: Kafka's `LogValidator`, `UnifiedLog.analyzeAndValidateRecords`, `ProduceRequest.validateRecords`.

use bytes::{Bytes, BytesMut};
use metadata::model::batch::{BatchError, BatchSummary, BatchView, seal, set_create_time, stamp_append_time};
use metadata::model::topic_config::{TargetCodec, TopicConfig};
use storage::codec::compression::{Codec, inflate};
use storage::codec::records::RecordIter;

use super::recompress::recompress;
use crate::limits::INFLATED_BATCH_BYTES;
use crate::wire::error_code::ErrorCode;

/// No timestamp, in Kafka's numbers.
const NO_TIMESTAMP: i64 = -1;
/// First version of Produce that may carry zstd (KIP-110).
const ZSTD_FROM_VERSION: i16 = 7;
/// Records of one batch that are named as being at fault, at most.
const RECORD_ERRORS_MAX: usize = 100;

/// A batch whose bytes are as Kafka wants them; only this is submitted.
#[derive(Debug, Clone)]
pub struct ValidBatch {
    /// The whole batch; its base offset is the producer's (0).
    pub bytes: Bytes,
    /// What the journal is told.
    pub summary: BatchSummary,
    /// The gateway's time, if the topic stamps it (`LogAppendTime`), ms.
    pub append_time_ms: Option<i64>,
}

/// Why a batch was refused, in the words and codes of Kafka.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidBatch {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// The records at fault: index in the batch and what is wrong (KIP-467).
    pub records: Vec<(i32, String)>,
}

impl InvalidBatch {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), records: Vec::new() }
    }
}

/// What a batch is held against.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The topic's configs.
    pub config: &'a TopicConfig,
    /// Wall clock, ms.
    pub now_ms: i64,
    /// Version of the Produce request.
    pub version: i16,
}

/// Checks everything a broker checks and returns the batch to store. Copies the bytes only where the topic's configs or a
/// wrong maximum timestamp ask for a change.
pub fn validate(records: Option<&Bytes>, rules: Rules<'_>) -> Result<ValidBatch, InvalidBatch> {
    let bytes = records.filter(|r| !r.is_empty()).ok_or_else(|| {
        InvalidBatch::new(
            ErrorCode::InvalidRecord,
            "Produce requests with version 3 or above must have one record batch",
        )
    })?;
    let batch = only_batch(bytes)?;
    check_header(&batch, rules)?;
    let codec = Codec::of(&batch)
        .map_err(|error| InvalidBatch::new(ErrorCode::UnsupportedCompressionType, error.to_string()))?;
    if codec == Codec::Zstd && rules.version < ZSTD_FROM_VERSION {
        return Err(InvalidBatch::new(
            ErrorCode::UnsupportedCompressionType,
            "Produce requests with version below 7 may not carry zstd",
        ));
    }
    let records = inflate(codec, batch.records(), INFLATED_BATCH_BYTES).map_err(|e| invalid(e.to_string()))?;
    let max_timestamp = check_records(&batch, &records, rules)?;
    let stored = store_as(bytes, &batch, &records, max_timestamp, rules)?;
    let view = BatchView::first(&stored).map_err(|e| invalid(e.to_string()))?;
    let summary = BatchSummary {
        records: u32::try_from(view.record_count()).map_err(|_| invalid("record count"))?,
        length: u32::try_from(stored.len()).map_err(|_| invalid("batch length"))?,
        max_timestamp: view.max_timestamp(),
        stamp: view.stamp(),
    };
    let append_time_ms = rules.config.log_append_time.then_some(rules.now_ms);
    Ok(ValidBatch { bytes: stored, summary, append_time_ms })
}

fn invalid(message: impl Into<String>) -> InvalidBatch {
    InvalidBatch::new(ErrorCode::InvalidRecord, message)
}

fn only_batch(bytes: &Bytes) -> Result<BatchView<'_>, InvalidBatch> {
    let batch = BatchView::first(bytes).map_err(|error| match error {
        BatchError::Magic(magic) => {
            invalid(format!("Produce requests only take record batches of magic 2, not {magic}"))
        }
        BatchError::Truncated { .. } | BatchError::Length(_) => {
            InvalidBatch::new(ErrorCode::CorruptMessage, error.to_string())
        }
    })?;
    if batch.bytes().len() == bytes.len() {
        Ok(batch)
    } else {
        Err(invalid("Produce requests with version 3 or above must have exactly one record batch per partition"))
    }
}

fn check_header(batch: &BatchView<'_>, rules: Rules<'_>) -> Result<(), InvalidBatch> {
    let most = rules.config.max_message_bytes;
    if batch.bytes().len() as u64 > u64::from(most) {
        let size = batch.bytes().len();
        return Err(InvalidBatch::new(
            ErrorCode::MessageTooLarge,
            format!(
                "The record batch size is {size} bytes which exceeds the maximum configured value of {most} (max.message.bytes)"
            ),
        ));
    }
    if batch.base_offset() != 0 {
        return Err(invalid(format!(
            "The base offset of a produced record batch must be 0, not {}",
            batch.base_offset()
        )));
    }
    if !batch.crc_is_valid() {
        return Err(InvalidBatch::new(ErrorCode::CorruptMessage, "The checksum of the record batch is wrong"));
    }
    let count = batch.record_count();
    if count <= 0 || batch.last_offset_delta().checked_add(1) != Some(count) {
        return Err(invalid(format!(
            "The record batch says {count} records but its last offset delta is {}",
            batch.last_offset_delta()
        )));
    }
    if batch.is_control() {
        return Err(invalid("Clients may not write control batches"));
    }
    if batch.producer_id() >= 0 && (batch.base_sequence() < 0 || batch.producer_epoch() < 0) {
        return Err(invalid("A batch with a producer id needs a producer epoch and a sequence number"));
    }
    if batch.is_transactional() && batch.producer_id() < 0 {
        return Err(invalid("A transactional batch needs a producer id"));
    }
    Ok(())
}

/// Walks the records; returns the largest timestamp.
fn check_records(batch: &BatchView<'_>, records: &[u8], rules: Rules<'_>) -> Result<i64, InvalidBatch> {
    let (mut seen, mut max_timestamp) = (0_i32, NO_TIMESTAMP);
    let (mut at_fault, mut keyless) = (Vec::new(), Vec::new());
    for record in RecordIter::new(records, batch.record_count()) {
        let record = record.map_err(|e| invalid(e.to_string()))?;
        if record.offset_delta != seen {
            return Err(invalid(format!("Record {seen} has offset delta {}", record.offset_delta)));
        }
        // What readers will see: round the end as in Java, and the record's own time also where the producer says that the
        // batch has the broker's, because that claim is not kept.
        let timestamp = batch.first_timestamp().wrapping_add(record.timestamp_delta);
        max_timestamp = max_timestamp.max(timestamp);
        if rules.config.compaction.is_some() && record.key.is_none() && keyless.len() < RECORD_ERRORS_MAX {
            keyless.push((seen, "Compacted topic cannot accept message without key".to_owned()));
        }
        if !rules.config.log_append_time
            && !timestamp_is_in_range(timestamp, rules)
            && at_fault.len() < RECORD_ERRORS_MAX
        {
            at_fault.push((seen, format!("Timestamp {timestamp} of message is out of the range the topic allows")));
        }
        seen += 1;
    }
    if !keyless.is_empty() {
        let message = "One or more records have been rejected: a compacted topic takes no record without a key".into();
        return Err(InvalidBatch { code: ErrorCode::InvalidRecord, message, records: keyless });
    }
    if at_fault.is_empty() {
        return Ok(max_timestamp);
    }
    let message = "One or more records have been rejected due to invalid timestamp".into();
    Err(InvalidBatch { code: ErrorCode::InvalidTimestamp, message, records: at_fault })
}

fn timestamp_is_in_range(timestamp: i64, rules: Rules<'_>) -> bool {
    timestamp == NO_TIMESTAMP
        || (rules.now_ms.saturating_sub(timestamp) <= rules.config.timestamp_before_max_ms
            && timestamp.saturating_sub(rules.now_ms) <= rules.config.timestamp_after_max_ms)
}

/// The bytes to keep: the producer's own unless the topic's codec, its clock, or a wrong maximum asks for others.
fn store_as(
    bytes: &Bytes,
    batch: &BatchView<'_>,
    records: &[u8],
    max_timestamp: i64,
    rules: Rules<'_>,
) -> Result<Bytes, InvalidBatch> {
    let mut stored = match rules.config.compression {
        TargetCodec::Number(wanted) if wanted != batch.codec() => {
            recompress(batch, records, wanted, rules.config).map_err(invalid)?
        }
        TargetCodec::Number(_) | TargetCodec::Producer => {
            let keeps_time = !rules.config.log_append_time && !batch.is_log_append_time();
            if keeps_time && batch.max_timestamp() == max_timestamp {
                return Ok(bytes.clone());
            }
            BytesMut::from(batch.bytes())
        }
    };
    if rules.config.log_append_time {
        stamp_append_time(&mut stored, rules.now_ms);
    } else {
        set_create_time(&mut stored, max_timestamp);
        seal(&mut stored);
    }
    Ok(stored.freeze())
}

#[cfg(test)]
mod tests;
