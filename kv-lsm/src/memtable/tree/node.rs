//! A node of the tree, and how its writer changes it while readers look.
//!
//! Entries lie in slots, in no order; `order` lists the slots of those that count. A change writes slots that are free and
//! the list that is not in use, and then publishes `state`, which names the list and its length. So a writer that is stopped
//! half-way never holds up a reader. A reader takes what it wants, and afterwards looks whether the state is still the same:
//! if not, free slots and the other list may have been written under its eyes, and it starts again. This is a seqlock (as in
//! Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012) whose writer never locks.
//!
//! A node that a split has replaced gets a new state at once, so that a reader who stands in it starts again, and may then
//! be filled anew as another node.

use super::super::arena::{RecordAt, RecordCell};
use super::super::sync::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// Entries of a node.
#[cfg(not(any(loom, test)))]
pub(super) const WIDTH: usize = 64;
/// Small, so that small tests split often.
#[cfg(any(loom, test))]
pub(super) const WIDTH: usize = 8;

const WORDS: usize = WIDTH.div_ceil(8);
const COUNT_BITS: u32 = 8;

// A set of slots is one word, and a state has room for the count.
const _: () = assert!(WIDTH <= 64 && WIDTH < 1 << COUNT_BITS && WIDTH.is_multiple_of(8) && WIDTH >= 8);

/// What a leaf is, and what is common to both kinds.
#[derive(Default)]
#[repr(C, align(64))]
pub(super) struct Node {
    /// `version << 8 | count`. The version's lowest bit says which list counts.
    state: AtomicU64,
    /// The slots of the list that counts, as bits. For the writer only.
    used: AtomicU64,
    /// So many bytes begin all keys between the fences; see `head`.
    skip: AtomicU32,
    /// The first entry that may lie here, and the first that lies behind; nothing where there is no end.
    lower: RecordCell,
    upper: RecordCell,
    order: [[AtomicU64; WORDS]; 2],
    /// The eight bytes of each key behind `skip`.
    heads: Slots<AtomicU64>,
    records: Slots<RecordCell>,
}

/// Leads on to other nodes. An entry's record is the first one that may lie under its child; that of the first entry is
/// never looked at.
#[derive(Default)]
#[repr(C)]
pub(super) struct Inner {
    pub(super) node: Node,
    children: Slots<AtomicPtr<Node>>,
}

/// An array, with the `Default` that arrays of this size lack.
struct Slots<T>([T; WIDTH]);

impl<T: Default> Default for Slots<T> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| T::default()))
    }
}

/// What the writer puts into a node.
#[derive(Copy, Clone)]
pub(super) struct Entry {
    pub(super) head: u64,
    pub(super) record: Option<RecordAt>,
    /// Null in a leaf.
    pub(super) child: *mut Node,
}

/// Where a node's keys end.
#[derive(Copy, Clone)]
pub(super) struct Fences {
    pub(super) lower: Option<RecordAt>,
    pub(super) upper: Option<RecordAt>,
}

/// A node as it was when its state was looked at.
#[derive(Copy, Clone)]
pub(super) struct Seen<'t> {
    pub(super) node: &'t Node,
    state: u64,
}

impl<'t> Seen<'t> {
    /// Whether all that was read since it was made was of one moment.
    pub(super) fn is_current(self) -> bool {
        fence(Ordering::Acquire);
        self.node.state.load(Ordering::Relaxed) == self.state
    }

    pub(super) const fn count(self) -> usize {
        (self.state & ((1 << COUNT_BITS) - 1)) as usize
    }

    const fn list(self) -> usize {
        (self.state >> COUNT_BITS & 1) as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the lowest byte counts")]
    pub(super) fn slot(self, position: usize) -> usize {
        let word = self.node.order[self.list()][position / 8].load(Ordering::Relaxed);
        // What is read while it is written may be anything: it must still be a slot.
        (word >> (position % 8 * 8)) as usize % WIDTH
    }

    pub(super) fn head(self, position: usize) -> u64 {
        self.node.heads.0[self.slot(position)].load(Ordering::Relaxed)
    }

    /// Nothing only where the state is no longer current, or for the first entry of an inner node.
    pub(super) fn record(self, position: usize) -> Option<RecordAt> {
        self.node.records.0[self.slot(position)].load()
    }

    pub(super) fn skip(self) -> usize {
        self.node.skip.load(Ordering::Relaxed) as usize
    }

    pub(super) fn fences(self) -> Fences {
        Fences { lower: self.node.lower.load(), upper: self.node.upper.load() }
    }

    fn order(self) -> [u8; WIDTH] {
        let mut order = [0; WIDTH];
        for (bytes, word) in order.chunks_exact_mut(8).zip(&self.node.order[self.list()]) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        order
    }
}

impl Node {
    pub(super) fn look(&self) -> Seen<'_> {
        Seen { node: self, state: self.state.load(Ordering::Acquire) }
    }

