//! Incremental fetch sessions (KIP-227): what a client asked for before need not be said again.
//!
//! Source: Kafka's `FetchSession.scala`, `FetchMetadata`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use metadata::watch::Watch;

use crate::catalog::TopicRef;
use crate::wire::error_code::ErrorCode;

/// Epoch of a request that starts a session.
const INITIAL_EPOCH: i32 = 0;
/// Epoch of a request without a session, or one that ends it.
const FINAL_EPOCH: i32 = -1;
/// No session.
const NO_SESSION: i32 = 0;
/// A session unused for this long may give its slot to another (Kafka's `min.incremental.fetch.session.eviction.ms`).
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);
/// Most partitions of one session; a client with more gets full fetches.
const PARTITIONS_MAX: usize = 100_000;

/// One partition a client fetches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its topic, as the client names it.
    pub topic: TopicRef,
    /// Its index.
    pub partition: i32,
    /// From where.
    pub offset: i64,
    /// How much, bytes.
    pub max_bytes: i32,
    /// The leader epoch the client knows; -1 if none.
    pub leader_epoch: i32,
}

/// What the client was last told of a partition; if nothing differs it is not told again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// High watermark.
    pub high_watermark: i64,
    /// Log start.
    pub log_start: i64,
    /// Whether it was told an error; the next answer always follows.
    pub error: bool,
}

impl Asked {
    /// What tells it from others in a session.
    fn place(&self) -> (TopicRef, i32) {
        (self.topic.clone(), self.partition)
    }
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    order: Vec<Member>,
    /// Of the last fetch that waited: most of the next ones are over the same partitions.
    watch: Option<Watch>,
    last_used: Instant,
}

#[derive(Debug)]
struct Member {
    asked: Asked,
    told: Option<Told>,
}

/// What one fetch is about.
#[derive(Debug)]
pub struct Fetch {
    /// Every partition to read, in the order in which they get bytes.
    pub asked: Vec<Asked>,
    /// Session id to answer; 0 without one.
    pub session_id: i32,
    session: Option<Arc<Mutex<Session>>>,
    incremental: bool,
}

/// All sessions of this gateway.
#[derive(Debug)]
pub struct FetchSessions {
    slots: usize,
    sessions: Mutex<HashMap<i32, Arc<Mutex<Session>>>>,
}

impl FetchSessions {
    /// At most `slots` sessions (`max.incremental.fetch.session.cache.slots`).
    pub fn new(slots: usize) -> Self {
        Self { slots, sessions: Mutex::default() }
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finds out what a request is about. The error is the whole answer's.
    pub fn begin(
        &self,
        session_id: i32,
        epoch: i32,
        asked: Vec<Asked>,
        forgotten: &[(TopicRef, i32)],
    ) -> Result<Fetch, ErrorCode> {
        if epoch == INITIAL_EPOCH || epoch == FINAL_EPOCH {
            if session_id != NO_SESSION {
                lock(&self.sessions).remove(&session_id);
            }
            let session = if epoch == INITIAL_EPOCH { self.open(&asked) } else { None };
            let (session_id, session) = session.map_or((NO_SESSION, None), |(id, session)| (id, Some(session)));
            return Ok(Fetch { asked, session_id, session, incremental: false });
        }
        let found = lock(&self.sessions).get(&session_id).cloned();
        let session = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let asked = {
            let mut state = lock(&session);
            if state.epoch != epoch {
                return Err(ErrorCode::InvalidFetchSessionEpoch);
            }
            if asked.iter().any(|a| matches!(a.topic, TopicRef::Id(_)) != state.by_id) {
                return Err(ErrorCode::FetchSessionTopicIdError);
            }
            state.update(asked, forgotten);
            state.order.iter().map(|member| member.asked.clone()).collect()
        };
        Ok(Fetch { asked, session_id, session: Some(session), incremental: true })
    }

    fn open(&self, asked: &[Asked]) -> Option<(i32, Arc<Mutex<Session>>)> {
        if asked.is_empty() || asked.len() > PARTITIONS_MAX {
            return None;
        }
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= self.slots {
            let idle = |s: &Arc<Mutex<Session>>| lock(s).last_used.elapsed();
            let oldest = sessions.iter().map(|(id, s)| (idle(s), *id)).max()?;
            if oldest.0 < EVICTABLE_AFTER {
                return None;
            }
            sessions.remove(&oldest.1);
        }
        let id = loop {
            let id = rand::random::<i32>() & i32::MAX;
            if id != NO_SESSION && !sessions.contains_key(&id) {
                break id;
            }
        };
        let session = Session {
            epoch: INITIAL_EPOCH + 1,
            by_id: matches!(asked[0].topic, TopicRef::Id(_)),
            order: asked.iter().map(|a| Member { asked: a.clone(), told: None }).collect(),
            watch: None,
            last_used: Instant::now(),
        };
        let session = Arc::new(Mutex::new(session));
        sessions.insert(id, Arc::clone(&session));
        Some((id, session))
    }
}

impl Session {
    fn update(&mut self, asked: Vec<Asked>, forgotten: &[(TopicRef, i32)]) {
        self.last_used = Instant::now();
        self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        if !forgotten.is_empty() {
            let gone: HashSet<&(TopicRef, i32)> = forgotten.iter().collect();
            self.order.retain(|member| !gone.contains(&member.asked.place()));
        }
        if asked.is_empty() {
            return;
        }
        // Of a partition that is named twice the last word counts.
        let places: Vec<_> = asked.iter().map(Asked::place).collect();
        let mut changed: HashMap<_, _> = places.iter().cloned().zip(asked).collect();
        // Those that were served last stand last, and are those that move on.
        for member in self.order.iter_mut().rev() {
            if changed.is_empty() {
                break;
            }
            if let Some(asked) = changed.remove(&member.asked.place()) {
                member.asked = asked;
            }
        }
        let added = places.iter().filter_map(|place| changed.remove(place));
        let room = PARTITIONS_MAX.saturating_sub(self.order.len());
        self.order.extend(added.take(room).map(|asked| Member { asked, told: None }));
    }
}

impl Fetch {
    /// Whether this is a session's answer that leaves out what has not changed.
    pub fn is_incremental(&self) -> bool {
        self.incremental
    }

