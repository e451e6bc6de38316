//! What a batch gets, over a real socket from a real process: each bad batch its Kafka error, the batch beside it its offset.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use compat_tests::harness::{Gateway, Setup};
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{
    PRODUCE_VERSION, create_topic, fetch_one, new_producer, produce, produce_one, produced, read_all, topic_name,
};
use gateway::limits::INFLATED_BATCH_BYTES;
use gateway::wire::error_code::ErrorCode;
use gateway::wire::error_code::ErrorCode::None as None_;
use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::protocol::StrBytes;
use metadata::clock::{Clock, SystemClock};
use metadata::model::batch::{BatchView, ProducerStamp, seal};
use metadata::model::ids::ProducerId;
use storage::codec::compression::Codec;
use storage::codec::inflate_batch;
use storage::codec::records::RecordsBuilder;
use tokio::task::JoinSet;
use uuid::Uuid;

const TOPIC: &str = "batches";
const TIME: i64 = 1_700_000_000_000;
const WAIT_MS: i32 = 30_000;

fn builder() -> RecordsBuilder {
    RecordsBuilder::new().record(TIME, Some(b"k"), Some(b"v")).record(TIME, None, None)
}

/// A good batch with some bytes changed and the checksum renewed.
fn changed(at: usize, with: &[u8]) -> Bytes {
    let mut bytes = BytesMut::from(&builder().build()[..]);
    bytes[at..at + with.len()].copy_from_slice(with);
    seal(&mut bytes);
    bytes.freeze()
}

fn unsealed(at: usize) -> Bytes {
    let mut bytes = builder().build().to_vec();
    bytes[at] ^= 0x01;
    bytes.into()
}

async fn start() -> (Gateway, RawClient) {
    let gateway = Setup::new().unwrap().start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 2, &[]).await.unwrap(), 0);
    (gateway, client)
}

fn end(gateway: &Gateway) {
    assert!(!gateway.stderr().contains("panicked"), "{}", gateway.stderr());
}

/// The code of a batch that goes to partition 0 of a topic, with a good one for partition 1 of [`TOPIC`] in the same request.
async fn code(client: &mut RawClient, version: i16, topic: &str, records: Option<Bytes>) -> io::Result<i16> {
    let mut request = produce(topic, -1, WAIT_MS, vec![(0, records)]);
    request.topic_data.extend(produce(TOPIC, -1, WAIT_MS, vec![(1, Some(builder().build()))]).topic_data);
    let answer = client.ask(version, &request).await?;
    let mut parts = produced(&answer);
    let (bad, good) = (parts.next().unwrap(), parts.next().unwrap());
    assert!(good.error_code == 0 && good.base_offset >= 0, "the neighbour: {good:?}");
    assert!(bad.error_code == 0 || bad.base_offset == -1, "an offset with an error: {bad:?}");
    Ok(bad.error_code)
}

