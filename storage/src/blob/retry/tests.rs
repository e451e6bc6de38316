//! Retries in paused time: what is tried again, how long, and what is told when it does not help.

use super::*;
use crate::blob::contract;
use crate::blob::faulty::{Fault, Faults, Faulty};
use crate::blob::memory::MemoryStore;

struct Rig {
    memory: MemoryStore,
    faults: Arc<Faults>,
    store: Retry,
}

fn rig(options: RetryOptions) -> Rig {
    let memory = MemoryStore::new();
    let faults = Arc::new(Faults::new(1));
    let faulty = Faulty::new(Arc::new(memory.clone()), Arc::clone(&faults));
    Rig { memory, faults, store: Retry::new(Arc::new(faulty), options) }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_contract() {
    contract::all(&rig(RetryOptions::default()).store).await;
}

#[tokio::test(start_paused = true)]
async fn succeeds_once_the_store_does() {
    let rig = rig(RetryOptions::default());
    rig.faults.next(Operation::Put, [Fault::Throttle, Fault::FailBefore, Fault::FailAfter, Fault::Stall]);
    rig.store.put("k", Payload::from(&b"v"[..])).await.unwrap();
    assert_eq!(rig.faults.calls(Operation::Put), 5);
    rig.faults.next(Operation::GetRange, [Fault::FailAfter, Fault::Throttle]);
    assert_eq!(rig.store.get_range("k", 0..1).await.unwrap(), "v");
}

#[tokio::test(start_paused = true)]
async fn gives_up_before_the_deadline_and_not_much_earlier() {
    let rig = rig(RetryOptions::default());
    rig.faults.black_hole(true);
    let start = Instant::now();
    let error = rig.store.put("k", Payload::default()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unknown);
    assert!((28..=30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert!(rig.memory.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn does_not_try_again_what_is_refused() {
    let rig = rig(RetryOptions::default());
    assert!(matches!(rig.store.get("missing").await, Err(BlobError::NotFound { .. })));
    assert!(matches!(rig.store.put("../k", Payload::default()).await, Err(BlobError::Invalid(_))));
    assert_eq!((rig.faults.calls(Operation::Get), rig.faults.calls(Operation::Put)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_was_lost_recognises_its_own_object() {
    let rig = rig(RetryOptions::default());
    rig.faults.next(Operation::PutNew, [Fault::FailAfter]);
    rig.store.put_new("ours", Payload::from(&b"mine"[..])).await.unwrap();
    assert_eq!(rig.faults.calls(Operation::PutNew), 2);

    rig.memory.put_new("theirs", Payload::from(&b"them"[..])).await.unwrap();
    rig.faults.next(Operation::PutNew, [Fault::Stall]);
    let error = rig.store.put_new("theirs", Payload::from(&b"mine"[..])).await.unwrap_err();
    assert!(matches!(error, BlobError::AlreadyExists { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_was_never_in_doubt_does_not_look_at_the_object() {
    let rig = rig(RetryOptions::default());
    rig.memory.put_new("k", Payload::from(&b"same"[..])).await.unwrap();
    rig.faults.next(Operation::PutNew, [Fault::FailBefore]);
    let error = rig.store.put_new("k", Payload::from(&b"same"[..])).await.unwrap_err();
    assert!(matches!(error, BlobError::AlreadyExists { .. }), "{error}");
    assert_eq!(rig.faults.calls(Operation::Head), 0);
}

#[tokio::test(start_paused = true)]
async fn a_doubt_once_had_stays() {
    // It happened, nobody was told, and after that the store only says "not now".
    let rig = rig(RetryOptions::default());
    rig.faults.next(Operation::Put, [Fault::FailAfter]);
    rig.faults.set(|plan| plan.throttle = 1.0);
    let error = rig.store.put("k", Payload::default()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unknown, "{error}");
    assert_eq!(rig.memory.keys(), ["k"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_get_is_overtaken_by_its_hedge() {
    let rig = rig(RetryOptions { hedge: true, ..RetryOptions::default() });
    rig.store.put("k", Payload::from(&b"v"[..])).await.unwrap();
    let read = async |slow: bool| {
        let delay = if slow { Duration::from_secs(2) } else { Duration::from_millis(20) };
        rig.faults.set(|plan| plan.delay = crate::blob::faulty::Delay::Fixed(delay));
        rig.store.get_range("k", 0..1).await.unwrap();
    };
    for n in 0..100 {
        read(n % 40 == 0).await;
    }
    rig.faults.set(|plan| plan.delay = crate::blob::faulty::Delay::Fixed(Duration::from_millis(20)));
    rig.faults.next(Operation::GetRange, [Fault::Stall]);
    let start = Instant::now();
    assert_eq!(rig.store.get_range("k", 0..1).await.unwrap(), "v");
    assert!(start.elapsed() <= Duration::from_millis(45), "{:?}", start.elapsed());
}