    /// Everything below is for the one writer.
    fn publish(&self, before: u64, order: &[u8; WIDTH], count: usize) {
        let version = (before >> COUNT_BITS) + 1;
        for (word, bytes) in self.order[(version & 1) as usize].iter().zip(order.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        self.state.store(version << COUNT_BITS | count as u64, Ordering::Release);
    }

    fn write_slot(&self, slot: usize, entry: &Entry) {
        self.heads.0[slot].store(entry.head, Ordering::Relaxed);
        self.records.0[slot].store(entry.record);
    }

    /// Has every reader who stands here start again.
    pub(super) fn retire(&self) {
        let version = (self.state.load(Ordering::Relaxed) >> COUNT_BITS) + 1;
        self.state.store(version << COUNT_BITS, Ordering::Release);
    }

    /// Makes it a node with these entries. It must be in no reader's way: new, or retired.
    pub(super) fn fill(&self, entries: &[Entry], skip: usize, fences: Fences) {
        let before = self.state.load(Ordering::Relaxed);
        // What follows must not be seen before the state that retired it.
        fence(Ordering::Release);
        self.skip.store(u32::try_from(skip).expect("keys are short"), Ordering::Relaxed);
        self.lower.store(fences.lower);
        self.upper.store(fences.upper);
        let mut order = [0; WIDTH];
        for (slot, entry) in entries.iter().enumerate() {
            self.write_slot(slot, entry);
            order[slot] = slot_byte(slot);
        }
        let used = if entries.len() == 64 { u64::MAX } else { (1 << entries.len()) - 1 };
        self.used.store(used, Ordering::Relaxed);
        self.publish(before, &order, entries.len());
    }

    fn free_slot(used: u64) -> usize {
        let slot = used.trailing_ones() as usize;
        assert!(slot < WIDTH, "the caller looked for room");
        slot
    }

    /// Adds an entry at `position`. There must be room.
    pub(super) fn insert(&self, position: usize, entry: &Entry) {
        let seen = self.look();
        let count = seen.count();
        let used = self.used.load(Ordering::Relaxed);
        let slot = Self::free_slot(used);
        // The list that the last change left is written below: whoever still reads it must see that it is old.
        fence(Ordering::Release);
        self.write_slot(slot, entry);
        let mut order = seen.order();
        order.copy_within(position..count, position + 1);
        order[position] = slot_byte(slot);
        self.used.store(used | 1 << slot, Ordering::Relaxed);
        self.publish(seen.state, &order, count + 1);
    }
}

impl Inner {
    pub(super) fn child(&self, seen: Seen<'_>, position: usize) -> *mut Node {
        self.children.0[seen.slot(position)].load(Ordering::Acquire)
    }

    /// Its entries, for a change that makes other nodes of them.
    pub(super) fn entries(&self, out: &mut Vec<Entry>) {
        let seen = self.node.look();
        let entry = |position| Entry {
            head: seen.head(position),
            record: seen.record(position),
            child: self.child(seen, position),
        };
        out.extend((0..seen.count()).map(entry));
    }

    pub(super) fn fill(&self, entries: &[Entry], skip: usize, fences: Fences) {
        // Ordered behind the state that retired it, as all that `fill` writes.
        fence(Ordering::Release);
        for (slot, entry) in entries.iter().enumerate() {
            self.children.0[slot].store(entry.child, Ordering::Release);
        }
        self.node.fill(entries, skip, fences);
    }

    /// Whether a child can be replaced by two without making another node of this one.
    pub(super) fn has_room(&self) -> bool {
        self.node.look().count() + 2 <= WIDTH
    }

    /// Replaces the child at `position` by two, in one step. There must be room.
    pub(super) fn replace(&self, position: usize, left: *mut Node, right: &Entry) {
        let seen = self.node.look();
        let count = seen.count();
        let mut used = self.node.used.load(Ordering::Relaxed);
        let before = seen.slot(position);
        let left = Entry { head: seen.head(position), record: seen.record(position), child: left };
        fence(Ordering::Release);
        let mut order = seen.order();
        order.copy_within(position + 1..count, position + 2);
        for (position, entry) in [(position, &left), (position + 1, right)] {
            let slot = Node::free_slot(used);
            used |= 1 << slot;
            self.node.write_slot(slot, entry);
            self.children.0[slot].store(entry.child, Ordering::Release);
            order[position] = slot_byte(slot);
        }
        self.node.used.store(used & !(1 << before), Ordering::Relaxed);
        self.node.publish(seen.state, &order, count + 1);
    }
}

fn slot_byte(slot: usize) -> u8 {
    u8::try_from(slot).expect("there are few slots")
}
