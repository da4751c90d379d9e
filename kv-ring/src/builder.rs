//! From members and their weights to a layout.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use thiserror::Error;

use crate::{
    assign::{self, HOLE, Index, Previous, Problem},
    assignment::Assignment,
    class::{PlacementClass, ZoneRule},
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
    classes: Vec<PlacementClass>,
    partitions: Option<u32>,
    members: Vec<Member>,
    earlier: Option<Layout>,
    /// Members of the earlier layout, and the new ones that take their slots.
    replaced: BTreeMap<NodeId, NodeId>,
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
    /// A class that wants its replicas in distinct zones, and too few zones that have nodes with a weight.
    #[error("{replicas} replicas in distinct zones need as many zones of nodes with a weight, there are {zones}")]
    TooFewZones {
        /// As asked.
        replicas: usize,
        /// Those with such nodes.
        zones: usize,
    },
    /// Two classes that ask for the same.
    #[error("two placement classes of {replicas} replicas, {zones}")]
    DuplicateClass {
        /// What both ask for.
        replicas: usize,
        /// What both ask for.
        zones: ZoneRule,
    },
    /// More placement classes than a layout can say.
    #[error("{classes} placement classes; the most is {}", Layout::CLASSES_MAX)]
    TooManyClasses {
        /// As asked.
        classes: usize,
    },
    /// A class of the earlier layout that the next does not name: what is in it would be nowhere.
    #[error("{wanted} placement classes, but the earlier layout has {had}")]
    ClassesLost {
        /// Of the earlier layout.
        had: usize,
        /// As asked.
        wanted: usize,
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
        LayoutBuilder {
            classes: vec![PlacementClass::replicas(replicas)],
            partitions: None,
            members: Vec::new(),
            earlier: None,
            replaced: BTreeMap::new(),
        }
    }
}

impl LayoutBuilder {
    /// How many partitions there are when nobody says.
    pub const PARTITIONS_DEFAULT: u32 = 1024;

    /// How many partitions are recommended for a cluster that may grow to `nodes`: at least a hundred replicas for
    /// each, so that rounding is half a percent, and no fewer than [`LayoutBuilder::PARTITIONS_DEFAULT`].
    #[must_use]
    pub fn partitions_for(nodes: usize, replicas: usize) -> u32 {
        let wanted = nodes.saturating_mul(100).div_ceil(replicas.max(1)).checked_next_power_of_two();
        let wanted = wanted.and_then(|count| u32::try_from(count).ok()).unwrap_or(Layout::PARTITIONS_MAX);
        wanted.clamp(Self::PARTITIONS_DEFAULT, Layout::PARTITIONS_MAX)
    }

    /// How many partitions there are: a power of two from 1 to 2^24, fixed for the life of the cluster. A node's load is a whole
    /// number of replica slots, so 100 slots per node and more keep rounding below one percent
    /// ([`LayoutBuilder::partitions_for`]); each partition costs its holders a little memory and anti-entropy. Default: that of the earlier layout, else
    /// [`LayoutBuilder::PARTITIONS_DEFAULT`].
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// What a change makes of a layout: all of its members and classes, and who takes whose place.
    pub(crate) fn succeeding(
        earlier: &Layout,
        members: Vec<Member>,
        classes: Vec<PlacementClass>,
        replaced: BTreeMap<NodeId, NodeId>,
    ) -> Self {
        Self { classes, partitions: None, members, earlier: Some(earlier.clone()), replaced }
    }

    /// What zones mean to the first class. Default: [`ZoneRule::Spread`].
    pub fn zones(mut self, zones: ZoneRule) -> Self {
        self.classes[0].zones = zones;
        self
    }

    /// Adds a placement class: the second is [`crate::ClassId`] 1, and so on.
    pub fn class(mut self, class: PlacementClass) -> Self {
        self.classes.push(class);
        self
    }

    /// Adds a node. The order of calls does not matter.
    pub fn node(mut self, id: NodeId, weight: Weight, zone: Zone) -> Self {
        self.members.push(Member { id, weight, zone });
        self
    }

