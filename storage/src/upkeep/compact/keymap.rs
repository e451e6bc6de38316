//! The newest offset of each key among the records that were not compacted before. Bounded: keys are kept as hashes of 128
//! bits, and a full map ends the look at the newer records, which are compacted by a later pass.
//!
//! Source: Kafka's `SkimpyOffsetMap`, which keeps MD5 sums. Two keys of one hash would cost a record; with hashes of 128 bits,
//! drawn anew for each pass, that will not be seen.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// Bytes of an entry, room that the table keeps free included.
const ENTRY_BYTES: usize = 50;

/// Offsets by key.
#[derive(Debug)]
pub(super) struct KeyMap {
    hashers: [RandomState; 2],
    offsets: HashMap<[u64; 2], i64>,
    entries_max: usize,
}

impl KeyMap {
    /// An empty map of at most about so many bytes.
    pub(super) fn new(bytes_max: usize) -> Self {
        let entries_max = (bytes_max / ENTRY_BYTES).max(1);
        Self { hashers: [RandomState::new(), RandomState::new()], offsets: HashMap::new(), entries_max }
    }

    /// Whether so many more keys would be too many. An empty map takes any number: a pass must get somewhere.
    pub(super) fn is_full_with(&self, more: usize) -> bool {
        !self.offsets.is_empty() && self.offsets.len() + more > self.entries_max
    }

    /// Notes a record; offsets of one key come in rising order.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) {
        let hash = self.hash(key);
        self.offsets.insert(hash, offset);
    }

    /// The newest offset noted for a key.
    pub(super) fn newest(&self, key: &[u8]) -> Option<i64> {
        self.offsets.get(&self.hash(key)).copied()
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_a_key_is_known_and_the_map_is_bounded() {
        let mut map = KeyMap::new(3 * ENTRY_BYTES);
        assert!(!map.is_full_with(10), "one batch fits in any case");
        map.put(b"a", 1);
        map.put(b"b", 2);
        map.put(b"a", 3);
        assert_eq!([map.newest(b"a"), map.newest(b"b"), map.newest(b"")], [Some(3), Some(2), None]);
        assert!(!map.is_full_with(1) && map.is_full_with(2));
    }

    #[test]
    fn an_entry_takes_no_more_than_it_is_counted_for() {
        let mut map = KeyMap::new(1 << 20);
        (0..map.entries_max).for_each(|n| map.put(&n.to_be_bytes(), 0));
        // A table takes an entry and a byte for each of its places, of which up to half and an eighth are free.
        let places = map.offsets.capacity() * 8 / 7;
        assert!(places * (size_of::<([u64; 2], i64)>() + 1) <= 2 << 20, "{places}");
    }
}
