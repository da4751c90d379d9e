//! What a node believes of another one only ever moves to later claims and worse news of the same claim; and a node's own
//! claims only grow. So everybody ends with the same belief, whatever the order in which news came.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::key::TableId;

use crate::identity::Boot;
use crate::liveness::{Claim, Liveness, LivenessChange};

/// Every belief that was seen, by who holds it and of whom.
#[derive(Default, Debug)]
pub struct LivenessLedger {
    beliefs: BTreeMap<(NodeId, Boot, NodeId), (Claim, Liveness)>,
    claims: BTreeMap<NodeId, Claim>,
    layouts: BTreeMap<TableId, u64>,
    /// Nodes that have lost a storage.
    wiped: BTreeSet<NodeId>,
    violations: Vec<String>,
}

impl LivenessLedger {
    /// Holds a change of mind of `observer`, in its life `boot`, against what it believed before.
    pub fn changed(&mut self, observer: NodeId, boot: Boot, change: &LivenessChange) {
        let later = (change.claim, change.after);
        let before = self.beliefs.insert((observer, boot, change.peer), later);
        // Of a new storage nothing is known at first.
        let is_new = self.wiped.contains(&change.peer) && change.claim == Claim::default();
        if let Some(before) = before.filter(|before| *before >= later && !is_new) {
            self.violations.push(format!("{observer} went back from {before:?} to {later:?} of {}", change.peer));
        }
    }

    /// A node lost its storage, and with it what it had claimed and believed.
    pub fn wiped(&mut self, node: NodeId) {
        self.wiped.insert(node);
        self.claims.remove(&node);
        self.beliefs.retain(|(observer, ..), _| *observer != node);
    }

    /// Holds a node's own claim against its earlier ones.
    pub fn claimed(&mut self, node: NodeId, claim: Claim) {
        let before = self.claims.insert(node, claim);
        if let Some(before) = before.filter(|before| *before > claim) {
            self.violations.push(format!("{node} went back from its claim {before:?} to {claim:?}"));
        }
    }

    /// Holds the layout by which `observer` serves a table against those that were seen before: while no operator changes
    /// it, it is the same for everybody and always, whoever is believed dead.
    pub fn owned(&mut self, observer: NodeId, table: TableId, layout_hash: u64) {
        let known = *self.layouts.entry(table).or_insert(layout_hash);
        if known != layout_hash {
            self.violations.push(format!("{observer} serves {table:?} by another layout than before"));
        }
    }

    /// What was wrong.
    #[must_use]
    pub fn violations(&self) -> &[String] {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_is_noticed() {
        let mut ledger = LivenessLedger::default();
        let claim = |refutations| Claim { boot: Boot(1), refutations };
        let mut change = |claim, before, after| {
            let change = LivenessChange { peer: NodeId(2), before, after, claim, by: NodeId(3) };
            ledger.changed(NodeId(1), Boot(1), &change);
            ledger.violations().len()
        };
        assert_eq!(change(claim(0), Liveness::Alive, Liveness::Suspect), 0);
        assert_eq!(change(claim(1), Liveness::Suspect, Liveness::Alive), 0);
        assert_eq!(change(claim(1), Liveness::Alive, Liveness::Dead), 0);
        assert_eq!(change(claim(1), Liveness::Dead, Liveness::Alive), 1);
        ledger.claimed(NodeId(2), claim(5));
        ledger.claimed(NodeId(2), claim(5));
        assert_eq!(ledger.violations().len(), 1);
        ledger.claimed(NodeId(2), claim(4));
        assert_eq!(ledger.violations().len(), 2);
        ledger.owned(NodeId(1), TableId(1), 7);
        ledger.owned(NodeId(2), TableId(1), 7);
        assert_eq!(ledger.violations().len(), 2);
        ledger.owned(NodeId(2), TableId(1), 8);
        assert_eq!(ledger.violations().len(), 3);
    }
}
