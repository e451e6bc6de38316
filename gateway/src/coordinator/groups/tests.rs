//! The coordinator over real metadata on a journal in memory that can misbehave; time is tokio's, paused.

mod moves;

use metadata::command::CreateTopic;
use metadata::handle::MetadataParts;
use metadata::journal::Journal;
use metadata::journal::memory::{AppendFault, MemoryJournal};
use metadata::model::ids::TopicId;
use metadata::model::offset::Offset;
use metadata::snapshot::MemorySnapshots;
use metadata::state::FEATURE_LEVEL;

use super::*;
use crate::coordinator::options::IDLE_LINGER;
use crate::coordinator::rules::classic::{CONSUMER_PROTOCOL_TYPE, Joined, Protocol};
use crate::options::kafka::KafkaSettings;

/// A journal, and gateways on it.
struct Cell {
    journal: Arc<MemoryJournal>,
    snapshots: Arc<MemorySnapshots>,
}

impl Cell {
    fn new() -> Self {
        Self { journal: Arc::default(), snapshots: Arc::default() }
    }

    async fn gateway(&self, node: i32) -> Arc<Groups> {
        self.gateway_on(node, self.journal.clone()).await
    }

    async fn gateway_on(&self, node: i32, journal: Arc<dyn Journal>) -> Arc<Groups> {
        let mut parts = MetadataParts::for_tests(node, journal, self.snapshots.clone());
        parts.session.feature_level = FEATURE_LEVEL;
        let metadata = Metadata::start(parts).await.unwrap();
        Groups::start(metadata, GroupOptions::new(&KafkaSettings::new(&BTreeMap::new())))
    }
}

fn request(client: &str, member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        instance: None,
        client_id: client.into(),
        client_host: "/h".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
        protocols: vec![Protocol { name: "range".into(), metadata: vec![0, 0, 0, 0, 0, 0].into() }],
        requires_known_id: true,
        can_skip_assignment: true,
        unique: "".into(),
    }
}

fn fixed(instance: &str) -> JoinRequest {
    JoinRequest { instance: Some(instance.into()), ..request("c", "") }
}

fn caller(joined: &Joined) -> Caller {
    Caller { member_id: joined.member_id.clone(), instance: None, generation: joined.generation }
}

fn outsider() -> Caller {
    Caller { member_id: "".into(), instance: None, generation: -1 }
}

async fn join(groups: &Groups, group: &str, client: &str) -> Joined {
    let refused = groups.join(group, request(client, "")).await.unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    groups.join(group, request(client, &refused.member_id)).await.unwrap()
}

async fn sync(groups: &Groups, group: &str, joined: &Joined) -> SyncReply {
    let assign = |member: &crate::coordinator::rules::classic::JoinedMember| {
        (member.member_id.clone(), bytes::Bytes::copy_from_slice(member.member_id.as_bytes()))
    };
    let request = SyncRequest {
        member_id: joined.member_id.clone(),
        instance: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: joined.members.iter().map(assign).collect(),
    };
    groups.sync(group, request).await
}

/// One member, stable.
async fn settled(groups: &Groups, group: &str) -> Joined {
    let joined = join(groups, group, "c").await;
    sync(groups, group, &joined).await.unwrap();
    joined
}

async fn topic(groups: &Groups) -> TopicPartition {
    let id = TopicId::random();
    let create = CreateTopic { id, name: "t".parse().unwrap(), partitions: 1, configs: Vec::new() };
    groups.metadata().submit(Command::CreateTopic(create)).await.unwrap();
    TopicPartition { topic: id, partition: 0 }
}

fn at(partition: TopicPartition, offset: i64) -> Vec<(TopicPartition, CommittedOffset)> {
    let offset = Offset::new(offset).unwrap();
    vec![(
        partition,
        CommittedOffset { offset, leader_epoch: -1, metadata: String::new(), commit_ms: 0, expire_ms: None },
    )]
}

