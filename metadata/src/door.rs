//! The way of a command to the appender: a place in the queue, bounded in number and bytes.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::appender::{Waiting, Work};
use crate::command::{Command, Outcome};
use crate::error::SubmitError;
use crate::metrics::JournalMetrics;
use crate::model::limits::{COMMAND_BYTES_MAX, JOURNAL_QUEUE_BYTES};
use crate::replica::Replica;
use crate::size::command_bytes;
use crate::state::State;

/// Where a queued command hears what it came to.
pub(crate) type Outcomes = oneshot::Receiver<Result<Outcome, SubmitError>>;

/// Takes commands. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    replica: Arc<Replica>,
    queue: mpsc::Sender<Waiting>,
    /// Bytes that may yet be queued.
    places: Arc<Semaphore>,
    metrics: JournalMetrics,
}

impl Door {
    pub(crate) fn new(replica: Arc<Replica>, queue: mpsc::Sender<Waiting>, metrics: JournalMetrics) -> Self {
        Self { replica, queue, places: Arc::new(Semaphore::new(JOURNAL_QUEUE_BYTES)), metrics }
    }

    /// See [`crate::handle::Metadata::enqueue`].
    pub(crate) async fn enqueue(&self, command: Command) -> Result<Outcomes, SubmitError> {
        let bytes = command_bytes(&command);
        self.queue(Work::Command(command), bytes).await
    }

    /// The same for any work of so many bytes.
    pub(crate) async fn queue(&self, work: Work, bytes: usize) -> Result<Outcomes, SubmitError> {
        if let Some(reason) = self.replica.end_reason() {
            return Err(reason);
        }
        if let Work::Command(command) = &work {
            let needed = command.feature_level();
            if needed > 0 && needed > self.replica.read(State::feature_level) {
                return Err(SubmitError::Unavailable("an older gateway of the cluster does not know this yet".into()));
            }
        }
        let size = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes > COMMAND_BYTES_MAX {
            return Err(SubmitError::TooLarge { bytes, max: COMMAND_BYTES_MAX });
        }
        let place = Arc::clone(&self.places).acquire_many_owned(size).await.map_err(|_| SubmitError::Closed)?;
        let permit = match self.queue.reserve().await {
            Ok(permit) => permit,
            Err(_) => return Err(self.replica.end_reason().unwrap_or(SubmitError::Closed)),
        };
        let (answer, outcome) = oneshot::channel();
        self.metrics.queue_commands.inc();
        permit.send(Waiting { work, bytes, answer, _place: place });
        Ok(outcome)
    }
}
