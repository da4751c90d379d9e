//! What to compact next. Pure: the shape of a tree goes in, a choice comes out.
//!
//! Leveled compaction with level sizes that follow from the largest level (as RocksDB's dynamic level bytes): the bottom
//! level takes what it takes, each level above a tenth of the one below, and level 0 goes to the *base*, the first level that is to
//! hold no more than a few times `level1_bytes`. So a small tree is one level, and space amplification stays near 1.1.
//! Tables that hold much that is there for nobody are rewritten as well, whether anything is written or not.
//!
//! First in, first out: the oldest tables are dropped whole.

use std::sync::Arc;

use super::collect::pick_collection;
use super::moves::movable;
use crate::keyspace_options::CompactionStrategy;
use crate::manifest::catalog::LEVELS;
use crate::table::meta::Upper;
use crate::table::reader::Table;
use crate::time::Moment;
use crate::version::Tree;

const GROWTH: u64 = 10;
/// The base may hold so many times what comes from level 0 at once before there is a level above it: merging all of it with that each time
/// costs less than a level in between would, which is rewritten whole as well, and readers have one level less to look into …
const BASE_PER_INPUT: u64 = 6;
/// … but where there is one already, it goes only when twice as much comes: it is not the same each time …
const BASE_PER_INPUT_TO_GO: u64 = BASE_PER_INPUT / 2;
/// … and no more than so many times `level1_bytes`, so that no compaction takes too long.
const BASE_FACTOR: u64 = 4;

/// A table is rewritten for its own sake once so much of it has expired, one in …
const EXPIRED_SHARE: u64 = 3;
/// … or is deletes, one in so many.
const DELETED_SHARE: u64 = 2;

/// What compaction of a keyspace goes by.
#[derive(Copy, Clone, Debug)]
pub(crate) struct PickRules {
    pub(crate) level0_tables: usize,
    pub(crate) level1_bytes: u64,
    pub(crate) table_bytes: u64,
    pub(crate) blob_garbage_percent: u8,
    pub(crate) strategy: CompactionStrategy,
    /// The earliest moment that is read at, by the oldest snapshot or now: what had expired by then, and what was deleted
    /// before it, is there for nobody.
    pub(crate) earliest: Moment,
}

/// Tables to merge, adjacent in age.
pub(crate) struct Choice {
    pub(crate) level: usize,
    /// Of `level`; on level 0 newest first.
    pub(crate) inputs: Vec<Arc<Table>>,
    pub(crate) output_level: usize,
    /// Those of `output_level` that the inputs overlap; none when it is `level` itself.
    pub(crate) overlaps: Vec<Arc<Table>>,
    pub(crate) method: Method,
}

/// What becomes of the inputs.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Method {
    /// They are merged.
    Rewrite,
    /// They overlap nothing, and are simply named on the other level.
    Move,
    /// Nothing of them is kept: they are not even read.
    Drop,
}

/// The most pressing compaction, and how pressing it is: at least 1 when levels are too full, below 2 when there is room to
/// free. `None` when there is nothing to do; a choice that was carried out is never made again without a write or time
/// passing between.
pub(crate) fn pick(tree: &Tree, rules: PickRules) -> Option<(f64, Choice)> {
    match rules.strategy {
        CompactionStrategy::Leveled => {
            let room = pick_for_room(tree, rules);
            let sizes = pick_for_sizes(tree, rules);
            [room, sizes].into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0))
        }
        CompactionStrategy::Fifo { bytes_max } => pick_oldest(tree, rules, bytes_max),
    }
}

/// About how many bytes are to be rewritten until no level is too full: level 0 once it is, with what it falls on, and what
/// each level has too much, with its share of the next.
pub(crate) fn pending_bytes(tree: &Tree, level0_tables: usize, level1_bytes: u64) -> u64 {
    let sizes: [u64; LEVELS] = std::array::from_fn(|level| bytes(&tree.levels[level]));
    let (base, targets) = targets(&sizes, level1_bytes);
    let mut pending = if tree.levels[0].len() >= level0_tables { sizes[0].saturating_add(sizes[base]) } else { 0 };
    for level in base..LEVELS - 1 {
        let over = sizes[level].saturating_sub(targets[level]);
        pending = pending.saturating_add(over.saturating_mul(GROWTH + 1));
    }
    pending
}

