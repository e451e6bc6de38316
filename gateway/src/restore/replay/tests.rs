use bytes::Bytes;
use metadata::model::batch::{BatchSummary, BatchView};
use metadata::model::ids::TopicId;
use storage::blob::memory::MemoryStore;
use storage::codec::records::RecordsBuilder;
use storage::segment::builder::SegmentBuilder;

use super::*;

const CLUSTER: &str = "cluster";

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId(uuid::Uuid::from_u128(1)), partition: 0 }
}

/// Puts a segment of one batch there.
async fn put(blobs: &Arc<dyn BlobStore>, object: ObjectId, created_ms: i64) {
    let batch: Bytes = RecordsBuilder::new().values(created_ms, ["value"]).build();
    let view = BatchView::first(&batch).unwrap();
    let summary = BatchSummary {
        records: 1,
        length: batch.len() as u32,
        max_timestamp: view.max_timestamp(),
        stamp: view.stamp(),
    };
    let mut builder = SegmentBuilder::default();
    builder.push(partition(), batch.clone(), summary);
    let built = builder.finish(object, created_ms, |_| Some("topic".into())).unwrap();
    blobs.put(&object.key(), built.payload).await.unwrap();
}

/// Objects of the log's extents, in the order of their offsets.
fn log(state: &State) -> Vec<ObjectId> {
    state.log(partition()).unwrap().all_unfolded().map(|extent| extent.object).collect()
}

#[tokio::test]
async fn l1_segments_come_back_in_the_order_of_sessions_and_their_numbers() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    let mut expected = Vec::new();
    // Older sessions have larger ids, and the clock of each stands still: only the numbers tell the order within.
    for (life, session) in [400, 300, 200, 100].into_iter().enumerate() {
        for counter in [1, 2, 9, 10, 11] {
            let object = ObjectId { session: SessionId(session), counter };
            put(&blobs, object, 1_000 * life as i64).await;
            expected.push(object);
        }
    }
    let mut state = State::default();
    assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 20);
    assert_eq!(log(&state), expected);
}

#[tokio::test]
async fn l2_what_the_state_has_is_not_committed_again() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    let object = |counter| ObjectId { session: SessionId(5), counter };
    for counter in 1..=3 {
        put(&blobs, object(counter), 7).await;
    }
    let mut state = State::default();
    assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 3);
    assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 0);
    put(&blobs, object(4), 7).await;
    assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 1);
    assert_eq!(log(&state), [1, 2, 3, 4].map(object));
}

/// What docs/restore.md says of refused records: a segment that its producers were told had failed, though it arrived.
#[tokio::test]
async fn l3_a_refused_segment_comes_to_light_only_if_no_later_commit_was_copied() {
    let blobs: Arc<dyn BlobStore> = Arc::new(MemoryStore::new());
    let object = |counter| ObjectId { session: SessionId(5), counter };
    let mut state = State::default();
    // The copied entries name the first and the third; the second was refused between them.
    for counter in [1, 3] {
        put(&blobs, object(counter), 7).await;
        assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 1);
    }
    put(&blobs, object(2), 7).await;
    assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 0);
    // Behind the last copy the fourth was refused and the fifth acknowledged: nothing tells them apart.
    put(&blobs, object(4), 7).await;
    put(&blobs, object(5), 7).await;
    assert_eq!(replay(&mut state, CLUSTER, &blobs, &|_| ()).await.unwrap(), 2);
    assert_eq!(log(&state), [1, 3, 4, 5].map(object));
}
