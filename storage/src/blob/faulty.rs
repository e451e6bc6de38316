//! A store that fails on command, for tests: before or after it did as asked, slowly, never, or with wrong bytes. What happens
//! is decided by a seed and the order of calls.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, pending};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use super::{BlobError, BlobStore, ObjectMeta, Operation, Payload};

/// What may happen to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call passes.
    Pass,
    /// Not done, and told so.
    FailBefore,
    /// Done, but the answer is lost.
    FailAfter,
    /// Not done: "slow down".
    Throttle,
    /// Not done, and never answered.
    Stall,
    /// Done, and what is read has one wrong bit.
    FlipBit,
    /// Done, and what is read ends too early: an error for a range, fewer bytes for a whole object.
    Truncate,
}

/// How long a call takes before anything happens.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Delay {
    /// No time.
    #[default]
    None,
    /// Always as long.
    Fixed(Duration),
    /// As object stores answer: half of the calls within `p50`, one in a hundred later than `p99`.
    LogNormal {
        /// The median.
        p50: Duration,
        /// The 99th percentile.
        p99: Duration,
    },
}

impl Delay {
    /// One delay.
    pub fn sample(&self, rng: &mut impl RngExt) -> Duration {
        /// Standard deviations from the median to the 99th percentile.
        const Z99: f64 = 2.326_348;
        match self {
            Self::None => Duration::ZERO,
            Self::Fixed(delay) => *delay,
            Self::LogNormal { p50, p99 } => {
                let sigma = (p99.as_secs_f64() / p50.as_secs_f64()).ln() / Z99;
                // Box and Muller's normal from two uniforms, the first kept away from the logarithm's pole.
                let (u, v) = (rng.random_range(1e-12..1.0_f64), rng.random_range(0.0..1.0_f64));
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                Duration::try_from_secs_f64(p50.as_secs_f64() * (sigma * normal).exp()).unwrap_or(*p99)
            }
        }
    }
}

/// How likely each fault is, from 0 to 1, and how slow calls are.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    /// Of [`Fault::FailBefore`].
    pub fail_before: f64,
    /// Of [`Fault::FailAfter`].
    pub fail_after: f64,
    /// Of [`Fault::Throttle`].
    pub throttle: f64,
    /// Of [`Fault::Stall`].
    pub stall: f64,
    /// Of [`Fault::FlipBit`], for reads.
    pub flip_bit: f64,
    /// Of [`Fault::Truncate`], for reads.
    pub truncate: f64,
    /// The time every call takes.
    pub delay: Delay,
    /// The time calls of one operation take instead.
    pub delay_of: HashMap<Operation, Delay>,
}

/// The switches of a [`Faulty`] store; shared with the test.
#[derive(Debug)]
pub struct Faults {
    state: Mutex<FaultState>,
    black_hole: watch::Sender<bool>,
}

#[derive(Debug)]
struct FaultState {
    rng: StdRng,
    plan: FaultPlan,
    scripted: HashMap<Operation, VecDeque<Fault>>,
    calls: [u64; Operation::ALL.len()],
}

