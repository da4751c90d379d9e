//! Hits that readers note without a lock, for policies whose order a hit changes.
//!
//! Source: the read buffers of Caffeine (Manes), after BP-Wrapper (Ding, Jiang and Zhang, ICDE 2009): promotions are
//! noted, and made in batches under the lock that the writer holds anyway. A full buffer drops hits; an entry that is
//! worth keeping is hit again.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::slot::Slot;

const HITS: u32 = 64;

#[derive(Debug)]
pub(super) struct ReadBuffer {
    /// Hits noted or dropped since the last drain.
    count: AtomicU32,
    slots: [AtomicU32; HITS as usize],
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self { count: AtomicU32::new(0), slots: [const { AtomicU32::new(0) }; HITS as usize] }
    }
}

impl ReadBuffer {
    /// Notes a hit, and says whether to drain: once when the buffer is full, and again for each further load that is
    /// dropped.
    pub(super) fn note(&self, slot: Slot) -> bool {
        let at = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some(place) = self.slots.get(at as usize) {
            place.store(slot.0, Ordering::Relaxed);
        }
        at % HITS == HITS - 1
    }

    /// Takes out the hits noted, oldest first, and forgets the dropped ones.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Slot> + use<> {
        let noted = std::mem::replace(self.count.get_mut(), 0).min(HITS) as usize;
        let slots: [u32; HITS as usize] = std::array::from_fn(|at| *self.slots[at].get_mut());
        slots.into_iter().take(noted).map(Slot)
    }
}
