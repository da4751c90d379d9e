//! A hashed hierarchical timing wheel: which of many deadlines have passed, without sorting them.
//!
//! Source: Varghese and Lauck, "Hashed and hierarchical timing wheels" (SOSP 1987), scheme 7. A wheel has 64 buckets
//! per level; a bucket of level *n* spans 64ⁿ milliseconds. A deadline stands in the level of the highest base-64
//! digit in which it differs from the time that the wheel has reached, so eleven levels hold every 64-bit time, and a
//! bucket is never shared by two rounds.
//!
//! 1. [`insert`](TimingWheel::insert), [`cancel`](TimingWheel::cancel) and [`reschedule`](TimingWheel::reschedule)
//!    take constant time: one link into a bucket's list, or out of it.
//! 2. [`advance`](TimingWheel::advance) goes from bucket to bucket, not from tick to tick: a word per level says which
//!    buckets hold something, so idle time costs nothing, however long it was.
//! 3. Each step of `advance` either reports a deadline or moves one to a lower level, which happens to it at most ten
//!    times. Steps are counted against the caller's budget, and what is left over goes on in the next call.
//!
//! Timers are named by small integers of the caller's ([`Slot`]), such as the places of a slab: the wheel keeps its
//! links in one array indexed by them. It allocates when a higher slot or a higher level than ever before is used, and
//! never in `advance`.
//!
//! ```
//! use kv_core::time::Millis;
//! use kv_core::slot::Slot;
//! use kv_core::wheel::TimingWheel;
//!
//! let mut wheel = TimingWheel::new(Millis(1000));
//! wheel.insert(Slot(0), Millis(1500));
//! wheel.insert(Slot(1), Millis(1200));
//! wheel.cancel(Slot(1));
//!
//! let mut due = Vec::new();
//! let progress = wheel.advance(Millis(1499), 100, |slot| due.push(slot));
//! assert!(progress.finished && due.is_empty(), "never early");
//! wheel.advance(Millis(1500), 100, |slot| due.push(slot));
//! assert_eq!(due, [Slot(0)]);
//! ```

use crate::slot::{NONE, Slot};
use crate::time::Millis;

const DIGIT_BITS: u32 = 6;
const BUCKETS: usize = 1 << DIGIT_BITS;

/// The list of what is due, which stands beside the levels.
const DUE: u16 = u16::MAX - 1;
/// The bucket of a slot that has no deadline.
const IDLE: u16 = u16::MAX;

// The levels hold every digit of a 64-bit time, and no bucket number is one of the marks above.
const _: () = assert!(u64::BITS.div_ceil(DIGIT_BITS) as usize * BUCKETS < DUE as usize);

/// How far a call of [`TimingWheel::advance`] came.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Progress {
    /// How much of the budget was used.
    pub steps: usize,
    /// How many deadlines were reported.
    pub fired: usize,
    /// Whether everything due by the given time was reported. Otherwise the budget was used up, and another call goes
    /// on.
    pub finished: bool,
}

/// Deadlines by slot. See the [module](self).
#[derive(Clone, Debug)]
pub struct TimingWheel {
    /// Every deadline up to here is due or has been reported.
    reached: u64,
    levels: Vec<Level>,
    due_head: u32,
    nodes: Vec<Node>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Level {
    /// A bit for each bucket that holds something.
    occupied: u64,
    heads: [u32; BUCKETS],
}

/// The place of a slot in its bucket's list, which has no order.
#[derive(Copy, Clone, Debug)]
struct Node {
    deadline: u64,
    previous: u32,
    next: u32,
    bucket: u16,
}

const UNUSED: Node = Node { deadline: 0, previous: NONE, next: NONE, bucket: IDLE };

impl TimingWheel {
    /// An empty wheel that has reached `now`.
    #[must_use]
    pub const fn new(now: Millis) -> Self {
        Self { reached: now.0, levels: Vec::new(), due_head: NONE, nodes: Vec::new(), len: 0 }
    }

    /// How many deadlines it holds.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The deadline of a slot, if it has one.
    #[must_use]
    pub fn deadline(&self, slot: Slot) -> Option<Millis> {
        self.nodes.get(slot.index()).filter(|node| node.bucket != IDLE).map(|node| Millis(node.deadline))
    }

    /// Gives a slot a deadline. One that has passed already is reported by the next [`advance`](Self::advance).
    ///
    /// # Panics
    /// When the slot has a deadline: its list would be torn.
    pub fn insert(&mut self, slot: Slot, deadline: Millis) {
        if slot.index() >= self.nodes.len() {
            self.nodes.resize(slot.index() + 1, UNUSED);
        }
        assert_eq!(self.nodes[slot.index()].bucket, IDLE, "{slot:?} has a deadline already");
        self.nodes[slot.index()].deadline = deadline.0;
        self.place(slot.0);
        self.len += 1;
    }

    /// Takes the deadline of a slot away, and says whether there was one.
    pub fn cancel(&mut self, slot: Slot) -> bool {
        if self.deadline(slot).is_none() {
            return false;
        }
        self.unlink(slot.0);
        self.len -= 1;
        true
    }

