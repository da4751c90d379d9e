//! How a database is opened.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kv_core::time::Millis;

use crate::disk::{Disk, OsDisk};
use crate::options::{Background, Compression, Config, Durability, MemoryParts};

/// Settings of a database that is about to be opened. Every one has a default; none is stored, except where it says so.
pub struct Builder {
    pub(crate) path: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) config: Config,
    pub(crate) memory: MemoryParts,
}

impl Builder {
    pub(crate) fn new(path: PathBuf) -> Self {
        let clock = || Millis::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let config = Config {
            read_only: false,
            durability: Durability::default(),
            background: Background::default(),
            compression: Compression::default(),
            cache_bytes: 64 << 20,
            open_tables_max: 720,
            log_bytes_max: 0,
            memtable_bytes: 64 << 20,
            sealed_max: 2,
            log_segment_bytes: 64 << 20,
            log_store_behind_bytes: 256 << 10,
            log_spare_segments: 2,
            block_bytes: 16 << 10,
            table_bytes: 64 << 20,
            blob_file_bytes: 256 << 20,
            blob_garbage_percent: 50,
            level0_tables: 4,
            level1_bytes: 256 << 20,
            manifest_bytes: 4 << 20,
            transaction_read_bytes: 16 << 20,
            clock: Arc::new(clock),
        };
        Self { path, disk: Arc::new(OsDisk::new()), config, memory: MemoryParts::default() }
    }

    /// Opens for reading only. Default: `false`.
    ///
    /// Nothing on the disk is changed, down to the last byte: what the log holds is recovered into memory. Everything that
    /// would write fails with [`Error::ReadOnly`](crate::Error::ReadOnly), and there is no background work. The lock is
    /// taken beside others who only read: while a database is open to be written it cannot be opened so, and the other way
    /// round, so nothing changes under a reader. To look at a database in use, read a
    /// [checkpoint](crate::Database::checkpoint) of it.
    ///
    /// What was not yet synced when the writer died is read as well, as long as the system still has it: a later power cut may
    /// take it.
    #[must_use]
    pub const fn read_only(mut self, read_only: bool) -> Self {
        self.config.read_only = read_only;
        self
    }

