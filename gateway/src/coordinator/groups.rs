//! The coordinator of groups: finds or starts the actor of a group and asks it; reads and writes committed offsets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dashmap::Entry;
use metadata::command::{Command, CommitOffsets, CommittedOffset, Outcome, Refusal};
use metadata::failpoint::bug_here;
use metadata::handle::Metadata;
use metadata::model::ids::TopicPartition;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use super::error::GroupError;
use super::group_actor::{Active, Ask, GroupActor, Shared, submit};
use super::options::{ACTIVE_GROUPS_MAX, GROUP_ID_MAX_LEN, GroupOptions};
use super::record;
use super::rules::classic::join::JoinRequest;
use super::rules::classic::leave::Leaver;
use super::rules::classic::stable::{Caller, SyncRequest};
use super::rules::classic::{ClassicGroup, JoinRefused, JoinReply, SyncReply};
use super::view::{GroupView, ListedGroup};
use crate::placement::owns_group;

/// How often a request looks for the actor of its group again when it finds one that is just leaving.
const ASK_TRIES: usize = 4;
/// How often a commit asks again when the group was saved between the question and the commit.
const COMMIT_TRIES: usize = 4;
/// Pause between tries to take the saved groups over at start.
const ADOPT_WAIT: Duration = Duration::from_secs(1);

/// All groups of this gateway.
#[derive(Debug)]
pub struct Groups {
    shared: Arc<Shared>,
    active: Arc<Active>,
    stopped: AtomicBool,
}

/// One answer per thing asked for, or one for all.
pub type Each = Result<Vec<Result<(), GroupError>>, GroupError>;

impl Groups {
    /// A coordinator over `metadata`. In the background it takes over every saved group that has members and falls to this
    /// gateway, now and whenever gateways come or go, so that sessions of members that never come back lapse.
    pub fn start(metadata: Metadata, options: GroupOptions) -> Arc<Self> {
        let shared = Arc::new(Shared { metadata, options, epoch: Instant::now() });
        let groups = Arc::new(Self { shared, active: Arc::default(), stopped: AtomicBool::new(false) });
        let adopting = Arc::downgrade(&groups);
        let mut moved = groups.shared.metadata.sessions_moved();
        tokio::spawn(async move {
            while let Some(groups) = adopting.upgrade() {
                moved.mark_unchanged();
                let adopted = groups.adopt().await;
                drop(groups);
                if !adopted {
                    tokio::time::sleep(ADOPT_WAIT).await;
                } else if moved.changed().await.is_err() {
                    return;
                }
            }
        });
        groups
    }

