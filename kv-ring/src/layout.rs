//! The layout of a cluster: one immutable, versioned value that says who owns what.

use std::ops::RangeInclusive;

use kv_core::{
    NodeId,
    hash::{Token, token_of},
};

use crate::{
    assignment::Assignment,
    class::{ClassId, PlacementClass},
    epoch::Epoch,
    node::{Member, Zone},
    partition::{PartitionId, Partitions},
};

/// Who owns what: members with weights and zones, and for each of the 2^q partitions of the hash space the nodes that hold
/// its replicas, in order of preference.
///
/// Tables with other needs than most (five replicas, zones that do not matter) have a [`PlacementClass`] of their own, and
/// each class its [`Assignment`]; all of them are of one epoch and change together. What is said here without
/// naming a class is of the first.
///
/// A layout is a value. It never changes; a cluster moves from one to the next, and the epochs say which is later. Every
/// node holds the whole of it, so a key is routed without asking anybody: [`Layout::replicas_of`] is two shifts and a slice of
/// a flat array.
///
/// Partitions with an explicit table, instead of random tokens on a ring, follow Dynamo's third strategy (DeCandia et al.,
/// *Dynamo: Amazon's Highly Available Key-value Store*, SOSP 2007, section 6.2).
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Layout {
    contents: Contents,
    hash: u64,
}

/// All of a layout but its hash, which is computed from this.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Contents {
    pub(crate) epoch: Epoch,
    pub(crate) partitions: Partitions,
    /// In the order of ids, without duplicates.
    pub(crate) members: Box<[Member]>,
    /// Class by class, and at least one.
    pub(crate) assignments: Box<[Assignment]>,
}

impl Layout {
    /// The most replicas of one partition.
    pub const REPLICAS_MAX: usize = 32;

    /// The most placement classes.
    pub const CLASSES_MAX: usize = 16;

    /// The most members, drained ones included.
    pub const MEMBERS_MAX: usize = 65_535;

    /// The most partitions.
    pub const PARTITIONS_MAX: u32 = Partitions::MAX;

    pub(crate) fn new(contents: Contents, hash: u64) -> Self {
        Self { contents, hash }
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The nodes that hold `token`, in order of preference: the first is the primary. As many as
    /// [`Layout::replication_factor`], all distinct.
    #[inline]
    #[must_use]
    pub fn replicas_of(&self, token: Token) -> &[NodeId] {
        self.contents.assignments[0].replicas_of(token)
    }

    /// The token of a partition key; the same in every layout (see [`kv_core::hash`]).
    #[inline]
    #[must_use]
    pub fn token_of(&self, partition_key: &[u8]) -> Token {
        token_of(partition_key)
    }

    /// The partition that `token` falls into.
    #[inline]
    #[must_use]
    pub fn partition_of(&self, token: Token) -> PartitionId {
        self.contents.partitions.of(token)
    }

    /// The nodes that hold a partition, in order of preference: the first is the primary.
    ///
    /// # Panics
    /// When the layout has no such partition; check numbers that came from outside against [`Layout::partitions`].
    #[inline]
    #[must_use]
    pub fn replicas(&self, partition: PartitionId) -> &[NodeId] {
        self.contents.assignments[0].replicas(partition)
    }

    /// The tokens of a partition, first and last.
    ///
    /// # Panics
    /// When the layout has no such partition.
    #[must_use]
    pub fn range_of(&self, partition: PartitionId) -> RangeInclusive<Token> {
        self.contents.partitions.range_of(partition)
    }

    /// How many partitions there are. Fixed for the life of a cluster.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.contents.partitions.count()
    }

    /// All partitions, in the order of their tokens.
    pub fn partition_ids(&self) -> impl ExactSizeIterator<Item = PartitionId> + use<> {
        (0..self.partitions()).map(PartitionId)
    }

    /// The partitions that a node holds a replica of, in the order of their tokens. Looks through the whole layout.
    pub fn partitions_of(&self, node: NodeId) -> impl Iterator<Item = PartitionId> + '_ {
        self.contents.assignments[0].partitions_of(node)
    }

    /// How many replicas each partition has.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.contents.assignments[0].class().replicas
    }

    /// The assignments of all classes, by number; there is at least one.
    #[must_use]
    pub fn assignments(&self) -> &[Assignment] {
        &self.contents.assignments
    }

    /// The assignment of one class; `None` when the layout has no such class.
    #[must_use]
    pub fn assignment(&self, class: ClassId) -> Option<&Assignment> {
        self.contents.assignments.get(usize::from(class.0))
    }

    /// The numbers of all classes.
    pub fn classes(&self) -> impl ExactSizeIterator<Item = ClassId> + use<> {
        (0..self.contents.assignments.len()).map(|number| ClassId(u8::try_from(number).expect("at most CLASSES_MAX")))
    }

    /// The number of the class that places as asked, if there is one.
    #[must_use]
    pub fn class_of(&self, class: PlacementClass) -> Option<ClassId> {
        self.classes().find(|&id| self.contents.assignments[usize::from(id.0)].class() == class)
    }

    /// The version of this layout.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.contents.epoch
    }

    /// All members, drained ones included, in the order of their ids.
    #[must_use]
    pub fn nodes(&self) -> &[Member] {
        &self.contents.members
    }

    /// The member of that name.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.contents.member_index(node).map(|index| &self.contents.members[index])
    }

    /// A hash of the encoded layout, the same on every machine and in every release that writes this format. Two layouts
    /// of one epoch with different hashes mean that the cluster was founded twice, or that somebody lies.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl Contents {
    pub(crate) fn member_index(&self, node: NodeId) -> Option<usize> {
        self.members.binary_search_by_key(&node, |member| member.id).ok()
    }

    /// Members numbered zone by zone: the names in order, and the number of each member's zone.
    pub(crate) fn zones(&self) -> (Vec<Zone>, Vec<usize>) {
        let mut names: Vec<_> = self.members.iter().map(|member| member.zone.clone()).collect();
        names.sort_unstable();
        names.dedup();
        let number = |member: &Member| names.binary_search(&member.zone).expect("every member's zone was collected");
        let zone_of = self.members.iter().map(number).collect();
        (names, zone_of)
    }
}
