//! The name of a member of the cluster.

use std::fmt;

/// The name an operator gives a node. Zero is reserved for "nobody".
///
/// The name alone is no proof of identity: a node whose disk was replaced keeps its name and gets a new incarnation
/// (see [`crate::version::Actor`]).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct NodeId(pub u64);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}
