//! How many replicas an operation needs, and which.

pub(crate) mod requirement;

use std::fmt;

pub use requirement::TooFewReplicas;

/// How many replicas must answer before a request is answered, and in which zones. A table has one for reads and one for
/// writes; each request can name another.
///
/// With N replicas, a read of R and a write of W see each other when R + W > N; `Quorum` with `Quorum` always does. Which
/// pairs do is listed in `docs/consistency.md`. The local levels count the replicas in the zone of the node that takes the
/// request; where nobody names zones, all nodes are in one. A level that the replicas of a key can never meet is refused
/// before anything is sent.
///
/// The names are those of Cassandra.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Consistency {
    /// Any one replica. Fastest; a read may miss writes that were acknowledged.
    One,
    /// Any two.
    Two,
    /// Any three.
    Three,
    /// More than half.
    Quorum,
    /// Every replica. A single one that is away fails the request.
    All,
    /// Any one in the zone of the node that takes the request.
    LocalOne,
    /// More than half of those in the zone of the node that takes the request. Requests in other zones do not count on them:
    /// reads and writes meet when both come from one zone.
    LocalQuorum,
    /// More than half of those in each zone that has any. Meets with every quorum, local ones too, whatever the zone.
    EachQuorum,
}

impl Consistency {
    /// All there are.
    pub const EVERY: [Self; 8] = [
        Self::One,
        Self::Two,
        Self::Three,
        Self::Quorum,
        Self::All,
        Self::LocalOne,
        Self::LocalQuorum,
        Self::EachQuorum,
    ];

    /// The smallest number of replicas that a table must have for the level to be met at all, wherever they are.
    #[must_use]
    pub const fn replicas_min(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Three => 3,
            _ => 1,
        }
    }

    /// Whether whoever meets it is more than half of `replicas`, wherever they are. Such levels meet each other, so what was
    /// acknowledged at one is seen at every other.
    #[must_use]
    pub const fn is_quorum_of(self, replicas: usize) -> bool {
        match self {
            Self::One => majority(replicas) <= 1,
            Self::Two => majority(replicas) <= 2,
            Self::Three => majority(replicas) <= 3,
            Self::Quorum | Self::All | Self::EachQuorum => true,
            Self::LocalOne | Self::LocalQuorum => false,
        }
    }

    /// Whether it depends on the zone of the node that takes the request.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::LocalOne | Self::LocalQuorum)
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::One => "one",
            Self::Two => "two",
            Self::Three => "three",
            Self::Quorum => "quorum",
            Self::All => "all",
            Self::LocalOne => "local one",
            Self::LocalQuorum => "local quorum",
            Self::EachQuorum => "each quorum",
        })
    }
}

/// The smallest number that any other such number of the same `members` meets in at least one.
#[must_use]
pub const fn majority(members: usize) -> usize {
    members / 2 + 1
}
