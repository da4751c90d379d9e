//! What the engine says about itself must hold after every step.

use std::fmt;

use super::settings::Settings;
use crate::database::Database;

/// More than one batch of the battery takes, in memory.
const BATCH_BYTES: u64 = 128 << 10;
/// Sealed memtables that may wait, as the engine has it by default.
const SEALED_MAX: usize = 2;

/// Looks at the metrics of a database again and again.
#[derive(Copy, Clone, Default, Debug)]
pub struct Invariants {
    visible_sequence: u64,
    durable_sequence: u64,
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
        for keyspace in &metrics.keyspaces {
            let (bytes, garbage) = (keyspace.blob_bytes, keyspace.blob_garbage_bytes);
            assert!(garbage < bytes || bytes == 0, "{context}: {garbage} of {bytes} bytes of blob files are garbage");
        }
        (self.visible_sequence, self.durable_sequence) = (visible, durable);
    }
}
