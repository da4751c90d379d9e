//! The deleted ranges of a memtable. They are cut into fragments when a reader next asks.

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
    /// Since a reader last asked.
    fresh: Vec<RangeDelete>,
    /// Each of more deletes than the next, about twice as many: one that is added is cut again only as often as the parts
    /// double, also when a reader asks after every delete. (The logarithmic method of Bentley and Saxe 1980.)
    parts: Vec<Part>,
}

struct Part {
    deletes: Vec<RangeDelete>,
    cut: Arc<RangeDeletes>,
}

impl Ranges {
    fn cut(&mut self) {
        let mut deletes = std::mem::take(&mut self.fresh);
        if deletes.is_empty() {
            return;
        }
        while let Some(smaller) = self.parts.pop_if(|part| part.deletes.len() <= deletes.len()) {
            deletes.extend(smaller.deletes);
        }
        let cut = Arc::new(RangeDeletes::new(deletes.clone()));
        self.parts.push(Part { deletes, cut });
    }
}

impl RangeLog {
    pub(crate) fn push(&self, space: u32, delete: RangeDelete) {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        spaces.entry(space).or_default().fresh.push(delete);
        self.count.fetch_add(1, Ordering::Release);
    }

    /// All of a space: each part answers for the deletes in it.
    pub(crate) fn of_space(&self, space: u32) -> Vec<Arc<RangeDeletes>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ranges) = spaces.get_mut(&space) else { return Vec::new() };
        ranges.cut();
        ranges.parts.iter().map(|part| Arc::clone(&part.cut)).collect()
    }

    pub(crate) fn spaces(&self) -> Vec<u32> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_after_each_delete_makes_few_parts_and_sees_all() {
        let log = RangeLog::default();
        assert!(log.of_space(1).is_empty());
        let key = |number: u32| -> Arc<[u8]> { Arc::from(number.to_be_bytes()) };
        for sequence in 1..=1000_u32 {
            let start = sequence.wrapping_mul(0x9e37_79b9) % 5000;
            let delete = RangeDelete { start: key(start), end: key(start + 1), sequence: sequence.into() };
            log.push(1, delete);
            let parts = log.of_space(1);
            assert!(parts.len() <= 11, "{} parts of {sequence} deletes", parts.len());
            let newest = parts.iter().map(|part| part.newest(&start.to_be_bytes(), u64::MAX)).max();
            assert_eq!(newest, Some(sequence.into()));
        }
        let parts = log.of_space(1);
        let all: usize = parts.iter().map(|part| part.deletes().count()).sum();
        assert_eq!(all, 1000);
        assert!(log.of_space(2).is_empty());
        assert_eq!(log.spaces(), [1]);
    }
}
