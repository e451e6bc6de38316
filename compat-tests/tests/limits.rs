//! A gateway among bad clients: the right error or a closed connection, and every other connection unharmed.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::time::Duration;

use bytes::{Buf, Bytes};
use compat_tests::made_requests::smallest;
use compat_tests::raw_client::{RawClient, frame, raw_frame};
use gateway::api::table::TABLE;
use gateway::app::App;
use gateway::options::Options;
use gateway::wire::error_code::ErrorCode;
use gateway::wire::guard;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, ResponseKind, TopicName,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

struct Gateway {
    app: App,
    _folder: tempfile::TempDir,
}

async fn start(kafka: &[(&str, &str)]) -> Gateway {
    let folder = tempfile::tempdir().expect("a folder for the data");
    let options = Options {
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        data: folder.path().to_owned(),
        kafka: kafka.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Options::default()
    };
    Gateway { app: App::start(options).await.expect("the gateway starts"), _folder: folder }
}

impl Gateway {
    async fn client(&self) -> RawClient {
        RawClient::connect(self.app.address).await.expect("the gateway accepts")
    }

    /// Whether a well-behaved client is served.
    async fn serves(&self) -> bool {
        let mut client = self.client().await;
        is_served(&mut client).await
    }
}

async fn is_served(client: &mut RawClient) -> bool {
    let answer = client.ask(3, &named()).await.expect("the gateway answers");
    answer.error_code == 0 && answer.api_keys.len() == TABLE.len()
}

