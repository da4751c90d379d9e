use super::per_slot::PerSlot;
use super::policy::{Candidate, Policy};
use crate::slot::Slot;

/// Evicts any entry, each with the same chance. Nothing happens on a hit.
///
/// Holds its own against loops over more than fits, where recency is wrong every time. The choices follow from the seed
/// (xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
#[derive(Debug)]
pub struct Random {
    members: Vec<Slot>,
    positions: PerSlot<usize>,
    state: u64,
}

impl Random {
    /// Nothing to choose from yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // A state of zero would stay zero.
        Self { members: Vec::new(), positions: PerSlot::default(), state: seed | 1 }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let drawn = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        // Scaled down, not cut off: the lower bits are the weaker ones. Slots are 32-bit, so the product fits.
        usize::try_from((drawn * bound as u64) >> 32).expect("it is below the bound")
    }
}

impl Policy for Random {
    fn insert(&mut self, slot: Slot, _candidate: Candidate) {
        *self.positions.entry(slot) = self.members.len();
        self.members.push(slot);
    }

    fn update(&mut self, _slot: Slot, _candidate: Candidate) {}

    fn remove(&mut self, slot: Slot) {
        let position = self.positions[slot];
        let removed = self.members.swap_remove(position);
        debug_assert_eq!(removed, slot, "its position is known");
        if let Some(moved) = self.members.get(position) {
            self.positions[*moved] = position;
        }
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        if self.members.is_empty() {
            return None;
        }
        let position = self.below(self.members.len());
        let slot = self.members[position];
        self.remove(slot);
        Some(slot)
    }
}
