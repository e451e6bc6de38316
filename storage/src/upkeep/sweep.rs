//! The sweep: objects that nothing refers to, and that nothing will ever refer to, are deleted.
//!
//! An object goes only
//!
//! - when the ledger counted its last reference away and its grace is over (readers may be on their way to it), or
//! - when its session is expired and no commit names it: fenced at the ordering point, it can never be committed, or
//! - when it is this session's own and its commit was given up before it was journalled.
//!
//! The last two are checked against the state behind a read barrier that is asked for *after* the object was seen. Objects of
//! sessions this journal has never heard of are left alone: they may belong to another installation, or to a journal that was
//! lost. Age alone decides nothing (G1).
//!
//! Where the journal lies in the bucket, its objects hold entries and segments both. One goes only when the journal no longer
//! keeps its entry *and* nothing refers to its segment; then the state knows all that will ever be known of it.

use std::collections::HashSet;

use metadata::command::{Command, Outcome};
use metadata::failpoint::bug_here;
use metadata::model::extent::ObjectId;
use metadata::model::ids::Lsn;
use metadata::state::sessions::Standing;
use tokio::time::Instant;

use super::{Keeper, UpkeepError};
use crate::blob::ObjectMeta;

/// Objects deleted by one request and forgotten by one command (S3 allows 1,000 keys).
const DELETES_PER_REQUEST: usize = 1_000;
/// Keys of one page of a listing.
const LIST_PAGE: usize = 1_000;

impl Keeper {
    /// Deletes what the journal has let go of, what the ledger knows as dead, and what this gateway's failed uploads left behind.
    pub(super) async fn sweep(&self) -> Result<(), UpkeepError> {
        // In this order: what the ledger deletes next is not deleted twice.
        let entries = self.sweep_entries().await;
        self.sweep_dead().await?;
        self.sweep_leftovers().await?;
        entries
    }

    /// Deletes what the ledger knows as dead.
    pub(super) async fn sweep_dead(&self) -> Result<(), UpkeepError> {
        let dead = self.dead_past_grace(self.parts.metadata.journal_first().await?);
        for chunk in dead.chunks(DELETES_PER_REQUEST) {
            let deleted = self.delete(chunk).await?;
            if deleted.is_empty() {
                continue;
            }
            let forgotten = self.parts.metadata.submit(Command::ForgetObjects { objects: deleted.clone() }).await?;
            if let Outcome::Refused(refusal) = forgotten {
                tracing::warn!(%refusal, "the ledger keeps objects that are deleted");
            }
            let mut dead_since = self.dead_since.lock().expect("nothing panics while it holds the times");
            dead_since.retain(|object, _| !deleted.contains(object));
        }
        Ok(())
    }

    /// The objects whose grace is over, the longest dead first; without those whose entries the journal keeps.
    fn dead_past_grace(&self, first: Lsn) -> Vec<ObjectId> {
        let options = &self.parts.options;
        let (dead, known): (Vec<ObjectId>, usize) = self.parts.metadata.read(|state| {
            let ledger = state.objects();
            let is_kept = |id: &ObjectId| id.position().is_some_and(|position| position >= first);
            let dead = ledger.dead().map(|object| object.id).filter(|id| !is_kept(id));
            (dead.take(options.deletes_per_pass).collect(), ledger.dead().count())
        });
        self.parts.metrics.dead.set(known as i64);
        let now = Instant::now();
        let mut dead_since = self.dead_since.lock().expect("nothing panics while it holds the times");
        let still: HashSet<&ObjectId> = dead.iter().collect();
        dead_since.retain(|object, _| still.contains(object));
        let is_over =
            |object: &ObjectId| now.duration_since(*dead_since.entry(*object).or_insert(now)) >= options.grace;
        let mut is_over = is_over;
        dead.iter().copied().filter(|object| is_over(object)).collect()
    }

    /// Deletes what this gateway's failed uploads left behind.
    pub(super) async fn sweep_leftovers(&self) -> Result<(), UpkeepError> {
        let options = &self.parts.options;
        let Some(until) = Instant::now().checked_sub(options.grace) else { return Ok(()) };
        let leftovers = self.parts.writer.take_leftovers(until, options.deletes_per_pass);
        if leftovers.is_empty() {
            return Ok(());
        }
        let doomed = match self.parts.metadata.barrier().await {
            Ok(_) => self.parts.metadata.read(|state| {
                leftovers.iter().copied().filter(|object| state.objects().get(*object).is_none()).collect::<Vec<_>>()
            }),
            Err(error) => {
                leftovers.into_iter().for_each(|object| self.parts.writer.return_leftover(object));
                return Err(error.into());
            }
        };
        for chunk in doomed.chunks(DELETES_PER_REQUEST) {
            let deleted: HashSet<ObjectId> = match self.delete(chunk).await {
                Ok(deleted) => deleted.into_iter().collect(),
                Err(error) => {
                    tracing::warn!(%error, "objects of failed uploads were not deleted");
                    HashSet::new()
                }
            };
            let kept = chunk.iter().filter(|object| !deleted.contains(object));
            kept.for_each(|object| self.parts.writer.return_leftover(*object));
        }
        Ok(())
    }

