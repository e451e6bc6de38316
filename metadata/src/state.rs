//! The state machine. Every gateway applies the same entries in the same order and so holds the same state (D1).
//!
//! `apply` is total and deterministic: no I/O, no clock, no lock, no randomness; a refusal is an outcome. This file only
//! dispatches; each part of the state has a file of its own.

mod commit;
mod encoding;
mod fold;
pub mod groups;
pub mod log;
pub mod objects;
pub mod offsets;
pub mod producers;
pub mod sessions;
mod swap;
pub mod topics;
mod wire;

use self::commit::commit_segment;
use self::encoding::{Encoder, Parts, SNAPSHOT, decode_body};
use self::fold::{fold_extents, unfold_extents};
use self::groups::Groups;
use self::log::{Log, SlotSet};
use self::objects::ObjectLedger;
use self::offsets::CommittedOffsets;
use self::sessions::{Sessions, Standing};
use self::swap::swap_extents;
use self::topics::Topics;
use crate::codec::{CodecError, frame, unframe};
use crate::command::{Command, CommitOffsets, CommittedOffset, Entry, OpenSession, Outcome, Refusal};
use crate::failpoint::bug_here;
use crate::model::extent::{Extent, ObjectId};
use crate::model::ids::{Lsn, ProducerId, TopicId, TopicPartition};
use crate::model::offset::Offset;

/// The highest feature level this build knows. A state whose level is higher cannot be followed by this build.
///
/// 1: sessions that are about to leave, comparing states. 2: folding.
pub const FEATURE_LEVEL: u32 = 2;

/// Newest format of [`State::encode`]; raised when its meaning changes. The oldest format that can say it all is written.
pub const SNAPSHOT_VERSION: u16 = 4;
/// The format that knows no folds.
const SNAPSHOT_UNFOLDED: u16 = 3;
/// The format that knows no session that is about to leave.
const SNAPSHOT_MERGED: u16 = 2;
/// The format that knows neither sparse extents nor levels.
const SNAPSHOT_UNMERGED: u16 = 1;

/// Everything the journal says, applied.
#[derive(Debug, Clone, Default)]
pub struct State {
    applied: Lsn,
    time_ms: i64,
    cluster_id: String,
    feature_level: u32,
    next_producer_id: i64,
    topics: Topics,
    objects: ObjectLedger,
    groups: Groups,
    offsets: CommittedOffsets,
    sessions: Sessions,
}

/// Objects chosen by [`State::choose`].
#[derive(Debug, Clone)]
pub struct ChosenObjects(SlotSet);

/// What an entry came to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Applied {
    /// One per command, in order; none if the entry was a repetition.
    pub outcomes: Vec<Outcome>,
    /// Logs whose end or start moved, or that were removed; sorted, each once.
    pub changed: Vec<TopicPartition>,
    /// The entry had been applied before, under an earlier LSN: nothing happened now.
    pub repeated: bool,
    /// A session came, went, or is about to go.
    pub sessions: bool,
}

impl Applied {
    /// The commands of the entry that were not refused.
    pub fn done<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Command> {
        let both = entry.commands.iter().zip(&self.outcomes);
        both.filter(|(_, outcome)| !matches!(outcome, Outcome::Refused(_))).map(|(command, _)| command)
    }
}

