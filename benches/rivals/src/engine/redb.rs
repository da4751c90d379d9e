//! redb: a copy-on-write tree. Without memtables, so the whole memory is its cache.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Direction, Each, Engine, Failure, Opening, Promise};
use crate::data::Key;

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("bench");

struct Redb {
    database: Database,
    opening: Opening,
}

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let mut builder = Database::builder();
    builder.set_cache_size(usize::try_from(opening.memory_bytes())?);
    let database = builder.create(directory.join("bench.redb"))?;
    // So that readers find the table; durable, whatever is promised for the rest.
    let transaction = database.begin_write()?;
    transaction.open_table(TABLE)?;
    transaction.commit()?;
    Ok(Redb { database, opening: *opening })
}

impl Redb {
    fn begin(&self) -> Result<WriteTransaction, Failure> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(match self.opening.promise {
            Promise::Buffered => Durability::None,
            Promise::Synced => Durability::Immediate,
        })?;
        Ok(transaction)
    }
}

impl Engine for Redb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let transaction = self.begin()?;
        transaction.open_table(TABLE)?.insert(key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let transaction = self.begin()?;
        let mut table = transaction.open_table(TABLE)?;
        for (key, value) in entries {
            table.insert(&key[..], &value[..])?;
        }
        drop(table);
        Ok(transaction.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        let transaction = self.begin()?;
        transaction.open_table(TABLE)?.remove(key)?;
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        let value = ReadableTable::get(&table, key)?;
        if let Some(value) = &value {
            found(value.value());
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let transaction = self.database.begin_read()?;
        let table = transaction.open_table(TABLE)?;
        let mut entries = match to {
            Some(to) => ReadableTable::range::<&[u8]>(&table, from..to)?,
            None => ReadableTable::range::<&[u8]>(&table, from..)?,
        };
        while let Some(entry) = match direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.next_back(),
        } {
            let (key, value) = entry?;
            if each(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn options(&self) -> String {
        format!("cache_size={} durability={:?}", self.opening.memory_bytes(), self.opening.promise)
    }
}
