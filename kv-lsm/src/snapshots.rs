//! Which sequence numbers are being read, so that compaction keeps what they see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The live snapshots, and the number up to which writes are visible.
pub(crate) struct Snapshots {
    visible: AtomicU64,
    live: Mutex<BTreeMap<u64, usize>>,
}

impl Snapshots {
    pub(crate) const fn new(visible: u64) -> Self {
        Self { visible: AtomicU64::new(visible), live: Mutex::new(BTreeMap::new()) }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the last operation of the last batch that was applied whole.
    pub(crate) fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    /// Makes a batch visible. Called by one writer at a time, in order.
    pub(crate) fn publish(&self, last_sequence: u64) {
        let before = self.visible.swap(last_sequence, Ordering::AcqRel);
        assert!(before < last_sequence, "batches are published in order");
    }

    /// Registers a snapshot of what is visible now.
    pub(crate) fn take(&self) -> u64 {
        let mut live = self.live();
        let sequence = self.visible();
        *live.entry(sequence).or_default() += 1;
        sequence
    }

    pub(crate) fn release(&self, sequence: u64) {
        let mut live = self.live();
        let count = live.get_mut(&sequence).expect("a snapshot is released once");
        *count -= 1;
        if *count == 0 {
            live.remove(&sequence);
        }
    }

    /// The numbers that somebody reads at, or may from now on: those of the snapshots, and what is visible. Ascending. A
    /// snapshot taken later lies at or above the last one.
    pub(crate) fn boundaries(&self) -> Vec<u64> {
        let live = self.live();
        let visible = self.visible();
        let mut boundaries: Vec<u64> = live.keys().copied().collect();
        if boundaries.last() != Some(&visible) {
            boundaries.push(visible);
        }
        boundaries
    }

    pub(crate) fn count(&self) -> usize {
        self.live().values().sum()
    }
}