    /// When a write is acknowledged, unless it says otherwise itself. Default: [`Durability::Sync`].
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.config.durability = durability;
        self
    }

    /// Who does the background work. Default: [`Background::Threads`].
    #[must_use]
    pub const fn background(mut self, background: Background) -> Self {
        self.config.background = background;
        self
    }

    /// How tables are compressed from now on, where the keyspace does not say so itself: those below the two topmost
    /// levels, which are rewritten too soon to be worth it, and those that overlap nothing and go down as they are. Default:
    /// [`Compression::Lz4`].
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.config.compression = compression;
        self
    }

    /// Memory for everything: memtables, decoded blocks of tables, and their indexes and filters. Default: not given;
    /// then [`Builder::cache_bytes`] and four times [`Builder::memtable_bytes`] add up to it.
    ///
    /// Four tenths go to memtables and the rest to the cache, unless one of the two is given: then the other has what is left.
    /// When both are, they must fit. What a call allocates for itself (its batch, a result, the buffers of a compaction) is not
    /// counted. [`Metrics::memory_bytes`](crate::Metrics::memory_bytes) tells what is in use. Gaps between blocks in large pages
    /// come on top, an eighth of the cache at most.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory.memory_bytes = Some(bytes);
        self
    }

    /// Tables whose files, indexes and filters stay open when nobody reads them. Default: 720, below the 1,024 files that
    /// many systems allow a process; beside them are at most a quarter as many files of separated values, in keyspaces
    /// that have such. A table that is not open costs three reads before its first block.
    #[must_use]
    pub const fn open_tables_max(mut self, tables: usize) -> Self {
        self.config.open_tables_max = tables;
        self
    }

    /// The most that the log holds and that is not in tables yet. Default: 1 GiB, or four memtables when that is more. When it
    /// would be more, the memtable that takes the writes is flushed although it is not full, and writers wait for it; the batch
    /// that fills the memtable and the one that seals it may exceed the bound. At least twice
    /// [`Builder::log_segment_bytes`].
    #[must_use]
    pub const fn log_bytes_max(mut self, bytes: u64) -> Self {
        self.config.log_bytes_max = bytes;
        self
    }

    /// Memory for decoded blocks of tables, for separated values that take no more than a 64th of it, and for the indexes and filters of the tables that are open, which take up to half of
    /// it. Default: 64 MiB. Take what the machine can spare. From 32 MiB on it comes in regions of 2 MiB that ask for large pages,
    /// and that stay with the database once they were used.
    #[must_use]
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.config.cache_bytes = bytes;
        self.memory.cache_bytes = Some(bytes);
        self
    }

    /// Size at which a memtable is sealed and flushed; up to three exist at a time. Default: 64 MiB. Larger ones mean less
    /// writing in all, more memory, and a longer recovery.
    #[must_use]
    pub const fn memtable_bytes(mut self, bytes: u64) -> Self {
        self.config.memtable_bytes = bytes;
        self.memory.memtable_bytes = Some(bytes);
        self
    }

    /// Size at which the log begins a new segment. Default: 64 MiB. A memtable that is sealed begins one as well.
    #[must_use]
    pub const fn log_segment_bytes(mut self, bytes: u64) -> Self {
        self.config.log_segment_bytes = bytes;
        self
    }

    /// How much of the log may be unsynced before records are stored through [`File::store_at`](crate::disk::File::store_at).
    #[cfg(any(test, feature = "battery"))]
    #[must_use]
    pub(crate) const fn log_store_behind_bytes(mut self, bytes: u64) -> Self {
        self.config.log_store_behind_bytes = bytes;
        self
    }

    /// Segments that are no longer needed and whose files are kept, to be written again as new ones: syncing what is already
    /// allocated is faster. Default: 2. None are kept over a reopening.
    #[must_use]
    pub const fn log_spare_segments(mut self, segments: usize) -> Self {
        self.config.log_spare_segments = segments;
        self
    }

    /// About how large a block of a table is before compression: 256 bytes to 1 MiB. Default: 16 KiB. Smaller ones read less
    /// for one key and need more memory for the index.
    #[must_use]
    pub const fn block_bytes(mut self, bytes: usize) -> Self {
        self.config.block_bytes = bytes;
        self
    }

    /// Size at which a compaction begins another table. Default: 64 MiB.
    #[must_use]
    pub const fn table_bytes(mut self, bytes: u64) -> Self {
        self.config.table_bytes = bytes;
        self
    }

    /// Size at which a flush or compaction begins another file of separated values, see
    /// [`KeyspaceOptions::separate_values_from`](crate::KeyspaceOptions::separate_values_from). Default: 256 MiB.
    #[must_use]
    pub const fn blob_file_bytes(mut self, bytes: u64) -> Self {
        self.config.blob_file_bytes = bytes;
        self
    }

    /// How much of a file of separated values may be garbage, in percent, before what is live is moved out of it and the file
    /// removed: 1 to 100. Default: 50. Less takes less room and writes more.
    #[must_use]
    pub const fn blob_garbage_percent(mut self, percent: u8) -> Self {
        self.config.blob_garbage_percent = percent;
        self
    }

    /// Flushed tables of a keyspace that start a compaction. Default: 4. Writers are slowed from five times as many on, and wait at
    /// nine times as many. While keys are read as well, writers are slowed from as many on; and while the cache holds most of what
    /// is read, from three quarters of as many on, which then start a compaction.
    #[must_use]
    pub const fn level0_tables(mut self, tables: usize) -> Self {
        self.config.level0_tables = tables;
        self
    }

    /// How much the first level below the flushed tables is to hold. Default: 256 MiB, four memtables. A tree that is smaller than four
    /// times this, and than six times what is flushed until a compaction begins, has no other level; and where others are needed, the
    /// first may grow to as much before one more is.
    #[must_use]
    pub const fn level1_bytes(mut self, bytes: u64) -> Self {
        self.config.level1_bytes = bytes;
        self
    }

    /// Size from which the manifest is written anew. Default: 4 MiB.
    #[must_use]
    pub const fn manifest_bytes(mut self, bytes: u64) -> Self {
        self.config.manifest_bytes = bytes;
        self
    }

    /// How much a transaction may remember of what it read, in bytes of keys and about 64 more for each. Default: 16 MiB. A read
    /// beyond it is refused with [`Error::TooLarge`](crate::Error::TooLarge).
    #[must_use]
    pub const fn transaction_read_bytes(mut self, bytes: usize) -> Self {
        self.config.transaction_read_bytes = bytes;
        self
    }

    /// Where the files lie. Default: the disk of the operating system.
    #[must_use]
    pub fn disk(mut self, disk: impl IntoDisk) -> Self {
        self.disk = disk.into_disk();
        self
    }

    /// Wall time, which decides what has expired, and which merge operators are given. The engine never goes back: should the
    /// clock be set back, time stands still for it, also over a restart. Default: the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Fn() -> Millis + Send + Sync>) -> Self {
        self.config.clock = clock;
        self
    }
}

/// What [`Builder::disk`] takes: a disk, or a shared one.
pub trait IntoDisk {
    /// As a shared disk.
    fn into_disk(self) -> Arc<dyn Disk>;
}

impl<D: Disk> IntoDisk for D {
    fn into_disk(self) -> Arc<dyn Disk> {
        Arc::new(self)
    }
}

impl IntoDisk for Arc<dyn Disk> {
    fn into_disk(self) -> Arc<dyn Disk> {
        self
    }
}
