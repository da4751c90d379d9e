//! Who may hold replicas: a name, a weight and a zone.

use std::{fmt, sync::Arc};

use kv_core::NodeId;

/// The share of a node, relative to the others; a node of weight 2 is meant to hold twice what a node of weight 1 holds.
/// Zero drains a node: it stays a member and gets nothing.
///
/// Only ratios count. Take what the scarcest resource dictates, for instance the gigabytes of disk divided by 100.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Weight(pub u32);

/// Nodes that fail together: a rack, a building, a cloud provider's availability zone. Replicas of one partition go to
/// different zones as far as there are enough of them.
///
/// Equal names are one zone, the empty name of [`Zone::default`] included. A cluster that has no zones leaves all its nodes
/// in the default one.
#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Zone(Arc<str>);

impl Zone {
    /// The longest name a layout accepts.
    pub const NAME_BYTES_MAX: usize = 255;

    /// A zone by its name. A name longer than [`Zone::NAME_BYTES_MAX`] is refused when the layout is built.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({:?})", self.name())
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if self.0.is_empty() { "-" } else { self.name() })
    }
}

/// A node as the layout knows it. Addresses and liveness are not here: they change without anybody deciding so, and travel
/// by gossip; ownership does not.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Member {
    /// The node's name.
    pub id: NodeId,
    /// Its share.
    pub weight: Weight,
    /// Where it stands.
    pub zone: Zone,
}
