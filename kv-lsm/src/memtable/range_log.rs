//! The deleted ranges of a memtable: a list that grows, and its fragments, built when a reader next asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::range_delete::{RangeDelete, RangeDeletes};

#[derive(Default)]
pub(crate) struct RangeLog {
    /// How many there are, so that the many memtables without any cost one load.
    count: AtomicUsize,
    spaces: Mutex<BTreeMap<u32, Ranges>>,
}

#[derive(Default)]
struct Ranges {
    deletes: Vec<RangeDelete>,
    built: Option<Arc<RangeDeletes>>,
}

impl RangeLog {
    pub(crate) fn push(&self, space: u32, delete: RangeDelete) {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = spaces.entry(space).or_default();
        ranges.deletes.push(delete);
        ranges.built = None;
        self.count.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn of_space(&self, space: u32) -> Option<Arc<RangeDeletes>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let ranges = spaces.get_mut(&space)?;
        let built = ranges.built.get_or_insert_with(|| Arc::new(RangeDeletes::new(ranges.deletes.clone())));
        Some(Arc::clone(built))
    }

    pub(crate) fn spaces(&self) -> Vec<u32> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}
