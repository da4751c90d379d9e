//! Separated values in the cache of blocks, each as a block with one entry, so that one budget and one order of eviction hold for
//! both.
//!
//! A block has a slot in its table; of a blob file nothing is in memory that could tell the records apart. So values share one
//! array of slots, and each may lie in two of them, by its file and offset. What finds both taken takes the place of the one that was
//! not read since somebody last wanted its place.
//!
//! The entry's key is the number of the file and the key, its sequence number is the offset, so what lies in a slot tells exactly
//! what it is. Numbers of files are never used again, and values do not change.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use kv_core::hash::seeded;

use crate::cache::{BlockCache, CachedBlock, TableBlocks};
use crate::held::Held;
use crate::internal_key::{Kind, SEQUENCE_MAX, Trailer};
use crate::table::block::{Block, encode_one};

/// A slot for so many bytes of the cache: with values from 4 KiB on, at most half of the slots are taken.
const BYTES_PER_SLOT: u64 = 2048;
/// Slots take no more than a hundredth of the cache, and this is enough for any.
const SLOTS_MAX: u64 = 1 << 24;
/// A value that takes a larger part of the cache is not worth what goes for it.
const VALUE_PART: u64 = 64;

/// Where a value lies.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ValuePlace {
    /// Number of the blob file.
    pub(crate) file: u64,
    pub(crate) offset: u64,
}

impl ValuePlace {
    /// Two slots of so many.
    fn slots(self, count: usize) -> [usize; 2] {
        let hash = seeded(&self.offset.to_le_bytes(), self.file);
        [hash >> 32, hash & 0xffff_ffff].map(|half| ((half as u128 * count as u128) >> 32) as usize)
    }

    fn is_of(self, block: &Block, key: &[u8]) -> bool {
        // The key is at the other end of the block.
        block.prefetch_first();
        block.common_prefix().split_first_chunk() == Some((&self.file.to_be_bytes(), key))
            && block.entry(0).trailer.sequence() == self.offset
    }
}

/// The values of all blob files that are in memory.
pub(crate) struct ValueCache {
    blocks: Arc<BlockCache>,
    slots: OnceLock<TableBlocks>,
    count: usize,
    value_bytes_max: u64,
}

/// A value in memory.
pub(crate) struct CachedValue(Held<CachedBlock>);

impl CachedValue {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.entry(0).value
    }
}

impl ValueCache {
    /// In a cache of so many bytes.
    pub(crate) fn new(blocks: &Arc<BlockCache>, bytes_max: u64) -> Self {
        let count = (bytes_max / BYTES_PER_SLOT).clamp(1, SLOTS_MAX);
        Self {
            blocks: Arc::clone(blocks),
            slots: OnceLock::new(),
            count: usize::try_from(count).expect("no more than SLOTS_MAX"),
            value_bytes_max: bytes_max / VALUE_PART,
        }
    }

    /// What the slots take.
    pub(crate) fn slot_bytes(&self) -> u64 {
        self.slots.get().map_or(0, TableBlocks::slot_bytes)
    }

    /// The value of `key` at a place, if it is in memory.
    pub(crate) fn get(&self, place: ValuePlace, key: &[u8]) -> Option<CachedValue> {
        let slots = self.slots.get()?;
        // Only what is found was read.
        let is_there = |&slot: &usize| slots.peek(slot).is_some_and(|block| place.is_of(&block, key));
        let slot = place.slots(self.count).into_iter().find(is_there)?;
        slots.get(slot).filter(|block| place.is_of(block, key)).map(CachedValue)
    }

