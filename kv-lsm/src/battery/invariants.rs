//! What the engine says about itself must hold after every step.

use std::fmt;

use super::settings::Settings;
use crate::database::Database;

/// More than one batch of the battery takes, in memory.
const BATCH_BYTES: u64 = 128 << 10;
/// More than a batch takes in the log beside its bytes: headers of its chunks and of a segment, a marker, unused ends of blocks.
const LOG_OVERHEAD_BYTES: u64 = 256;
/// More than index and filter of one table of the battery take: one table is always open, whatever the budget says.
const OPEN_TABLE_BYTES: u64 = 64 << 10;
/// Sealed memtables that may wait, as the engine has it by default.
const SEALED_MAX: usize = 2;

/// Looks at the metrics of a database again and again.
#[derive(Copy, Clone, Default, Debug)]
pub struct Invariants {
    visible_sequence: u64,
    durable_sequence: u64,
    batches: u64,
    batch_bytes: u64,
    /// What was written to the log between looks, at most, the last two times that anything was.
    last_written_bytes: [u64; 2],
}

impl Invariants {
    /// Checks what must hold at any time, and what may only grow.
    ///
    /// # Panics
    /// When it does not.
    pub fn check(&mut self, database: &Database, settings: Settings, context: &dyn fmt::Display) {
        let metrics = database.metrics();
        let (visible, durable) = (metrics.visible_sequence, metrics.durable_sequence);
        assert!(durable <= visible, "{context}: number {durable} is durable, and only {visible} is visible");
        assert!(durable >= self.durable_sequence, "{context}: the durable number went back to {durable}");
        assert!(visible >= self.visible_sequence, "{context}: the visible number went back to {visible}");
        assert!(metrics.sealed_memtables <= SEALED_MAX + 1, "{context}: {} sealed", metrics.sealed_memtables);
        assert!(
            metrics.memtable_bytes <= settings.memtable_bytes + BATCH_BYTES,
            "{context}: {} bytes in a memtable of {}",
            metrics.memtable_bytes,
            settings.memtable_bytes
        );
        let batches = metrics.batches - self.batches;
        if batches > 0 {
            let written_bytes = metrics.batch_bytes - self.batch_bytes + LOG_OVERHEAD_BYTES * batches;
            self.last_written_bytes = [written_bytes, self.last_written_bytes[0]];
        }
        if let Some(log_bytes_max) = settings.log_bytes_max() {
            let log_bytes = metrics.log_bytes;
            // Two batches may come on top: one that fills the active memtable beyond the bound, and the one that seals it.
            let on_top = self.last_written_bytes.iter().sum::<u64>() + LOG_OVERHEAD_BYTES;
            assert!(
                log_bytes <= log_bytes_max + on_top,
                "{context}: the log holds {log_bytes} bytes and may hold {log_bytes_max} (rule E7)"
            );
        }
        assert!(
            metrics.open_tables <= settings.open_tables_max,
            "{context}: {} tables are open, of {}",
            metrics.open_tables,
            settings.open_tables_max
        );
        let tables_bytes = metrics.cache_bytes + metrics.table_bytes;
        assert!(
            tables_bytes <= settings.cache_bytes + OPEN_TABLE_BYTES,
            "{context}: {tables_bytes} bytes of tables in memory, in a cache of {}",
            settings.cache_bytes
        );
        for keyspace in &metrics.keyspaces {
            let (bytes, garbage) = (keyspace.blob_bytes, keyspace.blob_garbage_bytes);
            assert!(garbage < bytes || bytes == 0, "{context}: {garbage} of {bytes} bytes of blob files are garbage");
        }
        (self.visible_sequence, self.durable_sequence) = (visible, durable);
        (self.batches, self.batch_bytes) = (metrics.batches, metrics.batch_bytes);
    }
}