fn committed(groups: &Groups, group: &str, partition: TopicPartition) -> Option<i64> {
    groups.metadata().read(|state| state.offsets().get(group, partition).map(|offset| offset.offset.get()))
}

async fn expire(groups: &Groups) {
    let command = Command::ExpireState { producer_idle_ms: 1, offsets_retention_ms: 0 };
    groups.metadata().submit(command).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn members_join_sync_and_are_described() {
    let groups = Cell::new().gateway(1).await;
    let (a, b) = tokio::join!(join(&groups, "g", "a"), join(&groups, "g", "b"));
    assert_eq!((a.generation, b.generation), (1, 1));
    let (first, second) = tokio::join!(sync(&groups, "g", &a), sync(&groups, "g", &b));
    assert_eq!(first.unwrap().assignment, a.member_id.as_bytes());
    assert_eq!(second.unwrap().assignment, b.member_id.as_bytes());
    assert_eq!(groups.heartbeat("g", &caller(&a)).await, Ok(()));
    let view = groups.describe("g").await.unwrap().unwrap();
    assert_eq!((view.state, &*view.protocol, view.members.len()), ("Stable", "range", 2));
    let listed = groups.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].state, &*listed[0].protocol_type), (1, "Stable", "consumer"));
    assert_eq!(groups.describe("other").await, Ok(None));
    assert_eq!(groups.delete("g").await, Err(GroupError::NonEmptyGroup));
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_members_generation_and_static_places() {
    let cell = Cell::new();
    let groups = cell.gateway(1).await;
    let old = groups.join("s", fixed("i")).await.unwrap();
    sync(&groups, "s", &old).await.unwrap();
    let joined = settled(&groups, "g").await;
    drop(groups);

    let groups = cell.gateway(1).await;
    assert_eq!(groups.heartbeat("g", &caller(&joined)).await, Ok(()));
    assert_eq!(sync(&groups, "g", &joined).await.unwrap().assignment, joined.member_id.as_bytes());
    let back = groups.join("s", fixed("i")).await.unwrap();
    assert_eq!((back.generation, back.skip_assignment), (1, true), "C4 across a restart");
    let ghost = Caller { instance: Some("i".into()), ..caller(&old) };
    assert_eq!(groups.heartbeat("s", &ghost).await, Err(GroupError::FencedInstance));
    let again = groups.join("g", request("c", &joined.member_id)).await.unwrap();
    assert_eq!(again.generation, 2, "C2 over a restart");
}

#[tokio::test(start_paused = true)]
async fn a_generation_is_never_given_out_twice() {
    let cell = Cell::new();
    let groups = cell.gateway(1).await;
    let first = join(&groups, "g", "a").await;
    drop(groups); // before any sync
    let groups = cell.gateway(1).await;
    let second = groups.join("g", request("a", &first.member_id)).await.unwrap();
    assert_eq!(second.generation, first.generation, "the same rebalance, told again");
    groups.leave("g", &[Leaver { member_id: first.member_id, instance: None }]).await.unwrap();
    assert!(join(&groups, "g", "b").await.generation > second.generation, "C2");
}

#[tokio::test(start_paused = true)]
async fn sessions_of_members_that_never_come_back_lapse_after_a_restart() {
    let cell = Cell::new();
    let groups = cell.gateway(1).await;
    settled(&groups, "g").await;
    drop(groups);
    let groups = cell.gateway(1).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(groups.metadata().read(|state| state.groups().get("g").unwrap().is_empty()));
    assert_eq!(groups.list().await.unwrap()[0].state, "Empty");
}

