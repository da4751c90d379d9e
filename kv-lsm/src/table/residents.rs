//! The memory for tables: the blocks that are cached, and the indexes and filters of the tables that are open, stay below one
//! limit together.
//!
//! The one table that is being read is loaded even when its index alone is over the limit, so tables should be small against
//! the memory: an index has an entry of a key and 40 bytes for each block, a filter ten bits for each key.

use std::sync::Arc;

use super::reader::Opened;
use crate::cache::BlockCache;
use crate::disk::File;
use crate::held::Held;
use crate::residents::{Residents, Slot};
use crate::value_cache::ValueCache;

/// What a loaded table costs beside its index and filter: file, handles, bookkeeping.
const TABLE_BYTES: u64 = 512;

/// The file of a table's separated values, open.
pub(crate) struct OpenBlob(pub(crate) Arc<dyn File>);

pub(crate) struct TableMemory {
    pub(crate) blocks: Arc<BlockCache>,
    /// Separated values, in the same cache.
    pub(crate) values: ValueCache,
    bytes_max: u64,
    tables: Residents<Opened>,
    /// Nothing of these files is kept in memory, but each takes one of the files that a process may have open.
    blobs: Residents<OpenBlob>,
}

impl TableMemory {
    /// Indexes and filters may take half of `bytes_max`; blocks have what they leave. At most `tables_max` tables, and a
    /// quarter as many blob files, are open beside those that somebody is reading at the moment.
    pub(crate) fn new(bytes_max: u64, tables_max: usize) -> Self {
        let blocks = Arc::new(BlockCache::new(bytes_max));
        Self {
            values: ValueCache::new(&blocks, bytes_max),
            blocks,
            bytes_max,
            tables: Residents::new(bytes_max / 2, tables_max),
            blobs: Residents::new(0, tables_max.div_ceil(4)),
        }
    }

    /// Bytes of indexes and filters, and how many tables they belong to.
    pub(crate) fn loaded(&self) -> (u64, usize) {
        self.tables.loaded()
    }

    /// How many blob files are open.
    pub(crate) fn open_blobs(&self) -> usize {
        self.blobs.loaded().1
    }

    pub(super) fn admit(&self, slot: &Arc<Slot<Opened>>, opened: Opened) -> Held<Opened> {
        let bytes = opened.bytes() + TABLE_BYTES;
        self.tables.admit(slot, opened, bytes, |loaded| self.share(loaded))
    }

    pub(super) fn forget(&self, slot: &Arc<Slot<Opened>>) {
        self.tables.forget(slot, |loaded| self.share(loaded));
    }

    pub(crate) fn admit_blob(&self, slot: &Arc<Slot<OpenBlob>>, file: OpenBlob) -> Held<OpenBlob> {
        self.blobs.admit(slot, file, 0, |_| {})
    }

    pub(crate) fn forget_blob(&self, slot: &Arc<Slot<OpenBlob>>) {
        self.blobs.forget(slot, |_| {});
    }

    fn share(&self, loaded: u64) {
        let taken = loaded + self.values.slot_bytes();
        self.blocks.set_bytes_max(self.bytes_max.saturating_sub(taken));
    }
}
