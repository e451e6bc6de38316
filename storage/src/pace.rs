//! How fast bytes may move that nobody waits for.

use std::time::Duration;

use tokio::time::Instant;

/// Lets so many bytes pass in a second.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// How much may pass at once after a quiet time, seconds' worth.
    burst: Duration,
    /// When what has passed so far will have been paid for.
    paid_at: Instant,
}

impl Pace {
    /// No more than so many bytes in a second, and after a quiet time as many at once as `burst` is long.
    pub(crate) fn new(bytes_per_second: u64, burst: Duration) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), burst, paid_at: Instant::now() }
    }

    /// Pays for so many bytes. They should pass when those before them are paid for: at [`Pace::paid_at`] as it was.
    pub(crate) fn pay(&mut self, bytes: u64) {
        let now = Instant::now();
        let earliest = now.checked_sub(self.burst).unwrap_or(now);
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        self.paid_at = self.paid_at.max(earliest) + cost;
    }

    /// When all that has passed is paid for.
    pub(crate) fn paid_at(&self) -> Instant {
        self.paid_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_are_paid_for_one_after_the_other_and_a_quiet_time_pays_for_no_more_than_a_burst() {
        let second = Duration::from_secs(1);
        for burst in [Duration::ZERO, second] {
            let mut pace = Pace::new(1_000, burst);
            tokio::time::advance(10 * second).await;
            pace.pay(3_000);
            assert_eq!(pace.paid_at(), Instant::now() + 3 * second - burst);
            pace.pay(500);
            assert_eq!(pace.paid_at(), Instant::now() + 3 * second + second / 2 - burst);
        }
    }
}
