//! The parts of the gateway that handlers work with; built once, in `app`.

use std::sync::Arc;

use metadata::clock::Clock;

use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::options::Options;

/// Everything a handler may reach.
#[derive(Debug)]
pub struct Services {
    /// What the user set.
    pub options: Arc<Options>,
    /// Counts and times of the wire.
    pub metrics: Arc<Metrics>,
    /// Bytes of answers held by all connections. Whoever makes a large one takes its share first (`FetchAnswer::hold`).
    pub answer_memory: Budget,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
}
