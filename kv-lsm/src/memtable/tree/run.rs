//! Versions taken out of a tree, which they keep alive.

use std::sync::Arc;

use super::{Place, Tree};
use crate::internal_key::Trailer;
use crate::memtable::arena::{Record, RecordAt};

/// A run of versions of one space of a tree, in order.
pub(in crate::memtable) struct Run {
    tree: Arc<Tree>,
    space: u32,
    records: Vec<RecordAt>,
}

impl Run {
    pub(in crate::memtable) const fn new(tree: Arc<Tree>, space: u32) -> Self {
        Self { tree, space, records: Vec::new() }
    }

    pub(in crate::memtable) const fn len(&self) -> usize {
        self.records.len()
    }

    /// Nothing behind the last version of the space.
    pub(in crate::memtable) fn get(&self, index: usize) -> Option<Record<'_>> {
        self.records.get(index).map(|&at| self.tree.record(at)).filter(|record| record.space == self.space)
    }

    /// Becomes the run of at most `count` versions that stand at or behind a place, ascending.
    pub(in crate::memtable) fn fill_from(&mut self, key: &[u8], trailer: Trailer, count: usize) {
        self.records.clear();
        self.tree.collect_from(Place { space: self.space, key, trailer }, count, &mut self.records);
    }

    /// Becomes the run of at most `count` versions before a place, or of the last ones, descending.
    pub(in crate::memtable) fn fill_before(&mut self, place: Option<(&[u8], Trailer)>, count: usize) {
        self.records.clear();
        let place = place.map(|(key, trailer)| Place { space: self.space, key, trailer });
        self.tree.collect_before(self.space, place, count, &mut self.records);
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
