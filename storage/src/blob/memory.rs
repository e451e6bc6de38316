//! Objects in this process's memory, for tests and the simulation.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use metadata::clock::{Clock, SystemClock};

use super::{
    BlobError, BlobStore, GET_MAX_BYTES, ObjectMeta, Payload, check_key, check_prefix, check_range, check_size,
};

/// A store that forgets everything when dropped. Clones share their objects.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<String, Object>>>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Bytes,
    modified_ms: i64,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store on the machine's clock.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// An empty store on the given clock.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Arc::default(), clock }
    }

    /// All keys, in order.
    pub fn keys(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: &str) -> Result<Object, BlobError> {
        check_key(key)?;
        self.lock().get(key).cloned().ok_or_else(|| BlobError::not_found(key))
    }

    fn insert(&self, key: &str, payload: &Payload, replace: bool) -> Result<(), BlobError> {
        check_key(key)?;
        // Copied even if it is one chunk: a stored object must not pin (or be) a frame of someone else.
        let bytes = Bytes::from(payload.chunks().concat());
        let object = Object { bytes, modified_ms: self.clock.now_ms() };
        let mut objects = self.lock();
        if !replace && objects.contains_key(key) {
            return Err(BlobError::already_exists(key));
        }
        objects.insert(key.to_owned(), object);
        Ok(())
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.insert(key, &payload, true)
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        self.insert(key, &payload, false)
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        let wanted = check_range(key, &range)?;
        let Object { bytes, .. } = self.object(key)?;
        let size = bytes.len() as u64;
        if range.end > size {
            let found = size.saturating_sub(range.start);
            return Err(BlobError::ShortRead { key: key.to_owned(), position: range.start, wanted, found });
        }
        // Within the length of a `Bytes`, so within usize.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        let bytes = self.object(key)?.bytes;
        check_size(key, bytes.len() as u64, GET_MAX_BYTES)?;
        Ok(bytes)
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        let object = self.object(key)?;
        Ok(ObjectMeta { key: key.to_owned(), size: object.bytes.len() as u64, modified_ms: object.modified_ms })
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        check_prefix(prefix)?;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let objects = self.lock();
        let found = objects.range::<str, _>((from, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
        let meta = |(key, object): (&String, &Object)| ObjectMeta {
            key: key.clone(),
            size: object.bytes.len() as u64,
            modified_ms: object.modified_ms,
        };
        Ok(found.take(limit).map(meta).collect())
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let mut objects = self.lock();
        for key in keys {
            objects.remove(key);
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        contract::all(&MemoryStore::new()).await;
    }
}
