//! Doubly linked lists of slots that share one array of links: a slot is in one list at a time.

use super::per_slot::PerSlot;
use crate::slot::{NONE, Slot};

#[derive(Debug, Default)]
pub(super) struct Links(PerSlot<Link>);

/// Its neighbours; meaningless while the slot is in no list.
#[derive(Debug, Default)]
struct Link {
    newer: u32,
    older: u32,
}

/// One list, from the newest to the oldest.
#[derive(Debug)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { newest: NONE, oldest: NONE }
    }
}

impl List {
    pub(super) fn oldest(&self) -> Option<Slot> {
        some(self.oldest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.oldest == NONE
    }
}

impl Links {
    pub(super) fn push_newest(&mut self, list: &mut List, slot: Slot) {
        *self.0.entry(slot) = Link { newer: NONE, older: list.newest };
        match some(list.newest) {
            Some(older) => self.0[older].newer = slot.0,
            None => list.oldest = slot.0,
        }
        list.newest = slot.0;
    }

    pub(super) fn remove(&mut self, list: &mut List, slot: Slot) {
        let Link { newer, older } = self.0[slot];
        match some(newer) {
            Some(newer) => self.0[newer].older = older,
            None => list.newest = older,
        }
        match some(older) {
            Some(older) => self.0[older].newer = newer,
            None => list.oldest = newer,
        }
    }

    pub(super) fn make_newest(&mut self, list: &mut List, slot: Slot) {
        if list.newest != slot.0 {
            self.remove(list, slot);
            self.push_newest(list, slot);
        }
    }

    /// The next one on the way from the oldest to the newest.
    pub(super) fn newer(&self, slot: Slot) -> Option<Slot> {
        some(self.0[slot].newer)
    }
}

fn some(slot: u32) -> Option<Slot> {
    (slot != NONE).then_some(Slot(slot))
}
