//! A small saturating count per slot that readers raise without a lock.

use std::sync::atomic::{AtomicU8, Ordering};

use super::per_slot::PerSlot;
use crate::slot::Slot;

#[derive(Debug, Default)]
pub(super) struct Marks(PerSlot<AtomicU8>);

impl Marks {
    pub(super) fn clear(&mut self, slot: Slot) {
        *self.0.entry(slot).get_mut() = 0;
    }

    /// Raises the count up to `most`. Two readers at once may raise it by one only; a full count is not written, so
    /// that the marks of hot entries stay in every core's cache.
    pub(super) fn raise(&self, slot: Slot, most: u8) {
        let mark = &self.0[slot];
        let count = mark.load(Ordering::Relaxed);
        if count < most {
            mark.store(count + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut u8 {
        self.0[slot].get_mut()
    }
}
