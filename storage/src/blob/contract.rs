//! What every [`BlobStore`] must do, as cases any of them can be run through. A case panics where the contract is broken.
//!
//! Each case works below a prefix of its own, so a store may be shared and need not be empty.

#![allow(clippy::unwrap_used)] // a case is a test, run by tests of several crates

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;

use super::{BlobError, BlobStore, KEY_MAX_LEN, Payload, RANGE_MAX_BYTES};

/// More objects than S3 lists or deletes in one request.
const MANY: usize = 1_050;
/// Requests at once where a case makes many.
const SIDE_BY_SIDE: usize = 32;

/// Runs every case.
pub async fn all(store: &dyn BlobStore) {
    what_is_put_can_be_read(store).await;
    large_objects_of_many_chunks_are_whole(store).await;
    a_put_replaces(store).await;
    what_is_missing_is_not_found(store).await;
    put_new_does_not_replace(store).await;
    of_many_creators_one_wins(store).await;
    ranges_are_exact_or_an_error(store).await;
    lists_are_in_order_and_go_on(store).await;
    many_are_listed_and_deleted(store).await;
    deleting_again_succeeds(store).await;
    bad_keys_are_refused(store).await;
}

/// Bytes, size and time of an object, empty ones too.
pub async fn what_is_put_can_be_read(store: &dyn BlobStore) {
    let at = prefix("read");
    for (name, payload) in [
        ("empty", Payload::default()),
        ("one", Payload::from(&b"one chunk"[..])),
        ("some", Payload::new(["a", "", "bc", "d"].map(Bytes::from))),
        ("odd=name_x-1.y", Payload::from(vec![0, 255, 13, 10])),
    ] {
        let key = format!("{at}{name}");
        store.put(&key, payload.clone()).await.unwrap();
        assert_eq!(store.get(&key).await.unwrap(), payload.to_bytes(), "{name}");
        let meta = store.head(&key).await.unwrap();
        assert_eq!((meta.key, meta.size), (key, payload.len()));
        assert!(meta.modified_ms > 1_600_000_000_000, "{} is not a time of now", meta.modified_ms);
    }
}

/// Ten MiB in chunks of all sizes.
pub async fn large_objects_of_many_chunks_are_whole(store: &dyn BlobStore) {
    let key = format!("{}object", prefix("large"));
    let whole: Bytes = (0..10_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let mut rest = whole.clone();
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        let length = (chunks.len() * chunks.len() + 1).min(rest.len());
        chunks.push(rest.split_to(length));
    }
    store.put(&key, Payload::new(chunks)).await.unwrap();
    assert!(store.get(&key).await.unwrap() == whole, "the whole object differs");
    let middle = 3_333_333..7_777_777;
    let read = store.get_range(&key, middle.start as u64..middle.end as u64).await.unwrap();
    assert!(read == whole[middle], "a range differs");
}

/// A second put wins, and puts of one key at once leave one of them whole.
pub async fn a_put_replaces(store: &dyn BlobStore) {
    let key = format!("{}object", prefix("replace"));
    store.put(&key, Payload::from(&b"first, and longer"[..])).await.unwrap();
    store.put(&key, Payload::from(&b"second"[..])).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), "second");
    let puts = (0..8_u8).map(|i| store.put(&key, Payload::from(vec![i; 1000 + usize::from(i)])));
    assert!(join_all(puts).await.iter().all(Result::is_ok));
    let left = store.get(&key).await.unwrap();
    assert_eq!(left, vec![left[0]; 1000 + usize::from(left[0])]);
}

/// Every way of reading says so.
pub async fn what_is_missing_is_not_found(store: &dyn BlobStore) {
    let key = format!("{}object", prefix("missing"));
    let missing = BlobError::NotFound { key: key.clone() };
    assert_eq!(store.get(&key).await.unwrap_err(), missing);
    assert_eq!(store.get_range(&key, 0..1).await.unwrap_err(), missing);
    assert_eq!(store.head(&key).await.unwrap_err(), missing);
    assert_eq!(store.list(&key, None, 10).await.unwrap(), []);
}

/// The first stays as it is.
pub async fn put_new_does_not_replace(store: &dyn BlobStore) {
    let key = format!("{}object", prefix("new"));
    store.put_new(&key, Payload::from(&b"first"[..])).await.unwrap();
    let taken = BlobError::AlreadyExists { key: key.clone() };
    assert_eq!(store.put_new(&key, Payload::from(&b"second"[..])).await.unwrap_err(), taken);
    assert_eq!(store.get(&key).await.unwrap(), "first");
    assert_eq!(store.delete_many(std::slice::from_ref(&key)).await.unwrap(), []);
    store.put_new(&key, Payload::from(&b"third"[..])).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), "third");
}

/// Exactly one, each time, and it is its bytes that are there. A store may ask the others to try again.
pub async fn of_many_creators_one_wins(store: &dyn BlobStore) {
    for round in 0..8 {
        let key = format!("{}object", prefix(&format!("race{round}")));
        let create = async |i: u8| loop {
            match store.put_new(&key, Payload::from(vec![i; 2000])).await {
                Err(BlobError::Throttled(_)) => {}
                answer => break answer,
            }
        };
        let answers = join_all((0..16).map(create)).await;
        let winners: Vec<_> = (0..16_u8).filter(|i| answers[usize::from(*i)].is_ok()).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert_eq!(store.get(&key).await.unwrap(), vec![winners[0]; 2000]);
        let lost = |answer: &Result<(), BlobError>| matches!(answer, Err(BlobError::AlreadyExists { .. }));
        assert_eq!(answers.iter().filter(|answer| lost(answer)).count(), 15, "{answers:?}");
    }
}

