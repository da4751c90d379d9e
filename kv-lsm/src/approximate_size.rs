//! About how much room a range of keys takes, told from indexes alone.

use std::ops::Bound;

use crate::error::Error;
use crate::table::reader::Table;
use crate::version::Tree;

/// Bytes that the keys between the bounds take in the tables of `tree`, and in its blob files.
///
/// # Errors
/// Those of opening a table that reaches over an end of the range.
pub(crate) fn approximate_size(tree: &Tree, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<u64, Error> {
    let mut bytes = 0;
    for table in tree.tables() {
        let meta = table.meta();
        if is_behind(&meta.lower, end) || is_before(&meta.upper.key, start) {
            continue;
        }
        let is_inside = !is_before(&meta.lower, start) && !is_behind(&meta.upper.key, end);
        bytes += if is_inside { meta.all_bytes() } else { part(table, start, end)? };
    }
    Ok(bytes)
}

/// What the table's blocks that overlap the range are of all its blocks, of all that the table takes.
fn part(table: &Table, start: Bound<&[u8]>, end: Bound<&[u8]>) -> Result<u64, Error> {
    let (mut inside, mut all) = (0, 0);
    // A block begins behind the last key of the one before.
    let mut behind = table.meta().lower.to_vec();
    for index in 0..table.blocks()? {
        let (last, _, handle) = table.index_entry(index)?;
        all += handle.length;
        if !is_before(&last, start) && !is_behind(&behind, end) {
            inside += handle.length;
        }
        behind = last;
    }
    let bytes = u128::from(table.meta().all_bytes()) * u128::from(inside) / u128::from(all.max(1));
    Ok(u64::try_from(bytes).expect("a part of what the table takes"))
}

fn is_before(key: &[u8], start: Bound<&[u8]>) -> bool {
    match start {
        Bound::Included(start) => key < start,
        Bound::Excluded(start) => key <= start,
        Bound::Unbounded => false,
    }
}

fn is_behind(key: &[u8], end: Bound<&[u8]>) -> bool {
    match end {
        Bound::Included(end) => key > end,
        Bound::Excluded(end) => key >= end,
        Bound::Unbounded => false,
    }
}