    /// Makes the next epoch after `earlier`: its replicas stay where they are, as far as the new members, weights and zones
    /// allow, and only what must move does. All members of the new layout are named with [`LayoutBuilder::node`] all the same,
    /// and all classes. [`Layout::plan`] does that, says what moves, and is the better way in most cases.
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
        let members = std::mem::take(&mut self.members).into();
        let mut contents = Contents { epoch, partitions, members, assignments: Box::default() };
        contents.assignments =
            (0..self.classes.len()).map(|number| self.assigned(&contents, number)).collect::<Result<_, _>>()?;
        Ok(codec::seal(contents))
    }

    /// The assignment of one class to the members of `contents`.
    fn assigned(&self, contents: &Contents, number: usize) -> Result<Assignment, LayoutError> {
        let class = self.classes[number];
        let index = |node: &NodeId| {
            let node = self.replaced.get(node).unwrap_or(node);
            contents.member_index(*node).map_or(HOLE, |index| Index::try_from(index).expect("at most MEMBERS_MAX"))
        };
        let earlier = self.earlier.as_ref().and_then(|earlier| earlier.assignments().get(number));
        let held: Option<(usize, Vec<Index>)> =
            earlier.map(|earlier| (earlier.class().replicas, earlier.holders().iter().map(index).collect()));
        let mut loads = vec![0; contents.members.len()];
        for &holder in held.iter().flat_map(|(_, holders)| holders).filter(|&&holder| holder != HOLE) {
            loads[usize::from(holder)] += 1;
        }

        let zone_of = zones_for(contents, class);
        let targets = targets(contents, class, &loads);
        let together = targets.zones.iter().map(|zone| zone.per_partition_max).max();
        if class.zones == ZoneRule::Distinct && together > Some(1) {
            let zones = targets.zones.iter().filter(|zone| zone.per_partition_max > 0).count();
            return Err(LayoutError::TooFewZones { replicas: class.replicas, zones });
        }
        let salts: Vec<u64> = contents.members.iter().map(|member| member.id.0).collect();
        let previous = held.as_ref().map(|(replicas, holders)| Previous { replicas: *replicas, holders });
        let mut holders = assign::assign(Problem {
            partitions: contents.partitions.count(),
            replicas: class.replicas,
            targets: &targets,
            zone_of: &zone_of,
            salts: &salts,
            previous,
        });
        primaries::order(&mut holders, class.replicas, &salts, previous);
        let holders = holders.into_iter().map(|index| contents.members[usize::from(index)].id).collect();
        Ok(Assignment::new(class, contents.partitions, holders))
    }

    fn checked(&self) -> Result<Partitions, LayoutError> {
        for (number, &PlacementClass { replicas, zones }) in self.classes.iter().enumerate() {
            if replicas == 0 {
                return Err(LayoutError::NoReplicas);
            }
            if replicas > Layout::REPLICAS_MAX {
                return Err(LayoutError::TooManyReplicas { replicas });
            }
            if self.classes[..number].contains(&self.classes[number]) {
                return Err(LayoutError::DuplicateClass { replicas, zones });
            }
        }
        let classes = self.classes.len();
        if classes > Layout::CLASSES_MAX {
            return Err(LayoutError::TooManyClasses { classes });
        }
        let classes_before = self.earlier.as_ref().map_or(0, |earlier| earlier.assignments().len());
        if classes < classes_before {
            return Err(LayoutError::ClassesLost { had: classes_before, wanted: classes });
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
        let mut seen = BTreeSet::new();
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
        let replicas = self.classes.iter().map(|class| class.replicas).max().unwrap_or(0);
        match self.members.iter().filter(|member| member.weight > Weight(0)).count() {
            0 => Err(LayoutError::NoWeight),
            nodes if nodes < replicas => Err(LayoutError::TooFewNodes { replicas, nodes }),
            _ => Ok(partitions),
        }
    }
}

/// The zones of a layout's members as a class sees them.
pub(crate) fn zones_for(contents: &Contents, class: PlacementClass) -> Vec<usize> {
    match class.zones {
        ZoneRule::Spread | ZoneRule::Distinct => contents.zones().1,
        ZoneRule::Ignore => vec![0; contents.members.len()],
    }
}

/// The targets of a layout's members, rounded towards what they hold.
pub(crate) fn targets(contents: &Contents, class: PlacementClass, held: &[u32]) -> Targets {
    let weights: Vec<u32> = contents.members.iter().map(|member| member.weight.0).collect();
    Targets::of(Demand {
        partitions: contents.partitions.count(),
        replicas: class.replicas,
        weights: &weights,
        zone_of: &zones_for(contents, class),
        held,
    })
}

#[cfg(test)]
mod tests;
