//! What two replicas say to each other while they compare what they hold of one partition.
//!
//! The one that begins asks, the other one answers and keeps nothing in mind between two questions, so a question that is
//! lost, doubled or repeated does no harm.

use std::ops::RangeInclusive;

use bytes::Bytes;
use kv_core::hash::Token;
use kv_core::hlc::Stamp;
use kv_core::key::{RecordKey, TableId};
use kv_ring::PartitionId;

/// One partition of one table: what one comparison is about.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Place {
    /// The table.
    pub table: TableId,
    /// Which part of its hash space.
    pub partition: PartitionId,
}

/// Up to where a place is settled and purged at a replica; the second is at most the first.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Level {
    /// All replicas hold the same of what was born at or below it, and nothing of that age is minted any more.
    pub settled: Stamp,
    /// Of what was born at or below it, tombstones and expired versions are dropped.
    pub purged: Stamp,
}

impl Level {
    /// The higher of each.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self { settled: self.settled.max(other.settled), purged: self.purged.max(other.purged) }
    }

    /// Whether neither is below that of the other.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.join(other) == self
    }
}

/// What the replica that leads a place to a higher floor asks of each.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum FloorStep {
    /// "Promise that you mint nothing born at or below this. I am at that level."
    Promise {
        /// Up to where.
        up_to: Stamp,
        /// That of the one that asks.
        level: Level,
    },
    /// "All have promised, and all hold the same since: this is the level from now on."
    Raise(Level),
}

/// What it is answered. Everything it speaks of is durable there.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum FloorAnswer {
    /// "I promise."
    Promised {
        /// A hash of the lives in which the replica knows all replicas of the place, itself included.
        lives: u64,
    },
    /// "No more than this: what was born after it is still under way, or kept for others, or my clock has not come to it."
    Able(Stamp),
    /// "I am at another level than you, or have yet to drop what is below it."
    Unequal(Level),
    /// "So be it."
    Raised {
        /// The replica has never minted a stamp above this one.
        clock: Stamp,
    },
}

/// A branch of the hash tree over a partition: one of the 2^depth equal ranges that its tokens are cut into. What a branch
/// covers follows from its name, so two replicas mean the same by it, whatever each of them has cut its own tree into.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Branch {
    depth: u8,
    index: u64,
}

impl Branch {
    /// The whole partition.
    pub const ROOT: Self = Self { depth: 0, index: 0 };

    /// The branch of that name, or `None` when a tree of 64-bit tokens has no such branch.
    #[must_use]
    pub const fn new(depth: u8, index: u64) -> Option<Self> {
        let exists = depth <= 64 && (depth == 64 || index >> depth == 0);
        if exists { Some(Self { depth, index }) } else { None }
    }

    /// How many times the partition is halved above it.
    #[must_use]
    pub const fn depth(self) -> u8 {
        self.depth
    }

    /// Which of the branches of its depth, counted from the smallest token.
    #[must_use]
    pub const fn index(self) -> u64 {
        self.index
    }

    /// The branches that are `levels` further down: 2^levels.
    ///
    /// # Panics
    /// When they would be deeper than 64.
    pub fn children(self, levels: u8) -> impl Iterator<Item = Self> {
        let depth = self.depth + levels;
        assert!(depth <= 64, "a token has 64 bits");
        (0..1_u64 << levels).map(move |child| Self { depth, index: self.index << levels | child })
    }

    /// The tokens it covers of a partition that covers `partition`, or `None` when a single token lies above it.
    #[must_use]
    pub fn tokens(self, partition: &RangeInclusive<Token>) -> Option<RangeInclusive<Token>> {
        let (first, last) = (partition.start().0, partition.end().0);
        let below = token_bits(partition).checked_sub(self.depth)?;
        if below == 64 {
            return Some(Token(first)..=Token(last));
        }
        let start = first | self.index << below;
        Some(Token(start)..=Token(start | ((1 << below) - 1)))
    }
}

/// How deep the tree of a partition can be: down to single tokens.
#[must_use]
pub fn token_bits(partition: &RangeInclusive<Token>) -> u8 {
    let span = partition.end().0 - partition.start().0;
    u8::try_from(u64::BITS - span.leading_zeros()).expect("at most 64")
}

/// One record in a list: short names for its key and for its state, by hashes that members of a cluster share.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Entry {
    /// Of the key.
    pub key: u64,
    /// Of the versions, their births and expiries, and what they have replaced.
    pub state: u64,
}

