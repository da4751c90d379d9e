//! Consistent hashing with bounded loads.

use std::collections::BTreeMap;

use kv_core::{NodeId, hash::Token};

use super::{HashRing, Strategy};
use crate::node::Weight;

/// A ring whose nodes take no more than their share and a bit: what is full is passed over, and the next on the ring takes it.
/// For work that comes and goes (connections, requests, cached streams), counted here as it does.
///
/// With slack 0.25 no node ever has more than 1.25 times its share of the load there is, rounded up. The smaller the slack,
/// the more is passed on, and the more moves when nodes change: about 1 / slack² for each change in theory.
///
/// Mirrokni, Thorup and Zadimoghaddam, *Consistent Hashing with Bounded Loads*, SODA 2018; in the form in which proxies use
/// it, where what was placed stays until it ends.
#[derive(Clone, Debug)]
pub struct BoundedRing {
    ring: HashRing,
    slack: f64,
    weights: BTreeMap<NodeId, Weight>,
    weight: u64,
    loads: BTreeMap<NodeId, u64>,
    load: u64,
}

impl BoundedRing {
    /// A ring as [`HashRing::new`] makes it, whose nodes take up to `1 + slack` of their shares. A slack of 0.25 is usual.
    ///
    /// # Panics
    /// When the slack is not above zero, or not a number.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, Weight)>, virtual_nodes: u32, slack: f64) -> Self {
        assert!(slack > 0.0 && slack.is_finite(), "with no slack nothing but the exact shares would do");
        let weights: BTreeMap<NodeId, Weight> =
            nodes.into_iter().collect::<BTreeMap<_, _>>().into_iter().filter(|(_, weight)| weight.0 > 0).collect();
        Self {
            ring: HashRing::new(weights.clone(), virtual_nodes),
            slack,
            weight: weights.values().map(|weight| u64::from(weight.0)).sum(),
            loads: weights.keys().map(|&node| (node, 0)).collect(),
            weights,
            load: 0,
        }
    }

    /// Places one unit of load: on the first node of the ring that has room. `None` when no node has a weight.
    pub fn place(&mut self, token: Token) -> Option<NodeId> {
        let node = self.primary(token)?;
        self.charge(node);
        Some(node)
    }

    /// Counts a unit of load on a node that was chosen from a preference list, whether it has room or not. Whether there
    /// is such a node.
    pub fn charge(&mut self, node: NodeId) -> bool {
        let Some(load) = self.loads.get_mut(&node) else { return false };
        *load += 1;
        self.load += 1;
        true
    }

    /// Takes back one unit of load from a node that has been given it. Whether the node had any.
    pub fn release(&mut self, node: NodeId) -> bool {
        let Some(load) = self.loads.get_mut(&node).filter(|load| **load > 0) else { return false };
        *load -= 1;
        self.load -= 1;
        true
    }

    /// What a node has; zero for one that is not there.
    #[must_use]
    pub fn load_of(&self, node: NodeId) -> u64 {
        self.loads.get(&node).copied().unwrap_or(0)
    }

    /// The most that a node may have when one more unit is there than now.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a load is far below 2^53")]
    pub fn bound_of(&self, node: NodeId) -> u64 {
        let weight = self.weights.get(&node).map_or(0, |weight| weight.0);
        let share = (self.load + 1) as f64 * f64::from(weight) / self.weight as f64;
        ((1.0 + self.slack) * share).ceil() as u64
    }

    fn has_room(&self, node: NodeId) -> bool {
        self.load_of(node) < self.bound_of(node)
    }
}

impl Strategy for BoundedRing {
    /// Nodes that have room in the order of the ring, then those that are full.
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        let mut looked_at = count;
        loop {
            self.ring.preference_list(token, looked_at, out);
            let with_room = out.iter().filter(|&&node| self.has_room(node)).count();
            if with_room >= count || out.len() < looked_at || out.len() == self.weights.len() {
                break;
            }
            looked_at = looked_at.saturating_mul(2);
        }
        out.sort_by_key(|&node| !self.has_room(node));
        out.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_of;

    fn ring(slack: f64) -> BoundedRing {
        BoundedRing::new((1..=10).map(|id| (NodeId(id), Weight(1 << (id % 3)))), 20, slack)
    }

    #[test]
    fn no_node_is_ever_above_its_bound() {
        for slack in [0.05, 0.25, 1.0] {
            let mut ring = ring(slack);
            let mut placed = Vec::new();
            for key in 0..5000_u32 {
                placed.push(ring.place(token_of(&key.to_le_bytes())).unwrap());
                let last = *placed.last().unwrap();
                assert!(ring.load_of(last) <= ring.bound_of(last));
            }
            for (&node, weight) in &ring.weights {
                let share = 5000.0 * f64::from(weight.0) / ring.weight as f64;
                assert!(ring.load_of(node) as f64 <= ((1.0 + slack) * share).ceil(), "{node} with slack {slack}");
            }
            for node in placed {
                assert!(ring.release(node));
            }
            assert_eq!(ring.load, 0);
            assert!(!ring.release(NodeId(1)) && !ring.release(NodeId(99)));
        }
    }

    #[test]
    fn with_room_everywhere_it_is_the_ring_below() {
        let bounded = ring(1e6);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for token in (0..500_u32).map(|key| token_of(&key.to_le_bytes())) {
            bounded.preference_list(token, 4, &mut one);
            bounded.ring.preference_list(token, 4, &mut other);
            assert_eq!(one, other);
        }
    }

    #[test]
    fn what_is_full_is_passed_over_and_comes_last() {
        let mut ring = ring(0.25);
        let token = token_of(b"popular");
        let first = ring.place(token).unwrap();
        // One key alone fills its node; the others take over.
        let others = (0..50).filter(|_| ring.place(token) != Some(first)).count();
        assert!(others > 25, "{others} of 50 went elsewhere");
        let full: Vec<NodeId> = ring.loads.keys().copied().filter(|&node| !ring.has_room(node)).collect();
        assert!(!full.is_empty());
        let mut list = Vec::new();
        ring.preference_list(token, 10, &mut list);
        let place = |node: &NodeId| list.iter().position(|of| of == node).unwrap();
        assert!(full.iter().all(|node| place(node) >= 10 - full.len()));
    }

    #[test]
    #[should_panic(expected = "with no slack")]
    fn no_slack_is_refused() {
        drop(ring(0.0));
    }
}
