//! What every engine must be able to do here, in the words of none of them.

#[cfg(feature = "fjall")]
mod fjall;
mod kv_lsm;
#[cfg(feature = "lmdb")]
mod lmdb;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "surrealkv")]
mod surrealkv;

use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::Key;

/// Whatever an engine fails with.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// When a write returns.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) enum Promise {
    /// Once the operating system has it, or as near to that as the engine comes: it should survive the death of the process.
    Buffered,
    /// Once it is on the disk.
    Synced,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Direction {
    Forward,
    Backward,
}

/// How an engine is opened. Memory is the same for all: what is no memtable is cache.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    pub(crate) promise: Promise,
    pub(crate) cache_bytes: u64,
    /// Of one memtable; up to [`MEMTABLES`] of them may exist.
    pub(crate) memtable_bytes: u64,
    /// More than the data will ever take, for engines that map a file of fixed size.
    pub(crate) map_bytes: u64,
    /// Whether large values are kept apart from their keys, where the engine can.
    pub(crate) separate_values: bool,
}

/// Memtables that an engine may have at a time. Engines without any get as much more cache.
pub(crate) const MEMTABLES: u64 = 4;

impl Opening {
    /// The memory of an engine that has nothing but a cache.
    #[cfg_attr(
        not(any(feature = "redb", feature = "sled")),
        expect(dead_code, reason = "for engines without memtables")
    )]
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.cache_bytes + MEMTABLES * self.memtable_bytes
    }
}

/// What a scan does with an entry.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An engine that is open. Dropping it closes it in order.
pub(crate) trait Engine: Send + Sync {
    fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Failure>;

    /// All or nothing.
    fn put_all(&self, entries: &[(Key, Vec<u8>)]) -> Result<(), Failure>;

    fn delete(&self, key: &[u8]) -> Result<(), Failure>;

    /// Shows the value, as cheaply as the engine can, and returns whether there was one. Sees all writes that have returned.
    fn get(&self, key: &[u8], found: &mut dyn FnMut(&[u8])) -> Result<bool, Failure>;

    /// The entries from `from` up to `to`, exclusive, or to the end; from that end when backward.
    fn scan(&self, from: &[u8], to: Option<&[u8]>, direction: Direction, each: Each<'_>) -> Result<(), Failure>;

    /// Whether the engine says of itself that flushes or compactions are due. The bench also watches what the process does.
    fn is_behind(&self) -> Result<bool, Failure> {
        Ok(false)
    }

    /// The settings that it was opened with, for the record.
    fn options(&self) -> String;
}

#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    #[serde(rename = "kv-lsm")]
    KvLsm,
    RocksDb,
    Fjall,
    SurrealKv,
    Redb,
    Lmdb,
    Sled,
}

impl Name {
    pub(crate) const ALL: [Self; 7] =
        [Self::KvLsm, Self::RocksDb, Self::Fjall, Self::SurrealKv, Self::Redb, Self::Lmdb, Self::Sled];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::KvLsm => "kv-lsm",
            Self::RocksDb => "rocksdb",
            Self::Fjall => "fjall",
            Self::SurrealKv => "surrealkv",
            Self::Redb => "redb",
            Self::Lmdb => "lmdb",
            Self::Sled => "sled",
        }
    }

    /// The package that it comes from.
    pub(crate) const fn package(self) -> &'static str {
        if matches!(self, Self::Lmdb) { "heed" } else { self.text() }
    }

    /// Whether this build has it.
    pub(crate) const fn is_built(self) -> bool {
        match self {
            Self::KvLsm => true,
            Self::RocksDb => cfg!(feature = "rocksdb"),
            Self::Fjall => cfg!(feature = "fjall"),
            Self::SurrealKv => cfg!(feature = "surrealkv"),
            Self::Redb => cfg!(feature = "redb"),
            Self::Lmdb => cfg!(feature = "lmdb"),
            Self::Sled => cfg!(feature = "sled"),
        }
    }

    /// Whether it can keep large values apart from their keys.
    pub(crate) const fn separates_values(self) -> bool {
        matches!(self, Self::KvLsm | Self::RocksDb | Self::Fjall | Self::SurrealKv)
    }

    /// Opens it in a directory that exists, and creates what is not there.
    pub(crate) fn open(self, directory: &Path, opening: &Opening) -> Result<Box<dyn Engine>, Failure> {
        match self {
            Self::KvLsm => Ok(Box::new(kv_lsm::open(directory, opening)?)),
            #[cfg(feature = "rocksdb")]
            Self::RocksDb => Ok(Box::new(rocksdb::open(directory, opening)?)),
            #[cfg(feature = "fjall")]
            Self::Fjall => Ok(Box::new(fjall::open(directory, opening)?)),
            #[cfg(feature = "surrealkv")]
            Self::SurrealKv => Ok(Box::new(surrealkv::open(directory, opening)?)),
            #[cfg(feature = "redb")]
            Self::Redb => Ok(Box::new(redb::open(directory, opening)?)),
            #[cfg(feature = "lmdb")]
            Self::Lmdb => Ok(Box::new(lmdb::open(directory, opening)?)),
            #[cfg(feature = "sled")]
            Self::Sled => Ok(Box::new(sled::open(directory, opening)?)),
            #[cfg(not(all(
                feature = "rocksdb",
                feature = "fjall",
                feature = "surrealkv",
                feature = "redb",
                feature = "lmdb",
                feature = "sled"
            )))]
            other => Err(format!("this build is without {}", other.text()).into()),
        }
    }
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|name| name.text() == text);
        let names = || Self::ALL.map(Self::text).join(", ");
        let name = known.ok_or_else(|| format!("there is no engine {text}; there are {}", names()))?;
        if name.is_built() { Ok(name) } else { Err(format!("this build is without {text}: see its cargo features")) }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.text())
    }
}
