//! The engine as the battery drives it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};

use super::content::{Content, DEFAULT_TTL, EXPIRING, KEYSPACES, MERGED, Operation, RESET, join};
use super::settings::{HEAD_BYTES, Settings};
use crate::batch::Batch;
use crate::builder::{Builder, IntoDisk};
use crate::database::Database;
use crate::error::Error;
use crate::iter::Iter;
use crate::keyspace::Keyspace;
use crate::keyspace_options::{CompactionStrategy, KeyspaceOptions};
use crate::options::{Durability, WriteOptions};
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;

/// Where the database lies on every simulated disk.
pub const DIRECTORY: &str = "/db";

/// Where the checkpoint of a state lies.
#[must_use]
pub fn checkpoint(sequence: u64) -> PathBuf {
    PathBuf::from(format!("/checkpoint-{sequence}"))
}

/// A database with the keyspaces of the oracle.
#[derive(Clone)]
pub struct Subject {
    /// The database.
    pub database: Database,
    /// Its keyspaces, in the order of [`KEYSPACES`].
    pub keyspaces: Vec<Keyspace>,
    settings: Settings,
}

impl Subject {
    /// Opens the database on a disk, stepped by its caller.
    ///
    /// # Errors
    /// The engine's.
    pub fn open(disk: &(impl IntoDisk + Clone), settings: Settings) -> Result<Self, Error> {
        Self::open_in(Path::new(DIRECTORY), disk, settings)
    }

