//! Zones on top of any strategy.

use std::collections::BTreeMap;

use kv_core::{NodeId, hash::Token};

use super::Strategy;
use crate::node::Zone;

/// A strategy whose lists spread over zones: nodes come in its order of preference, but none of a zone that has one more in the
/// list than another could have. The first node is always that of the strategy.
///
/// As Cassandra does it with racks; with enough zones a list has each at most once.
#[derive(Clone, Debug)]
pub struct Zoned<S> {
    strategy: S,
    zones: BTreeMap<NodeId, Zone>,
}

impl<S: Strategy> Zoned<S> {
    /// `zones` says where nodes stand; a node that it does not name stands in the default zone.
    #[must_use]
    pub fn new(strategy: S, zones: impl IntoIterator<Item = (NodeId, Zone)>) -> Self {
        Self { strategy, zones: zones.into_iter().collect() }
    }

    /// The strategy below.
    #[must_use]
    pub fn strategy(&self) -> &S {
        &self.strategy
    }

    fn zone_of(&self, node: NodeId) -> Option<&Zone> {
        self.zones.get(&node).filter(|zone| !zone.name().is_empty())
    }
}

impl<S: Strategy> Strategy for Zoned<S> {
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        // Most lists are full of distinct zones after a few nodes; only where zones are short is the whole order needed.
        let mut order = Vec::new();
        let mut looked_at = count.saturating_mul(2);
        loop {
            self.strategy.preference_list(token, looked_at, &mut order);
            let is_all = order.len() < looked_at;
            out.clear();
            let wanted = count.min(order.len());
            let mut taken = vec![false; order.len()];
            for level in 1..=wanted {
                for (place, &node) in order.iter().enumerate() {
                    let same = |other: &&NodeId| self.zone_of(**other) == self.zone_of(node);
                    if out.len() < wanted && !taken[place] && out.iter().filter(same).count() < level {
                        out.push(node);
                        taken[place] = true;
                    }
                }
                // Further nodes of the order might stand in zones that have room on this level.
                if out.len() == wanted || !is_all {
                    break;
                }
            }
            if is_all || out.len() == count {
                return;
            }
            looked_at = looked_at.saturating_mul(4);
        }
    }

    fn primary(&self, token: Token) -> Option<NodeId> {
        self.strategy.primary(token)
    }
}
