//! Which gateway does which job that need be done by one only: each falls to one of the live gateways by rendezvous hashing. One that loses a
//! job stops at once, half-way if need be; one that gains it begins a moment later, so that a job is not done twice at once, and
//! does not wait for its own clock, so that no job lies idle for long.
//!
//! Two that both think a job is theirs, because one has not heard of the other yet, do no harm: apply checks every result.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::handle::Metadata;
use crate::model::ids::Lsn;
use crate::rendezvous;

/// How long who gains a job waits for the one before to hear of it.
const TAKE_OVER_PAUSE: Duration = Duration::from_secs(2);

/// One job, as this gateway has it or not.
#[derive(Debug)]
pub struct Share {
    metadata: Metadata,
    job: &'static str,
    moved: watch::Receiver<Lsn>,
    /// Whether it was ours when last looked, and nobody else's for a while before.
    held: bool,
    /// When it may be begun, if it has come to be ours and is not held yet.
    begins: Option<Instant>,
}

impl Share {
    /// A gateway that is alone has every job from the start.
    pub fn of(metadata: &Metadata, job: &'static str) -> Self {
        let moved = metadata.sessions_moved();
        let is_alone = metadata.read(|state| state.sessions().live_count() < 2);
        let mut share = Self { metadata: metadata.clone(), job, moved, held: false, begins: None };
        share.held = is_alone && share.is_ours();
        share
    }

    /// Whether the job may be done here now.
    pub fn is_held(&mut self) -> bool {
        self.held &= self.is_ours();
        self.held
    }

    /// Returns when the job has come to be ours. Cancel safe: who asks anew waits for the rest of the pause.
    pub async fn gained(&mut self) {
        loop {
            if !self.is_ours() {
                (self.held, self.begins) = (false, None);
            } else if !self.held {
                sleep_until(*self.begins.get_or_insert_with(|| Instant::now() + TAKE_OVER_PAUSE)).await;
                self.begins = None;
                if self.is_ours() {
                    self.held = true;
                    return;
                }
            }
            if self.moved.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Returns when the job is another's. Cancel safe.
    pub async fn lost(&mut self) {
        while self.is_ours() {
            if self.moved.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        self.held = false;
    }

    /// Whether no other gateway is left that could do it.
    pub fn is_alone(&self) -> bool {
        let own = self.metadata.session();
        self.metadata.read(|state| state.sessions().live().all(|session| session.id == own))
    }

    fn is_ours(&self) -> bool {
        let own = self.metadata.session();
        self.metadata.read(|state| rendezvous::owner(state.sessions(), self.job).is_some_and(|owner| owner.id == own))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::timeout;

    use super::*;
    use crate::command::Command;
    use crate::handle::MetadataParts;
    use crate::journal::memory::MemoryJournal;
    use crate::model::ids::NodeId;
    use crate::snapshot::MemorySnapshots;

    async fn gateway(node: i32, journal: &Arc<MemoryJournal>) -> Metadata {
        let snapshots = Arc::new(MemorySnapshots::default());
        Metadata::start(MetadataParts::for_tests(node, Arc::clone(journal) as _, snapshots)).await.unwrap()
    }

    /// A job that falls to the second of two.
    fn job() -> &'static str {
        let both = [NodeId(1), NodeId(2)];
        let falls = |job: &&str| rendezvous::of_name(job, &both) == Some(NodeId(2));
        ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().find(falls).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_goes_to_one_gateway_and_back_and_is_never_done_by_two() {
        let journal = Arc::default();
        let one = gateway(1, &journal).await;
        let mut first = Share::of(&one, job());
        assert!(first.is_held(), "alone it has every job, at once");
        let two = gateway(2, &journal).await;
        let mut second = Share::of(&two, job());
        assert!(!second.is_held(), "the other may be at it");
        one.barrier().await.unwrap();
        timeout(Duration::from_millis(1), first.lost()).await.unwrap();
        assert!(!first.is_held());
        let began = Instant::now();
        second.gained().await;
        assert!(second.is_held() && began.elapsed() >= TAKE_OVER_PAUSE);
        assert!(began.elapsed() < Duration::from_secs(60), "never orphaned for longer than a minute");

        two.submit(Command::CloseSession).await.unwrap();
        one.barrier().await.unwrap();
        let began = Instant::now();
        first.gained().await;
        assert!(first.is_held() && !second.is_held());
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    /// As upkeep does, whose clock may be faster than the pause.
    #[tokio::test(start_paused = true)]
    async fn a_job_is_gained_though_who_waits_for_it_looks_elsewhere_in_between() {
        let journal = Arc::default();
        let one = gateway(1, &journal).await;
        let two = gateway(2, &journal).await;
        let mut first = Share::of(&one, job());
        two.submit(Command::CloseSession).await.unwrap();
        one.barrier().await.unwrap();
        let began = Instant::now();
        while timeout(TAKE_OVER_PAUSE / 4, first.gained()).await.is_err() {
            assert!(!first.is_held());
            assert!(began.elapsed() < TAKE_OVER_PAUSE * 2, "the pause begins anew each time");
        }
        assert!(first.is_held() && began.elapsed() >= TAKE_OVER_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_that_goes_again_before_it_is_begun_is_not_begun() {
        let journal = Arc::default();
        let one = gateway(1, &journal).await;
        let two = gateway(2, &journal).await;
        let mut first = Share::of(&one, job());
        two.submit(Command::CloseSession).await.unwrap();
        one.barrier().await.unwrap();
        assert!(timeout(TAKE_OVER_PAUSE / 2, first.gained()).await.is_err());
        let _again = gateway(2, &journal).await;
        one.barrier().await.unwrap();
        assert!(timeout(Duration::from_secs(60), first.gained()).await.is_err());
        assert!(!first.is_held());
    }
}