impl State {
    /// Applies the entry at `lsn`.
    ///
    /// `lsn` must be the one after [`State::applied`]: anything else is a bug of the caller (checked in debug builds), since
    /// a skipped entry makes this state differ from every other gateway's for ever.
    ///
    /// An entry of a fenced or unknown session, a repeated one, and one that does not stand behind the entry it follows, move
    /// nothing but [`State::applied`] (L4, L6, L8).
    pub fn apply(&mut self, lsn: Lsn, entry: &Entry) -> Applied {
        debug_assert_eq!(lsn.0, self.applied.0 + 1, "entries are applied in order, without a gap");
        self.applied = lsn;
        if self.sessions.has_seen(entry.session, entry.sequence) {
            return Applied { repeated: true, ..Applied::default() };
        }
        let opens = matches!(entry.commands.first(), Some(Command::OpenSession(_)));
        match self.sessions.standing(entry.session) {
            Standing::Live => {
                let last_lsn = self.sessions.get(entry.session).map(|session| session.last_lsn);
                if entry.follows.is_some_and(|follows| Some(follows) != last_lsn) {
                    let outcomes = vec![Outcome::Refused(Refusal::Displaced); entry.commands.len()];
                    return Applied { outcomes, ..Applied::default() };
                }
                self.sessions.renew(entry.session, lsn, entry.sequence);
            }
            Standing::Unknown if opens => {}
            Standing::Expired if bug_here("state::no_fence") => {}
            Standing::Unknown | Standing::Expired => {
                let outcomes = vec![Outcome::Refused(Refusal::SessionFenced); entry.commands.len()];
                return Applied { outcomes, ..Applied::default() };
            }
        }
        self.time_ms = self.time_ms.max(entry.time_ms);
        let mut changed = Vec::new();
        let outcomes: Vec<_> =
            entry.commands.iter().map(|command| self.command(entry, command, &mut changed)).collect();
        changed.sort_unstable();
        changed.dedup();
        let applied = Applied { outcomes, changed, ..Applied::default() };
        let sessions = applied.done(entry).any(moves_sessions);
        Applied { sessions, ..applied }
    }

    /// Position of the last applied entry.
    pub fn applied(&self) -> Lsn {
        self.applied
    }

    /// The largest time any applied entry carried, ms since the epoch.
    pub fn time_ms(&self) -> i64 {
        self.time_ms
    }

    /// The cluster's identity; empty until the first session opened.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The feature level in force; see [`FEATURE_LEVEL`].
    pub fn feature_level(&self) -> u32 {
        self.feature_level
    }

