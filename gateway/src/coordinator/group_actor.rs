//! One group in memory: takes one request at a time, saves what must survive before anybody is told, and lets time pass.
//!
//! A save that fails, or whose outcome is not known, is never guessed at: the actor forgets the group, tells everyone who waits
//! to come again, and reads the group anew from the state, behind a barrier. Members go on with their ids and generation, as
//! after a coordinator failover in Kafka; their sessions start anew.
//!
//! Which gateway coordinates a group follows from the live sessions (`placement`). Where it no longer is this one, the actor ends
//! and sends everyone who waits to the new one, which reads what was saved behind a barrier. While two gateways both think that
//! they coordinate, the journal's order decides: a save under a version that is not the saved one is refused, and whoever sees
//! that another has saved forgets what it had.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use metadata::command::{Command, Outcome, Refusal, SaveGroup};
use metadata::failpoint::bug_here;
use metadata::handle::Metadata;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::error::GroupError;
use super::options::{GROUP_MAILBOX, GroupOptions, IDLE_LINGER, RELOAD_WAIT};
use super::record;
use super::rules::classic::join::JoinRequest;
use super::rules::classic::leave::Leaver;
use super::rules::classic::stable::{Caller, SyncRequest};
use super::rules::classic::{ClassicGroup, Effects, JoinRefused, JoinReply, Phase, Restored, SyncReply};
use super::view::{GroupView, Summary};
use crate::placement::owns_group;

/// A bug made on purpose; see `bug_here`.
const GOES_ON: &str = "groups::goes_on";

/// Who waits for a JoinGroup.
pub type Joining = oneshot::Sender<JoinReply>;
/// Who waits for a SyncGroup.
pub type Syncing = oneshot::Sender<SyncReply>;
/// Who waits for anything else.
pub type Answer<T> = oneshot::Sender<Result<T, GroupError>>;

/// One request to a group. An answer dropped unsent means: the actor is gone, ask again.
#[derive(Debug)]
pub enum Ask {
    /// JoinGroup.
    Join(JoinRequest, Joining),
    /// SyncGroup.
    Sync(SyncRequest, Syncing),
    /// Heartbeat.
    Heartbeat(Caller, Answer<()>),
    /// LeaveGroup: one answer per leaver.
    Leave(Vec<Leaver>, Answer<Vec<Result<(), GroupError>>>),
    /// May this caller commit offsets? Tells under which version of the group.
    Commit(Caller, Answer<Option<u64>>),
    /// May offsets of these topics be deleted? One answer per topic.
    DeleteOffsets(Vec<Arc<str>>, Answer<Vec<Result<(), GroupError>>>),
    /// DeleteGroups.
    Delete(Answer<()>),
    /// DescribeGroups; `None` if there is no such group.
    Describe(Answer<Option<GroupView>>),
    /// A commit under this version was refused as stale: look whether another coordinator has saved the group.
    Suspect(Option<u64>, Answer<()>),
}

/// The active groups of this gateway.
pub type Active = DashMap<Arc<str>, Handle>;

/// How an active group is reached.
#[derive(Debug)]
pub struct Handle {
    /// Its mailbox.
    pub inbox: mpsc::Sender<Ask>,
    /// How it stands, for listings.
    pub summary: Arc<Mutex<Summary>>,
}

/// What all groups share.
#[derive(Debug)]
pub struct Shared {
    /// The truth.
    pub metadata: Metadata,
    /// What bounds groups.
    pub options: GroupOptions,
    /// When this coordinator began; time in the rules counts from here.
    pub epoch: Instant,
}

impl Shared {
    /// Refuses groups that another gateway coordinates, as far as is known here.
    pub fn check_owner(&self, group: &str) -> Result<(), GroupError> {
        let session = self.metadata.session();
        let is_ours = self.metadata.read(|state| owns_group(state, session, group));
        if is_ours { Ok(()) } else { Err(GroupError::NotCoordinator) }
    }

