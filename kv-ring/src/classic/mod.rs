//! The classical strategies: which nodes own a token, when no table of partitions says so.
//!
//! A [`crate::Layout`] is more even and moves less. These need no agreement beyond the list of nodes, and are here for
//! those who want that: client-side sharding, caches, work queues.
//!
//! Lists of every strategy name distinct nodes; [`Zoned`] spreads them over zones.
//!
//! | strategy | lookup | memory | balance | when a node joins or leaves |
//! |---|---|---|---|---|
//! | [`HashRing`] | logarithmic in virtual nodes | virtual nodes | a few percent, by their number | only its share moves |
//! | [`Rendezvous`] | linear in nodes | nodes | that of chance | only its share moves |
//! | [`BoundedRing`] | that of the ring, longer where nodes are full | virtual nodes, loads | within a bound that is chosen | its share, and what then overflows |
//! | [`Maglev`] | constant | a table | nearly exact | its share, and about half as many again |
//! | [`jump_hash`], [`Jump`] | logarithmic in nodes | none | that of chance, no weights | only its share moves, but only the last can leave |

mod bounded;
mod jump;
mod maglev;
mod rendezvous;
mod virtual_nodes;
mod zoned;

pub use bounded::BoundedRing;
pub use jump::{Jump, jump_hash};
pub use maglev::Maglev;
pub use rendezvous::Rendezvous;
pub use virtual_nodes::HashRing;
pub use zoned::Zoned;

use kv_core::{NodeId, hash::Token};

/// A rule that gives every token its nodes.
pub trait Strategy {
    /// Writes the first `count` nodes for `token`, in order of preference and all distinct, in place of what `out` held; fewer when
    /// there are fewer nodes with a weight.
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>);

    /// The node that comes first; `None` when no node has a weight.
    fn primary(&self, token: Token) -> Option<NodeId> {
        let mut first = Vec::with_capacity(1);
        self.preference_list(token, 1, &mut first);
        first.first().copied()
    }
}

impl<S: Strategy + ?Sized> Strategy for &S {
    fn preference_list(&self, token: Token, count: usize, out: &mut Vec<NodeId>) {
        (**self).preference_list(token, count, out);
    }

    fn primary(&self, token: Token) -> Option<NodeId> {
        (**self).primary(token)
    }
}

#[cfg(test)]
mod tests;
