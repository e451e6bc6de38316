//! What every snapshot store must do; a case panics when the store breaks its word.

use crate::model::ids::Lsn;
use crate::snapshot::SnapshotStore;

/// Runs all cases on a store that holds nothing yet.
pub async fn every_case(store: &dyn SnapshotStore) {
    let newest = async |below| store.newest(below).await.expect("newest");
    assert_eq!(newest(None).await, None);
    assert_eq!(newest(Some(Lsn(5))).await, None);
    store.delete_before(Lsn(5)).await.expect("a delete of nothing");

    // Newest by number, not by the text of it or by the time of the put.
    for lsn in [9, 100, 10, 99] {
        put(store, lsn).await;
    }
    assert_eq!(newest(None).await, Some((Lsn(100), bytes_of(100))));
    assert_eq!(newest(Some(Lsn(100))).await, Some((Lsn(99), bytes_of(99))));
    assert_eq!(newest(Some(Lsn(99))).await, Some((Lsn(10), bytes_of(10))));
    assert_eq!(newest(Some(Lsn(9))).await, None);

    put(store, 100).await;
    assert_eq!(newest(None).await, Some((Lsn(100), bytes_of(100))), "a repeated put changes nothing");

    store.delete_before(Lsn(99)).await.expect("delete_before");
    assert_eq!(newest(Some(Lsn(99))).await, None);
    assert_eq!(newest(Some(Lsn(100))).await, Some((Lsn(99), bytes_of(99))));
    store.delete_before(Lsn(99)).await.expect("a repeated delete");

    put(store, u64::MAX - 1).await;
    assert_eq!(newest(None).await, Some((Lsn(u64::MAX - 1), bytes_of(u64::MAX - 1))));
}

async fn put(store: &dyn SnapshotStore, lsn: u64) {
    store.put(Lsn(lsn), bytes_of(lsn)).await.expect("put");
}

/// Some hundred kilobytes that tell snapshots apart.
fn bytes_of(lsn: u64) -> Vec<u8> {
    lsn.to_le_bytes().repeat(20_000)
}
