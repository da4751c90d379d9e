//! Which moments are being read, so that compaction keeps what they see.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kv_core::time::Millis;

use crate::time::{Moment, Time};

/// The live snapshots, and the number up to which writes are visible.
pub(crate) struct Snapshots {
    visible: AtomicU64,
    live: Mutex<BTreeMap<Moment, usize>>,
}

impl Snapshots {
    pub(crate) const fn new(visible: u64) -> Self {
        Self { visible: AtomicU64::new(visible), live: Mutex::new(BTreeMap::new()) }
    }

    fn live(&self) -> MutexGuard<'_, BTreeMap<Moment, usize>> {
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

    /// Registers a snapshot of what is visible now. Number and time are read under one lock, so that of two snapshots the one
    /// with the higher number never has the earlier time.
    pub(crate) fn take(&self, time: &Time) -> Moment {
        let mut live = self.live();
        let moment = Moment { sequence: self.visible(), as_of: time.now() };
        *live.entry(moment).or_default() += 1;
        moment
    }

    pub(crate) fn release(&self, moment: Moment) {
        let mut live = self.live();
        let count = live.get_mut(&moment).expect("a snapshot is released once");
        *count -= 1;
        if *count == 0 {
            live.remove(&moment);
        }
    }

    /// The moments that somebody reads at, or may from now on: those of the snapshots, and now. Ascending in number and in
    /// time; of snapshots with one number the earliest time counts. A snapshot taken later lies at or above the last one in
    /// both.
    pub(crate) fn boundaries(&self, time: &Time) -> Vec<Moment> {
        let live = self.live();
        let now = Moment { sequence: self.visible(), as_of: time.now() };
        let mut boundaries: Vec<Moment> = live.keys().copied().collect();
        boundaries.dedup_by_key(|moment| moment.sequence);
        if boundaries.last().is_none_or(|last| last.sequence != now.sequence) {
            boundaries.push(now);
        }
        assert!(boundaries.is_sorted_by_key(|moment| moment.as_of), "later snapshots have later times");
        boundaries
    }

    /// When the oldest snapshot was taken.
    pub(crate) fn oldest(&self) -> Option<Millis> {
        self.live().keys().next().map(|moment| moment.as_of)
    }

    pub(crate) fn count(&self) -> usize {
        self.live().values().sum()
    }
}
