//! Whether what a transaction read is still so (Kung and Robinson 1981: "On optimistic methods for concurrency control",
//! backward validation).
//!
//! What a key or range comes to is a function of the versions and deleted ranges that speak of it. The transaction's snapshot
//! keeps those that it saw, so when none has come with a later number, nothing that was read has changed. Hence the one
//! question: does any version of the key, or any in the range, or any deleted range over it, lie behind the snapshot? A
//! memtable or table whose numbers all lie before it need not be asked.
//!
//! 1. Under the log's lock: when nothing was written since the snapshot, the transaction is admitted at once. Else the
//!    present number is noted, and from now on what is written is kept aside.
//! 2. Outside: the question is asked of the pinned version, memtables and tables.
//! 3. Under the lock again: only what was written behind the noted number is compared with the read set. When that was too
//!    much to be kept aside, it goes on with 2.

use std::sync::Arc;

use super::read_set::{ReadRange, ReadSet};
use crate::counters::ReadTally;
use crate::cursor::Cursor;
use crate::engine::{Engine, LogState, lock};
use crate::error::Error;
use crate::internal_key::{SEQUENCE_MAX, Trailer};
use crate::memtable::{Memtable, MemtableCursor};
use crate::range_delete::RangeDeletes;
use crate::table::cursor::TableCursor;
use crate::table::filter;
use crate::table::reader::Table;
use crate::version::{Tree, Version};

/// A transaction that cannot be validated as fast as others write, so many times in a row, is refused.
const ROUNDS_MAX: u32 = 16;

/// Lets one transaction through the commit pipeline, or not.
pub(crate) struct Admission<'a> {
    engine: &'a Engine,
    reads: &'a ReadSet,
    /// Number of the snapshot.
    since: u64,
    /// Nothing that was read was changed up to here.
    valid_through: u64,
    watching: bool,
    rounds: u32,
}

impl<'a> Admission<'a> {
    pub(crate) const fn new(engine: &'a Engine, reads: &'a ReadSet, since: u64) -> Self {
        Self { engine, reads, since, valid_through: since, watching: false, rounds: 0 }
    }

    /// Steps 1 and 3. Returns the number that has to be validated up to first, or `None` when the batch may be appended
    /// under this lock.
    ///
    /// # Errors
    /// [`Error::Conflict`].
    pub(crate) fn admit(&mut self, log: &mut LogState) -> Result<Option<u64>, Error> {
        // A keyspace that was dropped took with it what was read there.
        let keyspaces = self.engine.keyspaces.load();
        if let Some(&keyspace) = self.reads.spaces.keys().find(|keyspace| !keyspaces.contains_key(keyspace)) {
            return Err(Error::Conflict { keyspace });
        }
        let visible = log.next_sequence - 1;
        if visible == self.valid_through || sabotaged!(SkipValidation) {
            return Ok(None);
        }
        if self.watching && log.recent.reaches_back_to(self.valid_through) {
            return match log.recent.conflict(self.reads, self.valid_through) {
                None => Ok(None),
                Some(keyspace) => Err(Error::Conflict { keyspace }),
            };
        }
        if !self.watching {
            log.recent.watch(visible);
            self.watching = true;
        }
        Ok(Some(visible))
    }

    /// Step 2, outside the lock.
    ///
    /// # Errors
    /// [`Error::Conflict`], and the disk's.
    pub(crate) fn validate_through(&mut self, sequence: u64) -> Result<(), Error> {
        // Pinned after the number was noted: all up to it is in there.
        let version = Arc::clone(&self.engine.version());
        for (&keyspace, space) in &self.reads.spaces {
            let sources = Sources::of(&version, keyspace, self.since);
            let changed = |key: &Vec<u8>| sources.key_changed(key);
            let mut conflict = false;
            for key in &space.keys {
                conflict = conflict || changed(key)?;
            }
            for range in &space.ranges {
                conflict = conflict || sources.range_changed(range)?;
            }
            if conflict {
                return Err(Error::Conflict { keyspace });
            }
        }
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            let keyspace = self.reads.spaces.keys().next().copied().unwrap_or_default();
            return Err(Error::Conflict { keyspace });
        }
        self.valid_through = sequence;
        Ok(())
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.watching {
            lock(&self.engine.log).recent.unwatch();
        }
    }
}

/// What may hold versions of one keyspace behind a number.
struct Sources<'a> {
    keyspace: u32,
    since: u64,
    memtables: Vec<&'a Arc<Memtable>>,
    tree: Option<&'a Tree>,
}

impl<'a> Sources<'a> {
    fn of(version: &'a Version, keyspace: u32, since: u64) -> Self {
        let memtables = version.memtables().filter(|memtable| memtable.last_sequence() > since).collect();
        Self { keyspace, since, memtables, tree: version.trees.get(&keyspace).map(Arc::as_ref) }
    }

    fn is_recent(&self, table: &Table) -> bool {
        table.meta().sequence_max > self.since
    }

