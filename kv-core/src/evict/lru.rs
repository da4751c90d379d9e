use super::list::{Links, List};
use super::policy::{Candidate, Policy};
use super::read_buffer::ReadBuffer;
use crate::slot::Slot;

/// Least recently used: evicts the entry whose last use is longest ago.
///
/// The textbook policy (Mattson, Gecsei, Slutz and Traiger, "Evaluation techniques for storage hierarchies", IBM
/// Systems Journal 1970). One scan over more than the cache holds drives everything out of it. Hits are noted in a
/// buffer and brought to the order in batches, so under load a few of them are lost.
#[derive(Debug, Default)]
pub struct Lru {
    links: Links,
    order: List,
    hits: ReadBuffer,
}

impl Lru {
    /// An empty order.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for Lru {
    fn insert(&mut self, slot: Slot, _candidate: Candidate) {
        self.settle();
        self.links.push_newest(&mut self.order, slot);
    }

    fn hit(&self, slot: Slot) -> bool {
        self.hits.note(slot)
    }

    fn settle(&mut self) {
        for slot in self.hits.drain() {
            self.links.make_newest(&mut self.order, slot);
        }
    }

    fn update(&mut self, _slot: Slot, _candidate: Candidate) {}

    fn remove(&mut self, slot: Slot) {
        self.settle();
        self.links.remove(&mut self.order, slot);
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        self.settle();
        let slot = self.order.oldest()?;
        self.links.remove(&mut self.order, slot);
        Some(slot)
    }
}
