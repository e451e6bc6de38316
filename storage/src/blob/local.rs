//! Objects as files of a folder: for one gateway on one machine, with nothing else installed.
//!
//! A write goes to a temporary file, which is made durable (`fdatasync`: the bytes and the length, all that reading needs;
//! `fsync` would add a journal write for times nobody asks for), then takes its name, and then the folder that now lists it is
//! made durable (`fsync`). So a crash leaves the old or the new object, and at most a temporary file, removed at the next start.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use bytes::Bytes;

use self::direct::DirectIo;
use super::{
    BlobError, BlobStore, GET_MAX_BYTES, ObjectMeta, Payload, check_key, check_prefix, check_range, check_size,
};

mod direct;

/// Holds files that do not have their name yet. Keys cannot reach it: none starts with a dot.
const TEMPORARY: &str = ".tmp";
const LOCK: &str = ".lock";
/// Buffers handed to one `writev`; Linux takes no more.
const WRITE_VECTORS_MAX: usize = 1024;

/// A store on a folder. Several may share one (each holds a shared lock on it). Clones share everything.
#[derive(Debug, Clone)]
pub struct LocalStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Tells this store's temporary files from those of others on the same folder.
    token: u64,
    counter: AtomicU64,
    direct: DirectIo,
    /// Held while the store lives, so that a second store does not take our temporary files for leftovers.
    _lock: File,
}

