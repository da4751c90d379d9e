//! Many cursors as one, and the tables of a level as one.

use std::sync::Arc;

use crate::cursor::{Cursor, Entry, PARTS};
use crate::error::Error;
use crate::internal_key::{Trailer, compare};
use crate::table::cursor::TableCursor;
use crate::table::reader::Table;

/// Merges cursors whose versions are all different. A binary heap of the cursors that stand on something.
pub(crate) struct MergeCursor<C = Box<dyn Cursor>> {
    cursors: Vec<C>,
    /// Indices of `cursors`; the first stands on the next version.
    heap: Vec<usize>,
    /// Which of the two below the first in the heap precedes the other, while it is known: as long as one cursor has the next
    /// version time after time, it is compared with that one only.
    second: Option<usize>,
    backward: bool,
}

impl<C: Cursor> MergeCursor<C> {
    pub(crate) const fn new(cursors: Vec<C>) -> Self {
        Self { cursors, heap: Vec::new(), second: None, backward: false }
    }

    fn precedes(&self, a: usize, b: usize) -> bool {
        let place = |index: usize| self.cursors[index].place().expect("cursors in the heap stand on something");
        let order = compare(place(a), place(b));
        if self.backward { order.is_gt() } else { order.is_lt() }
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut first = at;
            for child in [left, right] {
                if child < self.heap.len() && self.precedes(self.heap[child], self.heap[first]) {
                    first = child;
                }
            }
            if first == at {
                return;
            }
            self.heap.swap(at, first);
            at = first;
        }
    }

    fn build(&mut self, backward: bool) {
        self.backward = backward;
        self.heap = (0..self.cursors.len()).filter(|&index| self.cursors[index].entry().is_some()).collect();
        for at in (0..self.heap.len() / 2).rev() {
            self.sift_down(at);
        }
        self.second = None;
    }

    /// Whether the first cursor of the heap, which has stepped, still stands on the next version.
    #[inline]
    fn stays_first(&mut self) -> bool {
        let second = match self.second {
            Some(second) => second,
            None => match self.heap[..] {
                [] | [_] => return true,
                [_, left, right, ..] if self.precedes(right, left) => *self.second.insert(2),
                _ => *self.second.insert(1),
            },
        };
        !self.precedes(self.heap[second], self.heap[0])
    }

    /// Steps the first cursor, `at_hand` if it can.
    #[inline]
    fn step(
        &mut self,
        at_hand: impl FnOnce(&mut C) -> bool,
        step: impl FnOnce(&mut C) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(&first) = self.heap.first() else { return Ok(()) };
        if at_hand(&mut self.cursors[first]) {
            self.order_first();
            return Ok(());
        }
        self.advance(step)
    }

    /// Puts the first cursor, which has stepped, to its place in the heap.
    #[inline]
    fn order_first(&mut self) {
        if !self.stays_first() {
            self.sift_down(0);
            self.second = None;
        }
    }

    fn advance(&mut self, step: impl FnOnce(&mut C) -> Result<(), Error>) -> Result<(), Error> {
        let Some(&first) = self.heap.first() else { return Ok(()) };
        if let Err(error) = step(&mut self.cursors[first]) {
            self.heap.clear();
            self.second = None;
            return Err(error);
        }
        if self.cursors[first].place().is_none() {
            self.heap.swap_remove(0);
            self.sift_down(0);
            self.second = None;
        } else {
            self.order_first();
        }
        Ok(())
    }

    /// As a seek to a place that lies ahead: what stands at or behind it already stays where it is. Each cursor seeks once: in
    /// damaged tables with their keys out of order a seek may lead nowhere.
    pub(crate) fn skip_to(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        for _ in 0..self.cursors.len() {
            if self.entry().is_none_or(|entry| compare((entry.key, entry.trailer), (key, trailer)).is_ge()) {
                break;
            }
            self.advance(|cursor| cursor.seek(key, trailer))?;
        }
        Ok(())
    }

    /// The same backward: to the last version before the place.
    pub(crate) fn skip_before(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        for _ in 0..self.cursors.len() {
            if self.entry().is_none_or(|entry| compare((entry.key, entry.trailer), (key, trailer)).is_lt()) {
                break;
            }
            self.advance(|cursor| cursor.seek_before(Some((key, trailer))))?;
        }
        Ok(())
    }
}

impl<C: Cursor> Cursor for MergeCursor<C> {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        self.cursors[*self.heap.first()?].entry()
    }

    #[inline]
    fn place(&self) -> Option<(&[u8], Trailer)> {
        self.cursors[*self.heap.first()?].place()
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        self.heap.clear();
        self.second = None;
        for part in 0..PARTS {
            for cursor in &mut self.cursors {
                cursor.approach(part, key, trailer);
            }
        }
        for cursor in &mut self.cursors {
            cursor.seek(key, trailer)?;
        }
        self.build(false);
        Ok(())
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        self.heap.clear();
        self.second = None;
        for cursor in &mut self.cursors {
            cursor.seek_before(place)?;
        }
        self.build(true);
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        self.step(Cursor::next_at_hand, Cursor::next)
    }

    fn previous(&mut self) -> Result<(), Error> {
        self.step(Cursor::previous_at_hand, Cursor::previous)
    }
}

