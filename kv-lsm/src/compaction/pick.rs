//! What to compact next. Pure: the shape of a tree goes in, a choice comes out.
//!
//! Leveled compaction with level sizes that follow from the largest level (as RocksDB's dynamic level bytes): the bottom
//! level takes what it takes, each level above a tenth of the one below, and the *base*, the first level that would hold at
//! least `level1_bytes`, is where level 0 goes. So a small tree is one level, and space amplification stays near 1.1.

use std::sync::Arc;

use super::collect::pick_collection;
use crate::manifest::catalog::LEVELS;
use crate::table::meta::Upper;
use crate::table::reader::Table;
use crate::version::Tree;

const GROWTH: u64 = 10;

#[derive(Copy, Clone, Debug)]
pub(crate) struct PickSettings {
    pub(crate) level0_tables: usize,
    pub(crate) level1_bytes: u64,
    pub(crate) blob_garbage_percent: u8,
}

/// Tables to merge, adjacent in age.
pub(crate) struct Choice {
    pub(crate) level: usize,
    /// Of `level`; on level 0 newest first.
    pub(crate) inputs: Vec<Arc<Table>>,
    pub(crate) output_level: usize,
    /// Those of `output_level` that the inputs overlap; none when it is `level` itself.
    pub(crate) overlaps: Vec<Arc<Table>>,
}

impl Choice {
    /// Whether the table can simply be named on the other level.
    pub(crate) fn is_move(&self) -> bool {
        self.inputs.len() == 1 && self.overlaps.is_empty() && self.level != self.output_level
    }
}

/// The most pressing compaction, and how pressing it is (at least 1), or `None`.
pub(crate) fn pick(tree: &Tree, settings: PickSettings) -> Option<(f64, Choice)> {
    let sizes: [u64; LEVELS] = std::array::from_fn(|level| bytes(&tree.levels[level]));
    let (base, targets) = targets(&sizes, settings.level1_bytes);
    let mut best: Option<(f64, usize)> = None;
    let mut consider = |score: f64, level: usize| {
        if score >= 1.0 && best.is_none_or(|(other, _)| score > other) {
            best = Some((score, level));
        }
    };
    consider(ratio(tree.levels[0].len() as u64, settings.level0_tables as u64), 0);
    for level in base..LEVELS - 1 {
        if sizes[level] > targets[level] {
            consider(ratio(sizes[level], targets[level]), level);
        }
    }
    if let Some((score, level, table)) = pick_collection(tree, settings.blob_garbage_percent)
        && best.is_none_or(|(other, _)| score > other)
    {
        let (inputs, output) = if level == 0 { (tree.levels[0].clone(), base) } else { (vec![table], level) };
        return Some((score, choose(tree, level, inputs, output)));
    }
    let (score, level) = best?;
    let choice = if level == 0 {
        choose(tree, 0, tree.levels[0].clone(), base)
    } else {
        choose(tree, level, vec![cheapest(tree, level)], level + 1)
    };
    Some((score, choice))
}

/// All tables of `level` that speak of keys in a range, to be merged into the level below, or, on the last level that has
/// tables, into itself.
pub(crate) fn pick_range(
    tree: &Tree,
    level: usize,
    lower: &[u8],
    upper: Option<&Upper>,
    settings: PickSettings,
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
        let sizes: [u64; LEVELS] = std::array::from_fn(|level| bytes(&tree.levels[level]));
        let (base, _) = targets(&sizes, settings.level1_bytes);
        // Tables of level 0 may overlap each other, so none may be left that is older than one that goes.
        return Some(choose(tree, 0, tree.levels[0].clone(), base));
    }
    let output_level = if Some(level) == last { level } else { level + 1 };
    Some(choose(tree, level, inputs, output_level))
}

fn choose(tree: &Tree, level: usize, inputs: Vec<Arc<Table>>, output_level: usize) -> Choice {
    let overlaps = if level == output_level { Vec::new() } else { overlapping(&tree.levels[output_level], &inputs) };
    Choice { level, inputs, output_level, overlaps }
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

/// The base level, and how much each level may hold.
fn targets(sizes: &[u64; LEVELS], level1_bytes: u64) -> (usize, [u64; LEVELS]) {
    let mut targets = [u64::MAX; LEVELS];
    let mut base = LEVELS - 1;
    let mut target = sizes[base].max(level1_bytes);
    while base > 1 && target > level1_bytes {
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
        let with = |last: u64| targets(&[0, 0, 0, 0, 0, 0, last * MIB], 256 * MIB);
        assert_eq!(with(0).0, 6, "a small tree is one level");
        assert_eq!(with(256).0, 6);
        assert_eq!(with(1000).0, 5);
        assert_eq!(with(1000).1[5], 256 * MIB);
        assert_eq!(with(100_000).0, 3);
        assert_eq!(with(100_000).1[4], 1000 * MIB);
    }

    #[test]
    fn a_level_above_the_base_is_emptied() {
        let (base, targets) = targets(&[0, 0, 5, 0, 0, 0, 0], 256 * MIB);
        assert_eq!((base, targets[2]), (2, 0));
    }
}
