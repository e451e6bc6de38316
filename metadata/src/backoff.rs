//! Pauses between tries: doubling, jittered, capped, and the same again for the same seed.

use std::time::Duration;

/// The pauses of one sequence of tries.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    tries: u32,
    random: SplitMix,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration, seed: u64) -> Self {
        Self { initial, max, tries: 0, random: SplitMix(seed) }
    }

    /// The next pause: between half and all of `initial * 2^tries`, at most `max`.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self.initial.saturating_mul(1 << self.tries.min(20)).min(self.max);
        self.tries = self.tries.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * self.random.fraction())
    }

    /// A try succeeded; the next pause is a first one.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// Small, seeded, repeatable; for jitter and injected faults only.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0, below 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100), 7);
        for whole in [10, 20, 40, 80, 100, 100] {
            let pause = backoff.next();
            let whole = Duration::from_millis(whole);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(10));
    }
}
