//! What a table asks of its placement: how many replicas, and what zones mean to them.

use std::fmt;

/// The number of a placement class within a layout: 0 is the one that the layout was built with, the others follow in the
/// order in which they were added. Numbers stay what they are from epoch to epoch.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct ClassId(pub u8);

impl ClassId {
    /// The class that [`crate::Layout::replicas_of`] answers for.
    pub const FIRST: Self = Self(0);
}

impl fmt::Display for ClassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {}", self.0)
    }
}

/// What zones mean to the replicas of one partition.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug, Default)]
pub enum ZoneRule {
    /// In different zones as far as there are enough, else as evenly as can be; [`crate::Layout::report`] says when replicas
    /// have to share one.
    #[default]
    Spread,
    /// In different zones, and no layout at all where there are too few ([`crate::LayoutError::TooFewZones`]).
    Distinct,
    /// Anywhere: shares follow weights alone. For what may be lost with a zone, such as caches.
    Ignore,
}

impl fmt::Display for ZoneRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spread => "spread over zones",
            Self::Distinct => "distinct zones",
            Self::Ignore => "zones ignored",
        })
    }
}

/// Tables of equal needs share one assignment of partitions to nodes: their class.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct PlacementClass {
    /// The replicas of every partition, from 1 to [`crate::Layout::REPLICAS_MAX`].
    pub replicas: usize,
    /// How they lie in zones.
    pub zones: ZoneRule,
}

impl PlacementClass {
    /// So many replicas, spread over zones.
    #[must_use]
    pub const fn replicas(replicas: usize) -> Self {
        Self { replicas, zones: ZoneRule::Spread }
    }
}

impl fmt::Display for PlacementClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} replicas, {}", self.replicas, self.zones)
    }
}
