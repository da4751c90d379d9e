//! A short stand-in for a record: equal digests mean equal records.
//!
//! Equal states have equal bytes, so a hash of the bytes is enough. It is not keyed, because peers are trusted.

use kv_core::hash::seeded;

const LOWER_SEED: u64 = 0x6c6f_7765_725f_6469;
const UPPER_SEED: u64 = 0x7570_7065_725f_6469;

/// The digest of a record's bytes, or of none: two XXH3-64 with seeds of their own, lower half first.
#[must_use]
pub(crate) fn digest(record: Option<&[u8]>) -> u128 {
    let bytes = record.unwrap_or_default();
    u128::from(seeded(bytes, LOWER_SEED)) | u128::from(seeded(bytes, UPPER_SEED)) << 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_differ_in_both_halves() {
        let (one, other, none) = (digest(Some(b"one")), digest(Some(b"other")), digest(None));
        for (a, b) in [(one, other), (one, none), (other, none)] {
            assert!(a << 64 != b << 64 && a >> 64 != b >> 64);
        }
        assert_eq!(digest(Some(b"one")), one);
    }
}