#[tokio::test]
async fn each_bad_batch_gets_its_error_and_its_neighbour_its_offset() {
    let (gateway, mut client) = start().await;
    let small = [("max.message.bytes", "200")];
    assert_eq!(create_topic(&mut client, "small", 1, &small).await.unwrap(), 0);
    let timed = [("message.timestamp.before.max.ms", "1000")];
    assert_eq!(create_topic(&mut client, "timed", 1, &timed).await.unwrap(), 0);
    let good = builder().build();
    let twice = Bytes::from([&good[..], &good[..]].concat());
    let mut old = good.to_vec();
    old[16] = 1;
    let large = RecordsBuilder::new().record(TIME, None, Some(&[7; 400]));
    let mut large_and_broken = large.clone().build().to_vec();
    large_and_broken[100] ^= 1;
    let stamp = |base_sequence| ProducerStamp { id: ProducerId(7), epoch: 0, base_sequence, transactional: false };
    let no_epoch = ProducerStamp { epoch: -1, ..stamp(0) };
    let zstd = builder().codec(Codec::Zstd).build();
    let mut nested = BytesMut::from(&zstd[..]);
    let inside = nested.len() - 4;
    nested[inside] ^= 0xff;
    seal(&mut nested);
    use ErrorCode::{
        CorruptMessage, InvalidRecord, InvalidTimestamp, MessageTooLarge, UnknownTopicOrPartition,
        UnsupportedCompressionType,
    };
    let rows: Vec<(&str, &str, i16, Option<Bytes>, ErrorCode)> = vec![
        ("no batch", TOPIC, 12, None, InvalidRecord),
        ("an empty one", TOPIC, 12, Some(Bytes::new()), InvalidRecord),
        ("two", TOPIC, 12, Some(twice), InvalidRecord),
        ("a short one of magic 1", TOPIC, 12, Some(old[..40].to_vec().into()), InvalidRecord),
        ("magic 1", TOPIC, 12, Some(old.into()), InvalidRecord),
        ("half of one", TOPIC, 12, Some(good.slice(..good.len() - 3)), CorruptMessage),
        ("a base offset", TOPIC, 12, Some(changed(0, &9_i64.to_be_bytes())), InvalidRecord),
        ("too large", "small", 12, Some(large.build()), MessageTooLarge),
        ("too large before its checksum", "small", 12, Some(large_and_broken.into()), MessageTooLarge),
        ("a wrong checksum", TOPIC, 12, Some(unsealed(70)), CorruptMessage),
        ("no records", TOPIC, 12, Some(changed(57, &0_i32.to_be_bytes())), InvalidRecord),
        ("a negative count", TOPIC, 12, Some(changed(57, &(-1_i32).to_be_bytes())), InvalidRecord),
        ("a count beyond all", TOPIC, 12, Some(changed(57, &i32::MAX.to_be_bytes())), InvalidRecord),
        ("another last delta", TOPIC, 12, Some(changed(23, &5_i32.to_be_bytes())), InvalidRecord),
        ("three told, two there", TOPIC, 12, Some(lying(3)), InvalidRecord),
        ("one told, two there", TOPIC, 12, Some(lying(1)), InvalidRecord),
        ("a control batch", TOPIC, 12, Some(builder().control().build()), InvalidRecord),
        ("no sequence", TOPIC, 12, Some(builder().stamp(stamp(-1)).build()), InvalidRecord),
        ("codec 7", TOPIC, 12, Some(changed(21, &7_i16.to_be_bytes())), UnsupportedCompressionType),
        ("zstd in version 6", TOPIC, 6, Some(zstd), UnsupportedCompressionType),
        ("broken zstd", TOPIC, 12, Some(nested.freeze()), InvalidRecord),
        ("no epoch", TOPIC, 12, Some(builder().stamp(no_epoch).build()), InvalidRecord),
        ("too old", "timed", 12, Some(good.clone()), InvalidTimestamp),
        ("too new", TOPIC, 12, Some(RecordsBuilder::new().record(i64::MAX, None, None).build()), InvalidTimestamp),
        ("an unknown topic", "unknown", 12, Some(good.clone()), UnknownTopicOrPartition),
        ("a good one", TOPIC, 12, Some(good), None_),
    ];
    for (what, topic, version, records, wanted) in rows {
        let got = code(&mut client, version, topic, records).await.unwrap();
        assert_eq!(ErrorCode::from_code(got), Some(wanted), "{what}");
    }
    assert_eq!(read_all(&mut client, TOPIC, 0).await.unwrap().len(), 2, "only the good one is there");
    end(&gateway);
}

