use std::collections::BTreeSet;

use super::marks::Marks;
use super::per_slot::PerSlot;
use super::policy::{Candidate, Policy};
use crate::slot::Slot;

/// Least frequently used, with dynamic aging: evicts the entry with the lowest sum of its uses and of the age of the
/// cache when they were counted; of equal ones, that which was counted first.
///
/// Source: LFU-DA (Arlitt, Cherkasova, Dilley, Friedrich and Jin, "Evaluating content management techniques for Web
/// proxy caches", SIGMETRICS Performance Evaluation Review 2000). The age is the sum of the last victim, so what was
/// used a lot once, and no more, is overtaken.
///
/// The paper moves an entry with each use. Here a use raises a mark, and is counted when the entry comes to the front
/// of the order, as in SIEVE: it is ranked again with what it has gathered since, 255 uses at most, and the next one
/// is looked at. So a hit is an atomic store, and writers pay O(log n) for each entry they look at.
#[derive(Debug, Default)]
pub struct Lfu {
    order: BTreeSet<Rank>,
    entries: PerSlot<Entry>,
    /// Uses that are not counted yet.
    marks: Marks,
    age: u64,
    next_number: u64,
}

#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
struct Rank {
    priority: u64,
    number: u64,
    slot: Slot,
}

#[derive(Debug, Default)]
struct Entry {
    uses: u64,
    priority: u64,
    number: u64,
}

impl Lfu {
    /// A cache of age zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn rank(&mut self, slot: Slot, uses: u64) {
        let (priority, number) = (self.age + uses, self.next_number);
        self.next_number += 1;
        *self.entries.entry(slot) = Entry { uses, priority, number };
        self.order.insert(Rank { priority, number, slot });
    }
}

impl Policy for Lfu {
    fn insert(&mut self, slot: Slot, _candidate: Candidate) {
        self.marks.clear(slot);
        self.rank(slot, 1);
    }

    fn hit(&self, slot: Slot) -> bool {
        self.marks.raise(slot, u8::MAX);
        false
    }

    fn update(&mut self, _slot: Slot, _candidate: Candidate) {}

    fn remove(&mut self, slot: Slot) {
        let Entry { priority, number, .. } = self.entries[slot];
        self.order.remove(&Rank { priority, number, slot });
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        // Ends: an entry that is ranked again has no mark the next time.
        loop {
            let Rank { priority, slot, .. } = self.order.pop_first()?;
            let gathered = std::mem::take(self.marks.get_mut(slot));
            if gathered == 0 {
                self.age = priority;
                return Some(slot);
            }
            self.rank(slot, self.entries[slot].uses + u64::from(gathered));
        }
    }
}
