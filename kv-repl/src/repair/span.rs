//! A run of tokens of one table, and the records in it.

use std::ops::{Bound, RangeInclusive};

use kv_core::View;
use kv_core::hash::Token;
use kv_core::key::{RecordKey, TableId};
use kv_core::store::{Direction, KeyRange, ScanFn, Space, StoreError};

/// The tokens from `first` to `last` of a table: as many as a power of two, and aligned to it, or a single one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Span {
    pub(super) table: TableId,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl Span {
    pub(super) const fn new(table: TableId, tokens: &RangeInclusive<Token>) -> Self {
        Self { table, first: tokens.start().0, last: tokens.end().0 }
    }

    /// Its halves, or `None` when it is a single token.
    pub(super) fn halves(self) -> Option<[Self; 2]> {
        let middle = self.first + (self.last - self.first) / 2;
        (self.first < self.last).then(|| [Self { last: middle, ..self }, Self { first: middle + 1, ..self }])
    }

    pub(super) fn holds(self, key: &RecordKey) -> bool {
        key.table() == self.table && (self.first..=self.last).contains(&key.token().0)
    }

    /// Calls `each` with its records in order, those after `after` when that is given.
    pub(super) fn scan(self, view: &dyn View, after: Option<&[u8]>, each: &mut ScanFn<'_>) -> Result<(), StoreError> {
        let first = RecordKey::range_start(self.table, Token(self.first));
        let start = match after {
            // A peer names the key; one before the span must not make it larger.
            Some(after) if after >= &first[..] => Bound::Excluded(after),
            _ => Bound::Included(&first[..]),
        };
        let end = match self.last.checked_add(1) {
            Some(next) => Some(RecordKey::range_start(self.table, Token(next))),
            None => self.table.0.checked_add(1).map(|table| RecordKey::range_start(TableId(table), Token(0))),
        };
        let range = KeyRange { start, end: end.as_ref().map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..])) };
        if range.is_empty() { Ok(()) } else { view.scan(Space::DATA, range, Direction::Forward, each) }
    }
}
