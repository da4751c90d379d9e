//! LMDB through heed: a copy-on-write tree in a map. Every get is a read transaction of its own, so that it sees all writes
//! that have returned, as with the others.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions};

use super::{Direction, Each, Engine, Failure, Opening, Promise};
use crate::data::Key;

struct Lmdb {
    environment: &'static Env,
    database: Database<'static, Bytes, Bytes>,
    opening: Opening,
}

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let mut options = EnvOpenOptions::new();
    options.map_size(usize::try_from(opening.map_bytes)?).max_readers(256);
    if opening.promise == Promise::Buffered {
        // SAFETY: a database may be damaged by a power cut without syncs; it is thrown away after the run. Nothing else
        // that Rust relies on hangs on the flag.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the files under the map belong to this process alone, and are not changed in another way while it runs.
    let environment = unsafe { options.open(directory)? };
    // A handle borrows its environment. This process opens one, and keeps it to its end.
    let environment: &'static Env = Box::leak(Box::new(environment));
    let transaction = environment.write_txn()?;
    let created = environment.create_databases_and_commit(transaction, |creating, transaction| {
        creating.create_database::<Bytes, Bytes>(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let database = created.commit().ok_or("the unnamed database was not created")?;
    Ok(Lmdb { environment, database, opening: *opening })
}

impl Engine for Lmdb {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        let mut transaction = self.environment.write_txn()?;
        self.database.put(&mut transaction, key, value)?;
        Ok(transaction.commit()?)
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let mut transaction = self.environment.write_txn()?;
        for (key, value) in entries {
            self.database.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        let mut transaction = self.environment.write_txn()?;
        self.database.delete(&mut transaction, key)?;
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let transaction = self.environment.read_txn()?;
        let value = self.database.get(&transaction, key)?;
        if let Some(value) = value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let transaction = self.environment.read_txn()?;
        // It knows no empty keys, not even as the end of a range.
        let lower = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from) };
        let range = (lower, to.map_or(Bound::Unbounded, Bound::Excluded));
        match direction {
            Direction::Forward => {
                for entry in self.database.range(&transaction, &range)? {
                    let (key, value) = entry?;
                    if each(key, value).is_break() {
                        break;
                    }
                }
            }
            Direction::Backward => {
                for entry in self.database.rev_range(&transaction, &range)? {
                    let (key, value) = entry?;
                    if each(key, value).is_break() {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn options(&self) -> String {
        let flags = if self.opening.promise == Promise::Buffered { "NO_SYNC" } else { "none" };
        format!("map_size={} flags={flags}; its cache is the page cache", self.opening.map_bytes)
    }
}
