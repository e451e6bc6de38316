//! Whether the gateways hold the same state (D1).
//!
//! Now and then one of them marks a position in the journal. Each takes the hash of its state there and says it in the
//! journal. Once every gateway that lived at the mark and still lives has spoken, each compares, and all come to the same
//! verdict: the hash that most have counts, of two as frequent the one that was said first. Whoever has another stops.
//!
//! Where there is no majority, as between two gateways, that says nothing about who is right. It is still better than both
//! going on, which would give one offset two values, and than both stopping, after which nobody would know more; the log asks for a look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::aside;
use crate::model::ids::{Lsn, SessionId};
use crate::state::State;
use crate::state::sessions::Sessions;

/// Most marks that wait for a verdict; an older one is forgotten.
const MARKS_MAX: usize = 2;

/// What is known of the marks.
#[derive(Debug)]
pub(crate) struct Agreement {
    marks: Mutex<BTreeMap<Lsn, Mark>>,
    /// The last mark whose hash was taken here, and the hash.
    pub(crate) taken: watch::Sender<Option<(Lsn, u64)>>,
}

/// One position at which states are compared.
#[derive(Debug)]
struct Mark {
    /// Who lived there.
    expected: BTreeSet<SessionId>,
    own: Option<u64>,
    /// What was said, in the order of the journal.
    said: Vec<(SessionId, u64)>,
}

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The mark.
    pub(crate) at: Lsn,
    /// Our own hash.
    pub(crate) own: u64,
    /// The hash that counts.
    pub(crate) right: u64,
    /// Whether all have the same.
    pub(crate) all_agree: bool,
    /// Whether more than half have the one that counts.
    pub(crate) by_majority: bool,
}

impl Default for Agreement {
    fn default() -> Self {
        Self { marks: Mutex::default(), taken: watch::Sender::new(None) }
    }
}

impl Agreement {
    /// Takes the hash of the state at a mark, on a thread that may block. A gateway alone has nothing to compare.
    pub(crate) fn mark(self: &Arc<Self>, lsn: Lsn, state: State) {
        let expected: BTreeSet<_> = state.sessions().live().map(|session| session.id).collect();
        if expected.len() < 2 {
            return;
        }
        let mut marks = self.marks();
        marks.insert(lsn, Mark { expected, own: None, said: Vec::new() });
        while marks.len() > MARKS_MAX {
            marks.pop_first();
        }
        drop(marks);
        let agreement = Arc::clone(self);
        aside::begin(move || {
            let hash = state.hash();
            if let Some(mark) = agreement.marks().get_mut(&lsn) {
                mark.own = Some(hash);
            }
            agreement.taken.send_replace(Some((lsn, hash)));
        });
    }

    /// Hears what a gateway's state hashed to.
    pub(crate) fn said(&self, session: SessionId, at: Lsn, hash: u64) {
        let mut marks = self.marks();
        let Some(mark) = marks.get_mut(&at) else { return };
        if mark.expected.contains(&session) && mark.said.iter().all(|(known, _)| *known != session) {
            mark.said.push((session, hash));
        }
    }

    /// The verdict of the oldest mark for which everyone has spoken, once.
    pub(crate) fn verdict(&self, sessions: &Sessions) -> Option<Verdict> {
        let mut marks = self.marks();
        let is_complete = |mark: &Mark| {
            let has_said = |id: &SessionId| mark.said.iter().any(|(said, _)| said == id);
            !mark.said.is_empty() && mark.expected.iter().all(|id| has_said(id) || sessions.get(*id).is_none())
        };
        let at = marks.iter().find(|(_, mark)| mark.own.is_some() && is_complete(mark)).map(|(at, _)| *at)?;
        let mark = marks.remove(&at)?;
        let right = most_frequent(&mark.said)?;
        let agree = mark.said.iter().filter(|(_, hash)| *hash == right).count();
        let (all_agree, by_majority) = (agree == mark.said.len(), agree * 2 > mark.said.len());
        Some(Verdict { at, own: mark.own?, right, all_agree, by_majority })
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<Lsn, Mark>> {
        self.marks.lock().expect("nothing panics while it holds the marks")
    }
}

/// The hash that most have said; of two as frequent, the one that was said first.
fn most_frequent(said: &[(SessionId, u64)]) -> Option<u64> {
    let count = |hash: u64| said.iter().filter(|(_, other)| *other == hash).count();
    // The last of equals wins, so from the last to the first.
    said.iter().rev().map(|(_, hash)| *hash).max_by_key(|hash| count(*hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(hashes: &[u64]) -> Vec<(SessionId, u64)> {
        (1..).map(SessionId).zip(hashes.iter().copied()).collect()
    }

    #[test]
    fn the_majority_counts_and_of_equals_the_first() {
        assert_eq!(most_frequent(&[]), None);
        assert_eq!(most_frequent(&said(&[7])), Some(7));
        assert_eq!(most_frequent(&said(&[7, 8, 8])), Some(8));
        assert_eq!(most_frequent(&said(&[8, 7, 8])), Some(8));
        assert_eq!(most_frequent(&said(&[7, 8])), Some(7));
        assert_eq!(most_frequent(&said(&[9, 7, 8, 7, 8])), Some(7));
    }
}
