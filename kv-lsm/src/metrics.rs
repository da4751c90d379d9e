//! Counters and sizes.

mod families;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::blob::files::LiveBlob;
use crate::counters::Histogram;
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
    /// How long ago, by the database's clock, the oldest of them was taken; zero when there is none.
    pub oldest_snapshot_age_ms: u64,
    /// Bytes in the memtable that takes writes.
    pub memtable_bytes: u64,
    /// Bytes in those that wait for their flush.
    pub sealed_memtable_bytes: u64,
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
    /// Bytes of the indexes, filters and deleted ranges of tables that are open.
    pub table_bytes: u64,
    /// Tables whose files are open.
    pub open_tables: usize,
    /// Files of separated values that are open.
    pub open_blob_files: usize,
    /// Point reads that a memtable answered.
    pub memtable_reads: u64,
    /// Point reads that a table on level 0 answered.
    pub level0_reads: u64,
    /// Point reads that a table below level 0 answered.
    pub deeper_reads: u64,
    /// Point reads that went through everything. Most found nothing; the others met merge operands without a value below.
    pub exhausted_reads: u64,
    /// Filters that point reads asked.
    pub filter_checks: u64,
    /// Filters that said no, and spared a block.
    pub filter_negatives: u64,
    /// Blocks that point reads found in the cache.
    pub cache_hits: u64,
    /// Blocks that they had to read.
    pub cache_misses: u64,
    /// Batches committed.
    pub batches: u64,
    /// Bytes of their encodings. What the engine writes for each of these is its write amplification: once to the log, then
    /// `flush_bytes` and `compaction_written_bytes`.
    pub batch_bytes: u64,
    /// Successful syncs of the log.
    pub syncs: u64,
    /// How long they took, in microseconds.
    pub sync_us: Histogram,
    /// How many batches each of them made durable: the size of commit groups.
    pub sync_batches: Histogram,
    /// Memtables flushed.
    pub flushes: u64,
    /// Bytes of tables written by flushes.
    pub flush_bytes: u64,
    /// How long flushes took, in microseconds.
    pub flush_us: Histogram,
    /// Compactions that rewrote tables.
    pub compactions: u64,
    /// Tables that were moved to another level without being rewritten.
    pub moved_tables: u64,
    /// Tables that were dropped whole, without being read: first in, first out.
    pub dropped_tables: u64,
    /// Bytes of tables that compactions took in.
    pub compaction_read_bytes: u64,
    /// Bytes of tables that compactions wrote.
    pub compaction_written_bytes: u64,
    /// Bytes of files of separated values written, by flushes and compactions.
    pub blob_written_bytes: u64,
    /// About how many bytes compactions have to rewrite until every level is as large as it should be: the debt that writers
    /// are slowed down for.
    pub pending_compaction_bytes: u64,
    /// How long compactions took, in microseconds.
    pub compaction_us: Histogram,
    /// Writes that had to wait for a flush or compaction.
    pub stalls: u64,
    /// How long they waited, all together, in microseconds.
    pub stall_us: u64,
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
    /// Of these, how many are deletes.
    pub deletes: u64,
    /// Of these, how many expire, or have expired.
    pub expiring: u64,
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
                deletes: tables.iter().map(|table| table.meta().deletes).sum(),
                expiring: tables.iter().map(|table| table.meta().expiring.entries).sum(),
            });
            level.collect()
        };
        let (table_bytes, open_tables) = engine.environment.memory.loaded();
        let reads = counters.reads.total();
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
            oldest_snapshot_age_ms: engine
                .snapshots
                .oldest()
                .map_or(0, |oldest| engine.time.now().0.saturating_sub(oldest.0)),
            memtable_bytes: version.active.bytes(),
            sealed_memtables: version.sealed.len(),
            sealed_memtable_bytes: version.sealed.iter().map(|memtable| memtable.bytes()).sum(),
            log_segments,
            recycled_segments: read(&counters.recycled_segments),
            log_bytes: position.saturating_sub(oldest.log_position()),
            cache_bytes: engine.environment.memory.blocks.bytes(),
            table_bytes,
            open_tables,
            open_blob_files: engine.environment.memory.open_blobs(),
            memtable_reads: reads.memtable,
            level0_reads: reads.level0,
            deeper_reads: reads.deeper,
            exhausted_reads: reads.nowhere,
            filter_checks: reads.filter_checks,
            filter_negatives: reads.filter_negatives,
            cache_hits: reads.cache_hits,
            cache_misses: reads.cache_misses,
            batches: read(&counters.batches),
            batch_bytes: read(&counters.batch_bytes),
            syncs: engine.syncer.time().histogram().count(),
            sync_us: engine.syncer.time().histogram(),
            sync_batches: engine.syncer.groups().histogram(),
            flushes: read(&counters.flushes),
            flush_bytes: read(&counters.flush_bytes),
            flush_us: counters.flush_time.histogram(),
            compactions: read(&counters.compactions),
            moved_tables: read(&counters.moved_tables),
            dropped_tables: read(&counters.dropped_tables),
            compaction_read_bytes: read(&counters.compaction_read_bytes),
            compaction_written_bytes: read(&counters.compaction_written_bytes),
            blob_written_bytes: read(&counters.blob_written_bytes),
            pending_compaction_bytes: read(&engine.pending_bytes),
            compaction_us: counters.compaction_time.histogram(),
            stalls: read(&counters.stalls),
            stall_us: counters.stall_time.sum(),
            transactions: read(&counters.transactions),
            conflicts: read(&counters.conflicts),
        }
    }

    /// Memory that [`Builder::memory_bytes`](crate::Builder::memory_bytes) counts: memtables, blocks, indexes and filters.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memtable_bytes + self.sealed_memtable_bytes + self.cache_bytes + self.table_bytes
    }

    /// Bytes that were written to the disk for each byte of the batches: to the log once, and to tables. Zero before the
    /// first batch.
    #[must_use]
    pub fn write_amplification(&self) -> f64 {
        ratio(
            self.batch_bytes + self.flush_bytes + self.compaction_written_bytes + self.blob_written_bytes,
            self.batch_bytes,
        )
    }

    /// Blocks that a point read looked at, in the cache or not, on average. Zero before the first read.
    #[must_use]
    pub fn read_amplification(&self) -> f64 {
        let reads = self.memtable_reads + self.level0_reads + self.deeper_reads + self.exhausted_reads;
        ratio(self.cache_hits + self.cache_misses, reads)
    }
}

