//! Carrying out a choice.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fold::FoldRules;
use super::outputs::{ANY_TIME, Outputs, discard};
use super::pick::{Choice, Method, PickRules, pick, pick_range};
use super::rewrite::{Older, Rewrite, Written};
use super::warm;
use crate::blob::files::BlobFiles;
use crate::blob::separate::Separator;
use crate::cursor::Cursor;
use crate::engine::{Engine, lock};
use crate::error::Error;
use crate::manifest::catalog::LEVELS;
use crate::manifest::edit::{Edit, Item};
use crate::merge_iter::{LevelCursor, MergeCursor};
use crate::range_delete::{RangeDelete, RangeDeletes};
use crate::table::cursor::TableCursor;
use crate::table::format::Origin;
use crate::table::meta::Upper;
use crate::table::reader::Table;
use crate::time::Moment;

/// Does the most pressing compaction of all keyspaces. Returns whether there was one.
///
/// # Errors
/// See [`Error`]; then the tables are as before.
pub(crate) fn compact_once(engine: &Engine) -> Result<bool, Error> {
    let _turn = lock(&engine.compaction_turn);
    engine.health.check()?;
    // The version before the moments: a snapshot that is taken in between sees what is in it as of later.
    let version = Arc::clone(&engine.version());
    let earliest = earliest_moment(engine);
    let picked = version.trees.iter().filter_map(|(&keyspace, tree)| {
        let (score, choice) = pick(tree, rules(engine, keyspace, earliest))?;
        Some((score, keyspace, choice))
    });
    let choice = picked.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, keyspace, choice)| (keyspace, choice));
    drop(version);
    match choice {
        Some((keyspace, choice)) => execute(engine, keyspace, &choice).map(|_| true),
        None => Ok(false),
    }
}

/// Merges everything that speaks of keys in a range down to the deepest level, and that level once. Where tables are dropped
/// first in, first out, drops those that can be.
///
/// # Errors
/// As [`compact_once`].
pub(crate) fn compact_range(engine: &Engine, keyspace: u32, lower: &[u8], upper: Option<&Upper>) -> Result<(), Error> {
    let _turn = lock(&engine.compaction_turn);
    if engine.options_of(keyspace).is_fifo() {
        return drop_oldest(engine, keyspace);
    }
    let mut fresh: Vec<u64> = Vec::new();
    for level in 0..LEVELS {
        engine.health.check()?;
        let choice = {
            let version = engine.version();
            version
                .trees
                .get(&keyspace)
                .and_then(|tree| pick_range(tree, level, lower, upper, engine.config.level1_bytes))
        };
        let Some(choice) = choice else { continue };
        // What this call wrote there a moment ago needs no second pass. All or nothing: the output may span what lies
        // between two inputs, so they must be neighbours.
        let in_place = choice.level == choice.output_level;
        if !(in_place && choice.inputs.iter().all(|table| fresh.contains(&table.meta().number))) {
            let written = execute(engine, keyspace, &choice)?;
            if choice.method == Method::Rewrite {
                fresh.extend(written);
            }
        }
    }
    Ok(())
}

fn drop_oldest(engine: &Engine, keyspace: u32) -> Result<(), Error> {
    loop {
        engine.health.check()?;
        let rules = rules(engine, keyspace, earliest_moment(engine));
        let choice = engine.version().trees.get(&keyspace).and_then(|tree| pick(tree, rules));
        let Some((_, choice)) = choice else { return Ok(()) };
        execute(engine, keyspace, &choice)?;
    }
}

fn earliest_moment(engine: &Engine) -> Moment {
    engine.snapshots.boundaries(&engine.time)[0]
}

fn rules(engine: &Engine, keyspace: u32, earliest: Moment) -> PickRules {
    PickRules {
        level0_tables: engine.level0_compacted_from(),
        level1_bytes: engine.config.level1_bytes,
        table_bytes: engine.config.table_bytes,
        strategy: engine.options_of(keyspace).strategy,
        earliest,
        blob_garbage_percent: engine.config.blob_garbage_percent,
    }
}

/// What a choice replaces.
fn replaced(choice: &Choice) -> warm::Before {
    let (inputs, overlaps) = (choice.inputs.clone(), choice.overlaps.clone());
    match choice.level {
        0 => Older { loose: inputs, levels: vec![overlaps], others: false },
        _ => Older { levels: vec![inputs, overlaps], ..Older::default() },
    }
}

