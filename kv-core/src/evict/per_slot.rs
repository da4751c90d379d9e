//! An array by slot that is as long as the highest slot seen.

use std::ops::{Index, IndexMut};

use crate::slot::Slot;

#[derive(Debug)]
pub(super) struct PerSlot<T>(Vec<T>);

impl<T> Default for PerSlot<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerSlot<T> {
    /// The element of a slot, which is made if there is none yet.
    pub(super) fn entry(&mut self, slot: Slot) -> &mut T {
        if slot.index() >= self.0.len() {
            // An eighth at a time: doubling would leave half of the array idle in a cache that has reached its size.
            if slot.index() >= self.0.capacity() {
                self.0.reserve_exact(slot.index() + 1 - self.0.len() + self.0.len() / 8 + 8);
            }
            self.0.resize_with(slot.index() + 1, T::default);
        }
        &mut self.0[slot.index()]
    }
}

impl<T> Index<Slot> for PerSlot<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        &self.0[slot.index()]
    }
}

impl<T> IndexMut<Slot> for PerSlot<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.0[slot.index()]
    }
}
