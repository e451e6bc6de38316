//! Several gateways on one journal: feature levels, sessions that come and go, states that are compared.

use super::*;
use crate::command::{FoldExtents, UnfoldExtents};
use crate::error::{AppendError, ReadError};
use crate::model::extent::ObjectId;
use crate::model::ids::NodeId;
use crate::state::FEATURE_LEVEL;

async fn gateway_of(node: i32, feature_level: u32, journal: &Arc<MemoryJournal>) -> Metadata {
    let mut parts = MetadataParts::for_tests(node, Arc::clone(journal) as _, Arc::new(MemorySnapshots::default()));
    parts.session.feature_level = feature_level;
    parts.options.state_check_interval_ms = 20;
    Metadata::start(parts).await.expect("it starts")
}

fn level(metadata: &Metadata) -> u32 {
    metadata.read(State::feature_level)
}

#[tokio::test]
async fn a_command_that_an_older_gateway_does_not_know_is_not_said() {
    let journal = Arc::default();
    let older = gateway_of(1, 0, &journal).await;
    let newer = gateway_of(2, FEATURE_LEVEL, &journal).await;
    assert_eq!(level(&newer), 0);
    for command in [Command::LeaveSoon, Command::MarkState, Command::SayStateHash { at: Lsn(1), hash: 1 }] {
        let refused = newer.submit(command.clone()).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Retry, "{command:?}: {refused}");
    }
    let mut moved = newer.sessions_moved();
    older.shutdown().await;
    newer.barrier().await.unwrap();
    soon(moved.changed()).await.unwrap();
    newer.raise_feature_level().await.unwrap();
    assert_eq!(level(&newer), FEATURE_LEVEL);
    let at = newer.read(|state| state.applied());
    newer.raise_feature_level().await.unwrap();
    assert_eq!(newer.read(|state| state.applied()), at, "nothing to raise, nothing said");
    assert_eq!(newer.submit(Command::LeaveSoon).await, Ok(Outcome::Done));
    assert!(newer.read(|state| state.sessions().by_node(NodeId(2)).unwrap().leaving));
    let late = MetadataParts::for_tests(1, Arc::clone(&journal) as _, Arc::new(MemorySnapshots::default()));
    assert_eq!(Metadata::start(late).await.unwrap_err(), StartError::Refused(Refusal::FeatureLevel));
}

#[tokio::test]
async fn nothing_is_folded_beside_a_gateway_that_does_not_know_folds() {
    let journal = Arc::default();
    let older = gateway_of(1, 1, &journal).await;
    let newer = gateway_of(2, FEATURE_LEVEL, &journal).await;
    let object = |counter| ObjectId { session: newer.session(), counter };
    let fold = Command::FoldExtents(FoldExtents { object: object(1), object_bytes: 0, runs: Vec::new() });
    let unfold = UnfoldExtents { partition: None, object: object(2), position: 0, run: Vec::new() };
    for command in [fold.clone(), Command::UnfoldExtents(unfold)] {
        let refused = newer.submit(command.clone()).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Retry, "{command:?}: {refused}");
    }
    let mut moved = newer.sessions_moved();
    older.shutdown().await;
    newer.barrier().await.unwrap();
    soon(moved.changed()).await.unwrap();
    newer.raise_feature_level().await.unwrap();
    assert_eq!(newer.submit(fold).await, Ok(Outcome::Swapped(Vec::new())));
}

#[tokio::test]
async fn the_last_of_an_upgrade_raises_the_level_by_starting() {
    let journal = Arc::default();
    let first = gateway_of(1, FEATURE_LEVEL, &journal).await;
    assert_eq!(level(&first), FEATURE_LEVEL);
    let second = gateway_of(2, FEATURE_LEVEL, &journal).await;
    assert_eq!(level(&second), FEATURE_LEVEL);
}

#[tokio::test]
async fn a_command_of_a_later_build_ends_the_gateway_and_says_why() {
    let journal = Arc::new(MemoryJournal::default());
    let metadata = gateway(1, &journal).await;
    // Field 4 (a command) that holds only field 99, of length 0.
    journal.append_bytes(crate::codec::frame(1, vec![0x22, 0x03, 0x9a, 0x06, 0x00]));
    let ended = soon(metadata.ended()).await;
    assert_eq!(ended.class(), ErrorClass::Corrupt);
    assert!(ended.to_string().contains("a command this build does not know: upgrade it"), "{ended}");
}

/// A journal of which one gateway reads what is not there: more producer ids than were asked for.
#[derive(Debug)]
struct Misread(Arc<MemoryJournal>);

#[async_trait::async_trait]
impl Journal for Misread {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        self.0.append(entry).await
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        let mut entries = self.0.read(after, limit).await?;
        for command in entries.iter_mut().flat_map(|(_, entry)| &mut entry.commands) {
            if let Command::AllocateProducerIds { count } = command {
                *count += 1;
            }
        }
        Ok(entries)
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        self.0.head().await
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.0.tail()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        self.0.trim(before).await
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        self.0.first().await
    }
}

/// Runs the comparison in the background.
fn comparing(metadata: &Metadata) {
    let metadata = metadata.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = metadata.compare_states() => {}
            _ = metadata.ended() => {}
        }
    });
}

#[tokio::test]
async fn d1_equal_states_are_found_equal() {
    let journal = Arc::default();
    let level = FEATURE_LEVEL;
    let all = [
        gateway_of(1, level, &journal).await,
        gateway_of(2, level, &journal).await,
        gateway_of(3, level, &journal).await,
    ];
    all.iter().for_each(comparing);
    soon(async {
        while all.iter().any(|metadata| metadata.inner.snapshotter.metrics.state_checks.get() < 3) {
            all[0].submit(one_id()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(all.iter().all(|metadata| metadata.inner.snapshotter.metrics.state_differences.get() == 0));
    assert!(all.iter().all(|metadata| metadata.inner.replica.end_reason().is_none()));
}

#[tokio::test]
async fn d1_a_gateway_whose_state_is_another_stops() {
    let journal: Arc<MemoryJournal> = Arc::default();
    let misreading: Arc<dyn Journal> = Arc::new(Misread(Arc::clone(&journal)));
    let mut parts = MetadataParts::for_tests(2, misreading, Arc::new(MemorySnapshots::default()));
    parts.session.feature_level = FEATURE_LEVEL;
    // Any of the three may be the one that marks where to compare.
    parts.options.state_check_interval_ms = 20;
    let odd = Metadata::start(parts).await.unwrap();
    let all = [gateway_of(1, FEATURE_LEVEL, &journal).await, odd, gateway_of(3, FEATURE_LEVEL, &journal).await];
    all[0].submit(one_id()).await.unwrap();
    all.iter().for_each(comparing);
    let ended = soon(all[1].ended()).await;
    assert_eq!(ended.class(), ErrorClass::Corrupt, "{ended}");
    assert!(ended.to_string().contains("is not that of the others"), "{ended}");
    assert!(all[0].inner.replica.end_reason().is_none() && all[2].inner.replica.end_reason().is_none());
}