fn pick_for_sizes(tree: &Tree, rules: PickRules) -> Option<(f64, Choice)> {
    let sizes: [u64; LEVELS] = std::array::from_fn(|level| bytes(&tree.levels[level]));
    let (base, targets) = targets(&sizes, rules.level1_bytes);
    let mut best: Option<(f64, usize)> = None;
    let mut consider = |score: f64, level: usize| {
        if score >= 1.0 && best.is_none_or(|(other, _)| score > other) {
            best = Some((score, level));
        }
    };
    consider(ratio(tree.levels[0].len() as u64, rules.level0_tables as u64), 0);
    for level in base..LEVELS - 1 {
        if sizes[level] > targets[level] {
            consider(ratio(sizes[level], targets[level]), level);
        }
    }
    if let Some((score, level, table)) = pick_collection(tree, rules.blob_garbage_percent)
        && best.is_none_or(|(other, _)| score > other)
    {
        let (inputs, output) = if level == 0 { (tree.levels[0].clone(), base) } else { (vec![table], level) };
        return Some((score, choose(tree, level, inputs, output)));
    }
    let (score, level) = best?;
    let choice = if level == 0 {
        choose_level0(tree, base, rules.table_bytes)
    } else {
        choose(tree, level, vec![cheapest(tree, level)], level + 1)
    };
    Some((score, choice))
}

/// What can be moved, if anything can; else all of it. What is left after a move is merged when it is too much by itself.
fn choose_level0(tree: &Tree, base: usize, table_bytes: u64) -> Choice {
    let movable = movable(tree, base, table_bytes);
    if movable.is_empty() {
        return choose(tree, 0, tree.levels[0].clone(), base);
    }
    Choice { level: 0, inputs: movable, output_level: base, overlaps: Vec::new(), method: Method::Move }
}

/// Lesson 48: the table with the largest share of entries that are there for nobody, or that only hide others.
///
/// No table is taken twice for one reason. What has expired as of the earliest moment is gone from what is written, so that
/// the earliest expiry of that lies behind it. Deletes go one level deeper each time, and where nothing lies deeper only
/// tables are taken of which all deletes can go.
fn pick_for_room(tree: &Tree, rules: PickRules) -> Option<(f64, Choice)> {
    let mut best: Option<(f64, usize, &Arc<Table>)> = None;
    for (level, tables) in tree.levels.iter().enumerate() {
        for table in tables {
            let share = share_to_free(tree, level, table, rules.earliest);
            if share > 0.0 && best.is_none_or(|(other, ..)| share > other) {
                best = Some((share, level, table));
            }
        }
    }
    let (share, level, table) = best?;
    let choice = if level == 0 {
        choose(tree, 0, tree.levels[0].clone(), base(tree, rules.level1_bytes))
    } else {
        let output_level = if lies_over_others(tree, level, table) { level + 1 } else { level };
        choose(tree, level, vec![Arc::clone(table)], output_level)
    };
    // A table of which nothing is left comes before levels that are a little too full.
    Some((0.5 + share, choice))
}

/// Zero when it is below the thresholds, or when rewriting the table would gain nothing now.
fn share_to_free(tree: &Tree, level: usize, table: &Arc<Table>, earliest: Moment) -> f64 {
    let meta = table.meta();
    let said = meta.entries + meta.range_deletes;
    let expired = meta.expiring.expired(earliest.as_of);
    let expired = if expired * EXPIRED_SHARE >= said { ratio(expired, said) } else { 0.0 };
    let deletes = meta.deletes + meta.range_deletes;
    let deleted = if deletes * DELETED_SHARE >= said && deletes_can_go(tree, level, table, earliest) {
        ratio(deletes, said)
    } else {
        0.0
    };
    expired.max(deleted)
}

