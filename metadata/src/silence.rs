//! Watches the other gateways' sessions, and proposes to expire those that went silent.
//!
//! A session is heard of by its entries in the journal, and silence is counted by this process's own clock, only while it
//! sees the journal itself: after a time without the journal counting starts anew, and of a pause of its own, in which the
//! others may have stood still too, little counts. No two clocks are compared. Apply has the last word: it refuses if the
//! session has spoken meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::command::Command;
use crate::door::Door;
use crate::model::ids::{Lsn, SessionId};
use crate::replica::Replica;

/// Looks in one session timeout.
const LOOKS_PER_TIMEOUT: u32 = 10;
/// Of the time between two looks no more than so many intervals count, so that one pause of this process expires nobody. They
/// do count: on a machine that is always late a dead gateway must be found too.
const INTERVALS_COUNTED_MAX: u32 = 3;

/// For how long which session was not heard of.
#[derive(Debug, Default)]
struct Silences {
    since: BTreeMap<SessionId, (Lsn, Duration)>,
}

impl Silences {
    /// Notes what was seen at a look: each session with the position of its last entry. `passed` since the look before;
    /// `None` if the journal was away for part of that time.
    fn note(&mut self, seen: &[(SessionId, Lsn)], passed: Option<Duration>) {
        let before = std::mem::take(&mut self.since);
        self.since = seen
            .iter()
            .map(|&(session, last)| {
                let silent = match (before.get(&session), passed) {
                    (Some(&(known, silent)), Some(passed)) if known == last => silent + passed,
                    _ => Duration::ZERO,
                };
                (session, (last, silent))
            })
            .collect();
    }

    /// Who was silent for that long, with the position of the last entry, and how many of the others were not and come
    /// before `own`.
    fn longer_than(&self, timeout: Duration) -> impl Iterator<Item = (SessionId, Lsn, Duration)> {
        let silent = move |&(_, (_, silent)): &(&SessionId, &(Lsn, Duration))| *silent >= timeout;
        self.since.iter().filter(silent).map(|(session, (last, silent))| (*session, *last, *silent))
    }

    /// How many sessions that are heard of come before `own`: so many are asked first to propose.
    fn rank(&self, own: SessionId, timeout: Duration) -> u32 {
        let before = self.since.iter().filter(|(session, (_, silent))| **session < own && *silent < timeout);
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    }
}

/// Looks for as long as it lives.
pub(crate) async fn watch(replica: Arc<Replica>, door: Door, timeout: Duration) {
    let interval = timeout / LOOKS_PER_TIMEOUT;
    let mut silences = Silences::default();
    let (mut last_look, mut was_away) = (Instant::now(), false);
    loop {
        sleep(interval).await;
        let began = Instant::now();
        let reached = async { replica.reach(replica.journal_head().await?).await };
        if reached.await.is_err() {
            was_away = true;
            continue; // what follows the journal tells why
        }
        let own = replica.lives.session();
        let others = replica.read(|state| {
            let others = state.sessions().live().filter(|session| session.id != own);
            others.map(|session| (session.id, session.last_lsn)).collect::<Vec<_>>()
        });
        let passed = (!was_away).then(|| (began - last_look).min(interval * INTERVALS_COUNTED_MAX));
        (last_look, was_away) = (began, false);
        silences.note(&others, passed);
        let patience = timeout + interval * silences.rank(own, timeout);
        for (session, last_seen, silent) in silences.longer_than(patience) {
            tracing::warn!(%session, silent_ms = silent.as_millis() as u64, "a gateway is silent; proposing to expire its session");
            // Whether it is done is seen at the next look.
            let _ = door.enqueue(Command::ExpireSession { session, last_seen }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn silent(silences: &Silences, seconds: u32) -> Vec<u64> {
        silences.longer_than(SECOND * seconds).map(|(session, ..)| session.0).collect()
    }

    #[test]
    fn only_silence_that_was_seen_counts() {
        let mut silences = Silences::default();
        let seen = |a: u64, b: u64| [(SessionId(1), Lsn(a)), (SessionId(2), Lsn(b))];
        silences.note(&seen(5, 6), Some(SECOND));
        assert_eq!(silent(&silences, 1), [] as [u64; 0], "just seen for the first time");
        silences.note(&seen(5, 7), Some(SECOND));
        silences.note(&seen(5, 7), Some(SECOND));
        assert_eq!(silent(&silences, 2), [1]);
        assert_eq!(silent(&silences, 1), [1, 2]);
        assert_eq!((silences.rank(SessionId(3), SECOND * 2), silences.rank(SessionId(2), SECOND * 2)), (1, 0));
        silences.note(&seen(5, 7), None);
        assert_eq!(silent(&silences, 1), [] as [u64; 0], "nothing is known of the time between");
        silences.note(&seen(5, 7)[1..], Some(SECOND));
        silences.note(&seen(5, 7), Some(SECOND));
        assert_eq!(silent(&silences, 1), [2], "it is new");
    }
}
