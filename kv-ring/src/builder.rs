//! From members and their weights to a layout.

use kv_core::NodeId;
use thiserror::Error;

use crate::{
    assign::{self, HOLE, Index, Previous, Problem},
    codec,
    epoch::Epoch,
    layout::{Contents, Layout},
    node::{Member, Weight, Zone},
    partition::Partitions,
    primaries,
    targets::{Demand, Targets},
};

/// What to build; from [`Layout::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct LayoutBuilder {
    replicas: usize,
    partitions: Option<u32>,
    members: Vec<Member>,
    earlier: Option<Layout>,
}

/// Why no layout can be built as asked.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
pub enum LayoutError {
    /// A partition without replicas is nowhere.
    #[error("the replication factor is zero")]
    NoReplicas,
    /// More replicas per partition than a layout can say.
    #[error("{replicas} replicas of each partition; the most is {}", Layout::REPLICAS_MAX)]
    TooManyReplicas {
        /// As asked.
        replicas: usize,
    },
    /// A token's top bits name its partition, so the number is a power of two; and it has a limit.
    #[error("{partitions} partitions; a power of two up to {} is needed", Layout::PARTITIONS_MAX)]
    PartitionCount {
        /// As asked.
        partitions: u32,
    },
    /// The number of partitions is fixed for the life of a cluster.
    #[error("{wanted} partitions, but the earlier layout has {had}")]
    PartitionsChanged {
        /// Of the earlier layout.
        had: u32,
        /// As asked.
        wanted: u32,
    },
    /// One name, two nodes.
    #[error("{0} is named twice")]
    DuplicateNode(NodeId),
    /// Zero is reserved for "nobody".
    #[error("node id 0 is reserved")]
    ReservedNode,
    /// More members than a layout can say.
    #[error("{nodes} nodes; the most is {}", Layout::MEMBERS_MAX)]
    TooManyNodes {
        /// As asked.
        nodes: usize,
    },
    /// All nodes are drained, or there are none: nobody is left to hold anything.
    #[error("no node has a weight above zero")]
    NoWeight,
    /// Each replica of a partition needs a node of its own.
    #[error("{replicas} replicas need as many nodes with a weight, there are {nodes}")]
    TooFewNodes {
        /// As asked.
        replicas: usize,
        /// Those with a weight above zero.
        nodes: usize,
    },
    /// A zone's name over [`Zone::NAME_BYTES_MAX`].
    #[error("the zone name of {node} has {bytes} bytes; the most is {}", Zone::NAME_BYTES_MAX)]
    ZoneName {
        /// Whose zone.
        node: NodeId,
        /// How long the name is.
        bytes: usize,
    },
}

impl Layout {
    /// Starts a layout in which every partition has `replicas` replicas.
    pub fn builder(replicas: usize) -> LayoutBuilder {
        LayoutBuilder { replicas, partitions: None, members: Vec::new(), earlier: None }
    }
}

impl LayoutBuilder {
    /// How many partitions there are when nobody says.
    pub const PARTITIONS_DEFAULT: u32 = 1024;

    /// How many partitions there are: a power of two from 1 to 2^24, fixed for the life of the cluster. A node's load is a whole
    /// number of replica slots, so 100 slots per node and more keep rounding below one percent; each partition costs its
    /// holders a little memory and anti-entropy. Default: that of the earlier layout, else
    /// [`LayoutBuilder::PARTITIONS_DEFAULT`].
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Adds a node. The order of calls does not matter.
    pub fn node(mut self, id: NodeId, weight: Weight, zone: Zone) -> Self {
        self.members.push(Member { id, weight, zone });
        self
    }

    /// Makes the next epoch after `earlier`: its replicas stay where they are, as far as the new members, weights and zones
    /// allow, and only what must move does. All members of the new layout are named with [`LayoutBuilder::node`] all the same.
    pub fn after(mut self, earlier: &Layout) -> Self {
        self.earlier = Some(earlier.clone());
        self
    }

