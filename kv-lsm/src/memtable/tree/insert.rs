//! The one writer of a tree.
//!
//! An insert goes down to a leaf and adds an entry there. When the leaf is full:
//!
//! 1. Two new leaves take its entries and the new one. A leaf that grew at its end, or at its beginning, stays whole, so
//!    that keys in order fill their leaves.
//! 2. The parent's entry is replaced by those of the two. When it has no room, two new inner nodes take its entries, and so
//!    on up to a new root. The highest change is the one that shows all the others to readers.
//! 3. What was replaced is retired, and used again by a later split.

use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::node::{Entry, Fences, Inner, Node, WIDTH};
use super::{Toward, Tree};
use crate::memtable::arena::{Arena, ChunkPool, Record, RecordAt};

/// What the writer owns, and the tree with it.
pub(super) struct Writer {
    arena: Arena,
    leaves: Slabs<Node>,
    inners: Slabs<Inner>,
    /// The inner nodes on the way to a leaf, and which child it takes in each.
    path: Vec<(NonNull<Node>, usize)>,
    retired: Vec<(NonNull<Node>, usize)>,
}

// SAFETY: it owns what its pointers lead to.
unsafe impl Send for Writer {}

impl Writer {
    pub(super) const fn new(pool: Arc<ChunkPool>) -> Self {
        Self {
            arena: Arena::new(pool),
            leaves: Slabs::new(),
            inners: Slabs::new(),
            path: Vec::new(),
            retired: Vec::new(),
        }
    }

    pub(super) fn new_leaf(&mut self) -> NonNull<Node> {
        self.leaves.take()
    }

    fn bytes(&self) -> u64 {
        self.arena.record_bytes() + self.leaves.bytes() + self.inners.bytes()
    }
}

/// Nodes, made many at a time. They stay where they are until the tree is dropped.
struct Slabs<N> {
    slabs: Vec<NonNull<[N]>>,
    /// How many of the last slab are in use.
    used: usize,
    free: Vec<NonNull<N>>,
    nodes: usize,
}

const SLAB_NODES_MAX: usize = 64;

impl<N: Default> Slabs<N> {
    const fn new() -> Self {
        Self { slabs: Vec::new(), used: 0, free: Vec::new(), nodes: 0 }
    }

    const fn bytes(&self) -> u64 {
        (self.nodes * size_of::<N>()) as u64
    }

    fn take(&mut self) -> NonNull<N> {
        if let Some(free) = self.free.pop() {
            return free;
        }
        let length = self.slabs.last().map_or(0, |slab| slab.len());
        if self.used == length {
            let next = (length * 4).clamp(1, SLAB_NODES_MAX);
            let slab: Box<[N]> = std::iter::repeat_with(N::default).take(next).collect();
            // Kept as a pointer: a box may not be moved while others know where its content lies.
            self.slabs.push(NonNull::from(Box::leak(slab)));
            self.used = 0;
        }
        let slab = self.slabs.last().expect("just looked");
        // SAFETY: `used` lies inside the slab.
        let node = unsafe { slab.cast::<N>().add(self.used) };
        self.used += 1;
        self.nodes += 1;
        node
    }
}

impl<N> Drop for Slabs<N> {
    fn drop(&mut self) {
        for slab in &self.slabs {
            // SAFETY: leaked from a box in `take`, and given back once. The tree, and with it every reader, is gone.
            drop(unsafe { Box::from_raw(slab.as_ptr()) });
        }
    }
}

/// The right to insert.
pub(in crate::memtable) struct TreeWriter<'t> {
    tree: &'t Tree,
    writer: MutexGuard<'t, Writer>,
}

impl Tree {
    /// Waits for the writer before, if there is one.
    pub(in crate::memtable) fn writer(&self) -> TreeWriter<'_> {
        TreeWriter { tree: self, writer: self.writer.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Drop for TreeWriter<'_> {
    fn drop(&mut self) {
        self.tree.bytes.store(self.writer.bytes(), Ordering::Relaxed);
    }
}

impl TreeWriter<'_> {
    /// Adds a version, whose place is free.
    pub(in crate::memtable) fn insert(&mut self, record: Record<'_>) {
        let at = self.writer.arena.push(record);
        let place = self.tree.place(at);
        let leaf = self.descend(Toward::At(place));
        // SAFETY: `descend` found it in the tree.
        let leaf_node = unsafe { leaf.as_ref() };
        let seen = leaf_node.look();
        let position = self.tree.search(seen, 0, &place, false);
        let new = Entry { head: place.head(seen.skip()), record: Some(at), child: std::ptr::null_mut() };
        let count = seen.count();
        if count < WIDTH {
            leaf_node.insert(position, &new);
            return;
        }
        let entry =
            |position| Entry { head: seen.head(position), record: seen.record(position), child: std::ptr::null_mut() };
        let mut entries: Vec<Entry> = (0..count).map(entry).collect();
        entries.insert(position, new);
        let cut = match position {
            0 => 1,
            end if end == count => count,
            _ => entries.len() / 2,
        };
        self.split(leaf, seen.skip(), seen.fences(), &entries, cut);
        self.retire();
    }

