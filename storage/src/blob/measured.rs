//! Counts what goes to a store, what for, and how long it takes. Placed below `retry` it sees single requests, which is what a
//! bucket bills.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use super::purpose::Purpose;
use super::{BlobError, BlobStore, ObjectMeta, Operation, Payload};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    store: &'static str,
    operation: &'static str,
    purpose: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    store: &'static str,
    operation: &'static str,
    purpose: &'static str,
    outcome: &'static str,
}

/// Requests, and payload bytes of those that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Requests that were begun, however they ended.
    pub requests: u64,
    /// Payload, bytes.
    pub bytes: u64,
}

/// What was asked of a store so far, by operation and purpose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage([[Tally; Purpose::ALL.len()]; Operation::ALL.len()]);

impl Usage {
    /// One cell.
    pub fn get(&self, operation: Operation, purpose: Purpose) -> Tally {
        self.0[operation.index()][purpose.index()]
    }

    /// What was asked after `earlier`, which is an earlier state of the same counts.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (cell, then) in since.0.as_flattened_mut().iter_mut().zip(earlier.0.as_flattened()) {
            cell.requests = cell.requests.saturating_sub(then.requests);
            cell.bytes = cell.bytes.saturating_sub(then.bytes);
        }
        since
    }

    /// Adds to one cell.
    pub fn add(&mut self, operation: Operation, purpose: Purpose, tally: Tally) {
        let cell = &mut self.0[operation.index()][purpose.index()];
        cell.requests += tally.requests;
        cell.bytes += tally.bytes;
    }
}

#[derive(Debug, Default)]
struct Counted {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// The numbers, shared by all measured stores of a process.
#[derive(Debug, Clone)]
pub struct BlobMetrics {
    requests: Family<OutcomeLabels, Counter>,
    bytes: Family<OperationLabels, Counter>,
    in_flight: Family<OperationLabels, Gauge>,
    duration: Family<OperationLabels, Histogram, fn() -> Histogram>,
    hedged_gets: Counter,
    /// The same as `requests` and `bytes`, to be reckoned with.
    counted: Arc<[[Counted; Purpose::ALL.len()]; Operation::ALL.len()]>,
}

impl Default for BlobMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            bytes: Family::default(),
            in_flight: Family::default(),
            duration: Family::new_with_constructor(duration_buckets),
            hedged_gets: Counter::default(),
            counted: Arc::default(),
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
        let help = "GETs of readers that took long and got a second one beside them";
        registry.register("hedged_gets", help, self.hedged_gets.clone());
        registry.register("requests_in_flight", "Requests to the store under way", self.in_flight.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from request to answer, of requests that were answered",
            Unit::Seconds,
            self.duration.clone(),
        );
    }

    /// Requests of `operation` that ended as `outcome` says: `ok`, `dropped` or a [`BlobError::name`].
    pub fn requests(&self, store: &'static str, operation: Operation, purpose: Purpose, outcome: &'static str) -> u64 {
        let (operation, purpose) = (operation.name(), purpose.name());
        self.requests.get_or_create(&OutcomeLabels { store, operation, purpose, outcome }).get()
    }

    /// Payload bytes of `operation`.
    pub fn bytes(&self, store: &'static str, operation: Operation, purpose: Purpose) -> u64 {
        let (operation, purpose) = (operation.name(), purpose.name());
        self.bytes.get_or_create(&OperationLabels { store, operation, purpose }).get()
    }
}

impl BlobMetrics {
    /// Everything so far.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for (operation, purpose) in Operation::ALL.iter().flat_map(|&o| Purpose::ALL.map(|p| (o, p))) {
            let counted = self.counted(operation, purpose);
            let (requests, bytes) = (counted.requests.load(Ordering::Relaxed), counted.bytes.load(Ordering::Relaxed));
            usage.add(operation, purpose, Tally { requests, bytes });
        }
        usage
    }

    /// Where to count second requests of readers.
    pub fn hedged_gets(&self) -> &Counter {
        &self.hedged_gets
    }

    fn counted(&self, operation: Operation, purpose: Purpose) -> &Counted {
        &self.counted[operation.index()][purpose.index()]
    }
}

/// Counts requests for one purpose. A store whose one call may be several requests holds one itself; for the others
/// [`Measured`] does.
#[derive(Debug, Clone)]
pub struct Meter {
    metrics: BlobMetrics,
    store: &'static str,
    purpose: Purpose,
}

