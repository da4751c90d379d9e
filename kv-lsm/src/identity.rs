//! What ties a block to its file and its place in it (rule E14).

use kv_core::hash::seeded;

/// The identity of a file, stored in it and in the manifest: XXH3-64 of its number, seeded with that of the database.
pub(crate) fn file_identity(database: u64, number: u64) -> u64 {
    seeded(&number.to_le_bytes(), database)
}

/// What the checksum of a block at `offset` is seeded with.
pub(crate) fn place_seed(identity: u64, offset: u64) -> u64 {
    if sabotaged!(ChecksumWithoutPlace) {
        return identity;
    }
    // An odd multiplier keeps distinct offsets of one file distinct.
    identity ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