/// The whole batch fails, and the answer names the records at fault by their place in it (KIP-467).
#[tokio::test]
async fn records_at_fault_are_named() {
    let (gateway, mut client) = start().await;
    let keyed = [("cleanup.policy", "compact")];
    assert_eq!(create_topic(&mut client, "keyed", 1, &keyed).await.unwrap(), 0);
    let timed = [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000")];
    assert_eq!(create_topic(&mut client, "timed", 1, &timed).await.unwrap(), 0);
    let now = SystemClock.now_ms();
    let times = [now, now - 60_000, now, now + 60_000];
    let times = times.into_iter().fold(RecordsBuilder::new(), |batch, time| batch.record(time, None, Some(b"v")));
    let keys = [Some(&b"k"[..]), None, Some(b""), None];
    let keys = keys.into_iter().fold(RecordsBuilder::new(), |batch, key| batch.record(TIME, key, Some(b"v")));
    for (topic, batch, wanted) in
        [("keyed", keys, ErrorCode::InvalidRecord), ("timed", times, ErrorCode::InvalidTimestamp)]
    {
        for codec in [Codec::None, Codec::Zstd] {
            let batch = batch.clone().codec(codec).build();
            let got = produce_one(&mut client, topic, 0, batch).await.unwrap();
            let at_fault: Vec<_> = got.record_errors.iter().map(|record| record.batch_index).collect();
            let told = (ErrorCode::from_code(got.error_code), got.base_offset, at_fault);
            assert_eq!(told, (Some(wanted), -1, vec![1, 3]), "{topic}, {codec}");
            assert!(got.record_errors.iter().all(|record| record.batch_index_error_message.is_some()));
        }
        assert!(read_all(&mut client, topic, 0).await.unwrap().is_empty(), "{topic}");
    }
    let tombstone = RecordsBuilder::new().record(TIME, Some(b"k"), None).build();
    assert_eq!(produce_one(&mut client, "keyed", 0, tombstone).await.unwrap().error_code, 0);
    end(&gateway);
}

/// A partition that is not there, and a topic id that nobody has, beside one that is good.
#[tokio::test]
async fn unknown_partitions_and_ids_fail_alone() {
    let (gateway, mut client) = start().await;
    let good = || Some(builder().build());
    let request = produce(TOPIC, -1, WAIT_MS, vec![(2, good()), (-1, good()), (0, good())]);
    let answer = client.ask(PRODUCE_VERSION, &request).await.unwrap();
    let told: Vec<_> = produced(&answer).map(|p| (p.index, p.error_code, p.base_offset)).collect();
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(told, [(2, unknown, -1), (-1, unknown, -1), (0, 0, 0)]);
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let metadata = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic]))).await.unwrap();
    let mut request = produce("", -1, WAIT_MS, vec![(0, good())]);
    request.topic_data.extend(request.topic_data.clone());
    request.topic_data[0].topic_id = Uuid::from_u128(7);
    request.topic_data[1].topic_id = metadata.topics[0].topic_id;
    let answer = client.ask(13, &request).await.unwrap();
    let told: Vec<_> = produced(&answer).map(|p| (p.error_code, p.base_offset)).collect();
    assert_eq!(told, [(ErrorCode::UnknownTopicId.code(), -1), (0, 2)]);
    end(&gateway);
}

/// The gateway's time goes into the batch before it is stored, and a duplicate is told the time of its original.
#[tokio::test]
async fn append_time_is_that_of_the_first_append() {
    let (gateway, mut client) = start().await;
    let stamping = [("message.timestamp.type", "LogAppendTime")];
    assert_eq!(create_topic(&mut client, "stamped", 1, &stamping).await.unwrap(), 0);
    let (id, epoch) = new_producer(&mut client).await.unwrap();
    let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence: 0, transactional: false };
    let batch = builder().codec(Codec::Lz4).stamp(stamp).build();
    let first = produce_one(&mut client, "stamped", 0, batch.clone()).await.unwrap();
    assert_eq!((first.error_code, first.base_offset), (0, 0));
    assert!(first.log_append_time_ms > TIME, "{first:?}");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let again = produce_one(&mut client, "stamped", 0, batch).await.unwrap();
    let told = (again.error_code, again.base_offset, again.log_append_time_ms);
    assert_eq!(told, (0, 0, first.log_append_time_ms), "a duplicate");
    let got = fetch_one(&mut client, "stamped", 0, 0).await.unwrap().records.unwrap();
    let stored = BatchView::first(&got).unwrap();
    assert!(stored.crc_is_valid() && stored.is_log_append_time() && stored.bytes().len() == got.len());
    assert_eq!(stored.max_timestamp(), first.log_append_time_ms);
    end(&gateway);
}

/// A topic's own codec takes the place of the producer's; the records stay what they are.
#[tokio::test]
async fn a_topics_codec_takes_the_place_of_the_producers() {
    let (gateway, mut client) = start().await;
    let plain = builder().build();
    let codecs = [("zstd", Codec::Zstd), ("gzip", Codec::Gzip), ("uncompressed", Codec::None)];
    for (name, wanted) in codecs {
        assert_eq!(create_topic(&mut client, name, 1, &[("compression.type", name)]).await.unwrap(), 0);
        for sent in Codec::ALL {
            let produced = produce_one(&mut client, name, 0, builder().codec(sent).build()).await.unwrap();
            let got = fetch_one(&mut client, name, 0, produced.base_offset).await.unwrap().records.unwrap();
            let stored = BatchView::first(&got).unwrap();
            assert!(stored.crc_is_valid());
            assert_eq!(Codec::of(&stored).unwrap(), wanted, "{sent} to {name}");
            assert_eq!(inflate_batch(&stored, 1000).unwrap(), BatchView::first(&plain).unwrap().records(), "{sent}");
        }
    }
    end(&gateway);
}