    /// Computes the layout: equal inputs give equal layouts, on every machine.
    ///
    /// Every node gets its share by weight, within one slot, as far as one replica of each partition per node and the zone
    /// rule allow; [`Layout::report`] says where they do not. The cost is in proportion to partitions times nodes.
    ///
    /// # Errors
    /// As [`LayoutError`] says.
    ///
    /// # Panics
    /// After 2^64 changes of one cluster.
    pub fn build(mut self) -> Result<Layout, LayoutError> {
        let partitions = self.checked()?;
        self.members.sort_unstable_by_key(|member| member.id);
        let epoch = self.earlier.as_ref().map_or(Epoch::FIRST, |earlier| earlier.epoch().next());
        let mut contents = Contents {
            epoch,
            partitions,
            replicas: self.replicas,
            members: self.members.into(),
            holders: Box::default(),
        };

        let targets = targets(&contents);
        let (_, zone_of) = contents.zones();
        let salts: Vec<u64> = contents.members.iter().map(|member| member.id.0).collect();
        let index = |node: &NodeId| {
            contents.member_index(*node).map_or(HOLE, |index| Index::try_from(index).expect("at most MEMBERS_MAX"))
        };
        let held: Option<(usize, Vec<Index>)> = self
            .earlier
            .as_ref()
            .map(|earlier| (earlier.replication_factor(), earlier.contents().holders.iter().map(index).collect()));
        let mut holders = assign::assign(Problem {
            partitions: partitions.count(),
            replicas: contents.replicas,
            targets: &targets,
            zone_of: &zone_of,
            salts: &salts,
            previous: held.as_ref().map(|(replicas, holders)| Previous { replicas: *replicas, holders }),
        });
        primaries::order(&mut holders, contents.replicas, &salts);
        contents.holders = holders.into_iter().map(|index| contents.members[usize::from(index)].id).collect();
        Ok(codec::seal(contents))
    }

    fn checked(&self) -> Result<Partitions, LayoutError> {
        let replicas = self.replicas;
        if replicas == 0 {
            return Err(LayoutError::NoReplicas);
        }
        if replicas > Layout::REPLICAS_MAX {
            return Err(LayoutError::TooManyReplicas { replicas });
        }
        let had = self.earlier.as_ref().map(Layout::partitions);
        let wanted = self.partitions.or(had).unwrap_or(Self::PARTITIONS_DEFAULT);
        let partitions = Partitions::new(wanted).ok_or(LayoutError::PartitionCount { partitions: wanted })?;
        if let Some(had) = had.filter(|&had| had != wanted) {
            return Err(LayoutError::PartitionsChanged { had, wanted });
        }
        if self.members.len() > Layout::MEMBERS_MAX {
            return Err(LayoutError::TooManyNodes { nodes: self.members.len() });
        }
        let mut seen = std::collections::BTreeSet::new();
        for member in &self.members {
            if member.id == NodeId(0) {
                return Err(LayoutError::ReservedNode);
            }
            if !seen.insert(member.id) {
                return Err(LayoutError::DuplicateNode(member.id));
            }
            let bytes = member.zone.name().len();
            if bytes > Zone::NAME_BYTES_MAX {
                return Err(LayoutError::ZoneName { node: member.id, bytes });
            }
        }
        match self.members.iter().filter(|member| member.weight > Weight(0)).count() {
            0 => Err(LayoutError::NoWeight),
            nodes if nodes < replicas => Err(LayoutError::TooFewNodes { replicas, nodes }),
            _ => Ok(partitions),
        }
    }
}

/// The targets of a layout's members.
pub(crate) fn targets(contents: &Contents) -> Targets {
    let weights: Vec<u32> = contents.members.iter().map(|member| member.weight.0).collect();
    let (_, zone_of) = contents.zones();
    Targets::of(Demand {
        partitions: contents.partitions.count(),
        replicas: contents.replicas,
        weights: &weights,
        zone_of: &zone_of,
    })
}

#[cfg(test)]
mod tests;
