//! Counts what goes to a store and how long it takes. Placed below `retry` it sees single requests, which is what a bucket bills.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::{BlobError, BlobStore, ObjectMeta, Operation, Payload};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    store: &'static str,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    store: &'static str,
    operation: &'static str,
    outcome: &'static str,
}

/// The numbers, shared by all measured stores of a process.
#[derive(Debug, Clone)]
pub struct BlobMetrics {
    requests: Family<OutcomeLabels, Counter>,
    bytes: Family<OperationLabels, Counter>,
    in_flight: Family<OperationLabels, Gauge>,
    duration: Family<OperationLabels, Histogram, fn() -> Histogram>,
}

impl Default for BlobMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            bytes: Family::default(),
            in_flight: Family::default(),
            duration: Family::new_with_constructor(duration_buckets),
        }
    }
}

/// 0.25 ms to 16 s, twice as wide each.
fn duration_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 17))
}

impl BlobMetrics {
    /// Offers the numbers under `streamhouse_blob_*`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("streamhouse_blob");
        registry.register("requests", "Requests to the store, by how they ended", self.requests.clone());
        registry.register_with_unit(
            "payload",
            "Payload sent to or received from the store by requests that succeeded",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register("requests_in_flight", "Requests to the store under way", self.in_flight.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from request to answer, of requests that were answered",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// Requests of `operation` that ended as `outcome` says: `ok`, `dropped` or a [`BlobError::name`].
    pub fn requests(&self, store: &'static str, operation: Operation, outcome: &'static str) -> u64 {
        self.requests.get_or_create(&OutcomeLabels { store, operation: operation.name(), outcome }).get()
    }

    /// Payload bytes of `operation`.
    pub fn bytes(&self, store: &'static str, operation: Operation) -> u64 {
        self.bytes.get_or_create(&OperationLabels { store, operation: operation.name() }).get()
    }
}

/// A store whose requests are counted.
#[derive(Debug)]
pub struct Measured {
    inner: Arc<dyn BlobStore>,
    store: &'static str,
    metrics: BlobMetrics,
}

impl Measured {
    /// Wraps `inner`; `store` is the label to count it under.
    pub fn new(inner: Arc<dyn BlobStore>, store: &'static str, metrics: BlobMetrics) -> Self {
        Self { inner, store, metrics }
    }

    async fn measure<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, BlobError>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, BlobError> {
        let labels = OperationLabels { store: self.store, operation: operation.name() };
        let mut under_way = UnderWay { metrics: &self.metrics, labels, outcome: "dropped", start: Instant::now() };
        self.metrics.in_flight.get_or_create(&under_way.labels).inc();
        let answer = request.await;
        under_way.outcome = match &answer {
            Ok(value) => {
                self.metrics.bytes.get_or_create(&under_way.labels).inc_by(bytes(value));
                "ok"
            }
            Err(error) => error.name(),
        };
        answer
    }
}

/// Counts the end of a request even if its future is dropped.
struct UnderWay<'a> {
    metrics: &'a BlobMetrics,
    labels: OperationLabels,
    outcome: &'static str,
    start: Instant,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let OperationLabels { store, operation } = self.labels;
        self.metrics.in_flight.get_or_create(&self.labels).dec();
        self.metrics.requests.get_or_create(&OutcomeLabels { store, operation, outcome: self.outcome }).inc();
        if self.outcome != "dropped" {
            self.metrics.duration.get_or_create(&self.labels).observe(self.start.elapsed().as_secs_f64());
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Measured {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let size = payload.len();
        self.measure(Operation::Put, self.inner.put(key, payload), |()| size).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let size = payload.len();
        self.measure(Operation::PutNew, self.inner.put_new(key, payload), |()| size).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.measure(Operation::GetRange, self.inner.get_range(key, range), |bytes| bytes.len() as u64).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        self.measure(Operation::Get, self.inner.get(key), |bytes| bytes.len() as u64).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        self.measure(Operation::Head, self.inner.head(key), |_| 0).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        self.measure(Operation::List, self.inner.list(prefix, after, limit), |_| 0).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        self.measure(Operation::Delete, self.inner.delete_many(keys), |_| 0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::contract;
    use crate::blob::memory::MemoryStore;

    #[tokio::test]
    async fn keeps_the_contract() {
        let store = Measured::new(Arc::new(MemoryStore::new()), "memory", BlobMetrics::default());
        contract::all(&store).await;
    }

    #[tokio::test]
    async fn requests_bytes_and_times_are_counted_by_operation_and_outcome() {
        let metrics = BlobMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let store = Measured::new(Arc::new(MemoryStore::new()), "memory", metrics.clone());
        store.put("k", Payload::from(&b"12345"[..])).await.unwrap();
        store.get_range("k", 1..4).await.unwrap();
        store.get("missing").await.unwrap_err();
        drop(store.head("k")); // never polled: not a request
        assert_eq!(metrics.requests("memory", Operation::Put, "ok"), 1);
        assert_eq!(metrics.bytes("memory", Operation::GetRange), 3);
        assert_eq!(metrics.requests("memory", Operation::Get, "not_found"), 1);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"streamhouse_blob_requests_total{store="memory",operation="put",outcome="ok"} 1"#,
            r#"streamhouse_blob_payload_bytes_total{store="memory",operation="put"} 5"#,
            r#"streamhouse_blob_requests_in_flight{store="memory",operation="put"} 0"#,
            r#"streamhouse_blob_request_duration_seconds_count{store="memory",operation="put"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
