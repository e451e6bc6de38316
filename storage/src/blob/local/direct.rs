//! Reads and writes large pieces of files past the page cache (`O_DIRECT`).
//!
//! Whoever reads what was just written is served by the tail cache, and what was read lately lies in the block cache. A
//! second copy of both in the page cache is of no use to them, and making it was the largest part of the CPU of a write as of
//! a read: pages found, cleared, filled, and copied out or written back one by one (ADR 0005). Where the file system cannot
//! do this, the caller goes through the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::write_slices;
use crate::blob::{PAGE_BYTES, Payload, STRAIGHT_MIN_BYTES};

/// Smaller pieces go through the page cache, which is no slower for them.
const MIN_BYTES: u64 = 64 << 10;
/// Bytes that are copied together before they are handed to the device.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffers kept for the next writes; as many as a gateway uploads at once by default need.
const BUFFERS_KEPT: usize = 8;

/// The buffers of such writes, and whether the file system of the folder takes them.
#[derive(Debug)]
pub(super) struct DirectIo {
    works: AtomicBool,
    buffers: Mutex<Vec<Buffer>>,
}

impl DirectIo {
    pub(super) fn new() -> Self {
        Self { works: AtomicBool::new(flag().is_some()), buffers: Mutex::default() }
    }

    /// Creates the file at `path` with these bytes, not durable yet. `None`: not for this payload or file system, and nothing
    /// is left at `path`.
    ///
    /// # Errors
    /// Those of the file system; a file may have been left at `path`.
    pub(super) fn write(&self, path: &Path, payload: &Payload) -> io::Result<Option<File>> {
        if !self.is_for(payload.len()) {
            return Ok(None);
        }
        let mut buffer = self.buffers().pop().unwrap_or_else(|| Buffer::new(BUFFER_BYTES));
        let written =
            self.or_not_here(direct(OpenOptions::new().write(true).create_new(true)).open(path).and_then(|file| {
                buffer.write(&file, path, payload)?;
                Ok(file)
            }));
        let mut kept = self.buffers();
        if kept.len() < BUFFERS_KEPT {
            kept.push(buffer);
        }
        drop(kept);
        if let Ok(None) = &written {
            std::fs::remove_file(path).or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
        }
        written
    }

    /// Up to `length` bytes of the file at `path` from `position`; fewer only where the file ends. `None`: not for this
    /// length or file system.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn read(&self, path: &Path, position: u64, length: u64) -> io::Result<Option<Bytes>> {
        if !self.is_for(length) {
            return Ok(None);
        }
        self.or_not_here(
            direct(OpenOptions::new().read(true)).open(path).and_then(|file| read(&file, position, length)),
        )
    }

    fn is_for(&self, length: u64) -> bool {
        length >= MIN_BYTES && self.works.load(Ordering::Relaxed)
    }

    /// Nothing, from now on, if the file system says that it cannot do this (tmpfs, some networked ones), or wants another
    /// alignment.
    fn or_not_here<T>(&self, done: io::Result<T>) -> io::Result<Option<T>> {
        match done {
            Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
                tracing::debug!(error = %e, "the folder takes no direct reads and writes; the page cache is used");
                self.works.store(false, Ordering::Relaxed);
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

fn direct(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(flag().unwrap_or(0))
}

/// Reads whole pages around what is wanted, and gives out that.
fn read(file: &File, position: u64, length: u64) -> io::Result<Bytes> {
    let from = position / PAGE_BYTES as u64 * PAGE_BYTES as u64;
    let too_large = |_| io::Error::from(ErrorKind::OutOfMemory);
    let wanted = usize::try_from(position - from + length).map_err(too_large)?;
    let mut buffer = Buffer::new(wanted.next_multiple_of(PAGE_BYTES));
    let room = &mut buffer.memory[buffer.aligned.clone()];
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut room[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        // Only the end of the file leaves a page unfilled, and from there no read is aligned.
        if filled % PAGE_BYTES != 0 {
            break;
        }
    }
    let first = usize::try_from(position - from).map_err(too_large)?.min(filled);
    let start = buffer.aligned.start;
    Ok(Bytes::from(buffer.memory).slice(start + first..start + filled.clamp(first, wanted.max(first))))
}

/// Memory that starts with a page.
#[derive(Debug)]
struct Buffer {
    memory: Vec<u8>,
    aligned: Range<usize>,
}

/// What is written at once: what was copied into the buffer, and then bytes from where they lie.
#[derive(Debug)]
struct Piece<'a> {
    copied: Range<usize>,
    straight: &'a [u8],
}

impl Buffer {
    fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + PAGE_BYTES];
        let start = memory.as_ptr().align_offset(PAGE_BYTES);
        Self { memory, aligned: start..start + bytes }
    }

    /// Writes all of the payload. The last piece, if it is no whole page, goes through the page cache: padding and cutting
    /// off would make the kernel read the page again.
    fn write(&mut self, file: &File, path: &Path, payload: &Payload) -> io::Result<()> {
        let room = &mut self.memory[self.aligned.clone()];
        let (mut pieces, mut from, mut filled) = (Vec::new(), 0, 0);
        for chunk in payload.chunks() {
            let mut rest = &chunk[..];
            while !rest.is_empty() {
                let copied = before_straight(filled, rest).unwrap_or(rest.len());
                if copied == 0 {
                    let (straight, behind) = rest.split_at(rest.len() / PAGE_BYTES * PAGE_BYTES);
                    pieces.push(Piece { copied: from..filled, straight });
                    (from, rest) = (filled, behind);
                    continue;
                }
                let (now, later) = rest.split_at(copied.min(room.len() - filled));
                room[filled..filled + now.len()].copy_from_slice(now);
                filled += now.len();
                rest = later;
                if filled == room.len() {
                    write_pieces(file, room, &pieces, from..filled)?;
                    pieces.clear();
                    (from, filled) = (0, 0);
                }
            }
        }
        let whole = filled / PAGE_BYTES * PAGE_BYTES;
        write_pieces(file, room, &pieces, from..whole)?;
        if whole < filled {
            let tail = &room[whole..filled];
            OpenOptions::new().write(true).open(path)?.write_all_at(tail, payload.len() - tail.len() as u64)?;
        }
        Ok(())
    }
}

