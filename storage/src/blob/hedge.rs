//! A second request beside one that takes unusually long, if that pays: after the observed 95th percentile, and only while the
//! requests of that size have a tail which a second one would outrun.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, select};
use prometheus_client::metrics::counter::Counter;
use tokio::time::{Instant, sleep};

use super::BlobError;

/// Times remembered of each size.
const KEPT: usize = 256;
/// Before so many are known of a size, nothing is said about it.
const KNOWN_MIN: usize = 64;
/// A request that is faster than this is not worth a second one.
const WORTH_MIN: Duration = Duration::from_millis(5);
/// Upper bounds of the sizes that are told apart, bytes; the last one has none.
const SIZES: [u64; 4] = [256 << 10, 1 << 20, 4 << 20, 16 << 20];
/// How many requests earn one hedge.
pub const HEDGE_EVERY: u32 = 20;
/// Hedges that may be saved up.
const HEDGES_SAVED_MAX: u32 = 10;

/// What is known of a kind of requests, and how many of them may be doubled: one in [`HEDGE_EVERY`], so that a slow store is
/// not loaded twice.
#[derive(Debug)]
pub struct Hedges {
    times: Mutex<[Times; SIZES.len() + 1]>,
    saved: Mutex<u32>,
    made: Counter,
}

/// When to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HedgePlan {
    /// This long after the first request began.
    pub after: Duration,
    /// What a slow request would have taken.
    tail: Duration,
}

/// The latest times of requests of one size. Pure.
#[derive(Debug, Clone, Default)]
pub struct Times(VecDeque<Duration>);

impl Times {
    /// Remembers one.
    pub fn note(&mut self, took: Duration) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(took);
    }

    /// When a second request pays: if it is begun at the 95th percentile and takes what half of them take, it must be back
    /// before the 99th percentile. `None` if it would not be, or too little is known.
    pub fn plan(&self) -> Option<HedgePlan> {
        if self.0.len() < KNOWN_MIN {
            return None;
        }
        let mut sorted: Vec<Duration> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
        let (half, after, tail) = (at(50), at(95), at(99));
        (after >= WORTH_MIN && after + half < tail).then_some(HedgePlan { after, tail })
    }
}

impl Hedges {
    /// Nothing known yet; the hedges that are made are counted.
    pub fn new(made: Counter) -> Self {
        Self { times: Mutex::default(), saved: Mutex::new(HEDGE_EVERY), made }
    }

    /// Makes a request of so many bytes, and a second one beside it if that pays and `may` allows it. The first success is
    /// the answer; an error only if both fail. Cancel safe if `attempt` is.
    pub async fn run<T, F>(&self, bytes: u64, may: impl Fn() -> bool, attempt: impl Fn() -> F) -> Result<T, BlobError>
    where
        F: Future<Output = Result<T, BlobError>>,
    {
        let size = SIZES.partition_point(|&most| most < bytes);
        let plan = self.with_times(|times| times[size].plan());
        self.earn();
        let began = Instant::now();
        let first = Box::pin(attempt());
        let Some(plan) = plan else {
            return self.noted(size, began, first.await);
        };
        let first = match select(first, Box::pin(sleep(plan.after))).await {
            Either::Left((answer, _)) => return self.noted(size, began, answer),
            Either::Right(((), first)) if self.spend(&may) => first,
            Either::Right(((), first)) => return self.noted(size, began, first.await),
        };
        self.made.inc();
        match select(first, Box::pin(attempt())).await {
            Either::Left((Ok(value), _)) => self.noted(size, began, Ok(value)),
            Either::Right((Ok(value), _)) => {
                // How long the first would have taken is not known; that there are such requests must not be forgotten.
                self.with_times(|times| times[size].note(plan.tail.max(began.elapsed())));
                Ok(value)
            }
            // The other one may still succeed.
            Either::Left((Err(_), other)) => other.await,
            Either::Right((Err(_), other)) => other.await,
        }
    }

    fn noted<T>(&self, size: usize, began: Instant, answer: Result<T, BlobError>) -> Result<T, BlobError> {
        if answer.is_ok() {
            self.with_times(|times| times[size].note(began.elapsed()));
        }
        answer
    }

    fn with_times<T>(&self, look: impl FnOnce(&mut [Times; SIZES.len() + 1]) -> T) -> T {
        look(&mut self.times.lock().expect("nothing panics while it holds the times"))
    }

    fn earn(&self) {
        let mut saved = self.saved.lock().expect("nothing panics while it holds the hedges");
        *saved = (*saved + 1).min(HEDGES_SAVED_MAX * HEDGE_EVERY);
    }

    fn spend(&self, may: &impl Fn() -> bool) -> bool {
        let mut saved = self.saved.lock().expect("nothing panics while it holds the hedges");
        let spent = *saved >= HEDGE_EVERY && may();
        *saved -= if spent { HEDGE_EVERY } else { 0 };
        spent
    }
}

