//! How the metadata of one gateway behaves; every number with its unit and default.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// See [`MetadataOptions::session_timeout_ms`].
const SESSION_TIMEOUT_MS: u64 = 5_000;
/// A few renewals may be late before the session is taken for dead.
const RENEWALS_PER_TIMEOUT: u64 = 5;

/// Options of the journal, its appender, the replica and snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MetadataOptions {
    /// Longest wait for one call of the journal, ms. Past it a read counts as failed and is tried again; the outcome of an
    /// append counts as unknown and the same entry is appended again.
    pub journal_timeout_ms: u64,
    /// First pause before an entry is appended again, ms. Doubles with each try, with jitter, up to `retry_max_ms`.
    pub retry_initial_ms: u64,
    /// Longest pause between two tries, ms.
    pub retry_max_ms: u64,
    /// Longest wait for a read barrier, ms; past it the asker is told to try again.
    pub barrier_timeout_ms: u64,
    /// Longest wait for the journal at start: catching up, then opening the session, ms.
    pub start_timeout_ms: u64,
    /// Longest wait for queued commands and the final entry at shutdown, ms.
    pub shutdown_timeout_ms: u64,
    /// Append an empty entry when the session has written nothing for this long, ms. Needed where several gateways share a
    /// journal, so that they see each other alive: a fifth of `session-timeout-ms` if not set. A gateway that is alone writes
    /// nothing when idle.
    pub renew_interval_ms: Option<u64>,
    /// A gateway of which the others have seen nothing in the journal for this long, ms, is taken for dead: its clients are
    /// sent to the others, and nothing it may yet say counts. It comes back by itself if it lives. Only where several gateways
    /// share a journal; 5,000 there if not set.
    pub session_timeout_ms: Option<u64>,
    /// Compare the states of the gateways that share a journal this often, ms, and stop one whose state is not that of the
    /// others. Each comparison copies and hashes the state once on every gateway. 0: never.
    pub state_check_interval_ms: u64,
    /// Take a snapshot once this many entries were applied since the last one. Bounds the time of a start.
    pub snapshot_entries: u64,
    /// Take a snapshot once about this many bytes of entries were applied since the last one. Bounds the journal's size.
    pub snapshot_bytes: u64,
    /// Copy what was appended to a journal outside the bucket into the bucket this often, ms, at the cost of one PUT each time
    /// something was. What a lost journal can cost is what was appended since. 0: never.
    pub archive_interval_ms: u64,
    /// Keep what `streamhouse restore --at` needs for this long, ms: snapshots, entries, and objects that nothing refers to
    /// any more. Costs their storage. 0: only the present can be restored.
    pub restore_window_ms: u64,
}

impl Default for MetadataOptions {
    fn default() -> Self {
        Self {
            journal_timeout_ms: 10_000,
            retry_initial_ms: 10,
            retry_max_ms: 1_000,
            barrier_timeout_ms: 5_000,
            start_timeout_ms: 30_000,
            shutdown_timeout_ms: 10_000,
            renew_interval_ms: None,
            session_timeout_ms: None,
            state_check_interval_ms: 300_000,
            snapshot_entries: 20_000,
            snapshot_bytes: 32 << 20,
            archive_interval_ms: 10_000,
            restore_window_ms: 0,
        }
    }
}

impl MetadataOptions {
    /// Which of these options is wrong, and how; `None` if none is.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let positive = [
            ("journal-timeout-ms", self.journal_timeout_ms),
            ("retry-initial-ms", self.retry_initial_ms),
            ("barrier-timeout-ms", self.barrier_timeout_ms),
            ("start-timeout-ms", self.start_timeout_ms),
            ("shutdown-timeout-ms", self.shutdown_timeout_ms),
            ("renew-interval-ms", self.renew_interval_ms.unwrap_or(1)),
            ("session-timeout-ms", self.session_timeout_ms.unwrap_or(1)),
            ("snapshot-entries", self.snapshot_entries),
            ("snapshot-bytes", self.snapshot_bytes),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Some((name, "must be above 0".into()));
        }
        let Self { renew_interval_ms: renew, session_timeout_ms: timeout, .. } = *self;
        if renew.is_some_and(|renew| renew >= timeout.unwrap_or(SESSION_TIMEOUT_MS)) && timeout.is_some() {
            return Some(("renew-interval-ms", "must be below session-timeout-ms".into()));
        }
        (self.retry_max_ms < self.retry_initial_ms)
            .then(|| ("retry-max-ms", "must not be below retry-initial-ms".into()))
    }

    /// The same numbers for a gateway that shares its journal with others: sessions are renewed and watched.
    pub fn shared(&self) -> Self {
        let timeout = self.session_timeout_ms.unwrap_or(SESSION_TIMEOUT_MS);
        let renew = self.renew_interval_ms.unwrap_or(timeout / RENEWALS_PER_TIMEOUT).max(1);
        Self { session_timeout_ms: Some(timeout), renew_interval_ms: Some(renew), ..self.clone() }
    }

    /// How often a journal outside the bucket is copied into it; `None` if never.
    pub fn archive_interval(&self) -> Option<Duration> {
        (self.archive_interval_ms > 0).then(|| Duration::from_millis(self.archive_interval_ms))
    }

    /// How often the states of gateways are compared; `None` if never.
    pub fn state_check_interval(&self) -> Option<Duration> {
        (self.state_check_interval_ms > 0).then(|| Duration::from_millis(self.state_check_interval_ms))
    }

    /// For how long what a restore to an earlier time needs is kept.
    pub fn restore_window(&self) -> Duration {
        Duration::from_millis(self.restore_window_ms)
    }

    pub(crate) fn journal_timeout(&self) -> Duration {
        Duration::from_millis(self.journal_timeout_ms)
    }

    pub(crate) fn barrier_timeout(&self) -> Duration {
        Duration::from_millis(self.barrier_timeout_ms)
    }

    pub(crate) fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.start_timeout_ms)
    }

    pub(crate) fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }

    /// When another session counts as dead; `None` where no other is watched.
    pub(crate) fn session_timeout(&self) -> Option<Duration> {
        self.session_timeout_ms.map(Duration::from_millis)
    }

    pub(crate) fn renew_interval(&self) -> Option<Duration> {
        self.renew_interval_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_hold_and_nonsense_does_not() {
        assert_eq!(MetadataOptions::default().problem(), None);
        let empty: MetadataOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(empty, MetadataOptions::default());
        let named: MetadataOptions = serde_json::from_str(r#"{"renew-interval-ms": 3000}"#).unwrap();
        assert_eq!(named.renew_interval(), Some(Duration::from_secs(3)));
        let unknown =
            serde_json::from_str::<MetadataOptions>(r#"{"renew-interval": 3000}"#).expect_err("no such option");
        assert!(unknown.to_string().contains("renew-interval"), "{unknown}");
        for wrong in [
            MetadataOptions { snapshot_entries: 0, ..MetadataOptions::default() },
            MetadataOptions { renew_interval_ms: Some(0), ..MetadataOptions::default() },
            MetadataOptions { retry_initial_ms: 50, retry_max_ms: 20, ..MetadataOptions::default() },
        ] {
            assert!(wrong.problem().is_some(), "{wrong:?}");
        }
    }
}
