//! Three gateways on one PostgreSQL and one bucket: who is shown to whom, groups that move, a tail that is heard of at once,
//! and a gateway that leaves without anybody noticing.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::following::{Following, coordinator_of, leaders, metadata_of};
use compat_tests::harness::{Gateway, Setup};
use compat_tests::postgres::Postgres;
use compat_tests::raw_client::RawClient;
use compat_tests::requests::{
    FETCH_VERSION, commit_offset, committed_offset, create_topic, fetch, fetch_one, new_producer, produce_one,
    read_all, topic_name,
};
use compat_tests::s3_server::S3Server;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FetchRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use metadata::clock::{Clock, SystemClock};
use metadata::model::batch::ProducerStamp;
use metadata::model::ids::ProducerId;
use storage::codec::records::RecordsBuilder;

const NOT_LEADER: i16 = 6;
const NOT_COORDINATOR: i16 = 16;
const MEMBER_ID_REQUIRED: i16 = 79;
/// Of the gateways' sessions where one is killed; short, so that its death is seen soon.
const SESSION_TIMEOUT: Duration = Duration::from_secs(4);
/// Of the gateways' sessions where all live: so long that a busy machine lets none of them be taken for dead.
const LIVING: Duration = Duration::from_secs(30);
/// Longest wait for what must happen.
const SOON: Duration = Duration::from_secs(90);
/// Zones of the three gateways.
const RACKS: [&str; 3] = ["a", "b", "b"];

/// The three, and what they share.
struct Cluster {
    gateways: Vec<Gateway>,
    setups: Box<dyn Fn(usize) -> Setup>,
    _s3: S3Server,
    _postgres: Postgres,
}

impl Cluster {
    async fn start(session_timeout: Duration) -> Self {
        let (s3, postgres) = (S3Server::start().await, Postgres::start().unwrap());
        let url = postgres.url();
        let (bucket, endpoint, environment) = (s3.bucket().to_owned(), s3.endpoint(), s3.environment());
        let setups = Box::new(move |at: usize| {
            let node = (at + 1).to_string();
            let setup = Setup::new().unwrap().args(["--bucket", &format!("s3://{bucket}"), "--endpoint", &endpoint]);
            let setup = setup.args(["--journal", &url, "--node-id", &node, "--rack", RACKS[at % RACKS.len()]]);
            let timeout = session_timeout.as_millis().to_string();
            let setup =
                setup.set("metadata.session-timeout-ms", &timeout).set("metadata.state-check-interval-ms", "1000");
            let setup = setup.set("kafka.group.initial.rebalance.delay.ms", "0");
            environment.iter().fold(setup, |setup, (name, value)| setup.env(name, value.clone()))
        });
        let mut cluster = Self { gateways: Vec::new(), setups, _s3: s3, _postgres: postgres };
        for at in 0..RACKS.len() {
            cluster.gateways.push((cluster.setups)(at).start().await.unwrap());
        }
        cluster.is_seen_by_all(3).await;
        cluster
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.gateways.iter().map(Gateway::address).collect()
    }

    /// Waits until every running gateway names so many.
    async fn is_seen_by_all(&self, count: usize) {
        for gateway in &self.gateways {
            let mut client = gateway.client().await.unwrap();
            until("all gateways are named", async || {
                metadata_of(&mut client, "nothing").await.unwrap().brokers.len() == count
            })
            .await;
        }
    }

    async fn client(&self, at: usize) -> RawClient {
        self.gateways[at].client().await.unwrap()
    }

