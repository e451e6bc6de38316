//! What all connections of a gateway share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::budget::Budget;
use super::permits::Permits;
use super::request::Requests;
use crate::limits;
use crate::metrics::Metrics;

/// Who answers, what is counted, and when to stop.
pub struct Shared {
    /// Answers the requests.
    pub requests: Arc<dyn Requests>,
    /// Counts and times.
    pub metrics: Arc<Metrics>,
    /// Bytes of requests held.
    pub request_memory: Budget,
    /// Bytes of decoded requests that are being begun.
    pub decoded_memory: Budget,
    /// Bytes of answers held.
    pub answer_memory: Budget,
    /// Connections there may be.
    pub permits: Permits,
    /// How long things may take.
    pub deadlines: Deadlines,
    /// Cancelled when the gateway stops: nothing new begins.
    pub stop: CancellationToken,
    /// Cancelled when stopping took too long: connections close at once.
    pub abandon: CancellationToken,
    /// The tasks of the connections.
    pub tasks: TaskTracker,
}

/// How long things may take on a connection.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte of a frame to its last.
    pub frame: Duration,
    /// From one frame to the next.
    pub idle: Duration,
    /// For an answer to be taken, beside the time its size needs.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { frame: limits::FRAME_DEADLINE, idle: limits::IDLE_DEADLINE, answer: limits::ANSWER_DEADLINE }
    }
}

impl Shared {
    /// With the limits every gateway has.
    pub fn new(requests: Arc<dyn Requests>, metrics: Arc<Metrics>, answer_memory: Budget) -> Self {
        Self {
            requests,
            request_memory: Budget::new(limits::REQUEST_MEMORY_BYTES, metrics.request_memory.clone()),
            decoded_memory: Budget::new(limits::DECODED_MEMORY_BYTES, metrics.decoded_memory.clone()),
            answer_memory,
            metrics,
            permits: Permits::new(limits::CONNECTIONS, limits::CONNECTIONS_PER_ADDRESS),
            deadlines: Deadlines::default(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Stops: no new connection, no new request; what is in flight is answered, within `deadline`. Returns when all
    /// connections are closed; `false` if some had to be closed with answers outstanding.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        let in_time = timeout(deadline, self.tasks.wait()).await.is_ok();
        self.abandon.cancel();
        self.tasks.wait().await;
        in_time
    }
}
