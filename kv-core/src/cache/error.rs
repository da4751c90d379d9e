use thiserror::Error;

use crate::expiry::InvalidTtl;

/// Settings that no cache can have.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum InvalidCache {
    /// A bound of no bytes.
    #[error("a cache of zero bytes")]
    ZeroCapacity,
    /// No shard to put anything into.
    #[error("a cache of zero shards")]
    ZeroShards,
    /// A shard that could not even hold an empty entry.
    #[error("{shard_bytes} bytes for each shard, of the {shard_bytes_min} that an empty entry takes")]
    ShardTooSmall {
        /// What each shard would have.
        shard_bytes: u64,
        /// What it must have.
        shard_bytes_min: u64,
    },
    /// Only entries with a time to live are to be evicted, and without a clock there are none.
    #[error("evicting only what expires needs a clock")]
    NoClock,
}

/// A time to live that was refused. Nothing changed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum TtlError {
    /// It is zero, or past the end of time.
    #[error(transparent)]
    Invalid(#[from] InvalidTtl),
    /// The cache was built without a clock, so nothing in it can expire.
    #[error("a cache without a clock")]
    NoClock,
}

/// A put that was refused. The cache is as before, except that what had expired may have been reclaimed; an earlier
/// value of the key is still there.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum PutError {
    /// It would not fit if nothing else were there.
    #[error("an entry of {bytes} bytes, of at most {bytes_max}")]
    TooLarge {
        /// What the entry costs.
        bytes: u64,
        /// The bound of one shard.
        bytes_max: u64,
    },
    /// There is no room, and too little that may be evicted.
    #[error("an entry of {bytes} bytes does not fit, and too little may be evicted")]
    Full {
        /// What the entry costs.
        bytes: u64,
    },
    /// The time to live.
    #[error(transparent)]
    Ttl(#[from] TtlError),
}
