use super::list::{Links, List};
use super::marks::Marks;
use super::policy::{Candidate, Policy};
use crate::slot::Slot;

/// SIEVE: a first-in first-out queue in which a hand goes from the oldest entry to the newest, clears the mark of
/// those used since it came by last, and evicts the first that has none. What survives stays where it is.
///
/// Source: Zhang, Yang, Yue, Vigfusson and Rashmi, "SIEVE is simpler than LRU" (NSDI 2024). A hit sets one bit, and
/// nothing else. Very good on skewed traffic; not made to resist scans.
#[derive(Debug, Default)]
pub struct Sieve {
    links: Links,
    queue: List,
    used: Marks,
    /// Where the hand stands; at the oldest if nowhere.
    hand: Option<Slot>,
}

impl Sieve {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for Sieve {
    fn insert(&mut self, slot: Slot, _candidate: Candidate) {
        self.used.clear(slot);
        self.links.push_newest(&mut self.queue, slot);
    }

    fn hit(&self, slot: Slot) -> bool {
        self.used.raise(slot, 1);
        false
    }

    fn update(&mut self, _slot: Slot, _candidate: Candidate) {}

    fn remove(&mut self, slot: Slot) {
        if self.hand == Some(slot) {
            self.hand = self.links.newer(slot);
        }
        self.links.remove(&mut self.queue, slot);
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        // At the latest the second time round nothing is marked.
        loop {
            let slot = self.hand.or_else(|| self.queue.oldest())?;
            if std::mem::take(self.used.get_mut(slot)) == 0 {
                self.hand = Some(slot);
                self.remove(slot);
                return Some(slot);
            }
            self.hand = self.links.newer(slot);
        }
    }
}
