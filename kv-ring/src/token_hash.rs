//! Which hash makes tokens of keys, for those who do not use the cluster's.

use std::{fmt, hash::Hasher};

use kv_core::hash::{TOKEN_SEED, Token, seeded};
use siphasher::sip::SipHasher24;

/// A hash from keys to tokens. [`crate::token_of`] is the default one, and the one of every cluster; others are for rings of
/// one's own.
///
/// XXH3 is fast and spreads any keys well, but whoever knows the seed can make up keys that all fall into one partition. Where keys
/// come from strangers who might, take [`TokenHash::Secret`] with a key that only the routers know.
///
/// ```
/// use kv_ring::{TokenHash, token_of};
///
/// assert_eq!(TokenHash::default().token_of(b"user:42"), token_of(b"user:42"));
/// let secret = TokenHash::Secret([7; 16]);
/// assert_ne!(secret.token_of(b"user:42"), token_of(b"user:42"));
/// ```
#[derive(Copy, Clone, Eq, PartialEq)]
pub enum TokenHash {
    /// XXH3-64 with a seed (Yann Collet's xxHash).
    Seeded(u64),
    /// SipHash-2-4 with a secret key (Aumasson and Bernstein, *SipHash: a Fast Short-Input PRF*, 2012): without the key, nobody can tell
    /// which keys fall together. Several times slower on short keys.
    Secret([u8; 16]),
}

impl TokenHash {
    /// The token of a key.
    #[inline]
    #[must_use]
    pub fn token_of(&self, key: &[u8]) -> Token {
        match self {
            Self::Seeded(seed) => Token(seeded(key, *seed)),
            Self::Secret(secret) => {
                let mut hasher = SipHasher24::new_with_key(secret);
                hasher.write(key);
                Token(hasher.finish())
            }
        }
    }
}

impl Default for TokenHash {
    fn default() -> Self {
        Self::Seeded(TOKEN_SEED)
    }
}

/// Without the secret.
impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seeded(seed) => write!(f, "Seeded({seed:#x})"),
            Self::Secret(_) => write!(f, "Secret(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siphash_is_as_published() {
        // The authors' key and messages: 00 01 02 ... (reference implementation, vectors_sip64; the paper's appendix A for 15 bytes).
        let counting: Vec<u8> = (0..64).collect();
        let hash = TokenHash::Secret(*counting.first_chunk().unwrap());
        for (bytes, token) in [
            (0, 0x726f_db47_dd0e_0e31),
            (1, 0x74f8_39c5_93dc_67fd),
            (7, 0xab02_00f5_8b01_d137),
            (8, 0x93f5_f579_9a93_2462),
            (15, 0xa129_ca61_49be_45e5),
            (63, 0x958a_324c_eb06_4572),
        ] {
            assert_eq!(hash.token_of(&counting[..bytes]), Token(token), "{bytes} bytes");
        }
    }

    #[test]
    fn seeded_tokens_are_frozen() {
        let counting: Vec<u8> = (0..=255).collect();
        let vectors: [(&[u8], u64, u64); 6] = [
            (b"", 0, 0x2d06_8005_38d3_94c2),
            (b"", 1, 0x4dc5_b0cc_826f_6703),
            (b"user:1", 0, 0x3b57_7afd_7fed_9501),
            (b"user:1", 1, 0x5c65_014e_34b3_866a),
            (&counting[..17], 1, 0xc44e_8660_40ed_1467),
            (&counting, 1, 0x524d_d680_2085_15eb),
        ];
        let got = vectors.map(|(key, seed, _)| (key, seed, TokenHash::Seeded(seed).token_of(key).0));
        assert_eq!(got, vectors);
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", TokenHash::Secret([0xab; 16])), "Secret(..)");
        assert_eq!(format!("{:?}", TokenHash::Seeded(7)), "Seeded(0x7)");
    }
}
