//! Which of the blocks that a job writes go into the cache at once.
//!
//! A compaction replaces blocks that readers have in the cache, and a flush hides them. If nothing were done, every reader would
//! open, load, check and unpack what was in memory a moment before. So a block goes into the cache as it is written where
//! what lay there before is in the cache and was read. Where nobody reads, that costs a few searches for each block, and no
//! memory. (After RocksDB's `prepopulate_block_cache`, which does it for all that is flushed.)

use std::path::Path;
use std::sync::Arc;

use super::rewrite::Older;
use crate::cache::TableBlocks;
use crate::files;
use crate::internal_key::Trailer;
use crate::table::keeper::Warming;
use crate::table::meta::TableMeta;
use crate::table::reader::{Table, TableEnvironment};
use crate::version::Tree;

/// What is hidden or replaced by what a job writes.
pub(crate) type Before = Older;

/// Keeps blocks where those of the tables `before` are read.
pub(crate) fn where_read(environment: &TableEnvironment, before: Before) -> Warming {
    let is_read = move |key: &[u8], trailer: Trailer| {
        let is_read = |table: &Arc<Table>| table.is_read_at(key, trailer);
        let on_level =
            |tables: &Vec<Arc<Table>>| Tree::table_for(tables, key).is_some_and(|index| is_read(&tables[index]));
        before.loose.iter().any(|table| table.meta().contains(key) && is_read(table))
            || before.levels.iter().any(on_level)
    };
    Warming { cache: Arc::clone(&environment.memory.blocks), is_read: Arc::new(is_read) }
}

/// A table of which blocks are in the cache already.
pub(crate) struct WarmTable {
    pub(crate) meta: TableMeta,
    pub(crate) blocks: TableBlocks,
}

/// Opens tables before anybody can read them, so that nobody has to load their indexes and filters either.
pub(crate) fn open(tables: Vec<WarmTable>, directory: &Path, environment: &TableEnvironment) -> Vec<Arc<Table>> {
    let open = |WarmTable { meta, blocks }: WarmTable| {
        let path = files::table(directory, meta.number);
        let table = Table::new(meta, path, environment.clone());
        // What keeps it from being opened will keep its readers from it, and they are told.
        table.open_with(blocks).is_ok().then(|| Arc::new(table))
    };
    tables.into_iter().filter_map(open).collect()
}
