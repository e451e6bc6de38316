//! Makes sure that bytes wanted by many at once are fetched once, and that all of them share what comes of it, errors too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::block::{Block, BlockKey};
use crate::error::ReadError;

/// What became of the blocks of one GET, in the order they were asked for.
pub type Loaded = Arc<[Result<Arc<Block>, ReadError>]>;

/// A GET under way. Clones share it.
pub type Load = Shared<BoxFuture<'static, Loaded>>;

/// A block that is on its way: its load, and its number among the load's blocks.
#[derive(Debug, Clone)]
pub struct Awaited {
    load: Load,
    number: usize,
}

impl Awaited {
    /// Waits for the block. Cancel safe.
    pub async fn block(self) -> Result<Arc<Block>, ReadError> {
        self.load.await[self.number].clone()
    }
}

/// The loads under way. Bounded by what the loads themselves are bounded by.
#[derive(Debug, Clone, Default)]
pub struct SingleFlight {
    loads: Arc<Mutex<HashMap<BlockKey, Awaited>>>,
}

/// The books of a [`SingleFlight`], held for a moment: to look up and start loads without another coming in between.
#[derive(Debug)]
pub struct Books<'a> {
    flights: &'a SingleFlight,
    loads: MutexGuard<'a, HashMap<BlockKey, Awaited>>,
}

impl SingleFlight {
    /// Opens the books.
    pub fn books(&self) -> Books<'_> {
        Books { flights: self, loads: self.loads.lock().expect("nothing panics while it holds the loads") }
    }
}

impl Books<'_> {
    /// The block, if it is on its way already.
    pub fn underway(&self, key: &BlockKey) -> Option<Awaited> {
        self.loads.get(key).cloned()
    }

    /// Enters a load of several blocks, which must not be under way. The entry ends with the load, also if it is dropped or
    /// panics: `work` must have put its blocks where [`Books::underway`]'s callers look first before it returns.
    pub fn enter(&mut self, keys: Vec<BlockKey>, work: impl Future<Output = Loaded> + Send + 'static) -> Vec<Awaited> {
        let (flights, entered) = (self.flights.clone(), keys.clone());
        let guarded = async move {
            // Made when first polled: a runtime that is going away drops the task right here, with the books open.
            let _entry = Entry { flights, keys: entered };
            work.await
        };
        let count = keys.len();
        let task = tokio::spawn(guarded);
        let load: Load = async move {
            task.await.unwrap_or_else(|error| {
                let lost = || ReadError::Storage(crate::blob::BlobError::Unknown(format!("the load ended: {error}")));
                (0..count).map(|_| Err(lost())).collect()
            })
        }
        .boxed()
        .shared();
        let awaited: Vec<Awaited> = (0..count).map(|number| Awaited { load: load.clone(), number }).collect();
        self.loads.extend(keys.into_iter().zip(awaited.iter().cloned()));
        awaited
    }
}

/// Strikes the keys of a load out when it ends.
struct Entry {
    flights: SingleFlight,
    keys: Vec<BlockKey>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut books = self.flights.books();
        for key in &self.keys {
            books.loads.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::object;

    fn key(position: u64) -> BlockKey {
        BlockKey { object: object(1), position }
    }

    #[tokio::test]
    async fn errors_are_shared_and_the_entry_ends_with_the_load() {
        let flights = SingleFlight::default();
        let (go, gate) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            let _ = gate.await;
            Loaded::from([Err(ReadError::OffsetOutOfRange), Err(ReadError::UnknownPartition)])
        };
        let mine = flights.books().enter(vec![key(1), key(2)], work);
        let joined = flights.books().underway(&key(2)).expect("under way");
        assert!(flights.books().underway(&key(3)).is_none());
        go.send(()).unwrap();
        assert_eq!(joined.block().await.unwrap_err(), ReadError::UnknownPartition);
        assert_eq!(mine[0].clone().block().await.unwrap_err(), ReadError::OffsetOutOfRange);
        assert!(flights.books().loads.is_empty());
    }

    #[tokio::test]
    async fn a_load_that_panics_is_an_error_for_all_and_leaves_nothing_behind() {
        let flights = SingleFlight::default();
        let mine = flights.books().enter(vec![key(1)], async { panic!("on purpose") });
        assert!(matches!(mine[0].clone().block().await, Err(ReadError::Storage(_))));
        assert!(flights.books().loads.is_empty());
    }
}