/// Returns the numbers of the tables that are on the output level now and were not before.
fn execute(engine: &Engine, keyspace: u32, choice: &Choice) -> Result<Vec<u64>, Error> {
    let mut created = Vec::new();
    let count = choice.inputs.len() as u64;
    let mut written = match choice.method {
        Method::Drop => {
            engine.counters.dropped_tables.fetch_add(count, Ordering::Relaxed);
            Written::default()
        }
        Method::Move => {
            engine.counters.moved_tables.fetch_add(count, Ordering::Relaxed);
            let tables = choice.inputs.iter().map(|table| table.meta().clone()).collect();
            Written { tables, ..Written::default() }
        }
        Method::Rewrite => match rewrite(engine, keyspace, choice, &mut created)? {
            Some(written) => written,
            // Cancelled: the database closes, or was poisoned meanwhile.
            None => return engine.health.check().map(|()| Vec::new()),
        },
    };
    let numbers: Vec<u64> = written.tables.iter().map(|table| table.number).collect();
    let removed = |level: usize, tables: &[Arc<Table>]| -> Vec<Item> {
        tables.iter().map(|table| Item::Removed { keyspace, level, number: table.meta().number }).collect()
    };
    let mut items = removed(choice.level, &choice.inputs);
    items.extend(removed(choice.output_level, &choice.overlaps));
    let ready = warm::open(std::mem::take(&mut written.warm), &engine.directory, &engine.environment);
    items.extend(written.items(keyspace, choice.output_level));
    let result = engine.install_tables(Edit(items), &ready, |_| {});
    // What is not named is closed before it is removed.
    drop(ready);
    match result {
        Ok(()) if choice.method == Method::Move => {}
        Ok(()) => {
            // Rule E5: the edit that no longer names them is durable.
            choice.inputs.iter().chain(&choice.overlaps).for_each(|table| table.retire());
        }
        // Whether the edit is durable is unknown, so nothing that it may name goes.
        Err(Error::Poisoned { .. }) => {}
        Err(_) => discard(engine.disk.as_ref(), &created),
    }
    result.map(|()| numbers)
}

fn rewrite(
    engine: &Engine,
    keyspace: u32,
    choice: &Choice,
    created: &mut Vec<PathBuf>,
) -> Result<Option<Written>, Error> {
    let begin = Instant::now();
    let rules =
        FoldRules { boundaries: engine.snapshots.boundaries(&engine.time), operator: engine.operator_of(keyspace) };
    // Only compactions move tables below level 0, and this is the only one.
    let (older, blobs) = match engine.version().trees.get(&keyspace) {
        Some(tree) => {
            let levels = tree.levels[choice.output_level + 1..].to_vec();
            (Older { levels, ..Older::default() }, tree.blobs.clone())
        }
        None => (Older::default(), BlobFiles::default()),
    };
    let collected = blobs.worth_collecting(engine.config.blob_garbage_percent);
    let mut cursors: Vec<Box<dyn Cursor>> = Vec::new();
    if choice.level == 0 {
        for table in &choice.inputs {
            cursors.push(Box::new(TableCursor::new(Arc::clone(table), false)));
        }
    } else {
        cursors.push(Box::new(LevelCursor::new(choice.inputs.clone(), false)));
    }
    if !choice.overlaps.is_empty() {
        cursors.push(Box::new(LevelCursor::new(choice.overlaps.clone(), false)));
    }
    let mut deletes: Vec<RangeDelete> = Vec::new();
    let mut read_bytes = 0;
    for table in choice.inputs.iter().chain(&choice.overlaps) {
        read_bytes += table.meta().bytes;
        if let Some(ranges) = table.range_deletes()? {
            deletes.extend(ranges.deletes());
        }
    }
    let replaces = choice.inputs.iter().chain(&choice.overlaps).map(|table| table.meta().number).collect();
    let job = Rewrite {
        rules,
        range_deletes: RangeDeletes::new(deletes),
        older,
        table_bytes: engine.config.table_bytes,
        separator: Separator::new(engine.separate_rules(keyspace), blobs, collected),
        outputs: Outputs {
            disk: engine.disk.as_ref(),
            directory: &engine.directory,
            new_number: &mut || engine.new_file_number(),
            table: engine.table_settings(keyspace, choice.output_level),
            origin: Origin { replaces, ..engine.origin(keyspace) },
            blob: engine.blob_settings(keyspace),
            created,
            may_end: ANY_TIME,
            warming: Some(warm::where_read(&engine.environment, replaced(choice))),
        },
        cancelled: &|| engine.closing.load(Ordering::Relaxed) || engine.health.is_poisoned(),
    };
    let written = job.run(&mut MergeCursor::new(cursors));
    let synced = written.and_then(|written| {
        // A directory whose sync failed may never hold the names that it should: nothing may build on it.
        let sync = engine.disk.sync_dir(&engine.directory);
        sync.map_err(|error| engine.poison(&Error::io("sync", &engine.directory, error)))?;
        Ok(written)
    });
    match &synced {
        Ok(Some(files)) => {
            engine.counters.count_blobs(&files.blobs);
            let written: u64 = files.tables.iter().map(|table| table.bytes).sum();
            engine.counters.compactions.fetch_add(1, Ordering::Relaxed);
            engine.counters.compaction_time.add_time(begin.elapsed());
            engine.counters.compaction_read_bytes.fetch_add(read_bytes, Ordering::Relaxed);
            engine.counters.compaction_written_bytes.fetch_add(written, Ordering::Relaxed);
        }
        Err(Error::Poisoned { .. }) => {}
        Ok(None) | Err(_) => discard(engine.disk.as_ref(), created),
    }
    synced
}
