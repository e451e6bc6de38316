//! The block cache's tier on the local disk: a file for each block, in a folder that may be deleted at any time.
//!
//! Nothing here is trusted: a block that is read back is checked against the index and the batches' own checksums just as if
//! it had come from the bucket, so a torn, damaged or foreign file is a miss and is deleted (L7). So nothing needs to be
//! synced, and after a crash the folder is as good as before. Writes that cannot keep up are left out.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::ids::SessionId;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::block::{Block, BlockKey, Trust};
use crate::metrics::DiskMetrics;

/// Smaller blocks are not worth a file, bytes.
pub const BLOCK_MIN_BYTES: usize = 16 << 10;
/// Blocks being written at once; more are left out.
const WRITES_MAX: usize = 4;
/// Blocks being read at once; more wait.
const READS_MAX: usize = 16;
const SUFFIX: &str = ".block";

/// Blocks on disk.
#[derive(Debug)]
pub struct DiskCache {
    folder: PathBuf,
    capacity: u64,
    books: Mutex<Books>,
    writes: Arc<Semaphore>,
    reads: Semaphore,
    metrics: DiskMetrics,
}

/// Which blocks there are; the oldest one goes first, those that were asked for get a second turn.
#[derive(Debug, Default)]
struct Books {
    files: HashMap<BlockKey, File>,
    turns: VecDeque<BlockKey>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct File {
    length: u32,
    was_asked: bool,
}

impl Books {
    fn add(&mut self, key: BlockKey, length: u32) {
        if self.files.insert(key, File { length, was_asked: false }).is_none() {
            self.turns.push_back(key);
            self.bytes += u64::from(length);
        }
    }

    fn remove(&mut self, key: &BlockKey) -> Option<File> {
        let file = self.files.remove(key)?;
        self.bytes -= u64::from(file.length);
        Some(file)
    }

