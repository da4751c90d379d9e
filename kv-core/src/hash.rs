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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_frozen() {
        let counting: Vec<u8> = (0..=255).collect();
        let vectors: [(&[u8], u64); 7] = [
            (b"", 0x681e_facf_20b3_494f),
            (b"a", 0x914d_525b_b1d2_e0e3),
            (b"user:1", 0x4592_0102_b345_3c29),
            (b"user:2", 0x65ab_a477_8141_0e36),
            (&counting[..16], 0x5e9f_d54d_7b3d_0d32),
            (&counting[..129], 0x7bd5_6df2_a714_9bee),
            (&counting, 0x507d_d1aa_5d96_de63),
        ];
        for (key, token) in vectors {
            assert_eq!(token_of(key), Token(token), "{key:?}");
        }
    }

    #[test]
    fn the_hash_is_xxh3_as_published() {
        // From the reference implementation: the empty input with seed 0.
        assert_eq!(seeded(b"", 0), 0x2d06_8005_38d3_94c2);
        assert_eq!(token_of(b"user:1").0, seeded(b"user:1", TOKEN_SEED));
        assert_ne!(seeded(b"user:1", 0), seeded(b"user:1", 1));
    }
}