#[tokio::test(start_paused = true)]
async fn with_the_journal_away_clients_are_told_to_come_again_and_nothing_is_lost() {
    let cell = Cell::new();
    let groups = cell.gateway(1).await;
    let joined = settled(&groups, "g").await;
    let partition = topic(&groups).await;
    cell.journal.set_away(true);
    assert_eq!(groups.heartbeat("g", &caller(&joined)).await, Ok(()), "needs no save");
    let began = Instant::now();
    let refused = groups.join("g", request("c", &joined.member_id)).await.unwrap_err();
    assert!(matches!(refused.error, GroupError::SaveUnknown | GroupError::Unavailable), "{}", refused.error);
    let commit = groups.commit("g", &caller(&joined), at(partition, 3)).await.unwrap_err();
    assert!(matches!(commit, GroupError::SaveUnknown | GroupError::Unavailable), "{commit}");
    assert_eq!(groups.heartbeat("new", &caller(&joined)).await, Err(GroupError::Unavailable));
    assert!(began.elapsed() < Duration::from_secs(40), "C9: bounded, took {:?}", began.elapsed());
    cell.journal.set_away(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = groups.join("g", request("c", &joined.member_id)).await.unwrap();
    assert!(back.generation > joined.generation);
    sync(&groups, "g", &back).await.unwrap();
    assert_eq!(groups.commit("g", &caller(&back), at(partition, 4)).await, Ok(vec![Ok(())]));
    assert_eq!(committed(&groups, "g", partition), Some(4));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_of_the_journal_is_no_second_generation() {
    let cell = Cell::new();
    let groups = cell.gateway(1).await;
    cell.journal.script([AppendFault::AnswerLost, AppendFault::RequestLost, AppendFault::Late]);
    let joined = settled(&groups, "g").await;
    assert_eq!(joined.generation, 1);
    assert_eq!(groups.heartbeat("g", &caller(&joined)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_committed_by_members_and_by_outsiders_while_nobody_is_there() {
    let groups = Cell::new().gateway(1).await;
    let partition = topic(&groups).await;
    assert_eq!(groups.commit("plain", &outsider(), at(partition, 5)).await, Ok(vec![Ok(())]));
    assert_eq!(groups.commit("", &outsider(), at(partition, 6)).await, Ok(vec![Ok(())]), "a group without a name");
    assert_eq!((committed(&groups, "plain", partition), committed(&groups, "", partition)), (Some(5), Some(6)));
    assert_eq!(groups.describe("plain").await.unwrap().unwrap().state, "Empty");
    assert_eq!(groups.list().await.unwrap().len(), 2);

    let unknown = Caller { member_id: "m".into(), instance: None, generation: 1 };
    assert_eq!(groups.commit("none", &unknown, at(partition, 1)).await, Err(GroupError::GroupNotFound));
    let joined = settled(&groups, "plain").await;
    assert_eq!(groups.commit("plain", &outsider(), at(partition, 1)).await, Err(GroupError::UnknownMember));
    assert_eq!(groups.commit("plain", &caller(&joined), at(partition, 9)).await, Ok(vec![Ok(())]));
    let old = Caller { generation: 0, ..caller(&joined) };
    assert_eq!(groups.commit("plain", &old, at(partition, 1)).await, Err(GroupError::IllegalGeneration));
    let gone = TopicPartition { topic: TopicId::random(), partition: 0 };
    let unknown = Err(GroupError::UnknownTopicOrPartition);
    assert_eq!(groups.commit("plain", &caller(&joined), at(gone, 1)).await, Ok(vec![unknown]));
    assert_eq!(committed(&groups, "plain", partition), Some(9));

    let partitions = || vec![partition];
    assert_eq!(groups.withdraw("plain", &outsider(), partitions()).await, Err(GroupError::UnknownMember));
    assert_eq!(committed(&groups, "plain", partition), Some(9));
    assert_eq!(groups.withdraw("plain", &caller(&joined), partitions()).await, Ok(()));
    assert_eq!(committed(&groups, "plain", partition), None);
    assert_eq!(groups.withdraw("nobody", &outsider(), partitions()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn offsets_are_deleted_unless_they_are_read() {
    let groups = Cell::new().gateway(1).await;
    let partition = topic(&groups).await;
    let named = [(Arc::<str>::from("t"), partition)];
    assert_eq!(groups.delete_offsets("g", &named).await, Err(GroupError::GroupNotFound));
    let joined = settled(&groups, "g").await;
    groups.commit("g", &caller(&joined), at(partition, 9)).await.unwrap();
    assert_eq!(groups.delete_offsets("g", &named).await, Ok(vec![Ok(())]), "it subscribes to nothing");
    assert_eq!(committed(&groups, "g", partition), None);
}

#[tokio::test(start_paused = true)]
async fn groups_are_deleted_and_begin_anew() {
    let groups = Cell::new().gateway(1).await;
    let partition = topic(&groups).await;
    assert_eq!(groups.delete("g").await, Err(GroupError::GroupNotFound));
    let joined = settled(&groups, "g").await;
    groups.commit("g", &caller(&joined), at(partition, 9)).await.unwrap();
    groups.leave("g", &[Leaver { member_id: joined.member_id.clone(), instance: None }]).await.unwrap();
    assert_eq!(groups.delete("g").await, Ok(()));
    assert_eq!((groups.describe("g").await, committed(&groups, "g", partition)), (Ok(None), None));
    assert!(groups.list().await.unwrap().is_empty());
    assert_eq!(groups.heartbeat("g", &caller(&joined)).await, Err(GroupError::UnknownMember));
    assert_eq!(join(&groups, "g", "c").await.generation, 1);
}

#[tokio::test(start_paused = true)]
async fn expiry_beneath_the_coordinator_is_followed() {
    let groups = Cell::new().gateway(1).await;
    let joined = settled(&groups, "g").await;
    expire(&groups).await;
    assert_eq!(groups.heartbeat("g", &caller(&joined)).await, Ok(()), "C7: not while it has members");
    groups.leave("g", &[Leaver { member_id: joined.member_id, instance: None }]).await.unwrap();
    expire(&groups).await;
    assert_eq!(groups.describe("g").await, Ok(None));
    assert!(groups.list().await.unwrap().is_empty());
    // It expires again while the first member of its next life waits in the initial delay.
    let partition = topic(&groups).await;
    groups.commit("g", &outsider(), at(partition, 1)).await.unwrap();
    let (next, ()) = tokio::join!(join(&groups, "g", "c"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        expire(&groups).await;
    });
    assert_eq!(next.generation, 1);
    assert!(sync(&groups, "g", &next).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn idle_groups_leave_memory_and_come_back() {
    let groups = Cell::new().gateway(1).await;
    let partition = topic(&groups).await;
    groups.commit("g", &outsider(), at(partition, 1)).await.unwrap();
    assert_eq!(groups.active.len(), 1);
    tokio::time::sleep(IDLE_LINGER * 2).await;
    assert_eq!(groups.active.len(), 0);
    groups.commit("g", &outsider(), at(partition, 2)).await.unwrap();
    assert_eq!(committed(&groups, "g", partition), Some(2));
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_everyone_go() {
    let groups = Cell::new().gateway(1).await;
    let waiting = tokio::spawn({
        let groups = Arc::clone(&groups);
        async move { groups.join("g", JoinRequest { requires_known_id: false, ..request("c", "") }).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    groups.stop();
    let began = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(groups.heartbeat("g", &outsider()).await, Err(GroupError::NotCoordinator));
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_are_refused_at_the_door() {
    let groups = Cell::new().gateway(1).await;
    let refused = groups.join("", request("c", "")).await.unwrap_err();
    assert_eq!(refused.error, GroupError::InvalidGroupId);
    for session_timeout_ms in [0, -1, 5_999, 1_800_001] {
        let request = JoinRequest { session_timeout_ms, ..request("c", "") };
        assert_eq!(groups.join("g", request).await.unwrap_err().error, GroupError::InvalidSessionTimeout);
    }
    assert_eq!(groups.heartbeat("", &outsider()).await, Err(GroupError::InvalidGroupId));
    assert_eq!(groups.delete(&"x".repeat(GROUP_ID_MAX_LEN + 1)).await, Err(GroupError::InvalidGroupId));
    assert_eq!(groups.active.len(), 0);
}