impl LocalStore {
    /// Opens the folder, creating it if need be; removes what an earlier crash left behind; proves that it can be written.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, BlobError> {
        let root = root.into();
        blocking(move || {
            let cannot = |e: io::Error| {
                BlobError::Invalid(format!("folder {} cannot be written ({e}); check --data", root.display()))
            };
            let lock = prepare(&root).map_err(cannot)?;
            let (counter, direct) = (AtomicU64::new(0), DirectIo::new());
            let inner = Inner { token: rand::random(), counter, direct, _lock: lock, root: root.clone() };
            let probe = inner.write_temporary(&Payload::from(&b"probe"[..])).map_err(cannot)?;
            fs::remove_file(&probe).map_err(cannot)?;
            Ok(Self(Arc::new(inner)))
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BlobError> + Send + 'static,
    ) -> Result<T, BlobError> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

#[async_trait]
impl BlobStore for LocalStore {
    async fn put(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        check_key(key)?;
        let key = key.to_owned();
        self.run(move |inner| inner.write(&key, &payload, |from, to| fs::rename(from, to))).await
    }

    async fn put_new(&self, key: &str, payload: Payload) -> Result<(), BlobError> {
        check_key(key)?;
        let key = key.to_owned();
        // A hard link fails if its name is taken, which a rename does not.
        self.run(move |inner| inner.write(&key, &payload, |from, to| fs::hard_link(from, to))).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, BlobError> {
        check_key(key)?;
        let wanted = check_range(key, &range)?;
        let key = key.to_owned();
        self.run(move |inner| {
            let bytes = inner.read(&key, range.start, wanted)?;
            let found = bytes.len() as u64;
            if found < wanted {
                return Err(BlobError::ShortRead { key, position: range.start, wanted, found });
            }
            Ok(bytes)
        })
        .await
    }

    async fn get(&self, key: &str) -> Result<Bytes, BlobError> {
        check_key(key)?;
        let key = key.to_owned();
        self.run(move |inner| {
            let size = fs::metadata(inner.root.join(&key)).map_err(|e| read_error(&key, &e))?.len();
            check_size(&key, size, GET_MAX_BYTES)?;
            inner.read(&key, 0, size)
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, BlobError> {
        check_key(key)?;
        let key = key.to_owned();
        self.run(move |inner| {
            let meta = fs::metadata(inner.root.join(&key)).map_err(|e| read_error(&key, &e))?;
            describe(key.clone(), &meta).ok_or(BlobError::NotFound { key })
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, BlobError> {
        check_prefix(prefix)?;
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        self.run(move |inner| {
            let mut listing = Listing { root: &inner.root, prefix: &prefix, after: &after, limit, found: Vec::new() };
            listing.walk("").map_err(|e| BlobError::Unavailable(format!("cannot list the folder: {e}")))?;
            Ok(listing.found)
        })
        .await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, BlobError)>, BlobError> {
        keys.iter().try_for_each(|key| check_key(key))?;
        let keys = keys.to_vec();
        self.run(move |inner| Ok(inner.delete(keys))).await
    }
}

impl Inner {
    /// Up to `length` bytes from `position`; fewer only where the object ends.
    fn read(&self, key: &str, position: u64, length: u64) -> Result<Bytes, BlobError> {
        let path = self.root.join(key);
        let read = self.direct.read(&path, position, length).and_then(|direct| match direct {
            Some(bytes) => Ok(bytes),
            None => read_at(&mut File::open(&path)?, position, length),
        });
        read.map_err(|e| read_error(key, &e))
    }

    /// Writes the payload aside, then lets `name_it` give it its name.
    fn write(
        &self,
        key: &str,
        payload: &Payload,
        name_it: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), BlobError> {
        let temporary = self.write_temporary(payload).map_err(|e| write_error(key, &e))?;
        let path = self.root.join(key);
        let folder = path.parent().unwrap_or(&self.root);
        let mut named = name_it(&temporary, &path);
        if matches!(&named, Err(e) if e.kind() == ErrorKind::NotFound) {
            named = self.create_folders(folder).and_then(|()| name_it(&temporary, &path));
        }
        // After a rename it is gone, after a link it is a second name; a leftover is harmless and removed at the next start.
        let _ = fs::remove_file(&temporary);
        match named {
            // The one that made it may not have reached its own sync yet; what we say of the key must outlive a crash too.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                sync_folder(folder).map_err(|e| BlobError::Unknown(e.to_string()))?;
                Err(BlobError::already_exists(key))
            }
            Err(e) => Err(write_error(key, &e)),
            Ok(()) => sync_folder(folder).map_err(|e| BlobError::Unknown(format!("cannot make {key} durable: {e}"))),
        }
    }

    fn write_temporary(&self, payload: &Payload) -> io::Result<PathBuf> {
        let name = format!("{:016x}-{:x}", self.token, self.counter.fetch_add(1, Ordering::Relaxed));
        let path = self.root.join(TEMPORARY).join(name);
        let written = self.direct.write(&path, payload).and_then(|direct| match direct {
            Some(file) => Ok(file),
            None => {
                let file = File::create_new(&path)?;
                write_all(&file, payload)?;
                Ok(file)
            }
        });
        written.and_then(|file| file.sync_data()).inspect_err(|_| drop(fs::remove_file(&path))).map(|()| path)
    }

    /// Creates the missing folders from the root down to `folder`, each durable in the one above it.
    fn create_folders(&self, folder: &Path) -> io::Result<()> {
        let mut path = self.root.clone();
        for part in folder.strip_prefix(&self.root).into_iter().flatten() {
            let above = path.clone();
            path.push(part);
            match fs::create_dir(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
                // Not `AlreadyExists`, which would be taken for the object's own name.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(ErrorKind::NotADirectory.into()),
                Err(e) => return Err(e),
            }
            sync_folder(&above)?;
        }
        Ok(())
    }

    fn delete(&self, keys: Vec<String>) -> Vec<(String, BlobError)> {
        let mut failed = Vec::new();
        let mut folders = BTreeSet::new();
        for key in keys {
            let path = self.root.join(&key);
            match fs::remove_file(&path) {
                Ok(()) => {
                    folders.extend(path.parent().map(Path::to_owned));
                }
                Err(e) if is_absence(e.kind()) => {}
                Err(e) => {
                    let error = write_error(&key, &e);
                    failed.push((key, error));
                }
            }
        }
        for folder in folders {
            // The ledger forgets what it deleted: it should not come back after a crash. If it does, it is only garbage.
            if let Err(error) = sync_folder(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "cannot make deletions durable");
            }
        }
        failed
    }
}

/// One walk over the folder, in order of keys.
struct Listing<'a> {
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ObjectMeta>,
}

impl Listing<'_> {
    /// Visits the folder whose keys start with `at` (empty, or ending with a slash).
    fn walk(&mut self, at: &str) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in or_nothing(fs::read_dir(self.root.join(at)))?.into_iter().flatten() {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            // With its slash a folder sorts where the keys inside it belong.
            let key = format!("{at}{name}{slash}");
            if !name.starts_with('.') && self.may_hold(&key) {
                entries.push(key);
            }
        }
        entries.sort_unstable();
        for key in entries {
            if self.found.len() >= self.limit {
                break;
            }
            if key.ends_with('/') {
                self.walk(&key)?;
            } else if let Some(meta) = or_nothing(fs::metadata(self.root.join(&key)))? {
                self.found.extend(describe(key, &meta));
            }
        }
        Ok(())
    }

    /// Whether `key` (of an object, or with a slash of a folder) is, or leads to, something that was asked for.
    fn may_hold(&self, key: &str) -> bool {
        if key.ends_with('/') {
            let towards = key.starts_with(self.prefix) || self.prefix.starts_with(key);
            return towards && (key > self.after || self.after.starts_with(key));
        }
        key.starts_with(self.prefix) && key > self.after && check_key(key).is_ok()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(BlobError::Unknown(format!("file work stopped: {e}"))))
}

/// Creates the folders, takes the shared lock, and clears the temporary files if nobody else can own one.
fn prepare(root: &Path) -> io::Result<File> {
    let temporary = root.join(TEMPORARY);
    // The last ancestor of a relative path is empty, and that is the current folder.
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<_> = temporary.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(&temporary)?;
    for created in missing {
        if let Some(above) = created.canonicalize()?.parent() {
            sync_folder(above)?;
        }
    }
    let lock = File::options().create(true).append(true).open(root.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => {
            for entry in fs::read_dir(&temporary)? {
                fs::remove_file(entry?.path())?;
            }
            lock.unlock()?;
        }
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(e)) => return Err(e),
    }
    lock.lock_shared()?;
    sync_folder(root)?;
    Ok(lock)
}

fn write_all(file: &File, payload: &Payload) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = payload.chunks().iter().map(|chunk| IoSlice::new(chunk)).collect();
    write_slices(file, &mut slices)
}

/// Writes all of the slices, none of which is empty, at the file's position.
fn write_slices(mut file: &File, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    for mut rest in slices.chunks_mut(WRITE_VECTORS_MAX) {
        while !rest.is_empty() {
            match file.write_vectored(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Up to `length` bytes from `position`, in a buffer of just that size.
fn read_at(file: &mut File, position: u64, length: u64) -> io::Result<Bytes> {
    file.seek(SeekFrom::Start(position))?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).map_err(|_| ErrorKind::OutOfMemory)?);
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn describe(key: String, meta: &fs::Metadata) -> Option<ObjectMeta> {
    let modified = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let modified_ms = i64::try_from(modified.as_millis()).unwrap_or(i64::MAX);
    meta.is_file().then_some(ObjectMeta { key, size: meta.len(), modified_ms })
}

/// What has vanished since it was named is not there, which is no error.
fn or_nothing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_absence(e.kind()) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Also where a folder stands in the place of an object, or an object in the place of a folder.
fn is_absence(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

fn read_error(key: &str, error: &io::Error) -> BlobError {
    match error.kind() {
        kind if is_absence(kind) => BlobError::not_found(key),
        ErrorKind::PermissionDenied => BlobError::Denied(format!("cannot read {key}: {error}")),
        _ => BlobError::Unavailable(format!("cannot read {key}: {error}")),
    }
}

/// Of a step before the object has its name: nothing was done.
fn write_error(key: &str, error: &io::Error) -> BlobError {
    match error.kind() {
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty => {
            BlobError::Invalid(format!("{key} is a folder of other objects, or one of its folders is an object"))
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            BlobError::Denied(format!("cannot write {key}: {error}"))
        }
        _ => BlobError::Unavailable(format!("cannot write {key}: {error}")),
    }
}

#[cfg(test)]
mod tests;
