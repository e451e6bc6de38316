//! Order, turns, caps and ends of a connection, with requests that end on command.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf, WriteHalf, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::budget::Budget;
use super::super::request::{Asked, Requests};
use super::*;
use crate::context::Peer;
use crate::metrics::Metrics;
use crate::wire::answer::Encoded;
use crate::wire::header::Fixed;

/// Requests that have begun: their number, and how to tell them their end.
type Waiting = Arc<Mutex<Vec<(i32, oneshot::Sender<End>)>>>;

/// API 0 runs together with its like, API 1 alone; both wait to be told how they end. API 2 is no request.
#[derive(Default)]
struct Told(Waiting);

impl Requests for Told {
    fn cap(&self, fixed: Fixed) -> Option<usize> {
        (fixed.key < 3).then_some(1 << 20)
    }

    fn open(&self, _caller: &mut Caller, frame: Bytes) -> Result<Asked, Malformed> {
        let fixed = Fixed::read(*frame.first_chunk().unwrap());
        let turn = match fixed.key {
            0 => Turn::Together,
            1 => Turn::Alone,
            _ => return Err(Malformed { api: "Told", why: "no request".into() }),
        };
        let waiting = Arc::clone(&self.0);
        let begin = async move {
            let (tell, told) = oneshot::channel();
            waiting.lock().unwrap().push((fixed.correlation_id, tell));
            Ok(Begun::Later(Box::pin(async move { told.await.unwrap_or(End::Silence) })))
        };
        Ok(Asked { api: "Told", turn, decoded: 0, begin: Box::pin(begin) })
    }
}

struct Client {
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
    waiting: Waiting,
    shared: Arc<Shared>,
    ended: JoinHandle<Closing>,
}

fn connect() -> Client {
    let waiting = Waiting::default();
    let metrics = Arc::new(Metrics::new(&mut Registry::default()));
    let memory = Budget::new(1 << 20, Gauge::default());
    let shared = Arc::new(Shared::new(Arc::new(Told(Arc::clone(&waiting))), metrics, memory));
    let (client, server) = duplex(16 << 10);
    let peer = Peer {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        listener: "test".into(),
        principal: "User:ANONYMOUS".into(),
    };
    let caller = Caller { peer: Arc::new(peer), client_id: "".into() };
    let of_task = Arc::clone(&shared);
    let ended = tokio::spawn(async move { serve(server, caller, &of_task).await });
    let (read, write) = tokio::io::split(client);
    Client { read, write, waiting, shared, ended }
}

impl Client {
    async fn send(&mut self, key: i16, number: i32) {
        let mut bytes = 10i32.to_be_bytes().to_vec();
        bytes.extend([&key.to_be_bytes()[..], &[0, 0], &number.to_be_bytes(), &[0xff, 0xff]].concat());
        self.write.write_all(&bytes).await.unwrap();
    }

    /// Numbers of the requests that have begun and not ended, once all is quiet.
    async fn begun(&self) -> Vec<i32> {
        for _ in 0..500 {
            tokio::task::yield_now().await;
        }
        self.waiting.lock().unwrap().iter().map(|(number, _)| *number).collect()
    }

    fn end(&self, number: i32, end: End) {
        let mut waiting = self.waiting.lock().unwrap();
        let place = waiting.iter().position(|(other, _)| *other == number).unwrap();
        waiting.remove(place).1.send(end).unwrap();
    }

    fn answer(&self, number: i32) {
        self.end(number, answer_of(number, 4));
    }

    async fn receive(&mut self) -> i32 {
        self.read.read_i32().await.unwrap()
    }
}

fn answer_of(number: i32, len: usize) -> End {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(len, 0);
    End::Answer(Encoded { chunks: vec![bytes.into()], len, hold: None }, 0)
}

#[tokio::test]
async fn answers_leave_in_request_order() {
    let mut client = connect();
    for number in 0..5 {
        client.send(0, number).await;
    }
    assert_eq!(client.begun().await, [0, 1, 2, 3, 4]);
    for number in [4, 2, 1, 3] {
        client.answer(number);
    }
    client.begun().await;
    assert!(client.read.read_i32().now_or_never().is_none(), "the first is not answered yet");
    client.answer(0);
    for number in 0..5 {
        assert_eq!(client.receive().await, number);
    }
}

#[tokio::test]
async fn a_hundred_run_together_and_the_next_waits() {
    let mut client = connect();
    for number in 0..103 {
        client.send(0, number).await;
    }
    assert_eq!(client.begun().await.len(), IN_FLIGHT_PER_CONNECTION as usize);
    client.answer(0);
    assert_eq!(client.receive().await, 0);
    assert_eq!(client.begun().await.last(), Some(&100));
}

