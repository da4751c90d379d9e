//! Which keys a memtable may hold, so that a read of what lies deeper touches one line of it instead of its tree.
//!
//! A Bloom filter whose bits for one key lie in one word (register-blocked: Lang, Neumann, Kemper, Boncz, "Performance-optimal
//! filtering", VLDB 2019), of the hash that the filters of tables are asked with. It is of fixed size, so with entries that are
//! smaller than expected it lets more keys through, and in the end all. Nothing is ever taken out.
//!
//! One writer sets bits before it adds the version to the tree. Whoever may see the version has, by what published it, seen
//! the bits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a memtable for each byte of its filter: of entries with 20 + 100 bytes each gets some ten bits.
const MEMTABLE_BYTES_PER_BYTE: u64 = 128;
const WORD_BYTES: u64 = 8;
/// Bits of a key, each of six bits of the hash.
const BITS: u32 = 4;

pub(super) struct KeyFilter {
    word_count: usize,
    /// Made for the first key.
    words: OnceLock<Box<[AtomicU64]>>,
}

impl KeyFilter {
    /// For a memtable that will hold so much.
    pub(super) fn new(memtable_bytes: u64) -> Self {
        let words = (memtable_bytes / MEMTABLE_BYTES_PER_BYTE / WORD_BYTES).clamp(1, u64::from(u32::MAX));
        Self { word_count: usize::try_from(words).expect("as many as 32 bits count"), words: OnceLock::new() }
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> u64 {
        self.words.get().map_or(0, |words| words.len() as u64 * WORD_BYTES)
    }

    /// Adds a key. Called by one writer at a time.
    pub(super) fn add(&self, space: u32, hash: u64) {
        // Zeroed pages come from the system when they are first touched.
        let words = self.words.get_or_init(|| vec![0_u64; self.word_count].into_iter().map(AtomicU64::new).collect());
        let (word, bits) = Self::place(space, hash, words);
        let before = word.load(Ordering::Relaxed);
        if before & bits != bits {
            word.store(before | bits, Ordering::Relaxed);
        }
    }

    /// Whether the key may have been added. Never wrong when it says no.
    pub(super) fn may_contain(&self, space: u32, hash: u64) -> bool {
        let Some(words) = self.words.get() else { return false };
        let (word, bits) = Self::place(space, hash, words);
        word.load(Ordering::Relaxed) & bits == bits
    }

    /// The word of a key and its bits there. Spaces often hold the same keys.
    fn place(space: u32, hash: u64, words: &[AtomicU64]) -> (&AtomicU64, u64) {
        let hash = hash.wrapping_add(u64::from(space).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let at = ((hash >> 32) * words.len() as u64) >> 32;
        let bits = (0..BITS).fold(0, |bits, bit| bits | 1 << (hash >> (6 * bit) & 63));
        (&words[usize::try_from(at).expect("below the number of words")], bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::filter::hash;

    #[test]
    fn it_never_misses_a_key_and_seldom_lets_another_pass() {
        const KEYS: u32 = 40_000;
        let filter = KeyFilter::new(u64::from(KEYS) * 163);
        let hash = |number: u32| hash(&number.to_le_bytes());
        assert!(!filter.may_contain(1, hash(0)), "there is nothing yet");
        assert_eq!(filter.bytes(), 0);
        (0..KEYS).for_each(|number| filter.add(1, hash(number)));
        assert!((0..KEYS).all(|number| filter.may_contain(1, hash(number))));
        let passed = (KEYS..5 * KEYS).filter(|&number| filter.may_contain(1, hash(number))).count();
        assert!(passed < 8_000, "{passed} of 160,000: about two in a hundred are expected");
        let passed = (0..KEYS).filter(|&number| filter.may_contain(2, hash(number))).count();
        assert!(passed < 2_000, "{passed} of 40,000 of the same keys in another space");
        assert_eq!(filter.bytes(), u64::from(KEYS) * 163 / 128 / 8 * 8);
    }

    #[test]
    fn the_smallest_one_works() {
        let filter = KeyFilter::new(1);
        filter.add(0, 7);
        assert!(filter.may_contain(0, 7));
        assert_eq!(filter.bytes(), 8);
    }
}
