//! Settings: plain data, checked once when the database is opened.

use std::path::Path;
use std::sync::Arc;

use kv_core::time::Millis;

use crate::error::Error;

/// When a write is acknowledged.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Durability {
    /// After a sync: it survives a power cut. Writers that wait at the same time share one sync.
    #[default]
    Sync,
    /// After its bytes were handed to the disk: it survives the death of the process, not a power cut. A later sync of the
    /// database makes it durable.
    Buffered,
}

/// Who does flushes, compactions and the syncs that were asked for without waiting.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Background {
    /// Three threads of the database: one syncs, one flushes, one compacts. On Linux the second is nicer than the thread that
    /// opens the database by 5, the third by 10: readers and writers go first where processors are short.
    #[default]
    Threads,
    /// Nobody but the caller, through [`Database::step`](crate::Database::step), so that a simulation is reproducible. A
    /// write that finds no room does steps itself.
    Manual,
}

/// How zstd, and what a build without it can do, are called in errors.
pub(crate) const ZSTD: &str = "compression with zstd";
pub(crate) const WITHOUT_ZSTD: &str = "LZ4 alone (zstd is a cargo feature)";

/// How blocks of tables are compressed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast in both directions.
    #[default]
    Lz4,
    /// Zstandard at a level from 1 to 22: smaller, and slower the higher the level. Needs the cargo feature `zstd`, to write
    /// and to read: without it asking for it is [`Error::InvalidOptions`], and opening a database that holds a table which was
    /// written with it is [`Error::Unsupported`].
    Zstd(u8),
}

impl Compression {
    pub(crate) fn is_valid(self) -> bool {
        !matches!(self, Self::Zstd(level) if !(1..=22).contains(&level))
    }

    /// Whether this build can do it.
    pub(crate) const fn is_supported(self) -> bool {
        cfg!(feature = "zstd") || !matches!(self, Self::Zstd(_))
    }

    /// What a build without it says of a file that has it.
    pub(crate) fn unsupported_zstd(file: &Path) -> Error {
        Error::Unsupported { file: file.to_path_buf(), found: ZSTD.to_owned(), known: WITHOUT_ZSTD.to_owned() }
    }
}

/// How one write is made, see [`Database::write_with`](crate::Database::write_with).
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct WriteOptions {
    /// Instead of the durability the database was opened with.
    pub durability: Option<Durability>,
}

impl WriteOptions {
    /// A write with this durability.
    #[must_use]
    pub const fn durability(durability: Durability) -> Self {
        Self { durability: Some(durability) }
    }
}

/// Wall time, injected so that a simulation owns it.
pub(crate) type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// A memtable smaller than this is one only when it was asked for.
const MEMTABLE_BYTES_MIN: u64 = 16 << 10;

/// What a builder was told about memory.
#[derive(Copy, Clone, Default)]
pub(crate) struct MemoryParts {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) memtable_bytes: Option<u64>,
    pub(crate) cache_bytes: Option<u64>,
}

/// The settings of an open database.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) read_only: bool,
    pub(crate) durability: Durability,
    pub(crate) background: Background,
    pub(crate) compression: Compression,
    pub(crate) cache_bytes: u64,
    /// Tables whose files may be open when nobody is reading them.
    pub(crate) open_tables_max: usize,
    /// The most the log may hold that is not in tables; zero until it is filled in.
    pub(crate) log_bytes_max: u64,
    /// A memtable is sealed when it holds so much.
    pub(crate) memtable_bytes: u64,
    /// Sealed memtables that may wait for their flush before writers do.
    pub(crate) sealed_max: usize,
    pub(crate) log_segment_bytes: u64,
    /// Records are stored, not written, when so much of the log before them is not synced.
    pub(crate) log_store_behind_bytes: u64,
    /// Retired segments that are kept to be written again.
    pub(crate) log_spare_segments: usize,
    pub(crate) block_bytes: usize,
    pub(crate) table_bytes: u64,
    pub(crate) blob_file_bytes: u64,
    /// From this share of garbage on the live values of a blob file are moved out of it.
    pub(crate) blob_garbage_percent: u8,
    /// Tables on the top level that start a compaction.
    pub(crate) level0_tables: usize,
    /// How much the first level below the top may hold.
    pub(crate) level1_bytes: u64,
    /// The manifest is written anew when it has grown past this and past twice what it was after the last time.
    pub(crate) manifest_bytes: u64,
    /// How much a transaction may remember of what it read.
    pub(crate) transaction_read_bytes: usize,
    pub(crate) clock: Clock,
}