fn deletes_can_go(tree: &Tree, level: usize, table: &Arc<Table>, earliest: Moment) -> bool {
    if level == 0 {
        // All of level 0 goes with it: not for a handful of deletes over a large level.
        let inputs = &tree.levels[0];
        let below = (1..LEVELS).find(|&level| !tree.levels[level].is_empty());
        let rewritten = below.map_or(0, |level| bytes(&overlapping(&tree.levels[level], inputs)));
        return bytes(inputs) * GROWTH >= rewritten;
    }
    lies_over_others(tree, level, table) || table.meta().sequence_max <= earliest.sequence
}

/// Whether something deeper speaks of keys between the first and the last of the table.
fn lies_over_others(tree: &Tree, level: usize, table: &Arc<Table>) -> bool {
    tree.levels[level + 1..].iter().any(|tables| !overlapping(tables, std::slice::from_ref(table)).is_empty())
}

/// First in, first out: the oldest tables, once nothing in them is there for anybody, or when there are too many bytes. Only
/// the oldest: of what a newer one hides nothing may be left when it goes (lesson 49).
fn pick_oldest(tree: &Tree, rules: PickRules, bytes_max: Option<u64>) -> Option<(f64, Choice)> {
    let tables = &tree.levels[0];
    let is_spent = |table: &&Arc<Table>| {
        let meta = table.meta();
        // A delete in the oldest table has nothing left to hide.
        meta.expiring.entries + meta.deletes == meta.entries && meta.expiring.latest <= rules.earliest.as_of
    };
    let mut dropped = tables.iter().rev().take_while(is_spent).count();
    let mut left: u64 = tables[..tables.len() - dropped].iter().map(|table| table.meta().all_bytes()).sum();
    while left > bytes_max.unwrap_or(u64::MAX) && tables.len() - dropped > 1 {
        dropped += 1;
        left -= tables[tables.len() - dropped].meta().all_bytes();
    }
    let inputs = tables[tables.len() - dropped..].to_vec();
    let choice = Choice { level: 0, inputs, output_level: 0, overlaps: Vec::new(), method: Method::Drop };
    (dropped > 0).then_some((1.5, choice))
}

/// All tables of `level` that speak of keys in a range, to be merged into the level below, or, on the last level that has
/// tables, into itself.
pub(crate) fn pick_range(
    tree: &Tree,
    level: usize,
    lower: &[u8],
    upper: Option<&Upper>,
    level1_bytes: u64,
) -> Option<Choice> {
    let in_range = |table: &&Arc<Table>| match upper {
        Some(upper) => table.meta().overlaps(lower, upper),
        None => !table.meta().upper.is_before(lower),
    };
    let inputs: Vec<Arc<Table>> = tree.levels[level].iter().filter(in_range).cloned().collect();
    if inputs.is_empty() {
        return None;
    }
    let last = (1..LEVELS).rev().find(|&level| !tree.levels[level].is_empty());
    if level == 0 {
        // Tables of level 0 may overlap each other, so none may be left that is older than one that goes.
        return Some(choose(tree, 0, tree.levels[0].clone(), base(tree, level1_bytes)));
    }
    let output_level = if Some(level) == last { level } else { level + 1 };
    Some(choose(tree, level, inputs, output_level))
}

fn choose(tree: &Tree, level: usize, inputs: Vec<Arc<Table>>, output_level: usize) -> Choice {
    let overlaps = if level == output_level { Vec::new() } else { overlapping(&tree.levels[output_level], &inputs) };
    let is_alone = inputs.len() == 1 && overlaps.is_empty() && level != output_level;
    let method = if is_alone { Method::Move } else { Method::Rewrite };
    Choice { level, inputs, output_level, overlaps, method }
}

fn overlapping(tables: &[Arc<Table>], inputs: &[Arc<Table>]) -> Vec<Arc<Table>> {
    let lower = inputs.iter().map(|table| &table.meta().lower).min().expect("there are inputs");
    let upper = inputs.iter().map(|table| table.meta().upper.clone()).reduce(Upper::max).expect("there are inputs");
    tables.iter().filter(|table| table.meta().overlaps(lower, &upper)).cloned().collect()
}

