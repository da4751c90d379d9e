//! Floors only rise, no higher than every replica has promised, and not over what is kept for others.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::hlc::Stamp;

use crate::comparison::{Level, Place};
use crate::floors::{Floor, Floors};

/// What each node has said of each place.
#[derive(Default, Debug)]
pub struct FloorLedger {
    nodes: BTreeMap<NodeId, Noted>,
    /// The highest of any node, ever.
    highest: BTreeMap<Place, Level>,
    /// How many records each node has forgotten in its present life, and all of them ever.
    counted: BTreeMap<NodeId, u64>,
    forgotten: u64,
    violations: Vec<String>,
}

#[derive(Default, Debug)]
struct Noted {
    present: BTreeMap<Place, Floor>,
    /// As of the last time when all that the node had ever stored was durable.
    durable: BTreeMap<Place, Floor>,
}

impl FloorLedger {
    /// A node has ended a turn, and forgotten that many records in its life; `settled` when all that it has ever stored is durable.
    pub(crate) fn turned(&mut self, node: NodeId, floors: &Floors, forgotten: u64, settled: bool) {
        let before = self.counted.insert(node, forgotten).unwrap_or(0);
        // Where a count has gone back, a new life has begun.
        self.forgotten += if forgotten < before { forgotten } else { forgotten - before };
        let noted = self.nodes.entry(node).or_default();
        let known: BTreeSet<Place> =
            noted.present.keys().copied().chain(floors.iter().map(|(place, _)| place)).collect();
        for place in known {
            let floor = floors.of(place);
            let before = noted.present.insert(place, floor).unwrap_or_default();
            if before == floor {
                continue;
            }
            if floor.promised < before.promised || !floor.level.covers(before.level) {
                self.violations.push(format!("the floor of {place:?} at {node} falls from {before:?} to {floor:?}"));
            }
            if floor.promised < floor.level.settled {
                self.violations.push(format!("{node} is above its promise in {place:?}: {floor:?}"));
            }
            let highest = self.highest.entry(place).or_default();
            *highest = highest.join(floor.level);
        }
        if settled && noted.durable != noted.present {
            noted.durable = noted.present.clone();
        }
    }

    /// A node has lost what was not durable.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        let noted = self.nodes.entry(node).or_default();
        noted.present = noted.durable.clone();
    }

    /// A node has lost everything.
    pub(crate) fn wiped(&mut self, node: NodeId) {
        self.nodes.remove(&node);
    }

    /// How many records were forgotten, by all nodes in all lives.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The highest that a place ever was at any node.
    #[must_use]
    pub fn highest(&self, place: Place) -> Level {
        self.highest.get(&place).copied().unwrap_or_default()
    }

    /// Everywhere that is settled at a node: how high, and what each node has promised there. What a node had not made durable
    /// before a crash, and had told nobody, is known to nobody.
    pub(crate) fn settled(&self) -> impl Iterator<Item = (Place, Stamp, BTreeMap<NodeId, Stamp>)> {
        self.highest.keys().map(|place| {
            let floors = || {
                self.nodes.iter().map(|(node, noted)| (*node, noted.present.get(place).copied().unwrap_or_default()))
            };
            let settled = floors().map(|(_, floor)| floor.level.settled).max().unwrap_or_default();
            (*place, settled, floors().map(|(node, floor)| (node, floor.promised)).collect())
        })
    }

    /// What was wrong.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}
