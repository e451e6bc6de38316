//! What the tests ask a gateway for, in few words.

use std::io;

use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteRecordsRequest, FetchRequest, GroupId, InitProducerIdRequest, ListOffsetsRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use metadata::model::batch::BatchIter;
use storage::codec::records::RecordIter;

use crate::raw_client::RawClient;

/// Version of Produce that most tests use: the last one by topic name.
pub const PRODUCE_VERSION: i16 = 12;
/// Version of Fetch that most tests use: the last one by topic name.
pub const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 6;
/// The timestamp that asks for the end.
const LATEST: i64 = -1;
const FETCH_BYTES: i32 = 4 << 20;
const TIMEOUT_MS: i32 = 30_000;

fn wrong(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A topic's name as the messages want it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// Makes a topic; the error code says whether it is there now.
///
/// # Errors
/// If no answer comes.
pub async fn create_topic(
    client: &mut RawClient,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> io::Result<i16> {
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string((*name).to_owned()))
            .with_value(Some(StrBytes::from_string((*value).to_owned())))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let answer = client.ask(7, &request).await?;
    answer.topics.first().map(|topic| topic.error_code).ok_or_else(|| wrong("no topic in the answer".to_owned()))
}

/// A produce of one batch, or whatever the bytes are, to each of the partitions.
pub fn produce(topic: &str, acks: i16, timeout_ms: i32, batches: Vec<(i32, Option<Bytes>)>) -> ProduceRequest {
    let data = |(index, records)| PartitionProduceData::default().with_index(index).with_records(records);
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(batches.into_iter().map(data).collect());
    ProduceRequest::default().with_acks(acks).with_timeout_ms(timeout_ms).with_topic_data(vec![topic])
}

/// Each partition of a produce's answer, in the order of the request.
pub fn produced(answer: &ProduceResponse) -> impl Iterator<Item = &PartitionProduceResponse> {
    answer.responses.iter().flat_map(|topic| &topic.partition_responses)
}

/// Produces one batch with acks=all and returns what its partition got.
///
/// # Errors
/// If no answer comes.
pub async fn produce_one(
    client: &mut RawClient,
    topic: &str,
    partition: i32,
    records: Bytes,
) -> io::Result<PartitionProduceResponse> {
    let request = produce(topic, -1, TIMEOUT_MS, vec![(partition, Some(records))]);
    let answer = client.ask(PRODUCE_VERSION, &request).await?;
    produced(&answer).next().cloned().ok_or_else(|| wrong("no partition in the answer".to_owned()))
}

/// A fetch of one partition from an offset, which does not wait.
pub fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(FETCH_BYTES);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(FETCH_BYTES).with_session_epoch(-1).with_topics(vec![topic])
}

/// Fetches one partition from an offset and returns what it got.
///
/// # Errors
/// If no answer comes.
pub async fn fetch_one(client: &mut RawClient, topic: &str, partition: i32, offset: i64) -> io::Result<PartitionData> {
    let answer = client.ask(FETCH_VERSION, &fetch(topic, partition, offset)).await?;
    let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
    found.ok_or_else(|| wrong(format!("no partition in the answer, error {}", answer.error_code)))
}

/// The end of a partition, as ListOffsets tells it.
///
/// # Errors
/// If no answer comes, or an error.
pub async fn end_of(client: &mut RawClient, topic: &str, partition: i32) -> io::Result<i64> {
    offset_at(client, topic, partition, LATEST).await
}

/// The offset of the first record at or after a time (ms), as ListOffsets tells it; -1 if there is none.
///
/// # Errors
/// If no answer comes, or an error.
pub async fn offset_at(client: &mut RawClient, topic: &str, partition: i32, timestamp: i64) -> io::Result<i64> {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_current_leader_epoch(-1)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let answer = client.ask(LIST_OFFSETS_VERSION, &ListOffsetsRequest::default().with_topics(vec![topic])).await?;
    let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
    match found {
        Some(found) if found.error_code == 0 => Ok(found.offset),
        found => Err(wrong(format!("no offset: {found:?}"))),
    }
}

/// Deletes the records of a partition before an offset; the error code.
///
/// # Errors
/// If no answer comes.
pub async fn delete_records(client: &mut RawClient, topic: &str, partition: i32, before: i64) -> io::Result<i16> {
    let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(before);
    let topic = DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let answer = client.ask(2, &request).await?;
    let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
    found.map(|found| found.error_code).ok_or_else(|| wrong("no partition in the answer".to_owned()))
}

/// The values of a whole partition; the place of each is its offset.
///
/// # Errors
/// If the offsets are not dense from 0 to the high watermark, or a batch is broken.
pub async fn read_all(client: &mut RawClient, topic: &str, partition: i32) -> io::Result<Vec<Vec<u8>>> {
    // A gateway that is asked for the end looks for it: what another has acked meanwhile is then read here, too.
    end_of(client, topic, partition).await?;
    let mut values: Vec<Vec<u8>> = Vec::new();
    loop {
        let next = values.len() as i64;
        let got = fetch_one(client, topic, partition, next).await?;
        if got.error_code != 0 {
            return Err(wrong(format!("{topic}-{partition} at {next}: error {}", got.error_code)));
        }
        let bytes = got.records.unwrap_or_default();
        for batch in BatchIter::new(&bytes) {
            let batch = batch.map_err(|error| wrong(error.to_string()))?;
            if batch.base_offset() != values.len() as i64 || !batch.crc_is_valid() || batch.codec() != 0 {
                let base = batch.base_offset();
                return Err(wrong(format!("{topic}-{partition}: a batch at {base} behind {} records", values.len())));
            }
            for record in RecordIter::new(batch.records(), batch.record_count()) {
                let record = record.map_err(|error| wrong(error.to_string()))?;
                values.push(record.value.unwrap_or_default().to_vec());
            }
        }
        let end = values.len() as i64;
        if end >= got.high_watermark {
            return if end == got.high_watermark {
                Ok(values)
            } else {
                Err(wrong(format!("{end} records below the high watermark {}", got.high_watermark)))
            };
        }
        if end == next {
            return Err(wrong(format!("nothing at {next} below the high watermark {}", got.high_watermark)));
        }
    }
}

/// A new idempotent producer: its id and epoch.
///
/// # Errors
/// If no answer comes, or an error.
pub async fn new_producer(client: &mut RawClient) -> io::Result<(i64, i16)> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let answer = client.ask(4, &request).await?;
    if answer.error_code != 0 {
        return Err(wrong(format!("no producer id: error {}", answer.error_code)));
    }
    Ok((*answer.producer_id, answer.producer_epoch))
}

/// Commits an offset of partition 0 for a group without members; the error code.
///
/// # Errors
/// If no answer comes.
pub async fn commit_offset(client: &mut RawClient, group: &str, topic: &str, offset: i64) -> io::Result<i16> {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(vec![topic]);
    let answer = client.ask(8, &request).await?;
    let code = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code).next();
    code.ok_or_else(|| wrong("no partition in the answer".to_owned()))
}

/// The offset a group has committed for partition 0; -1 if none.
///
/// # Errors
/// If no answer comes, or an error.
pub async fn committed_offset(client: &mut RawClient, group: &str, topic: &str) -> io::Result<i64> {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name(topic)).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default()
        .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
        .with_topics(Some(vec![topic]));
    let answer = client.ask(7, &request).await?;
    let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
    match found {
        Some(partition) if partition.error_code == 0 && answer.error_code == 0 => Ok(partition.committed_offset),
        _ => Err(wrong(format!("no committed offset: {answer:?}"))),
    }
}
