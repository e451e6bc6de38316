//! Rows of the table, and the numbers in them.

use std::time::Duration;

/// Whatever goes wrong ends the bench.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Bytes of a MiB.
pub const MIB: f64 = 1_048_576.0;

/// Prints the head of a table.
pub fn head(title: &str) {
    println!("\n### {title}\n\n| work | measured | bar | how |\n| --- | --- | --- | --- |");
}

/// Prints a row.
pub fn row(work: &str, measured: &str, bar: &str, how: &str) {
    println!("| {work} | {measured} | {bar} | {how} |");
}

/// The value below which `part` (0 to 1) of the sorted values lie.
pub fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Milliseconds, two digits.
pub fn ms(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

/// `p50 .. ms, p99 .. ms`; sorts.
pub fn p50_p99(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    format!("p50 {}, p99 {}", ms(quantile(taken, 0.5)), ms(quantile(taken, 0.99)))
}

/// The same with `p90` and `p99.9`, for a thousand values or more; sorts.
pub fn p50_to_p999(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let told = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    told.map(|(name, part)| format!("{name} {}", ms(quantile(taken, part)))).join(", ")
}
