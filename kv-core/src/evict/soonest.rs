use std::collections::BTreeSet;

use super::per_slot::PerSlot;
use super::policy::{Candidate, Policy};
use crate::slot::Slot;
use crate::time::Millis;

/// Earliest expiry: evicts the entry that would be the first to expire; those that never do come last, oldest first.
/// Nothing happens on a hit.
///
/// Redis calls it `volatile-ttl`, and samples; this one is exact, in O(log n) per insertion.
#[derive(Debug, Default)]
pub struct Soonest {
    order: BTreeSet<Rank>,
    ranks: PerSlot<Rank>,
    next_number: u64,
}

#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Default)]
struct Rank {
    expires_at: Millis,
    number: u64,
    slot: u32,
}

impl Soonest {
    /// An empty order.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Policy for Soonest {
    fn insert(&mut self, slot: Slot, candidate: Candidate) {
        let expires_at = candidate.expiry.time().unwrap_or(Millis::MAX);
        let rank = Rank { expires_at, number: self.next_number, slot: slot.0 };
        self.next_number += 1;
        *self.ranks.entry(slot) = rank;
        self.order.insert(rank);
    }

    fn update(&mut self, slot: Slot, candidate: Candidate) {
        if candidate.expiry.time().unwrap_or(Millis::MAX) != self.ranks[slot].expires_at {
            self.remove(slot);
            self.insert(slot, candidate);
        }
    }

    fn remove(&mut self, slot: Slot) {
        self.order.remove(&self.ranks[slot]);
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        self.order.pop_first().map(|rank| Slot(rank.slot))
    }
}
