//! Writes large files past the page cache (`O_DIRECT`).
//!
//! Whoever reads what was just written is served by the tail cache. A second copy in the page cache is of no use to them, and
//! making it was the largest part of a write's CPU: pages found, cleared, filled, and written back one by one
//! (docs/benchmarks.md). Where the file system cannot do this, the caller writes through the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::blob::Payload;

/// Smaller files go through the page cache, which is no slower for them.
const MIN_BYTES: u64 = 64 << 10;
/// What memory and lengths must be a multiple of: the largest sector and page size in use.
const ALIGNMENT: usize = 4096;
/// Bytes handed to the device at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffers kept for the next writes; as many as a gateway uploads at once by default need.
const BUFFERS_KEPT: usize = 8;

/// The buffers of such writes, and whether the file system of the folder takes them.
#[derive(Debug)]
pub(super) struct DirectWriter {
    works: AtomicBool,
    buffers: Mutex<Vec<Buffer>>,
}

impl DirectWriter {
    pub(super) fn new() -> Self {
        Self { works: AtomicBool::new(flag().is_some()), buffers: Mutex::default() }
    }

    /// Creates the file at `path` with these bytes, not durable yet. `None`: not for this payload or file system, and nothing
    /// is left at `path`.
    ///
    /// # Errors
    /// Those of the file system; a file may have been left at `path`.
    pub(super) fn write(&self, path: &Path, payload: &Payload) -> io::Result<Option<File>> {
        if payload.len() < MIN_BYTES || !self.works.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut buffer = self.buffers().pop().unwrap_or_else(Buffer::new);
        let written = create(path).and_then(|mut file| {
            buffer.write(&mut file, payload)?;
            Ok(file)
        });
        let mut kept = self.buffers();
        if kept.len() < BUFFERS_KEPT {
            kept.push(buffer);
        }
        drop(kept);
        match written {
            // What a file system says that cannot do it (tmpfs, some networked ones), or wants another alignment.
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                tracing::debug!(error = %e, "the folder takes no direct writes; the page cache is used");
                self.works.store(false, Ordering::Relaxed);
                std::fs::remove_file(path)
                    .or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Buffer>> {
        // A list of spare buffers is right whatever happened to its last user.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(target_os = "linux")]
fn flag() -> Option<i32> {
    Some(libc::O_DIRECT)
}

#[cfg(not(target_os = "linux"))]
fn flag() -> Option<i32> {
    None
}

fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).custom_flags(flag().unwrap_or(0)).open(path)
}

/// Memory that starts at a multiple of [`ALIGNMENT`].
#[derive(Debug)]
struct Buffer {
    memory: Vec<u8>,
    aligned: Range<usize>,
}

impl Buffer {
    fn new() -> Self {
        let memory = vec![0; BUFFER_BYTES + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, aligned: start..start + BUFFER_BYTES }
    }

    /// Writes all of the payload; the last piece is filled up to the alignment, and what is too much cut off again.
    fn write(&mut self, file: &mut File, payload: &Payload) -> io::Result<()> {
        let room = &mut self.memory[self.aligned.clone()];
        let mut filled = 0;
        for chunk in payload.chunks() {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(room.len() - filled));
                room[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                rest = later;
                if filled == room.len() {
                    file.write_all(room)?;
                    filled = 0;
                }
            }
        }
        if filled > 0 {
            let padded = filled.next_multiple_of(ALIGNMENT);
            room[filled..padded].fill(0);
            file.write_all(&room[..padded])?;
            file.set_len(payload.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn payload(length: usize, chunk: usize) -> Payload {
        let bytes: Bytes = (0..length).map(|i| (i / 7 % 251) as u8).collect::<Vec<_>>().into();
        Payload::new((0..length).step_by(chunk).map(|at| bytes.slice(at..(at + chunk).min(length))))
    }

    #[test]
    fn every_length_comes_back_to_the_byte() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let writer = DirectWriter::new();
        let lengths = [65_536, 65_537, 69_631, 69_632, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3_000_001];
        for (i, length) in lengths.into_iter().enumerate() {
            let path = folder.path().join(i.to_string());
            let payload = payload(length, 10_007);
            match writer.write(&path, &payload).unwrap() {
                Some(file) => file.sync_data().unwrap(),
                None => panic!("the sources lie on a file system without direct writes; run this on a disk"),
            }
            assert_eq!(std::fs::read(&path).unwrap(), payload.to_bytes(), "{length} bytes");
        }
        assert_eq!(writer.buffers().len(), 1, "one after another needs one buffer");
    }

    #[test]
    fn small_files_and_file_systems_that_cannot_are_left_to_the_caller() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (path, writer) = (folder.path().join("file"), DirectWriter::new());
        assert!(writer.write(&path, &payload(65_535, 1000)).unwrap().is_none());
        writer.works.store(false, Ordering::Relaxed);
        assert!(writer.write(&path, &payload(100_000, 1000)).unwrap().is_none());
        assert!(!path.exists());
    }

    #[test]
    fn a_name_that_is_taken_is_an_error_and_what_lies_there_stays() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let error = DirectWriter::new().write(&path, &payload(100_000, 1000)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
