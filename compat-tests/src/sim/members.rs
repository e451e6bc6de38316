//! Members of a group in the simulation: as those of `chaos`, they read what they own, commit what they have read, and leave now and then.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gateway::coordinator::error::GroupError;
use gateway::coordinator::rules::classic::Joined;
use gateway::coordinator::rules::classic::Protocol;
use gateway::coordinator::rules::classic::join::JoinRequest;
use gateway::coordinator::rules::classic::leave::Leaver;
use gateway::coordinator::rules::classic::stable::{Caller, SyncRequest};
use gateway::placement::group_owner;
use metadata::command::CommittedOffset;
use metadata::model::ids::TopicPartition;
use metadata::model::offset::Offset;
use metadata::state::State;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{sleep, timeout};

use super::clients::{Eye, PARTITIONS, READ_BYTES, TOPIC, Work};
use super::node::Node;
use crate::chaos::history::Event;
use crate::chaos::members::{Halt, Tenure, of_share, shares};

const SESSION_TIMEOUT_MS: i64 = 3_000;
const REBALANCE_TIMEOUT_MS: i64 = 2_000;
/// Longest wait for an answer: shorter than a silent gateway's session, so that members come to the next coordinator before the one
/// that is stopped can speak again.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A join waits for the other members.
const JOINED_WITHIN: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(100);
/// One round in so many makes it leave.
const LEAVES: u32 = 60;

impl From<GroupError> for Halt {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::UnknownMember | GroupError::GroupNotFound => Self::Anew,
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration => Self::Rejoin,
            _ => Self::Elsewhere,
        }
    }
}

#[derive(Debug)]
struct Member {
    work: Work,
    number: u32,
    /// The group's name says which gateways coordinate it, so each seed has one of its own.
    group: String,
    random: StdRng,
    id: Arc<str>,
    tenure: Option<Tenure>,
}

