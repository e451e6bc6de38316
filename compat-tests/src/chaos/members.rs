//! Members of a classic group who read what they own, commit what they have read, and leave now and then.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

use crate::chaos::history::Event;
use crate::chaos::producers::Work;
use crate::chaos::readers::Eye;
use crate::raw_client::RawClient;
use crate::requests::topic_name;

const GROUP: &str = "chaos";
/// Longest it takes a gateway to notice that a member is gone, ms.
const SESSION_TIMEOUT_MS: i32 = 6_000;
const REBALANCE_TIMEOUT_MS: i32 = 3_000;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A join waits for the other members.
const JOINED_WITHIN: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(100);
const BYTES: i32 = 64 << 10;
/// One round in so many makes it leave.
const LEAVES: u32 = 100;

const COORDINATOR_CODES: [i16; 3] = [14, 15, 16];
const UNKNOWN_MEMBER_ID: i16 = 25;
const MEMBER_ID_REQUIRED: i16 = 79;

/// Why a member cannot go on as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Its connection is of no more use, or its coordinator is elsewhere: it goes on in its generation.
    Elsewhere,
    /// It must join again.
    Rejoin,
    /// It must join again, as somebody new.
    Anew,
}

impl From<io::Error> for Halt {
    fn from(_: io::Error) -> Self {
        Self::Elsewhere
    }
}

/// What a member holds in its generation.
#[derive(Debug)]
pub(crate) struct Tenure {
    pub(crate) generation: i32,
    /// Where it reads on, by partition; `None` until the group's committed offset is known.
    pub(crate) places: BTreeMap<i32, Option<i64>>,
}

impl Tenure {
    /// Begins with partitions of which nothing is known.
    pub(crate) fn of(generation: i32, partitions: Vec<i32>) -> Self {
        Self { generation, places: partitions.into_iter().map(|partition| (partition, None)).collect() }
    }

    /// The partitions of which no committed offset is known.
    pub(crate) fn unknown(&self) -> Vec<i32> {
        self.places.iter().filter(|(_, at)| at.is_none()).map(|(partition, _)| *partition).collect()
    }

    /// How far it has read.
    pub(crate) fn known(&self) -> Vec<(i32, i64)> {
        self.places.iter().filter_map(|(partition, at)| Some((*partition, (*at)?))).collect()
    }
}

/// What the leader gives to each of so many members: the partitions in turn, as words.
pub(crate) fn shares(partitions: i32, members: usize) -> impl Iterator<Item = Bytes> {
    (0..members).map(move |member| {
        let own = (0..partitions).filter(|partition| *partition as usize % members == member);
        Bytes::from(own.map(|partition| partition.to_string()).collect::<Vec<_>>().join(" "))
    })
}

/// The partitions of a share; `None` if it is not one.
pub(crate) fn of_share(share: &[u8]) -> Option<Vec<i32>> {
    std::str::from_utf8(share).ok()?.split_whitespace().map(|word| word.parse().ok()).collect()
}

#[derive(Debug)]
struct Member {
    work: Work,
    number: u32,
    random: StdRng,
    id: StrBytes,
    tenure: Option<Tenure>,
}

