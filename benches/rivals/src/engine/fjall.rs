//! fjall, with its own defaults beside the memory and table sizes that all share: they are LZ4 below the two topmost levels,
//! 10-bit filters, and pinned upper indexes.

use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};

use super::{Direction, Each, Engine, Failure, Opening, Promise};
use crate::data::Key;

struct Fjall {
    database: Database,
    keyspace: Keyspace,
    opening: Opening,
}

/// The least that it takes for all journals.
const JOURNAL_BYTES_DEFAULT: u64 = 512 << 20;

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let database = Database::builder(directory)
        .cache_size(opening.cache_bytes)
        .max_journaling_size(JOURNAL_BYTES_DEFAULT.max(4 * opening.memtable_bytes))
        .open()?;
    let keyspace = database.keyspace("bench", || {
        let leveled = Leveled::default().with_table_target_size(opening.memtable_bytes);
        KeyspaceCreateOptions::default()
            .max_memtable_size(opening.memtable_bytes)
            .compaction_strategy(Arc::new(leveled))
            .with_kv_separation(opening.separate_values.then(KvSeparationOptions::default))
    })?;
    Ok(Fjall { database, keyspace, opening: *opening })
}

impl Fjall {
    /// Without a sync its writes have reached the operating system when they return.
    fn keep_promise(&self) -> Result<(), Failure> {
        if self.opening.promise == Promise::Synced {
            self.database.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Engine for Fjall {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.keyspace.insert(key, value)?;
        self.keep_promise()
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let mut batch = self.database.batch();
        for (key, value) in entries {
            batch.insert(&self.keyspace, &key[..], &value[..]);
        }
        batch.commit()?;
        self.keep_promise()
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        self.keyspace.remove(key)?;
        self.keep_promise()
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.keyspace.get(key)?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let mut entries = match to {
            Some(to) => self.keyspace.range(from..to),
            None => self.keyspace.range(from..),
        };
        while let Some(entry) = match direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.next_back(),
        } {
            let (key, value) = entry.into_inner()?;
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn is_behind(&self) -> Result<bool, Failure> {
        let flushing = self.database.outstanding_flushes() > 0 || self.keyspace.sealed_memtable_count() > 0;
        Ok(flushing || self.database.active_compactions() > 0)
    }

    fn options(&self) -> String {
        format!(
            "max_memtable_size={} cache_size={} table_target_size={} kv_separation={} persist={:?} and defaults",
            self.opening.memtable_bytes,
            self.opening.cache_bytes,
            self.opening.memtable_bytes,
            self.opening.separate_values,
            self.opening.promise,
        )
    }
}
