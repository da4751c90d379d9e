//! The hash space cut into 2^q equal ranges. A token's top q bits name its partition.

use std::{fmt, ops::RangeInclusive};

use kv_core::hash::Token;

/// The number of a partition: 0 holds the smallest tokens.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// How the hash space is cut: a count that is known to be a power of two, from 1 to [`Partitions::MAX`].
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Partitions {
    /// q, at most 24.
    bits: u32,
}

impl Partitions {
    /// 2^24: beyond it a partition is too small for the bookkeeping it costs.
    pub(crate) const MAX: u32 = 1 << 24;

    pub(crate) const fn new(count: u32) -> Option<Self> {
        if count.is_power_of_two() && count <= Self::MAX { Some(Self { bits: count.trailing_zeros() }) } else { None }
    }

    pub(crate) const fn count(self) -> u32 {
        1 << self.bits
    }

    pub(crate) const fn bits(self) -> u32 {
        self.bits
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "at most 24 bits are left")]
    pub(crate) const fn of(self, token: Token) -> PartitionId {
        // Two shifts, because a single one by 64 (one partition) is no shift at all.
        PartitionId(((token.0 >> 1) >> (63 - self.bits)) as u32)
    }

    pub(crate) const fn range_of(self, partition: PartitionId) -> RangeInclusive<Token> {
        assert!(partition.0 < self.count(), "a partition of another layout");
        let first = if self.bits == 0 { 0 } else { (partition.0 as u64) << (64 - self.bits) };
        let below = u64::MAX >> self.bits;
        Token(first)..=Token(first | below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_tile_the_hash_space_and_agree_with_the_lookup() {
        for count in [1, 2, 8, 1024] {
            let partitions = Partitions::new(count).unwrap();
            let mut next = 0_u64;
            for partition in (0..count).map(PartitionId) {
                let range = partitions.range_of(partition);
                assert_eq!(range.start().0, next, "no gap before {partition} of {count}");
                assert_eq!(partitions.of(*range.start()), partition);
                assert_eq!(partitions.of(*range.end()), partition);
                next = range.end().0.wrapping_add(1);
            }
            assert_eq!(next, 0, "the last range ends with the last token");
        }
        let most = Partitions::new(Partitions::MAX).unwrap();
        assert_eq!(most.of(Token(u64::MAX)), PartitionId(Partitions::MAX - 1));
        assert_eq!(*most.range_of(PartitionId(1)).start(), Token(1 << 40));
    }

    #[test]
    fn only_powers_of_two_up_to_the_limit_are_counts() {
        for bad in [0, 3, 1000, Partitions::MAX + 1, Partitions::MAX * 2] {
            assert_eq!(Partitions::new(bad), None, "{bad}");
        }
        assert_eq!(Partitions::new(1).map(Partitions::count), Some(1));
    }
}