/// The table whose move down rewrites the least for what it brings.
fn cheapest(tree: &Tree, level: usize) -> Arc<Table> {
    let cost = |table: &Arc<Table>| {
        let below = overlapping(&tree.levels[level + 1], std::slice::from_ref(table));
        ratio(bytes(&below), table.meta().bytes.max(1))
    };
    let tables = &tree.levels[level];
    let cheapest = tables.iter().map(|table| (cost(table), table)).min_by(|a, b| a.0.total_cmp(&b.0));
    Arc::clone(cheapest.expect("a level over its size has tables").1)
}

/// The level where tables of level 0 go.
pub(crate) fn base(tree: &Tree, level1_bytes: u64) -> usize {
    let sizes: [u64; LEVELS] = std::array::from_fn(|level| bytes(&tree.levels[level]));
    targets(&sizes, level1_bytes).0
}

/// The base level, and how much each level may hold.
fn targets(sizes: &[u64; LEVELS], level1_bytes: u64) -> (usize, [u64; LEVELS]) {
    let mut targets = [u64::MAX; LEVELS];
    let mut base = LEVELS - 1;
    let mut target = sizes[base].max(level1_bytes);
    let base_max = |base: usize| {
        let is_there = sizes[1..base].iter().any(|&size| size > 0);
        let per_input = if is_there { BASE_PER_INPUT_TO_GO } else { BASE_PER_INPUT };
        sizes[0].saturating_mul(per_input).clamp(level1_bytes, level1_bytes.saturating_mul(BASE_FACTOR))
    };
    while base > 1 && target > base_max(base) {
        base -= 1;
        target = (target / GROWTH).max(level1_bytes);
        targets[base] = target;
    }
    // Levels that have tables although a smaller tree would not use them must be emptied, from the top.
    if let Some(first) = (1..base).find(|&level| sizes[level] > 0) {
        targets[first..base].fill(0);
        base = first;
    }
    (base, targets)
}

fn bytes(tables: &[Arc<Table>]) -> u64 {
    tables.iter().map(|table| table.meta().bytes).sum()
}

/// Only compared with other ratios and with one, so that rounding does not matter.
fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 { f64::INFINITY } else { numerator as f64 / denominator as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_base_follows_from_the_largest_level() {
        let with = |last: u64| targets(&[256 * MIB, 0, 0, 0, 0, 0, last * MIB], 256 * MIB);
        assert_eq!(with(0).0, 6, "a small tree is one level");
        assert_eq!(with(1024).0, 6);
        assert_eq!(with(1025).0, 5);
        assert_eq!(with(1025).1[5], 256 * MIB);
        assert_eq!(with(10_240).0, 5, "the base itself may be a few times as large");
        assert_eq!(with(10_240).1[5], 1024 * MIB);
        assert_eq!(with(200_000).0, 3);
        assert_eq!(with(200_000).1[4], 2000 * MIB);
        let with = |first: u64, last: u64| targets(&[first * MIB, 0, 0, 0, 0, 0, last * MIB], 256 * MIB).0;
        assert_eq!((with(100, 600), with(100, 601)), (6, 5), "six times what comes at once");
        assert_eq!((with(10, 256), with(10, 257)), (6, 5), "and in any case as much as the first level may hold");
    }

    #[test]
    fn a_level_in_between_goes_only_when_twice_as_much_comes_as_when_it_came() {
        let with = |first: u64, between: u64| {
            let (base, targets) = targets(&[first * MIB, 0, 0, 0, 0, between * MIB, 600 * MIB], 256 * MIB);
            (base, targets[5] / MIB)
        };
        assert_eq!(with(99, 0), (5, 256), "it comes");
        for first in [0, 99, 101, 199] {
            assert_eq!(with(first, 50), (5, 256), "it stays");
        }
        assert_eq!(with(200, 50), (5, 0), "it goes");
        assert_eq!(with(200, 0).0, 6, "it is gone");
    }

    #[test]
    fn a_level_above_the_base_is_emptied() {
        let (base, targets) = targets(&[0, 0, 5, 0, 0, 0, 0], 256 * MIB);
        assert_eq!((base, targets[2]), (2, 0));
    }
}