    /// Goes down to a leaf and notes the way.
    fn descend(&mut self, toward: Toward<'_>) -> NonNull<Node> {
        self.writer.path.clear();
        let (root, height) = self.tree.root.load();
        let mut node = NonNull::new(root).expect("a tree has a root");
        for _ in 0..height {
            // SAFETY: a node of the tree.
            let seen = unsafe { node.as_ref() }.look();
            let position = self.tree.child_position(seen, toward);
            self.writer.path.push((node, position));
            // SAFETY: a node of the tree that stands above the leaves.
            let child = unsafe { self.tree.inner(node.as_ptr()) }.child(seen, position);
            node = NonNull::new(child).expect("nobody else writes, so an inner node has its children");
        }
        node
    }

    /// Has two new nodes, of the kind of `old`, take `entries` in its place. `skip` is that of their heads.
    fn split(&mut self, old: NonNull<Node>, skip: usize, fences: Fences, entries: &[Entry], cut: usize) {
        let level = self.writer.path.len();
        let middle = entries[cut].record.expect("an entry that is not the first of an inner node has a record");
        let left = Fences { lower: fences.lower, upper: Some(middle) };
        let right = Fences { lower: Some(middle), upper: fences.upper };
        let is_leaf = entries[cut].child.is_null();
        let left = self.build(&entries[..cut], skip, left, is_leaf);
        let right = self.build(&entries[cut..], skip, right, is_leaf);
        self.writer.retired.push((old, usize::from(!is_leaf)));
        match self.writer.path.pop() {
            Some((parent, position)) => self.replace_child(parent, position, left, middle, right),
            None => {
                let first = Entry { head: 0, record: None, child: left.as_ptr() };
                let second =
                    Entry { head: self.tree.place(middle).head(0), record: Some(middle), child: right.as_ptr() };
                let all = Fences { lower: None, upper: None };
                let root = self.build(&[first, second], 0, all, false);
                let (_, height) = self.tree.root.load();
                debug_assert!(level == 0, "only the root has no parent");
                self.tree.root.store(root.as_ptr(), height + 1);
            }
        }
    }

    fn replace_child(
        &mut self,
        parent: NonNull<Node>,
        position: usize,
        left: NonNull<Node>,
        middle: RecordAt,
        right: NonNull<Node>,
    ) {
        // SAFETY: a node of the tree, and one that has children.
        let inner = unsafe { parent.cast::<Inner>().as_ref() };
        let seen = inner.node.look();
        let skip = seen.skip();
        let right = Entry { head: self.tree.place(middle).head(skip), record: Some(middle), child: right.as_ptr() };
        if inner.has_room() {
            inner.replace(position, left.as_ptr(), &right);
            return;
        }
        let mut entries = Vec::with_capacity(WIDTH + 1);
        inner.entries(&mut entries);
        entries[position].child = left.as_ptr();
        entries.insert(position + 1, right);
        // As with leaves, but with room to grow at the end.
        let at_end = position + 2 == entries.len();
        let cut = if at_end { entries.len() - 2 } else { entries.len() / 2 };
        self.split(parent, skip, seen.fences(), &entries, cut);
    }

    /// A node with these entries, whose heads stand behind `skip`.
    fn build(&mut self, entries: &[Entry], skip: usize, fences: Fences, is_leaf: bool) -> NonNull<Node> {
        let new_skip = match (fences.lower, fences.upper) {
            (Some(lower), Some(upper)) => self.tree.place(lower).common(&self.tree.place(upper)),
            _ => 0,
        };
        let mut moved;
        let entries = if new_skip == skip {
            entries
        } else {
            moved = entries.to_vec();
            for entry in &mut moved {
                entry.head = entry.record.map_or(0, |record| self.tree.place(record).head(new_skip));
            }
            &moved
        };
        if is_leaf {
            let leaf = self.writer.leaves.take();
            // SAFETY: new, or retired.
            unsafe { leaf.as_ref() }.fill(entries, new_skip, fences);
            leaf
        } else {
            let inner = self.writer.inners.take();
            // SAFETY: new, or retired.
            unsafe { inner.as_ref() }.fill(entries, new_skip, fences);
            inner.cast()
        }
    }

    /// Frees what was replaced, now that nothing leads there any more.
    fn retire(&mut self) {
        let writer = &mut *self.writer;
        for (node, level) in writer.retired.drain(..) {
            // SAFETY: a node of the tree.
            unsafe { node.as_ref() }.retire();
            if level == 0 {
                writer.leaves.free.push(node);
            } else {
                writer.inners.free.push(node.cast());
            }
        }
    }
}
