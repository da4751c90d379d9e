//! A place in something sorted.

use crate::error::Error;
use crate::internal_key::Trailer;

/// How many parts of a seek can be done ahead.
pub(crate) const PARTS: usize = 3;

/// Walks the versions of one keyspace in one source, in the order of [`internal_key::compare`](crate::internal_key::compare).
///
/// After a forward seek only `next` may be called, after a backward seek only `previous`: each use of the engine goes one
/// way, and a merge of cursors that never turn is a heap.
pub(crate) trait Cursor: Send {
    /// The version it stands on, or `None` at the end. After an error: `None`.
    fn entry(&self) -> Option<Entry<'_>>;

    /// Where that version stands in the order.
    fn place(&self) -> Option<(&[u8], Trailer)> {
        self.entry().map(|entry| (entry.key, entry.trailer))
    }

    /// To the first version at or behind this place.
    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error>;

    /// Does a part of a seek to this place ahead: what only asks for memory, and waits for none. A seek looks at one thing after
    /// the other, each where the one before says; while one cursor waits for its next, others can ask for theirs. Called with
    /// each `part` below [`PARTS`] in turn, and then `seek` with the same place.
    fn approach(&mut self, _part: usize, _key: &[u8], _trailer: Trailer) {}

    /// To the last version before this place, or to the last of all.
    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error>;

    fn next(&mut self) -> Result<(), Error>;

    fn previous(&mut self) -> Result<(), Error>;

    /// As `next`, if it cannot fail and leads to a version: most steps are such, and a result that may be an error is passed
    /// through memory. Else does nothing, and returns false.
    fn next_at_hand(&mut self) -> bool {
        false
    }

    /// The same for `previous`.
    fn previous_at_hand(&mut self) -> bool {
        false
    }
}

impl<C: Cursor + ?Sized> Cursor for Box<C> {
    fn entry(&self) -> Option<Entry<'_>> {
        (**self).entry()
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        (**self).seek(key, trailer)
    }

    fn approach(&mut self, part: usize, key: &[u8], trailer: Trailer) {
        (**self).approach(part, key, trailer);
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        (**self).seek_before(place)
    }

    fn next(&mut self) -> Result<(), Error> {
        (**self).next()
    }

    fn previous(&mut self) -> Result<(), Error> {
        (**self).previous()
    }
}

/// One version of a key.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) trailer: Trailer,
    pub(crate) value: &'a [u8],
}
