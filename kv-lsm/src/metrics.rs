//! Counters and sizes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::files::LiveBlob;
use crate::engine::{Engine, lock};

/// What a database has done since it was opened, and how large its parts are.
#[derive(Clone, Default, Debug)]
pub struct Metrics {
    /// Every keyspace, in the order of their numbers.
    pub keyspaces: Vec<KeyspaceMetrics>,
    /// Number of the last operation that reads see.
    pub visible_sequence: u64,
    /// Number of the last operation that is durable.
    pub durable_sequence: u64,
    /// Whether a sync failed.
    pub poisoned: bool,
    /// Live snapshots.
    pub snapshots: usize,
    /// Bytes in the memtable that takes writes.
    pub memtable_bytes: u64,
    /// Memtables that wait for their flush.
    pub sealed_memtables: usize,
    /// Segments of the log.
    pub log_segments: usize,
    /// Segments that were begun in the file of an earlier one.
    pub recycled_segments: u64,
    /// Bytes of the log that are not in tables yet.
    pub log_bytes: u64,
    /// Bytes of decoded blocks in the cache.
    pub cache_bytes: u64,
    /// Batches committed.
    pub batches: u64,
    /// Bytes of their encodings. What the engine writes for each of these is its write amplification: once to the log, then
    /// `flush_bytes` and `compaction_written_bytes`.
    pub batch_bytes: u64,
    /// Successful syncs of the log.
    pub syncs: u64,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of tables written by flushes.
    pub flush_bytes: u64,
    /// Compactions that rewrote tables.
    pub compactions: u64,
    /// Tables that were moved to another level without being rewritten.
    pub moved_tables: u64,
    /// Bytes of tables that compactions took in.
    pub compaction_read_bytes: u64,
    /// Bytes of tables that compactions wrote.
    pub compaction_written_bytes: u64,
    /// Bytes of files of separated values written, by flushes and compactions.
    pub blob_written_bytes: u64,
    /// Writes that had to wait for a flush or compaction.
    pub stalls: u64,
    /// Transactions that committed.
    pub transactions: u64,
    /// Transactions that were refused because of a conflict.
    pub conflicts: u64,
}

/// The tables of one keyspace.
#[derive(Clone, Default, Debug)]
pub struct KeyspaceMetrics {
    /// Its name.
    pub name: String,
    /// Files of values that are kept apart from the tables.
    pub blob_files: usize,
    /// Bytes of the values in them, with their keys, as they are stored.
    pub blob_bytes: u64,
    /// How much of that nothing points to any more. It is freed by compactions.
    pub blob_garbage_bytes: u64,
    /// From the newest level to the deepest.
    pub levels: Vec<LevelMetrics>,
}

/// The tables of one level.
#[derive(Copy, Clone, Default, Eq, PartialEq, Debug)]
pub struct LevelMetrics {
    /// How many there are.
    pub tables: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Versions of keys in them.
    pub entries: u64,
}

impl Metrics {
    pub(crate) fn of(engine: &Engine) -> Self {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &engine.counters;
        let (log_segments, position) = {
            let log = lock(&engine.log);
            (log.segments.len(), log.writer.position())
        };
        let version = engine.version();
        let oldest = version.sealed.last().unwrap_or(&version.active);
        let levels = |id: &u32| -> Vec<LevelMetrics> {
            let levels = version.trees.get(id).into_iter().flat_map(|tree| &tree.levels);
            let level = levels.map(|tables| LevelMetrics {
                tables: tables.len(),
                bytes: tables.iter().map(|table| table.meta().bytes).sum(),
                entries: tables.iter().map(|table| table.meta().entries).sum(),
            });
            level.collect()
        };
        let keyspaces = engine.keyspaces.load();
        let keyspaces = keyspaces.iter().map(|(id, state)| {
            let blobs = || version.trees.get(id).into_iter().flat_map(|tree| tree.blobs.by_number.values());
            KeyspaceMetrics {
                name: state.name.to_string(),
                blob_files: blobs().count(),
                blob_bytes: blobs().map(|blob| blob.file.meta().record_bytes()).sum(),
                blob_garbage_bytes: blobs().map(LiveBlob::garbage_bytes).sum(),
                levels: levels(id),
            }
        });
        Self {
            keyspaces: keyspaces.collect(),
            visible_sequence: engine.snapshots.visible(),
            durable_sequence: engine.syncer.durable_sequence(),
            poisoned: engine.health.is_poisoned(),
            snapshots: engine.snapshots.count(),
            memtable_bytes: version.active.bytes(),
            sealed_memtables: version.sealed.len(),
            log_segments,
            recycled_segments: read(&counters.recycled_segments),
            log_bytes: position.saturating_sub(oldest.log_position()),
            cache_bytes: engine.environment.cache.bytes(),
            batches: read(&counters.batches),
            batch_bytes: read(&counters.batch_bytes),
            syncs: engine.syncer.syncs(),
            flushes: read(&counters.flushes),
            flush_bytes: read(&counters.flush_bytes),
            compactions: read(&counters.compactions),
            moved_tables: read(&counters.moved_tables),
            compaction_read_bytes: read(&counters.compaction_read_bytes),
            compaction_written_bytes: read(&counters.compaction_written_bytes),
            blob_written_bytes: read(&counters.blob_written_bytes),
            stalls: read(&counters.stalls),
            transactions: read(&counters.transactions),
            conflicts: read(&counters.conflicts),
        }
    }
}
