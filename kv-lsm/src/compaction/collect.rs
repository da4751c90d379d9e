//! Which table to rewrite next so that a blob file that is mostly garbage can go. Pure.
//!
//! Garbage is made by compactions, which drop the versions that pointed to it; what is left alive in a file moves when a
//! compaction meets the pointers. Of data that no longer changes no compaction would: so the tables that use the worst file
//! are rewritten where they are, one by one, until nothing points into it.

use std::sync::Arc;

use crate::table::reader::Table;
use crate::version::Tree;

/// The table, its level, and how pressing it is: between 1 and 2, as the share of garbage.
pub(crate) fn pick_collection(tree: &Tree, garbage_percent: u8) -> Option<(f64, usize, Arc<Table>)> {
    let worth = tree.blobs.by_number.iter().filter(|(_, blob)| blob.is_worth_collecting(garbage_percent));
    let share = |blob: &crate::blob::files::LiveBlob| {
        // Only compared, so that rounding does not matter.
        blob.garbage_bytes() as f64 / blob.file.meta().record_bytes().max(1) as f64
    };
    let (&number, worst) = worth.max_by(|a, b| share(a.1).total_cmp(&share(b.1)))?;
    let used = |table: &Table| {
        let uses = table.meta().blobs.iter().find(|used| used.number == number);
        uses.map_or(0, |used| used.bytes)
    };
    let tables =
        tree.levels.iter().enumerate().flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)));
    let (level, table) = tables.max_by_key(|(_, table)| used(table)).filter(|(_, table)| used(table) > 0)?;
    Some((1.0 + share(worst), level, Arc::clone(table)))
}
