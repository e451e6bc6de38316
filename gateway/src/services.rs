//! The parts of the gateway that handlers work with; built once, in `app`.

use std::sync::Arc;

use metadata::clock::Clock;
use metadata::handle::Metadata;
use storage::reader::Reader;
use storage::writer::Writer;
use tokio_util::sync::CancellationToken;

use crate::coordinator::groups::Groups;
use crate::fetch::session::FetchSessions;
use crate::metrics::Metrics;
use crate::net::budget::Budget;
use crate::options::Options;
use crate::options::kafka::KafkaSettings;
use crate::producer_ids::ProducerIds;

/// Everything a handler may reach.
#[derive(Debug)]
pub struct Services {
    /// What the user set.
    pub options: Arc<Options>,
    /// Kafka's settings in force.
    pub kafka: Arc<KafkaSettings>,
    /// The truth.
    pub metadata: Metadata,
    /// The way in for records.
    pub writer: Writer,
    /// The way out.
    pub reader: Reader,
    /// What fetching clients asked for so far.
    pub fetch_sessions: FetchSessions,
    /// Ids for idempotent producers.
    pub producer_ids: ProducerIds,
    /// Counts and times of the wire.
    pub metrics: Arc<Metrics>,
    /// Bytes of answers held by all connections. Whoever makes a large one takes its share first (`FetchAnswer::hold`).
    pub answer_memory: Budget,
    /// Consumer groups and committed offsets.
    pub groups: Arc<Groups>,
    /// Cancelled when this gateway is about to leave others that stay: clients are told to look for another.
    pub leaving: CancellationToken,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
}
