//! The last hour as points of plots: a ring of fixed size.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::reading::{Number, Reading, Timed};

/// Points kept: with one each ten seconds, an hour.
pub const POINTS_MAX: usize = 360;

/// What a point tells, in this order. Rates are per second, times are seconds, shares are of 1.
pub const SERIES: [&str; 18] = [
    "bytes_in",
    "bytes_out",
    "produces",
    "fetches",
    "others",
    "errors",
    "produce_p50",
    "produce_p99",
    "appends",
    "append_p50",
    "append_p99",
    "puts",
    "gets",
    "put_p50",
    "put_p99",
    "from_memory",
    "from_cache",
    "connections",
];

/// What happened between two looks. NaN where nothing did that could be timed or shared out; as JSON that is `null`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When the second look was, ms since the epoch.
    pub at_ms: i64,
    /// In the order of [`SERIES`].
    pub values: [f32; SERIES.len()],
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.values.iter().map(|value| serde_json::Value::from(f64::from(*value)));
        serializer.collect_seq(std::iter::once(serde_json::Value::from(self.at_ms)).chain(values))
    }
}

/// The points, the oldest first.
#[derive(Debug)]
pub struct History {
    last: Option<(Instant, Reading)>,
    points: VecDeque<Point>,
}

impl Default for History {
    fn default() -> Self {
        Self { last: None, points: VecDeque::with_capacity(POINTS_MAX) }
    }
}

impl History {
    /// Adds what happened since the last look; the first look only begins.
    pub fn look(&mut self, now: Instant, at_ms: i64, reading: Reading) {
        let last = self.last.replace((now, reading));
        let (Some((then, before)), Some((_, after))) = (last, &self.last) else { return };
        let Some(values) = between(&before, after, now.duration_since(then)) else { return };
        if self.points.len() == POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point { at_ms, values });
    }

    /// The points after that time.
    pub fn after(&self, at_ms: i64) -> Vec<Point> {
        self.points.iter().filter(|point| point.at_ms > at_ms).copied().collect()
    }
}

fn between(before: &Reading, after: &Reading, time: Duration) -> Option<[f32; SERIES.len()]> {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let grown = |number| after.number(number) - before.number(number);
    let rate = |number| grown(number) / seconds;
    let quantile = |timed, share| after.times(timed).quantile(before.times(timed), share).unwrap_or(f64::NAN);
    let memory = grown(Number::FromMemory);
    let cached = memory + grown(Number::FromDisk);
    let found = cached + grown(Number::FromStore);
    let share = |part: f64| if found > 0.0 { part / found } else { f64::NAN };
    let values = [
        rate(Number::BytesIn),
        rate(Number::BytesOut),
        rate(Number::Produces),
        rate(Number::Fetches),
        rate(Number::Requests) - rate(Number::Produces) - rate(Number::Fetches),
        rate(Number::Requests) - rate(Number::Good),
        quantile(Timed::Produce, 0.5),
        quantile(Timed::Produce, 0.99),
        rate(Number::Appends),
        quantile(Timed::Append, 0.5),
        quantile(Timed::Append, 0.99),
        rate(Number::Puts),
        rate(Number::Gets),
        quantile(Timed::Put, 0.5),
        quantile(Timed::Put, 0.99),
        share(memory),
        share(cached),
        after.number(Number::Connections),
    ];
    // A difference of rates may be a hair below nothing.
    Some(values.map(|value: f64| if value < 0.0 { 0.0 } else { value as f32 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(requests: u64) -> Reading {
        Reading::of(&format!("streamhouse_requests_total{{api=\"Produce\",error=\"NONE\"}} {requests}\n"))
    }

    fn value(point: &Point, name: &str) -> f32 {
        point.values[SERIES.iter().position(|series| *series == name).expect(name)]
    }

    #[test]
    fn the_ring_keeps_the_last_and_never_grows() {
        let (start, mut history) = (Instant::now(), History::default());
        let capacity = history.points.capacity();
        for look in 0..1_000_u64 {
            history.look(start + Duration::from_secs(look * 10), look as i64 * 10_000, reading(look * 50));
        }
        let points = history.after(i64::MIN);
        assert_eq!((points.len(), points[0].at_ms), (POINTS_MAX, 6_400_000));
        assert!(points.iter().all(|point| value(point, "produces") == 5.0 && value(point, "errors") == 0.0));
        assert_eq!(history.after(9_970_000).len(), 2);
        assert_eq!(history.points.capacity(), capacity, "its memory is fixed");
    }

    #[test]
    fn what_did_not_happen_is_null() {
        let (start, mut history) = (Instant::now(), History::default());
        history.look(start, 0, reading(0));
        assert!(history.after(i64::MIN).is_empty(), "one look says nothing of a time between");
        history.look(start, 0, reading(5));
        assert!(history.after(i64::MIN).is_empty(), "and neither do two at once");
        history.look(start + Duration::from_secs(10), 10_000, reading(15));
        let point = history.after(i64::MIN)[0];
        assert!(value(&point, "produce_p50").is_nan() && value(&point, "from_cache").is_nan());
        let json = serde_json::to_value(point).unwrap();
        assert_eq!((&json[0], &json[3], &json[7]), (&10_000.into(), &1.0.into(), &serde_json::Value::Null));
        assert_eq!(json.as_array().unwrap().len(), 1 + SERIES.len());
    }
}
