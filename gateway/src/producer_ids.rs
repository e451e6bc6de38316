//! Producer ids, drawn from blocks reserved in the journal.

use metadata::command::{Command, Outcome};
use metadata::error::SubmitError;
use metadata::handle::Metadata;
use metadata::model::ids::ProducerId;
use tokio::sync::Mutex;

/// Ids reserved at once (Kafka's `ProducerIdsBlock.PRODUCER_ID_BLOCK_SIZE`).
const BLOCK: u32 = 1000;

/// Hands out producer ids that nobody else ever gets.
#[derive(Debug)]
pub struct ProducerIds {
    metadata: Metadata,
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// Draws from this journal; reserves nothing before the first call.
    pub fn new(metadata: Metadata) -> Self {
        Self { metadata, block: Mutex::new(0..0) }
    }

    /// The next id. Concurrent callers wait for one reservation together.
    pub async fn next(&self) -> Result<ProducerId, SubmitError> {
        let mut block = self.block.lock().await;
        if block.is_empty() {
            let outcome = self.metadata.submit(Command::AllocateProducerIds { count: BLOCK }).await?;
            let Outcome::ProducerIds(first) = outcome else {
                return Err(SubmitError::Unavailable(format!("no producer ids: {outcome:?}").into()));
            };
            *block = first.0..first.0 + i64::from(BLOCK);
        }
        let id = block.start;
        block.start += 1;
        Ok(ProducerId(id))
    }
}
