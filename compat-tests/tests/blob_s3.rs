//! The S3 store against the tests' own strict server, well behaved and not.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::s3_server::faults::{Fault, RequestKind};
use compat_tests::s3_server::{S3Server, S3ServerOptions};
use futures_util::future::join_all;
use metadata::class::{Classify, ErrorClass};
use storage::blob::faulty::Delay;
use storage::blob::retry::{Retry, RetryOptions};
use storage::blob::s3::{S3Options, S3Store};
use storage::blob::{BlobError, BlobStore, Payload, contract};

async fn rig() -> (S3Server, S3Store) {
    let server = S3Server::start().await;
    // What is answered at all is answered within this on a busy machine, too.
    let options = S3Options { request_timeout: Duration::from_secs(3), ..server.store_options() };
    let store = S3Store::open(options).await.expect("the server is well behaved so far");
    (server, store)
}

fn patient(store: S3Store) -> Retry {
    let options = RetryOptions { first_pause: Duration::from_millis(5), ..RetryOptions::default() };
    Retry::new(Arc::new(store), options)
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let server = S3Server::start().await;
    contract::all(&S3Store::open(server.store_options()).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_below_a_prefix_and_stays_there() {
    let server = S3Server::start().await;
    server.tamper("elsewhere", Some(Bytes::from_static(b"x")));
    let options = S3Options { prefix: "cells/one".to_owned(), ..server.store_options() };
    let store = S3Store::open(options).await.unwrap();
    assert_eq!(store.list("", None, 10).await.unwrap(), []);
    contract::all(&store).await;
    assert!(server.contents().keys().all(|key| key == "elsewhere" || key.starts_with("cells/one/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_at_the_start_is_said_clearly() {
    let server = S3Server::start().await;
    let good = server.store_options();
    let credentials = |key: &str, secret: &str| Some((key.to_owned(), secret.to_owned()));
    let nobody_listens = "http://127.0.0.1:1".to_owned();
    let cases = [
        (S3Options { bucket: "missing".to_owned(), ..good.clone() }, &["bucket missing", "--bucket"][..]),
        (S3Options { credentials: credentials("AKIDNOBODY", "x"), ..good.clone() }, &["AWS_ACCESS_KEY_ID"]),
        (S3Options { credentials: credentials(server.access_key(), "x"), ..good.clone() }, &["AWS_SECRET_ACCESS_KEY"]),
        (S3Options { endpoint: Some(nobody_listens.clone()), ..good }, &[&nobody_listens, "--endpoint"]),
    ];
    for (options, words) in cases {
        let error = S3Store::open(options).await.unwrap_err();
        let text = error.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
        assert!(!text.contains(server.secret()), "{text}");
    }
    assert!(server.contents().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let server = S3Server::start().await;
    server.faults().black_hole(true);
    let options = S3Options { request_timeout: Duration::from_millis(200), ..server.store_options() };
    let start = Instant::now();
    let error = S3Store::open(options).await.unwrap_err();
    assert!(matches!(&error, BlobError::Unavailable(text) if text.contains("--endpoint")), "{error}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_their_absence_have_the_right_class() {
    let (server, store) = rig().await;
    store.put("k", Payload::from(vec![7; 100_000])).await.unwrap();
    for (fault, class) in [
        (Fault::SlowDown, ErrorClass::Retry),
        (Fault::InternalError, ErrorClass::Unknown),
        (Fault::DropBefore, ErrorClass::Unknown),
        (Fault::DropAfter, ErrorClass::Unknown),
        (Fault::Stall, ErrorClass::Unknown),
    ] {
        server.faults().next(RequestKind::Put, [fault]);
        let error = store.put("k", Payload::from(vec![8; 100_000])).await.unwrap_err();
        assert_eq!(error.class(), class, "{fault:?}: {error}");
        server.faults().next(RequestKind::Get, [fault]);
        let error = store.get("k").await.unwrap_err();
        assert_eq!(error.class(), class, "{fault:?}: {error}");
    }
    assert_eq!(store.get("k").await.unwrap(), vec![8; 100_000], "DropAfter did happen");
    server.faults().next(RequestKind::Create, [Fault::Conflict]);
    assert_eq!(store.put_new("new", Payload::default()).await.unwrap_err().class(), ErrorClass::Retry);
    // A body that breaks off was not read; one that is shorter than asked for is damage.
    server.faults().next(RequestKind::Get, [Fault::CutBody, Fault::ShortBody, Fault::ShortBody]);
    assert_eq!(store.get_range("k", 5..90_000).await.unwrap_err().class(), ErrorClass::Unknown);
    assert_eq!(store.get_range("k", 5..90_000).await.unwrap_err().class(), ErrorClass::Corrupt);
    assert!(store.get("k").await.unwrap().len() < 100_000, "only its own checksum can tell for a whole object");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_was_lost_knows_its_own_object() {
    let (server, store) = rig().await;
    let store = patient(store);
    server.faults().next(RequestKind::Create, [Fault::DropAfter]);
    store.put_new("ours", Payload::from(&b"mine"[..])).await.unwrap();
    assert_eq!(server.count(RequestKind::Create).requests, 2);
    server.tamper("theirs", Some(Bytes::from_static(b"them")));
    server.faults().next(RequestKind::Create, [Fault::DropBefore]);
    let error = store.put_new("theirs", Payload::from(&b"mine"[..])).await.unwrap_err();
    assert!(matches!(error, BlobError::AlreadyExists { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_weathered() {
    let (server, store) = rig().await;
    let store = patient(store);
    server.faults().set(|plan| {
        plan.slow_down = 0.3;
        plan.drop_before = 0.1;
        plan.drop_after = 0.1;
        plan.internal_error = 0.1;
    });
    let keys: Vec<_> = (0..50_u8).map(|i| format!("k{i:02}")).collect();
    let puts = keys.iter().map(|key| store.put(key, Payload::from(key.as_bytes().to_vec())));
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    let gets = join_all(keys.iter().map(|key| store.get_range(key, 0..3))).await;
    assert!(gets.iter().zip(&keys).all(|(got, key)| got.as_ref().is_ok_and(|got| got == key)));
    server.faults().clear();
    assert_eq!(store.list("", None, 99).await.unwrap().len(), 50);
    assert_eq!(store.delete_many(&keys).await.unwrap(), []);
    assert!(server.contents().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_away_is_found_again() {
    let (server, store) = rig().await;
    let store = patient(store);
    server.faults().down(true);
    let waiting = tokio::spawn(async move { store.put("k", Payload::from(&b"v"[..])).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    server.faults().down(false);
    waiting.await.unwrap().unwrap();
    assert_eq!(server.contents()["k"], "v");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_bytes_and_latencies_are_as_told() {
    let (server, store) = rig().await;
    let latency = Duration::from_millis(60);
    server.faults().put_latency(Delay::Fixed(latency));
    let (mut rounds, patience) = (0, Instant::now());
    // A busy machine takes its share of some rounds.
    let elapsed = loop {
        let start = Instant::now();
        let puts = ["a", "b", "c"].map(|key| store.put(key, Payload::from(vec![0; 1000])));
        assert!(join_all(puts).await.iter().all(Result::is_ok));
        rounds += 1;
        let elapsed = start.elapsed();
        assert!(elapsed >= latency, "{elapsed:?}");
        if elapsed < latency * 5 / 2 || patience.elapsed() > Duration::from_secs(30) {
            break elapsed;
        }
    };
    assert!(
        elapsed < latency * 5 / 2,
        "{elapsed:?}, never less in {rounds} rounds: side by side they take the time of one"
    );
    store.get_range("a", 0..10).await.unwrap();
    let put = server.count(RequestKind::Put);
    assert_eq!((put.requests, put.bytes_in), (3 * rounds, 3000 * rounds));
    assert_eq!(server.count(RequestKind::Get).bytes_out, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_taken_port_says_so() {
    let server = S3Server::start().await;
    let listen = server.endpoint().strip_prefix("http://").unwrap().parse().unwrap();
    let error = S3Server::start_with(S3ServerOptions { listen, ..S3ServerOptions::default() }).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}

/// A store that sends what is 10 MiB or larger in parts.
async fn in_parts(server: &S3Server) -> S3Store {
    S3Store::open(S3Options { part_bytes: 5 << 20, ..server.store_options() }).await.unwrap()
}

fn large() -> Bytes {
    (0..3_200_001_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_objects_go_in_parts() {
    let server = S3Server::start().await;
    let store = in_parts(&server).await;
    contract::all(&store).await;
    assert_eq!(server.count(RequestKind::Part).requests, 2, "of the contract's large object");
    let (before, puts) = (server.counts(), server.count(RequestKind::Put).requests);
    let whole = large();
    let chunks = [whole.slice(..1_000), whole.slice(1_000..6_000_000), whole.slice(6_000_000..)];
    store.put("large", Payload::new(chunks)).await.unwrap();
    assert!(server.contents()["large"] == whole, "the object differs");
    let more = |kind| server.count(kind).requests - before.get(&kind).map_or(0, |count| count.requests);
    assert_eq!((more(RequestKind::Multipart), more(RequestKind::Part), more(RequestKind::Abort)), (2, 3, 0));
    assert_eq!((server.count(RequestKind::Put).requests, server.unfinished_uploads()), (puts, 0));
    store.put("small", Payload::from(vec![1; (10 << 20) - 1])).await.unwrap();
    assert_eq!(server.count(RequestKind::Put).requests, puts + 1, "what is less than two parts is one request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_that_fails_is_given_up_and_leaves_what_was_there() {
    let server = S3Server::start().await;
    let store = in_parts(&server).await;
    store.put("k", Payload::from(&b"old"[..])).await.unwrap();
    let given_up = async || {
        let patience = Instant::now();
        while server.unfinished_uploads() > 0 {
            assert!(patience.elapsed() < Duration::from_secs(60), "parts are left behind");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for (kind, fault, class) in [
        (RequestKind::Multipart, Fault::SlowDown, ErrorClass::Retry),
        (RequestKind::Part, Fault::SlowDown, ErrorClass::Retry),
        (RequestKind::Part, Fault::DropAfter, ErrorClass::Unknown),
    ] {
        server.faults().next(kind, [fault]);
        let error = store.put("k", Payload::from(large())).await.unwrap_err();
        assert_eq!(error.class(), class, "{kind:?} {fault:?}: {error}");
        given_up().await;
        assert_eq!(store.get("k").await.unwrap(), "old");
    }
    // Its last request fails, or only its answer is lost.
    server.faults().next(RequestKind::Multipart, [Fault::Pass, Fault::InternalError]);
    assert_eq!(store.put("k", Payload::from(large())).await.unwrap_err().class(), ErrorClass::Unknown);
    given_up().await;
    assert_eq!(store.get("k").await.unwrap(), "old");
    server.faults().next(RequestKind::Multipart, [Fault::Pass, Fault::DropAfter]);
    assert_eq!(store.put("k", Payload::from(large())).await.unwrap_err().class(), ErrorClass::Unknown);
    assert!(store.get("k").await.unwrap() == large());
    // Nobody waits for it any more, once a part is on its way.
    server.faults().next(RequestKind::Part, [Fault::Stall]);
    let parts = server.count(RequestKind::Part).requests;
    let on_its_way = async {
        while server.count(RequestKind::Part).requests == parts {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        done = store.put("k2", Payload::from(large())) => panic!("a part is stalled: {done:?}"),
        () = on_its_way => {}
    }
    given_up().await;
    assert!(!server.contents().contains_key("k2"));
    // Retries send it whole.
    server.faults().next(RequestKind::Part, [Fault::SlowDown, Fault::Pass, Fault::InternalError]);
    patient(store).put("k3", Payload::from(large())).await.unwrap();
    given_up().await;
    assert!(server.contents()["k3"] == large());
}
