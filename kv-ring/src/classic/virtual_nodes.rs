//! Consistent hashing on a ring.

use kv_core::{
    NodeId,
    hash::{Token, seeded},
};

use super::Strategy;
use crate::node::Weight;

/// Part of the strategy: another seed is another ring.
const SEED: u64 = 0x6b76_5f63_6972_636c;

/// A ring of random tokens: each node stands at `weight × virtual nodes per weight` places, and owns what lies between the
/// place before and its own. Its load scatters around its share by about one part in the square root of the number of its places.
///
/// Karger et al., *Consistent Hashing and Random Trees*, STOC 1997; virtual nodes by weight as in Dynamo (DeCandia et al.,
/// SOSP 2007, strategy 1).
#[derive(Clone, Debug)]
pub struct HashRing {
    /// In order of tokens; where two nodes meet at one token, in the order of ids.
    places: Box<[(u64, NodeId)]>,
    nodes: usize,
}

impl HashRing {
    /// A ring on which a node of weight `w` stands at `w × virtual_nodes` places. 100 to 200 places for the lightest node are usual.
    /// Each place takes 16 bytes, so weights are small numbers here: their ratios, not gigabytes.
    /// The order of nodes does not matter; a node that is given twice counts once, with its last weight.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, Weight)>, virtual_nodes: u32) -> Self {
        let nodes: std::collections::BTreeMap<NodeId, Weight> = nodes.into_iter().collect();
        let mut places = Vec::new();
        let mut standing = 0;
        for (node, weight) in nodes {
            let count = u64::from(weight.0) * u64::from(virtual_nodes);
            standing += usize::from(count > 0);
            places.extend((0..count).map(|place| (place_of(node, place), node)));
        }
        places.sort_unstable();
        Self { places: places.into(), nodes: standing }
    }
}

/// Where a node stands for the n-th time.
fn place_of(node: NodeId, number: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&node.0.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    seeded(&bytes, SEED)
}

impl Strategy for HashRing {
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        out.clear();
        let wanted = count.min(self.nodes);
        let start = self.places.partition_point(|&(place, _)| place < token.0);
        for &(_, node) in self.places[start..].iter().chain(&self.places[..start]) {
            if out.len() == wanted {
                return;
            }
            if !out.contains(&node) {
                out.push(node);
            }
        }
    }
}
