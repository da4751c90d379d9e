//! From memtable to table.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::blob::files::BlobFiles;
use crate::blob::separate::{SeparateRules, Separator};
use crate::compaction::fold::FoldRules;
use crate::compaction::moves::is_free;
use crate::compaction::outputs::{ANY_TIME, Outputs, discard};
use crate::compaction::pick;
use crate::compaction::rewrite::{Older, Rewrite, Written};
use crate::compaction::warm;
use crate::cursor::Cursor;
use crate::engine::{Engine, LogState, lock};
use crate::error::Error;
use crate::files;
use crate::internal_key::Trailer;
use crate::manifest::edit::{Edit, Item};
use crate::memtable::{Memtable, MemtableCursor};
use crate::range_delete::RangeDeletes;
use crate::table::meta::{TableMeta, Upper};
use crate::table::reader::Table;
use crate::version::{Tree, Version};
use crate::wal::spare::Spare;

/// Ends the log's segment and begins another. The caller holds the log.
///
/// # Errors
/// The disk's; then the segment goes on.
pub(crate) fn rotate(engine: &Engine, log: &mut LogState) -> Result<(), Error> {
    let number = engine.new_file_number();
    let spare = log.spares.pop();
    log.writer.rotate(number, engine.syncer.synced_position(), spare)?;
    if log.writer.is_recycled() {
        engine.counters.recycled_segments.fetch_add(1, Ordering::Relaxed);
    }
    log.segments.push(number);
    engine.syncer.rotated(number, Arc::clone(log.writer.file()), log.writer.position());
    Ok(())
}

/// Seals the active memtable, unless it is empty, and begins another, together with a segment of the log. The caller holds
/// the log, so that every writer of the memtable has published (rule E9).
///
/// # Errors
/// The disk's; then the memtable goes on.
pub(crate) fn seal(engine: &Engine, log: &mut LogState) -> Result<(), Error> {
    if engine.version().active.is_empty() {
        return Ok(());
    }
    rotate(engine, log)?;
    let fresh = Arc::new(Memtable::new(log.writer.number(), log.writer.start(), &engine.chunks));
    if sabotaged!(CallSealedDurable) {
        engine.syncer.flushed(fresh.log_segment(), fresh.log_position(), log.next_sequence - 1);
    }
    engine.change_version(|version| {
        let mut next = version.clone();
        let sealed = std::mem::replace(&mut next.active, fresh);
        next.sealed.insert(0, sealed);
        next
    });
    engine.work_wanted.raise();
    Ok(())
}

/// Flushes everything that was committed before the call.
///
/// # Errors
/// As [`flush_oldest`].
pub(crate) fn flush_all(engine: &Engine) -> Result<(), Error> {
    engine.writable()?;
    let through = {
        let mut log = lock(&engine.log);
        engine.health.check()?;
        seal(engine, &mut log)?;
        log.next_sequence - 1
    };
    while engine.version().sealed.last().is_some_and(|oldest| oldest.last_sequence() <= through) {
        flush_oldest(engine)?;
    }
    Ok(())
}

/// Flushes the oldest sealed memtable. Returns whether there was one.
///
/// # Errors
/// See [`Error`]; then the memtable is still there, and the flush can be tried again.
pub(crate) fn flush_oldest(engine: &Engine) -> Result<bool, Error> {
    let durable = engine.syncer.durable_sequence();
    let result = flush_in_turn(engine);
    // The host may flush when it is woken.
    if engine.syncer.durable_sequence() > durable {
        engine.syncer.call_wake();
    }
    result
}