    /// Ends in order, and without a word of states that differ.
    async fn end(mut self) {
        for gateway in &mut self.gateways {
            if gateway.is_running() {
                assert_eq!(gateway.metric("streamhouse_journal_state_differences_total").await.unwrap(), Some(0.0));
            }
        }
        // All at once, as an orchestrator does it.
        for gateway in &mut self.gateways {
            if gateway.is_running() {
                gateway.signal("TERM").unwrap();
            }
        }
        for gateway in &mut self.gateways {
            assert!(!gateway.is_running() || gateway.ended(SOON).await.unwrap() == Some(0), "{}", gateway.stderr());
        }
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn batch(values: &[&str]) -> Bytes {
    RecordsBuilder::new().values(SystemClock.now_ms(), values).build()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_where_they_belong() {
    let cluster = Cluster::start(LIVING).await;
    let mut one = cluster.client(0).await;
    assert_eq!(create_topic(&mut one, "t", 30, &[]).await.unwrap(), 0);

    // All gateways name the same leaders, and each of them some, all in epoch 0 (P4).
    let mut seen = Vec::new();
    for at in 0..3 {
        let answer = metadata_of(&mut cluster.client(at).await, "t").await.unwrap();
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        assert!(partitions.map(|partition| partition.leader_epoch).all(|epoch| epoch == 0));
        seen.push(leaders(&answer));
    }
    assert!(seen.iter().all(|leaders| *leaders == seen[0]), "{seen:?}");
    let named: BTreeSet<_> = seen[0].values().copied().collect();
    assert_eq!(named, cluster.addresses().into_iter().collect());

    // Any gateway takes any produce and serves any fetch, whatever leader epoch the client has heard of.
    for at in 0..3 {
        let produced = produce_one(&mut cluster.client(at).await, "t", 0, batch(&["x"])).await.unwrap();
        assert_eq!((produced.error_code, produced.base_offset), (0, at as i64));
    }
    for at in 0..3 {
        let mut request = fetch("t", 0, 2).with_max_wait_ms(20_000).with_min_bytes(1);
        request.topics[0].partitions[0].current_leader_epoch = 0;
        let answer = cluster.client(at).await.ask(FETCH_VERSION, &request).await.unwrap();
        let partition = &answer.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark, partition.preferred_read_replica.0), (0, 3, -1));
        assert!(partition.records.as_ref().is_some_and(|records| !records.is_empty()));
    }

    // A client that says its zone is sent to that zone by every gateway, also by those of other zones.
    for (name, nodes) in [("orders,diskless_az=b", vec![2, 3]), ("zone=a", vec![1]), ("zone=c", vec![1, 2, 3])] {
        for address in cluster.addresses() {
            let mut client = RawClient::connect_as(address, name).await.unwrap();
            let answer = metadata_of(&mut client, "t").await.unwrap();
            let brokers: Vec<_> = answer.brokers.iter().map(|broker| broker.node_id.0).collect();
            assert_eq!(brokers, nodes, "{name}");
            let led: BTreeSet<_> = answer.topics[0].partitions.iter().map(|p| p.leader_id.0).collect();
            assert_eq!(led, nodes.iter().copied().collect(), "{name}");
        }
    }

    // A consumer with client.rack is told a gateway of its rack, and that one serves it.
    let request = fetch("t", 0, 0).with_rack_id(text("b"));
    let answer = one.ask(FETCH_VERSION, &request).await.unwrap();
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 3));
    assert!(partition.records.as_ref().is_none_or(Bytes::is_empty));
    let node = partition.preferred_read_replica.0;
    assert!([2, 3].contains(&node), "{node}");
    let at = usize::try_from(node - 1).unwrap();
    let answer = cluster.client(at).await.ask(FETCH_VERSION, &request).await.unwrap();
    let partition = &answer.responses[0].partitions[0];
    assert_eq!(partition.preferred_read_replica.0, -1);
    assert!(partition.records.as_ref().is_some_and(|records| !records.is_empty()));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_fetch_hears_of_a_produce_through_another_gateway() {
    const ROUNDS: usize = 100;
    const GOES: usize = 4;
    let cluster = Cluster::start(LIVING).await;
    let (mut producer, mut reader) = (cluster.client(0).await, cluster.client(1).await);
    assert_eq!(create_topic(&mut producer, "tail", 1, &[]).await.unwrap(), 0);
    until("the topic is there", async || fetch_one(&mut reader, "tail", 0, 0).await.unwrap().error_code == 0).await;
    // A busy machine takes its share of some goes; one must be without.
    for go in 0..GOES {
        let (median, ack) = hear_of(&mut producer, &mut reader, go * ROUNDS..(go + 1) * ROUNDS).await;
        // Hearing of it is a message, a read of the journal and one of the bucket: never more than the ack took.
        if median <= (ack * 2).max(Duration::from_millis(20)) {
            return cluster.end().await;
        }
    }
    panic!("it was heard of too late in each of {GOES} goes");
}

