//! Offsets with checked arithmetic; a bare `i64` is an offset only on the wire.

use std::fmt;

/// Position of a record in a partition's log; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Offset(i64);

impl Offset {
    /// The first offset of a new partition.
    pub const ZERO: Self = Self(0);

    /// An offset from the wire; `None` if negative (Kafka's special values are not offsets).
    pub fn new(value: i64) -> Option<Self> {
        (value >= 0).then_some(Self(value))
    }

    /// The number to put on the wire.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The offset `records` further on; `None` past the end of all offsets.
    pub fn checked_add(self, records: u64) -> Option<Self> {
        i64::try_from(records).ok().and_then(|n| self.0.checked_add(n)).map(Self)
    }

    /// How many offsets lie from `earlier` up to `self`; 0 if `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_checked() {
        assert_eq!(Offset::new(-1), None);
        let last = Offset::new(i64::MAX).unwrap();
        assert_eq!(last.checked_add(1), None);
        assert_eq!(Offset::ZERO.checked_add(u64::MAX), None);
        assert_eq!(Offset::ZERO.checked_add(7).unwrap().since(Offset::ZERO), 7);
        assert_eq!(Offset::ZERO.since(last), 0);
    }
}
