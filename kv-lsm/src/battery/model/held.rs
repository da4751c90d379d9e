//! Snapshots and iterators that are kept while everything else goes on.

use super::super::content::KEYSPACES;
use super::World;
use super::read::owned;

/// Live snapshots and live iterators at a time.
const HELD_MAX: usize = 4;

impl World {
    pub(super) fn take_snapshot(&mut self) {
        if self.snapshots.len() < HELD_MAX {
            self.snapshots.push(self.content.clone());
            self.each(1, |side| {
                side.snapshots.push(side.subject().database.snapshot());
                Ok(())
            });
        }
    }

    pub(super) fn drop_snapshot(&mut self) {
        if !self.snapshots.is_empty() {
            let which = self.generator.random.index(self.snapshots.len());
            self.snapshots.remove(which);
            self.each(1, |side| {
                side.snapshots.remove(which);
                Ok(())
            });
        }
    }

    pub(super) fn open_iterator(&mut self) {
        if self.iterators.len() < HELD_MAX {
            let keyspace = self.generator.random.index(KEYSPACES.len());
            let map = self.content.keyspace(keyspace);
            self.iterators.push(map.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
            self.each(1, |side| {
                side.iterators.push(side.subject().keyspaces[keyspace].iter());
                Ok(())
            });
        }
    }

    /// An iterator owns the state that it reads, whatever happens since it was opened.
    pub(super) fn advance_iterator(&mut self) {
        if self.iterators.is_empty() {
            return;
        }
        let which = self.generator.random.index(self.iterators.len());
        for _ in 0..self.generator.random.below(12) {
            let backward = self.generator.random.one_in(2);
            let left = &mut self.iterators[which];
            let expected = if backward { left.pop_back() } else { left.pop_front() };
            for side in &mut self.sides {
                let entries = &mut side.iterators[which];
                let found = if backward { entries.next_back() } else { entries.next() };
                let found = found.map(|entry| owned(entry.unwrap_or_else(|error| panic!("{error}"))));
                assert!(found == expected, "an iterator that was kept: {found:?}, expected {expected:?}");
                self.operations += 1;
            }
            if expected.is_none() {
                self.iterators.swap_remove(which);
                self.sides.iter_mut().for_each(|side| drop(side.iterators.swap_remove(which)));
                return;
            }
        }
    }
}