/// Produces in these rounds what a fetch waits for; medians of how long after the ack it was heard of, and of how long the ack took.
async fn hear_of(producer: &mut RawClient, reader: &mut RawClient, rounds: Range<usize>) -> (Duration, Duration) {
    let (mut late, mut acks) = (Vec::with_capacity(rounds.len()), Vec::with_capacity(rounds.len()));
    for round in rounds {
        let request = fetch("tail", 0, round as i64).with_max_wait_ms(20_000).with_min_bytes(1);
        let sent = reader.send(FETCH_VERSION, &request).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let hearing = async {
            reader.arriving().await.unwrap();
            Instant::now()
        };
        let began = Instant::now();
        let producing = async {
            let produced = produce_one(producer, "tail", 0, batch(&["x"])).await.unwrap();
            assert_eq!((produced.error_code, produced.base_offset), (0, round as i64));
            Instant::now()
        };
        let (heard, acked) = tokio::join!(hearing, producing);
        let answer = reader.receive::<FetchRequest>(sent).await.unwrap();
        assert_eq!(answer.responses[0].partitions[0].high_watermark, round as i64 + 1);
        late.push(heard.saturating_duration_since(acked));
        acks.push(acked - began);
    }
    late.sort_unstable();
    acks.sort_unstable();
    let (median, p99, ack) = (late[late.len() / 2], late[late.len() * 99 / 100], acks[acks.len() / 2]);
    println!("acked in {ack:?} (median); heard of after that: median {median:?}, p99 {p99:?}");
    (median, ack)
}

/// A member of a group that is alone in it.
struct Member {
    group: GroupId,
    id: StrBytes,
    generation: i32,
}

impl Member {
    async fn join(client: &mut RawClient, group: &str) -> Self {
        let group = GroupId(text(group));
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(group.clone())
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let given: JoinGroupResponse = client.ask(7, &request).await.unwrap();
        assert_eq!(given.error_code, MEMBER_ID_REQUIRED);
        let joined = client.ask(7, &request.with_member_id(given.member_id)).await.unwrap();
        assert_eq!(joined.error_code, 0);
        let mine = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
        let sync = SyncGroupRequest::default()
            .with_group_id(group.clone())
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![mine]);
        assert_eq!(client.ask(3, &sync).await.unwrap().error_code, 0);
        Self { group, id: joined.member_id, generation: joined.generation_id }
    }

    async fn heartbeat(&self, client: &mut RawClient) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        client.ask(3, &request).await.unwrap().error_code
    }

    async fn commit(&self, client: &mut RawClient, topic: &str, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        client.ask(8, &request).await.unwrap().topics[0].partitions[0].error_code
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_moves_when_its_coordinator_is_killed_and_keeps_its_generation() {
    let mut cluster = Cluster::start(SESSION_TIMEOUT).await;
    assert_eq!(create_topic(&mut cluster.client(0).await, "t", 1, &[]).await.unwrap(), 0);
    let (node, address) = coordinator_of(&mut cluster.client(0).await, "g").await.unwrap().unwrap();
    let at = usize::try_from(node - 1).unwrap();
    assert_eq!(address, cluster.gateways[at].address());
    let other = (at + 1) % 3;
    let mut asked = cluster.client(other).await;
    assert_eq!(coordinator_of(&mut asked, "g").await.unwrap().unwrap().0, node, "all say the same");
    let mut coordinator = cluster.client(at).await;
    let member = Member::join(&mut coordinator, "g").await;
    assert_eq!(member.commit(&mut coordinator, "t", 5).await, 0);
    assert_eq!(member.heartbeat(&mut asked).await, NOT_COORDINATOR);
    assert_eq!(commit_offset(&mut asked, "g", "t", 7).await.unwrap(), NOT_COORDINATOR);

    cluster.gateways[at].kill9().await.unwrap();
    let killed = Instant::now();
    let mut moved = (node, address);
    until("the group has another coordinator", async || {
        moved = coordinator_of(&mut asked, "g").await.unwrap().unwrap_or(moved);
        moved.0 != node
    })
    .await;
    println!("another coordinator was named {:?} after the kill", killed.elapsed());
    assert!(killed.elapsed() < SESSION_TIMEOUT * 4, "{:?}", killed.elapsed());
    let mut coordinator = RawClient::connect(moved.1).await.unwrap();
    until("it has taken the group over", async || member.heartbeat(&mut coordinator).await == 0).await;
    assert_eq!(committed_offset(&mut coordinator, "g", "t").await.unwrap(), 5);
    assert_eq!(member.commit(&mut coordinator, "t", 9).await, 0, "in the same generation");
    assert_eq!(committed_offset(&mut coordinator, "g", "t").await.unwrap(), 9);

    // It comes back, and the group with it: the member goes on once more.
    cluster.gateways[at].restart().await.unwrap();
    until("the group is back", async || {
        coordinator_of(&mut asked, "g").await.unwrap().is_some_and(|(found, _)| found == node)
    })
    .await;
    let mut back = cluster.client(at).await;
    until("it has taken the group over again", async || member.heartbeat(&mut back).await == 0).await;
    assert_eq!(member.heartbeat(&mut coordinator).await, NOT_COORDINATOR);
    assert_eq!(member.commit(&mut back, "t", 11).await, 0);
    cluster.end().await;
}

/// Produces numbered records to one partition, wherever it is sent, until told to stop; what it was told, and how many.
async fn lane(addresses: Vec<SocketAddr>, partition: i32, stop: Arc<AtomicBool>) -> (BTreeMap<i16, u64>, usize) {
    let mut bootstrap = RawClient::connect(addresses[0]).await.unwrap();
    let (id, epoch) = new_producer(&mut bootstrap).await.unwrap();
    let mut client = Following::new(&addresses, "following", "load");
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let stamp = ProducerStamp { id: ProducerId(id), epoch, base_sequence: sent as i32, transactional: false };
        let records = RecordsBuilder::new().values(SystemClock.now_ms(), [sent.to_string()]).stamp(stamp).build();
        let offset = client.produce(partition, &records).await.unwrap();
        assert_eq!(offset, sent as i64, "partition {partition}");
        sent += 1;
    }
    (client.told, sent)
}