fn flush_in_turn(engine: &Engine) -> Result<bool, Error> {
    let _turn = lock(&engine.flush_turn);
    engine.health.check()?;
    let version = Arc::clone(&engine.version());
    let Some(memtable) = version.sealed.last() else { return Ok(false) };
    let begin = Instant::now();
    let mut created = Vec::new();
    let result = write_tables(engine, &version, memtable, &mut created).and_then(|new| install(engine, &version, new));
    match &result {
        Ok(()) => {}
        Err(Error::Poisoned { .. }) => return result.map(|()| true),
        Err(_) => {
            discard(engine.disk.as_ref(), &created);
            return result.map(|()| true);
        }
    }
    engine.counters.flushes.fetch_add(1, Ordering::Relaxed);
    engine.counters.flush_time.add_time(begin.elapsed());
    engine.purge();
    Ok(true)
}

/// What comes of a memtable.
#[derive(Default)]
struct NewTables {
    items: Vec<Item>,
    /// Those of the tables that are open already.
    ready: Vec<Arc<Table>>,
}

fn write_tables(
    engine: &Engine,
    version: &Version,
    memtable: &Arc<Memtable>,
    created: &mut Vec<PathBuf>,
) -> Result<NewTables, Error> {
    let boundaries = engine.snapshots.boundaries(&engine.time);
    let mut new = NewTables::default();
    for keyspace in memtable.spaces() {
        // A keyspace without a tree was dropped.
        let Some(tree) = version.trees.get(&keyspace) else { continue };
        let older = Older { loose: tree.levels[0].clone(), levels: tree.levels[1..].to_vec(), others: false };
        let rules = FoldRules { boundaries: boundaries.clone(), operator: engine.operator_of(keyspace) };
        let outputs = Outputs {
            disk: engine.disk.as_ref(),
            directory: &engine.directory,
            new_number: &mut || engine.new_file_number(),
            table: engine.table_settings(keyspace, destination(engine, tree, memtable, keyspace)?),
            origin: engine.origin(keyspace),
            blob: engine.blob_settings(keyspace),
            created,
            may_end: ANY_TIME,
            // Where tables stay on level 0 until they are dropped, there may be thousands to look into.
            warming: (!engine.options_of(keyspace).is_fifo())
                .then(|| warm::where_read(&engine.environment, older.clone())),
        };
        let ranges = memtable.range_deletes(keyspace).iter().flat_map(|ranges| ranges.deletes()).collect();
        let mut versions = MemtableCursor::new(memtable, keyspace);
        let separate = engine.separate_rules(keyspace);
        let mut written = write_keyspace(&mut versions, RangeDeletes::new(ranges), rules, older, separate, outputs)?;
        let bytes = |tables: &[TableMeta]| tables.iter().map(|table| table.bytes).sum();
        engine.counters.flush_bytes.fetch_add(bytes(&written.tables), Ordering::Relaxed);
        engine.counters.count_blobs(&written.blobs);
        let warm = std::mem::take(&mut written.warm);
        new.ready.extend(warm::open(warm, &engine.directory, &engine.environment));
        new.items.extend(written.items(keyspace, 0));
    }
    // The names of the tables, and that of the segment where the log now begins.
    if !sabotaged!(SkipDirectorySync) {
        let sync = engine.disk.sync_dir(&engine.directory);
        sync.map_err(|error| engine.poison(&Error::io("sync", &engine.directory, error)))?;
    }
    Ok(new)
}

/// The level that a table of a memtable is written for: where nothing is in its way, it will be moved there as it is.
fn destination(engine: &Engine, tree: &Tree, memtable: &Memtable, keyspace: u32) -> Result<usize, Error> {
    if engine.options_of(keyspace).is_fifo() {
        return Ok(0);
    }
    let is_alone = extent(memtable, keyspace)?.is_some_and(|(lower, upper)| is_free(tree, &lower, &upper));
    Ok(if is_alone { pick::base(tree, engine.config.level1_bytes) } else { 0 })
}

/// A first and a last key.
type Extent = (Arc<[u8]>, Upper);