/// The tables of a level that do not overlap, one behind the other. A table is touched when the cursor reaches it.
pub(crate) struct LevelCursor<T = Vec<Arc<Table>>> {
    tables: T,
    keep: bool,
    present: Option<(usize, TableCursor)>,
}

impl<T: AsRef<[Arc<Table>]>> LevelCursor<T> {
    /// `keep` as for [`TableCursor`].
    pub(crate) const fn new(tables: T, keep: bool) -> Self {
        Self { tables, keep, present: None }
    }

    fn enter(&mut self, index: usize) -> &mut TableCursor {
        let cursor = TableCursor::new(Arc::clone(&self.tables.as_ref()[index]), self.keep);
        &mut self.present.insert((index, cursor)).1
    }

    /// The first table that ends at or behind a key.
    fn table_from(&self, key: &[u8]) -> Option<usize> {
        let tables = self.tables.as_ref();
        let index = tables.partition_point(|table| table.meta().upper.is_before(key));
        (index < tables.len()).then_some(index)
    }

    /// From a table that is used up to the first later one that has a version.
    fn skip_forward(&mut self) -> Result<(), Error> {
        while let Some((index, cursor)) = &self.present
            && cursor.entry().is_none()
        {
            let index = index + 1;
            if index == self.tables.as_ref().len() {
                self.present = None;
                return Ok(());
            }
            self.enter(index).seek(&[], Trailer::NEWEST)?;
        }
        Ok(())
    }

    fn skip_backward(&mut self) -> Result<(), Error> {
        while let Some((index, cursor)) = &self.present
            && cursor.entry().is_none()
        {
            let Some(index) = index.checked_sub(1) else {
                self.present = None;
                return Ok(());
            };
            self.enter(index).seek_before(None)?;
        }
        Ok(())
    }

    /// After an error the cursor stands on nothing.
    fn settle(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.present = None;
        }
        result
    }
}

impl<T: AsRef<[Arc<Table>]> + Send> Cursor for LevelCursor<T> {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        self.present.as_ref()?.1.entry()
    }

    #[inline]
    fn place(&self) -> Option<(&[u8], Trailer)> {
        self.present.as_ref()?.1.place()
    }

    #[inline]
    fn next_at_hand(&mut self) -> bool {
        self.present.as_mut().is_some_and(|(_, cursor)| cursor.next_at_hand())
    }

    #[inline]
    fn previous_at_hand(&mut self) -> bool {
        self.present.as_mut().is_some_and(|(_, cursor)| cursor.previous_at_hand())
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        let Some(index) = self.table_from(key) else {
            self.present = None;
            return Ok(());
        };
        let cursor = match &mut self.present {
            Some((present, cursor)) if *present == index => cursor,
            _ => self.enter(index),
        };
        let result = cursor.seek(key, trailer).and_then(|()| self.skip_forward());
        self.settle(result)
    }

    fn approach(&mut self, part: usize, key: &[u8], trailer: Trailer) {
        if part == 0 {
            self.present = None;
            if let Some(index) = self.table_from(key) {
                self.enter(index);
            }
        }
        if let Some((_, cursor)) = &mut self.present {
            cursor.approach(part, key, trailer);
        }
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        let behind = match place {
            Some((key, _)) => self.tables.as_ref().partition_point(|table| *table.meta().lower <= *key),
            None => self.tables.as_ref().len(),
        };
        let Some(index) = behind.checked_sub(1) else {
            self.present = None;
            return Ok(());
        };
        let result = self.enter(index).seek_before(place).and_then(|()| self.skip_backward());
        self.settle(result)
    }

    fn next(&mut self) -> Result<(), Error> {
        let Some((_, cursor)) = &mut self.present else { return Ok(()) };
        let result = cursor.next().and_then(|()| self.skip_forward());
        self.settle(result)
    }

    fn previous(&mut self) -> Result<(), Error> {
        let Some((_, cursor)) = &mut self.present else { return Ok(()) };
        let result = cursor.previous().and_then(|()| self.skip_backward());
        self.settle(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a damaged table may be like: wherever it seeks, it stands on the same version.
    struct Stuck;

    impl Cursor for Stuck {
        fn entry(&self) -> Option<Entry<'_>> {
            Some(Entry { key: b"m", trailer: Trailer::at(5), value: b"" })
        }

        fn seek(&mut self, _: &[u8], _: Trailer) -> Result<(), Error> {
            Ok(())
        }

        fn seek_before(&mut self, _: Option<(&[u8], Trailer)>) -> Result<(), Error> {
            Ok(())
        }

        fn next(&mut self) -> Result<(), Error> {
            Ok(())
        }

        fn previous(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn a_skip_that_leads_nowhere_ends() {
        let mut cursor = MergeCursor::new(vec![Stuck, Stuck]);
        cursor.seek(b"", Trailer::NEWEST).unwrap();
        cursor.skip_to(b"z", Trailer::NEWEST).unwrap();
        cursor.seek_before(None).unwrap();
        cursor.skip_before(b"a", Trailer::NEWEST).unwrap();
        assert_eq!(cursor.entry().unwrap().key, b"m");
    }
}
