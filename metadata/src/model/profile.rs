//! The choice between latency and the number of PUTs, as a gateway and a topic may name it.

use std::str::FromStr;

/// A choice between latency and the number of PUTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Lowest latency, most PUTs.
    Realtime,
    /// Latency of one PUT when idle, at most some twenty PUTs a second when busy.
    #[default]
    Balanced,
    /// Fewest PUTs, largest segments.
    Throughput,
}

impl Profile {
    /// Every profile, in the order of [`Profile::index`].
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Balanced, Self::Throughput];

    /// Place in tables.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name in options and configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Balanced => "balanced",
            Self::Throughput => "throughput",
        }
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| format!("{text:?} is not a profile: choose realtime, balanced or throughput"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_by_name() {
        for profile in Profile::ALL {
            assert_eq!((profile.name().parse(), Profile::ALL[profile.index()]), (Ok(profile), profile));
        }
        assert!("fast".parse::<Profile>().unwrap_err().contains("balanced"));
    }
}
