//! Sessions: which gateways live, and which are fenced for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::{AdvertisedListener, OpenSession, Refusal};
use crate::failpoint::bug_here;
use crate::model::ids::{Lsn, NodeId, SessionId};
use crate::model::limits::{EXPIRED_SESSIONS_MAX, SESSIONS_MAX};

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its identity.
    pub id: SessionId,
    /// The broker id clients see. No two live sessions share one.
    pub node: NodeId,
    /// Where clients find it.
    pub listeners: Vec<AdvertisedListener>,
    /// Its zone.
    pub rack: Option<String>,
    /// Highest feature level it knows.
    pub feature_level: u32,
    /// State time at which it opened, ms.
    pub opened_ms: i64,
    /// Position of its last entry.
    pub last_lsn: Lsn,
    /// Number of its last entry.
    pub last_sequence: u64,
    /// Whether it is about to leave: clients are sent to others if there are any.
    pub leaving: bool,
}

/// A session that is over; nothing it says takes effect any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpiredSession {
    /// Its identity.
    pub id: SessionId,
    /// Number of its last entry that took effect.
    pub last_sequence: u64,
    /// Where in the journal it ended.
    pub expired_lsn: Lsn,
    /// State time at which it ended, ms.
    pub expired_ms: i64,
}

/// How a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may speak.
    Live,
    /// It is fenced.
    Expired,
    /// It never opened, as far as this state knows, or it expired so long ago that it is forgotten.
    Unknown,
}

/// All sessions.
///
/// Expired sessions are remembered so that a delayed copy of their first entry cannot open them again (L6). The memory is
/// bounded by [`EXPIRED_SESSIONS_MAX`]: an append cannot be under way for as long as so many later sessions come and go.
/// Whether an object's session is over does not need this memory: a session opens before it writes its first object, so
/// after a read barrier an object whose session is not live belongs to a fenced one.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    live: BTreeMap<SessionId, Session>,
    expired: BTreeMap<SessionId, ExpiredSession>,
    expired_in_order: BTreeSet<(Lsn, SessionId)>,
}

impl Sessions {
    /// The live sessions, in order of their ids.
    pub fn live(&self) -> impl Iterator<Item = &Session> {
        self.live.values()
    }

    /// How many sessions live.
    pub fn live_count(&self) -> usize {
        self.live.len()
    }

    /// A live session.
    pub fn get(&self, id: SessionId) -> Option<&Session> {
        self.live.get(&id)
    }

    /// The live session of a broker id.
    pub fn by_node(&self, node: NodeId) -> Option<&Session> {
        self.live.values().find(|session| session.node == node)
    }

    /// The highest feature level that every live session knows; `None` without sessions.
    pub fn level_known_to_all(&self) -> Option<u32> {
        self.live.values().map(|session| session.feature_level).min()
    }

    /// The remembered expired sessions, in order of their ids.
    pub fn expired(&self) -> impl Iterator<Item = &ExpiredSession> {
        self.expired.values()
    }

    /// How a session stands.
    pub fn standing(&self, id: SessionId) -> Standing {
        if self.live.contains_key(&id) {
            Standing::Live
        } else if self.expired.contains_key(&id) {
            Standing::Expired
        } else {
            Standing::Unknown
        }
    }

    /// Whether an entry of that number was applied before.
    pub(super) fn has_seen(&self, id: SessionId, sequence: u64) -> bool {
        let last = match self.live.get(&id) {
            Some(session) => Some(session.last_sequence),
            None => self.expired.get(&id).map(|session| session.last_sequence),
        };
        last.is_some_and(|last| sequence <= last) && !bug_here("state::applies_twice")
    }

    /// Notes that a live session spoke.
    pub(super) fn renew(&mut self, id: SessionId, lsn: Lsn, sequence: u64) {
        if let Some(session) = self.live.get_mut(&id) {
            session.last_lsn = lsn;
            session.last_sequence = sequence;
        }
    }

    pub(super) fn open(
        &mut self,
        id: SessionId,
        open: &OpenSession,
        level: u32,
        lsn: Lsn,
        sequence: u64,
        now_ms: i64,
    ) -> Result<(), Refusal> {
        if self.expired.contains_key(&id) {
            return Err(Refusal::SessionFenced);
        }
        if open.feature_level < level {
            return Err(Refusal::FeatureLevel);
        }
        let fenced: Vec<SessionId> = self
            .live
            .values()
            .filter(|other| other.id != id && (open.fence_others || other.node == open.node))
            .map(|other| other.id)
            .collect();
        if self.live.len() - fenced.len() >= SESSIONS_MAX && !self.live.contains_key(&id) {
            return Err(Refusal::LimitReached);
        }
        for other in fenced {
            self.end(other, lsn, now_ms);
        }
        let session = Session {
            id,
            node: open.node,
            listeners: open.listeners.clone(),
            rack: open.rack.clone(),
            feature_level: open.feature_level,
            opened_ms: now_ms,
            last_lsn: lsn,
            last_sequence: sequence,
            leaving: false,
        };
        self.live.insert(id, session);
        Ok(())
    }

    /// Notes that a live session is about to leave.
    pub(super) fn leave_soon(&mut self, id: SessionId) {
        if let Some(session) = self.live.get_mut(&id) {
            session.leaving = true;
        }
    }

    /// Ends a session that was silent since `last_seen`. One that ended already is no error.
    pub(super) fn expire(&mut self, id: SessionId, last_seen: Lsn, lsn: Lsn, now_ms: i64) -> Result<(), Refusal> {
        match self.live.get(&id) {
            Some(session) if session.last_lsn > last_seen => Err(Refusal::SessionAlive),
            _ => {
                self.end(id, lsn, now_ms);
                Ok(())
            }
        }
    }

    /// Fences a session for ever.
    pub(super) fn end(&mut self, id: SessionId, lsn: Lsn, now_ms: i64) {
        let Some(session) = self.live.remove(&id) else { return };
        self.restore_expired(ExpiredSession {
            id,
            last_sequence: session.last_sequence,
            expired_lsn: lsn,
            expired_ms: now_ms,
        });
        while self.expired.len() > EXPIRED_SESSIONS_MAX {
            let Some((_, oldest)) = self.expired_in_order.pop_first() else { break };
            self.expired.remove(&oldest);
        }
    }

    pub(super) fn restore_live(&mut self, session: Session) {
        self.live.insert(session.id, session);
    }

    pub(super) fn restore_expired(&mut self, session: ExpiredSession) {
        self.expired_in_order.insert((session.expired_lsn, session.id));
        self.expired.insert(session.id, session);
    }
}