/// The least that the log may hold when nothing else is said.
const LOG_BYTES_MAX: u64 = 1 << 30;

/// Which part of the memory goes to memtables when only the whole is given: this many in a hundred.
const MEMTABLE_PERCENT: u64 = 40;

impl Config {
    /// Memtables that may exist at a time, in memtables: the active one, those that wait, and memory kept for the next.
    const fn memtables_max(&self) -> u64 {
        self.sealed_max as u64 + 2
    }

    /// Fills in what follows from other settings, and divides the memory that the builder was given, as far as it was not
    /// divided by hand.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`] when the parts do not fit into the whole.
    pub(crate) fn divide(&mut self, parts: MemoryParts) -> Result<(), Error> {
        if self.log_bytes_max == 0 {
            let room = self.memtable_bytes.saturating_mul(4).max(self.log_segment_bytes.saturating_mul(2));
            self.log_bytes_max = room.max(LOG_BYTES_MAX);
        }
        let Some(whole) = parts.memory_bytes else { return Ok(()) };
        if parts.memtable_bytes.is_none() {
            let left = whole.saturating_sub(parts.cache_bytes.unwrap_or(whole - whole / 100 * MEMTABLE_PERCENT));
            self.memtable_bytes = left / self.memtables_max();
        }
        let memtables = self.memtable_bytes.saturating_mul(self.memtables_max());
        if parts.cache_bytes.is_none() {
            self.cache_bytes = whole.saturating_sub(memtables);
        }
        if self.memtable_bytes < MEMTABLE_BYTES_MIN && parts.memtable_bytes.is_none()
            || memtables.saturating_add(self.cache_bytes) > whole
        {
            let what = format!(
                "memory_bytes {whole} is less than cache_bytes {} and {} memtables of {} bytes (at least {MEMTABLE_BYTES_MIN})",
                self.cache_bytes,
                self.memtables_max(),
                self.memtable_bytes
            );
            return Err(Error::InvalidOptions { what });
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::InvalidOptions`] when a setting would make the engine stand still.
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |what: &str| Err(Error::InvalidOptions { what: what.to_owned() });
        if self.memtable_bytes == 0 {
            return refuse("memtable_bytes must not be zero");
        }
        if self.open_tables_max == 0 {
            return refuse("open_tables_max must not be zero");
        }
        if self.log_bytes_max < self.log_segment_bytes.saturating_mul(2) {
            return refuse("log_bytes_max must be at least twice log_segment_bytes");
        }
        if self.log_segment_bytes == 0 {
            return refuse("log_segment_bytes must not be zero");
        }
        if !(256..=1 << 20).contains(&self.block_bytes) {
            return refuse("block_bytes must lie between 256 bytes and 1 MiB");
        }
        if !self.compression.is_valid() {
            return refuse("levels of zstd are those from 1 to 22");
        }
        if !self.compression.is_supported() {
            return refuse("compression with zstd needs the cargo feature `zstd`");
        }
        if self.blob_file_bytes == 0 || !(1..=100).contains(&self.blob_garbage_percent) {
            return refuse("blob_file_bytes must not be zero, and blob_garbage_percent must lie between 1 and 100");
        }
        if self.table_bytes == 0 || self.level1_bytes == 0 || self.level0_tables == 0 || self.sealed_max == 0 {
            return refuse("table_bytes, level1_bytes, level0_tables and sealed_max must not be zero");
        }
        Ok(())
    }
}