    /// Takes blocks off the books until the rest fits.
    fn shrink(&mut self, capacity: u64) -> Vec<(BlockKey, u32)> {
        let mut gone = Vec::new();
        while self.bytes > capacity {
            let Some(key) = self.turns.pop_front() else { break };
            match self.files.get_mut(&key) {
                Some(file) if file.was_asked => {
                    file.was_asked = false;
                    self.turns.push_back(key);
                }
                Some(_) => gone.extend(self.remove(&key).map(|file| (key, file.length))),
                None => {} // damaged, and gone already
            }
        }
        gone
    }
}

impl DiskCache {
    /// Takes over what an earlier life left in `folder`, as far as `capacity` bytes hold it; deletes the rest. Blocks: to be
    /// called before the gateway serves. The folder must be of one cluster: object ids of another would mean other bytes.
    pub fn open(folder: PathBuf, capacity: u64, metrics: DiskMetrics) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&folder)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let named = entry.file_name().to_str().and_then(parse);
            let meta = entry.metadata()?;
            match named.filter(|(_, length)| u64::from(*length) == meta.len()) {
                Some((key, length)) => found.push((meta.modified()?, key, length)),
                None if meta.is_file() => fs::remove_file(entry.path())?,
                None => {}
            }
        }
        found.sort_unstable();
        let mut books = Books::default();
        found.into_iter().for_each(|(_, key, length)| books.add(key, length));
        let gone = books.shrink(capacity);
        metrics.bytes.set(books.bytes);
        let (writes, reads) = (Arc::new(Semaphore::new(WRITES_MAX)), Semaphore::new(READS_MAX));
        let cache = Self { folder, capacity, books: Mutex::new(books), writes, reads, metrics };
        gone.into_iter().try_for_each(|(key, length)| fs::remove_file(cache.path(&key, length)))?;
        Ok(Arc::new(cache))
    }

    /// Whether the block of an extent seems to be here.
    pub fn holds(&self, extent: &Extent) -> bool {
        self.books().files.get(&BlockKey::of(extent)).is_some_and(|file| file.length == extent.length)
    }

    /// The block of an extent, checked; `None` if it is not here, or not what it should be.
    pub async fn get(self: &Arc<Self>, extent: Extent, leader_epoch: i32) -> Option<Arc<Block>> {
        let key = BlockKey::of(&extent);
        match self.books().files.get_mut(&key).filter(|file| file.length == extent.length) {
            Some(file) => file.was_asked = true,
            None => return None,
        }
        let _turn = self.reads.acquire().await.expect("never closed");
        let path = self.path(&key, extent.length);
        let read = spawn_blocking(move || {
            if fs::metadata(&path)?.len() != u64::from(extent.length) {
                return Err(io::Error::other("it has another length"));
            }
            let bytes = BytesMut::from(Bytes::from(fs::read(path)?));
            Block::place(bytes, &extent, leader_epoch, Trust::Unchecked).map_err(io::Error::other)
        });
        match read.await.unwrap_or_else(|ended| Err(io::Error::other(ended))) {
            Ok(block) => {
                self.metrics.hits.inc();
                Some(Arc::new(block))
            }
            Err(error) => {
                tracing::warn!(object = %extent.object, %error, "a block in the disk cache is no good; it is read from the bucket");
                self.metrics.damaged.inc();
                self.forget(&key);
                None
            }
        }
    }

    /// Keeps a block, some time later, if there is room and time for it.
    pub fn insert(self: &Arc<Self>, key: BlockKey, block: &Block) {
        let bytes = block.bytes();
        let Ok(length) = u32::try_from(bytes.len()) else { return };
        let is_new = !self.books().files.contains_key(&key);
        let fits = bytes.len() >= BLOCK_MIN_BYTES && u64::from(length) <= self.capacity / 4;
        if !(is_new && fits) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.writes).try_acquire_owned() else {
            self.metrics.left_out.inc();
            return;
        };
        let cache = Arc::clone(self);
        spawn_blocking(move || {
            if let Err(error) = cache.write(key, length, &bytes) {
                tracing::warn!(%error, folder = %cache.folder.display(), "a block could not be kept in the disk cache");
                cache.metrics.left_out.inc();
                let _ = fs::remove_file(cache.path(&key, length)); // it may be there in part; it would be found out later
            }
            drop(turn);
        });
    }

    /// Whether a block is on its way to the disk.
    #[cfg(test)]
    pub fn is_writing(&self) -> bool {
        self.writes.available_permits() < WRITES_MAX
    }

    fn write(&self, key: BlockKey, length: u32, bytes: &Bytes) -> io::Result<()> {
        fs::write(self.path(&key, length), bytes)?;
        let gone = {
            let mut books = self.books();
            books.add(key, length);
            let gone = books.shrink(self.capacity);
            self.metrics.bytes.set(books.bytes);
            gone
        };
        gone.into_iter().try_for_each(|(key, length)| fs::remove_file(self.path(&key, length)))
    }

    fn forget(&self, key: &BlockKey) {
        let gone = self.books().remove(key);
        if let Some(file) = gone {
            // One that cannot be deleted is off the books, and is found again, and out, by the next life.
            let _ = fs::remove_file(self.path(key, file.length));
        }
    }

    fn path(&self, key: &BlockKey, length: u32) -> PathBuf {
        let BlockKey { object: ObjectId { session, counter }, position } = key;
        self.folder.join(format!("{:x}-{counter:x}-{position:x}-{length:x}{SUFFIX}", session.0))
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("nothing panics while it holds the books")
    }
}

