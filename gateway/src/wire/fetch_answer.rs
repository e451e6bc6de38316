//! The answer to Fetch, in versions 4-18, with an encoder of its own: records go out as the slices they came in.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::answer::{Answer, Body, EncodeError};
use super::error_code::ErrorCode;
use crate::net::budget::Hold;

/// First version with error code and session (KIP-227).
const SESSION: i16 = 7;
/// First version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// First version that names topics by id (KIP-516).
const TOPIC_ID: i16 = 13;
/// First version that tells where leaders are (KIP-951).
const ENDPOINTS: i16 = 16;

/// What a client is given.
#[derive(Debug, Default)]
pub struct FetchAnswer {
    /// How long the client should wait before it asks again, milliseconds.
    pub throttle_time_ms: i32,
    /// What is wrong with the whole request; not told below version 7.
    pub error: ErrorCode,
    /// The fetch session; 0 for none.
    pub session_id: i32,
    /// Topics in the order of the answer.
    pub topics: Vec<FetchedTopic>,
    /// Where the leaders named in the answer are; told from version 16 on.
    pub endpoints: Vec<Endpoint>,
    /// The share of `Services::answer_memory` taken for the records; kept until they are sent.
    pub hold: Option<Hold>,
}

/// One topic.
#[derive(Debug, Default)]
pub struct FetchedTopic {
    /// Its name; told up to version 12.
    pub name: String,
    /// Its id; told from version 13 on.
    pub id: Uuid,
    /// Partitions in the order of the answer.
    pub partitions: Vec<FetchedPartition>,
}

/// One partition.
#[derive(Debug)]
pub struct FetchedPartition {
    /// Its index.
    pub index: i32,
    /// What is wrong with it.
    pub error: ErrorCode,
    /// End of what may be read uncommitted, exclusive; -1 if unknown.
    pub high_watermark: i64,
    /// End of what may be read committed, exclusive; -1 if unknown.
    pub last_stable_offset: i64,
    /// First offset kept; -1 if unknown. Told from version 5 on.
    pub log_start_offset: i64,
    /// The log divergence found (KIP-320); told from version 12 on.
    pub diverging_epoch: Option<EpochEnd>,
    /// The leader, where the client asked the wrong one; told from version 12 on.
    pub current_leader: Option<Leader>,
    /// Aborted transactions among the records; `None` (null) for a reader of uncommitted records, as Kafka answers.
    pub aborted: Option<Vec<Aborted>>,
    /// Replica to be read from instead (KIP-392); -1 for none. Told from version 11 on.
    pub preferred_read_replica: i32,
    /// Whole batches, one slice after the other; never null on the wire.
    pub records: Vec<Bytes>,
}

/// The end of an epoch of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// Largest epoch not above the one asked about.
    pub epoch: i32,
    /// Its end, exclusive.
    pub end_offset: i64,
}

/// A leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// Its node id.
    pub id: i32,
    /// Its epoch.
    pub epoch: i32,
}

/// An aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Whose it was.
    pub producer_id: i64,
    /// Its first offset in the partition.
    pub first_offset: i64,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The node's id.
    pub node_id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

