//! A Bloom filter whose bits for one key share a cache line (Putze, Sanders, Singler 2007: "Cache-, hash- and space-efficient
//! Bloom filters"), so that a question costs one miss.
//!
//! ```text
//! filter := line * n           line := 64 bytes
//! ```
//!
//! A key's XXH3-64 (seed zero) picks its line by its upper half, and six bits in the line by double hashing with the lower.

use kv_core::hash::seeded;

use crate::prefetch::prefetch;

pub(crate) const LINE_BYTES: usize = 64;
const LINE_BITS: u32 = 512;
/// Unless the keyspace says otherwise.
pub(crate) const BITS_PER_KEY: u8 = 10;
const PROBES: u32 = 6;

/// The hash of a key that a filter is asked about.
pub(crate) fn hash(key: &[u8]) -> u64 {
    seeded(key, 0)
}

/// The filter over these hashes; empty when there are none.
pub(crate) fn build(hashes: &[u64], bits_per_key: u8) -> Vec<u8> {
    let lines = (hashes.len() * usize::from(bits_per_key)).div_ceil(LINE_BITS as usize);
    let mut filter = vec![0; lines * LINE_BYTES];
    for &hash in hashes {
        let line = line(hash, lines) * LINE_BYTES;
        for bit in bits(hash) {
            filter[line + bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Whether the key with this hash may be in the set. Never wrong when it says no.
pub(crate) fn may_contain(filter: &[u8], hash: u64) -> bool {
    let lines = filter.len() / LINE_BYTES;
    if lines == 0 {
        return false;
    }
    let line = line(hash, lines) * LINE_BYTES;
    bits(hash).all(|bit| filter[line + bit / 8] & (1 << (bit % 8)) != 0)
}

/// Asks for what [`may_contain`] looks at.
pub(crate) fn approach(filter: &[u8], hash: u64) {
    let line = line(hash, filter.len() / LINE_BYTES);
    prefetch(filter.as_ptr().wrapping_add(line * LINE_BYTES));
}

fn line(hash: u64, lines: usize) -> usize {
    usize::try_from(((hash >> 32) * lines as u64) >> 32).expect("smaller than the number of lines")
}

fn bits(hash: u64) -> impl Iterator<Item = usize> {
    let low = u32::try_from(hash & 0xffff_ffff).expect("32 bits");
    // An odd step visits all bits of the line before one twice.
    let step = (low >> 16) | 1;
    (0..PROBES).map(move |probe| (low.wrapping_add(step.wrapping_mul(probe)) % LINE_BITS) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_misses_a_key_and_seldom_lets_another_pass() {
        let key = |number: u32| number.to_le_bytes();
        let hashes: Vec<u64> = (0..50_000).map(|number| hash(&key(number))).collect();
        let filter = build(&hashes, BITS_PER_KEY);
        assert!((0..50_000).all(|number| may_contain(&filter, hash(&key(number)))));
        let passed = (50_000..150_000).filter(|&number| may_contain(&filter, hash(&key(number)))).count();
        assert!(passed < 2_000, "{passed} of 100,000: about one in a hundred is what ten bits per key give");
        assert!(!may_contain(&build(&[], BITS_PER_KEY), hash(b"x")));
    }
}
