//! Groups that move between gateways: by joining, leaving and expiry, and with a gateway that has not heard of it.

use std::sync::atomic::AtomicBool;

use metadata::command::Entry;
use metadata::error::{AppendError, ReadError};
use metadata::model::ids::{Lsn, NodeId, SessionId};
use metadata::rendezvous::of_name;
use tokio::sync::watch;

use super::*;

/// A journal that one gateway cannot read for a while: it appends, and hears nothing of what others do.
#[derive(Debug)]
struct Deaf {
    journal: Arc<MemoryJournal>,
    is_deaf: AtomicBool,
    tail: watch::Sender<Lsn>,
}

impl Deaf {
    fn to(journal: &Arc<MemoryJournal>) -> Arc<Self> {
        let deaf =
            Self { journal: Arc::clone(journal), is_deaf: AtomicBool::new(false), tail: watch::Sender::default() };
        Arc::new(deaf)
    }

    fn check(&self) -> Result<(), ReadError> {
        match self.is_deaf.load(Ordering::SeqCst) {
            true => Err(ReadError::Unavailable("it hears nothing".into())),
            false => Ok(()),
        }
    }

    async fn listen_again(&self) {
        self.is_deaf.store(false, Ordering::SeqCst);
        self.tail.send_replace(self.journal.head().await.unwrap());
    }
}

#[async_trait::async_trait]
impl Journal for Deaf {
    async fn append(&self, entry: &Entry) -> Result<Lsn, AppendError> {
        self.journal.append(entry).await
    }

    async fn read(&self, after: Lsn, limit: usize) -> Result<Vec<(Lsn, Entry)>, ReadError> {
        self.check()?;
        self.journal.read(after, limit).await
    }

    async fn head(&self) -> Result<Lsn, ReadError> {
        self.check()?;
        self.journal.head().await
    }

    fn tail(&self) -> watch::Receiver<Lsn> {
        self.tail.subscribe()
    }

    async fn trim(&self, before: Lsn) -> Result<(), ReadError> {
        self.journal.trim(before).await
    }

    async fn first(&self) -> Result<Lsn, ReadError> {
        self.journal.first().await
    }
}

/// A name that falls to the first of these gateways, and to `then` if that one comes too.
fn group_of(first: i32, others: &[i32], then: Option<i32>) -> String {
    let before: Vec<_> = others.iter().chain([&first]).copied().map(NodeId).collect();
    let after: Vec<_> = before.iter().copied().chain(then.map(NodeId)).collect();
    let fits = |name: &String| {
        of_name(name, &before) == Some(NodeId(first)) && of_name(name, &after) == Some(NodeId(then.unwrap_or(first)))
    };
    (0..).map(|number| format!("group-{number}")).find(fits).unwrap()
}

async fn expire_session(by: &Groups, session: SessionId) {
    let last_seen = by.metadata().read(|state| state.applied());
    let expired = by.metadata().submit(Command::ExpireSession { session, last_seen }).await.unwrap();
    assert_eq!(expired, Outcome::Done);
}

