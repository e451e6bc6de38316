//! Counts and times of the wire. Names begin with `streamhouse_` and carry their unit.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::wire::error_code::ErrorCode;

/// First bucket of request durations, seconds; the others double up to half a minute and more.
const DURATION_FIRST: f64 = 0.000_25;
/// Buckets of request durations.
const DURATION_BUCKETS: u16 = 18;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiAndError {
    api: &'static str,
    error: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Api {
    api: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

type Durations = Family<Api, Histogram, fn() -> Histogram>;

/// The wire's metrics.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<ApiAndError, Counter>,
    duration: Durations,
    request_bytes: Family<Api, Counter>,
    response_bytes: Family<Api, Counter>,
    connections: Gauge,
    accepted: Counter,
    refused: Counter,
    closed: Family<Reason, Counter>,
    /// Bytes of requests held now.
    pub request_memory: Gauge,
    /// Bytes of decoded requests now, those that are being begun.
    pub decoded_memory: Gauge,
    /// Bytes of answers held now.
    pub answer_memory: Gauge,
}

/// A request that was answered, or ended in silence.
#[derive(Debug)]
pub struct RequestDone {
    /// Kafka's name of the API.
    pub api: &'static str,
    /// The error code it is counted under.
    pub error: i16,
    /// From the frame's last byte to the answer.
    pub elapsed: Duration,
    /// Bytes of the frame.
    pub request_bytes: usize,
    /// Bytes of the answer.
    pub response_bytes: usize,
}

/// A connection that is open until this is dropped.
#[derive(Debug)]
pub struct Open(Gauge);

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("streamhouse");
        let durations: fn() -> Histogram =
            || Histogram::new(exponential_buckets(DURATION_FIRST, 2.0, DURATION_BUCKETS));
        let all = Self {
            requests: Family::default(),
            duration: Family::new_with_constructor(durations),
            request_bytes: Family::default(),
            response_bytes: Family::default(),
            connections: Gauge::default(),
            accepted: Counter::default(),
            refused: Counter::default(),
            closed: Family::default(),
            request_memory: Gauge::default(),
            decoded_memory: Gauge::default(),
            answer_memory: Gauge::default(),
        };
        registry.register("requests", "Requests answered, by API and error", all.requests.clone());
        let help = "Time from a request's last byte to its answer";
        registry.register_with_unit("request_duration", help, Unit::Seconds, all.duration.clone());
        registry.register_with_unit("request", "Bytes of requests", Unit::Bytes, all.request_bytes.clone());
        registry.register_with_unit("response", "Bytes of answers", Unit::Bytes, all.response_bytes.clone());
        registry.register("connections", "Connections open", all.connections.clone());
        registry.register("connections_accepted", "Connections accepted", all.accepted.clone());
        registry.register("connections_refused", "Connections refused for their number", all.refused.clone());
        registry.register("connections_closed", "Connections closed, by reason", all.closed.clone());
        let help = "Bytes of requests held";
        registry.register_with_unit("request_memory", help, Unit::Bytes, all.request_memory.clone());
        let help = "Bytes of decoded requests that are being begun";
        registry.register_with_unit("decoded_memory", help, Unit::Bytes, all.decoded_memory.clone());
        let help = "Bytes of answers held";
        registry.register_with_unit("answer_memory", help, Unit::Bytes, all.answer_memory.clone());
        all
    }

    /// Counts a request.
    pub fn request_done(&self, done: &RequestDone) {
        let error = ErrorCode::from_code(done.error).map_or("UNKNOWN", ErrorCode::name);
        let api = Api { api: done.api };
        self.requests.get_or_create(&ApiAndError { api: done.api, error }).inc();
        self.duration.get_or_create(&api).observe(done.elapsed.as_secs_f64());
        self.request_bytes.get_or_create(&api).inc_by(done.request_bytes as u64);
        self.response_bytes.get_or_create(&api).inc_by(done.response_bytes as u64);
    }

    /// Counts a connection, as open until the answer is dropped.
    pub fn connection_opened(&self) -> Open {
        self.accepted.inc();
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// Counts a connection that was not served for lack of room.
    pub fn connection_refused(&self) {
        self.refused.inc();
    }

    /// Counts the end of a connection.
    pub fn connection_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_unit() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let elapsed = Duration::from_millis(3);
        metrics.request_done(&RequestDone { api: "Fetch", error: 1, elapsed, request_bytes: 10, response_bytes: 20 });
        let open = metrics.connection_opened();
        metrics.connection_closed("idle");
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "streamhouse_requests_total{api=\"Fetch\",error=\"OFFSET_OUT_OF_RANGE\"} 1",
            "streamhouse_request_duration_seconds_count{api=\"Fetch\"} 1",
            "streamhouse_request_bytes_total{api=\"Fetch\"} 10",
            "streamhouse_response_bytes_total{api=\"Fetch\"} 20",
            "streamhouse_connections 1",
            "streamhouse_connections_accepted_total 1",
            "streamhouse_connections_closed_total{reason=\"idle\"} 1",
            "streamhouse_request_memory_bytes 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        drop(open);
        assert_eq!(metrics.connections.get(), 0);
    }
}