/// Takes part in the group until told to stop.
pub async fn run(work: Work, number: u32) {
    let random = work.random(number);
    let group = format!("simulated-{}", work.seed);
    let mut member = Member { work, number, group, random, id: "".into(), tenure: None };
    while !member.work.is_over() {
        match member.live().await {
            Ok(()) | Err(Halt::Elsewhere) => {}
            Err(Halt::Rejoin) => member.tenure = None,
            Err(Halt::Anew) => (member.id, member.tenure) = ("".into(), None),
        }
        sleep(PAUSE).await;
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

/// An answer, if the gateway lives to give it in time.
async fn ask<T>(node: &Node, within: Duration, question: impl Future<Output = T>) -> Result<T, Halt> {
    tokio::select! {
        biased;
        () = node.dead() => Err(Halt::Elsewhere),
        answer = timeout(within, question) => answer.map_err(|_| Halt::Elsewhere),
    }
}

impl Member {
    /// The group's coordinator, as any gateway knows it.
    fn coordinator(&mut self) -> Option<Arc<Node>> {
        let any = self.work.any(&mut self.random)?;
        let number = any.metadata.read(|state| group_owner(state, &self.group).map(|owner| owner.node))?;
        let nodes = self.work.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(usize::try_from(number.0.checked_sub(1)?).ok()?).cloned()
    }

    /// One connection to the coordinator.
    async fn live(&mut self) -> Result<(), Halt> {
        let node = self.coordinator().ok_or(Halt::Elsewhere)?;
        if self.tenure.is_none() {
            self.join(&node).await?;
        }
        while !self.work.is_over() {
            self.learn_places(&node).await?;
            // What others have committed stays so too.
            self.committed(&node, (0..PARTITIONS).collect()).await?;
            self.read().await;
            self.commit(&node).await?;
            let caller = self.caller();
            ask(&node, ANSWER_WITHIN, node.groups.heartbeat(&self.group, &caller)).await??;
            if self.random.random_range(0..LEAVES) == 0 {
                let leaver = Leaver { member_id: Arc::clone(&self.id), instance: None };
                // Whatever the answer, somebody new joins.
                let _ = ask(&node, ANSWER_WITHIN, node.groups.leave(&self.group, &[leaver])).await?;
                return Err(Halt::Anew);
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    fn caller(&self) -> Caller {
        let generation = self.tenure.as_ref().map_or(-1, |tenure| tenure.generation);
        Caller { member_id: Arc::clone(&self.id), instance: None, generation }
    }

    async fn join(&mut self, node: &Node) -> Result<(), Halt> {
        let request = JoinRequest {
            member_id: Arc::clone(&self.id),
            instance: None,
            client_id: format!("member-{}", self.number).into(),
            client_host: "/simulated".into(),
            session_timeout_ms: SESSION_TIMEOUT_MS,
            rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "spread".into(), metadata: Bytes::new() }],
            requires_known_id: true,
            can_skip_assignment: false,
            unique: "".into(),
        };
        let number = self.work.history.number();
        self.work.note(Event::Joining { ask: number });
        let joined = match ask(node, JOINED_WITHIN, node.groups.join(&self.group, request)).await? {
            Ok(joined) => joined,
            Err(refused) if refused.error == GroupError::MemberIdRequired => {
                self.id = refused.member_id;
                return Err(Halt::Rejoin);
            }
            Err(refused) => return Err(refused.error.into()),
        };
        self.work.note(Event::Joined { ask: number, generation: joined.generation });
        self.id = Arc::clone(&joined.member_id);
        let sync = SyncRequest {
            member_id: Arc::clone(&self.id),
            instance: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments: spread(&joined),
        };
        // Without an answer it is not known what it owns: it joins again.
        let synced = ask(node, JOINED_WITHIN, node.groups.sync(&self.group, sync)).await.map_err(|_| Halt::Rejoin)?;
        let synced = synced.map_err(|error| match error.into() {
            Halt::Anew => Halt::Anew,
            Halt::Elsewhere | Halt::Rejoin => Halt::Rejoin,
        })?;
        let partitions = of_share(&synced.assignment).ok_or(Halt::Rejoin)?;
        let (generation, member) = (joined.generation, self.id.to_string());
        self.work.note(Event::Assigned { generation, member, partitions: partitions.clone() });
        self.tenure = Some(Tenure::of(generation, partitions));
        Ok(())
    }

    /// Asks for the committed offsets of some partitions, as from behind a read barrier.
    async fn committed(&self, node: &Node, partitions: Vec<i32>) -> Result<Vec<(i32, i64)>, Halt> {
        let number = self.work.history.number();
        self.work.note(Event::Asking { ask: number });
        ask(node, ANSWER_WITHIN, node.groups.barrier()).await??;
        let one = |partition| {
            let found = |state: &State| state.offsets().get(&self.group, at(partition)).map(|found| found.offset.get());
            let offset = node.metadata.read(found).unwrap_or(-1);
            self.work.note(Event::Told { ask: number, partition, offset });
            (partition, offset)
        };
        Ok(partitions.into_iter().map(one).collect())
    }

    /// Learns once in a generation where to go on in what it owns.
    async fn learn_places(&mut self, node: &Node) -> Result<(), Halt> {
        let unknown = self.tenure.as_ref().map(Tenure::unknown).unwrap_or_default();
        if unknown.is_empty() {
            return Ok(());
        }
        let learnt = self.committed(node, unknown).await?.into_iter();
        if let Some(tenure) = &mut self.tenure {
            tenure.places.extend(learnt.map(|(partition, offset)| (partition, Some(offset.max(0)))));
        }
        Ok(())
    }

    /// Reads a little of everything it owns, through any gateway.
    async fn read(&mut self) {
        let Some(tenure) = &mut self.tenure else { return };
        let Some(node) = self.work.any(&mut self.random) else { return };
        let connection = self.work.history.number();
        let eye = Eye { reader: self.number, connection, node: &node, work: &self.work };
        for (partition, place) in &mut tenure.places {
            let Some(at) = place else { continue };
            match eye.read(*partition, *at, READ_BYTES).await {
                Ok((next, _)) => *at = next,
                Err(_) => return,
            }
        }
    }

    async fn commit(&self, node: &Node) -> Result<(), Halt> {
        let Some(tenure) = &self.tenure else { return Ok(()) };
        let known = tenure.known().into_iter();
        let places: Vec<_> = known.filter_map(|(partition, at)| Some((partition, Offset::new(at)?))).collect();
        let of = |&(partition, offset): &(i32, Offset)| {
            let metadata = String::new();
            (at(partition), CommittedOffset { offset, leader_epoch: -1, metadata, commit_ms: 0, expire_ms: None })
        };
        for (partition, offset) in &places {
            self.work.note(Event::Committing { partition: *partition, offset: offset.get() });
        }
        let offsets = places.iter().map(of).collect();
        let told = ask(node, ANSWER_WITHIN, node.groups.commit(&self.group, &self.caller(), offsets)).await??;
        for ((partition, offset), told) in places.into_iter().zip(told) {
            told?;
            self.work.note(Event::Committed { partition, offset: offset.get() });
        }
        Ok(())
    }
}

/// What the leader gives to whom. Nothing if it is not the leader.
fn spread(joined: &Joined) -> Vec<(Arc<str>, Bytes)> {
    let members = joined.members.iter().map(|member| Arc::clone(&member.member_id));
    members.zip(shares(PARTITIONS, joined.members.len())).collect()
}
