use super::{Fifo, Lfu, Lru, Policy, Random, S3Fifo, Sieve, Soonest, WTinyLfu};

/// Names a policy of this crate, and makes it.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
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
}

impl PolicyKind {
    /// All of them.
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
        }
    }

    /// Its number in encodings.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fifo => 1,
            Self::Lru => 2,
            Self::Lfu => 3,
            Self::WTinyLfu => 4,
            Self::S3Fifo => 5,
            Self::Sieve => 6,
            Self::Random => 7,
            Self::Soonest => 8,
        }
    }

    /// The policy of a number, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_a_number_that_never_changes() {
        let codes = PolicyKind::ALL.map(PolicyKind::code);
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7, 8], "in the order of their names above");
        for kind in PolicyKind::ALL {
            assert_eq!(PolicyKind::from_code(kind.code()), Some(kind));
        }
        assert!([0, 9, u8::MAX].into_iter().all(|code| PolicyKind::from_code(code).is_none()));
    }
}