#[tokio::test(start_paused = true)]
async fn who_asks_the_wrong_gateway_is_told_so() {
    let cell = Cell::new();
    let (one, two) = (cell.gateway(1).await, cell.gateway(2).await);
    one.barrier().await.unwrap();
    let group = group_of(1, &[2], None);
    let partition = topic(&one).await;
    let joined = settled(&one, &group).await;
    two.barrier().await.unwrap();
    let wrong = Err(GroupError::NotCoordinator);
    let refused = two.join(&group, request("c", &joined.member_id)).await.unwrap_err();
    assert_eq!(refused.error, GroupError::NotCoordinator);
    assert_eq!(sync(&two, &group, &joined).await.unwrap_err(), GroupError::NotCoordinator);
    assert_eq!(two.heartbeat(&group, &caller(&joined)).await, wrong);
    assert_eq!(two.commit(&group, &caller(&joined), at(partition, 3)).await.unwrap_err(), GroupError::NotCoordinator);
    assert_eq!(two.describe(&group).await.unwrap_err(), GroupError::NotCoordinator);
    assert_eq!(two.delete(&group).await, wrong);
    assert_eq!(two.active.len(), 0);
    assert_eq!(two.list().await.unwrap().len(), 1, "a listing has every group");
    assert_eq!(one.heartbeat(&group, &caller(&joined)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn members_keep_their_generation_when_their_coordinator_dies() {
    let cell = Cell::new();
    let (one, two) = (cell.gateway(1).await, cell.gateway(2).await);
    one.barrier().await.unwrap();
    let group = group_of(1, &[2], None);
    let partition = topic(&one).await;
    let joined = settled(&one, &group).await;
    one.commit(&group, &caller(&joined), at(partition, 3)).await.unwrap();
    let session = one.metadata().session();
    drop(one);
    two.barrier().await.unwrap();
    expire_session(&two, session).await;
    assert_eq!(two.heartbeat(&group, &caller(&joined)).await, Ok(()), "the same generation");
    assert_eq!(two.commit(&group, &caller(&joined), at(partition, 4)).await, Ok(vec![Ok(())]));
    let view = two.describe(&group).await.unwrap().unwrap();
    assert_eq!((view.state, &*view.members[0].assignment), ("Stable", joined.member_id.as_bytes()));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(two.metadata().read(|state| state.groups().get(&group).unwrap().is_empty()), "the member is gone too");
}

#[tokio::test(start_paused = true)]
async fn a_group_goes_to_a_gateway_that_comes_and_back_when_it_is_about_to_leave() {
    let cell = Cell::new();
    let one = cell.gateway(1).await;
    let group = group_of(1, &[], Some(2));
    let joined = settled(&one, &group).await;
    let waiting = tokio::spawn({
        let (one, group) = (Arc::clone(&one), group.clone());
        async move { one.join(&group, JoinRequest { requires_known_id: false, ..request("d", "") }).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let two = cell.gateway(2).await;
    assert_eq!(waiting.await.unwrap().unwrap_err().error, GroupError::NotCoordinator, "who waits is let go");
    assert_eq!(one.heartbeat(&group, &caller(&joined)).await, Err(GroupError::NotCoordinator));
    assert_eq!(one.active.len(), 0);
    assert_eq!(two.heartbeat(&group, &caller(&joined)).await, Ok(()));
    let again = two.join(&group, request("c", &joined.member_id)).await.unwrap();
    sync(&two, &group, &again).await.unwrap();
    assert_eq!(again.generation, 2);

    assert_eq!(two.metadata().submit(Command::LeaveSoon).await, Ok(Outcome::Done));
    assert_eq!(two.heartbeat(&group, &caller(&again)).await, Err(GroupError::NotCoordinator));
    one.barrier().await.unwrap();
    assert_eq!(one.heartbeat(&group, &caller(&again)).await, Ok(()));
    assert_eq!(one.heartbeat(&group, &caller(&joined)).await, Err(GroupError::IllegalGeneration), "C2");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_think_they_coordinate_only_one_can_save() {
    let cell = Cell::new();
    let deaf = Deaf::to(&cell.journal);
    let one = cell.gateway_on(1, deaf.clone()).await;
    let two = cell.gateway(2).await;
    deaf.listen_again().await;
    one.barrier().await.unwrap();
    let group = group_of(1, &[2], Some(3));
    let partition = topic(&two).await;
    one.barrier().await.unwrap();
    let first = settled(&one, &group).await;
    assert_eq!(first.generation, 1);

    // Gateway 3 comes and takes the group over; gateway 1 lives, and does not hear of it.
    deaf.is_deaf.store(true, Ordering::SeqCst);
    let three = cell.gateway(3).await;
    let taken = three.join(&group, request("c", &first.member_id)).await.unwrap();
    sync(&three, &group, &taken).await.unwrap();
    assert_eq!(taken.generation, 2);
    assert_eq!(one.heartbeat(&group, &caller(&first)).await, Ok(()), "it thinks it coordinates");
    let stale_commit = tokio::spawn({
        let (one, group, caller) = (Arc::clone(&one), group.clone(), caller(&first));
        async move { one.commit(&group, &caller, at(partition, 7)).await }
    });
    let stale_join = tokio::spawn({
        let (one, group, member) = (Arc::clone(&one), group.clone(), first.member_id.clone());
        async move { one.join(&group, request("c", &member)).await }
    });
    let appends = cell.journal.appends();
    while cell.journal.appends() < appends + 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    deaf.listen_again().await;
    assert_eq!(stale_join.await.unwrap().unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(stale_commit.await.unwrap(), Err(GroupError::NotCoordinator));
    three.barrier().await.unwrap();
    assert_eq!(committed(&three, &group, partition), None, "C2, C6: refused by apply");
    assert_eq!(three.metadata().read(|state| state.groups().get(&group).unwrap().generation), 2);
    assert_eq!(three.heartbeat(&group, &caller(&taken)).await, Ok(()));
    let stale = three.metadata().read(|state| state.sessions().get(one.metadata().session()).is_some());
    assert!(stale, "it was not a fence that refused it");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_another_has_overtaken_reads_the_group_anew() {
    let cell = Cell::new();
    let deaf = Deaf::to(&cell.journal);
    let one = cell.gateway_on(1, deaf.clone()).await;
    let _two = cell.gateway(2).await;
    deaf.listen_again().await;
    one.barrier().await.unwrap();
    let group = group_of(1, &[2], Some(3));
    let first = settled(&one, &group).await;
    // Gateway 3 takes over and saves nothing before gateway 1, which has not heard of it, saves a new generation.
    deaf.is_deaf.store(true, Ordering::SeqCst);
    let three = cell.gateway(3).await;
    assert_eq!(three.heartbeat(&group, &caller(&first)).await, Ok(()));
    let late = tokio::spawn({
        let (one, group, member) = (Arc::clone(&one), group.clone(), first.member_id.clone());
        async move { one.join(&group, request("c", &member)).await }
    });
    let appends = cell.journal.appends();
    while cell.journal.appends() < appends + 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    three.barrier().await.unwrap();
    let late_caller = Caller { generation: 2, ..caller(&first) };
    assert_eq!(three.heartbeat(&group, &caller(&first)).await, Err(GroupError::IllegalGeneration));
    assert_eq!(three.heartbeat(&group, &late_caller).await, Ok(()), "generation 2 is saved");
    deaf.listen_again().await;
    let late = late.await.unwrap();
    let mine = three.join(&group, request("c", &first.member_id)).await.unwrap();
    assert!(mine.generation >= 2, "C2: {mine:?} after {late:?}");
    sync(&three, &group, &mine).await.unwrap();
    assert_eq!(three.heartbeat(&group, &caller(&mine)).await, Ok(()));
}
