//! What was acknowledged is, for each replica of its record, at that replica, or kept for it, or owed to it: at every moment
//! from the end of the write on, by the node that coordinated it.
//!
//! Not so when that node lost its power before the write was over, or before what it kept was durable: then comparisons at
//! intervals and reads find it, and nothing is checked of it here.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;

use super::hints::Nodes;
use crate::coordinator::write::Acknowledged;

/// Every acknowledged write that some replica may lack, by the node that coordinated it.
#[derive(Default, Debug)]
pub struct CoverageLedger {
    given: BTreeMap<NodeId, Vec<Given>>,
    covered: u64,
}

/// A write that was acknowledged.
#[derive(Debug)]
struct Given {
    key: RecordKey,
    change: Bytes,
    /// It was seen to be over, and covered.
    over: bool,
    /// A power cut leaves what covers it.
    durable: bool,
}

impl CoverageLedger {
    /// A node has ended a turn and acknowledged these; `settled` when all that it has ever stored is durable.
    pub(crate) fn turned(&mut self, node: NodeId, acknowledged: Vec<Acknowledged>, settled: bool) {
        let given = self.given.entry(node).or_default();
        if settled {
            given.iter_mut().filter(|given| given.over).for_each(|given| given.durable = true);
        }
        let new = |Acknowledged { key, change, .. }| Given { key, change, over: false, durable: false };
        given.extend(acknowledged.into_iter().map(new));
    }

    /// A node has lost what it had under way, and what was not durable.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        self.given.entry(node).or_default().retain(|given| given.durable);
    }

    /// A node has lost what it had under way, and kept what it had stored.
    pub(crate) fn killed(&mut self, node: NodeId) {
        self.given.entry(node).or_default().retain(|given| given.over);
    }

    /// A node has lost everything, what it held for others and what it held itself.
    pub(crate) fn wiped(&mut self) {
        self.given.clear();
    }

    /// Looks at all of them, and returns what a replica lacks and nobody keeps or owes.
    pub(crate) fn uncovered(&mut self, nodes: &dyn Nodes) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, all) in &mut self.given {
            all.retain_mut(|given| {
                let Some((place, replicas)) = nodes.placed(&given.key) else { return false };
                if nodes.is_writing(*node, &given.key) != Some(false) {
                    return true;
                }
                given.over = true;
                let (key, change) = (&given.key, &given.change);
                let lacks = |target: &&NodeId| nodes.holds(**target, key, change) != Some(true);
                let lacking: Vec<NodeId> = replicas.iter().filter(lacks).copied().collect();
                let bare = lacking.iter().find(|target| {
                    nodes.holds(**target, key, change) == Some(false)
                        && nodes.keeps(*node, **target, key, change) == Some(false)
                        && nodes.is_marked(*node, **target, place) == Some(false)
                });
                if let Some(target) = bare {
                    wrong.push(format!(
                        "{target} lacks an acknowledged write of {key:?}, and {node} neither keeps nor owes it"
                    ));
                }
                self.covered += u64::from(lacking.is_empty());
                bare.is_none() && !lacking.is_empty()
            });
        }
        wrong
    }

    /// How many were seen to be at all their replicas.
    #[must_use]
    pub const fn covered(&self) -> u64 {
        self.covered
    }
}
