//! The unit of both caches: the batches of one extent, checked, patched to their place in the log, and indexed.

use bytes::{Bytes, BytesMut};
use metadata::failpoint::bug_here;
use metadata::model::batch::{BatchView, patch_place};
use metadata::model::extent::{Extent, ObjectId};
use metadata::model::offset::Offset;

/// Where the bytes of a block begin. Objects never change and an extent never moves inside one, so this names them for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// The object.
    pub object: ObjectId,
    /// Bytes into it.
    pub position: u64,
}

impl BlockKey {
    /// The key of an extent's bytes.
    pub fn of(extent: &Extent) -> Self {
        Self { object: extent.object, position: extent.position }
    }
}

/// Whether the batches' own checksums are computed anew when a block is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The bytes never left this process since they were checked.
    Checked,
    /// The bytes come from outside.
    Unchecked,
}

/// Bytes that are not what the index says they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("extent at {position} of object {object}, offsets {base} to {end}: {what}")]
pub struct Damage {
    object: ObjectId,
    position: u64,
    base: Offset,
    end: Offset,
    what: &'static str,
}

/// Some batches of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Their bytes; a slice, nothing is copied.
    pub bytes: Bytes,
    /// Offset after their last record, which is where to read on.
    pub end: Offset,
    /// Whether the block ends there.
    pub is_rest: bool,
}

/// The batches of one extent.
#[derive(Debug)]
pub struct Block {
    base: Offset,
    end: Offset,
    bytes: Bytes,
    /// Where each batch starts.
    starts: Box<[u32]>,
}

impl Block {
    /// Checks that `bytes` are exactly the extent, and writes base offset and leader epoch into its batches. Those of a sparse
    /// extent keep the base offset they have.
    pub fn place(mut bytes: BytesMut, extent: &Extent, leader_epoch: i32, trust: Trust) -> Result<Self, Damage> {
        let damage = |what| Damage {
            object: extent.object,
            position: extent.position,
            base: extent.base,
            end: extent.end,
            what,
        };
        if bytes.len() != extent.length as usize {
            return Err(damage("it has another length"));
        }
        let mut starts = Vec::new();
        let (mut at, mut next) = (0, extent.base.get());
        while at < bytes.len() {
            let batch = BatchView::first(&bytes[at..]).map_err(|_| damage("a batch is torn"))?;
            if trust == Trust::Unchecked && !batch.crc_is_valid() && !bug_here("reader::crc_unchecked") {
                return Err(damage("the checksum of a batch does not match"));
            }
            let (length, delta) = (batch.bytes().len(), i64::from(batch.last_offset_delta()));
            let base = if extent.sparse { batch.base_offset() } else { next };
            let is_begin = !extent.sparse || at > 0 || base == next;
            if base < next || !is_begin {
                return Err(damage("its batches are not where they should be"));
            }
            if delta < 0 || base.checked_add(delta).is_none_or(|last| last >= extent.end.get()) {
                return Err(damage("it holds more offsets than it should"));
            }
            patch_place(&mut bytes[at..], base, leader_epoch);
            starts.push(u32::try_from(at).map_err(|_| damage("it is longer than 4 GiB"))?);
            at += length;
            next = base + delta + 1;
        }
        if next != extent.end.get() {
            return Err(damage("it holds fewer offsets than it should"));
        }
        Ok(Self { base: extent.base, end: extent.end, bytes: bytes.freeze(), starts: starts.into() })
    }

    /// Whether these are the bytes of `extent` and no others.
    pub fn is(&self, extent: &Extent) -> bool {
        self.base == extent.base && self.end == extent.end && self.bytes.len() == extent.length as usize
    }

    /// Offset of the first record.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Offset after the last record.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// All its batches, patched, back to back.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Bytes it takes in memory, index included.
    pub fn weight(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>() + size_of::<Self>()
    }

    /// Number of batches.
    pub fn batch_count(&self) -> usize {
        self.starts.len()
    }

    /// Number of the batch that holds `offset`, or of the next one behind it where compaction left a gap; the number of
    /// batches for an offset behind the block.
    pub fn batch_with(&self, offset: Offset) -> usize {
        self.starts.partition_point(|&start| self.end_at(start) <= offset.get())
    }

    /// The bytes of the batch with that number, patched.
    pub fn batch(&self, number: usize) -> Bytes {
        self.bytes.slice(self.start_of(number)..self.start_of(number + 1))
    }

    /// Whole batches from number `first` on, as many as fit into `max_bytes`; with `at_least_one`, the first one in any
    /// case.
    pub fn take(&self, first: usize, max_bytes: usize, at_least_one: bool) -> Taken {
        let from = self.start_of(first);
        let behind = self.starts.get(first + 1..).unwrap_or_default();
        let fit = behind.partition_point(|&start| start as usize - from <= max_bytes);
        let all_fit = self.bytes.len() - from <= max_bytes;
        let mut until = if all_fit { self.starts.len() } else { first + fit };
        if until == first && first < self.starts.len() && at_least_one {
            until = first + 1;
        }
        let last = until.checked_sub(1).and_then(|last| self.starts.get(last));
        let end = last.and_then(|&start| Offset::new(self.end_at(start)));
        Taken {
            bytes: self.bytes.slice(from..self.start_of(until)),
            end: end.unwrap_or(self.base),
            is_rest: until >= self.starts.len(),
        }
    }

    fn start_of(&self, number: usize) -> usize {
        self.starts.get(number).map_or(self.bytes.len(), |&start| start as usize)
    }

