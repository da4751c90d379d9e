//! The table of one placement class: which nodes hold which partition.

use kv_core::{NodeId, hash::Token};

use crate::{
    class::PlacementClass,
    partition::{PartitionId, Partitions},
};

/// For each of the 2^q partitions the nodes that hold its replicas, in order of preference. One of a layout's; from
/// [`crate::Layout::assignment`].
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Assignment {
    class: PlacementClass,
    partitions: Partitions,
    /// `class.replicas` distinct members per partition.
    holders: Box<[NodeId]>,
}

impl Assignment {
    pub(crate) fn new(class: PlacementClass, partitions: Partitions, holders: Box<[NodeId]>) -> Self {
        assert_eq!(holders.len(), partitions.count() as usize * class.replicas, "a holder for every slot");
        Self { class, partitions, holders }
    }

    /// What it was made for.
    #[must_use]
    pub fn class(&self) -> PlacementClass {
        self.class
    }

    /// The nodes that hold `token`, in order of preference: the first is the primary. As many as the class has replicas,
    /// all distinct.
    #[inline]
    #[must_use]
    pub fn replicas_of(&self, token: Token) -> &[NodeId] {
        self.replicas(self.partitions.of(token))
    }

    /// The nodes that hold a partition, in order of preference: the first is the primary.
    ///
    /// # Panics
    /// When the layout has no such partition; check numbers that came from outside against [`crate::Layout::partitions`].
    #[inline]
    #[must_use]
    pub fn replicas(&self, partition: PartitionId) -> &[NodeId] {
        let start = partition.0 as usize * self.class.replicas;
        &self.holders[start..start + self.class.replicas]
    }

    /// The partitions that a node holds a replica of, in the order of their tokens. Looks through the whole table.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        self.rows().filter(move |(_, row)| row.contains(&node)).map(|(partition, _)| partition)
    }

    /// All partitions with their nodes, in the order of their tokens.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (PartitionId, &[NodeId])> {
        (0..self.partitions.count()).map(PartitionId).zip(self.holders.chunks_exact(self.class.replicas))
    }

    pub(crate) fn holders(&self) -> &[NodeId] {
        &self.holders
    }
}
