//! What a fallback has acknowledged to keep, it keeps until the replica holds it: whoever loses power meanwhile, and for however long.
//!
//! Not so when its own disk was lost. What a replica had got before its disk was lost is not asked for again here.

use bytes::Bytes;
use kv_core::NodeId;
use kv_core::key::RecordKey;

use super::hints::Nodes;
use crate::coordinator::write::Acknowledged;

/// Every acknowledged write that counted a fallback, until the replica has it.
#[derive(Default, Debug)]
pub struct FallbackLedger {
    kept: Vec<Kept>,
    total: u64,
}

#[derive(Debug)]
struct Kept {
    by: NodeId,
    target: NodeId,
    key: RecordKey,
    change: Bytes,
}

impl FallbackLedger {
    /// A write was acknowledged.
    pub(crate) fn acknowledged(&mut self, write: &Acknowledged) {
        self.total += write.kept.len() as u64;
        self.kept.extend(write.kept.iter().map(|(by, target)| Kept {
            by: *by,
            target: *target,
            key: write.key.clone(),
            change: write.change.clone(),
        }));
    }

    /// A node has lost everything: what it kept, and what had been brought to it.
    pub(crate) fn wiped(&mut self, node: NodeId) {
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