/// What a memtable speaks of in a keyspace.
fn extent(memtable: &Memtable, keyspace: u32) -> Result<Option<Extent>, Error> {
    let ranges = memtable.range_deletes(keyspace);
    let deletes = || ranges.iter().flat_map(|ranges| ranges.deletes());
    let mut cursor = MemtableCursor::new(memtable, keyspace);
    cursor.seek(&[], Trailer::NEWEST)?;
    let first: Option<Arc<[u8]>> = cursor.entry().map(|entry| entry.key.into());
    cursor.seek_before(None)?;
    let last = cursor.entry().map(|entry| Upper { key: entry.key.into(), inclusive: true });
    let lower = deletes().map(|delete| delete.start).chain(first).min();
    let upper = deletes().map(|delete| Upper { key: delete.end, inclusive: false }).chain(last).reduce(Upper::max);
    Ok(lower.zip(upper))
}

/// Writes versions of one keyspace that were not in a table before, at most one table.
///
/// # Errors
/// The disk's.
pub(crate) fn write_keyspace(
    versions: &mut dyn Cursor,
    range_deletes: RangeDeletes,
    rules: FoldRules,
    older: Older,
    separate: SeparateRules,
    outputs: Outputs<'_>,
) -> Result<Written, Error> {
    let job = Rewrite {
        rules,
        range_deletes,
        older,
        table_bytes: u64::MAX,
        // There are no pointers yet.
        separator: Separator::new(separate, BlobFiles::default(), BTreeSet::new()),
        outputs,
        cancelled: &|| false,
    };
    let written = job.run(versions)?;
    Ok(written.expect("a flush is not cancelled"))
}

fn install(engine: &Engine, version: &Version, NewTables { mut items, ready }: NewTables) -> Result<(), Error> {
    let sealed = version.sealed.last().expect("the caller found one");
    let next = version.sealed.iter().rev().nth(1).unwrap_or(&version.active);
    items.push(Item::Log {
        segment: next.log_segment(),
        position: next.log_position(),
        sequence: sealed.last_sequence(),
    });
    if sabotaged!(RetireLogEarly) {
        remove_log(engine, next.log_segment());
    }
    engine.install_tables(Edit(items), &ready, |version| {
        let flushed = version.sealed.pop();
        assert!(flushed.is_some_and(|flushed| Arc::ptr_eq(&flushed, sealed)), "memtables are flushed oldest first");
    })?;
    // Rule E3: one memtable and one edit for all keyspaces keep batches whole, so what they hold is durable from here on,
    // whether or not the log was ever synced.
    engine.syncer.flushed(next.log_segment(), next.log_position(), sealed.last_sequence());
    remove_log(engine, next.log_segment());
    Ok(())
}

/// Rule E5: called only once the edit that says where the log now begins is durable. What somebody reads stays.
pub(crate) fn remove_log(engine: &Engine, first_needed: u64) {
    let unneeded: Vec<u64> = {
        let mut log = lock(&engine.log);
        let first_needed = log.pinned.iter().copied().fold(first_needed, u64::min);
        let count = log.segments.partition_point(|&number| number < first_needed);
        log.segments.drain(..count).collect()
    };
    assert!(
        unneeded.last().is_none_or(|&last| last < lock(&engine.manifest).catalog().log_segment)
            || sabotaged!(RetireLogEarly),
        "no segment of the log goes that recovery needs (rule E5)"
    );
    for number in unneeded {
        // Rule E6: nothing is changed on the disk any more.
        if engine.health.is_poisoned() {
            return;
        }
        let room = lock(&engine.log).spares.len() < engine.config.log_spare_segments;
        if !room {
            // A segment that stays is removed by the next recovery.
            let _ = engine.disk.remove(&files::log(&engine.directory, number));
            continue;
        }
        let bytes_max = engine.config.log_segment_bytes.saturating_mul(2);
        if let Some(spare) = Spare::retire(engine.disk.as_ref(), &engine.directory, number, bytes_max) {
            lock(&engine.log).spares.push(spare);
        }
    }
}
