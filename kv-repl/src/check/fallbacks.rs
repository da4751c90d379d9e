//! What a fallback has acknowledged to keep, it keeps until the replica holds it: whoever loses power meanwhile, and for however long.
//!
//! Not so when its own disk was lost, be it before the coordinator counted what it had promised. What a replica had got before its disk
//! was lost is not asked for again here.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;

use super::hints::Nodes;
use crate::coordinator::write::Acknowledged;

/// Every acknowledged write that counted a fallback, until the replica has it.
#[derive(Default, Debug)]
pub struct FallbackLedger {
    /// What was asked of fallbacks with the disks that they have, and did not count yet.
    asked: BTreeSet<Kept>,
    kept: Vec<Kept>,
    total: u64,
}

#[derive(Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
struct Kept {
    by: NodeId,
    target: NodeId,
    key: RecordKey,
    change: Bytes,
}

impl FallbackLedger {
    /// A node is asked to keep a change for another one.
    pub(crate) fn asked(&mut self, by: NodeId, target: NodeId, key: RecordKey, change: Bytes) {
        self.asked.insert(Kept { by, target, key, change });
    }

    /// A write was acknowledged.
    pub(crate) fn acknowledged(&mut self, write: &Acknowledged) {
        self.total += write.kept.len() as u64;
        for (by, target) in &write.kept {
            let kept = Kept { by: *by, target: *target, key: write.key.clone(), change: write.change.clone() };
            if self.asked.remove(&kept) {
                self.kept.push(kept);
            }
        }
    }

    /// A node has lost everything: what it kept, and what had been brought to it.
    pub(crate) fn wiped(&mut self, node: NodeId) {
        self.asked.retain(|asked| asked.by != node && asked.target != node);
        self.kept.retain(|kept| kept.by != node && kept.target != node);
    }

    /// Looks at all of them, and returns what is neither kept any more nor held.
    pub(crate) fn lost(&mut self, nodes: &dyn Nodes) -> Vec<String> {
        let mut wrong = Vec::new();
        self.kept.retain(|Kept { by, target, key, change }| match nodes.holds(*target, key, change) {
            Some(true) => false,
            Some(false) if nodes.keeps(*by, *target, key, change) == Some(false) => {
                wrong
                    .push(format!("{target} lacks an acknowledged write of {key:?}, and {by} does not keep it for it"));
                false
            }
            _ => true,
        });
        wrong
    }

    /// How many changes fallbacks kept that counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::key::{Key, TableId};

    use crate::comparison::Place;

    /// Nobody keeps or holds anything.
    struct Empty;

    impl Nodes for Empty {
        fn is_marked(&self, _: NodeId, _: NodeId, _: Place) -> Option<bool> {
            Some(false)
        }

        fn keeps(&self, _: NodeId, _: NodeId, _: &RecordKey, _: &Bytes) -> Option<bool> {
            Some(false)
        }

        fn is_writing(&self, _: NodeId, _: &RecordKey) -> Option<bool> {
            Some(false)
        }

        fn placed(&self, _: &RecordKey) -> Option<(Place, Vec<NodeId>)> {
            None
        }

        fn holds(&self, _: NodeId, _: &RecordKey, _: &Bytes) -> Option<bool> {
            Some(false)
        }
    }

    #[test]
    fn a_promise_counts_until_its_disk_is_lost() {
        let key = RecordKey::new(TableId(1), &Key::from("k")).expect("a short key");
        let write =
            Acknowledged { key: key.clone(), change: Bytes::new(), held: true, kept: vec![(NodeId(2), NodeId(3))] };
        let lost = |wiped: Option<NodeId>, asked_again: bool| {
            let mut ledger = FallbackLedger::default();
            ledger.asked(NodeId(2), NodeId(3), key.clone(), Bytes::new());
            wiped.into_iter().for_each(|node| ledger.wiped(node));
            if asked_again {
                ledger.asked(NodeId(2), NodeId(3), key.clone(), Bytes::new());
            }
            ledger.acknowledged(&write);
            assert_eq!(ledger.total(), 1);
            ledger.lost(&Empty).len()
        };
        assert_eq!(lost(None, false), 1, "nobody has it");
        assert_eq!(lost(Some(NodeId(2)), false), 0, "the promise went with the disk");
        assert_eq!(lost(Some(NodeId(2)), true), 1, "the new storage has promised as well");
        assert_eq!(lost(Some(NodeId(4)), false), 1, "of somebody else");
    }
}