/// Stops one gateway after the other in order and starts it again.
async fn roll(cluster: &mut Cluster, topic: &str) {
    let mut seen_leaving = 0;
    for at in 0..3 {
        let leaving = cluster.gateways[at].address();
        let mut asked = cluster.client((at + 1) % 3).await;
        cluster.gateways[at].signal("TERM").unwrap();
        until("nobody is sent there any more", async || {
            !leaders(&metadata_of(&mut asked, topic).await.unwrap()).values().any(|leader| *leader == leaving)
        })
        .await;
        // Two seconds after the hints it is gone: on a busy machine it may be before we look.
        seen_leaving += u32::from(cluster.gateways[at].is_running());
        assert_eq!(cluster.gateways[at].ended(SOON).await.unwrap(), Some(0), "{}", cluster.gateways[at].stderr());
        let log = cluster.gateways[at].stderr();
        assert!(!log.contains("answers outstanding"), "{log}");
        cluster.gateways[at].restart().await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(seen_leaving > 0, "the hints move first: each was gone when nobody was sent there any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_is_noticed_by_nobody() {
    const LANES: i32 = 6;
    let mut cluster = Cluster::start(LIVING).await;
    assert_eq!(create_topic(&mut cluster.client(0).await, "load", LANES, &[]).await.unwrap(), 0);
    cluster.is_seen_by_all(3).await;
    let stop = Arc::new(AtomicBool::new(false));
    let lanes: Vec<_> =
        (0..LANES).map(|partition| tokio::spawn(lane(cluster.addresses(), partition, Arc::clone(&stop)))).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    roll(&mut cluster, "load").await;
    stop.store(true, Ordering::Relaxed);
    let mut told = BTreeMap::<i16, u64>::new();
    for (partition, lane) in (0..).zip(lanes) {
        let (of_lane, sent) = lane.await.unwrap();
        of_lane.into_iter().for_each(|(code, count)| *told.entry(code).or_default() += count);
        let read = read_all(&mut cluster.client(0).await, "load", partition).await.unwrap();
        let expected: Vec<_> = (0..sent).map(|number| number.to_string().into_bytes()).collect();
        assert!(read == expected, "partition {partition}: {} records of {sent}", read.len());
        assert!(sent > 20, "partition {partition}: {sent} records");
    }
    // A producer that was silent for as long as clients are given to go finds its connection closed, and connects elsewhere.
    println!("told {told:?}");
    assert!(
        told.get(&NOT_LEADER).is_some_and(|told| *told > 0),
        "clients were sent away before they were cut off: {told:?}"
    );
    cluster.end().await;
}

/// In a module of its own so that a run without the clients' toolchains can leave it out by name.
mod real_clients {
    use compat_tests::client::Client;

    use super::*;

    /// Producers at their defaults write while all gateways are restarted one after the other: each record once, in order.
    #[tokio::test(flavor = "multi_thread")]
    async fn write_through_a_rolling_restart() {
        let libraries =
            [Client { program: "java", library: "java4" }, Client { program: "python", library: "confluent" }];
        let mut cluster = Cluster::start(LIVING).await;
        let addresses: Vec<_> = cluster.gateways.iter().map(Gateway::bootstrap).collect();
        let mut all = Vec::new();
        for library in libraries {
            let topic = format!("topic=rolled-{}", library.library);
            let mut running = library.start("restart", &addresses.join(","), &[&topic, "count=300"]).await.unwrap();
            running.until("started").await.unwrap();
            all.push(running);
        }
        roll(&mut cluster, "rolled-java4").await;
        for running in all {
            let passed = running.passed().await.unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(passed.without(), "");
        }
        cluster.end().await;
    }
}