impl Faults {
    /// No faults yet; all chances follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let state = FaultState {
            rng: StdRng::seed_from_u64(seed),
            plan: FaultPlan::default(),
            scripted: HashMap::new(),
            calls: Default::default(),
        };
        Self { state: Mutex::new(state), black_hole: watch::Sender::new(false) }
    }

    /// Changes the plan from the next call on.
    pub fn set(&self, change: impl FnOnce(&mut FaultPlan)) {
        change(&mut self.lock().plan);
    }

    /// Back to no faults; ends a black hole and forgets what was scripted.
    pub fn clear(&self) {
        let mut state = self.lock();
        state.plan = FaultPlan::default();
        state.scripted.clear();
        drop(state);
        self.black_hole(false);
    }

    /// What happens to the next calls of `operation`, one after the other, before chance decides again.
    pub fn next(&self, operation: Operation, faults: impl IntoIterator<Item = Fault>) {
        self.lock().scripted.entry(operation).or_default().extend(faults);
    }

    /// While on, no call is done or answered; calls that wait when it ends fail as if their connection broke.
    pub fn black_hole(&self, on: bool) {
        self.black_hole.send_replace(on);
    }

    /// Calls of `operation` so far.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.lock().calls[operation.index()]
    }

    fn lock(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, operation: Operation) -> (Duration, Fault) {
        let mut state = self.lock();
        state.calls[operation.index()] += 1;
        let FaultState { rng, plan, scripted, .. } = &mut *state;
        let delay = plan.delay_of.get(&operation).unwrap_or(&plan.delay).sample(rng);
        if let Some(fault) = scripted.get_mut(&operation).and_then(VecDeque::pop_front) {
            return (delay, fault);
        }
        let chances = [
            (plan.fail_before, Fault::FailBefore),
            (plan.fail_after, Fault::FailAfter),
            (plan.throttle, Fault::Throttle),
            (plan.stall, Fault::Stall),
            (plan.flip_bit, Fault::FlipBit),
            (plan.truncate, Fault::Truncate),
        ];
        let mut at: f64 = rng.random_range(0.0..1.0);
        for (chance, fault) in chances {
            if at < chance {
                return (delay, fault);
            }
            at -= chance;
        }
        (delay, Fault::Pass)
    }

    /// Lets the call pass, or not; answers with what is to be done to a read.
    async fn run<T>(
        &self,
        operation: Operation,
        call: impl Future<Output = Result<T, BlobError>>,
    ) -> Result<(T, Fault), BlobError> {
        let (delay, fault) = self.decide(operation);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let mut black_hole = self.black_hole.subscribe();
        if *black_hole.borrow_and_update() {
            // The sender lives as long as `self`, so waiting does not fail.
            let _ = black_hole.wait_for(|on| !on).await;
            return Err(BlobError::Unknown("injected: the connection broke".to_owned()));
        }
        match fault {
            Fault::FailBefore => Err(BlobError::Unavailable("injected: not done".to_owned())),
            Fault::Throttle => Err(BlobError::Throttled("injected: slow down".to_owned())),
            Fault::Stall => pending().await,
            Fault::FailAfter => {
                call.await?;
                Err(BlobError::Unknown("injected: done, but the answer was lost".to_owned()))
            }
            Fault::Pass | Fault::FlipBit | Fault::Truncate => call.await.map(|value| (value, fault)),
        }
    }

    fn flip_bit(&self, bytes: &Bytes) -> Bytes {
        let mut wrong = BytesMut::from(&bytes[..]);
        if !wrong.is_empty() {
            let bit = self.lock().rng.random_range(0..wrong.len() * 8);
            wrong[bit / 8] ^= 1 << (bit % 8);
        }
        wrong.freeze()
    }

    fn shorter(&self, bytes: &Bytes) -> Bytes {
        let length = if bytes.is_empty() { 0 } else { self.lock().rng.random_range(0..bytes.len()) };
        bytes.slice(..length)
    }
}

/// A store that does as [`Faults`] say.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn BlobStore>,
    faults: Arc<Faults>,
}

impl Faulty {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn BlobStore>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl BlobStore for Faulty {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.faults.run(Operation::Put, self.inner.put(key, payload)).await.map(|_| ())
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.faults.run(Operation::PutNew, self.inner.put_new(key, payload)).await.map(|_| ())
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let position = range.start;
        let (bytes, fault) = self.faults.run(Operation::GetRange, self.inner.get_range(key, range)).await?;
        match fault {
            Fault::FlipBit => Ok(self.faults.flip_bit(&bytes)),
            Fault::Truncate => Err(BlobError::ShortRead {
                key: key.to_owned(),
                position,
                wanted: bytes.len() as u64,
                found: self.faults.shorter(&bytes).len() as u64,
            }),
            Fault::Pass | Fault::FailBefore | Fault::FailAfter | Fault::Throttle | Fault::Stall => Ok(bytes),
        }
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        let (bytes, fault) = self.faults.run(Operation::Get, self.inner.get(key)).await?;
        match fault {
            Fault::FlipBit => Ok(self.faults.flip_bit(&bytes)),
            Fault::Truncate => Ok(self.faults.shorter(&bytes)),
            Fault::Pass | Fault::FailBefore | Fault::FailAfter | Fault::Throttle | Fault::Stall => Ok(bytes),
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        self.faults.run(Operation::Head, self.inner.head(key)).await.map(|(meta, _)| meta)
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        self.faults.run(Operation::List, self.inner.list(prefix, after, limit)).await.map(|(found, _)| found)
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        self.faults.run(Operation::Delete, self.inner.delete_many(keys)).await.map(|(failed, _)| failed)
    }
}

#[cfg(test)]
mod tests {
    use metadata::class::{Classify, ErrorClass};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::blob::contract;
    use crate::blob::memory::MemoryStore;

