//! Reading one key of a pinned version.

use std::sync::Arc;

use crate::counters::{ReadCounters, ReadTally};
use crate::error::Error;
use crate::manifest::catalog::LEVELS;
use crate::range_delete::RangeDeletes;
use crate::table::filter;
use crate::table::reader::Table;
use crate::version::{Tree, Version};
use crate::visible::{Operands, ReadRules, Resolver};

/// Calls `found` with the value of `key` and returns whether there is one. Sources are asked from the newest to the oldest.
///
/// # Errors
/// See [`Error`]; `found` was not called.
pub(crate) fn get(
    version: &Version,
    rules: ReadRules<'_>,
    key: &[u8],
    counters: &ReadCounters,
    found: &mut dyn FnMut(&[u8]),
) -> Result<bool, Error> {
    let mut tally = ReadTally::default();
    let result = look_up(version, rules, key, &mut tally, found);
    counters.add(&tally);
    result
}

fn look_up(
    version: &Version,
    rules: ReadRules<'_>,
    key: &[u8],
    tally: &mut ReadTally,
    found: &mut dyn FnMut(&[u8]),
) -> Result<bool, Error> {
    let (keyspace, sequence) = (rules.keyspace, rules.sequence);
    let mut operands = Operands::default();
    let tree = version.trees.get(&keyspace);
    let hash = filter::hash(key);
    let mut resolver = Resolver::new(rules, tree.map(|tree| &tree.blobs), key, &mut operands, found);
    for memtable in version.memtables() {
        for ranges in memtable.range_deletes(keyspace) {
            resolver.cover(ranges.newest(key, sequence));
        }
        memtable.of_key(keyspace, key, hash, sequence, &mut |trailer, value| resolver.add(trailer, value));
        if resolver.is_settled() {
            tally.memtable = 1;
            return resolver.finish();
        }
    }
    let Some(tree) = tree else {
        tally.nowhere = 1;
        return resolver.finish();
    };
    let mut ask = |table: &Arc<Table>, tally: &mut ReadTally| {
        if sabotaged!(FilterBeforeRangeDeletes) && !table.may_contain(hash)? {
            return Ok::<bool, Error>(false);
        }
        // Rule E11: a newer table may cover the key by range only, and then its filter does not know the key.
        let ranges: Option<Arc<RangeDeletes>> = table.range_deletes()?;
        if let Some(ranges) = ranges {
            resolver.cover(ranges.newest(key, sequence));
        }
        table.of_key(key, hash, sequence, tally, &mut |trailer, value| resolver.add(trailer, value))?;
        Ok::<bool, Error>(resolver.is_settled())
    };
    let mut settled = false;
    for table in tree.levels[0].iter().filter(|table| table.meta().contains(key)) {
        settled = ask(table, tally)?;
        if settled {
            tally.level0 = 1;
            break;
        }
    }
    if !settled {
        let mut candidates: [Option<&Arc<Table>>; LEVELS] = [None; LEVELS];
        for (candidate, tables) in candidates.iter_mut().zip(&tree.levels[1..]) {
            *candidate = Tree::table_for(tables, key).map(|index| &tables[index]);
            if let Some(table) = candidate {
                table.approach_filter(hash);
            }
        }
        for table in candidates.into_iter().flatten() {
            if ask(table, tally)? {
                tally.deeper = 1;
                break;
            }
        }
    }
    if tally.level0 + tally.deeper == 0 {
        tally.nowhere = 1;
    }
    resolver.finish()
}
