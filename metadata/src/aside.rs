//! Work that takes a processor for long, done where no produce or fetch waits for it: the door to the threads that may block.

use tokio::task::{JoinError, JoinHandle};

/// Does the work on a thread that may block. In a simulation, which has one thread, it is done there, after a while that follows from the
/// seed, and told after another.
///
/// Dropped while it waits, the work takes its course all the same. An error says that it panicked, or that the runtime ended.
pub async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    begin(work).await
}

/// Begins it, for one who may not wait. As [`off_thread`].
pub(crate) fn begin<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    #[cfg(any(test, feature = "test-util"))]
    if let Some((before, after)) = crate::model::ids::simulated::pauses() {
        return tokio::spawn(async move {
            tokio::time::sleep(before).await;
            let done = work();
            tokio::time::sleep(after).await;
            done
        });
    }
    tokio::task::spawn_blocking(work)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::model::ids::simulated;

    #[tokio::test]
    async fn the_work_is_done_on_another_thread() {
        let here = thread::current().id();
        assert_ne!(off_thread(move || thread::current().id()).await.unwrap(), here);
    }

    #[tokio::test(start_paused = true)]
    async fn in_a_simulation_it_is_done_here_after_the_same_while_for_the_same_seed() {
        let mut whiles = Vec::new();
        for seed in [1, 1, 2] {
            let _simulated = simulated::from_seed(seed);
            let began = tokio::time::Instant::now();
            let there = off_thread(move || (thread::current().id(), began.elapsed())).await.unwrap();
            assert_eq!(there.0, thread::current().id());
            whiles.push((there.1, began.elapsed()));
        }
        assert_eq!(whiles[0], whiles[1]);
        assert_ne!(whiles[0], whiles[2]);
        assert!(whiles.iter().all(|(before, whole)| *before > Duration::ZERO && whole > before), "{whiles:?}");
    }
}