/// Never fewer bytes than asked for.
pub async fn ranges_are_exact_or_an_error(store: &dyn BlobStore) {
    let key = format!("{}object", prefix("range"));
    store.put(&key, Payload::from(&b"0123456789"[..])).await.unwrap();
    for (range, bytes) in [(0..1, "0"), (0..10, "0123456789"), (3..7, "3456"), (9..10, "9")] {
        assert_eq!(store.get_range(&key, range).await.unwrap(), bytes);
    }
    for range in [0..11, 9..11, 10..11, 500..600] {
        let answer = store.get_range(&key, range.clone()).await;
        assert!(matches!(answer, Err(BlobError::ShortRead { .. })), "{range:?}: {answer:?}");
    }
    for range in [5..5, u64::MAX..u64::MAX] {
        assert!(matches!(store.get_range(&key, range).await, Err(BlobError::Invalid(_))));
    }
    let answer = store.get_range(&key, 0..RANGE_MAX_BYTES + 1).await;
    assert!(matches!(answer, Err(BlobError::TooLarge { .. })), "{answer:?}");
}

/// Byte order of whole keys, from after any string, only the prefix, no more than the limit.
pub async fn lists_are_in_order_and_go_on(store: &dyn BlobStore) {
    let at = prefix("list");
    // In this order: '-' and '.' sort before the slash, letters after it.
    let names = ["a", "a-b", "a.b", "a/a", "a/b/c", "a/b/d", "a/c", "a0", "aa", "b/a", "c"];
    for name in names.iter().rev() {
        store.put(&format!("{at}{name}"), Payload::from(name.as_bytes())).await.unwrap_or_else(|e| {
            // A folder cannot be an object too; such stores are told by the contract not to be asked.
            assert!(matches!(e, BlobError::Invalid(_)) && *name == "a", "{name}: {e}");
        });
    }
    let stored: Vec<_> = store.list(&at, None, 100).await.unwrap().into_iter().map(|meta| meta.key).collect();
    let stored: Vec<_> = stored.iter().map(|key| &key[at.len()..]).collect();
    assert!(stored == names || stored == names[1..], "{stored:?}");
    let names = stored;

    for start in ["", "a", "a/", "a/b/", "b", "x"] {
        for after in ["", "a", "a.", "a/b", "a/b/c", "a1", "b/a", "zz"] {
            let wanted: Vec<_> = names.iter().filter(|n| n.starts_with(start) && **n > after).collect();
            for limit in [1, 2, 3, 100] {
                let after = format!("{at}{after}");
                let found = store.list(&format!("{at}{start}"), Some(&after), limit).await.unwrap();
                let found: Vec<_> = found.iter().map(|meta| &meta.key[at.len()..]).collect();
                let wanted: Vec<_> = wanted.iter().take(limit).map(|n| **n).collect();
                assert_eq!(found, wanted, "prefix {start:?} after {after:?} limit {limit}");
            }
        }
    }
    let meta = store.list(&format!("{at}a/b/"), None, 1).await.unwrap().remove(0);
    assert_eq!((meta.size, meta.modified_ms > 1_600_000_000_000), (5, true));
    assert!(store.list(&at, None, 0).await.unwrap().is_empty());
}

/// More than one page of each.
pub async fn many_are_listed_and_deleted(store: &dyn BlobStore) {
    let at = prefix("many");
    let keys: Vec<_> = (0..MANY).map(|i| format!("{at}{i:06}")).collect();
    let puts = stream::iter(&keys).map(|key| store.put(key, Payload::default()));
    assert!(puts.buffer_unordered(SIDE_BY_SIDE).all(|answer| async move { answer.is_ok() }).await);
    let listed = store.list(&at, None, MANY + 1).await.unwrap();
    assert!(listed.iter().map(|meta| &meta.key).eq(&keys), "{} of {MANY} listed", listed.len());
    let mut doomed = keys[1..].to_vec();
    doomed.push(format!("{at}never-there"));
    assert_eq!(store.delete_many(&doomed).await.unwrap(), []);
    let left = store.list(&at, None, MANY).await.unwrap();
    assert_eq!(left.iter().map(|meta| &meta.key).collect::<Vec<_>>(), [&keys[0]]);
}

/// Deleting is done once it is not there, whoever did it.
pub async fn deleting_again_succeeds(store: &dyn BlobStore) {
    let keys = [format!("{}object", prefix("delete"))];
    store.put(&keys[0], Payload::from(&b"x"[..])).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.delete_many(&keys).await.unwrap(), []);
        assert!(matches!(store.get(&keys[0]).await, Err(BlobError::NotFound { .. })));
    }
    assert_eq!(store.delete_many(&[]).await.unwrap(), []);
}

/// By every method, before anything is done.
pub async fn bad_keys_are_refused(store: &dyn BlobStore) {
    let long = "k".repeat(KEY_MAX_LEN + 1);
    for key in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "sp ace", "nul\0", "ümlaut", &long] {
        let payload = Payload::from(&b"x"[..]);
        let refused = |answer: Option<BlobError>| assert!(matches!(answer, Some(BlobError::Invalid(_))), "{key:?}");
        refused(store.put(key, payload.clone()).await.err());
        refused(store.put_new(key, payload).await.err());
        refused(store.get(key).await.err());
        refused(store.get_range(key, 0..1).await.err());
        refused(store.head(key).await.err());
        refused(store.delete_many(&[key.to_owned()]).await.err());
    }
    for start in ["/", "../", "a/../"] {
        assert!(matches!(store.list(start, None, 1).await, Err(BlobError::Invalid(_))), "{start:?}");
    }
}

/// A place no other case and no other run uses.
fn prefix(case: &str) -> String {
    format!("contract/{:016x}/{case}/", rand::random::<u64>())
}