    /// Looks through a part of the bucket for what expired sessions left behind. Goes on from where the last pass ended.
    pub(super) async fn sweep_listed(&self) -> Result<(), UpkeepError> {
        let options = &self.parts.options;
        let mut listed_until = self.listed_until.lock().await;
        let (mut listed, mut doomed_so_far, mut foreign) = (0, 0, 0);
        while listed < options.listed_per_pass && doomed_so_far < options.deletes_per_pass {
            let page = self.parts.blobs.list(ObjectId::PREFIX, listed_until.as_deref(), LIST_PAGE).await?;
            listed += page.len();
            self.parts.metrics.listed.inc_by(page.len() as u64);
            let objects: Vec<ObjectId> = page.iter().filter_map(|meta| ObjectId::from_key(&meta.key)).collect();
            let aged = self.aged(&page);
            // After the listing: a session that wrote one of these has spoken before it did.
            self.parts.metadata.barrier().await?;
            let doomed = self.parts.metadata.read(|state| {
                let standing = |object: &ObjectId| state.sessions().standing(object.session);
                foreign += objects.iter().filter(|object| standing(object) == Standing::Unknown).count();
                let orphans = objects.iter().filter(|object| state.objects().get(**object).is_none());
                let is_over = |object: &ObjectId| standing(object) == Standing::Expired || aged.contains(object);
                orphans.filter(|object| is_over(object)).copied().collect::<Vec<_>>()
            });
            doomed_so_far += doomed.len();
            self.delete(&doomed).await?; // what could not be deleted is found by the next round
            *listed_until = page.last().map(|meta| meta.key.clone());
            if page.len() < LIST_PAGE {
                *listed_until = None;
                break;
            }
        }
        self.parts.metrics.foreign.set(foreign as i64);
        drop(listed_until);
        self.sweep_journal().await
    }

    /// What one would delete who goes by age: none, see `bug_here`.
    fn aged(&self, page: &[ObjectMeta]) -> HashSet<ObjectId> {
        if !bug_here("sweep::by_age") {
            return HashSet::new();
        }
        let before_ms = self.parts.clock.now_ms() - 500;
        let old = page.iter().filter(|meta| meta.modified_ms < before_ms);
        old.filter_map(|meta| ObjectId::from_key(&meta.key)).collect()
    }

    /// Deletes the objects of entries that the journal has let go of since the last pass, but for those with a committed segment:
    /// the ledger has those. There may be as many as there are offset commits, so nothing is listed for them: their keys are
    /// their positions. What an earlier life let go of, or could not be deleted, is found by [`Keeper::sweep_journal`].
    pub(super) async fn sweep_entries(&self) -> Result<(), UpkeepError> {
        if !self.parts.metadata.carries() {
            return Ok(());
        }
        let first = self.parts.metadata.journal_first().await?;
        let mut swept = self.entries_swept.lock().await;
        let next = *swept.get_or_insert(first);
        let most = u64::try_from(self.parts.options.deletes_per_pass).unwrap_or(u64::MAX);
        let (past, until) = self.parts.metadata.read(|state| {
            let until = first.0.min(state.applied().0 + 1).min(next.0.saturating_add(most));
            let objects = (next.0..until).map(|position| ObjectId::at(Lsn(position)));
            (objects.filter(|id| state.objects().get(*id).is_none()).collect::<Vec<_>>(), until)
        });
        for chunk in past.chunks(DELETES_PER_REQUEST) {
            self.delete(chunk).await?;
        }
        *swept = Some(next.max(Lsn(until)));
        Ok(())
    }

    /// Looks through a part of the journal's objects for entries that it no longer keeps, and deletes them as
    /// [`Keeper::sweep_entries`] does. What is of an entry was applied long ago, so nothing can come to refer to it.
    async fn sweep_journal(&self) -> Result<(), UpkeepError> {
        if !self.parts.metadata.carries() {
            return Ok(());
        }
        let options = &self.parts.options;
        let first = self.parts.metadata.journal_first().await?;
        let mut listed_until = self.journal_listed_until.lock().await;
        let (mut listed, mut doomed_so_far) = (0, 0);
        while listed < options.listed_per_pass && doomed_so_far < options.deletes_per_pass {
            let page = self.parts.blobs.list(ObjectId::JOURNAL_PREFIX, listed_until.as_deref(), LIST_PAGE).await?;
            listed += page.len();
            self.parts.metrics.listed.inc_by(page.len() as u64);
            let objects = page.iter().filter_map(|meta| ObjectId::from_key(&meta.key));
            let past: Vec<ObjectId> = objects.filter(|id| id.position().is_some_and(|at| at < first)).collect();
            let doomed = self.parts.metadata.read(|state| {
                let is_past = |id: &ObjectId| id.position().is_some_and(|at| at <= state.applied());
                past.iter().copied().filter(|id| is_past(id) && state.objects().get(*id).is_none()).collect::<Vec<_>>()
            });
            doomed_so_far += doomed.len();
            self.delete(&doomed).await?; // what could not be deleted is found by the next round
            *listed_until = page.last().map(|meta| meta.key.clone());
            if page.len() < LIST_PAGE || past.len() < page.len() {
                *listed_until = None;
                break;
            }
        }
        Ok(())
    }

    /// Deletes objects and tells which are gone.
    async fn delete(&self, objects: &[ObjectId]) -> Result<Vec<ObjectId>, UpkeepError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = objects.iter().map(|object| object.key()).collect();
        let failed = self.parts.blobs.delete_many(&keys).await?;
        if let Some((key, error)) = failed.first() {
            tracing::warn!(%key, %error, failed = failed.len(), "objects were not deleted; the next pass tries again");
        }
        let failed: HashSet<&str> = failed.iter().map(|(key, _)| key.as_str()).collect();
        let deleted: Vec<ObjectId> = objects
            .iter()
            .zip(&keys)
            .filter(|(_, key)| !failed.contains(key.as_str()))
            .map(|(object, _)| *object)
            .collect();
        self.parts.metrics.deleted.inc_by(deleted.len() as u64);
        self.parts.metrics.delete_failures.inc_by(failed.len() as u64);
        Ok(deleted)
    }
}