    /// The same for a database that lies elsewhere.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_in(directory: &Path, disk: &(impl IntoDisk + Clone), settings: Settings) -> Result<Self, Error> {
        Self::open_with(settings.builder(directory).disk(disk.clone()), settings)
    }

    /// Opens a database and its keyspaces.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_with(builder: Builder, settings: Settings) -> Result<Self, Error> {
        let database = builder.open()?;
        let keyspaces = (0..KEYSPACES.len()).map(|index| database.keyspace(KEYSPACES[index], options(index, settings)));
        let keyspaces = keyspaces.collect::<Result<_, _>>()?;
        Ok(Self { database, keyspaces, settings })
    }

    /// Opens a database for reading only; `None` when it, or one of its keyspaces, is not there yet.
    ///
    /// # Errors
    /// The engine's.
    pub fn open_read_only(
        directory: &Path,
        disk: &(impl IntoDisk + Clone),
        settings: Settings,
    ) -> Result<Option<Self>, Error> {
        match Self::open_with(settings.builder(directory).disk(disk.clone()).read_only(true), settings) {
            Ok(subject) => Ok(Some(subject)),
            Err(Error::NoDatabase { .. } | Error::ReadOnly) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Drops a keyspace, and checks that its handle is of no use then.
    ///
    /// # Errors
    /// The engine's; the keyspace is still there, unless the database is poisoned.
    ///
    /// # Panics
    /// When something is left of it.
    pub fn drop_keyspace(&self, index: usize) -> Result<bool, Error> {
        let was_there = match self.database.drop_keyspace(KEYSPACES[index]) {
            Ok(()) => true,
            // It was dropped before, and could not be created again.
            Err(Error::NoSuchKeyspace { .. }) => false,
            Err(error) => return Err(error),
        };
        let old = &self.keyspaces[index];
        let is_unknown = |error: Option<Error>| matches!(error, Some(Error::UnknownKeyspace { .. }));
        assert!(is_unknown(old.get(b"k000").err()), "a keyspace that was dropped is read");
        assert!(is_unknown(old.iter().next().and_then(Result::err)), "a keyspace that was dropped is scanned");
        assert!(is_unknown(old.put(b"k000", b"").err()), "a keyspace that was dropped is written");
        Ok(was_there)
    }

    /// Creates a keyspace again that was dropped.
    ///
    /// # Errors
    /// The engine's.
    pub fn create_keyspace(&mut self, index: usize) -> Result<(), Error> {
        self.keyspaces[index] = self.database.keyspace(KEYSPACES[index], options(index, self.settings))?;
        Ok(())
    }

    /// Verifies the whole database.
    ///
    /// # Panics
    /// When it cannot, or when something is wrong.
    pub fn assert_sound(&self, context: &dyn fmt::Display) {
        let report = self.database.verify().unwrap_or_else(|error| panic!("{context}: cannot be verified: {error}"));
        assert!(report.is_sound(), "{context}: {:?}", report.problems);
    }

    /// The operations as a batch.
    #[must_use]
    pub fn batch(&self, operations: &[Operation]) -> Batch {
        let mut batch = Batch::new();
        for operation in operations {
            match operation {
                Operation::Put(keyspace, key, value) => batch.put(&self.keyspaces[*keyspace], key, value),
                Operation::PutExpiring(keyspace, key, value, expire_at) => {
                    batch.put_expiring(&self.keyspaces[*keyspace], key, value, *expire_at);
                }
                Operation::Delete(keyspace, key) => batch.delete(&self.keyspaces[*keyspace], key),
                Operation::DeleteRange(keyspace, start, end) => {
                    batch.delete_range(&self.keyspaces[*keyspace], start.as_slice()..end.as_slice());
                }
                Operation::Merge(key, operand) => batch.merge(&self.keyspaces[MERGED], key, operand),
            }
        }
        batch
    }

    /// Writes one batch.
    ///
    /// # Errors
    /// The engine's.
    pub fn write(&self, operations: &[Operation], durability: Durability) -> Result<(), Error> {
        self.database.write_with(self.batch(operations), WriteOptions::durability(durability)).map(drop)
    }

    /// A transaction that has read a key of the second keyspace, and its neighbours, and holds these writes.
    ///
    /// # Errors
    /// The engine's.
    pub fn begin(&self, operations: &[Operation], read: &[u8]) -> Result<Transaction, Error> {
        let mut transaction = self.database.transaction();
        transaction.get(&self.keyspaces[1], read)?;
        transaction.range(&self.keyspaces[1], read..=read).try_for_each(|entry| entry.map(drop))?;
        for operation in operations {
            match operation {
                Operation::Put(keyspace, key, value) => transaction.put(&self.keyspaces[*keyspace], key, value),
                Operation::PutExpiring(keyspace, key, value, expire_at) => {
                    transaction.put_expiring(&self.keyspaces[*keyspace], key, value, *expire_at);
                }
                Operation::Delete(keyspace, key) => transaction.delete(&self.keyspaces[*keyspace], key),
                Operation::DeleteRange(keyspace, start, end) => {
                    transaction.delete_range(&self.keyspaces[*keyspace], start.as_slice()..end.as_slice());
                }
                Operation::Merge(key, operand) => transaction.merge(&self.keyspaces[MERGED], key, operand),
            }
        }
        Ok(transaction)
    }

    /// Writes one operation as a program does that needs no batch, with the durability the database was opened with.
    ///
    /// # Errors
    /// The engine's.
    pub fn write_alone(&self, operation: &Operation) -> Result<(), Error> {
        match operation {
            Operation::Put(keyspace, key, value) => self.keyspaces[*keyspace].put(key, value),
            Operation::PutExpiring(keyspace, key, value, expire_at) => {
                self.keyspaces[*keyspace].put_expiring(key, value, *expire_at)
            }
            Operation::Delete(keyspace, key) => self.keyspaces[*keyspace].delete(key),
            Operation::DeleteRange(keyspace, start, end) => {
                self.keyspaces[*keyspace].delete_range(start.as_slice()..end.as_slice())
            }
            Operation::Merge(key, operand) => self.keyspaces[MERGED].merge(key, operand),
        }
    }

    /// Everything there is, read forwards. Backward scans and point reads must agree.
    ///
    /// # Errors
    /// The engine's. Until the error everything that was read agreed, and nothing came after it.
    ///
    /// # Panics
    /// When they do not.
    pub fn content(&self) -> Result<Content, Error> {
        self.content_at(None)
    }

    /// The same at a snapshot.
    ///
    /// # Errors
    /// As [`Subject::content`].
    ///
    /// # Panics
    /// As [`Subject::content`].
    pub fn content_at(&self, snapshot: Option<&Snapshot>) -> Result<Content, Error> {
        let mut content = Content::new();
        for (index, keyspace) in self.keyspaces.iter().enumerate() {
            let all = || snapshot.map_or_else(|| keyspace.iter(), |snapshot| snapshot.iter(keyspace));
            let forward = read(all(), false);
            let mut backward = read(all(), true);
            backward.entries.reverse();
            match (forward.error, backward.error) {
                (None, None) => assert_eq!(forward.entries, backward.entries, "the two directions of a scan disagree"),
                (None, Some(error)) => {
                    assert!(forward.entries.ends_with(&backward.entries), "what came before {error} is wrong");
                    return Err(error);
                }
                (Some(error), None) => {
                    assert!(backward.entries.starts_with(&forward.entries), "what came before {error} is wrong");
                    return Err(error);
                }
                (Some(error), Some(_)) => return Err(error),
            }
            if self.settings.separate_from_bytes.is_some() {
                check_heads(all(), &forward.entries)?;
            }
            for (key, value) in forward.entries {
                let found = match snapshot {
                    Some(snapshot) => snapshot.get(keyspace, &key)?,
                    None => keyspace.get(&key)?,
                };
                assert_eq!(found.as_deref(), Some(&*value), "a point read disagrees with a scan");
                content.insert(index, key, value);
            }
        }
        Ok(content)
    }

    /// Reads everything while reads may fail. What is read before an error is right, nothing comes after it (lesson 52), and
    /// a point read is right or fails, with an error that passes `check_error`. Returns how many reads failed.
    ///
    /// # Panics
    /// When something read is in none of the `allowed` contents.
    pub fn check_while_reads_fail(
        &self,
        allowed: &[Arc<Content>],
        check_error: &dyn Fn(&Error),
        context: &dyn fmt::Display,
    ) -> u64 {
        let mut failures = 0;
        for (index, keyspace) in self.keyspaces.iter().enumerate() {
            for reverse in [false, true] {
                let Entries { entries, error } = read(keyspace.iter(), reverse);
                let whole = error.is_none();
                error.iter().for_each(check_error);
                failures += u64::from(!whole);
                let fits = |content: &Arc<Content>| {
                    let map = content.keyspace(index);
                    let matches = |(found, wanted): (&(Bytes, Bytes), (&Bytes, &Bytes))| {
                        found.0 == wanted.0 && found.1 == wanted.1
                    };
                    let agree = if reverse {
                        entries.iter().zip(map.iter().rev()).all(matches)
                    } else {
                        entries.iter().zip(map).all(matches)
                    };
                    agree && if whole { entries.len() == map.len() } else { entries.len() <= map.len() }
                };
                let direction = if reverse { "backward" } else { "forward" };
                assert!(
                    allowed.iter().any(fits),
                    "{context}: {} entries read {direction} from {:?}, then {error:?}, are wrong",
                    entries.len(),
                    KEYSPACES[index]
                );
            }
            let mut keys: Vec<&Bytes> = allowed.iter().flat_map(|content| content.keyspace(index).keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                match keyspace.get(key) {
                    Ok(found) => assert!(
                        allowed.iter().any(|content| content.get(index, key) == found.as_deref()),
                        "{context}: a point read of {:?} is wrong",
                        String::from_utf8_lossy(key)
                    ),
                    Err(error) => {
                        check_error(&error);
                        failures += 1;
                    }
                }
            }
        }
        failures
    }
}

fn options(index: usize, settings: Settings) -> KeyspaceOptions {
    let options = settings.keyspace_options();
    match index {
        MERGED => options.merge(Arc::new(Append)),
        EXPIRING => {
            let options = options.default_ttl(DEFAULT_TTL.as_duration());
            match settings.first_in_first_out {
                true => options.compaction(CompactionStrategy::Fifo { bytes_max: None }),
                false => options,
            }
        }
        _ => options,
    }
}

/// Keys alone, and heads of values from behind, agree with what was read whole.
fn check_heads(entries: Iter, whole: &[(Bytes, Bytes)]) -> Result<(), Error> {
    let mut heads = entries.heads();
    for (key, value) in whole.iter().rev() {
        let (found, head) = heads.next_back().transpose()?.expect("as many heads as values");
        let bytes = value.len().min(HEAD_BYTES as usize);
        assert!(*found == **key && *head == value[..bytes], "a head disagrees with its value");
    }
    assert!(heads.next_back().transpose()?.is_none(), "as many values as heads");
    Ok(())
}

/// What an iterator yields until its end, or until an error.
struct Entries {
    entries: Vec<(Bytes, Bytes)>,
    error: Option<Error>,
}

fn read(mut entries: Iter, reverse: bool) -> Entries {
    let mut found = Vec::new();
    let error = loop {
        match if reverse { entries.next_back() } else { entries.next() } {
            Some(Ok((key, value))) => {
                found.push((Bytes::copy_from_slice(&key), Bytes::copy_from_slice(&value)));
            }
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(entries.next().is_none() && entries.next_back().is_none(), "over is over (lesson 52)");
    Entries { entries: found, error }
}

/// The merge operator of [`MERGED`]: see [`join`].
#[derive(Debug)]
pub struct Append;

impl MergeOperator for Append {
    fn fold(
        &self,
        _key: &[u8],
        base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        assert!(base.is_none() || how != Fold::Partial, "a partial fold has no base");
        assert!(!oldest_first.is_empty(), "there is something to fold");
        if how == Fold::Partial {
            let all = oldest_first.concat();
            // The last reset must stay: it empties what lies below.
            let from = all.iter().rposition(|&byte| byte == RESET).unwrap_or(0);
            out.extend_from_slice(&all[from..]);
            return Ok(Folded::Value);
        }
        match join(base, oldest_first) {
            Some(value) => {
                out.extend_from_slice(&value);
                Ok(Folded::Value)
            }
            None => Ok(Folded::Absent),
        }
    }
}
