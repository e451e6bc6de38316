//! The PUT budget: so many cuts a second, some of them saved up for when they are wanted. Pure: the caller brings the time.

use std::time::Duration;

use metadata::model::profile::Profile;
use tokio::time::Instant;

use crate::options::{ProfileNumbers, WriterOptions};

/// A cut for another reason than the budget may overdraw it, by no more than comes in within this many seconds.
const DEBT_SECONDS: f64 = 1.0;
/// Two cuts lie this part of a token's time apart at least, however many tokens are saved: cuts come when clients do, which
/// is not evenly, and the tokens see to the rate.
const SPACING: f64 = 0.5;

/// Tokens for cuts.
#[derive(Debug, Clone)]
pub struct Budget {
    per_second: f64,
    saved_max: f64,
    tokens: f64,
    as_of: Instant,
    last: Option<Instant>,
}

impl Budget {
    /// `per_second` tokens a second, of which `saved_max`, at least one, can be saved up. Starts full.
    pub fn new(per_second: f64, saved_max: u32, now: Instant) -> Self {
        let saved_max = f64::from(saved_max.max(1));
        Self { per_second: per_second.clamp(0.01, 1_000_000.0), saved_max, tokens: saved_max, as_of: now, last: None }
    }

    /// When there is a token; now or before if there is one.
    pub fn token_at(&self) -> Instant {
        self.as_of + Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / self.per_second)
    }

    /// When the last cut lies far enough back for another.
    pub fn spaced_at(&self) -> Option<Instant> {
        self.last.map(|last| last + Duration::from_secs_f64(SPACING / self.per_second))
    }

    /// Takes a token, on credit if there is none.
    pub fn take(&mut self, now: Instant) {
        let come_in = now.saturating_duration_since(self.as_of).as_secs_f64() * self.per_second;
        let debt_max = (self.per_second * DEBT_SECONDS).max(1.0);
        self.tokens = ((self.tokens + come_in).min(self.saved_max) - 1.0).max(-debt_max);
        self.as_of = now;
        self.last = Some(now);
    }
}

/// A budget for each set of numbers that segments may be cut by. What is cut by one of them is a PUT for all.
#[derive(Debug, Clone)]
pub struct Budgets {
    gateway: Budget,
    topics: [Budget; Profile::ALL.len()],
}

impl Budgets {
    /// Full budgets.
    pub fn new(options: &WriterOptions, now: Instant) -> Self {
        let budget = |numbers: &ProfileNumbers| Budget::new(numbers.put_budget, numbers.put_burst, now);
        Self { gateway: budget(&options.numbers), topics: options.topic_numbers.each_ref().map(budget) }
    }

    /// The one in force for topics of this profile.
    pub fn of(&self, profile: Option<Profile>) -> &Budget {
        profile.map_or(&self.gateway, |profile| &self.topics[profile.index()])
    }

    /// Takes a token for a PUT.
    pub fn take(&mut self, now: Instant) {
        self.gateway.take(now);
        self.topics.iter_mut().for_each(|budget| budget.take(now));
    }

    /// Takes a token if the gateway's own budget has one.
    pub fn take_spare(&mut self, now: Instant) -> bool {
        let has_token = self.gateway.token_at() <= now;
        if has_token {
            self.take(now);
        }
        has_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(budget: &mut Budget, now: Instant) -> usize {
        let mut taken = 0;
        while budget.token_at() <= now {
            budget.take(now);
            taken += 1;
        }
        taken
    }

    #[test]
    fn tokens_are_saved_up_to_the_limit_and_then_come_at_the_rate() {
        let now = Instant::now();
        let mut budget = Budget::new(20.0, 30, now);
        assert_eq!(take_all(&mut budget, now), 30);
        assert_eq!(budget.token_at(), now + Duration::from_millis(50));
        assert_eq!(take_all(&mut budget, now + Duration::from_millis(101)), 2);
        assert_eq!(take_all(&mut budget, now + Duration::from_secs(1_000)), 30, "a long quiet time saves up no more");
    }

    #[test]
    fn debt_is_bounded() {
        let now = Instant::now();
        let mut budget = Budget::new(4.0, 4, now);
        (0..1_000).for_each(|_| budget.take(now));
        assert_eq!(budget.token_at(), now + Duration::from_millis(1_250));
        assert_eq!(budget.spaced_at(), Some(now + Duration::from_millis(125)));
    }

    #[test]
    fn what_one_profile_spends_the_others_have_spent_too() {
        let now = Instant::now();
        let mut budgets = Budgets::new(&WriterOptions::default(), now);
        (0..30).for_each(|_| budgets.take(now));
        assert!(budgets.of(Some(Profile::Realtime)).token_at() <= now, "it has a hundred");
        assert_eq!(budgets.of(None).token_at(), now + Duration::from_millis(550));
        assert_eq!(budgets.of(Some(Profile::Balanced)).token_at(), budgets.of(None).token_at());
        assert!(!budgets.take_spare(now + Duration::from_millis(549)));
        assert!(budgets.take_spare(now + Duration::from_millis(551)));
    }
}