    fn now_ms(&self) -> i64 {
        i64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// See the module.
#[derive(Debug)]
pub struct GroupActor {
    id: Arc<str>,
    shared: Arc<Shared>,
    active: std::sync::Weak<Active>,
    inbox: mpsc::Receiver<Ask>,
    summary: Arc<Mutex<Summary>>,
    group: ClassicGroup<Joining, Syncing>,
    /// Version of the saved group; 0 if there is none.
    version: u64,
    /// Whether what was saved last had no members.
    saved_empty: bool,
    standing: Standing,
    /// When it was last asked for.
    used: Instant,
}

/// Whether the group in memory is the saved one and what came after.
#[derive(Debug, Clone, Copy)]
enum Standing {
    Loaded,
    /// To be read, not before this.
    Lost(Instant),
}

impl GroupActor {
    /// Starts the actor of a group; it ends by itself once nobody is part of the group and nobody asks for it, or when
    /// `active` is gone.
    pub fn start(id: Arc<str>, shared: Arc<Shared>, active: &Arc<Active>) -> Handle {
        let (sender, inbox) = mpsc::channel(GROUP_MAILBOX);
        let summary = Arc::new(Mutex::new(Summary::default()));
        let actor = Self {
            id,
            group: ClassicGroup::new(shared.options.limits()),
            shared,
            active: Arc::downgrade(active),
            inbox,
            summary: Arc::clone(&summary),
            version: 0,
            saved_empty: true,
            standing: Standing::Lost(Instant::now()),
            used: Instant::now(),
        };
        tokio::spawn(actor.run());
        Handle { inbox: sender, summary }
    }

    async fn run(mut self) {
        let mut moved = self.shared.metadata.sessions_moved();
        loop {
            if self.shared.check_owner(&self.id).is_err() && !bug_here(GOES_ON) {
                tracing::info!(group = %self.id, "another gateway coordinates this group now");
                self.retire();
                break;
            }
            if let Standing::Lost(not_before) = self.standing
                && not_before <= Instant::now()
            {
                self.load().await;
            }
            self.tick().await;
            self.tell_summary();
            let wake = self.wake();
            tokio::select! {
                biased;
                ask = self.inbox.recv() => match ask {
                    Some(ask) => {
                        self.used = Instant::now();
                        self.serve(ask).await;
                    }
                    None => break,
                },
                Ok(()) = moved.changed() => {}
                () = tokio::time::sleep_until(wake) => {
                    if self.is_idle() {
                        self.retire();
                        break;
                    }
                }
            }
        }
        self.lose(GroupError::NotCoordinator);
    }

    /// When there is something to do without being asked.
    fn wake(&self) -> Instant {
        match self.standing {
            Standing::Lost(not_before) => not_before,
            Standing::Loaded => match self.group.next_deadline_ms() {
                Some(at_ms) => self.shared.epoch + Duration::from_millis(u64::try_from(at_ms).unwrap_or(0)),
                None => self.used + IDLE_LINGER,
            },
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.standing, Standing::Loaded) && self.group.is_vacant() && self.used.elapsed() >= IDLE_LINGER
    }

    /// Leaves the list of active groups. Who has the mailbox already finds it closed, and asks again.
    fn retire(&mut self) {
        if let Some(active) = self.active.upgrade() {
            active.remove_if(&self.id, |_, handle| Arc::ptr_eq(&handle.summary, &self.summary));
        }
        self.inbox.close();
    }

    /// Reads the group from the state, behind a barrier.
    async fn load(&mut self) {
        let reached = self.shared.metadata.barrier().await;
        let restored = match reached {
            Ok(_) => self.restore(),
            Err(error) => {
                tracing::warn!(group = %self.id, %error, "the group cannot be read now");
                false
            }
        };
        self.standing = if restored { Standing::Loaded } else { Standing::Lost(Instant::now() + RELOAD_WAIT) };
    }

    /// Takes the group as it is saved. False if what is saved cannot be read.
    fn restore(&mut self) -> bool {
        let saved = self.shared.metadata.read(|state| state.groups().get(&self.id).cloned());
        let (version, restored) = match saved {
            None => (0, Ok(Restored::default())),
            Some(saved) => (saved.version, record::read(&saved)),
        };
        match restored {
            Ok(restored) => {
                self.version = version;
                self.saved_empty = restored.members.is_empty();
                self.group = ClassicGroup::restore(self.shared.options.limits(), restored, self.shared.now_ms());
                true
            }
            Err(error) => {
                tracing::error!(group = %self.id, %error, "a saved group cannot be read");
                false
            }
        }
    }

    /// While nobody is part of the group, others may change what is saved (a commit, expiry): follow. While somebody is, only
    /// another coordinator can have changed it: what is in memory here is of no worth.
    fn follow(&mut self) {
        let id = &self.id;
        let saved = self.shared.metadata.read(|state| state.groups().get(id).map_or(0, |group| group.version));
        if saved == self.version || bug_here(GOES_ON) {
            return;
        }
        if self.group.is_vacant() {
            if !self.restore() {
                self.standing = Standing::Lost(Instant::now() + RELOAD_WAIT);
            }
        } else if self.adoptable().is_none() {
            tracing::warn!(group = %self.id, "another coordinator has saved the group; reading it again");
            self.lose(GroupError::NotCoordinator);
        }
    }

    async fn serve(&mut self, ask: Ask) {
        if matches!(self.standing, Standing::Loaded) {
            self.follow();
            if matches!(self.standing, Standing::Lost(not_before) if not_before <= Instant::now()) {
                self.load().await;
            }
        }
        if matches!(self.standing, Standing::Lost(_)) {
            return refuse(ask, GroupError::Unavailable);
        }
        let now_ms = self.shared.now_ms();
        let mut effects = Effects::default();
        match ask {
            Ask::Join(request, answer) => {
                self.group.join(request, answer, now_ms, &mut effects);
                let _ = self.settle(effects).await;
            }
            Ask::Sync(request, answer) => {
                self.group.sync(request, answer, now_ms, &mut effects);
                let _ = self.settle(effects).await;
            }
            Ask::Heartbeat(caller, answer) => drop(answer.send(self.group.heartbeat(&caller, now_ms))),
            Ask::Leave(leavers, answer) => {
                let left = self.group.leave(&leavers, now_ms, &mut effects);
                let settled = self.settle(effects).await;
                let _ = answer.send(settled.map(|()| left));
            }
            Ask::Commit(caller, answer) => drop(answer.send(self.may_commit(&caller, now_ms))),
            Ask::DeleteOffsets(topics, answer) => drop(answer.send(self.may_delete_offsets(&topics))),
            Ask::Delete(answer) => {
                let deleted = self.delete().await;
                let _ = answer.send(deleted);
            }
            Ask::Describe(answer) => {
                let view = self.exists().then(|| GroupView::of(&self.group));
                let _ = answer.send(Ok(view));
            }
            Ask::Suspect(version, answer) => {
                self.suspect(version);
                let _ = answer.send(Ok(()));
            }
        }
    }

    async fn tick(&mut self) {
        let now_ms = self.shared.now_ms();
        let is_due = self.group.next_deadline_ms().is_some_and(|at| at <= now_ms);
        if matches!(self.standing, Standing::Loaded) && is_due {
            self.follow();
        }
        if matches!(self.standing, Standing::Loaded) && self.group.next_deadline_ms().is_some_and(|at| at <= now_ms) {
            let mut effects = Effects::default();
            self.group.tick(now_ms, &mut effects);
            let _ = self.settle(effects).await;
        }
    }

    fn exists(&self) -> bool {
        self.version > 0 || !self.group.is_vacant()
    }

    fn may_commit(&mut self, caller: &Caller, now_ms: i64) -> Result<Option<u64>, GroupError> {
        let outside = caller.generation < 0;
        if !outside && !self.exists() {
            return Err(GroupError::GroupNotFound);
        }
        self.group.check_commit(caller, now_ms)?;
        Ok((self.group.phase() != Phase::Empty).then_some(self.version))
    }

    fn may_delete_offsets(&self, topics: &[Arc<str>]) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if !self.exists() {
            return Err(GroupError::GroupNotFound);
        }
        self.group.check_delete_offsets()?;
        let one = |topic: &Arc<str>| {
            if self.group.is_subscribed_to(topic) { Err(GroupError::SubscribedToTopic) } else { Ok(()) }
        };
        Ok(topics.iter().map(one).collect())
    }

    async fn delete(&mut self) -> Result<(), GroupError> {
        if !self.exists() {
            return Err(GroupError::GroupNotFound);
        }
        self.group.check_delete()?;
        if self.version > 0 {
            let command = Command::DeleteGroup { group: self.id.to_string(), expected_version: self.version };
            match self.submit(command).await {
                Ok(Outcome::Refused(refusal)) => {
                    self.lose(GroupError::NotCoordinator);
                    return Err(GroupError::of_refusal(refusal));
                }
                Ok(_) => {}
                Err(error) => {
                    self.lose(error);
                    return Err(error);
                }
            }
        }
        self.version = 0;
        self.saved_empty = true;
        self.group = ClassicGroup::new(self.shared.options.limits());
        Ok(())
    }

    /// Saves if the event asked for it, then lets its answers go.
    async fn settle(&mut self, effects: Effects<Joining, Syncing>) -> Result<(), GroupError> {
        let Effects { joins, syncs, save } = effects;
        let saved = if save { self.save().await } else { Ok(()) };
        // Who has gone meanwhile does not hear it.
        for (waiting, reply) in joins {
            let _ = waiting.send(saved.map_err(unheard).and(reply));
        }
        for (waiting, reply) in syncs {
            let _ = waiting.send(saved.and(reply));
        }
        if let Err(error) = saved {
            self.lose(error);
        }
        saved
    }

    async fn save(&mut self) -> Result<(), GroupError> {
        let began_ms = self.shared.now_ms();
        let saved = self.save_once_or_twice().await;
        self.group.pause(self.shared.now_ms() - began_ms);
        saved.inspect_err(|error| tracing::warn!(group = %self.id, %error, "the group was not saved"))
    }

    async fn save_once_or_twice(&mut self) -> Result<(), GroupError> {
        let mut adopted = false;
        loop {
            match self.submit(Command::SaveGroup(self.to_save())).await? {
                Outcome::GroupSaved { version } => {
                    self.version = version;
                    self.saved_empty = self.group.members().is_empty();
                    return Ok(());
                }
                Outcome::Refused(Refusal::StaleGroup) if !adopted && self.adopt() => adopted = true,
                Outcome::Refused(refusal) => return Err(GroupError::of_refusal(refusal)),
                Outcome::Done
                | Outcome::ProducerIds(_)
                | Outcome::Segment(_)
                | Outcome::LogStarts(_)
                | Outcome::Offsets(_)
                | Outcome::Swapped(_) => return Err(GroupError::SaveUnknown),
            }
        }
    }

    fn to_save(&self) -> SaveGroup {
        let restored = self.group.to_restore();
        SaveGroup {
            group: self.id.to_string(),
            expected_version: self.version,
            protocol_type: restored.protocol_type.as_deref().unwrap_or_default().to_owned(),
            generation: restored.generation,
            is_empty: restored.members.is_empty(),
            record: record::encode(&restored),
        }
    }

    /// While the first members gathered, the saved group may have expired, or come to be by a plain commit: no other
    /// coordinator is at work if what is saved has no members and an older generation. Its version is then taken over.
    fn adopt(&mut self) -> bool {
        let version = self.adoptable();
        self.version = version.unwrap_or(self.version);
        version.is_some()
    }

    fn adoptable(&self) -> Option<u64> {
        if !self.saved_empty {
            return None;
        }
        let (id, generation) = (&self.id, self.group.generation());
        self.shared.metadata.read(|state| match state.groups().get(id) {
            None => Some(0),
            Some(saved) if saved.is_empty() && saved.generation < generation => Some(saved.version),
            Some(_) => None,
        })
    }

    async fn submit(&self, command: Command) -> Result<Outcome, GroupError> {
        submit(&self.shared, command).await
    }

    fn suspect(&mut self, version: Option<u64>) {
        let id = &self.id;
        let saved = self.shared.metadata.read(|state| state.groups().get(id).map_or(0, |group| group.version));
        let unmoved = version.is_none_or(|version| version == self.version);
        if unmoved && saved != self.version {
            tracing::warn!(group = %self.id, "another coordinator has saved the group");
            self.lose(GroupError::NotCoordinator);
        }
    }

    /// Forgets the group; it is read anew before the next request.
    fn lose(&mut self, error: GroupError) {
        let empty = ClassicGroup::new(self.shared.options.limits());
        let (joins, syncs) = std::mem::replace(&mut self.group, empty).into_waiting();
        for waiting in joins {
            let _ = waiting.send(Err(unheard(error)));
        }
        for waiting in syncs {
            let _ = waiting.send(Err(error));
        }
        self.version = 0;
        self.standing = Standing::Lost(Instant::now());
    }

    fn tell_summary(&self) {
        let protocol_type = self.group.protocol_type();
        let phase = (matches!(self.standing, Standing::Loaded) && self.exists()).then(|| self.group.phase());
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.phase = phase;
        if summary.protocol_type.as_ref() != protocol_type {
            summary.protocol_type = protocol_type.cloned();
        }
    }
}

/// Puts a command into the journal, within the time a client is given.
pub async fn submit(shared: &Shared, command: Command) -> Result<Outcome, GroupError> {
    match tokio::time::timeout(shared.options.commit_timeout, shared.metadata.submit(command)).await {
        Ok(outcome) => outcome.map_err(|error| GroupError::of_submit(&error)),
        Err(_) => Err(GroupError::SaveUnknown),
    }
}

fn unheard(error: GroupError) -> JoinRefused {
    JoinRefused { error, member_id: "".into() }
}

fn refuse(ask: Ask, error: GroupError) {
    match ask {
        Ask::Join(_, answer) => drop(answer.send(Err(unheard(error)))),
        Ask::Sync(_, answer) => drop(answer.send(Err(error))),
        Ask::Heartbeat(_, answer) | Ask::Delete(answer) | Ask::Suspect(_, answer) => drop(answer.send(Err(error))),
        Ask::Leave(_, answer) | Ask::DeleteOffsets(_, answer) => drop(answer.send(Err(error))),
        Ask::Commit(_, answer) => drop(answer.send(Err(error))),
        Ask::Describe(answer) => drop(answer.send(Err(error))),
    }
}
