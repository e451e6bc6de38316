//! The PUT budget: so many cuts a second, some of them saved up. Pure: the caller brings the time.

use std::time::Duration;

use tokio::time::Instant;

/// Tokens for cuts. A cut for another reason than the budget may overdraw it, by at most what can be saved up.
#[derive(Debug, Clone)]
pub struct Budget {
    interval: Duration,
    saved_max: u32,
    /// When the account would stand at zero tokens; in the past by as many intervals as there are tokens.
    empty_at: Instant,
    last: Option<Instant>,
}

impl Budget {
    /// `per_second` tokens a second, of which those of one second can be saved up; at least one. Starts full.
    pub fn new(per_second: f64, now: Instant) -> Self {
        let per_second = per_second.clamp(0.01, 1_000_000.0);
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let saved_max = per_second.ceil() as u32; // at most a million
        let empty_at = now.checked_sub(interval * saved_max).unwrap_or(now);
        Self { interval, saved_max, empty_at, last: None }
    }

    /// When there is a token; now or before if there is one.
    pub fn token_at(&self) -> Instant {
        self.empty_at + self.interval
    }

    /// When the last cut lies one interval back.
    pub fn spaced_at(&self) -> Option<Instant> {
        self.last.map(|last| last + self.interval)
    }

    /// Takes a token, on credit if there is none.
    pub fn take(&mut self, now: Instant) {
        let saved = self.interval * self.saved_max;
        let floor = now.checked_sub(saved).unwrap_or(now);
        self.empty_at = (self.empty_at.max(floor) + self.interval).min(now + saved);
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_tokens_is_saved_up_and_then_they_come_at_the_rate() {
        let mut now = Instant::now() + Duration::from_secs(10);
        let mut budget = Budget::new(20.0, now);
        let mut taken = 0;
        while budget.token_at() <= now {
            budget.take(now);
            taken += 1;
        }
        assert_eq!(taken, 20);
        assert_eq!(budget.token_at(), now + Duration::from_millis(50));
        now += Duration::from_secs(1_000);
        let mut again = 0;
        while budget.token_at() <= now {
            budget.take(now);
            again += 1;
        }
        assert_eq!(again, 20, "a long quiet time saves up no more than a second");
    }

    #[test]
    fn debt_is_bounded() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut budget = Budget::new(4.0, now);
        (0..1_000).for_each(|_| budget.take(now));
        assert!(budget.token_at() <= now + Duration::from_millis(1_250));
        assert_eq!(budget.spaced_at(), Some(now + Duration::from_millis(250)));
    }
}
