//! The lives of this gateway: one session after the other, each with an id of its own.
//!
//! Where several gateways share a journal, the others may take this one for dead, after a pause or a cut wire. Its session is
//! then over for good, and it begins another by itself. Until that one has opened, the old id stays the one that objects are
//! named by: what is named so can be deleted, and will never be committed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use crate::command::OpenSession;
use crate::model::ids::{NodeId, SessionId};
use crate::state::State;

/// How this gateway comes to its sessions.
#[derive(Debug)]
pub(crate) struct Lives {
    /// The session that last opened.
    opened: AtomicU64,
    /// The session that entries are written as; ahead of `opened` while it opens.
    speaker: AtomicU64,
    /// Whether the speaker is fenced.
    is_over: watch::Sender<bool>,
    /// Whether another begins when one is over.
    begins_again: AtomicBool,
    /// Whether the node id may change with the life.
    is_allotted: bool,
    introduction: Mutex<OpenSession>,
}

impl Lives {
    /// The first life; `begins_again` as of a gateway that shares its journal.
    pub(crate) fn new(first: SessionId, introduction: OpenSession, begins_again: bool, is_allotted: bool) -> Self {
        Self {
            opened: first.0.into(),
            speaker: first.0.into(),
            is_over: watch::Sender::new(false),
            begins_again: begins_again.into(),
            is_allotted,
            introduction: Mutex::new(introduction),
        }
    }

    /// The session that last opened.
    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.opened.load(Ordering::Acquire))
    }

    /// The session that entries are written as.
    pub(crate) fn speaker(&self) -> SessionId {
        SessionId(self.speaker.load(Ordering::Acquire))
    }

    /// Notes that the speaker lives.
    pub(crate) fn note_open(&self) {
        self.opened.store(self.speaker.load(Ordering::Acquire), Ordering::Release);
    }

    /// Whether the speaker is fenced, and another life is to begin.
    pub(crate) fn is_over(&self) -> bool {
        *self.is_over.borrow()
    }

    /// Waits until that is so.
    pub(crate) async fn over(&self) {
        let mut is_over = self.is_over.subscribe();
        let _ = is_over.wait_for(|is_over| *is_over).await; // the sender is ours
    }

    /// Notes that the speaker is fenced. Whether another life is to begin: not if its node id is another gateway's now, which
    /// was started later.
    pub(crate) fn end(&self, state: &State) -> bool {
        let is_taken = !self.is_allotted && state.sessions().by_node(self.introduction().node).is_some();
        let begins = self.begins_again.load(Ordering::Acquire) && !is_taken;
        if begins {
            self.is_over.send_replace(true);
        }
        begins
    }

    /// No life begins any more: the gateway leaves.
    pub(crate) fn stop(&self) {
        self.begins_again.store(false, Ordering::Release);
    }

    /// Begins a life; tells how it introduces itself.
    pub(crate) fn begin(&self, state: &State) -> OpenSession {
        let mut introduction = self.introduction();
        if self.is_allotted {
            introduction.node = free_node(state, introduction.node);
        }
        self.speaker.store(SessionId::random().0, Ordering::Release);
        self.is_over.send_replace(false);
        introduction.clone()
    }

    fn introduction(&self) -> MutexGuard<'_, OpenSession> {
        self.introduction.lock().expect("nothing panics while it holds the introduction")
    }
}

/// The wanted node id if no live session has it, else the lowest from 1 that none has.
pub(crate) fn free_node(state: &State, wanted: NodeId) -> NodeId {
    let is_free = |node: &NodeId| state.sessions().by_node(*node).is_none();
    if is_free(&wanted) {
        return wanted;
    }
    // There are fewer sessions than numbers.
    (1..).map(NodeId).find(is_free).unwrap_or(wanted)
}
