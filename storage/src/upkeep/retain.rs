//! Retention: where a log shall start, by the age of its records and by its size.
//!
//! Whole extents go, oldest first, as whole segment files go in Kafka (`UnifiedLog.deleteRetentionMsBreachedSegments`,
//! `deleteRetentionSizeBreachedSegments`). Never past the last stable offset (G3).

use metadata::command::{Command, Outcome};
use metadata::model::ids::{TopicId, TopicPartition};
use metadata::model::offset::Offset;
use metadata::model::topic_config::TopicConfig;
use metadata::state::State;
use metadata::state::log::Log;

use super::{Keeper, UpkeepError};

/// Most logs moved by one command.
const STARTS_PER_COMMAND: usize = 1_000;

impl Keeper {
    pub(super) async fn retain(&self) -> Result<(), UpkeepError> {
        let metadata = &self.parts.metadata;
        let topics: Vec<TopicId> = metadata.read(|state| state.topics().iter().map(|topic| topic.id()).collect());
        let mut starts = Vec::new();
        for topic in topics {
            // A look per topic, so that no one waits long for the state.
            metadata.read(|state| {
                let Some(topic) = state.topics().get(topic) else { return };
                let config = (self.parts.configs.0)(topic);
                if !config.deletes {
                    return;
                }
                let now_ms = self.parts.clock.now_ms();
                for partition in topic.partitions() {
                    let log = state.log(partition);
                    starts.extend(log.and_then(|log| new_start(state, log, &config, now_ms)).map(|to| (partition, to)));
                }
            });
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
}

/// Where the log shall start from now on; `None` if nothing changes.
fn new_start(state: &State, log: Log<'_>, config: &TopicConfig, now_ms: i64) -> Option<Offset> {
    let expired_before = config.retention_ms.map(|retention| now_ms.saturating_sub(retention));
    let mut surplus = config.retention_bytes.map_or(0, |limit| log.bytes().saturating_sub(limit));
    let mut start = log.log_start();
    for extent in log.all_extents() {
        // Records without a timestamp are as old as their object.
        let newest = if extent.max_timestamp >= 0 {
            extent.max_timestamp
        } else {
            state.objects().get(extent.object).map_or(i64::MAX, |object| object.committed_ms)
        };
        let is_expired = expired_before.is_some_and(|before| newest < before);
        let is_surplus = surplus >= u64::from(extent.length) && surplus > 0;
        if !is_expired && !is_surplus {
            break;
        }
        surplus = surplus.saturating_sub(u64::from(extent.length));
        start = extent.end;
    }
    let start = start.min(log.last_stable()).min(log.high_watermark());
    (start > log.log_start()).then_some(start)
}