impl Meter {
    /// Counts into `metrics`; `store` is the label to count it under.
    pub fn new(metrics: BlobMetrics, store: &'static str, purpose: Purpose) -> Self {
        Self { metrics, store, purpose }
    }

    /// Counts for no one.
    pub fn unobserved() -> Self {
        Self::new(BlobMetrics::default(), "unobserved", Purpose::Upkeep)
    }

    /// Makes one request and counts it, also if it is dropped; `bytes` tells the payload of its answer.
    pub async fn request<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, BlobError>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, BlobError> {
        let labels = OperationLabels { store: self.store, operation: operation.name(), purpose: self.purpose.name() };
        let counted = self.metrics.counted(operation, self.purpose);
        counted.requests.fetch_add(1, Ordering::Relaxed);
        let mut under_way = UnderWay { metrics: &self.metrics, labels, outcome: "dropped", start: Instant::now() };
        self.metrics.in_flight.get_or_create(&under_way.labels).inc();
        let answer = request.await;
        under_way.outcome = match &answer {
            Ok(value) => {
                let bytes = bytes(value);
                counted.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.metrics.bytes.get_or_create(&under_way.labels).inc_by(bytes);
                "ok"
            }
            Err(error) => error.name(),
        };
        answer
    }
}

/// A store whose calls are counted, each as one request.
#[derive(Debug)]
pub struct Measured {
    inner: Arc<dyn BlobStore>,
    meter: Meter,
}

impl Measured {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn BlobStore>, meter: Meter) -> Self {
        Self { inner, meter }
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
        let OperationLabels { store, operation, purpose } = self.labels;
        self.metrics.in_flight.get_or_create(&self.labels).dec();
        self.metrics.requests.get_or_create(&OutcomeLabels { store, operation, purpose, outcome: self.outcome }).inc();
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
        self.meter.request(Operation::Put, self.inner.put(key, payload), |()| size).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let size = payload.len();
        self.meter.request(Operation::PutNew, self.inner.put_new(key, payload), |()| size).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        self.meter.request(Operation::GetRange, self.inner.get_range(key, range), |bytes| bytes.len() as u64).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        self.meter.request(Operation::Get, self.inner.get(key), |bytes| bytes.len() as u64).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        self.meter.request(Operation::Head, self.inner.head(key), |_| 0).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        self.meter.request(Operation::List, self.inner.list(prefix, after, limit), |_| 0).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        self.meter.request(Operation::Delete, self.inner.delete_many(keys), |_| 0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::contract;
    use crate::blob::memory::MemoryStore;

    #[tokio::test]
    async fn keeps_the_contract() {
        let store = Measured::new(Arc::new(MemoryStore::new()), Meter::unobserved());
        contract::all(&store).await;
    }

    #[tokio::test]
    async fn requests_bytes_and_times_are_counted_by_operation_purpose_and_outcome() {
        let metrics = BlobMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let meter = Meter::new(metrics.clone(), "memory", Purpose::Fetch);
        let store = Measured::new(Arc::new(MemoryStore::new()), meter);
        store.put("k", Payload::from(&b"12345"[..])).await.unwrap();
        store.get_range("k", 1..4).await.unwrap();
        store.get("missing").await.unwrap_err();
        drop(store.head("k")); // never polled: not a request
        assert_eq!(metrics.requests("memory", Operation::Put, Purpose::Fetch, "ok"), 1);
        assert_eq!(metrics.bytes("memory", Operation::GetRange, Purpose::Fetch), 3);
        assert_eq!(metrics.requests("memory", Operation::Get, Purpose::Fetch, "not_found"), 1);
        let usage = metrics.usage();
        assert_eq!(usage.get(Operation::Put, Purpose::Fetch), Tally { requests: 1, bytes: 5 });
        assert_eq!(usage.get(Operation::Get, Purpose::Fetch), Tally { requests: 1, bytes: 0 });
        assert_eq!(usage.get(Operation::Head, Purpose::Fetch), Tally::default());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"streamhouse_blob_requests_total{store="memory",operation="put",purpose="fetch",outcome="ok"} 1"#,
            r#"streamhouse_blob_payload_bytes_total{store="memory",operation="put",purpose="fetch"} 5"#,
            r#"streamhouse_blob_requests_in_flight{store="memory",operation="put",purpose="fetch"} 0"#,
            r#"streamhouse_blob_request_duration_seconds_count{store="memory",operation="put",purpose="fetch"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