    /// Offset after the last record of the batch that starts there.
    fn end_at(&self, start: u32) -> i64 {
        let batch = BatchView::first(&self.bytes[start as usize..]).expect("checked when the block was made");
        batch.base_offset() + i64::from(batch.last_offset_delta()) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{batch_of, extent_of};

    fn block(counts: &[usize]) -> Block {
        let mut bytes = BytesMut::new();
        counts.iter().for_each(|&count| bytes.extend_from_slice(&batch_of(count, 7)));
        let extent = extent_of(100, &bytes);
        Block::place(bytes, &extent, 3, Trust::Unchecked).unwrap()
    }

    #[test]
    fn batches_are_patched_to_their_place_and_found_by_offset() {
        let block = block(&[3, 1, 2]);
        for (number, base) in [(0, 100), (1, 103), (2, 104)] {
            let bytes = block.batch(number);
            let view = BatchView::first(&bytes).unwrap();
            assert_eq!(view.base_offset(), base);
            assert_eq!(&bytes[12..16], 3_i32.to_be_bytes());
            assert!(view.crc_is_valid(), "the patch stays outside the checksum");
        }
        for (offset, number) in [(0, 0), (100, 0), (102, 0), (103, 1), (104, 2), (105, 2)] {
            assert_eq!(block.batch_with(Offset::new(offset).unwrap()), number, "offset {offset}");
        }
    }

    #[test]
    fn takes_whole_batches_up_to_the_limit() {
        let block = block(&[1, 1, 1]);
        let one = block.batch(0).len();
        let taken = |first, max_bytes, at_least_one| {
            let Taken { bytes, end, is_rest } = block.take(first, max_bytes, at_least_one);
            (bytes, end.get(), is_rest)
        };
        assert_eq!(taken(0, 2 * one, false), (block.bytes.slice(..2 * one), 102, false));
        assert_eq!(taken(0, 3 * one, false), (block.bytes.clone(), 103, true));
        assert_eq!(taken(1, one - 1, false).0, Bytes::new());
        assert_eq!(taken(1, 0, true), (block.batch(1), 102, false));
        assert_eq!(taken(2, 0, true), (block.batch(2), 103, true));
    }

    /// Three batches at 100..103, 110..111 and 111..113.
    fn sparse() -> (BytesMut, Extent) {
        let mut bytes = BytesMut::new();
        for (base, count) in [(100, 3), (110, 1), (111, 2)] {
            let mut batch = batch_of(count, 7);
            patch_place(&mut batch, base, -1);
            bytes.extend_from_slice(&batch);
        }
        let extent = Extent { end: Offset::new(113).unwrap(), sparse: true, ..extent_of(100, &bytes) };
        (bytes, extent)
    }

    #[test]
    fn g5_a_sparse_extent_keeps_its_offsets_and_a_gap_gives_the_next_batch() {
        let (bytes, extent) = sparse();
        let block = Block::place(bytes, &extent, 3, Trust::Unchecked).unwrap();
        let placed = |number| {
            let bytes = block.batch(number);
            (BatchView::first(&bytes).unwrap().base_offset(), bytes[15])
        };
        assert_eq!([0, 1, 2].map(placed), [(100, 3), (110, 3), (111, 3)]);
        for (offset, number) in [(0, 0), (102, 0), (103, 1), (109, 1), (110, 1), (111, 2), (112, 2), (113, 3)] {
            assert_eq!(block.batch_with(Offset::new(offset).unwrap()), number, "offset {offset}");
        }
        assert_eq!(block.take(0, block.batch(0).len(), false).end.get(), 103, "where the reader goes on by itself");
        let nothing = block.take(3, 1 << 20, true);
        assert_eq!((nothing.bytes.len(), nothing.is_rest), (0, true));
    }

    #[test]
    fn l7_sparse_batches_out_of_their_place_are_damage() {
        let (good, extent) = sparse();
        let place = |bytes: &BytesMut, extent: &Extent| Block::place(bytes.clone(), extent, 0, Trust::Unchecked);
        assert!(place(&good, &extent).is_ok());
        let second = batch_of(3, 7).len();
        for (at, base) in [(0, 99), (0, 101), (second, 102), (second, 112), (second, -1), (second, i64::MAX)] {
            let mut bad = good.clone();
            patch_place(&mut bad[at..], base, 0);
            assert!(place(&bad, &extent).is_err(), "{base}");
        }
        assert!(place(&good, &Extent { sparse: false, ..extent }).is_err(), "dense extents have no gaps");
        let longer = Extent { end: Offset::new(114).unwrap(), ..extent };
        assert!(place(&good, &longer).is_err(), "the last batch ends where the extent does");
    }

    #[test]
    fn l7_any_flipped_bit_or_wrong_place_is_damage() {
        let good = batch_of(2, 7);
        let extent = extent_of(100, &good);
        let place = |bytes: &[u8], extent: &Extent| Block::place(BytesMut::from(bytes), extent, 0, Trust::Unchecked);
        assert!(place(&good, &extent).is_ok());
        for bit in 0..good.len() * 8 {
            let (byte, mask) = (bit / 8, 1_u8 << (bit % 8));
            let overwritten = byte < 8 || (12..16).contains(&byte); // patched anyway: whatever stood there does not matter
            let mut bad = good.clone();
            bad[byte] ^= mask;
            assert_eq!(place(&bad, &extent).is_err(), !overwritten, "bit {bit}");
        }
        assert!(place(&good[..good.len() - 1], &extent).is_err(), "truncated");
        let shifted: Vec<u8> = good[1..].iter().chain(&[0]).copied().collect();
        assert!(place(&shifted, &extent).is_err(), "a range one byte off");
        assert!(place(&batch_of(3, 7)[..good.len()], &extent).is_err(), "another batch");
    }
}