    /// All topics.
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The log of a partition; `None` if there is no such topic or partition.
    pub fn log(&self, tp: TopicPartition) -> Option<Log<'_>> {
        self.topics.log(tp).ok().map(|index| Log::new(index, &self.objects))
    }

    /// The extents in memory of a topic's partitions that lie in any of the chosen objects, by partition and in offset order.
    /// Costs O(extents of the topic).
    pub fn extents_in(&self, topic: TopicId, chosen: &ChosenObjects) -> Vec<(TopicPartition, Vec<Extent>)> {
        let Some(topic) = self.topics.get(topic) else { return Vec::new() };
        let of = |tp| Some((tp, self.log(tp)?.extents_in(&chosen.0).collect::<Vec<_>>()));
        topic.partitions().filter_map(of).filter(|(_, extents)| !extents.is_empty()).collect()
    }

    /// Some objects, to be looked for with [`State::extents_in`]. If one of them is forgotten before that, another may be
    /// found in its place.
    pub fn choose(&self, objects: &[ObjectId]) -> ChosenObjects {
        let mut chosen = SlotSet::default();
        objects.iter().filter_map(|&object| self.objects.slot_of(object)).for_each(|slot| chosen.insert(slot));
        ChosenObjects(chosen)
    }

    /// All groups.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// All committed offsets.
    pub fn offsets(&self) -> &CommittedOffsets {
        &self.offsets
    }

    /// All objects.
    pub fn objects(&self) -> &ObjectLedger {
        &self.objects
    }

    /// All sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The whole state as bytes; the same state gives the same bytes. Takes time and memory in proportion to the state.
    pub fn encode(&self) -> Vec<u8> {
        let is_merged = || self.objects.has_levels() || self.topics.iter().any(|topic| topic.has_sparse_extents());
        let version = if self.objects.has_folded() {
            SNAPSHOT_VERSION
        } else if self.sessions.live().any(|session| session.leaving) {
            SNAPSHOT_UNFOLDED
        } else if is_merged() {
            SNAPSHOT_MERGED
        } else {
            SNAPSHOT_UNMERGED
        };
        frame(version, self.encode_body())
    }

    /// The state that bytes stand for. Total: any bytes give a state or an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::decode_body(unframe(SNAPSHOT, SNAPSHOT_VERSION, bytes)?)
    }

    /// A fingerprint (FNV-1a, 64 bits) of the encoded state: the same state, the same hash, on every gateway and build (D1).
    /// Costs as much as [`State::encode`]; a difference is for certain, equality as good as certain.
    pub fn hash(&self) -> u64 {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.encode_body().iter().fold(0xcbf2_9ce4_8422_2325, step)
    }

    fn encode_body(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.header(wire::Header {
            applied: self.applied.0,
            time_ms: self.time_ms,
            cluster_id: self.cluster_id.clone(),
            feature_level: self.feature_level,
            next_producer_id: self.next_producer_id,
            deleted_group_version: self.groups.deleted_version(),
        });
        encoder.sessions(&self.sessions);
        encoder.objects(&self.objects);
        encoder.topics(&self.topics, &self.objects);
        encoder.groups(&self.groups);
        encoder.offsets(&self.offsets);
        encoder.finish()
    }

    fn decode_body(body: &[u8]) -> Result<Self, CodecError> {
        let Parts { header, sessions, objects, topics, groups, offsets } = decode_body(body)?;
        if header.feature_level > FEATURE_LEVEL {
            let (found, known) = (header.feature_level, FEATURE_LEVEL);
            return Err(CodecError::Newer { what: "the feature level of a state snapshot", found, known });
        }
        Ok(Self {
            applied: Lsn(header.applied),
            time_ms: header.time_ms,
            cluster_id: header.cluster_id,
            feature_level: header.feature_level,
            next_producer_id: header.next_producer_id,
            topics,
            objects,
            groups,
            offsets,
            sessions,
        })
    }

    fn command(&mut self, entry: &Entry, command: &Command, changed: &mut Vec<TopicPartition>) -> Outcome {
        let (session, now_ms, lsn) = (entry.session, self.time_ms, self.applied);
        if let Command::OpenSession(open) = command {
            return done(self.open_session(entry, open));
        }
        if self.sessions.standing(session) != Standing::Live && !bug_here("state::no_fence") {
            return Outcome::Refused(Refusal::SessionFenced);
        }
        match command {
            Command::OpenSession(open) => done(self.open_session(entry, open)),
            Command::CloseSession => {
                self.sessions.end(session, lsn, now_ms);
                Outcome::Done
            }
            Command::ExpireSession { session, last_seen } => {
                done(self.sessions.expire(*session, *last_seen, lsn, now_ms))
            }
            Command::CreateTopic(create) => done(self.topics.create(create, now_ms)),
            Command::DeleteTopic { topic } => done(self.delete_topic(*topic, changed)),
            Command::CreatePartitions { topic, total } => done(self.topics.grow(*topic, *total)),
            Command::SetTopicConfigs { topic, changes } => done(self.topics.set_configs(*topic, changes)),
            Command::AllocateProducerIds { count } => self.allocate_producer_ids(*count),
            Command::CommitSegment(commit) => {
                commit_segment(commit, session, lsn, &mut self.topics, &mut self.objects, now_ms, changed)
            }
            Command::AdvanceLogStart { starts } => self.advance_log_starts(starts, changed),
            Command::ForgetObjects { objects } => done(self.objects.forget(objects)),
            Command::SaveGroup(save) => match self.groups.save(save, now_ms) {
                Ok(version) => Outcome::GroupSaved { version },
                Err(refusal) => Outcome::Refused(refusal),
            },
            Command::DeleteGroup { group, expected_version } => {
                let deleted = self.groups.delete(group, *expected_version);
                done(deleted.inspect(|()| self.offsets.delete_group(group)))
            }
            Command::CommitOffsets(commit) => self.commit_offsets(commit),
            Command::DeleteOffsets { group, partitions } => self.delete_offsets(group, partitions),
            Command::ExpireState { producer_idle_ms, offsets_retention_ms } => {
                self.topics.each_log(|log| log.producers.expire(now_ms, *producer_idle_ms));
                self.expire_groups(*offsets_retention_ms);
                Outcome::Done
            }
            Command::RaiseFeatureLevel { level } => done(self.raise_feature_level(*level)),
            Command::SwapExtents(swap) => swap_extents(swap, session, &mut self.topics, &mut self.objects, now_ms),
            Command::FoldExtents(fold) => fold_extents(fold, session, &mut self.topics, &mut self.objects, now_ms),
            Command::UnfoldExtents(unfold) => done(unfold_extents(unfold, &mut self.topics, &mut self.objects, now_ms)),
            Command::LeaveSoon => {
                self.sessions.leave_soon(session);
                Outcome::Done
            }
            // For those who apply it: see `agreement`.
            Command::MarkState | Command::SayStateHash { .. } => Outcome::Done,
        }
    }

    fn open_session(&mut self, entry: &Entry, open: &OpenSession) -> Result<(), Refusal> {
        let (lsn, now_ms) = (self.applied, self.time_ms);
        self.sessions.open(entry.session, open, self.feature_level, lsn, entry.sequence, now_ms)?;
        if self.cluster_id.is_empty() {
            self.cluster_id.clone_from(&open.cluster_id);
        }
        Ok(())
    }

    fn delete_topic(&mut self, topic: TopicId, changed: &mut Vec<TopicPartition>) -> Result<(), Refusal> {
        changed.extend(self.topics.delete(topic, &mut self.objects, self.time_ms)?);
        self.offsets.delete_topic(topic);
        Ok(())
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Outcome {
        let first = self.next_producer_id;
        match first.checked_add(i64::from(count)) {
            Some(next) => {
                self.next_producer_id = next;
                Outcome::ProducerIds(ProducerId(first))
            }
            None => Outcome::Refused(Refusal::LimitReached),
        }
    }

    fn advance_log_starts(
        &mut self,
        starts: &[(TopicPartition, Offset)],
        changed: &mut Vec<TopicPartition>,
    ) -> Outcome {
        let mut advance = |tp, to| {
            let log = self.topics.log_mut(tp)?;
            let before = log.start();
            let start = log.advance_start(to, &mut self.objects, self.time_ms)?;
            if start != before {
                changed.push(tp);
            }
            Ok(start)
        };
        Outcome::LogStarts(starts.iter().map(|&(tp, to)| advance(tp, to)).collect())
    }

    fn commit_offsets(&mut self, commit: &CommitOffsets) -> Outcome {
        let group = &*commit.group;
        if let Err(refusal) = self.groups.may_commit(group, commit.expected_version) {
            return Outcome::Refused(refusal);
        }
        let mut results = Vec::with_capacity(commit.offsets.len());
        for (tp, offset) in &commit.offsets {
            let offset = CommittedOffset { commit_ms: self.time_ms, ..offset.clone() };
            results.push(self.topics.log(*tp).map(drop).and_then(|()| self.offsets.commit(group, *tp, offset)));
        }
        if results.iter().any(Result::is_ok) {
            self.groups.ensure(group, self.time_ms);
        }
        Outcome::Offsets(results)
    }

    fn delete_offsets(&mut self, group: &str, partitions: &[TopicPartition]) -> Outcome {
        if self.groups.get(group).is_none() {
            return Outcome::Refused(Refusal::UnknownGroup);
        }
        self.offsets.delete(group, partitions);
        Outcome::Offsets(vec![Ok(()); partitions.len()])
    }

    /// Offsets count their retention from the time the group became empty or from their commit, whichever is later; with a
    /// retention of their own, from that alone. Source: Kafka's `OffsetExpirationConditionImpl`; C7.
    fn expire_groups(&mut self, retention_ms: i64) {
        let now_ms = self.time_ms;
        let mut empty = Vec::new();
        for (name, group) in self.groups.iter() {
            if let Some(since_ms) = group.empty_since_ms {
                empty.push((name.to_owned(), since_ms));
            }
        }
        for (name, since_ms) in empty {
            self.offsets.expire(&name, |offset| match offset.expire_ms {
                Some(expire_ms) => now_ms >= expire_ms,
                None => now_ms.saturating_sub(since_ms.max(offset.commit_ms)) >= retention_ms,
            });
            if !self.offsets.has_any(&name) {
                self.groups.remove(&name);
            }
        }
    }

    fn raise_feature_level(&mut self, level: u32) -> Result<(), Refusal> {
        if level <= self.feature_level || level > self.sessions.level_known_to_all().unwrap_or(0) {
            return Err(Refusal::FeatureLevel);
        }
        self.feature_level = level;
        Ok(())
    }
}

fn moves_sessions(command: &Command) -> bool {
    use Command::{CloseSession, ExpireSession, LeaveSoon, OpenSession};
    matches!(command, OpenSession(_) | CloseSession | ExpireSession { .. } | LeaveSoon)
}

fn done(result: Result<(), Refusal>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done)
}

#[cfg(test)]
mod tests;
