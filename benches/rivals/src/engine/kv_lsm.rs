//! This project's own engine, as its users call it.

use std::path::Path;

use kv_lsm::{Batch, Database, Durability, Keyspace, KeyspaceOptions};

use super::{Direction, Each, Engine, Failure, Opening, Promise};
use crate::data::Key;

/// From this size on values are kept apart, when they are at all.
const SEPARATE_FROM_BYTES: u32 = 4096;

struct KvLsm {
    database: Database,
    keyspace: Keyspace,
    opening: Opening,
}

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let durability = match opening.promise {
        Promise::Buffered => Durability::Buffered,
        Promise::Synced => Durability::Sync,
    };
    let database = Database::builder(directory)
        .durability(durability)
        .cache_bytes(opening.cache_bytes)
        .memtable_bytes(opening.memtable_bytes)
        .table_bytes(opening.memtable_bytes)
        .level1_bytes(4 * opening.memtable_bytes)
        .open()?;
    let mut options = KeyspaceOptions::default();
    if opening.separate_values {
        options = options.separate_values_from(SEPARATE_FROM_BYTES);
    }
    let keyspace = database.keyspace("bench", options)?;
    Ok(KvLsm { database, keyspace, opening: *opening })
}

impl Engine for KvLsm {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        Ok(self.keyspace.put(key, value)?)
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let mut batch = Batch::new();
        for (key, value) in entries {
            batch.put(&self.keyspace, key, value);
        }
        Ok(self.database.write(batch)?)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        Ok(self.keyspace.delete(key)?)
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        Ok(self.keyspace.get_borrowed(key, found)?.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let mut entries = match to {
            Some(to) => self.keyspace.range(from..to),
            None => self.keyspace.range(from..),
        };
        while let Some(entry) = match direction {
            Direction::Forward => entries.next_borrowed(),
            Direction::Backward => entries.next_back_borrowed(),
        } {
            let (key, value) = entry?;
            if each(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn is_behind(&self) -> Result<bool, Failure> {
        let metrics = self.database.metrics();
        Ok(metrics.sealed_memtables > 0 || metrics.pending_compaction_bytes > 0)
    }

    fn options(&self) -> String {
        format!(
            "memtable_bytes={} cache_bytes={} table_bytes={} level1_bytes={} durability={:?} separate_values={} and defaults: \
             16 KiB blocks, LZ4 below the two topmost levels, 10-bit filters",
            self.opening.memtable_bytes,
            self.opening.cache_bytes,
            self.opening.memtable_bytes,
            4 * self.opening.memtable_bytes,
            self.opening.promise,
            self.opening.separate_values,
        )
    }
}