/// How many of the `bytes` behind `filled` copied ones are to be copied before the others can be written from where they lie.
fn before_straight(filled: usize, bytes: &[u8]) -> Option<usize> {
    let to_page = bytes.as_ptr().align_offset(PAGE_BYTES);
    let is_page_of_file = (filled + to_page).is_multiple_of(PAGE_BYTES);
    (is_page_of_file && bytes.len() >= to_page + STRAIGHT_MIN_BYTES).then_some(to_page)
}

fn write_pieces(file: &File, room: &[u8], pieces: &[Piece<'_>], last: Range<usize>) -> io::Result<()> {
    let parts = pieces.iter().flat_map(|piece| [&room[piece.copied.clone()], piece.straight]).chain([&room[last]]);
    let mut slices: Vec<IoSlice<'_>> = parts.filter(|part| !part.is_empty()).map(IoSlice::new).collect();
    write_slices(file, &mut slices)
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
        let writer = DirectIo::new();
        let lengths = [65_536, 65_537, 69_631, 69_632, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 3_000_001];
        for (i, length) in lengths.into_iter().enumerate() {
            let path = folder.path().join(i.to_string());
            let payload = payload(length, 10_007);
            match writer.write(&path, &payload).unwrap() {
                Some(file) => file.sync_data().unwrap(),
                None => panic!("the sources lie on a file system without direct writes; run this on a disk"),
            }
            assert_eq!(std::fs::read(&path).unwrap(), payload.to_bytes(), "{length} bytes");
            let bytes = payload.to_bytes();
            for (from, to) in [(0, length), (1, length), (4_095, length - 5), (4_096, length), (0, 65_536)] {
                let wanted = (to - from) as u64;
                let Some(read) = writer.read(&path, from as u64, wanted).unwrap() else {
                    assert!(wanted < MIN_BYTES);
                    continue;
                };
                assert!(read == bytes[from..to], "{from}..{to} of {length} bytes");
            }
        }
        assert_eq!(writer.buffers().len(), 1, "one after another needs one buffer");
    }

    #[test]
    fn what_lies_as_in_the_file_is_written_from_there_and_comes_back_to_the_byte() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let bytes = payload(3_000_001, 3_000_001).to_bytes();
        let borders = [0, 8, 40_000, 40_001, 340_001, 540_001, 540_002, 1_800_000, 2_999_990, 3_000_001];
        let placed = |range: &[usize]| {
            let mut chunk = Payload::room(range[0] as u64, range[1] - range[0]);
            chunk.extend_from_slice(&bytes[range[0]..range[1]]);
            chunk.freeze()
        };
        let chunks: Vec<Bytes> = borders.windows(2).map(placed).collect();
        // Chunk by chunk in its place, and the same where it does not belong.
        for (name, skipped) in [("placed", 0), ("displaced", 1)] {
            let payload = Payload::new(chunks[skipped..].to_vec());
            let path = folder.path().join(name);
            DirectIo::new().write(&path, &payload).unwrap().expect("seen to work above");
            assert!(std::fs::read(&path).unwrap() == bytes[borders[skipped]..], "{name}");
        }
        assert_eq!(before_straight(40_001, &chunks[3]), Some(PAGE_BYTES - 40_001 % PAGE_BYTES));
        assert_eq!(before_straight(40_002, &chunks[3]), None);
    }

    #[test]
    fn small_files_and_file_systems_that_cannot_are_left_to_the_caller() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (path, writer) = (folder.path().join("file"), DirectIo::new());
        assert!(writer.write(&path, &payload(65_535, 1000)).unwrap().is_none());
        writer.works.store(false, Ordering::Relaxed);
        assert!(writer.write(&path, &payload(100_000, 1000)).unwrap().is_none());
        assert!(!path.exists());
    }

    #[test]
    fn a_read_ends_where_the_file_does() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (path, io) = (folder.path().join("file"), DirectIo::new());
        let bytes = payload(100_000, 1000).to_bytes();
        std::fs::write(&path, &bytes).unwrap();
        let read = |position| io.read(&path, position, 70_000).unwrap().unwrap();
        assert_eq!(read(50_000), bytes[50_000..]);
        assert_eq!(read(99_999), bytes[99_999..]);
        for past in [100_000, 100_001, 102_400, 1 << 40] {
            assert_eq!(read(past), Bytes::new(), "from {past}");
        }
        let gone = io.read(&folder.path().join("none"), 0, 70_000).unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_name_that_is_taken_is_an_error_and_what_lies_there_stays() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let error = DirectIo::new().write(&path, &payload(100_000, 1000)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
    }
}