/// Only for people to read, so that rounding does not matter.
fn ratio(numerator: u64, denominator: u64) -> f64 {
    if denominator == 0 { 0.0 } else { numerator as f64 / denominator as f64 }
}

const MIB: f64 = 1_048_576.0;

/// A table for people. Its lines may change; programs read the fields.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let spread = |histogram: &Histogram| (histogram.percentile(50), histogram.percentile(99));
        writeln!(f, "{:<24}{:>10}{:>12}{:>14}", "keyspace, level", "tables", "MiB", "versions")?;
        for keyspace in &self.keyspaces {
            for (level, metrics) in keyspace.levels.iter().enumerate().filter(|(_, metrics)| metrics.tables > 0) {
                let name = format!("{}, {level}", keyspace.name);
                writeln!(f, "{name:<24}{:>10}{:>12.1}{:>14}", metrics.tables, mib(metrics.bytes), metrics.entries)?;
            }
        }
        writeln!(
            f,
            "memory MiB      {:.1} = memtables {:.1} + {:.1} waiting, blocks {:.1}, indexes and filters {:.1} of {} open tables",
            mib(self.memory_bytes()),
            mib(self.memtable_bytes),
            mib(self.sealed_memtable_bytes),
            mib(self.cache_bytes),
            mib(self.table_bytes),
            self.open_tables
        )?;
        writeln!(
            f,
            "point reads     {} from memtables, {} from level 0, {} from deeper, {} through everything; {:.2} blocks each",
            self.memtable_reads,
            self.level0_reads,
            self.deeper_reads,
            self.exhausted_reads,
            self.read_amplification()
        )?;
        writeln!(
            f,
            "filters         {} asked, {} said no; blocks {} in the cache, {} read",
            self.filter_checks, self.filter_negatives, self.cache_hits, self.cache_misses
        )?;
        writeln!(
            f,
            "writes          {} batches, {:.1} MiB; {:.2} bytes written for each; {} stalls, {:.1} s",
            self.batches,
            mib(self.batch_bytes),
            self.write_amplification(),
            self.stalls,
            self.stall_us as f64 / 1e6
        )?;
        writeln!(
            f,
            "transactions    {} committed, {} conflicts; {} snapshots, the oldest of {} ms",
            self.transactions, self.conflicts, self.snapshots, self.oldest_snapshot_age_ms
        )?;
        let (sync, batches) = (spread(&self.sync_us), spread(&self.sync_batches));
        writeln!(
            f,
            "log             {:.1} MiB in {} segments; {} syncs, median {} us, 99 % {} us, of {} batches, 99 % {}",
            mib(self.log_bytes),
            self.log_segments,
            self.syncs,
            sync.0,
            sync.1,
            batches.0,
            batches.1
        )?;
        writeln!(
            f,
            "background      {} flushes, {:.1} MiB, median {} us; {} compactions, {:.1} MiB in, {:.1} MiB out, median {} us, {:.1} MiB to do",
            self.flushes,
            mib(self.flush_bytes),
            self.flush_us.percentile(50),
            self.compactions,
            mib(self.compaction_read_bytes),
            mib(self.compaction_written_bytes),
            self.compaction_us.percentile(50),
            mib(self.pending_compaction_bytes)
        )?;
        let state = if self.poisoned { "poisoned" } else { "in order" };
        write!(f, "state           {state}; visible {}, durable {}", self.visible_sequence, self.durable_sequence)
    }
}
