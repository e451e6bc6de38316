//! Tries again what may succeed later: a deadline for the operation, a timeout for each attempt, jittered pauses in between, and a
//! second request beside one that is unusually slow.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use metadata::class::{Classify, ErrorClass};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep, timeout};

use super::hedge::Hedges;
use super::{BlobError, BlobStore, ObjectMeta, Operation, Payload};

/// How often and how long to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOptions {
    /// How long one request may take; default 10 s.
    pub attempt_timeout: Duration,
    /// How long the operation may take, all attempts and pauses together; never exceeded; default 30 s.
    pub deadline: Duration,
    /// The longest first pause; each one after it may be twice as long; default 50 ms.
    pub first_pause: Duration,
    /// The longest pause of all; default 2 s.
    pub longest_pause: Duration,
    /// Whether a ranged GET that takes unusually long gets a second one beside it; default off.
    pub hedge: bool,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(2),
            hedge: false,
        }
    }
}

/// A store whose operations are tried again until they succeed, are refused, or the deadline is near.
///
/// The error of the last attempt is the answer; but if an earlier attempt may have taken effect, the answer is never one that
/// says "nothing was done". A repeated `put_new` that finds the key taken after such an attempt compares the object with its
/// own payload, and succeeds if they are equal.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn BlobStore>,
    options: RetryOptions,
    hedges: Hedges,
}

impl Retry {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn BlobStore>, options: RetryOptions) -> Self {
        Self::hedging(inner, options, Counter::default())
    }

    /// Wraps `inner`; second requests are counted.
    pub fn hedging(inner: Arc<dyn BlobStore>, options: RetryOptions, hedged: Counter) -> Self {
        Self { inner, options, hedges: Hedges::new(hedged) }
    }

    async fn run<T, F>(&self, operation: Operation, attempt: impl Fn() -> F + Send + Sync) -> Result<T, BlobError>
    where
        F: Future<Output = Result<T, BlobError>> + Send,
    {
        let mut tries = Tries::new(&self.options, operation);
        loop {
            match tries.attempt(attempt()).await {
                Ok(value) => return Ok(value),
                Err(error) => tries.pause(error).await?,
            }
        }
    }

    async fn is_ours(&self, key: &str, payload: &Payload) -> Result<bool, BlobError> {
        if self.head(key).await?.size != payload.len() {
            return Ok(false);
        }
        Ok(payload.is_empty() || self.get_range(key, 0..payload.len()).await? == payload.to_bytes())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Retry {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.run(Operation::Put, || self.inner.put(key, payload.clone())).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        let mut tries = Tries::new(&self.options, Operation::PutNew);
        loop {
            match tries.attempt(self.inner.put_new(key, payload.clone())).await {
                Err(BlobError::AlreadyExists { .. }) if tries.may_have_happened => {
                    // If it cannot be told whose the object is, the outcome stays unknown.
                    return match timeout(tries.left(), self.is_ours(key, &payload)).await {
                        Ok(Ok(true)) => Ok(()),
                        Ok(Ok(false)) => Err(BlobError::already_exists(key)),
                        Ok(Err(error)) => Err(BlobError::Unknown(error.to_string())),
                        Err(_) => Err(tries.out_of_time()),
                    };
                }
                Err(error) => tries.pause(error).await?,
                Ok(()) => return Ok(()),
            }
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let get = || self.inner.get_range(key, range.clone());
        if !self.options.hedge {
            return self.run(Operation::GetRange, get).await;
        }
        let bytes = range.end.saturating_sub(range.start);
        self.run(Operation::GetRange, || self.hedges.run(bytes, || true, get)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        self.run(Operation::Get, || self.inner.get(key)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        self.run(Operation::Head, || self.inner.head(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        self.run(Operation::List, || self.inner.list(prefix, after, limit)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        self.run(Operation::Delete, || self.inner.delete_many(keys)).await
    }
}

/// One operation under way.
struct Tries<'a> {
    options: &'a RetryOptions,
    operation: Operation,
    end: Instant,
    next_pause: Duration,
    may_have_happened: bool,
}

impl<'a> Tries<'a> {
    fn new(options: &'a RetryOptions, operation: Operation) -> Self {
        let end = Instant::now() + options.deadline;
        Self { options, operation, end, next_pause: options.first_pause, may_have_happened: false }
    }

    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    fn out_of_time(&self) -> BlobError {
        BlobError::Timeout { operation: self.operation, after: self.options.deadline }
    }

    async fn attempt<T>(&self, attempt: impl Future<Output = Result<T, BlobError>>) -> Result<T, BlobError> {
        let within = self.options.attempt_timeout.min(self.left());
        let timed_out = || BlobError::Timeout { operation: self.operation, after: within };
        timeout(within, attempt).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// Waits before the next attempt, or gives the error back if there should be none.
    async fn pause(&mut self, error: BlobError) -> Result<(), BlobError> {
        match error.class() {
            ErrorClass::Unknown => self.may_have_happened = true,
            ErrorClass::Retry => {}
            ErrorClass::Rejected | ErrorClass::Corrupt | ErrorClass::Closed => return Err(error),
        }
        // Anything up to the whole: clients that failed together should not come back together.
        let pause = self.next_pause.mul_f64(rand::random_range(0.1..=1.0));
        if pause >= self.left() {
            return Err(match error.class() {
                ErrorClass::Retry if self.may_have_happened => BlobError::Unknown(error.to_string()),
                _ => error,
            });
        }
        tracing::debug!(operation = %self.operation, %error, ?pause, "trying again");
        sleep(pause).await;
        self.next_pause = (self.next_pause * 2).min(self.options.longest_pause);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