/// The records of a branch, or the first ones of many.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Page {
    /// In the order of keys.
    pub entries: Vec<Entry>,
    /// The key of the last one when more follow.
    pub end: Option<RecordKey>,
}

/// What the one that began asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Question {
    /// "This is the hash of what I hold in these branches. In which do you hold something else?"
    Compare(Vec<(Branch, u128)>),
    /// "Which records do you hold in this branch, after this key?"
    List {
        /// Where.
        branch: Branch,
        /// From the start of the branch when there is none.
        after: Option<RecordKey>,
    },
    /// "Send me these of them."
    Fetch {
        /// Where.
        branch: Branch,
        /// As in the list.
        after: Option<RecordKey>,
        /// The names of their keys.
        keys: Vec<u64>,
    },
    /// "Join these."
    Join(Vec<(RecordKey, Bytes)>),
}

/// A branch in which the two hold something else.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Differing {
    /// Which of those that were asked about.
    pub position: u32,
    /// How many records the one that answers holds there, or more.
    pub records: u64,
}

/// What the other one answers. Everything it speaks of is durable there.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// "I am still reading; ask again."
    Working,
    /// To [`Question::Compare`].
    Differ {
        /// The branches in which the two hold something else.
        differing: Vec<Differing>,
        /// Up to where the place is settled at the one that answers: a new storage mints nothing that old.
        settled: Stamp,
    },
    /// To [`Question::List`].
    List(Page),
    /// To [`Question::Fetch`]: as many as fit, at least one if there is any.
    Records(Vec<(RecordKey, Bytes)>),
    /// To [`Question::Join`]: which of them are now something else here than what was sent, and worth fetching.
    Joined(Vec<u32>),
}

impl Question {
    /// About how many bytes it takes in a frame.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Compare(branches) => branches.len() * 20,
            Self::List { after, .. } => key_bytes(after.as_ref()),
            Self::Fetch { after, keys, .. } => key_bytes(after.as_ref()) + keys.len() * 8,
            Self::Join(records) => records_bytes(records),
        }
    }
}

impl Answer {
    /// About how many bytes it takes in a frame.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Working => 1,
            Self::Differ { differing, .. } => 9 + differing.len() * 4,
            Self::List(page) => page.entries.len() * 16 + key_bytes(page.end.as_ref()),
            Self::Records(records) => records_bytes(records),
            Self::Joined(positions) => positions.len() * 2,
        }
    }
}

fn key_bytes(key: Option<&RecordKey>) -> usize {
    key.map_or(1, |key| key.as_bytes().len() + 2)
}

fn records_bytes(records: &[(RecordKey, Bytes)]) -> usize {
    records.iter().map(|(key, record)| key.as_bytes().len() + record.len() + 5).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_of_one_depth_tile_the_partition() {
        for partition in [Token(0)..=Token(u64::MAX), Token(3 << 60)..=Token((4 << 60) - 1), Token(7)..=Token(7)] {
            let bits = token_bits(&partition);
            for depth in [0, 1, 4, 9].into_iter().filter(|depth| *depth <= bits) {
                let mut next = Some(partition.start().0);
                for branch in Branch::ROOT.children(depth) {
                    let tokens = branch.tokens(&partition).expect("not too deep");
                    assert_eq!(Some(tokens.start().0), next, "{branch:?} of {partition:?}");
                    next = tokens.end().0.checked_add(1);
                }
                assert_eq!(next, partition.end().0.checked_add(1));
            }
            let deepest = Branch::new(bits, 0).expect("there is one");
            assert_eq!(deepest.tokens(&partition), Some(*partition.start()..=*partition.start()));
            assert_eq!(Branch::new(bits + 1, 0).and_then(|branch| branch.tokens(&partition)), None);
        }
    }

    #[test]
    fn children_lie_within_their_branch() {
        let partition = Token(0)..=Token(u64::MAX);
        let branch = Branch::new(5, 17).expect("it exists");
        let tokens = branch.tokens(&partition).expect("not too deep");
        let children: Vec<_> =
            branch.children(4).map(|child| child.tokens(&partition).expect("not too deep")).collect();
        assert_eq!(children.len(), 16);
        assert_eq!((children[0].start(), children[15].end()), (tokens.start(), tokens.end()));
    }

    #[test]
    fn there_is_no_branch_beyond_its_depth() {
        assert!(Branch::new(3, 7).is_some() && Branch::new(3, 8).is_none());
        assert!(Branch::new(64, u64::MAX).is_some() && Branch::new(65, 0).is_none());
    }
}