    fn faulty(seed: u64) -> (MemoryStore, Arc<Faults>, Arc<Faulty>) {
        let memory = MemoryStore::new();
        let faults = Arc::new(Faults::new(seed));
        let store = Arc::new(Faulty::new(Arc::new(memory.clone()), Arc::clone(&faults)));
        (memory, faults, store)
    }

    #[tokio::test]
    async fn without_faults_keeps_the_contract() {
        contract::all(&*faulty(0).2).await;
    }

    #[tokio::test]
    async fn whether_it_happened_and_what_was_told_are_two_things() {
        let (memory, faults, store) = faulty(0);
        faults.next(Operation::Put, [Fault::FailBefore, Fault::FailAfter, Fault::Pass]);
        assert_eq!(store.put("before", Payload::default()).await.unwrap_err().class(), ErrorClass::Retry);
        assert_eq!(store.put("after", Payload::default()).await.unwrap_err().class(), ErrorClass::Unknown);
        store.put("passed", Payload::default()).await.unwrap();
        assert_eq!(memory.keys(), ["after", "passed"]);
    }

    #[tokio::test]
    async fn reads_can_be_wrong_by_a_bit_or_short() {
        let (_, faults, store) = faulty(0);
        let good = vec![7; 100];
        store.put("k", Payload::from(good.clone())).await.unwrap();
        faults.next(Operation::GetRange, [Fault::FlipBit, Fault::Truncate]);
        let wrong = store.get_range("k", 0..100).await.unwrap();
        assert_eq!(wrong.iter().zip(&good).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>(), 1);
        assert!(matches!(store.get_range("k", 0..100).await, Err(BlobError::ShortRead { wanted: 100, .. })));
        assert_eq!(store.get_range("k", 0..100).await.unwrap(), good);
    }

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_answers_nobody_until_it_ends() {
        let (memory, faults, store) = faulty(0);
        faults.black_hole(true);
        let waiting = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.put("k", Payload::default()).await }
        });
        assert!(timeout(Duration::from_secs(600), store.head("k")).await.is_err());
        faults.black_hole(false);
        assert_eq!(waiting.await.unwrap().unwrap_err().class(), ErrorClass::Unknown);
        assert!(memory.keys().is_empty());
        store.put("k", Payload::default()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn delays_are_spread_as_asked_and_the_same_for_a_seed() {
        let times = async |seed| {
            let (_, faults, store) = faulty(seed);
            let (p50, p99) = (Duration::from_millis(20), Duration::from_millis(200));
            faults.set(|plan| plan.delay_of = [(Operation::Head, Delay::LogNormal { p50, p99 })].into());
            let mut times = Vec::new();
            for _ in 0..1000 {
                let start = Instant::now();
                let _ = store.head("k").await;
                times.push(start.elapsed());
            }
            times
        };
        let mut first = times(3).await;
        assert_eq!(first, times(3).await);
        assert_ne!(first, times(4).await);
        first.sort_unstable();
        assert!((15..25).contains(&first[500].as_millis()), "{:?}", first[500]);
        assert!((120..350).contains(&first[990].as_millis()), "{:?}", first[990]);
    }
}
