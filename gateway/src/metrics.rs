//! Counts and times of the wire.

/// The wire's metrics.
#[derive(Debug, Default)]
pub struct Metrics {}