impl FetchedPartition {
    /// A partition with an error and nothing else.
    pub fn failed(index: i32, error: ErrorCode) -> Self {
        Self {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            aborted: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }
}

impl Answer for FetchAnswer {
    fn write(self, version: i16, out: &mut Body) -> Result<(), EncodeError> {
        let flexible = version >= FLEXIBLE;
        let put = &mut out.bytes;
        put.put_i32(self.throttle_time_ms);
        if version >= SESSION {
            put.put_i16(self.error.code());
            put.put_i32(self.session_id);
        }
        count(put, flexible, Some(self.topics.len()))?;
        for topic in self.topics {
            let put = &mut out.bytes;
            if version >= TOPIC_ID {
                put.put_slice(topic.id.as_bytes());
            } else {
                text(put, flexible, &topic.name)?;
            }
            count(put, flexible, Some(topic.partitions.len()))?;
            for partition in topic.partitions {
                partition.write(version, out)?;
            }
            no_tags(&mut out.bytes, flexible);
        }
        if flexible {
            endpoints(&mut out.bytes, if version >= ENDPOINTS { &self.endpoints } else { &[] })?;
        }
        out.hold = self.hold;
        Ok(())
    }
}

impl FetchedPartition {
    fn write(self, version: i16, out: &mut Body) -> Result<(), EncodeError> {
        let flexible = version >= FLEXIBLE;
        let put = &mut out.bytes;
        put.put_i32(self.index);
        put.put_i16(self.error.code());
        put.put_i64(self.high_watermark);
        put.put_i64(self.last_stable_offset);
        if version >= 5 {
            put.put_i64(self.log_start_offset);
        }
        count(put, flexible, self.aborted.as_ref().map(Vec::len))?;
        for aborted in self.aborted.iter().flatten() {
            put.put_i64(aborted.producer_id);
            put.put_i64(aborted.first_offset);
            no_tags(put, flexible);
        }
        if version >= 11 {
            put.put_i32(self.preferred_read_replica);
        }
        count(put, flexible, Some(self.records.iter().map(Bytes::len).sum()))?;
        out.put_slices(self.records);
        if flexible {
            let put = &mut out.bytes;
            let tags = [self.diverging_epoch.is_some(), self.current_leader.is_some()];
            varint(put, tags.into_iter().filter(|there| *there).count() as u32);
            if let Some(diverging) = self.diverging_epoch {
                put.put_slice(&[0, 13]); // tag, length
                put.put_i32(diverging.epoch);
                put.put_i64(diverging.end_offset);
                no_tags(put, flexible);
            }
            if let Some(leader) = self.current_leader {
                put.put_slice(&[1, 9]); // tag, length
                put.put_i32(leader.id);
                put.put_i32(leader.epoch);
                no_tags(put, flexible);
            }
        }
        Ok(())
    }
}

/// The tagged fields behind the topics: none, or the endpoints under tag 0.
fn endpoints(put: &mut BytesMut, endpoints: &[Endpoint]) -> Result<(), EncodeError> {
    if endpoints.is_empty() {
        no_tags(put, true);
        return Ok(());
    }
    let mut content = BytesMut::new();
    count(&mut content, true, Some(endpoints.len()))?;
    for endpoint in endpoints {
        content.put_i32(endpoint.node_id);
        text(&mut content, true, &endpoint.host)?;
        content.put_i32(endpoint.port);
        match &endpoint.rack {
            Some(rack) => text(&mut content, true, rack)?,
            None => count(&mut content, true, None)?,
        }
        no_tags(&mut content, true);
    }
    put.put_slice(&[1, 0]); // one field, tag 0
    varint(put, content.len() as u32);
    put.put_slice(&content);
    Ok(())
}

/// The length of an array or of bytes; `None` is null.
fn count(put: &mut BytesMut, flexible: bool, count: Option<usize>) -> Result<(), EncodeError> {
    let count = count.map_or(Ok(-1), i32::try_from).map_err(|_| EncodeError("a length beyond 2 GiB".into()))?;
    if flexible {
        varint(put, (count + 1) as u32)
    } else {
        put.put_i32(count)
    }
    Ok(())
}

fn text(put: &mut BytesMut, flexible: bool, text: &str) -> Result<(), EncodeError> {
    let len = i16::try_from(text.len()).map_err(|_| EncodeError("a text beyond 32 KiB".into()))?;
    if flexible {
        varint(put, len as u32 + 1)
    } else {
        put.put_i16(len)
    }
    put.put_slice(text.as_bytes());
    Ok(())
}

fn no_tags(put: &mut BytesMut, flexible: bool) {
    if flexible {
        put.put_u8(0);
    }
}

fn varint(put: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        put.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    put.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response as crates;
    use kafka_protocol::messages::{ApiKey, BrokerId, FetchResponse, ProducerId, TopicName};
    use kafka_protocol::protocol::StrBytes;

    use super::super::answer::encode;
    use super::*;

    /// The same answer in the crate's words, as far as `version` can say it.
    fn in_crate_words(answer: &FetchAnswer, version: i16) -> FetchResponse {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let partition = |p: &FetchedPartition| {
            let aborted = |a: &Aborted| {
                crates::AbortedTransaction::default()
                    .with_producer_id(ProducerId(a.producer_id))
                    .with_first_offset(a.first_offset)
            };
            let mut data = crates::PartitionData::default()
                .with_partition_index(p.index)
                .with_error_code(p.error.code())
                .with_high_watermark(p.high_watermark)
                .with_last_stable_offset(p.last_stable_offset)
                .with_log_start_offset(p.log_start_offset)
                .with_aborted_transactions(p.aborted.as_ref().map(|all| all.iter().map(aborted).collect()))
                .with_records(Some(p.records.concat().into()));
            if version >= 11 {
                data.preferred_read_replica = BrokerId(p.preferred_read_replica);
            }
            if let (Some(diverging), true) = (p.diverging_epoch, version >= 12) {
                data.diverging_epoch.epoch = diverging.epoch;
                data.diverging_epoch.end_offset = diverging.end_offset;
            }
            if let (Some(leader), true) = (p.current_leader, version >= 12) {
                data.current_leader.leader_id = BrokerId(leader.id);
                data.current_leader.leader_epoch = leader.epoch;
            }
            data
        };
        let topic = |t: &FetchedTopic| {
            crates::FetchableTopicResponse::default()
                .with_topic(TopicName(text(&t.name)))
                .with_topic_id(t.id)
                .with_partitions(t.partitions.iter().map(partition).collect())
        };
        let endpoint = |e: &Endpoint| {
            crates::NodeEndpoint::default()
                .with_node_id(BrokerId(e.node_id))
                .with_host(text(&e.host))
                .with_port(e.port)
                .with_rack(e.rack.as_deref().map(text))
        };
        let mut response = FetchResponse::default()
            .with_throttle_time_ms(answer.throttle_time_ms)
            .with_responses(answer.topics.iter().map(topic).collect());
        if version >= 7 {
            response = response.with_error_code(answer.error.code()).with_session_id(answer.session_id);
        }
        if version >= 16 {
            response = response.with_node_endpoints(answer.endpoints.iter().map(endpoint).collect());
        }
        response
    }

    fn full() -> FetchAnswer {
        let large = Bytes::from(vec![7; 20_000]);
        let read = FetchedPartition {
            error: ErrorCode::None,
            high_watermark: 100,
            last_stable_offset: 90,
            log_start_offset: 3,
            diverging_epoch: Some(EpochEnd { epoch: 4, end_offset: 77 }),
            current_leader: Some(Leader { id: 2, epoch: 9 }),
            aborted: Some(vec![
                Aborted { producer_id: 5, first_offset: 6 },
                Aborted { producer_id: 7, first_offset: 8 },
            ]),
            preferred_read_replica: 3,
            records: vec![Bytes::from_static(b"abc"), large, Bytes::new(), Bytes::from_static(b"z")],
            ..FetchedPartition::failed(0, ErrorCode::None)
        };
        let empty = FetchedPartition { aborted: Some(vec![]), ..FetchedPartition::failed(2, ErrorCode::None) };
        let failed = FetchedPartition::failed(1, ErrorCode::OffsetOutOfRange);
        let topic = |name: &str, partitions| FetchedTopic { name: name.into(), id: Uuid::from_u128(17), partitions };
        FetchAnswer {
            throttle_time_ms: 11,
            error: ErrorCode::FetchSessionIdNotFound,
            session_id: 12,
            topics: vec![topic("first", vec![read, failed]), topic("second", vec![empty]), topic("none", vec![])],
            endpoints: vec![
                Endpoint { node_id: 1, host: "a".into(), port: 9092, rack: Some("r".into()) },
                Endpoint { node_id: 2, host: "b".into(), port: 9093, rack: None },
            ],
            hold: None,
        }
    }

    #[test]
    fn every_version_is_what_the_crate_would_write() {
        for make in [full as fn() -> FetchAnswer, FetchAnswer::default] {
            for version in 4..=18 {
                let theirs = encode(ApiKey::Fetch, version, 1, in_crate_words(&make(), version)).unwrap();
                let ours = encode(ApiKey::Fetch, version, 1, make()).unwrap();
                assert_eq!(ours.chunks.concat(), theirs.chunks.concat(), "version {version}");
                assert_eq!(ours.len, ours.chunks.concat().len());
            }
        }
    }

    #[test]
    fn records_are_not_copied() {
        let answer = full();
        let place = answer.topics[0].partitions[0].records[1].as_ptr();
        let encoded = encode(ApiKey::Fetch, 18, 1, answer).unwrap();
        assert!(encoded.chunks.iter().any(|chunk| chunk.as_ptr() == place && chunk.len() == 20_000));
    }
}
