use super::ghosts::Ghosts;
use super::list::{Links, List};
use super::marks::Marks;
use super::per_slot::PerSlot;
use super::policy::{Candidate, Policy};
use crate::slot::Slot;

/// The small queue's part of the bytes, as a divisor.
const SMALL_PART: u64 = 10;
/// How many uses a mark can tell apart.
const USES_MAX: u8 = 3;

/// S3-FIFO: a small first-in first-out queue for what is new, a main one for what was used there or came back soon,
/// and the hashes of what the small one let go.
///
/// 1. What is new goes to the small queue, unless its key is a ghost: then to the main one.
/// 2. While the small queue has a tenth of the bytes or more, its oldest leaves it: to the main queue if it was used
///    more than once, else out, as a ghost.
/// 3. Otherwise the oldest of the main queue goes: back to its end, with one use less, if it has any; else out.
///
/// Source: Yang, Zhang, Qiu, Yue and Rashmi, "FIFO queues are all you need for cache eviction" (SOSP 2023). A hit
/// raises a two-bit count, and nothing else. Resists scans, because what is used once never reaches the main queue.
///
/// Ghosts are as many as nine tenths of the entries.
#[derive(Debug)]
pub struct S3Fifo {
    links: Links,
    small: List,
    main: List,
    entries: PerSlot<Entry>,
    uses: Marks,
    ghosts: Ghosts,
    len: usize,
    small_bytes: u64,
    small_bytes_max: u64,
}

#[derive(Debug, Default)]
struct Entry {
    hash: u64,
    bytes: u32,
    in_main: bool,
}

impl S3Fifo {
    /// Empty queues of a cache with this bound.
    #[must_use]
    pub fn new(capacity_bytes: u64) -> Self {
        Self {
            links: Links::default(),
            small: List::default(),
            main: List::default(),
            entries: PerSlot::default(),
            uses: Marks::default(),
            ghosts: Ghosts::default(),
            len: 0,
            small_bytes: 0,
            small_bytes_max: capacity_bytes / SMALL_PART,
        }
    }

    fn leave_small(&mut self, slot: Slot) {
        self.links.remove(&mut self.small, slot);
        self.small_bytes -= u64::from(self.entries[slot].bytes);
    }

    fn enter_main(&mut self, slot: Slot) {
        self.entries[slot].in_main = true;
        self.links.push_newest(&mut self.main, slot);
    }
}

impl Policy for S3Fifo {
    fn insert(&mut self, slot: Slot, candidate: Candidate) {
        let Candidate { hash, bytes, .. } = candidate;
        *self.entries.entry(slot) = Entry { hash, bytes, in_main: false };
        self.uses.clear(slot);
        self.len += 1;
        if self.ghosts.take(hash) {
            self.enter_main(slot);
        } else {
            self.links.push_newest(&mut self.small, slot);
            self.small_bytes += u64::from(bytes);
        }
    }

    fn hit(&self, slot: Slot) -> bool {
        self.uses.raise(slot, USES_MAX);
        false
    }

    fn update(&mut self, slot: Slot, candidate: Candidate) {
        let entry = &mut self.entries[slot];
        let before = std::mem::replace(&mut entry.bytes, candidate.bytes);
        if !entry.in_main {
            self.small_bytes = self.small_bytes - u64::from(before) + u64::from(candidate.bytes);
        }
    }

    fn remove(&mut self, slot: Slot) {
        if self.entries[slot].in_main {
            self.links.remove(&mut self.main, slot);
        } else {
            self.leave_small(slot);
        }
        self.len -= 1;
    }

    fn evict(&mut self, _incoming_bytes: u32) -> Option<Slot> {
        // Ends: each round takes an entry out of the small queue, or a use from an entry of the main one.
        loop {
            let oldest_small =
                self.small.oldest().filter(|_| self.small_bytes >= self.small_bytes_max || self.main.is_empty());
            if let Some(slot) = oldest_small {
                self.leave_small(slot);
                if *self.uses.get_mut(slot) > 1 {
                    self.uses.clear(slot);
                    self.enter_main(slot);
                } else {
                    self.ghosts.push(self.entries[slot].hash, self.len - self.len / 10);
                    self.len -= 1;
                    return Some(slot);
                }
            } else {
                let slot = self.main.oldest()?;
                let uses = self.uses.get_mut(slot);
                if *uses == 0 {
                    self.links.remove(&mut self.main, slot);
                    self.len -= 1;
                    return Some(slot);
                }
                *uses -= 1;
                self.links.make_newest(&mut self.main, slot);
            }
        }
    }
}