    /// Stops: whoever waits in a rebalance is told to look for the coordinator again, and so is everyone who asks from now.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.active.clear();
    }

    /// The truth behind the groups: offsets and topics are read from its state.
    pub fn metadata(&self) -> &Metadata {
        &self.shared.metadata
    }

    /// What bounds groups.
    pub fn options(&self) -> &GroupOptions {
        &self.shared.options
    }

    async fn adopt(&self) -> bool {
        if self.shared.metadata.barrier().await.is_err() {
            return false;
        }
        let session = self.shared.metadata.session();
        let with_members = self.shared.metadata.read(|state| {
            let groups = state.groups().iter().filter(|(_, group)| !group.is_empty());
            let groups = groups.filter(|(id, _)| owns_group(state, session, id));
            groups.map(|(id, _)| Arc::from(id)).collect::<Vec<Arc<str>>>()
        });
        for id in &with_members {
            if let Err(error) = self.actor(id) {
                tracing::warn!(group = %id, %error, "a saved group waits for its members to ask");
            }
        }
        true
    }

    /// JoinGroup. May wait as long as a rebalance takes. `request.unique` is set here.
    pub async fn join(&self, group: &str, mut request: JoinRequest) -> JoinReply {
        let refuse = |error| JoinRefused { error, member_id: request.member_id.clone() };
        check_id(group).map_err(refuse)?;
        let options = self.options();
        if !(options.min_session_timeout_ms..=options.max_session_timeout_ms).contains(&request.session_timeout_ms) {
            return Err(refuse(GroupError::InvalidSessionTimeout));
        }
        request.unique = Uuid::new_v4().to_string().into();
        let asked = self.ask(group, |answer| Ask::Join(request.clone(), answer)).await;
        asked.unwrap_or_else(|error| Err(JoinRefused { error, member_id: request.member_id.clone() }))
    }

    /// SyncGroup. May wait for the leader.
    pub async fn sync(&self, group: &str, request: SyncRequest) -> SyncReply {
        check_id(group)?;
        self.ask(group, |answer| Ask::Sync(request.clone(), answer)).await?
    }

    /// Heartbeat.
    pub async fn heartbeat(&self, group: &str, caller: &Caller) -> Result<(), GroupError> {
        check_id(group)?;
        self.ask(group, |answer| Ask::Heartbeat(caller.clone(), answer)).await?
    }

    /// LeaveGroup: one answer per leaver.
    pub async fn leave(&self, group: &str, leavers: &[Leaver]) -> Each {
        check_id(group)?;
        self.ask(group, |answer| Ask::Leave(leavers.to_vec(), answer)).await?
    }

    /// OffsetCommit: one answer per offset. A group without members may be any store of offsets, even one without a name.
    pub async fn commit(&self, group: &str, caller: &Caller, offsets: Vec<(TopicPartition, CommittedOffset)>) -> Each {
        check_len(group)?;
        for _ in 0..COMMIT_TRIES {
            let expected_version = self.ask(group, |answer| Ask::Commit(caller.clone(), answer)).await??;
            if bug_here("groups::acks_without_commit") {
                return Ok(vec![Ok(()); offsets.len()]);
            }
            let commit = CommitOffsets { group: group.to_owned(), expected_version, offsets: offsets.clone() };
            let committed =
                submit(&self.shared, Command::CommitOffsets(commit)).await.map_err(|error| match error {
                    // As Kafka answers a commit that is too large for its log.
                    GroupError::AssignmentTooLarge => GroupError::TooManyOffsets,
                    other => other,
                })?;
            match committed {
                Outcome::Offsets(results) => {
                    return Ok(results
                        .into_iter()
                        .map(|result| result.map_err(GroupError::of_refused_offset))
                        .collect());
                }
                // The group was saved in between: by us, then ask again; by another, then it must be read again.
                Outcome::Refused(Refusal::StaleGroup) => {
                    self.ask(group, |answer| Ask::Suspect(expected_version, answer)).await??;
                }
                Outcome::Refused(refusal) => return Err(GroupError::of_refused_offset(refusal)),
                Outcome::Done
                | Outcome::ProducerIds(_)
                | Outcome::Segment(_)
                | Outcome::LogStarts(_)
                | Outcome::GroupSaved { .. }
                | Outcome::Swapped(_) => return Err(GroupError::SaveUnknown),
            }
        }
        Err(GroupError::NotCoordinator)
    }

    /// OffsetCommit of nothing: what the group had committed there is taken back.
    pub async fn withdraw(
        &self,
        group: &str,
        caller: &Caller,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), GroupError> {
        check_len(group)?;
        self.ask(group, |answer| Ask::Commit(caller.clone(), answer)).await??;
        match submit(&self.shared, Command::DeleteOffsets { group: group.to_owned(), partitions }).await? {
            Outcome::Refused(Refusal::UnknownGroup) => Ok(()), // so it had committed nothing
            Outcome::Refused(refusal) => Err(GroupError::of_refusal(refusal)),
            Outcome::Done
            | Outcome::Offsets(_)
            | Outcome::Swapped(_)
            | Outcome::ProducerIds(_)
            | Outcome::Segment(_)
            | Outcome::LogStarts(_)
            | Outcome::GroupSaved { .. } => Ok(()),
        }
    }

    /// Everything a group has committed is read behind this: what any gateway was told is committed is then in the state.
    pub async fn barrier(&self) -> Result<(), GroupError> {
        self.shared.metadata.barrier().await.map(drop).map_err(|error| GroupError::of_submit(&error))
    }

    /// OffsetDelete: one answer per partition.
    pub async fn delete_offsets(&self, group: &str, partitions: &[(Arc<str>, TopicPartition)]) -> Each {
        check_id(group)?;
        let topics: Vec<_> = partitions.iter().map(|(topic, _)| topic.clone()).collect();
        let allowed = self.ask(group, |answer| Ask::DeleteOffsets(topics.clone(), answer)).await??;
        let named = partitions.iter().zip(&allowed).filter(|(_, allowed)| allowed.is_ok());
        let partitions: Vec<_> = named.map(|((_, partition), _)| *partition).collect();
        if !partitions.is_empty() {
            let command = Command::DeleteOffsets { group: group.to_owned(), partitions };
            if let Outcome::Refused(refusal) = submit(&self.shared, command).await? {
                return Err(GroupError::of_refusal(refusal));
            }
        }
        Ok(allowed)
    }

    /// DeleteGroups, one group.
    pub async fn delete(&self, group: &str) -> Result<(), GroupError> {
        check_len(group)?;
        self.ask(group, Ask::Delete).await?
    }

    /// DescribeGroups, one group; `None` if there is no such group.
    pub async fn describe(&self, group: &str) -> Result<Option<GroupView>, GroupError> {
        check_len(group)?;
        self.shared.check_owner(group)?;
        if self.active.contains_key(group) {
            return self.ask(group, Ask::Describe).await?;
        }
        self.barrier().await?;
        let Some(saved) = self.shared.metadata.read(|state| state.groups().get(group).cloned()) else {
            return Ok(None);
        };
        let restored = record::read(&saved).map_err(|_| GroupError::Unavailable)?;
        Ok(Some(GroupView::of(&ClassicGroup::<(), ()>::restore(self.options().limits(), restored, 0))))
    }

    /// Every group there is, by name.
    pub async fn list(&self) -> Result<Vec<ListedGroup>, GroupError> {
        self.barrier().await?;
        Ok(self.known())
    }

    /// Every group that this gateway knows of, by name; asks nobody.
    pub fn known(&self) -> Vec<ListedGroup> {
        let saved = self.shared.metadata.read(|state| {
            let listed = |(id, group): (&str, &metadata::state::groups::Group)| {
                let state = if group.is_empty() { "Empty" } else { "Stable" };
                (Arc::<str>::from(id), (Arc::<str>::from(&*group.protocol_type), state))
            };
            state.groups().iter().map(listed).collect::<BTreeMap<_, _>>()
        });
        let mut all = saved;
        for entry in self.active.iter() {
            let summary = entry.value().summary.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(phase) = summary.phase {
                let protocol_type = summary.protocol_type.unwrap_or_else(|| "".into());
                // A group nobody is part of is what the state says, or gone.
                if phase.name() != "Empty" || all.contains_key(entry.key()) {
                    all.insert(entry.key().clone(), (protocol_type, phase.name()));
                }
            }
        }
        let line = |(group, (protocol_type, state))| ListedGroup { group, protocol_type, state };
        all.into_iter().map(line).collect()
    }

    /// The mailbox of a group's actor, started if need be.
    fn actor(&self, group: &str) -> Result<mpsc::Sender<Ask>, GroupError> {
        if let Some(handle) = self.active.get(group) {
            return Ok(handle.inbox.clone());
        }
        if self.active.len() >= ACTIVE_GROUPS_MAX {
            return Err(GroupError::Busy);
        }
        let id: Arc<str> = group.into();
        let inbox = match self.active.entry(id.clone()) {
            Entry::Occupied(known) => known.get().inbox.clone(),
            Entry::Vacant(vacant) => {
                vacant.insert(GroupActor::start(id, Arc::clone(&self.shared), &self.active)).inbox.clone()
            }
        };
        if self.stopped.load(Ordering::SeqCst) {
            self.active.clear();
            return Err(GroupError::NotCoordinator);
        }
        Ok(inbox)
    }

    /// Asks the actor of a group. An actor that is just leaving does not answer: the next one is asked.
    async fn ask<T>(&self, group: &str, ask: impl Fn(oneshot::Sender<T>) -> Ask) -> Result<T, GroupError> {
        for _ in 0..ASK_TRIES {
            self.shared.check_owner(group)?;
            let inbox = self.actor(group)?;
            let (answer, heard) = oneshot::channel();
            let sent = inbox.send(ask(answer)).await.is_ok();
            // Who waits does not keep the mailbox open: the actor ends when the list of groups lets it go.
            drop(inbox);
            if sent && let Ok(reply) = heard.await {
                return Ok(reply);
            }
            self.active.remove_if(group, |_, handle| handle.inbox.is_closed());
        }
        Err(GroupError::Unavailable)
    }
}

fn check_len(group: &str) -> Result<(), GroupError> {
    if group.len() > GROUP_ID_MAX_LEN { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}

fn check_id(group: &str) -> Result<(), GroupError> {
    if group.is_empty() { Err(GroupError::InvalidGroupId) } else { check_len(group) }
}

#[cfg(test)]
mod tests;
