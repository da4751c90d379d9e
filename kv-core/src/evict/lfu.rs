use std::collections::BTreeSet;

use super::per_slot::PerSlot;
use super::policy::{Candidate, Policy};
use super::read_buffer::ReadBuffer;
use crate::slot::Slot;

/// Least frequently used, with dynamic aging: evicts the entry with the lowest number of uses plus the age of the cache at its
/// last use; of equal ones, that whose number is longest unchanged.
///
/// Source: LFU-DA (Arlitt, Cherkasova, Dilley, Friedrich and Jin, "Evaluating content management techniques for Web proxy caches",
/// SIGMETRICS Performance Evaluation Review 2000). The age is the number of the last victim, so what was used a lot
/// once, and no more, is overtaken. A hit costs O(log n), in batches, on a writer's time.
#[derive(Debug, Default)]
pub struct Lfu {
    order: BTreeSet<Rank>,
    entries: PerSlot<Entry>,
    age: u64,
    next_change: u64,
    hits: ReadBuffer,
}

#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
struct Rank {
    priority: u64,
    change: u64,
    slot: Slot,
}

#[derive(Debug, Default)]
struct Entry {
    uses: u64,
    priority: u64,
    change: u64,
}

impl Lfu {
    /// A cache of age zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn rank(&self, slot: Slot) -> Rank {
        let Entry { priority, change, .. } = self.entries[slot];
        Rank { priority, change, slot }
    }

    fn enter(&mut self, slot: Slot, uses: u64) {
        let entry = Entry { uses, priority: self.age + uses, change: self.next_change };
        self.next_change += 1;
        *self.entries.entry(slot) = entry;
        self.order.insert(self.rank(slot));
    }
}

impl Policy for Lfu {
    fn insert(&mut self, slot: Slot, _candidate: Candidate) {
        self.settle();
        self.enter(slot, 1);
    }

    fn hit(&self, slot: Slot) -> bool {
        self.hits.note(slot)
    }

    fn settle(&mut self) {
        for slot in self.hits.drain() {
            self.order.remove(&self.rank(slot));
            self.enter(slot, self.entries[slot].uses + 1);
        }
    }

    fn update(&mut self, _slot: Slot, _candidate: Candidate) {}

    fn remove(&mut self, slot: Slot) {
        self.settle();
        self.order.remove(&self.rank(slot));
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        self.settle();
        let victim = self.order.pop_first()?;
        self.age = victim.priority;
        Some(victim.slot)
    }
}
