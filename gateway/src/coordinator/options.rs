//! What bounds groups: Kafka's settings, and the caps of the house.

use std::time::Duration;

use metadata::model::limits::GROUP_STRING_MAX_LEN;

use super::rules::classic::Limits;
use crate::options::kafka::KafkaSettings;

/// Most members of one group, whatever `group.max.size` says.
pub const MEMBERS_PER_GROUP_MAX: usize = 10_000;
/// Most member ids of one group handed out and not yet used (KIP-394); past it new members are told to come back.
pub const PENDING_MEMBERS_PER_GROUP_MAX: usize = 2_000;
/// Most bytes of subscriptions and names of one group's members.
pub const GROUP_MEMBERS_MAX_BYTES: usize = 8 << 20;
/// Most groups with members or waiting requests in memory at once.
pub const ACTIVE_GROUPS_MAX: usize = 50_000;
/// Longest time a save or commit may take before its client is told to try again (Kafka's `offsets.commit.timeout.ms`).
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time a group nobody is part of stays in memory after it was last asked for.
pub const IDLE_LINGER: Duration = Duration::from_secs(60);
/// Shortest wait before a group that could not be read is read again.
pub const RELOAD_WAIT: Duration = Duration::from_millis(500);
/// Requests that may wait for one group's actor; past it callers wait.
pub const GROUP_MAILBOX: usize = 256;
/// Longest group id, bytes; Kafka's records end at 32 KiB too.
pub const GROUP_ID_MAX_LEN: usize = 32_767;
/// Longest time a new member waits in its first JoinGroup before it is dropped, ms (Kafka's internal
/// `group.coordinator.new.member.join.timeout`, five minutes).
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 300_000;

/// How groups behave. Validated with all of Kafka's settings (`options::kafka`), which also tell of units and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOptions {
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of an empty group waits for more members, ms.
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`: smallest session timeout a member may ask for, ms.
    pub min_session_timeout_ms: i64,
    /// `group.max.session.timeout.ms`: largest session timeout a member may ask for, ms.
    pub max_session_timeout_ms: i64,
    /// `group.max.size`: most members of one group; never above [`MEMBERS_PER_GROUP_MAX`].
    pub max_size: usize,
    /// `offset.metadata.max.bytes`: longest metadata of a committed offset, bytes.
    pub offset_metadata_max_bytes: usize,
    /// Longest time a save or commit may take before its client is told to try again.
    pub commit_timeout: Duration,
}

impl GroupOptions {
    /// The settings in force.
    pub fn new(settings: &KafkaSettings) -> Self {
        let size = |name| usize::try_from(settings.number(name)).unwrap_or(0);
        Self {
            initial_rebalance_delay_ms: settings.number("group.initial.rebalance.delay.ms"),
            min_session_timeout_ms: settings.number("group.min.session.timeout.ms"),
            max_session_timeout_ms: settings.number("group.max.session.timeout.ms"),
            max_size: size("group.max.size").min(MEMBERS_PER_GROUP_MAX),
            offset_metadata_max_bytes: size("offset.metadata.max.bytes").min(GROUP_STRING_MAX_LEN),
            commit_timeout: COMMIT_TIMEOUT,
        }
    }

    /// What bounds one group.
    pub fn limits(&self) -> Limits {
        Limits {
            initial_rebalance_delay_ms: self.initial_rebalance_delay_ms,
            max_size: self.max_size,
            max_pending: PENDING_MEMBERS_PER_GROUP_MAX,
            max_bytes: GROUP_MEMBERS_MAX_BYTES,
            new_member_join_timeout_ms: NEW_MEMBER_JOIN_TIMEOUT_MS,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn defaults_are_kafkas() {
        let options = GroupOptions::new(&KafkaSettings::new(&BTreeMap::new()));
        assert_eq!(options.initial_rebalance_delay_ms, 3_000);
        assert_eq!((options.min_session_timeout_ms, options.max_session_timeout_ms), (6_000, 1_800_000));
        assert_eq!((options.max_size, options.offset_metadata_max_bytes), (MEMBERS_PER_GROUP_MAX, 4_096));
    }

    #[test]
    fn settings_act() {
        let set = BTreeMap::from([
            ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned()),
            ("group.max.size".to_owned(), "2".to_owned()),
        ]);
        let limits = GroupOptions::new(&KafkaSettings::new(&set)).limits();
        assert_eq!((limits.initial_rebalance_delay_ms, limits.max_size), (0, 2));
    }
}