/// Hedges that someone else than whoever makes the requests pays for: none until it is said who decides.
pub struct PaidHedges {
    hedges: Hedges,
    may: OnceLock<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl Default for PaidHedges {
    fn default() -> Self {
        Self { hedges: Hedges::new(Counter::default()), may: OnceLock::new() }
    }
}

impl fmt::Debug for PaidHedges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaidHedges")
    }
}

impl PaidHedges {
    /// From now on `may` is asked before each hedge, and pays for it if it says yes. Who was named first goes on deciding.
    pub fn decide_by(&self, may: impl Fn() -> bool + Send + Sync + 'static) {
        let _ = self.may.set(Box::new(may)); // named before
    }

    /// As [`Hedges::run`].
    pub async fn run<T, F>(&self, bytes: u64, attempt: impl Fn() -> F) -> Result<T, BlobError>
    where
        F: Future<Output = Result<T, BlobError>>,
    {
        self.hedges.run(bytes, || self.may.get().is_some_and(|may| may()), attempt).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A hundred times: most of them `usual`, three of them `slow`.
    fn with_tail(usual: u64, slow: u64) -> Times {
        let mut times = Times::default();
        (0..100).for_each(|n| times.note(ms(if n % 40 == 0 { slow } else { usual + n % 10 })));
        times
    }

    #[test]
    fn a_hedge_pays_where_a_second_request_outruns_the_tail() {
        let plan = with_tail(50, 500).plan().unwrap();
        assert!((ms(58)..=ms(59)).contains(&plan.after), "{plan:?}");
        assert_eq!(with_tail(50, 100).plan(), None, "the slow ones are back sooner");
        assert_eq!(with_tail(1, 3).plan(), None, "too fast to be worth it");
        let mut few = Times::default();
        (0..KNOWN_MIN - 1).for_each(|n| few.note(ms(if n < 5 { 900 } else { 10 })));
        assert_eq!(few.plan(), None, "too little is known");
    }

    #[test]
    fn old_times_are_forgotten() {
        let mut times = with_tail(50, 500);
        (0..KEPT).for_each(|_| times.note(ms(60)));
        assert_eq!((times.0.len(), times.plan()), (KEPT, None));
    }

    /// Requests of 50 ms, but every one for which `is_slow` takes 2 s; how many were made, and how long the slowest took.
    async fn storm(hedges: &Hedges, may: bool, is_slow: impl Fn(u32) -> bool) -> (u32, Duration) {
        let (made, mut slowest) = (AtomicU32::new(0), Duration::ZERO);
        for _ in 0..400 {
            let began = Instant::now();
            let attempt = || {
                let number = made.fetch_add(1, Ordering::Relaxed);
                let took = if is_slow(number) { ms(2_000) } else { ms(50) };
                async move {
                    sleep(took).await;
                    Ok(())
                }
            };
            hedges.run(1_000, || may, attempt).await.unwrap();
            slowest = slowest.max(began.elapsed());
        }
        (made.into_inner(), slowest)
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_is_overtaken_and_the_tail_is_not_forgotten() {
        let hedges = Hedges::new(Counter::default());
        storm(&hedges, true, |n| n % 40 == 0).await;
        for _ in 0..3 {
            let (made, slowest) = storm(&hedges, true, |n| n % 40 == 0).await;
            assert_eq!(slowest, ms(100), "twice the time of the fast ones");
            assert!((405..=420).contains(&made), "{made}");
        }
        assert!(hedges.made.get() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_one_in_twenty_is_doubled_and_none_against_the_budget() {
        let hedges = Hedges::new(Counter::default());
        storm(&hedges, true, |n| n % 40 == 0).await;
        let (made, _) = storm(&hedges, true, |n| n % 3 == 0).await;
        assert!(made <= 400 + 400 / HEDGE_EVERY + HEDGES_SAVED_MAX, "{made}");
        let poor = Hedges::new(Counter::default());
        storm(&poor, false, |n| n % 40 == 0).await;
        assert_eq!(storm(&poor, false, |n| n % 40 == 0).await, (400, ms(2_000)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_told_only_if_both_fail() {
        let hedges = Hedges::new(Counter::default());
        storm(&hedges, true, |n| n % 40 == 0).await;
        let fail = || BlobError::Unavailable("503".into());
        for (results, want) in [([false, true], true), ([true, false], true), ([false, false], false)] {
            let number = AtomicU32::new(0);
            let attempt = || {
                let number = number.fetch_add(1, Ordering::Relaxed) as usize;
                let (took, ok) = (ms(1_000 - 400 * number as u64), results[number]);
                async move {
                    sleep(took).await;
                    if ok { Ok(()) } else { Err(fail()) }
                }
            };
            assert_eq!(hedges.run(1_000, || true, attempt).await.is_ok(), want, "{results:?}");
            assert_eq!(number.into_inner(), 2);
        }
    }
}