/// Takes part in the group until told to stop.
pub async fn run(work: Work, number: u32) {
    let random = work.random(number);
    let mut member = Member { work, number, random, id: StrBytes::default(), tenure: None };
    while !member.work.is_over() {
        match member.live().await {
            Ok(()) | Err(Halt::Elsewhere) => {}
            Err(Halt::Rejoin) => member.tenure = None,
            Err(Halt::Anew) => (member.id, member.tenure) = (StrBytes::default(), None),
        }
        sleep(PAUSE).await;
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group() -> GroupId {
    GroupId(text(GROUP))
}

async fn ask<R: Request>(
    client: &mut RawClient,
    version: i16,
    request: &R,
    within: Duration,
) -> io::Result<R::Response> {
    let answer = timeout(within, client.ask(version, request)).await;
    answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

impl Member {
    /// What an error code means for it.
    fn hear(&self, code: i16) -> Result<(), Halt> {
        if code == 0 {
            return Ok(());
        }
        self.work.history.note_error("member", code);
        match code {
            UNKNOWN_MEMBER_ID => Err(Halt::Anew),
            code if COORDINATOR_CODES.contains(&code) => Err(Halt::Elsewhere),
            // REBALANCE_IN_PROGRESS, ILLEGAL_GENERATION.
            22 | 27 => Err(Halt::Rejoin),
            _ => Err(Halt::Elsewhere),
        }
    }

    /// One connection to the coordinator.
    async fn live(&mut self) -> Result<(), Halt> {
        let mut any = self.work.addresses.connect(&mut self.random).await?;
        let address = coordinator(&mut any).await?.ok_or(Halt::Elsewhere)?;
        let connect = timeout(ANSWER_WITHIN, RawClient::connect(address)).await;
        let mut client = connect.map_err(|_| Halt::Elsewhere)??;
        if self.tenure.is_none() {
            self.join(&mut client).await?;
        }
        while !self.work.is_over() {
            self.learn_places(&mut client).await?;
            self.read().await;
            self.commit(&mut client).await?;
            self.beat(&mut client).await?;
            if self.random.random_range(0..LEAVES) == 0 {
                self.leave(&mut client).await?;
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn join(&mut self, client: &mut RawClient) -> Result<(), Halt> {
        let request = JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(SESSION_TIMEOUT_MS)
            .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("spread"))]);
        let number = self.work.history.number();
        self.work.history.note(Event::Joining { ask: number });
        let joined = ask(client, 7, &request.clone().with_member_id(self.id.clone()), JOINED_WITHIN).await?;
        if joined.error_code == MEMBER_ID_REQUIRED {
            self.id = joined.member_id;
            return Err(Halt::Rejoin);
        }
        self.hear(joined.error_code)?;
        self.work.history.note(Event::Joined { ask: number, generation: joined.generation_id });
        self.id = joined.member_id.clone();
        let sync = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(joined.generation_id)
            .with_member_id(self.id.clone())
            .with_assignments(spread(&joined, self.work.partitions));
        // Without an answer it is not known what it owns: it joins again.
        let synced = ask(client, 3, &sync, JOINED_WITHIN).await.map_err(|_| Halt::Rejoin)?;
        self.hear(synced.error_code).map_err(|halt| if matches!(halt, Halt::Anew) { halt } else { Halt::Rejoin })?;
        let partitions = of_share(&synced.assignment).ok_or(Halt::Rejoin)?;
        let (generation, member) = (joined.generation_id, self.id.to_string());
        self.work.history.note(Event::Assigned { generation, member, partitions: partitions.clone() });
        self.tenure = Some(Tenure::of(generation, partitions));
        Ok(())
    }

    /// Asks for the committed offsets of what it owns, once in a generation.
    async fn learn_places(&mut self, client: &mut RawClient) -> Result<(), Halt> {
        let Some(tenure) = &mut self.tenure else { return Ok(()) };
        let unknown = tenure.unknown();
        if unknown.is_empty() {
            return Ok(());
        }
        let number = self.work.history.number();
        self.work.history.note(Event::Asking { ask: number });
        for (partition, offset) in committed(client, &self.work.topic, unknown).await? {
            self.work.history.note(Event::Told { ask: number, partition, offset });
            tenure.places.insert(partition, Some(offset.max(0)));
        }
        Ok(())
    }

    /// Reads a little of everything it owns, through any gateway.
    async fn read(&mut self) {
        let Some(tenure) = &mut self.tenure else { return };
        let Ok(client) = self.work.addresses.connect(&mut self.random).await else { return };
        let mut eye = Eye::new(self.number, client, &self.work.topic, &self.work.history);
        for (partition, place) in &mut tenure.places {
            let Some(at) = place else { continue };
            match eye.read(*partition, *at, BYTES).await {
                Ok((next, _)) => *at = next,
                Err(_) => return,
            }
        }
    }

    async fn commit(&mut self, client: &mut RawClient) -> Result<(), Halt> {
        let Some(tenure) = &self.tenure else { return Ok(()) };
        let places = tenure.known();
        if places.is_empty() {
            return Ok(());
        }
        let history = &self.work.history;
        places.iter().for_each(|(partition, offset)| {
            history.note(Event::Committing { partition: *partition, offset: *offset });
        });
        let of = |(partition, offset): &(i32, i64)| {
            OffsetCommitRequestPartition::default().with_partition_index(*partition).with_committed_offset(*offset)
        };
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.work.topic))
            .with_partitions(places.iter().map(of).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(tenure.generation)
            .with_member_id(self.id.clone())
            .with_topics(vec![topic]);
        let answer = ask(client, 8, &request, ANSWER_WITHIN).await?;
        let mut worst = Ok(());
        for told in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            match places.iter().find(|(partition, _)| *partition == told.partition_index) {
                Some((partition, offset)) if told.error_code == 0 => {
                    history.note(Event::Committed { partition: *partition, offset: *offset });
                }
                _ => match self.hear(told.error_code) {
                    Ok(()) => {}
                    halted => worst = halted,
                },
            }
        }
        worst
    }

    async fn beat(&self, client: &mut RawClient) -> Result<(), Halt> {
        let Some(tenure) = &self.tenure else { return Ok(()) };
        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(tenure.generation)
            .with_member_id(self.id.clone());
        self.hear(ask(client, 3, &request, ANSWER_WITHIN).await?.error_code)
    }

    async fn leave(&self, client: &mut RawClient) -> Result<(), Halt> {
        let me = MemberIdentity::default().with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default().with_group_id(group()).with_members(vec![me]);
        // Whatever the answer, somebody new joins.
        let _ = ask(client, 3, &request, ANSWER_WITHIN).await?;
        Err(Halt::Anew)
    }
}

/// What the leader gives to whom. Nothing if it is not the leader.
fn spread(joined: &JoinGroupResponse, partitions: i32) -> Vec<SyncGroupRequestAssignment> {
    let members = joined.members.iter().map(|member| member.member_id.clone());
    let give = |(member, share)| SyncGroupRequestAssignment::default().with_member_id(member).with_assignment(share);
    members.zip(shares(partitions, joined.members.len())).map(give).collect()
}

/// Where the group's coordinator is; `None` if there is none now.
async fn coordinator(client: &mut RawClient) -> io::Result<Option<SocketAddr>> {
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
    let answer = ask(client, 4, &request, ANSWER_WITHIN).await?;
    let found = answer.coordinators.first().filter(|found| found.error_code == 0);
    Ok(found.and_then(|found| Some(SocketAddr::new(found.host.parse().ok()?, u16::try_from(found.port).ok()?))))
}

/// The group's committed offsets of some partitions.
async fn committed(client: &mut RawClient, topic: &str, partitions: Vec<i32>) -> io::Result<Vec<(i32, i64)>> {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name(topic)).with_partition_indexes(partitions);
    let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let answer = ask(client, 7, &request, ANSWER_WITHIN).await?;
    if answer.error_code != 0 {
        return Err(io::Error::other(format!("error {}", answer.error_code)));
    }
    let told = answer.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(told.filter(|told| told.error_code == 0).map(|told| (told.partition_index, told.committed_offset)).collect())
}
