//! How even a layout is, and which wishes could not be met.

use std::{collections::BTreeMap, fmt};

use kv_core::NodeId;

use crate::{
    assignment::Assignment,
    builder::targets,
    class::{ClassId, PlacementClass, ZoneRule},
    epoch::Epoch,
    layout::{Contents, Layout},
    node::{Weight, Zone},
    targets::Targets,
};

/// What one node holds, in replica slots: a replica of one partition is one slot.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct NodeLoad {
    /// The node.
    pub node: NodeId,
    /// Its zone.
    pub zone: Zone,
    /// Its weight.
    pub weight: Weight,
    /// Replicas that it holds.
    pub slots: u32,
    /// Those of them that come first in the order of preference.
    pub primaries: u32,
    /// Replicas that it should hold: its share by weight, as far as the zone rule and one replica of each partition per
    /// node allow, rounded to whole slots.
    pub target: u32,
}

/// A wish that the members given cannot fulfil.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Warning {
    /// Fewer zones than replicas, counting what their nodes can hold: a zone that fails takes up to `together` replicas of
    /// one partition with it.
    ReplicasShareZones {
        /// Zones that have nodes with a weight.
        zones: usize,
        /// The most replicas of one partition in one zone.
        together: usize,
    },
    /// The zone rule gives a zone another share than its weight.
    ZoneShare {
        /// The zone.
        zone: Zone,
        /// Slots that its weight asks for.
        by_weight: u64,
        /// Slots that it gets.
        target: u64,
    },
    /// Weights so far apart that the lightest node's share is too few slots to be rounded well: rounding is a
    /// tenth of it and more. More partitions would help, or weights that are closer.
    WeightSkew {
        /// The lightest node of those with a weight.
        node: NodeId,
        /// What it holds.
        target: u32,
        /// How many times its weight the heaviest node has.
        ratio: u32,
    },
    /// The node is to have a replica of every partition, and its weight asks for more.
    NodeFull {
        /// The node.
        node: NodeId,
        /// Slots that its weight asks for.
        by_weight: u64,
    },
}

/// How even a layout is; from [`Layout::report`]. Displayed as a table.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Report {
    /// Of the layout.
    pub epoch: Epoch,
    /// Of the layout.
    pub hash: u64,
    /// Of the layout.
    pub partitions: u32,
    /// What is reported on.
    pub class: PlacementClass,
    /// What every member holds, in the order of ids.
    pub loads: Vec<NodeLoad>,
    /// What could not be met.
    pub warnings: Vec<Warning>,
}

impl Layout {
    /// How even this layout is in its first class. Counts all slots and computes all targets.
    #[must_use]
    pub fn report(&self) -> Report {
        report(self, &self.assignments()[0])
    }

    /// The same of any class; `None` when the layout has no such class.
    #[must_use]
    pub fn report_of(&self, class: ClassId) -> Option<Report> {
        self.assignment(class).map(|assignment| report(self, assignment))
    }

    /// What one node holds in the first class; `None` when it is no member. As costly as [`Layout::report`].
    #[must_use]
    pub fn load_of(&self, node: NodeId) -> Option<NodeLoad> {
        self.report().loads.into_iter().find(|load| load.node == node)
    }
}

fn report(layout: &Layout, assignment: &Assignment) -> Report {
    let contents = layout.contents();
    let class = assignment.class();
    let mut slots = vec![0; contents.members.len()];
    let mut primaries = slots.clone();
    let index_of: BTreeMap<NodeId, usize> =
        contents.members.iter().enumerate().map(|(index, member)| (member.id, index)).collect();
    for (place, holder) in assignment.holders().iter().enumerate() {
        slots[index_of[holder]] += 1;
        primaries[index_of[holder]] += u32::from(place % class.replicas == 0);
    }
    let targets = targets(contents, class, &slots);
    let loads = contents.members.iter().enumerate().map(|(index, member)| NodeLoad {
        node: member.id,
        zone: member.zone.clone(),
        weight: member.weight,
        slots: slots[index],
        primaries: primaries[index],
        target: targets.nodes[index],
    });
    let loads: Vec<NodeLoad> = loads.collect();
    let warnings = warnings(contents, class, &targets, &loads);
    Report { epoch: layout.epoch(), hash: layout.hash(), partitions: layout.partitions(), class, loads, warnings }
}

