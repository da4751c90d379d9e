use super::{Fifo, Lfu, Lru, Policy, Random, S3Fifo, Sieve, Soonest, WTinyLfu};

/// Names a policy, and makes it.
#[derive(Copy, Clone, Debug, Default)]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`Fifo`].
    Fifo,
    /// [`Lru`].
    Lru,
    /// [`Lfu`].
    Lfu,
    /// [`WTinyLfu`].
    WTinyLfu,
    /// [`S3Fifo`]: a good first choice.
    #[default]
    S3Fifo,
    /// [`Sieve`].
    Sieve,
    /// [`Random`].
    Random,
    /// [`Soonest`].
    Soonest,
    /// One of the caller's own: a function from the bound in bytes and a seed.
    Custom(fn(capacity_bytes: u64, seed: u64) -> Box<dyn Policy>),
}

impl PolicyKind {
    /// Every policy of this crate.
    pub const ALL: [Self; 8] =
        [Self::Fifo, Self::Lru, Self::Lfu, Self::WTinyLfu, Self::S3Fifo, Self::Sieve, Self::Random, Self::Soonest];

    /// An empty policy for a cache with this bound. The seed is for what is random.
    #[must_use]
    pub fn build(self, capacity_bytes: u64, seed: u64) -> Box<dyn Policy> {
        match self {
            Self::Fifo => Box::new(Fifo::new()),
            Self::Lru => Box::new(Lru::new()),
            Self::Lfu => Box::new(Lfu::new()),
            Self::WTinyLfu => Box::new(WTinyLfu::new(capacity_bytes)),
            Self::S3Fifo => Box::new(S3Fifo::new(capacity_bytes)),
            Self::Sieve => Box::new(Sieve::new()),
            Self::Random => Box::new(Random::new(seed)),
            Self::Soonest => Box::new(Soonest::new()),
            Self::Custom(make) => make(capacity_bytes, seed),
        }
    }
}
