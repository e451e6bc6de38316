//! Versions of Kafka 4.2 that the message crate does not encode: their requests are written here byte by byte.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use bytes::{BufMut, BytesMut};
use compat_tests::harness::{Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{create_topic, produce_one, topic_name};
use gateway::wire::error_code::ErrorCode;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use kafka_protocol::protocol::Encodable;
use storage::codec::records::RecordsBuilder;
use uuid::Uuid;

const TOPIC: &str = "newer";
const GROUP: &str = "readers";

async fn start() -> (Gateway, RawClient, Uuid) {
    let gateway = Setup::new().unwrap().start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 2, &[]).await.unwrap(), 0);
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let metadata = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic]))).await.unwrap();
    (gateway, client, metadata.topics[0].topic_id)
}

fn text(bytes: &mut BytesMut, text: &str) {
    bytes.put_u8(text.len() as u8 + 1);
    bytes.put_slice(text.as_bytes());
}

/// OffsetCommit, version 10: (topic, partition, offset) each, by hand, from no member.
fn commit(offsets: &[(Uuid, i32, i64)]) -> BytesMut {
    let mut bytes = BytesMut::new();
    text(&mut bytes, GROUP);
    bytes.put_i32(-1); // generation
    text(&mut bytes, "");
    bytes.put_u8(0); // no instance id
    bytes.put_u8(offsets.len() as u8 + 1);
    for (topic, partition, offset) in offsets {
        bytes.put_slice(topic.as_bytes());
        bytes.put_u8(2);
        bytes.put_i32(*partition);
        bytes.put_i64(*offset);
        bytes.put_i32(0); // leader epoch
        text(&mut bytes, "noted");
        bytes.put_u8(0);
        bytes.put_slice(&[1, 9, 2, 7, 7]); // a tagged field nobody knows
    }
    bytes.put_u8(0);
    bytes
}

/// OffsetFetch, version 10, of one group; no topics for all of them.
fn fetch(topics: Option<&[(Uuid, i32)]>) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u8(2);
    text(&mut bytes, GROUP);
    bytes.put_u8(0); // no member
    bytes.put_i32(-1);
    bytes.put_u8(topics.map_or(0, |topics| topics.len() as u8 + 1));
    for (topic, partition) in topics.unwrap_or_default() {
        bytes.put_slice(topic.as_bytes());
        bytes.put_u8(2);
        bytes.put_i32(*partition);
        bytes.put_u8(0);
    }
    bytes.put_u8(0);
    bytes.put_u8(1); // only stable offsets
    bytes.put_u8(0);
    bytes
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap()
}

/// (topic, code) of each topic's only partition.
fn committed(answer: &OffsetCommitResponse) -> Vec<(Uuid, ErrorCode)> {
    answer.topics.iter().map(|topic| (topic.topic_id, code(topic.partitions[0].error_code))).collect()
}

/// (topic, offset, code) of each topic's only partition.
fn fetched(answer: &OffsetFetchResponse) -> Vec<(Uuid, i64, ErrorCode)> {
    assert_eq!((answer.groups.len(), answer.groups[0].error_code), (1, 0));
    let one = |partition: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions| {
        (partition.committed_offset, code(partition.error_code))
    };
    let topics = answer.groups[0].topics.iter().map(|topic| (topic.topic_id, one(&topic.partitions[0])));
    topics.map(|(topic, (offset, code))| (topic, offset, code)).collect()
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_by_topic_id() {
    let (_gateway, mut client, topic) = start().await;
    let (unknown, nil) = (Uuid::from_u128(7), Uuid::nil());
    let offsets = [(topic, 1, 41), (unknown, 0, 1), (nil, 0, 1), (topic, 2, 1)];
    let answer = client.ask_body::<OffsetCommitRequest>(10, &commit(&offsets), 10).await.unwrap();
    let wanted = [
        (topic, ErrorCode::None),
        (unknown, ErrorCode::UnknownTopicId),
        (nil, ErrorCode::UnknownTopicId),
        (topic, ErrorCode::UnknownTopicOrPartition),
    ];
    assert_eq!(committed(&answer), wanted);
    let asked = [(topic, 1), (topic, 0), (unknown, 0), (nil, 0)];
    let answer = client.ask_body::<OffsetFetchRequest>(10, &fetch(Some(&asked)), 10).await.unwrap();
    let wanted = [
        (topic, 41, ErrorCode::None),
        (topic, -1, ErrorCode::None),
        (unknown, -1, ErrorCode::UnknownTopicId),
        (nil, -1, ErrorCode::UnknownTopicId),
    ];
    assert_eq!(fetched(&answer), wanted);
    let partition = &answer.groups[0].topics[0].partitions[0];
    assert_eq!((partition.committed_leader_epoch, partition.metadata.as_deref()), (0, Some("noted")));
    let answer = client.ask_body::<OffsetFetchRequest>(10, &fetch(None), 10).await.unwrap();
    assert_eq!(fetched(&answer), [(topic, 41, ErrorCode::None)], "all that were committed");
}

#[tokio::test]
async fn bytes_that_end_too_early_close_the_connection() {
    let (gateway, mut client, topic) = start().await;
    for len in [0, 20, 30] {
        let mut other = gateway.client().await.unwrap();
        let cut = commit(&[(topic, 0, 1)]).split_to(len);
        assert!(other.ask_body::<OffsetCommitRequest>(10, &cut, 10).await.is_err(), "{len}");
        assert!(other.is_closed().await, "{len}");
    }
    let answer = client.ask_body::<OffsetFetchRequest>(10, &fetch(None), 10).await.unwrap();
    assert_eq!(fetched(&answer), [], "nothing was committed, and others are served");
}

/// Without a remote tier nothing waits to be uploaded: no offset, no error; and versions before it do not know the question.
#[tokio::test]
async fn the_special_timestamps_begin_with_their_versions() {
    let (_gateway, mut client, _) = start().await;
    let batch = RecordsBuilder::new().values(1_700_000_000_000, ["a", "b"]).build();
    assert_eq!(produce_one(&mut client, TOPIC, 0, batch).await.unwrap().error_code, 0);
    let unsupported = (-1, ErrorCode::UnsupportedVersion);
    let (start, end, nothing) = ((0, ErrorCode::None), (2, ErrorCode::None), (-1, ErrorCode::None));
    let rows = [
        (-1, 1, end),
        (-2, 1, start),
        (-3, 6, unsupported),
        (-3, 7, (0, ErrorCode::None)),
        (-4, 7, unsupported),
        (-4, 8, start),
        (-5, 8, unsupported),
        (-5, 9, nothing),
        (-6, 10, unsupported),
        (-6, 11, nothing),
        (-7, 11, unsupported),
        (-1, 11, end),
    ];
    for (timestamp, version, wanted) in rows {
        let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
        let answer = if version <= 10 {
            client.ask(version, &request).await.unwrap()
        } else {
            let mut body = BytesMut::new();
            request.encode(&mut body, 10).unwrap();
            client.ask_body::<ListOffsetsRequest>(version, &body, 10).await.unwrap()
        };
        let partition = &answer.topics[0].partitions[0];
        let got = (partition.offset, code(partition.error_code));
        assert_eq!(got, wanted, "{timestamp} in version {version}");
        assert_eq!(partition.timestamp == -1, timestamp != -3 || wanted == unsupported, "{timestamp} {version}");
    }
}
