//! Whether, key by key, what lies shallower is newer: reads stop at the first level that answers, so a newer version below
//! would never be seen.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cursor::Cursor;
use crate::error::Error;
use crate::internal_key::{Trailer, compare};
use crate::merge_iter::LevelCursor;
use crate::range_delete::{RangeDelete, RangeDeletes};
use crate::table::reader::Table;
use crate::version::Tree;

/// One place where tables lie that do not overlap: a table of level 0, or a deeper level.
struct Depth {
    cursor: LevelCursor,
    range_deletes: RangeDeletes,
    tables: Vec<Arc<Table>>,
}

impl Depth {
    fn new(tables: Vec<Arc<Table>>) -> Result<Self, Error> {
        let mut deletes: Vec<RangeDelete> = Vec::new();
        for table in &tables {
            if let Some(ranges) = table.range_deletes()? {
                deletes.extend(ranges.deletes());
            }
        }
        let cursor = LevelCursor::new(tables.clone(), false);
        Ok(Self { cursor, range_deletes: RangeDeletes::new(deletes), tables })
    }

    fn path_of(&self, key: &[u8]) -> PathBuf {
        let table = self.tables.iter().find(|table| table.meta().contains(key)).or_else(|| self.tables.first());
        table.map(|table| table.path().to_path_buf()).unwrap_or_default()
    }
}

/// How many depths of a tree have tables: with one there is nothing to compare.
pub(crate) fn depths(tree: &Tree) -> usize {
    tree.levels[0].len() + tree.levels[1..].iter().filter(|level| !level.is_empty()).count()
}

/// Walks all versions of a keyspace. `problem` takes a table and what was expected of it; `read` is told now and then how many
/// bytes of keys and values went by.
///
/// # Errors
/// When something cannot be read; that was found before, block by block.
pub(crate) fn check(
    tree: &Tree,
    problem: &mut dyn FnMut(PathBuf, String),
    read: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    let mut depths = Vec::new();
    for table in &tree.levels[0] {
        depths.push(Depth::new(vec![Arc::clone(table)])?);
    }
    for level in tree.levels[1..].iter().filter(|level| !level.is_empty()) {
        depths.push(Depth::new(level.clone())?);
    }
    for depth in &mut depths {
        depth.cursor.seek(&[], Trailer::NEWEST)?;
    }
    let mut key: Vec<u8> = Vec::new();
    let mut before: Option<(usize, u64)> = None;
    let mut bytes = 0;
    while let Some(at) = first(&depths) {
        let entry = depths[at].cursor.entry().expect("the first one stands on something");
        bytes += (entry.key.len() + entry.value.len()) as u64;
        if bytes > 1 << 20 {
            read(std::mem::take(&mut bytes));
        }
        if before.is_none() || entry.key != key.as_slice() {
            key.clear();
            key.extend_from_slice(entry.key);
            before = None;
        }
        let sequence = entry.trailer.sequence();
        match before {
            Some((depth, _)) if depth > at => {
                let found =
                    format!("no version of a key older than the one in {}", depths[depth].path_of(&key).display());
                problem(depths[at].path_of(&key), found);
            }
            Some((_, newer)) if newer == sequence => {
                problem(depths[at].path_of(&key), format!("sequence number {sequence} under one key once"));
            }
            _ => {}
        }
        let covered = depths[at + 1..].iter().find(|deeper| deeper.range_deletes.newest(&key, u64::MAX) > sequence);
        if let Some(deeper) = covered {
            let found = "no deleted range newer than what lies above it".to_owned();
            problem(deeper.path_of(&key), found);
        }
        before = Some((at, sequence));
        depths[at].cursor.next()?;
    }
    read(bytes);
    Ok(())
}

/// The depth whose cursor stands on the first version; of equal ones the shallowest.
fn first(depths: &[Depth]) -> Option<usize> {
    let entries = depths.iter().enumerate().filter_map(|(at, depth)| Some((at, depth.cursor.entry()?)));
    let first = entries.min_by(|(_, a), (_, b)| compare((a.key, a.trailer), (b.key, b.trailer)));
    first.map(|(at, _)| at)
}