/// ApiVersions as a client asks it that has a name.
fn named() -> ApiVersionsRequest {
    let text = StrBytes::from_static_str("raw");
    ApiVersionsRequest::default().with_client_software_name(text.clone()).with_client_software_version(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let gateway = start(&[]).await;
    for version in [5, 99, i16::MAX, -1] {
        let mut client = gateway.client().await;
        client.send_bytes(&raw_frame(18, version, 77, &[0])).await.unwrap();
        let mut answer = client.receive_frame().await.unwrap();
        assert_eq!(answer.get_i32(), 77);
        let answer = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
        assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
        assert!(answer.api_keys.iter().any(|api| (api.api_key, api.min_version, api.max_version) == (18, 0, 4)));
        assert!(is_served(&mut client).await, "the client asks again on the same connection");
    }
    let nameless = gateway.client().await.ask(3, &ApiVersionsRequest::default()).await.unwrap();
    assert_eq!(nameless.error_code, ErrorCode::InvalidRequest.code());
    gateway.app.stop().await;
}

/// Produce is told from version 0 (KAFKA-18659), and so answered from version 0.
#[tokio::test(flavor = "multi_thread")]
async fn old_produces_are_told_and_refused() {
    let gateway = start(&[]).await;
    let mut client = gateway.client().await;
    let told = client.ask(0, &ApiVersionsRequest::default()).await.unwrap();
    let produce = told.api_keys.iter().find(|api| api.api_key == 0).unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
    let body = b"\x00\x01\x00\x00\x03\xe8\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\x00\x00\x00\x05\x00\x00\x00\x02xx";
    client.send_bytes(&raw_frame(0, 1, 8, body)).await.unwrap();
    let answer = client.receive_frame().await.unwrap();
    let error = i16::from_be_bytes([answer[19], answer[20]]);
    assert_eq!((answer.len(), error), (33, ErrorCode::UnsupportedVersion.code()));
    let silent = [b"\x00\x00", &body[2..]].concat();
    client.send_bytes(&raw_frame(0, 1, 9, &silent)).await.unwrap();
    assert!(client.is_closed().await, "acks=0 has no other answer to an error");
    gateway.app.stop().await;
}

/// Every advertised version of every API is answered in that version, by number and in whole (P3).
#[tokio::test(flavor = "multi_thread")]
async fn every_advertised_version_is_answered() {
    let gateway = start(&[]).await;
    let mut client = gateway.client().await;
    for entry in TABLE {
        let shape = guard::shape(entry.key as i16).unwrap();
        for version in entry.versions.clone() {
            let request = match entry.key {
                ApiKey::Produce => frame(version, 5, &a_produce(version)).unwrap(),
                _ => headed(entry.key, version, &smallest(shape, version)),
            };
            client.send_bytes(&request).await.unwrap();
            let what = format!("{} {version}", entry.name());
            let mut answer = client.receive_frame().await.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(answer.get_i32(), 5, "{what}");
            if entry.key.response_header_version(version) >= 1 {
                assert_eq!(answer.get_u8(), 0, "{what}");
            }
            // Version 11 has the shape of 10, which is the last that the message crate knows.
            let shape = if entry.key == ApiKey::ListOffsets { version.min(10) } else { version };
            ResponseKind::decode(entry.key, &mut answer, shape).unwrap_or_else(|error| panic!("{what}: {error:#}"));
            assert!(answer.is_empty(), "{what}: {} bytes behind", answer.len());
        }
    }
    gateway.app.stop().await;
}

/// The header of the request's version, then the body.
fn headed(key: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let flexible = key.request_header_version(version) >= 2;
    raw_frame(key as i16, version, 5, &[if flexible { &[0][..] } else { &[] }, body].concat())
}

fn a_produce(version: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"no batch")));
    let mut topic = TopicProduceData::default().with_partition_data(vec![partition]);
    if version < 13 {
        topic.name = TopicName(StrBytes::from_static_str("t"));
    }
    ProduceRequest::default().with_acks(1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_closes_its_connection_and_no_other() {
    let gateway = start(&[]).await;
    let mut witness = gateway.client().await;
    let metadata = frame(1, 1, &MetadataRequest::default().with_topics(None)).unwrap();
    let with_length = |len: i32| [&len.to_be_bytes()[..], &metadata[4..]].concat();
    // A byte behind the last field does no harm: Kafka ignores it, and librdkafka sends some.
    witness.send_bytes(&[&with_length(metadata.len() as i32 - 3)[..], &[0]].concat()).await.unwrap();
    witness.receive_frame().await.unwrap();
    let cases: &[(&str, Vec<u8>)] = &[
        ("an unknown key", raw_frame(999, 0, 1, &[]).to_vec()),
        ("a negative key", raw_frame(-1, 0, 1, &[]).to_vec()),
        ("a key between brokers", raw_frame(4, 0, 1, &[0; 20]).to_vec()),
        ("an unknown version", raw_frame(3, 14, 1, &[0; 20]).to_vec()),
        ("a negative version", raw_frame(3, -1, 1, &[0; 20]).to_vec()),
        ("a negative length", with_length(-1)),
        ("no length", with_length(0)),
        ("a length below a header", with_length(9)),
        ("a length beyond all", with_length(i32::MAX)),
        ("a length beyond the API's", with_length(3 << 20)),
        ("a count beyond the frame", raw_frame(3, 1, 1, &[0x7f, 0xff, 0xff, 0xff]).to_vec()),
        ("text that is none", raw_frame(3, 1, 1, b"\x00\x00\x00\x01\x00\x02\xff\xfe").to_vec()),
        ("another protocol", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut client = gateway.client().await;
        client.send_bytes(bytes).await.unwrap();
        assert!(client.is_closed().await, "{what}");
        assert!(is_served(&mut witness).await, "after {what}");
    }
    gateway.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_frames_and_slow_senders_harm_no_one() {
    let gateway = start(&[]).await;
    let request = frame(1, 1, &MetadataRequest::default().with_topics(None)).unwrap();
    let mut halves = Vec::new();
    for len in 1..request.len() {
        let mut client = gateway.client().await;
        client.send_bytes(&request[..len]).await.unwrap();
        halves.push(client);
    }
    assert!(gateway.serves().await, "while halves are waited for");
    for client in &mut halves {
        client.finish().await.unwrap();
        assert!(client.is_closed().await);
    }
    let mut slow = gateway.client().await;
    slow.send_slowly(&request, Duration::from_millis(5)).await.unwrap();
    assert_eq!(slow.receive_frame().await.unwrap().get_i32(), 1);
    gateway.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_answered_in_order() {
    let gateway = start(&[]).await;
    let mut client = gateway.client().await;
    let metadata = MetadataRequest::default().with_topics(None);
    let mut sent = Vec::new();
    for round in 0..150 {
        let one = match round % 3 {
            0 => client.send(12, &metadata).await,
            1 => client.send(3, &named()).await,
            _ => client.send(9, &a_produce(9)).await,
        };
        sent.push((round, one.unwrap()));
    }
    for (round, one) in sent {
        match round % 3 {
            0 => drop(client.receive::<MetadataRequest>(one).await.unwrap()),
            1 => drop(client.receive::<ApiVersionsRequest>(one).await.unwrap()),
            _ => drop(client.receive::<ProduceRequest>(one).await.unwrap()),
        }
    }
    gateway.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_from_one_address_are_capped() {
    let gateway = start(&[("max.connections.per.ip", "3")]).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = gateway.client().await;
        assert!(is_served(&mut client).await);
        held.push(client);
    }
    assert!(gateway.client().await.is_closed().await);
    for client in &mut held {
        assert!(is_served(client).await, "those that are there stay");
    }
    held.pop();
    // The gateway learns of the leaving a moment later.
    for _ in 0..3_000 {
        let mut client = gateway.client().await;
        if client.ask(3, &named()).await.is_ok() {
            return gateway.app.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the place of a client that left is not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_closes_connections_in_bounded_time() {
    let gateway = start(&[]).await;
    let mut idle = gateway.client().await;
    assert!(is_served(&mut idle).await);
    let address = gateway.app.address;
    tokio::time::timeout(Duration::from_secs(20), gateway.app.stop()).await.unwrap();
    assert!(idle.is_closed().await);
    assert!(RawClient::connect(address).await.is_err(), "no one listens");
}