/// Two records, another count; the header agrees with itself.
fn lying(count: i32) -> Bytes {
    let mut bytes = BytesMut::from(&builder().build()[..]);
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    seal(&mut bytes);
    bytes.freeze()
}

#[tokio::test]
async fn sequences_are_held_to_and_duplicates_get_their_first_offset() {
    let (gateway, mut client) = start().await;
    let (id, epoch) = new_producer(&mut client).await.unwrap();
    let batch = |epoch, base_sequence| {
        let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence, transactional: false };
        RecordsBuilder::new().record(TIME, None, Some(b"x")).stamp(stamp).build()
    };
    let rows: &[(&str, i16, i32, ErrorCode, i64)] = &[
        ("unknown: any sequence", epoch, i32::MAX - 2, None_, 0),
        ("the next", epoch, i32::MAX - 1, None_, 1),
        ("a gap", epoch, 5, ErrorCode::OutOfOrderSequenceNumber, -1),
        ("the last there is", epoch, i32::MAX, None_, 2),
        ("wraps", epoch, 0, None_, 3),
        ("on", epoch, 1, None_, 4),
        ("five back", epoch, i32::MAX - 2, None_, 0),
        ("the last again", epoch, 1, None_, 4),
        ("on", epoch, 2, None_, 5),
        ("six back", epoch, i32::MAX - 2, ErrorCode::OutOfOrderSequenceNumber, -1),
        ("a new epoch not from 0", epoch + 1, 3, ErrorCode::OutOfOrderSequenceNumber, -1),
        ("a new epoch", epoch + 1, 0, None_, 6),
        ("the old epoch", epoch, 3, ErrorCode::InvalidProducerEpoch, -1),
    ];
    for (what, epoch, sequence, wanted, offset) in rows {
        let got = produce_one(&mut client, TOPIC, 0, batch(*epoch, *sequence)).await.unwrap();
        assert_eq!((ErrorCode::from_code(got.error_code), got.base_offset), (Some(*wanted), *offset), "{what}");
    }
    assert_eq!(read_all(&mut client, TOPIC, 0).await.unwrap().len(), 7);
    end(&gateway);
}

/// A batch of a transaction.
fn transactional(id: i64, epoch: i16) -> Bytes {
    let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence: 0, transactional: true };
    builder().stamp(stamp).build()
}

#[tokio::test]
async fn what_belongs_to_no_transaction_is_refused() {
    use ErrorCode::{
        InvalidProducerIdMapping, InvalidRecord, InvalidTxnState, TransactionalIdAuthorizationFailed as NotAllowed,
    };
    let (gateway, mut client) = start().await;
    let (id, epoch) = new_producer(&mut client).await.unwrap();
    let plain = builder().build();
    let without = transactional(-1, -1);
    let rows = [
        ("no transactional id", None, vec![transactional(id, epoch)], vec![NotAllowed]),
        ("none, and a plain one beside", None, vec![transactional(id, epoch), plain.clone()], vec![NotAllowed; 2]),
        ("no open transaction", Some("t"), vec![transactional(id, epoch)], vec![InvalidTxnState]),
        (
            "none, and a plain one beside",
            Some("t"),
            vec![transactional(id, epoch), plain],
            vec![InvalidTxnState, None_],
        ),
        ("no producer id", Some("t"), vec![without.clone()], vec![InvalidRecord]),
        ("neither id", None, vec![without], vec![NotAllowed]),
        (
            "two producers",
            Some("t"),
            vec![transactional(id, epoch), transactional(id + 1, 0)],
            vec![InvalidProducerIdMapping; 2],
        ),
    ];
    let mut good = 0;
    for (what, transactional_id, batches, wanted) in rows {
        let batches = (0..).zip(batches.into_iter().map(Some)).collect();
        let mut request = produce(TOPIC, -1, WAIT_MS, batches);
        request.transactional_id = transactional_id.map(|id| StrBytes::from_static_str(id).into());
        let answer = client.ask(PRODUCE_VERSION, &request).await.unwrap();
        let got: Vec<_> = produced(&answer).map(|p| ErrorCode::from_code(p.error_code)).collect();
        assert_eq!(got, wanted.iter().copied().map(Some).collect::<Vec<_>>(), "{what}");
        for partition in produced(&answer) {
            assert_eq!(partition.base_offset, if partition.error_code == 0 { 0 } else { -1 }, "{what}");
        }
        good += wanted.iter().filter(|code| **code == None_).count();
    }
    assert!(read_all(&mut client, TOPIC, 0).await.unwrap().is_empty());
    assert_eq!(read_all(&mut client, TOPIC, 1).await.unwrap().len(), 2 * good);
    end(&gateway);
}

