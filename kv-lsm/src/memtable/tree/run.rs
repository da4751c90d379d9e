//! Versions taken out of a tree, which they keep alive.

use std::sync::Arc;

use super::{Place, Tree};
use crate::memtable::arena::{Record, RecordAt};

/// A run of versions of one tree, in order.
pub(in crate::memtable) struct Run {
    tree: Arc<Tree>,
    records: Vec<RecordAt>,
}

impl Run {
    pub(in crate::memtable) const fn new(tree: Arc<Tree>) -> Self {
        Self { tree, records: Vec::new() }
    }

    pub(in crate::memtable) const fn len(&self) -> usize {
        self.records.len()
    }

    pub(in crate::memtable) fn get(&self, index: usize) -> Option<Record<'_>> {
        self.records.get(index).map(|&at| self.tree.record(at))
    }

    /// Becomes the run of at most `count` versions of the place's space that stand at or behind it, ascending.
    pub(in crate::memtable) fn fill_from(&mut self, place: Place<'_>, count: usize) {
        self.records.clear();
        self.tree.collect_from(place, count, &mut self.records);
    }

    /// Becomes the run of at most `count` versions of `space` before `place`, or of the last ones, descending.
    pub(in crate::memtable) fn fill_before(&mut self, space: u32, place: Option<Place<'_>>, count: usize) {
        self.records.clear();
        self.tree.collect_before(space, place, count, &mut self.records);
    }

    /// Becomes the run of at most `count` versions behind its last one.
    pub(in crate::memtable) fn go_on(&mut self, count: usize) {
        let Some(last) = self.records.pop() else { return };
        self.records.clear();
        let last = self.tree.place(last);
        // The place right behind a version is that of the version one older: sequence numbers begin at one.
        let next = Place { trailer: last.trailer.just_older(), ..last };
        self.tree.collect_from(next, count, &mut self.records);
    }

    /// Becomes the run of at most `count` versions before its last one.
    pub(in crate::memtable) fn go_back(&mut self, count: usize) {
        let Some(last) = self.records.pop() else { return };
        self.records.clear();
        let last = self.tree.place(last);
        self.tree.collect_before(last.space, Some(last), count, &mut self.records);
    }
}
