//! Who wants to know when a log moves: woken by apply, no task and no timer per partition.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::model::ids::TopicPartition;

/// Wakes one waiter when a log of its partitions has moved. Made by `Metadata::watch`; deregisters when dropped.
#[derive(Debug)]
pub struct Watch {
    watchers: Arc<Watchers>,
    id: u64,
    /// In order, each once.
    partitions: Vec<TopicPartition>,
    signal: Arc<Notify>,
}

impl Watch {
    /// Waits until a log of these partitions has moved since the watch was made, or since this last returned. A move in
    /// between is never missed; several may be told as one, and a wake may come for a move the caller has seen already.
    ///
    /// Make the watch first, then look at the state, then wait. Cancel safe: a move is not lost with the future.
    pub async fn changed(&mut self) {
        self.signal.notified().await;
    }

    /// Forgets all moves up to now, as if the watch were made anew.
    pub fn renew(&mut self) {
        // Takes the permit, if there is one.
        pin!(self.signal.notified()).enable();
    }

    /// Whether it is over just these partitions, each named once, in any order.
    pub fn is_over(&self, partitions: impl ExactSizeIterator<Item = TopicPartition>) -> bool {
        let mut named = partitions;
        named.len() == self.partitions.len() && named.all(|partition| self.partitions.binary_search(&partition).is_ok())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut registered = self.watchers.registered();
        for partition in &self.partitions {
            registered.by_partition.remove(&(*partition, self.id));
        }
    }
}

/// All watches of a gateway.
#[derive(Debug, Default)]
pub(crate) struct Watchers(Mutex<Registered>);

#[derive(Debug, Default)]
struct Registered {
    next_id: u64,
    by_partition: BTreeMap<(TopicPartition, u64), Arc<Notify>>,
}

impl Watchers {
    pub(crate) fn watch(self: &Arc<Self>, partitions: impl Iterator<Item = TopicPartition>) -> Watch {
        let mut partitions: Vec<_> = partitions.collect();
        partitions.sort_unstable();
        partitions.dedup();
        let signal = Arc::new(Notify::new());
        let mut registered = self.registered();
        registered.next_id += 1;
        let id = registered.next_id;
        for partition in &partitions {
            registered.by_partition.insert((*partition, id), Arc::clone(&signal));
        }
        drop(registered);
        Watch { watchers: Arc::clone(self), id, partitions, signal }
    }

    /// Tells everyone who watches one of `moved`. Called after the state's lock is released, so that whoever wakes can read.
    pub(crate) fn wake(&self, moved: &[TopicPartition]) {
        if moved.is_empty() {
            return;
        }
        let registered = self.registered();
        for partition in moved {
            for (_, signal) in registered.by_partition.range((*partition, 0)..=(*partition, u64::MAX)) {
                signal.notify_one(); // keeps one permit if no one waits yet
            }
        }
    }

    /// Tells everyone: any log may have moved.
    pub(crate) fn wake_all(&self) {
        self.registered().by_partition.values().for_each(|signal| signal.notify_one());
    }

    fn registered(&self) -> MutexGuard<'_, Registered> {
        self.0.lock().expect("nothing panics while it holds the watchers")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::ids::TopicId;

    fn partition(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::default(), partition }
    }

    async fn is_woken(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(20), watch.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn a_move_between_creation_and_wait_is_not_missed() {
        let watchers = Arc::new(Watchers::default());
        let mut watch = watchers.watch([partition(1), partition(2)].into_iter());
        watchers.wake(&[partition(2)]);
        watchers.wake(&[partition(1)]);
        assert!(is_woken(&mut watch).await);
        assert!(!is_woken(&mut watch).await, "two moves before the wait are one wake");
        watchers.wake(&[partition(3)]);
        assert!(!is_woken(&mut watch).await, "not its partition");
    }

    #[tokio::test]
    async fn a_cancelled_wait_loses_nothing() {
        let watchers = Arc::new(Watchers::default());
        let mut watch = watchers.watch([partition(1)].into_iter());
        {
            let waiting = watch.changed();
            tokio::pin!(waiting);
            assert!(tokio::time::timeout(Duration::from_millis(5), &mut waiting).await.is_err());
            watchers.wake(&[partition(1)]);
        }
        assert!(is_woken(&mut watch).await);
    }

    #[tokio::test]
    async fn a_watch_that_is_used_again_knows_nothing_of_before_and_all_since() {
        let watchers = Arc::new(Watchers::default());
        let mut watch = watchers.watch([partition(2), partition(1)].into_iter());
        watchers.wake(&[partition(1)]);
        watch.renew();
        assert!(!is_woken(&mut watch).await);
        watch.renew();
        watchers.wake(&[partition(2)]);
        assert!(is_woken(&mut watch).await);
        let is_over = |named: &[i32]| watch.is_over(named.iter().map(|p| partition(*p)));
        assert!(is_over(&[1, 2]) && is_over(&[2, 1]));
        assert!(!is_over(&[1]) && !is_over(&[1, 3]) && !is_over(&[1, 2, 3]));
    }

    #[tokio::test]
    async fn a_dropped_watch_is_forgotten() {
        let watchers = Arc::new(Watchers::default());
        let first = watchers.watch([partition(1), partition(1)].into_iter());
        let second = watchers.watch([partition(1)].into_iter());
        drop(first);
        assert_eq!(watchers.registered().by_partition.len(), 1);
        drop(second);
        assert!(watchers.registered().by_partition.is_empty());
    }
}
