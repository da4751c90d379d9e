//! What repair merges: versions that are still readable, from wherever they are, each once.

use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::Trailer;
use crate::merge_iter::MergeCursor;

/// A version that stands for itself.
pub(super) type Version = (Vec<u8>, Trailer, Vec<u8>);

/// Walks what an iterator gives, forward and once.
pub(super) struct Stream<I> {
    versions: I,
    present: Option<Version>,
}

impl<I> Stream<I> {
    pub(super) const fn new(versions: I) -> Self {
        Self { versions, present: None }
    }
}

impl<I: Iterator<Item = Version> + Send> Cursor for Stream<I> {
    fn entry(&self) -> Option<Entry<'_>> {
        let (key, trailer, value) = self.present.as_ref()?;
        Some(Entry { key, trailer: *trailer, value })
    }

    fn seek(&mut self, key: &[u8], _: Trailer) -> Result<(), Error> {
        assert!(key.is_empty() && self.present.is_none(), "a repair reads everything once, from the start");
        self.next()
    }

    fn seek_before(&mut self, _: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        unreachable!("a repair reads forward")
    }

    fn next(&mut self) -> Result<(), Error> {
        self.present = self.versions.next();
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Error> {
        unreachable!("a repair reads forward")
    }
}

/// A merge that passes over a version that was there already: a table and one that was made from it may both be left.
pub(super) struct Distinct {
    merged: MergeCursor,
}

impl Distinct {
    pub(super) const fn new(merged: MergeCursor) -> Self {
        Self { merged }
    }
}

impl Cursor for Distinct {
    fn entry(&self) -> Option<Entry<'_>> {
        self.merged.entry()
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        self.merged.seek(key, trailer)
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        self.merged.seek_before(place)
    }

    fn next(&mut self) -> Result<(), Error> {
        let Some(before) = self.merged.entry().map(|entry| (entry.key.to_vec(), entry.trailer.sequence())) else {
            return Ok(());
        };
        loop {
            self.merged.next()?;
            let again = self
                .merged
                .entry()
                .is_some_and(|entry| entry.key == before.0.as_slice() && entry.trailer.sequence() == before.1);
            if !again {
                return Ok(());
            }
        }
    }

    fn previous(&mut self) -> Result<(), Error> {
        self.merged.previous()
    }
}
