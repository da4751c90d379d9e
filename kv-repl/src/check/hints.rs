//! What a node did not keep of what a replica has missed is owed: a mark says so, durably, until the replica holds it.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;

use crate::comparison::Place;
use crate::hint_status::HintStatus;
use crate::hints::{Hints, Shed};

/// Everything that was shed and has not been seen to arrive.
#[derive(Default, Debug)]
pub struct HintLedger {
    shed: BTreeMap<NodeId, Vec<Missing>>,
    /// What each node has counted in its present life.
    counted: BTreeMap<NodeId, Totals>,
    totals: Totals,
}

/// What became of what replicas have missed.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct Totals {
    /// Changes that were kept.
    pub kept: u64,
    /// Hints that were delivered.
    pub delivered: u64,
    /// Changes and hints that were shed.
    pub shed: u64,
}

/// Something that a replica lacks.
#[derive(Clone, Debug)]
struct Missing {
    target: NodeId,
    place: Place,
    key: RecordKey,
    change: Bytes,
    /// Whether a power cut leaves it in the store of whoever shed it.
    durable: bool,
}

/// What the ledger asks about the nodes: those that are down answer `None`.
pub(crate) trait Nodes {
    /// Whether the store of `node` holds a mark.
    fn is_marked(&self, node: NodeId, target: NodeId, place: Place) -> Option<bool>;
    /// Whether the store of `node` keeps all of a change to a record for `target`.
    fn keeps(&self, node: NodeId, target: NodeId, key: &RecordKey, change: &Bytes) -> Option<bool>;
    /// Whether `node` coordinates a write of a record that is not over.
    fn is_writing(&self, node: NodeId, key: &RecordKey) -> Option<bool>;
    /// Where a record lies and who holds it, if its table is replicated durably.
    fn placed(&self, key: &RecordKey) -> Option<(Place, Vec<NodeId>)>;
    /// Whether `target` holds all of a change to a record; `None` while it cannot be told, or has yet to import it.
    fn holds(&self, target: NodeId, key: &RecordKey, change: &Bytes) -> Option<bool>;
}

impl HintLedger {
    /// A node has ended a turn; `settled` when all that it has ever stored is durable.
    pub(crate) fn turned(&mut self, node: NodeId, hints: &mut Hints, settled: bool) {
        let HintStatus { kept, delivered, shed, .. } = *hints.counters();
        let before = self.counted.insert(node, Totals { kept, delivered, shed }).unwrap_or_default();
        // Where a count has gone back, a new life has begun.
        let more = |now: u64, before: u64| if now < before { now } else { now - before };
        self.totals.kept += more(kept, before.kept);
        self.totals.delivered += more(delivered, before.delivered);
        self.totals.shed += more(shed, before.shed);
        let mut shed = hints.take_shed();
        if shed.is_empty() && !settled {
            return;
        }
        let missing = self.shed.entry(node).or_default();
        missing.extend(shed.drain(..).map(|Shed { target, place, key, change }| Missing {
            target,
            place,
            key,
            change,
            durable: false,
        }));
        if settled {
            missing.iter_mut().for_each(|missing| missing.durable = true);
        }
    }

    /// A node has lost what was not durable.
    pub(crate) fn crashed(&mut self, node: NodeId) {
        self.shed.entry(node).or_default().retain(|missing| missing.durable);
    }

    /// A node has lost everything: what it owed, and what it held.
    pub(crate) fn wiped(&mut self, node: NodeId) {
        self.shed.remove(&node);
        self.shed.values_mut().for_each(|missing| missing.retain(|missing| missing.target != node));
    }

    /// Looks at everything that was shed, and returns what is not owed although it has not arrived.
    pub(crate) fn unmarked(&mut self, nodes: &dyn Nodes) -> Vec<String> {
        let mut wrong = Vec::new();
        for (node, all) in &mut self.shed {
            all.retain(|missing| {
                let Missing { target, place, key, change, .. } = missing;
                match (nodes.is_marked(*node, *target, *place), nodes.holds(*target, key, change)) {
                    (Some(false), Some(false)) => {
                        wrong.push(format!("{node} owes {target} something of {key:?}, and has no mark of it"));
                        false
                    }
                    (Some(false), Some(true)) => false,
                    _ => true,
                }
            });
        }
        wrong
    }

    /// What became of what replicas have missed, ever.
    #[must_use]
    pub const fn totals(&self) -> Totals {
        self.totals
    }
}
