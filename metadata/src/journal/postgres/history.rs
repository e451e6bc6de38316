//! Which history this process has seen, so that it cannot be taken into another one unawares.
//!
//! A failover to a replica that lagged behind loses commits. The new primary then gives their positions to other entries, and
//! a gateway that had applied the lost ones would go on beside the others, with another state. Each append draws a mark: equal
//! marks at one position mean the same append, and so the same history up to there.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::model::ids::Lsn;

/// Newest marks kept. Whoever reads goes on from where it, or an append of this process, was last.
const MARKS_MAX: usize = 4_096;

/// The newest entries this process has seen, with their marks.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<BTreeMap<Lsn, i64>>);

impl History {
    /// Notes an entry as it stands in the journal. An entry has one mark for ever: the error says that it has two.
    pub(super) fn note(&self, lsn: Lsn, mark: i64) -> Result<(), String> {
        let mut marks = self.marks();
        match marks.insert(lsn, mark) {
            Some(known) if known != mark => Err(format!("entry {lsn} is another one than was there")),
            _ => {
                while marks.len() > MARKS_MAX {
                    marks.pop_first();
                }
                Ok(())
            }
        }
    }

    /// The newest entry seen; position 0 if none was.
    pub(super) fn newest(&self) -> (Lsn, i64) {
        self.marks().last_key_value().map_or((Lsn(0), 0), |(lsn, mark)| (*lsn, *mark))
    }

    fn marks(&self) -> std::sync::MutexGuard<'_, BTreeMap<Lsn, i64>> {
        self.0.lock().expect("nothing panics while it holds the marks")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_one_mark() {
        let history = History::default();
        assert_eq!(history.newest(), (Lsn(0), 0));
        for lsn in 1..=5_000 {
            history.note(Lsn(lsn), -7).unwrap();
        }
        history.note(Lsn(4_000), -7).unwrap();
        assert_eq!(history.newest(), (Lsn(5_000), -7));
        assert!(history.note(Lsn(4_999), 8).is_err());
        assert_eq!(history.marks().len(), MARKS_MAX);
    }
}