    /// The watch that an earlier fetch of the session left behind.
    pub fn take_watch(&self) -> Option<Watch> {
        lock(self.session.as_ref()?).watch.take()
    }

    /// Leaves a watch behind for the next fetch of the session.
    pub fn keep_watch(&self, watch: Watch) {
        if let Some(session) = &self.session {
            lock(session).watch = Some(watch);
        }
    }

    /// Which of the answered partitions to send, by place in [`Fetch::asked`]: all of a full fetch, and of an incremental
    /// one those with records, an error, or news. Remembers what is told, and lets partitions that got records stand behind
    /// the others next time, so that none starves.
    pub fn choose(&self, answers: &[(Told, bool)]) -> Vec<bool> {
        let Some(session) = &self.session else { return vec![true; answers.len()] };
        let mut state = lock(session);
        let mut chosen = vec![!self.incremental; answers.len()];
        let mut served = vec![false; answers.len().max(state.order.len())];
        for (at, ((told, has_records), asked)) in answers.iter().zip(&self.asked).enumerate() {
            // Places agree unless another request of the session changed them meanwhile; then the answer is simply sent.
            let member = state
                .order
                .get_mut(at)
                .filter(|m| m.asked.partition == asked.partition && m.asked.topic == asked.topic);
            let Some(member) = member else {
                chosen[at] = true;
                continue;
            };
            chosen[at] |= *has_records || told.error || member.told != Some(*told);
            member.told = Some(*told);
            served[at] = *has_records;
        }
        if served.contains(&true) {
            let mut last = Vec::new();
            let mut served = served.into_iter();
            let is_served = |_: &mut Member| served.next().unwrap_or(false);
            last.extend(state.order.extract_if(.., is_served));
            state.order.append(&mut last);
        }
        chosen
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(partition: i32, offset: i64) -> Asked {
        Asked { topic: TopicRef::Name("t".into()), partition, offset, max_bytes: 1, leader_epoch: -1 }
    }

    fn told(high_watermark: i64) -> Told {
        Told { high_watermark, log_start: 0, error: false }
    }

    fn partitions(fetch: &Fetch) -> Vec<i32> {
        fetch.asked.iter().map(|a| a.partition).collect()
    }

    #[test]
    fn a_session_sends_only_news_and_rotates() {
        let sessions = FetchSessions::new(10);
        let full = sessions.begin(0, 0, vec![asked(0, 0), asked(1, 0), asked(2, 0)], &[]).unwrap();
        assert_ne!(full.session_id, 0);
        assert_eq!(full.choose(&[(told(5), true), (told(0), false), (told(0), false)]), [true; 3]);

        let next = sessions.begin(full.session_id, 1, vec![asked(0, 5)], &[]).unwrap();
        assert_eq!(partitions(&next), [1, 2, 0], "what got records stands last (P5)");
        assert_eq!(next.asked[2].offset, 5);
        assert_eq!(next.choose(&[(told(0), false), (told(1), false), (told(5), false)]), [false, true, false]);
    }

    #[test]
    fn forgotten_partitions_are_gone() {
        let sessions = FetchSessions::new(10);
        let full = sessions.begin(0, 0, vec![asked(0, 0), asked(1, 0)], &[]).unwrap();
        let next = sessions.begin(full.session_id, 1, vec![asked(7, 0)], &[(TopicRef::Name("t".into()), 0)]).unwrap();
        assert_eq!(partitions(&next), [1, 7]);
    }

    #[test]
    fn wrong_ids_and_epochs_are_refused() {
        let sessions = FetchSessions::new(10);
        let code = |id, epoch| sessions.begin(id, epoch, vec![], &[]).map(|_| ()).unwrap_err();
        assert_eq!(code(99, 1), ErrorCode::FetchSessionIdNotFound);
        let id = sessions.begin(0, 0, vec![asked(0, 0)], &[]).unwrap().session_id;
        assert_eq!(code(id, 2), ErrorCode::InvalidFetchSessionEpoch);
        let by_id = Asked { topic: TopicRef::Id(uuid::Uuid::from_u128(1)), ..asked(0, 0) };
        let mixed = sessions.begin(id, 1, vec![by_id], &[]).map(|_| ()).unwrap_err();
        assert_eq!(mixed, ErrorCode::FetchSessionTopicIdError);
        sessions.begin(id, -1, vec![asked(0, 0)], &[]).unwrap();
        assert_eq!(code(id, 1), ErrorCode::FetchSessionIdNotFound, "closed by the final epoch");
    }

    #[test]
    fn slots_are_capped() {
        let sessions = FetchSessions::new(1);
        assert_ne!(sessions.begin(0, 0, vec![asked(0, 0)], &[]).unwrap().session_id, 0);
        assert_eq!(sessions.begin(0, 0, vec![asked(0, 0)], &[]).unwrap().session_id, 0);
        assert_eq!(sessions.len(), 1);
    }
}
