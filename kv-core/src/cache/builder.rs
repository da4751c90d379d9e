use std::fmt;

use super::entry::ENTRY_BYTES;
use super::error::InvalidCache;
use super::shard::Shard;
use crate::evict::{Policy, PolicyKind};
use crate::time::WallClock;

/// What goes when a put would exceed the bound.
#[derive(Copy, Clone, Debug)]
pub enum Eviction {
    /// Nothing: the put is refused (Redis: `noeviction`).
    Never,
    /// Any entry, as the policy chooses (Redis: `allkeys-*`).
    AllKeys(PolicyKind),
    /// Only entries with a time to live, as the policy chooses; the put is refused when they are not enough (Redis:
    /// `volatile-*`).
    OnlyExpiring(PolicyKind),
    /// As a policy of the caller's own chooses.
    Custom {
        /// Makes it, for each shard, from its bound in bytes and a seed.
        make: fn(capacity_bytes: u64, seed: u64) -> Box<dyn Policy>,
        /// Whether only entries with a time to live go, as with [`Eviction::OnlyExpiring`].
        only_expiring: bool,
    },
}

impl Eviction {
    const fn only_expiring(self) -> bool {
        match self {
            Self::Never | Self::AllKeys(_) => false,
            Self::OnlyExpiring(_) => true,
            Self::Custom { only_expiring, .. } => only_expiring,
        }
    }

    fn policy(self, capacity_bytes: u64, seed: u64) -> Option<Box<dyn Policy>> {
        match self {
            Self::Never => None,
            Self::AllKeys(kind) | Self::OnlyExpiring(kind) => Some(kind.build(capacity_bytes, seed)),
            Self::Custom { make, .. } => Some(make(capacity_bytes, seed)),
        }
    }
}

impl Default for Eviction {
    fn default() -> Self {
        Self::AllKeys(PolicyKind::default())
    }
}

/// A small cache is not split: a shard takes no entry that is larger than itself.
const SHARD_BYTES_MIN: u64 = 1 << 20;
const SHARDS_MAX: u64 = 64;

/// Settings of a [`Cache`](super::Cache).
#[must_use = "a builder does nothing before it builds"]
pub struct CacheBuilder {
    capacity_bytes: u64,
    eviction: Eviction,
    shards: Option<usize>,
    seed: u64,
    clock: Option<WallClock>,
}

impl CacheBuilder {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, eviction: Eviction::default(), shards: None, seed: 0, clock: None }
    }

    /// What goes when there is no room. Unless said otherwise any key may, and S3-FIFO chooses.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// How many parts, each with its own lock and an equal part of the bound. With more of them threads that write
    /// wait less for each other, and the largest entry is smaller, because it fits into one. Unless said otherwise
    /// there is one for each mebibyte, and there are at most 64.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Makes the placement of keys differ from other caches'. Where strangers choose the keys it should come from a
    /// random source, so that they cannot choose ones that collide.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Tells the wall time, in which expiries are given. It is read by calls that concern an entry with a time to
    /// live, on the path of [`Cache::get`](super::Cache::get) too, and under a lock, so it is quick and does not come
    /// back to the cache: a host that turns a loop, or has a timer, may store the time in an atomic at each turn and
    /// read it from there. When the clock goes back, what has been reclaimed stays away.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Checks the settings, once, and makes what a cache is made of.
    pub(super) fn parts(self) -> Result<Parts, InvalidCache> {
        let Self { capacity_bytes, eviction, shards, seed, clock } = self;
        if capacity_bytes == 0 {
            return Err(InvalidCache::ZeroCapacity);
        }
        let shards = match shards {
            Some(0) => return Err(InvalidCache::ZeroShards),
            Some(shards) => shards as u64,
            None => (capacity_bytes / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX),
        };
        let shard_bytes = capacity_bytes / shards;
        if shard_bytes < ENTRY_BYTES {
            return Err(InvalidCache::ShardTooSmall { shard_bytes, shard_bytes_min: ENTRY_BYTES });
        }
        if clock.is_none() && eviction.only_expiring() {
            return Err(InvalidCache::NoClock);
        }
        let now = clock.as_ref().map(|clock| clock()).unwrap_or_default();
        let shards = (0..shards).map(|number| {
            let policy = eviction.policy(shard_bytes, seed ^ number);
            Shard::new(shard_bytes, seed, policy, eviction.only_expiring(), now)
        });
        Ok(Parts { shards: shards.collect(), seed, clock })
    }
}

/// What settings come to.
pub(super) struct Parts {
    pub(super) shards: Vec<Shard>,
    pub(super) seed: u64,
    pub(super) clock: Option<WallClock>,
}

impl fmt::Debug for CacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder")
            .field("capacity_bytes", &self.capacity_bytes)
            .field("eviction", &self.eviction)
            .field("shards", &self.shards)
            .field("clock", &self.clock.is_some())
            .finish_non_exhaustive()
    }
}
