//! Retention: where a log shall start, by the age of its records and by its size.
//!
//! Whole extents go, oldest first, as whole segment files go in Kafka (`UnifiedLog.deleteRetentionMsBreachedSegments`,
//! `deleteRetentionSizeBreachedSegments`). Never past the last stable offset (G3). Where the oldest extents are folded, and neither all
//! of a fold goes nor none, its run is read.

use metadata::command::{Command, Outcome};
use metadata::model::extent::Extent;
use metadata::model::fold::Fold;
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::model::offset::Offset;
use metadata::model::topic_config::TopicConfig;
use metadata::state::State;
use metadata::state::log::Log;
use metadata::state::log::fold::Part;

use super::{Keeper, UpkeepError};
use crate::folds::Runs;

/// Most logs moved by one command.
const STARTS_PER_COMMAND: usize = 1_000;
/// Most logs of one look at the state: each may need a run of a manifest, and all of these are held at once.
const LOGS_PER_LOOK: usize = 256;

impl Keeper {
    pub(super) async fn retain(&self) -> Result<(), UpkeepError> {
        let metadata = &self.parts.metadata;
        let topics: Vec<TopicId> = metadata.read(|state| state.topics().iter().map(|topic| topic.id()).collect());
        let mut starts = Vec::new();
        for topic in topics {
            // A look per topic or less, so that no one waits long for the state.
            for from in (0..).step_by(LOGS_PER_LOOK) {
                let look = |state: &State, runs: &mut Runs<'_>| self.starts(state, topic, from, runs);
                let Some(moved) = self.folds.look(metadata, look).await else { break };
                starts.extend(moved);
            }
            while starts.len() >= STARTS_PER_COMMAND {
                self.advance(starts.split_off(starts.len() - STARTS_PER_COMMAND)).await?;
            }
        }
        if !starts.is_empty() {
            self.advance(starts).await?;
        }
        Ok(())
    }

    async fn advance(&self, starts: Vec<(TopicPartition, Offset)>) -> Result<(), UpkeepError> {
        let moved = self.parts.metadata.submit(Command::AdvanceLogStart { starts }).await?;
        if let Outcome::LogStarts(starts) = moved {
            self.parts.metrics.retained.inc_by(starts.iter().filter(|start| start.is_ok()).count() as u64);
        }
        Ok(())
    }

    /// The new starts of some logs of a topic, from a partition on; `None` if there is no such partition, or nothing of the topic
    /// is deleted.
    fn starts(
        &self,
        state: &State,
        topic: TopicId,
        from: usize,
        runs: &mut Runs<'_>,
    ) -> Option<Vec<(TopicPartition, Offset)>> {
        let topic = state.topics().get(topic)?;
        let config = (self.parts.configs.0)(topic);
        let some: Vec<_> = topic.partitions().skip(from).take(LOGS_PER_LOOK).collect();
        if !config.deletes || some.is_empty() {
            return None;
        }
        let now_ms = self.parts.clock.now_ms();
        let start = |tp| Some((tp, new_start(state, state.log(tp)?, &config, now_ms, runs)?));
        Some(some.into_iter().filter_map(start).collect())
    }
}

/// Where the log shall start from now on; `None` if nothing changes. Ends before a fold whose run is needed and cannot be read.
fn new_start(state: &State, log: Log<'_>, config: &TopicConfig, now_ms: i64, runs: &mut Runs<'_>) -> Option<Offset> {
    let mut rule = Rule {
        state,
        expired_before: config.retention_ms.map(|retention| now_ms.saturating_sub(retention)),
        surplus: config.retention_bytes.map_or(0, |limit| log.bytes().saturating_sub(limit)),
        start: log.log_start(),
    };
    for part in log.parts(log.log_start()) {
        let goes = match part {
            Part::Extent(extent) => rule.passes(&extent),
            Part::Folded(fold) => rule.passes_fold(fold, runs),
        };
        if !goes {
            break;
        }
    }
    let start = rule.start.min(log.last_stable()).min(log.high_watermark());
    (start > log.log_start()).then_some(start)
}

/// What goes, told one after the other.
struct Rule<'a> {
    state: &'a State,
    expired_before: Option<i64>,
    surplus: u64,
    start: Offset,
}

impl Rule<'_> {
    fn passes(&mut self, extent: &Extent) -> bool {
        // Records without a timestamp are as old as their object.
        let newest = if extent.max_timestamp >= 0 {
            extent.max_timestamp
        } else {
            self.state.objects().get(extent.object).map_or(i64::MAX, |object| object.committed_ms)
        };
        let is_surplus = self.surplus >= u64::from(extent.length) && self.surplus > 0;
        // A fold may begin before the log start: what is passed there stands in nobody's way.
        let goes = extent.end <= self.start || self.is_expired(newest) || is_surplus;
        if goes {
            self.pass(extent.end, extent.length.into());
        }
        goes
    }

    /// Passes a fold, or some of its extents; whether all of it goes.
    fn passes_fold(&mut self, fold: &Fold, runs: &mut Runs<'_>) -> bool {
        if self.is_expired(fold.newest_ms) || self.surplus >= fold.bytes {
            self.pass(fold.end, fold.bytes);
            return true;
        }
        if self.surplus == 0 && !self.is_expired(fold.oldest_ms) {
            return false;
        }
        match runs.get(fold) {
            Ok(run) => run.iter().all(|extent| self.passes(extent)),
            Err(error) => {
                tracing::debug!(%error, "retention needs to know what is folded");
                false
            }
        }
    }

    fn is_expired(&self, newest_ms: i64) -> bool {
        self.expired_before.is_some_and(|before| newest_ms < before)
    }

    fn pass(&mut self, end: Offset, bytes: u64) {
        self.surplus = self.surplus.saturating_sub(bytes);
        self.start = self.start.max(end);
    }
}
