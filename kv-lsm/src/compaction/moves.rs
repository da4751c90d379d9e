//! What can go down without being rewritten: what overlaps nothing on its way. Pure.
//!
//! A load in the order of the keys, or one of keys that grow with time, makes tables that lie side by side. Merging them with
//! one another would write the same bytes again, so they are only named on the level below (as the trivial moves of LevelDB
//! and RocksDB). A table that will be moved is not rewritten, and so not compressed, on its way: it is written as the level
//! where it ends would have it.

use std::sync::Arc;

use crate::table::meta::Upper;
use crate::table::reader::Table;
use crate::version::Tree;

/// Tables smaller than this part of a full one are merged with their neighbours: else a keyspace that is written little at a
/// time would come to consist of very small tables.
const SMALL_PART: u64 = 8;

/// The tables of level 0 that overlap neither another one there nor one of the level `base`. Nothing may lie between the two
/// levels.
pub(crate) fn movable(tree: &Tree, base: usize, table_bytes: u64) -> Vec<Arc<Table>> {
    let on_top = &tree.levels[0];
    let is_alone = |table: &&Arc<Table>| {
        let meta = table.meta();
        let overlaps = |other: &&Arc<Table>| other.meta().overlaps(&meta.lower, &meta.upper);
        meta.bytes >= table_bytes / SMALL_PART
            && on_top.iter().filter(overlaps).count() == 1
            && !tree.levels[base].iter().any(|other| overlaps(&other))
    };
    on_top.iter().filter(is_alone).cloned().collect()
}

/// Whether no table speaks of a key from `lower` to `upper`.
pub(crate) fn is_free(tree: &Tree, lower: &[u8], upper: &Upper) -> bool {
    tree.tables().all(|table| !table.meta().overlaps(lower, upper))
}
