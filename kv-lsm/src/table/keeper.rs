//! Blocks that go into the cache as they are written.

use std::sync::Arc;

use super::block::Block;
use crate::cache::{BlockCache, TableBlocks};
use crate::internal_key::Trailer;

/// Tells of a place in the order of versions whether it is read.
pub(crate) type IsRead = dyn Fn(&[u8], Trailer) -> bool;

/// Which blocks go into the cache as they are written.
#[derive(Clone)]
pub(crate) struct Warming {
    pub(crate) cache: Arc<BlockCache>,
    /// Whether somebody reads what lies at a place already.
    pub(crate) is_read: Arc<IsRead>,
}

/// Puts the blocks of one table into the cache.
#[derive(Default)]
pub(super) struct Keeper {
    warming: Option<Warming>,
    /// How many blocks came by.
    blocks: usize,
    kept: Option<TableBlocks>,
}

impl Keeper {
    pub(super) fn new(warming: &Warming) -> Self {
        Self { warming: Some(warming.clone()), ..Self::default() }
    }

    /// Puts the next block, which ends at a place, into the cache if it is wanted there.
    pub(super) fn keep(&mut self, last_key: &[u8], last: Trailer, block: &[u8]) {
        let index = self.blocks;
        self.blocks += 1;
        let Some(warming) = self.warming.as_ref().filter(|warming| (warming.is_read)(last_key, last)) else { return };
        let kept = match self.kept.take() {
            Some(kept) if index < kept.count() => kept,
            Some(kept) => kept.resized(2 * (index + 1)),
            None => TableBlocks::new(&warming.cache, 2 * (index + 1)),
        };
        // What was put together a moment ago is a block.
        let _ = self.kept.insert(kept).insert(index, block.len(), |memory| Block::copy(block, memory));
    }

    /// What it put there, if anything.
    pub(super) fn take(&mut self) -> Option<TableBlocks> {
        self.kept.take()
    }
}