impl Report {
    /// How far the fullest node, measured by its target, is above it: 0.01 is one percent. Zero when none is above.
    #[must_use]
    pub fn excess(&self) -> f64 {
        let over = |load: &NodeLoad| f64::from(load.slots.saturating_sub(load.target)) / f64::from(load.target.max(1));
        self.loads.iter().map(over).fold(0.0, f64::max)
    }
}

/// From which ratio of weights on a small share is put down to them, and not to too few partitions.
const SKEW: u32 = 4;

/// With fewer slots, half a slot of rounding is more than a tenth.
const SLOTS_MIN: u32 = 5;

fn warnings(contents: &Contents, class: PlacementClass, targets: &Targets, loads: &[NodeLoad]) -> Vec<Warning> {
    let total = u64::from(contents.partitions.count()) * class.replicas as u64;
    let weights: u64 = loads.iter().map(|load| u64::from(load.weight.0)).sum();
    let by_weight =
        |weight: u64| u64::try_from(u128::from(total) * u128::from(weight) / u128::from(weights)).unwrap_or(total);

    let mut warnings = Vec::new();
    let (zones, zone_of) = contents.zones();
    let together = targets.zones.iter().map(|zone| zone.per_partition_max).max().unwrap_or(0);
    let in_use = targets.zones.iter().filter(|zone| zone.per_partition_max > 0).count();
    // A cluster that names no zones asked for none, and a class that ignores them too.
    let has_zones = class.zones != ZoneRule::Ignore && zones != [Zone::default()];
    if has_zones && together > 1 {
        warnings.push(Warning::ReplicasShareZones { zones: in_use, together });
    }
    for (number, zone) in zones.iter().enumerate().filter(|_| has_zones) {
        let members = loads.iter().zip(&zone_of).filter(|&(_, &of)| of == number);
        let wanted = by_weight(members.map(|(load, _)| u64::from(load.weight.0)).sum());
        let target = targets.zones[number].slots;
        if wanted.abs_diff(target) > 1 {
            warnings.push(Warning::ZoneShare { zone: zone.clone(), by_weight: wanted, target });
        }
    }
    let weighted = loads.iter().filter(|load| load.weight > Weight(0));
    if let Some(lightest) = weighted.clone().min_by_key(|load| (load.weight, load.target)) {
        let heaviest = weighted.map(|load| load.weight.0).max().unwrap_or(0);
        let ratio = heaviest / lightest.weight.0;
        if ratio >= SKEW && lightest.target < SLOTS_MIN {
            warnings.push(Warning::WeightSkew { node: lightest.node, target: lightest.target, ratio });
        }
    }
    for load in loads {
        let wanted = by_weight(load.weight.0.into());
        let partitions = contents.partitions.count();
        if load.target == partitions && wanted > partitions.into() {
            warnings.push(Warning::NodeFull { node: load.node, by_weight: wanted });
        }
    }
    warnings
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplicasShareZones { zones, together } => {
                write!(f, "{zones} zones are too few: up to {together} replicas of a partition share one")
            }
            Self::ZoneShare { zone, by_weight, target } => {
                write!(f, "zone {zone}: {target} slots by the zone rule, {by_weight} by weight")
            }
            Self::WeightSkew { node, target, ratio } => {
                write!(f, "{node}: {target} slots are few; other nodes have {ratio} times its weight")
            }
            Self::NodeFull { node, by_weight } => {
                write!(f, "{node}: holds every partition, and its weight asks for {by_weight} slots")
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, hash, partitions, class: PlacementClass { replicas, .. }, loads, warnings } = self;
        writeln!(f, "layout {epoch} {hash:016x}: {partitions} partitions x {replicas} replicas")?;
        writeln!(f, "{:<8} {:<12} {:>8} {:>9} {:>9} {:>9}", "node", "zone", "weight", "slots", "target", "primaries")?;
        for load in loads {
            let NodeLoad { node, zone, weight, slots, primaries, target } = load;
            let node = node.to_string();
            writeln!(f, "{node:<8} {zone:<12} {:>8} {slots:>9} {target:>9} {primaries:>9}", weight.0)?;
        }
        write!(f, "fullest node: {:.2} % over its target", self.excess() * 100.0)?;
        for warning in warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