/// The block a file's name stands for, and its length.
fn parse(name: &str) -> Option<(BlockKey, u32)> {
    let mut parts = name.strip_suffix(SUFFIX)?.split('-').map(|part| u64::from_str_radix(part, 16).ok());
    let mut next = || parts.next().flatten();
    let object = ObjectId { session: SessionId(next()?), counter: next()? };
    let (position, length) = (next()?, u32::try_from(next()?).ok()?);
    parts.next().is_none().then_some((BlockKey { object, position }, length))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::sample::{batch_of, extent_of, object};

    /// A block of one extent, large enough for a file.
    fn block(counter: u64) -> (Extent, Block) {
        let mut bytes = BytesMut::new();
        while bytes.len() < BLOCK_MIN_BYTES {
            bytes.extend_from_slice(&batch_of(50, counter));
        }
        let extent = Extent { object: object(counter), position: 8, ..extent_of(100, &bytes) };
        let block = Block::place(bytes, &extent, 3, Trust::Unchecked).unwrap();
        (extent, block)
    }

    fn open(folder: &Path, capacity: u64) -> Arc<DiskCache> {
        DiskCache::open(folder.to_path_buf(), capacity, DiskMetrics::default()).unwrap()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    async fn keep(cache: &Arc<DiskCache>, counter: u64) -> Extent {
        let (extent, block) = block(counter);
        cache.insert(BlockKey::of(&extent), &block);
        while cache.is_writing() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        extent
    }

    #[tokio::test]
    async fn blocks_outlive_the_process_and_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let extent = keep(&open(folder.path(), 1 << 20), 1).await;
        let cache = open(folder.path(), 1 << 20);
        assert!(cache.holds(&extent));
        let read = cache.get(extent, 7).await.unwrap();
        assert_eq!((read.bytes().len(), read.base(), read.end()), (extent.length as usize, extent.base, extent.end));
        assert_eq!(&read.batch(0)[12..16], 7_i32.to_be_bytes(), "patched anew");
        let longer = Extent { length: extent.length + 1, ..extent };
        assert!(!cache.holds(&longer) && cache.get(longer, 7).await.is_none());
        assert!(cache.get(Extent { position: 9, ..extent }, 7).await.is_none());
        assert_eq!((cache.metrics.hits.get(), cache.metrics.damaged.get()), (1, 0));
    }

    #[tokio::test]
    async fn l7_a_damaged_file_is_a_miss_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), 1 << 20);
        let damages: [fn(&mut Vec<u8>); 3] =
            [|bytes| bytes[9_000] ^= 1, |bytes| bytes.truncate(9_000), |bytes| bytes.push(0)];
        for damage in damages {
            let extent = keep(&cache, 1).await;
            let path = files(folder.path()).remove(0);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert!(cache.holds(&extent) && cache.get(extent, 0).await.is_none());
            assert!(!cache.holds(&extent) && files(folder.path()).is_empty());
        }
        // A file of right name, length and checksums but of other records.
        let extent = keep(&cache, 1).await;
        let other = Extent { end: extent.end.checked_add(1).unwrap(), ..extent };
        assert!(cache.get(other, 0).await.is_none());
        assert_eq!(cache.metrics.damaged.get(), 4);
        let extent = keep(&cache, 2).await;
        fs::remove_file(files(folder.path()).remove(0)).unwrap();
        assert!(cache.get(extent, 0).await.is_none(), "taken away");
    }

    #[tokio::test]
    async fn the_oldest_make_room_and_those_asked_for_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (_, one) = block(0);
        let capacity = 5 * one.bytes().len() as u64;
        let cache = open(folder.path(), capacity);
        let mut extents = Vec::new();
        for counter in 0..5 {
            extents.push(keep(&cache, counter).await);
        }
        cache.get(extents[0], 0).await.unwrap();
        for counter in 5..7 {
            extents.push(keep(&cache, counter).await);
        }
        let held: Vec<bool> = extents.iter().map(|extent| cache.holds(extent)).collect();
        assert_eq!(held, [true, false, false, true, true, true, true]);
        assert_eq!((files(folder.path()).len(), cache.metrics.bytes.get()), (5, capacity));
        // A smaller cache on the same folder, with a stranger in it.
        fs::write(folder.path().join("7-7-7.block"), b"x").unwrap();
        fs::write(folder.path().join("notes.txt"), b"x").unwrap();
        let smaller = open(folder.path(), capacity / 2);
        assert_eq!((files(folder.path()).len(), smaller.books().bytes <= capacity / 2), (2, true));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), 1 << 20);
        fs::remove_dir_all(folder.path()).unwrap();
        let extent = keep(&cache, 1).await;
        assert!(!cache.holds(&extent) && cache.get(extent, 0).await.is_none());
        assert_eq!(cache.metrics.left_out.get(), 1);
    }

    #[test]
    fn names_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let cache = open(folder.path(), 1);
        let key = BlockKey { object: object(u64::MAX), position: 0xabc };
        let name = cache.path(&key, 77).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(parse(&name), Some((key, 77)));
        for bad in ["", ".block", "1-2-3.block", "1-2-3-4-5.block", "1-2-3-g.block", "1-2-3-4", "1-2-3-100000000.block"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
