//! Frames whole, cut, slow, wrong.

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

use super::*;

const IDLE: Duration = Duration::from_secs(600);
const DEADLINE: Duration = Duration::from_secs(30);

fn pair() -> (DuplexStream, FrameReader<DuplexStream>, Budget) {
    let (client, server) = duplex(64 << 10);
    (client, FrameReader::new(server, DEADLINE), Budget::new(1 << 20, Gauge::default()))
}

/// API 3 in version 1 is served with up to a mebibyte, nothing else.
fn cap(fixed: Fixed) -> Option<usize> {
    (fixed.key == 3 && fixed.version == 1).then_some(1 << 20)
}

fn frame(body: usize) -> Vec<u8> {
    let mut bytes = (body as i32 + 8).to_be_bytes().to_vec();
    bytes.extend([0, 3, 0, 1, 0, 0, 0, 9]);
    bytes.extend((0..body).map(|at| at as u8));
    bytes
}

#[tokio::test]
async fn frames_of_all_sizes_in_pieces_of_all_sizes() {
    for piece in [1, 7, 4096, 1 << 20] {
        let (mut client, mut reader, memory) = pair();
        let sizes =
            if piece == 1 { &[2, 5, 300][..] } else { &[2, 4076, 4084, 4085, 9, 300_000, 3, 70_000, 1_000_000][..] };
        let all: Vec<u8> = sizes.iter().flat_map(|size| frame(*size)).collect();
        let sent = tokio::spawn(async move {
            for piece in all.chunks(piece) {
                client.write_all(piece).await.unwrap();
            }
            client
        });
        for size in sizes {
            let got = reader.next(IDLE, cap, &memory).await.unwrap();
            assert_eq!(got.bytes, frame(*size)[4..], "{size} in pieces of {piece}");
        }
        drop(sent.await.unwrap());
        assert!(matches!(reader.next(IDLE, cap, &memory).await, Err(FrameError::End)));
    }
}

#[tokio::test]
async fn lengths_no_request_has_are_refused_at_once() {
    for len in [-1, i32::MIN, 0, 9, FRAME_BYTES_MAX as i32 + 1, i32::MAX] {
        let (mut client, mut reader, memory) = pair();
        client.write_all(&len.to_be_bytes()).await.unwrap();
        let got = reader.next(IDLE, cap, &memory).await;
        assert!(matches!(got, Err(FrameError::Length(refused)) if refused == len), "{len}: {got:?}");
    }
}

#[tokio::test]
async fn the_cap_of_the_api_holds_before_the_body_comes() {
    let (mut client, mut reader, memory) = pair();
    client.write_all(&frame(1 << 20)[..12]).await.unwrap();
    assert!(matches!(reader.next(IDLE, cap, &memory).await, Err(FrameError::Large { cap: 0x10_0000, key: 3, .. })));
    let (mut client, mut reader, memory) = pair();
    client.write_all(b"\x00\x00\x00\x20\x00\x03\x00\x02....").await.unwrap();
    assert!(matches!(reader.next(IDLE, cap, &memory).await, Err(FrameError::Unserved(3, 2))));
}

#[tokio::test]
async fn a_cut_frame_is_told_from_an_end() {
    let whole = frame(20);
    for len in 1..whole.len() {
        let (mut client, mut reader, memory) = pair();
        client.write_all(&whole[..len]).await.unwrap();
        drop(client);
        assert!(matches!(reader.next(IDLE, cap, &memory).await, Err(FrameError::Cut)), "{len}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_frames_and_silence_have_a_deadline() {
    let (mut client, mut reader, memory) = pair();
    assert!(matches!(reader.next(IDLE, cap, &memory).await, Err(FrameError::Idle(_))));
    let slow = tokio::spawn(async move {
        for byte in frame(100) {
            if client.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    });
    let since = tokio::time::Instant::now();
    assert!(matches!(reader.next(IDLE, cap, &memory).await, Err(FrameError::Slow(_))));
    assert!(since.elapsed() <= 2 * DEADLINE + Duration::from_secs(3), "{:?}", since.elapsed());
    slow.abort();
}

#[tokio::test(start_paused = true)]
async fn without_memory_the_body_is_not_read() {
    let (mut client, mut reader, memory) = pair();
    let all = memory.take(1 << 20).await;
    client.write_all(&frame(50_000)).await.unwrap();
    let mut next = Box::pin(reader.next(IDLE, cap, &memory));
    assert!(
        tokio::time::timeout(10 * DEADLINE, &mut next).await.is_err(),
        "waiting for memory is not the client's fault"
    );
    drop(all);
    assert_eq!(next.await.unwrap().bytes.len(), 50_008);
}

#[tokio::test]
async fn who_announces_much_and_sends_little_holds_little() {
    let memory = Budget::new(1 << 20, Gauge::default());
    let mut silent = Vec::new();
    for _ in 0..20 {
        let (mut client, server) = duplex(64 << 10);
        client.write_all(&frame(1_000_000)[..20_000]).await.unwrap();
        let pool = memory.clone();
        let reading = tokio::spawn(async move {
            FrameReader::new(server, DEADLINE).next(IDLE, cap, &pool).await.map(|frame| frame.bytes.len())
        });
        silent.push((client, reading));
    }
    tokio::task::yield_now().await;
    let (mut client, server) = duplex(64 << 10);
    let mut reader = FrameReader::new(server, DEADLINE);
    let whole = frame(300_000);
    let sent = tokio::spawn(async move { client.write_all(&whole).await.map(|()| client) });
    let got = tokio::time::timeout(Duration::from_secs(5), reader.next(IDLE, cap, &memory)).await;
    assert_eq!(got.unwrap().unwrap().bytes.len(), 300_008);
    drop(sent.await.unwrap().unwrap());
    for (client, reading) in silent {
        drop(client);
        assert!(matches!(reading.await.unwrap(), Err(FrameError::Cut)));
    }
}
