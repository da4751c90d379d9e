//! The hash trees of a node.

use std::collections::BTreeMap;

use kv_core::hash::Token;
use kv_core::key::TableId;
use kv_core::store::{Batch, Operation, Space};

use super::span::Span;
use super::tree::Tree;

/// Trees of the partitions that were ever compared in this life, by table and first token.
#[derive(Default, Debug)]
pub(super) struct Trees {
    trees: BTreeMap<(TableId, u64), Tree>,
}

impl Trees {
    /// The tree over `span`.
    pub(super) fn tree(&mut self, span: Span) -> &mut Tree {
        self.trees.entry((span.table, span.first)).or_insert_with(|| Tree::new(span))
    }

    /// Marks what a batch changes.
    pub(super) fn touch(&mut self, batch: &Batch) {
        if self.trees.is_empty() || sabotaged!(ForgetDirt) {
            return;
        }
        for operation in batch {
            if let Operation::Put { space: Space::DATA, key, .. }
            | Operation::Merge { space: Space::DATA, key, .. }
            | Operation::Delete { space: Space::DATA, key } = operation
                && let Some((table, token)) = place_of(key)
                && let Some((_, tree)) = self.trees.range_mut(..=(table, token.0)).next_back()
                && tree.span().table == table
                && token.0 <= tree.span().last
            {
                tree.touch(token.0, key);
            }
        }
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.trees.clear();
    }

    /// How many leaves there are.
    pub(super) fn leaves(&self) -> usize {
        self.trees.values().map(Tree::leaves).sum()
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &Tree> {
        self.trees.values()
    }
}

/// Table and token stand at the front of a record's key.
fn place_of(key: &[u8]) -> Option<(TableId, Token)> {
    let (table, rest) = key.split_first_chunk()?;
    let (token, _) = rest.split_first_chunk()?;
    Some((TableId(u32::from_be_bytes(*table)), Token(u64::from_be_bytes(*token))))
}
