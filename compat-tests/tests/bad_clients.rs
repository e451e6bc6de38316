//! A real gateway among many bad clients at once: its memory stays bounded, it never panics, and good clients are served
//! throughout (invariant P1).

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::harness::{Gateway, Setup};
use compat_tests::made_requests::{Random, any};
use compat_tests::raw_client::{RawClient, raw_frame};
use compat_tests::requests::{create_topic, produce_one, read_all};
use gateway::api::table::TABLE;
use gateway::limits::FRAME_DEADLINE;
use gateway::wire::guard;
use kafka_protocol::messages::ApiKey;
use storage::codec::records::RecordsBuilder;
use tokio::time::{sleep, timeout};

const TOPIC: &str = "witness";
const GROWTH_BYTES: u64 = 96 << 20;
/// Longest a good client may wait among bad ones, on a busy machine: less than what a bad one is given to end its frame.
const SERVED_WITHIN: Duration = Duration::from_secs(20);

async fn start() -> (Gateway, RawClient) {
    let gateway = Setup::new().unwrap().start().await.unwrap();
    let mut client = gateway.client().await.unwrap();
    assert_eq!(create_topic(&mut client, TOPIC, 1, &[]).await.unwrap(), 0);
    (gateway, client)
}

/// A record goes in and comes out, on this connection.
async fn is_served(client: &mut RawClient) {
    let value = RecordsBuilder::new().record(1_700_000_000_000, None, Some(b"served")).build();
    let work = async {
        let got = produce_one(client, TOPIC, 0, value).await.unwrap();
        assert_eq!(got.error_code, 0);
        let log = read_all(client, TOPIC, 0).await.unwrap();
        assert_eq!(log.len() as i64, got.base_offset + 1);
    };
    timeout(SERVED_WITHIN, work).await.expect("a good client is served in time");
}

fn judge(gateway: &Gateway, before: u64) {
    let after = gateway.rss().unwrap();
    assert!(after < before + GROWTH_BYTES, "grew from {before} to {after} bytes");
    let log = gateway.stderr();
    assert!(!log.contains("panicked"), "{log}");
}

/// Announces a hundred mebibytes, sends little, and stays.
#[tokio::test]
async fn announced_bytes_take_no_memory() {
    let (gateway, mut witness) = start().await;
    let before = gateway.rss().unwrap();
    let mut held = Vec::new();
    for _ in 0..200 {
        let mut client = gateway.client().await.unwrap();
        let mut bytes = raw_frame(ApiKey::Produce as i16, 12, 1, &[0; 1_000]).to_vec();
        bytes[..4].copy_from_slice(&(90_i32 << 20).to_be_bytes());
        client.send_bytes(&bytes).await.unwrap();
        held.push(client);
    }
    sleep(Duration::from_millis(300)).await;
    is_served(&mut witness).await;
    is_served(&mut gateway.client().await.unwrap()).await;
    judge(&gateway, before);
    drop(held);
    is_served(&mut witness).await;
}

/// A frame that does not come to its end closes its connection when its time is over; nobody else waits for it.
#[tokio::test]
async fn a_frame_has_its_deadline() {
    let (gateway, mut witness) = start().await;
    let begun = Instant::now();
    let mut slow = gateway.client().await.unwrap();
    let whole = raw_frame(ApiKey::Metadata as i16, 1, 1, &[0; 400]);
    let (mut bytes, mut sent) = (whole.chunks(4), 0);
    let closed = loop {
        is_served(&mut witness).await;
        let Some(piece) = bytes.next() else { break false };
        if slow.send_bytes(piece).await.is_err() {
            break true;
        }
        sent += piece.len();
        sleep(Duration::from_millis(500)).await;
    };
    let took = begun.elapsed();
    assert!(closed && sent < whole.len(), "{sent} bytes in {took:?}");
    assert!((FRAME_DEADLINE..FRAME_DEADLINE * 2).contains(&took), "{took:?}");
    judge(&gateway, gateway.rss().unwrap());
}

/// Bends a request: flips, cuts, lengthens, and puts counts where none can stand.
fn bend(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] = random.number() as u8,
            1 => bytes.truncate(at),
            2 => drop(bytes.splice(at..(at + 4).min(bytes.len()), [0x7f, 0xff, 0xff, 0xff])),
            3 => drop(bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f])),
            _ => bytes.extend((0..random.below(9)).map(|_| 0xff)),
        }
    }
    bytes
}

fn headed(key: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let tags = if key.request_header_version(version) >= 2 { &[0][..] } else { &[] };
    raw_frame(key as i16, version, 1, &[tags, body].concat())
}

/// Every API in its first and last version, bent; noise behind a length that fits; noise alone.
#[tokio::test]
async fn bent_requests_and_noise() {
    let (gateway, mut witness) = start().await;
    let mut random = Random(7);
    let before = gateway.rss().unwrap();
    for entry in TABLE {
        let shape = guard::shape(entry.key as i16).unwrap();
        for version in [*entry.versions.start(), *entry.versions.end()] {
            for _ in 0..8 {
                let body = any(shape, version, &mut random);
                let bent = headed(entry.key, version, &bend(&mut random, &body));
                send_and_leave(&gateway, &bent).await;
            }
        }
        is_served(&mut witness).await;
    }
    for _ in 0..100 {
        let noise: Vec<u8> = (0..random.below(300)).map(|_| random.number() as u8).collect();
        send_and_leave(&gateway, &noise).await;
        let key = random.below(70) as i16;
        send_and_leave(&gateway, &raw_frame(key, random.below(14) as i16, 1, &noise)).await;
    }
    is_served(&mut witness).await;
    judge(&gateway, before);
}

/// Sends, says that this was all, and waits for what comes: an answer, the end, or nothing while the gateway works on it.
async fn send_and_leave(gateway: &Gateway, bytes: &[u8]) {
    let mut client = gateway.client().await.unwrap();
    if client.send_bytes(bytes).await.is_ok() && client.finish().await.is_ok() {
        let _ = timeout(Duration::from_millis(30), client.receive_frame()).await;
    }
}
