//! Settings of a database under test: small, so that a few writes go a long way.

use std::path::Path;
use std::sync::Arc;

use super::clock;
use super::random::Random;
use crate::builder::Builder;
use crate::database::Database;
use crate::keyspace_options::KeyspaceOptions;
use crate::options::{Background, Compression};

/// What stays inline of a separated value.
pub(crate) const HEAD_BYTES: u32 = 4;

/// Settings that a run chooses. Two runs with the same operations and different settings must read the same.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Settings {
    /// As [`Builder::memtable_bytes`].
    pub memtable_bytes: u64,
    /// As [`Builder::log_segment_bytes`].
    pub log_segment_bytes: u64,
    /// As [`Builder::log_bytes_max`], in segments; the engine's default when `None`.
    pub log_segments_max: Option<u64>,
    /// As [`Builder::manifest_bytes`].
    pub manifest_bytes: u64,
    /// As [`Builder::level0_tables`].
    pub level0_tables: usize,
    /// As [`Builder::level1_bytes`].
    pub level1_bytes: u64,
    /// As [`Builder::table_bytes`].
    pub table_bytes: u64,
    /// As [`Builder::block_bytes`].
    pub block_bytes: usize,
    /// As [`Builder::cache_bytes`].
    pub cache_bytes: u64,
    /// Whether [`Builder::memory_bytes`] is given instead, with room for memtables and so large a cache.
    pub one_budget: bool,
    /// As [`Builder::open_tables_max`].
    pub open_tables_max: usize,
    /// As [`Builder::compression`].
    pub compressed: bool,
    /// As [`KeyspaceOptions::separate_values_from`], for every keyspace; four bytes stay inline.
    pub separate_from_bytes: Option<u32>,
    /// Whether the keyspace where everything expires drops its tables first in, first out.
    pub first_in_first_out: bool,
    /// As [`Builder::blob_file_bytes`].
    pub blob_file_bytes: u64,
    /// As [`Builder::blob_garbage_percent`].
    pub blob_garbage_percent: u8,
    /// Whether all records of the log are stored, and not only those that are far from what is synced.
    pub stored_log: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self::SMALL
    }
}

impl Settings {
    /// Everything rotates often.
    pub const SMALL: Self = Self {
        memtable_bytes: 2048,
        log_segment_bytes: 1024,
        log_segments_max: None,
        manifest_bytes: 512,
        level0_tables: 2,
        level1_bytes: 8192,
        table_bytes: 2048,
        block_bytes: 256,
        cache_bytes: 1 << 16,
        one_budget: false,
        open_tables_max: 100,
        compressed: true,
        separate_from_bytes: None,
        first_in_first_out: false,
        blob_file_bytes: 500,
        blob_garbage_percent: 40,
        stored_log: false,
    };

    /// Nothing rotates unless it is told to.
    pub const LARGE: Self =
        Self { memtable_bytes: 1 << 20, log_segment_bytes: 1 << 20, manifest_bytes: 1 << 20, ..Self::SMALL };

    /// Any of many sets, for a few dozen to a few thousand keys.
    #[must_use]
    pub fn random(random: &mut Random) -> Self {
        Self {
            memtable_bytes: random.pick(&[300, 1500, 4000, 20_000, 100_000]),
            log_segment_bytes: random.pick(&[300, 1000, 5000, 100_000]),
            log_segments_max: random.pick(&[None, None, Some(2), Some(5)]),
            manifest_bytes: random.pick(&[1, 512, 4096, 1 << 20]),
            level0_tables: random.pick(&[1, 2, 3, 4]),
            level1_bytes: random.pick(&[1, 2000, 10_000, 100_000]),
            table_bytes: random.pick(&[1, 1000, 4000, 50_000]),
            block_bytes: random.pick(&[256, 300, 1024, 4096, 16_384]),
            cache_bytes: random.pick(&[0, 2000, 1 << 16, 1 << 20]),
            one_budget: random.one_in(3),
            open_tables_max: random.pick(&[1, 3, 100]),
            compressed: random.one_in(2),
            separate_from_bytes: random.pick(&[None, Some(1), Some(12), Some(60)]),
            first_in_first_out: random.one_in(2),
            blob_file_bytes: random.pick(&[1, 300, 2000, 1 << 20]),
            blob_garbage_percent: random.pick(&[1, 30, 60, 100]),
            stored_log: random.one_in(2),
        }
    }

    /// The most that the log may hold, when that is less than anything writes.
    #[must_use]
    pub fn log_bytes_max(&self) -> Option<u64> {
        self.log_segments_max.map(|segments| segments * self.log_segment_bytes)
    }

    /// Options of a keyspace.
    #[must_use]
    pub fn keyspace_options(&self) -> KeyspaceOptions {
        match self.separate_from_bytes {
            Some(bytes) => KeyspaceOptions::default().separate_values_from(bytes).inline_prefix_bytes(HEAD_BYTES),
            None => KeyspaceOptions::default(),
        }
    }

    /// A builder for the database in `path`, stepped by its caller, with the clock of this thread.
    #[must_use]
    pub fn builder(&self, path: &Path) -> Builder {
        let builder = Database::builder(path);
        let builder = match self.log_bytes_max() {
            Some(bytes) => builder.log_bytes_max(bytes),
            None => builder,
        };
        // Four memtables may exist at a time.
        let builder = match self.one_budget {
            true => builder.memory_bytes(4 * self.memtable_bytes + self.cache_bytes),
            false => builder.cache_bytes(self.cache_bytes),
        };
        let builder = if self.stored_log { builder.log_store_behind_bytes(0) } else { builder };
        builder
            .background(Background::Manual)
            .memtable_bytes(self.memtable_bytes)
            .log_segment_bytes(self.log_segment_bytes)
            .manifest_bytes(self.manifest_bytes)
            .level0_tables(self.level0_tables)
            .level1_bytes(self.level1_bytes)
            .table_bytes(self.table_bytes)
            .block_bytes(self.block_bytes)
            .open_tables_max(self.open_tables_max)
            .blob_file_bytes(self.blob_file_bytes)
            .blob_garbage_percent(self.blob_garbage_percent)
            .compression(if self.compressed { Compression::Lz4 } else { Compression::None })
            .clock(Arc::new(clock::now))
    }
}