    /// Keeps what was read from a place, if there is room.
    pub(crate) fn insert(&self, place: ValuePlace, key: &[u8], value: &[u8]) {
        if value.len() as u64 > self.value_bytes_max || place.offset == 0 || place.offset > SEQUENCE_MAX {
            return;
        }
        let slots = self.slots.get_or_init(|| TableBlocks::new(&self.blocks, self.count));
        let [one, other] = place.slots(self.count);
        let free = [one, other].into_iter().find(|&slot| slots.peek(slot).is_none());
        let Some(slot) = free.or_else(|| [one, other].into_iter().find(|&slot| slots.make_way(slot))) else { return };
        let mut bytes = Vec::with_capacity(value.len() + key.len() + 64);
        let trailer = Trailer::new(place.offset, Kind::Put);
        encode_one([&place.file.to_be_bytes(), key], trailer, value, &mut bytes);
        let make = |memory: &Arc<_>| Ok::<_, Infallible>(Block::copy(&bytes, memory).expect("a block was just built"));
        let Ok(_) = slots.insert(slot, bytes.len(), make);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(file: u64, offset: u64) -> ValuePlace {
        ValuePlace { file, offset }
    }

    fn found(cache: &ValueCache, place: ValuePlace, key: &str) -> Option<Vec<u8>> {
        cache.get(place, key.as_bytes()).map(|value| value.bytes().to_vec())
    }

    #[test]
    fn a_value_is_found_by_file_offset_and_key_together() {
        let blocks = Arc::new(BlockCache::new(1 << 20));
        let cache = ValueCache::new(&blocks, 1 << 20);
        assert_eq!(found(&cache, place(1, 64), "k"), None);
        cache.insert(place(1, 64), b"k", b"value");
        cache.insert(place(1, 64), b"k", b"never a second one");
        cache.insert(place(1, 0), b"k", b"no record begins there");
        for (other, key) in [(place(2, 64), "k"), (place(1, 65), "k"), (place(1, 64), "kk"), (place(1, 64), "")] {
            assert_eq!(found(&cache, other, key), None);
        }
        assert_eq!(found(&cache, place(1, 64), "k").unwrap(), b"value");
        assert_eq!(found(&cache, place(1, 0), "k"), None);
    }

    #[test]
    fn most_values_that_fit_are_there_and_none_is_another_one() {
        const VALUE_BYTES: usize = 4096;
        const COUNT: u64 = 400;
        let blocks = Arc::new(BlockCache::new(2 << 20));
        let cache = ValueCache::new(&blocks, 2 << 20);
        let value = |number: u64| number.to_le_bytes().repeat(VALUE_BYTES / 8);
        for number in 0..COUNT {
            cache.insert(place(number % 3, 16 + number), &number.to_be_bytes(), &value(number));
        }
        let present = (0..COUNT).filter(|&number| {
            let read = cache.get(place(number % 3, 16 + number), &number.to_be_bytes());
            read.is_some_and(|read| {
                assert_eq!(read.bytes(), value(number));
                true
            })
        });
        let present = present.count();
        assert!(present > 320, "{present} of {COUNT}");
        assert!(blocks.bytes() <= 2 << 20);
    }

    #[test]
    fn new_values_take_the_slots_of_those_that_nobody_reads() {
        let blocks = Arc::new(BlockCache::new(1 << 20));
        let cache = ValueCache::new(&blocks, 1 << 20);
        // Far more than there are slots, and far less than there are bytes for.
        for number in 1..20_000 {
            cache.insert(place(1, number), b"k", b"small");
        }
        let present = |numbers: std::ops::Range<u64>| {
            numbers.filter(|&number| cache.get(place(1, number), b"k").is_some()).count()
        };
        assert_eq!(present(1..10_000), 0, "nobody has read them");
        assert!(present(19_900..20_000) > 90);
        cache.insert(place(2, 1), b"read", b"again and again");
        for number in 20_000..40_000 {
            assert!(cache.get(place(2, 1), b"read").is_some());
            cache.insert(place(1, number), b"k", b"small");
        }
    }

    #[test]
    fn values_and_blocks_have_one_budget() {
        let blocks = Arc::new(BlockCache::new(100_000));
        let cache = ValueCache::new(&blocks, 100_000);
        for number in 1..1000 {
            cache.insert(place(1, number), b"k", &[7; 1500]);
            assert!(blocks.bytes() <= 100_000);
        }
        cache.insert(place(2, 1), b"k", &[7; 1600]);
        assert_eq!(found(&cache, place(2, 1), "k"), None, "it would take more than its part");
        let none = ValueCache::new(&Arc::new(BlockCache::new(0)), 0);
        none.insert(place(1, 1), b"k", b"v");
        assert_eq!(found(&none, place(1, 1), "k"), None);
    }
}