    fn key_changed(&self, key: &[u8]) -> Result<bool, Error> {
        let mut newest = 0;
        let mut look = |trailer: Trailer, _: &[u8]| {
            newest = newest.max(trailer.sequence());
            std::ops::ControlFlow::Break(())
        };
        let hash = filter::hash(key);
        for memtable in &self.memtables {
            memtable.of_key(self.keyspace, key, hash, SEQUENCE_MAX, &mut look);
        }
        for table in self.tables_for(key) {
            table.of_key(key, hash, SEQUENCE_MAX, &mut ReadTally::default(), &mut look)?;
        }
        if newest > self.since {
            return Ok(true);
        }
        for memtable in &self.memtables {
            let ranges = memtable.range_deletes(self.keyspace);
            if ranges.iter().any(|ranges| ranges.newest(key, SEQUENCE_MAX) > self.since) {
                return Ok(true);
            }
        }
        for table in self.tables_for(key) {
            let ranges = table.range_deletes()?;
            if ranges.is_some_and(|ranges| ranges.newest(key, SEQUENCE_MAX) > self.since) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn tables_for(&self, key: &[u8]) -> impl Iterator<Item = &'a Arc<Table>> {
        let levels: &[Vec<Arc<Table>>] = self.tree.map_or(&[], |tree| &tree.levels);
        let key = key.to_vec();
        let since = self.since;
        levels.iter().enumerate().flat_map(move |(level, tables)| {
            let candidates = if level == 0 {
                &tables[..]
            } else {
                Tree::table_for(tables, &key).map_or(&[][..], |at| &tables[at..=at])
            };
            let speaks_of_it: Vec<&Arc<Table>> = candidates
                .iter()
                .filter(|table| table.meta().sequence_max > since && table.meta().contains(&key))
                .collect();
            speaks_of_it
        })
    }

    fn range_changed(&self, range: &ReadRange) -> Result<bool, Error> {
        let end = range.end.as_deref();
        let deleted = |ranges: &[Arc<RangeDeletes>]| {
            ranges.iter().any(|ranges| ranges.newest_within(&range.start, end) > self.since)
        };
        for memtable in &self.memtables {
            if deleted(&memtable.range_deletes(self.keyspace))
                || self.any_behind(&mut MemtableCursor::new(memtable, self.keyspace), range)?
            {
                return Ok(true);
            }
        }
        let tables = self.tree.into_iter().flat_map(Tree::tables);
        for table in tables.filter(|table| self.is_recent(table) && table.meta().overlaps_range(&range.start, end)) {
            if deleted(table.range_deletes()?.as_slice())
                || self.any_behind(&mut TableCursor::new(Arc::clone(table), true), range)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether any version in the range lies behind the number.
    fn any_behind(&self, cursor: &mut dyn Cursor, range: &ReadRange) -> Result<bool, Error> {
        cursor.seek(&range.start, Trailer::NEWEST)?;
        while let Some(entry) = cursor.entry() {
            if range.end.as_deref().is_some_and(|end| entry.key >= end) {
                return Ok(false);
            }
            if entry.trailer.sequence() > self.since {
                return Ok(true);
            }
            cursor.next()?;
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::read_set::Reads;
    use super::*;
    use crate::disk::MemDisk;
    use crate::options::Background;
    use crate::{Batch, Database, Durability, Keyspace, KeyspaceOptions};

    fn open() -> (Database, Keyspace) {
        let builder = Database::builder(Path::new("/db")).disk(MemDisk::new());
        let db = builder.background(Background::Manual).durability(Durability::Buffered).open().unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
        (db, keyspace)
    }

    /// What is written between the validation and the lock is seen by the last look, and by nothing else.
    #[test]
    fn engine_rule_15_what_is_written_during_validation_is_seen_under_the_lock() {
        for (written, expected) in [("read", true), ("other", false)] {
            for much in [false, true] {
                let (db, ks) = open();
                let engine: &Engine = db.handle();
                let mut reads = Reads::new(1 << 20);
                reads.add_key(ks.id(), b"read").unwrap();
                let reads = reads.into_set();
                let mut admission = Admission::new(engine, &reads, engine.snapshots.visible());
                assert_eq!(admission.admit(&mut lock(&engine.log)).unwrap(), None, "nothing was written since");
                ks.put("unrelated", "").unwrap();
                let noted = admission.admit(&mut lock(&engine.log)).unwrap().expect("to be validated");
                admission.validate_through(noted).unwrap();
                ks.put(written, "").unwrap();
                let result = if much {
                    // So much that it is forgotten: it is validated once more.
                    let mut batch = Batch::new();
                    (0..20_000_u32).for_each(|number| batch.put(&ks, number.to_be_bytes(), ""));
                    db.write(batch).unwrap();
                    let noted = admission.admit(&mut lock(&engine.log)).unwrap().expect("once more");
                    admission.validate_through(noted)
                } else {
                    admission.admit(&mut lock(&engine.log)).map(|noted| assert_eq!(noted, None))
                };
                assert_eq!(matches!(result, Err(Error::Conflict { .. })), expected, "{result:?}");
                drop(admission);
                assert!(!lock(&engine.log).recent.is_watched());
            }
        }
    }
}