#[tokio::test]
async fn who_runs_alone_waits_for_those_before_and_holds_those_behind() {
    let mut client = connect();
    for (key, number) in [(0, 0), (0, 1), (1, 2), (0, 3)] {
        client.send(key, number).await;
    }
    assert_eq!(client.begun().await, [0, 1]);
    client.answer(1);
    assert_eq!(client.begun().await, [0]);
    client.answer(0);
    assert_eq!(client.begun().await, [2]);
    client.answer(2);
    assert_eq!(client.begun().await, [3]);
}

#[tokio::test]
async fn silence_takes_no_place_among_the_answers() {
    let mut client = connect();
    for number in 0..3 {
        client.send(0, number).await;
    }
    client.begun().await;
    client.end(0, End::Silence);
    client.end(1, End::Silence);
    client.answer(2);
    assert_eq!(client.receive().await, 2);
}

#[tokio::test]
async fn a_close_comes_after_the_answers_before_it() {
    let mut client = connect();
    for number in 0..3 {
        client.send(0, number).await;
    }
    client.begun().await;
    client.end(1, End::Close("acks=0 failed".into()));
    client.answer(0);
    assert_eq!(client.receive().await, 0);
    assert!(client.read.read_i32().await.is_err());
    assert_eq!(client.ended.await.unwrap().to_string(), "Told: acks=0 failed");
}

#[tokio::test]
async fn what_is_no_request_closes_the_connection() {
    let mut client = connect();
    client.send(2, 0).await;
    assert!(matches!(client.ended.await.unwrap(), Closing::Malformed(_)));
    let mut client = connect();
    client.send(7, 0).await;
    assert!(matches!(client.ended.await.unwrap(), Closing::Frame(FrameError::Unserved(7, 0))));
}

#[tokio::test]
async fn a_client_that_leaves_drops_what_it_asked() {
    let mut client = connect();
    client.send(0, 0).await;
    client.begun().await;
    let Client { read, write, ended, waiting, shared, .. } = client;
    drop(read.unsplit(write));
    assert!(matches!(ended.await.unwrap(), Closing::Frame(FrameError::End)));
    assert!(waiting.lock().unwrap().iter().all(|(_, tell)| tell.is_closed()));
    assert_eq!(shared.metrics.request_memory.get(), 0, "its memory is given back");
}

#[tokio::test(start_paused = true)]
async fn idling_closes_and_waiting_for_an_answer_is_not_idling() {
    let mut client = connect();
    client.send(1, 0).await;
    client.begun().await;
    tokio::time::sleep(3 * client.shared.deadlines.idle).await;
    assert!(!client.ended.is_finished());
    client.answer(0);
    assert_eq!(client.receive().await, 0);
    tokio::time::sleep(3 * client.shared.deadlines.idle).await;
    assert!(matches!(client.ended.await.unwrap(), Closing::Frame(FrameError::Idle(_))));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_take_an_answer_is_closed() {
    let mut client = connect();
    client.send(1, 0).await;
    client.begun().await;
    client.end(0, answer_of(0, 1 << 20));
    let since = tokio::time::Instant::now();
    assert!(matches!(client.ended.await.unwrap(), Closing::Stalled { .. }));
    assert!(since.elapsed() < Duration::from_secs(60));
    assert_eq!(client.shared.metrics.answer_memory.get(), 0, "its memory is given back");
}

#[tokio::test]
async fn stopping_answers_what_is_in_flight_and_begins_nothing() {
    let mut client = connect();
    client.send(0, 0).await;
    client.begun().await;
    client.shared.stop.cancel();
    client.begun().await;
    client.send(0, 1).await;
    assert_eq!(client.begun().await, [0]);
    client.answer(0);
    assert_eq!(client.receive().await, 0);
    assert!(matches!(client.ended.await.unwrap(), Closing::Stopped));
}

#[tokio::test]
async fn many_chunks_leave_in_order() {
    let mut client = connect();
    client.send(0, 0).await;
    client.begun().await;
    let chunks: Vec<Bytes> = (0..1000u32).map(|at| Bytes::from(vec![at as u8; at as usize % 97])).collect();
    let expected = chunks.concat();
    client.end(0, End::Answer(Encoded { len: expected.len(), chunks, hold: None }, 0));
    let mut got = vec![0; expected.len()];
    client.read.read_exact(&mut got).await.unwrap();
    assert!(got == expected);
}
