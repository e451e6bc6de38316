//! A batch as a producer sends it, with its length and checksum set right so that what lies behind them is reached: validation,
//! and what the reader does with what passed. What passed holds the records it says, whatever codec they are in.
#![no_main]

use bytes::Bytes;
use gateway::produce::validate::{Rules, validate};
use libfuzzer_sys::fuzz_target;
use metadata::model::batch::{BatchView, HEADER_LEN, seal, set_length};
use metadata::model::topic_config::TopicConfig;
use storage::codec::compression::Codec;
use storage::codec::inflate_batch;
use storage::codec::records::{RecordIter, RecordsBuilder, lookup_timestamp};

const NOW_MS: i64 = 1_700_000_000_000;
const INFLATED_MAX: usize = 64 << 20;
/// The first byte of an input chooses among them.
const TOPICS: [&[(&str, &str)]; 4] = [
    &[],
    &[("cleanup.policy", "compact")],
    &[("message.timestamp.type", "LogAppendTime")],
    &[("compression.type", "lz4"), ("message.timestamp.before.max.ms", "1000")],
];

/// A batch of each codec, for each topic.
fn batches() -> Vec<Vec<u8>> {
    let of = |codec| {
        let header = [(&b"h"[..], Some(&b"v"[..])), (b"h", None)];
        let records = RecordsBuilder::new().record(NOW_MS, Some(b"key"), Some(b"value"));
        records.record_with_headers(NOW_MS + 5, None, None, &header).codec(codec).build()
    };
    let topics = 0..TOPICS.len() as u8;
    topics.flat_map(|topic| Codec::ALL.map(|codec| [&[topic], &of(codec)[..]].concat())).collect()
}

fuzz_target!(
    init: { fuzz::seed("batch", batches()) },
    |input: &[u8]| {
        let Some((topic, bytes)) = input.split_first() else { return };
        let set = TOPICS[usize::from(*topic) % TOPICS.len()];
        let config = TopicConfig::resolve(|name| set.iter().find(|(set, _)| *set == name).map(|(_, value)| *value));
        let mut bytes = bytes.to_vec();
        if bytes.len() >= HEADER_LEN {
            set_length(&mut bytes);
            seal(&mut bytes);
        }
        let rules = Rules { config: &config, now_ms: NOW_MS, version: 13 };
        let Ok(valid) = validate(Some(&Bytes::from(bytes)), rules) else { return };
        let batch = BatchView::first(&valid.bytes).expect("what passed is a batch");
        assert!(batch.crc_is_valid());
        assert_eq!(valid.summary.length as usize, valid.bytes.len());
        let records = inflate_batch(&batch, INFLATED_MAX).expect("what passed can be inflated");
        let records: Vec<_> = RecordIter::new(&records, batch.record_count()).collect();
        assert_eq!(records.len(), valid.summary.records as usize);
        for record in records {
            record.expect("what passed holds whole records").headers.iter().for_each(drop);
        }
        let latest = batch.max_timestamp();
        let found = lookup_timestamp(&batch, latest, INFLATED_MAX).expect("what passed can be read");
        assert_eq!(found.map(|(_, at)| at), Some(latest), "some record has the batch's maximum");
    }
);
