//! Maglev hashing.

use kv_core::{
    NodeId,
    hash::{Token, seeded},
};

use super::Strategy;
use crate::node::Weight;

/// Parts of the strategy: other seeds are other permutations.
const OFFSET_SEED: u64 = 0x6b76_5f6d_6167_6f66;
const SKIP_SEED: u64 = 0x6b76_5f6d_6167_736b;
const LIST_SEED: u64 = 0x6b76_5f6d_6167_6c69;

/// A table with a prime number of places that nodes fill in turns, each in an order of its own; a lookup is one remainder and one
/// load. Nearly even by construction; when a node comes or goes, more keys than necessary move: with 650 places for each node,
/// about half as many again.
///
/// A node of half the weight of the heaviest takes every second turn, as in Envoy. Eisenbud et al., *Maglev: A Fast and
/// Reliable Software Network Load Balancer*, NSDI 2016, section 3.4.
#[derive(Clone, Debug)]
pub struct Maglev {
    nodes: Box<[NodeId]>,
    /// For each place the index of its node.
    table: Box<[u32]>,
}

impl Maglev {
    /// The places that the paper recommends for a hundred nodes and more.
    pub const PLACES_DEFAULT: u32 = 65_537;

    /// A table of at least `places` places: the next prime number. A hundred places for each node, and more where weights differ,
    /// keep loads within a percent. The order of nodes does not matter; a node that is given twice counts once, with its
    /// last weight.
    ///
    /// # Panics
    /// When there are no more places than nodes with a weight, or more than 2^31.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, Weight)>, places: u32) -> Self {
        let nodes: std::collections::BTreeMap<NodeId, Weight> = nodes.into_iter().collect();
        let weighted: Vec<(NodeId, Weight)> = nodes.into_iter().filter(|&(_, weight)| weight > Weight(0)).collect();
        assert!(places <= 1 << 31, "places are numbered in 32 bits");
        assert!(weighted.len() < places as usize, "every node has a place of its own");
        let places = (places.max(2)..).find(|&number| is_prime(number)).expect("there is always another prime number");
        let order = |&(node, _): &(NodeId, Weight)| {
            let bytes = node.0.to_le_bytes();
            Permutation {
                next: seeded(&bytes, OFFSET_SEED) % u64::from(places),
                skip: seeded(&bytes, SKIP_SEED) % u64::from(places - 1) + 1,
            }
        };
        let orders = weighted.iter().map(order).collect();
        let weights: Vec<u32> = weighted.iter().map(|&(_, weight)| weight.0).collect();
        let table = filled(places, orders, &weights);
        Self { nodes: weighted.into_iter().map(|(node, _)| node).collect(), table }
    }
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

/// The order in which a node wants the places: an arithmetic progression modulo their number, which is prime.
struct Permutation {
    next: u64,
    skip: u64,
}

fn filled(places: u32, mut orders: Vec<Permutation>, weights: &[u32]) -> Box<[u32]> {
    const FREE: u32 = u32::MAX;
    let mut table = vec![FREE; places as usize];
    let Some(heaviest) = weights.iter().copied().max() else { return Box::default() };
    let mut credit = vec![0_u64; weights.len()];
    let mut left = places;
    loop {
        for (index, order) in (0_u32..).zip(&mut orders) {
            credit[index as usize] += u64::from(weights[index as usize]);
            if credit[index as usize] < u64::from(heaviest) {
                continue;
            }
            credit[index as usize] -= u64::from(heaviest);
            let place = loop {
                let place = usize::try_from(order.next).expect("less than 2^32");
                order.next = (order.next + order.skip) % u64::from(places);
                if table[place] == FREE {
                    break place;
                }
            };
            table[place] = index;
            left -= 1;
            if left == 0 {
                return table.into();
            }
        }
    }
}

impl Strategy for Maglev {
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        out.clear();
        let wanted = count.min(self.nodes.len());
        if wanted == 0 {
            return;
        }
        // The places of two nodes lie apart as their permutations do, so what follows in the table is not random. The next choice
        // is another place, by another hash; when nearly all nodes are wanted, the rest comes in the order of the table, and
        // very light nodes, which may have no place at all, come last.
        for attempt in 0..8 * wanted as u64 {
            if out.len() == wanted {
                return;
            }
            let hash = if attempt == 0 { token.0 } else { seeded(&token.0.to_le_bytes(), LIST_SEED ^ attempt) };
            let place = usize::try_from(hash % self.table.len() as u64).expect("a place of the table");
            let node = self.nodes[self.table[place] as usize];
            if !out.contains(&node) {
                out.push(node);
            }
        }
        for node in self.table.iter().map(|&index| self.nodes[index as usize]).chain(self.nodes.iter().copied()) {
            if out.len() == wanted {
                return;
            }
            if !out.contains(&node) {
                out.push(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of the paper (tables 1 and 2): seven places, three backends, then without the second.
    #[test]
    fn the_papers_example() {
        let order = |next, skip| Permutation { next, skip };
        let three = vec![order(3, 4), order(0, 2), order(3, 1)];
        assert_eq!(*filled(7, three, &[1; 3]), [1, 0, 1, 0, 2, 2, 0]);
        let two = vec![order(3, 4), order(3, 1)];
        assert_eq!(*filled(7, two, &[1; 2]), [0, 0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn prime_numbers() {
        assert_eq!(
            (0..30).filter(|&number| is_prime(number)).collect::<Vec<_>>(),
            [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
        );
        assert!(is_prime(Maglev::PLACES_DEFAULT));
        assert!(!is_prime(65_535));
    }

    #[test]
    fn places_follow_weights_exactly_and_few_move_when_a_node_leaves() {
        let nodes: Vec<(NodeId, Weight)> = (1..=20).map(|id| (NodeId(id), Weight(1 << (id % 3)))).collect();
        let all = Maglev::new(nodes.clone(), 20_011);
        let weights: u32 = nodes.iter().map(|(_, weight)| weight.0).sum();
        for (index, (_, weight)) in (0_u32..).zip(&nodes) {
            let places = all.table.iter().filter(|&&of| of == index).count() as f64;
            let share = 20_011.0 * f64::from(weight.0) / f64::from(weights);
            assert!((places - share).abs() <= 4.0, "{places} places of {share}");
        }
        let without = Maglev::new(nodes.into_iter().filter(|&(node, _)| node != NodeId(7)), 20_011);
        let moved = all.table.iter().zip(&without.table);
        let moved = moved.map(|(&was, &is)| (all.nodes[was as usize], without.nodes[is as usize]));
        let needless = moved.filter(|&(was, is)| was != is && was != NodeId(7)).count();
        assert!(needless < 20_011 / 20, "{needless} places moved that need not");
    }

    #[test]
    #[should_panic(expected = "every node has a place of its own")]
    fn a_table_that_is_too_small_is_refused() {
        drop(Maglev::new((1..=7).map(|id| (NodeId(id), Weight(1))), 7));
    }
}
