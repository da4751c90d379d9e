//! What was acknowledged is, for each replica of its record, at that replica, or kept for it, or owed to it: at every moment
//! from the end of the write on, by the node that coordinated it.
//!
//! That its process dies or its power goes changes nothing: what it has forgotten to have under way, it owes to everybody from its next
//! start on. Not so when it did not hold the write durably itself: then it may have lost it, and comparisons at intervals and
//! reads find it. Nor when a disk is lost. Nothing is checked of such writes here.

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
    /// Its coordinator held it durably.
    held: bool,
}

impl CoverageLedger {
    /// A node has ended a turn and acknowledged these.
    pub(crate) fn turned(&mut self, node: NodeId, acknowledged: Vec<Acknowledged>) {
        let given = acknowledged.into_iter().map(|Acknowledged { key, change, held, .. }| Given { key, change, held });
        self.given.entry(node).or_default().extend(given);
    }

    /// A node has lost what it had under way, and what was not durable.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        self.given.entry(node).or_default().retain(|given| given.held);
    }

    /// A node has lost everything, what it held for others and what it held itself.
    pub(crate) fn wiped(&mut self) {
        self.given.clear();
    }

    /// Looks at all of them, and returns what a replica lacks and nobody keeps or owes.
    pub(crate) fn uncovered(&mut self, nodes: &dyn Nodes) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, all) in &mut self.given {
            all.retain(|given| {
                let Some((place, replicas)) = nodes.placed(&given.key) else { return false };
                if nodes.is_writing(*node, &given.key) != Some(false) {
                    return true;
                }
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
