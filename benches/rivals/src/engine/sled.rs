//! sled 0.34, the last release that is not an alpha. Without memtables, so the whole memory is its cache; without compression,
//! because the compressor it would link is another version of one that is linked already.

use std::path::Path;

use sled::{Batch, Config, Db, Mode};

use super::{Direction, Each, Engine, Failure, Opening, Promise};
use crate::data::Key;

struct Sled {
    database: Db,
    opening: Opening,
}

pub(super) fn open(directory: &Path, opening: &Opening) -> Result<impl Engine + use<>, Failure> {
    let database =
        Config::new().path(directory).cache_capacity(opening.memory_bytes()).mode(Mode::HighThroughput).open()?;
    Ok(Sled { database, opening: *opening })
}

impl Sled {
    /// Without a sync its writes stay in the process for up to half a second.
    fn keep_promise(&self) -> Result<(), Failure> {
        if self.opening.promise == Promise::Synced {
            self.database.flush()?;
        }
        Ok(())
    }
}

impl Engine for Sled {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure> {
        self.database.insert(key, value)?;
        self.keep_promise()
    }

    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure> {
        let mut batch = Batch::default();
        for (key, value) in entries {
            batch.insert(&key[..], &value[..]);
        }
        self.database.apply_batch(batch)?;
        self.keep_promise()
    }

    fn delete(&self, key: &[u8]) -> Result<(), Failure> {
        self.database.remove(key)?;
        self.keep_promise()
    }

    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure> {
        let value = self.database.get(key)?;
        if let Some(value) = &value {
            found(value);
        }
        Ok(value.is_some())
    }

    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure> {
        let mut entries = match to {
            Some(to) => self.database.range(from..to),
            None => self.database.range(from..),
        };
        while let Some(entry) = match direction {
            Direction::Forward => entries.next(),
            Direction::Backward => entries.next_back(),
        } {
            let (key, value) = entry?;
            if each(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn options(&self) -> String {
        format!(
            "cache_capacity={} mode=HighThroughput flush={:?} and defaults: flush_every=500 ms, no compression",
            self.opening.memory_bytes(),
            self.opening.promise,
        )
    }
}
