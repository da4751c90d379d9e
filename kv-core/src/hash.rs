//! The hash that places keys. It is frozen: a changed token moves every key of every cluster.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Seed of [`token_of`]. Part of the format.
pub const TOKEN_SEED: u64 = 0x6b76_5f72_696e_6721;

/// A position in the 64-bit hash space; the top bits name the partition.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Token(pub u64);

/// The token of a partition key: XXH3-64 (Yann Collet's xxHash, as specified by the reference implementation) with
/// [`TOKEN_SEED`].
#[must_use]
pub fn token_of(partition_key: &[u8]) -> Token {
    Token(xxh3_64_with_seed(partition_key, TOKEN_SEED))
}

/// XXH3-64 with a seed of the caller's, for block checksums, filters and hash trees.
#[must_use]
pub fn seeded(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}
