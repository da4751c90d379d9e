//! The hash trees of a node, and what of them is noted in its store.

use std::collections::BTreeMap;

use kv_core::View;
use kv_core::hash::Token;
use kv_core::key::TableId;
use kv_core::store::{Batch, Operation, Space, StoreError};

use super::notes::Notes;
use super::span::Span;
use super::tree::Tree;
use crate::identity::Boot;

/// Trees of the partitions that were ever compared in this life, by table and first token.
#[derive(Default, Debug)]
pub(super) struct Trees {
    trees: BTreeMap<(TableId, u64), Tree>,
    notes: Notes,
}

impl Trees {
    /// What the lives before have left in `view`.
    pub(super) fn restore(boot: Boot, view: &dyn View, batch: &mut Batch) -> Result<Self, StoreError> {
        Ok(Self { trees: BTreeMap::new(), notes: Notes::restore(boot, view, batch)? })
    }

    /// The tree over `span`.
    pub(super) fn tree(&mut self, span: Span) -> &mut Tree {
        let Self { trees, notes } = self;
        trees.entry((span.table, span.first)).or_insert_with(|| Tree::knowing(span, notes.within(span)))
    }

    /// Marks what a batch changes, and says what is to be stored with it.
    pub(super) fn touch(&mut self, batch: &Batch) -> Batch {
        let mut marks = Batch::new();
        if (self.trees.is_empty() && self.notes.len() == 0) || sabotaged!(ForgetDirt) {
            return marks;
        }
        for operation in batch {
            if let Operation::Put { space: Space::DATA, key, .. }
            | Operation::Merge { space: Space::DATA, key, .. }
            | Operation::Delete { space: Space::DATA, key } = operation
                && let Some((table, token)) = place_of(key)
            {
                self.notes.touch(table, token, &mut marks);
                if let Some((_, tree)) = self.trees.range_mut(..=(table, token.0)).next_back()
                    && tree.span().table == table
                    && token.0 <= tree.span().last
                {
                    tree.touch(token.0, key);
                }
            }
        }
        marks
    }

    /// Notes up to `most` leaves of a tree that were read, and says whether there was such a tree.
    pub(super) fn note(&mut self, most: usize, batch: &mut Batch) -> bool {
        let Self { trees, notes } = self;
        let Some(tree) = trees.values_mut().find(|tree| tree.unnoted().is_some()) else { return false };
        let (span, mut next) = (Span { first: tree.unnoted().unwrap_or_default(), ..tree.span() }, None);
        for (looked_at, (leaf, summary)) in tree.clean_leaves(span).enumerate() {
            if looked_at == most {
                next = Some(leaf.first);
                break;
            }
            if !notes.holds(leaf, summary) {
                notes.note(leaf, summary, batch);
            }
        }
        tree.noted_until(next);
        true
    }

    /// Notes whatever is known, and no more than so many leaves.
    pub(super) fn note_everything(&mut self, most: usize, batch: &mut Batch) {
        for tree in self.trees.values() {
            for (leaf, summary) in tree.clean_leaves(tree.span()) {
                if batch.len() >= most {
                    return;
                }
                if !self.notes.holds(leaf, summary) {
                    self.notes.note(leaf, summary, batch);
                }
            }
        }
    }

    /// The store did not take this: nothing is known any more.
    pub(super) fn refused(&mut self, refused: &Batch) {
        self.trees.clear();
        self.notes.refused(refused);
    }

    /// How many leaves are noted.
    pub(super) fn noted(&self) -> usize {
        self.notes.len()
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