/// A batch that inflates to this many bytes and a few.
fn inflating(codec: Codec, bytes: usize) -> Bytes {
    RecordsBuilder::new().record(TIME, None, Some(&vec![0; bytes])).codec(codec).build()
}

/// Few bytes that inflate to many take the memory of one inflated batch for each thread that checks batches, however many clients
/// send them; they get their error, and nobody else notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_inflates_past_the_cap_is_refused_in_bounded_memory() {
    const THREADS: u64 = 2;
    let gateway = Setup::new().unwrap().env("TOKIO_WORKER_THREADS", THREADS.to_string()).start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    // Snappy is no good at it: 22 to 1 at most.
    let large = (16 << 20).to_string();
    assert_eq!(create_topic(&mut client, TOPIC, 2, &[("max.message.bytes", &large)]).await.unwrap(), 0);
    let codecs = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let bombs = codecs.map(|codec| inflating(codec, INFLATED_BATCH_BYTES));
    let before = gateway.rss().unwrap();
    let mut senders = JoinSet::new();
    for _ in 0..6 {
        let (mut client, bombs) = (gateway.client().await.unwrap(), bombs.clone());
        senders.spawn(async move {
            for (bomb, codec) in bombs.into_iter().zip(codecs) {
                let got = code(&mut client, PRODUCE_VERSION, TOPIC, Some(bomb)).await.unwrap();
                assert_eq!(ErrorCode::from_code(got), Some(ErrorCode::InvalidRecord), "{codec}");
            }
        });
    }
    let (mut others, mut slowest) = (0, Duration::ZERO);
    while !senders.is_empty() {
        let begun = Instant::now();
        assert_eq!(produce_one(&mut client, TOPIC, 1, builder().build()).await.unwrap().error_code, 0);
        slowest = slowest.max(begun.elapsed());
        others += 1;
        while let Some(ended) = senders.try_join_next() {
            ended.unwrap();
        }
    }
    let peak = gateway.rss_peak().unwrap();
    let allowed = before + THREADS * INFLATED_BATCH_BYTES as u64 * 3 / 2;
    println!(
        "{} MiB before, {} at most, {} allowed; {others} others, {slowest:?}",
        before >> 20,
        peak >> 20,
        allowed >> 20
    );
    assert!(peak <= allowed, "{before} before, {peak} at most, {allowed} allowed");
    assert!(others > 3 && slowest < Duration::from_secs(20), "{others} others, {slowest:?}");
    let most = inflating(Codec::Zstd, INFLATED_BATCH_BYTES - 100);
    assert_eq!(produce_one(&mut client, TOPIC, 0, most).await.unwrap().error_code, 0, "just below the cap");
    end(&gateway);
}

#[tokio::test]
async fn acks_are_minus_one_zero_or_one() {
    let (gateway, mut client) = start().await;
    for acks in [2, -2, i16::MAX] {
        let request = produce(TOPIC, acks, WAIT_MS, vec![(0, Some(builder().build()))]);
        let answer = client.ask(PRODUCE_VERSION, &request).await.unwrap();
        let got = produced(&answer).next().unwrap();
        assert_eq!(got.error_code, ErrorCode::InvalidRequiredAcks.code(), "{acks}");
        assert_eq!(got.base_offset, -1);
    }
    // Nothing is heard of a good one; of a bad one the connection tells.
    client.send(PRODUCE_VERSION, &produce(TOPIC, 0, WAIT_MS, vec![(0, Some(builder().build()))])).await.unwrap();
    let one = produce_one(&mut client, TOPIC, 0, builder().build()).await.unwrap();
    assert_eq!((one.error_code, one.base_offset), (0, 2), "the silent one came before");
    client.send(PRODUCE_VERSION, &produce(TOPIC, 0, WAIT_MS, vec![(0, Some(unsealed(70)))])).await.unwrap();
    assert!(client.is_closed().await);
    end(&gateway);
}
