//! Highest random weight.

use kv_core::{
    NodeId,
    hash::{Token, seeded},
};

use super::Strategy;
use crate::node::Weight;

/// Part of the strategy: another seed is another placement.
const SEED: u64 = 0x6b76_5f72_656e_6476;

/// Every node draws a number for the token, and the highest wins: `-weight / ln(u)`, with u a hash of node and token taken
/// as a fraction between 0 and 1, so that each node wins in exact proportion to its weight. The list goes on with the second
/// highest, and so on.
///
/// Thaler and Ravishankar, *Using Name-Based Mappings to Increase Hit Rates*, 1998; the weights after Schindelhauer and
/// Schomaker, *Weighted Distributed Hash Tables*, SPAA 2005.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    nodes: Box<[(NodeId, f64)]>,
}

impl Rendezvous {
    /// The order of nodes does not matter; a node that is given twice counts once, with its last weight.
    #[must_use]
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, Weight)>) -> Self {
        let nodes: std::collections::BTreeMap<NodeId, Weight> = nodes.into_iter().collect();
        let weighted = nodes.into_iter().filter(|&(_, weight)| weight > Weight(0));
        Self { nodes: weighted.map(|(node, weight)| (node, f64::from(weight.0))).collect() }
    }
}

impl Strategy for Rendezvous {
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        out.clear();
        let mut draws: Vec<(f64, NodeId)> =
            self.nodes.iter().map(|&(node, weight)| (draw(node, token, weight), node)).collect();
        // Least first: a draw here is the reciprocal of the formula's, up to the sign.
        draws.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        out.extend(draws.iter().take(count).map(|&(_, node)| node));
    }

    fn primary(&self, token: Token) -> Option<NodeId> {
        let draws = self.nodes.iter().map(|&(node, weight)| (draw(node, token, weight), node));
        draws.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))).map(|(_, node)| node)
    }
}

/// `-ln(u) / weight`.
fn draw(node: NodeId, token: Token, weight: f64) -> f64 {
    let hash = seeded(&node.0.to_le_bytes(), SEED ^ token.0);
    // 53 bits fill a float exactly; the half keeps u off both ends.
    let u = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -natural_logarithm(u) / weight
}

/// The logarithm of a positive, normal number, by additions, multiplications and divisions alone. Those are exact to the last bit
/// on every machine; a platform's own `ln` is not, and two clients must not disagree about an owner.
///
/// `ln(m × 2^e) = e ln 2 + 2 atanh((m - 1) / (m + 1))`, with m from √½ to √2, where thirteen terms are enough for a double.
fn natural_logarithm(x: f64) -> f64 {
    const FRACTION_BITS: u32 = 52;
    const EXPONENT_OF_ONE: u64 = 1023;
    let bits = x.to_bits();
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    let mut mantissa = f64::from_bits(fraction | EXPONENT_OF_ONE << FRACTION_BITS);
    let mut exponent = (bits >> FRACTION_BITS) as f64 - EXPONENT_OF_ONE as f64;
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..13).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_agrees_with_the_platforms() {
        for step in 1..10_000_u32 {
            for x in [f64::from(step) / 10_000.0, 1.0 / f64::from(step), 2.0_f64.powi(-53) * f64::from(step)] {
                let error = (natural_logarithm(x) - x.ln()).abs();
                assert!(error <= 4e-16 * x.ln().abs().max(1.0), "ln({x}) is off by {error}");
            }
        }
    }
}
