use super::list::{Links, List};
use super::policy::{Candidate, Policy};
use crate::slot::Slot;

/// First in, first out: evicts the entry that came in first, however much it is used. Nothing happens on a hit.
///
/// For write-once data of which the newest is asked for, and as the baseline that every other policy should beat.
#[derive(Debug, Default)]
pub struct Fifo {
    links: Links,
    queue: List,
}

impl Fifo {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for Fifo {
    fn insert(&mut self, slot: Slot, _candidate: Candidate) {
        self.links.push_newest(&mut self.queue, slot);
    }

    fn update(&mut self, _slot: Slot, _candidate: Candidate) {}

    fn remove(&mut self, slot: Slot) {
        self.links.remove(&mut self.queue, slot);
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        let slot = self.queue.oldest()?;
        self.remove(slot);
        Some(slot)
    }
}