    /// Gives a slot another deadline, or its first.
    pub fn reschedule(&mut self, slot: Slot, deadline: Millis) {
        self.cancel(slot);
        self.insert(slot, deadline);
    }

    /// A time before which no deadline passes, if there is any: the exact one when it is near, and the start of its
    /// bucket when it is far. A caller that sleeps until then and advances comes closer with each turn.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Millis> {
        if self.due_head != NONE {
            return Some(Millis(self.reached));
        }
        self.next_bucket().map(|bucket| Millis(bucket.start))
    }

    /// Moves to `now` and calls `due` with each slot whose deadline is at or before it; the slot has no deadline any
    /// more. At most `budget` steps are made. A clock that goes back is as one that stands still.
    ///
    /// Deadlines are reported in the order of their milliseconds, except those that had passed when they were inserted.
    pub fn advance(&mut self, now: Millis, budget: usize, mut due: impl FnMut(Slot)) -> Progress {
        let mut fired = 0;
        let mut left = budget;
        loop {
            let (list, spread) = if self.due_head != NONE {
                (DUE, false)
            } else if let Some(bucket) = self.next_bucket().filter(|bucket| bucket.start <= now.0) {
                self.reached = bucket.start;
                (bucket.number, bucket.level > 0)
            } else {
                self.reached = self.reached.max(now.0);
                return Progress { steps: budget - left, fired, finished: true };
            };
            // The list is emptied before the next is chosen, or the budget is used up and the list found again.
            loop {
                let slot = *self.head_mut(list);
                if slot == NONE {
                    break;
                }
                if left == 0 {
                    return Progress { steps: budget, fired, finished: false };
                }
                left -= 1;
                self.unlink(slot);
                if spread {
                    self.place(slot);
                } else {
                    self.len -= 1;
                    fired += 1;
                    due(Slot(slot));
                }
            }
        }
    }

    /// The occupied bucket that starts first; of two that start together the wider, which is then spread over the
    /// narrower.
    fn next_bucket(&self) -> Option<Bucket> {
        let mut first: Option<Bucket> = None;
        for (level, Level { occupied, .. }) in self.levels.iter().enumerate() {
            let shift = u32::try_from(level).expect("there are eleven levels") * DIGIT_BITS;
            let here = (self.reached >> shift) & (BUCKETS as u64 - 1);
            // Buckets before the reached digit are empty: what stood in them was due. That of the digit itself holds
            // something only while it is being spread.
            let ahead = occupied & (u64::MAX << here);
            if ahead == 0 {
                continue;
            }
            let index = ahead.trailing_zeros();
            let above = shift + DIGIT_BITS;
            let round = if above < u64::BITS { self.reached >> above << above } else { 0 };
            let start = round | (u64::from(index) << shift);
            if first.as_ref().is_none_or(|first| start <= first.start) {
                first = Some(Bucket { level, number: bucket_number(level, index as usize), start });
            }
        }
        first
    }

    /// Links a slot, whose deadline is set, into the bucket that belongs to it now.
    fn place(&mut self, slot: u32) {
        let deadline = self.nodes[slot as usize].deadline;
        let bucket = if deadline <= self.reached {
            DUE
        } else {
            let level = (u64::BITS - 1 - (deadline ^ self.reached).leading_zeros()) / DIGIT_BITS;
            let digit = (deadline >> (level * DIGIT_BITS)) & (BUCKETS as u64 - 1);
            let index = usize::try_from(digit).expect("a digit");
            let level = level as usize;
            while self.levels.len() <= level {
                self.levels.push(Level { occupied: 0, heads: [NONE; BUCKETS] });
            }
            self.levels[level].occupied |= 1 << index;
            bucket_number(level, index)
        };
        let head = self.head_mut(bucket);
        let next = std::mem::replace(head, slot);
        self.nodes[slot as usize] = Node { deadline, previous: NONE, next, bucket };
        if next != NONE {
            self.nodes[next as usize].previous = slot;
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Node { previous, next, bucket, .. } = self.nodes[slot as usize];
        self.nodes[slot as usize].bucket = IDLE;
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        if previous != NONE {
            self.nodes[previous as usize].next = next;
            return;
        }
        *self.head_mut(bucket) = next;
        if next == NONE && bucket != DUE {
            self.levels[bucket as usize / BUCKETS].occupied &= !(1 << (bucket as usize % BUCKETS));
        }
    }

    fn head_mut(&mut self, bucket: u16) -> &mut u32 {
        if bucket == DUE {
            &mut self.due_head
        } else {
            &mut self.levels[bucket as usize / BUCKETS].heads[bucket as usize % BUCKETS]
        }
    }
}

struct Bucket {
    level: usize,
    number: u16,
    start: u64,
}

fn bucket_number(level: usize, index: usize) -> u16 {
    u16::try_from(level * BUCKETS + index).expect("there are fewer buckets than that")
}

#[cfg(test)]
mod tests;
