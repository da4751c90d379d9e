//! Iterators that yield less than whole values, and read no more than they yield, or more than values.

use kv_core::time::Millis;

use crate::error::Error;
use crate::iter::Iter;
use crate::slice::Slice;

/// Yields the keys of a range in order, from both ends, see [`Iter::keys`].
#[derive(Debug)]
pub struct Keys(pub(crate) Iter);

impl Iterator for Keys {
    type Item = Result<Slice, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(key, _)| key))
    }
}

impl DoubleEndedIterator for Keys {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.0.next_back()?.map(|(key, _)| key))
    }
}

impl std::iter::FusedIterator for Keys {}

/// Yields the keys of a range and the first bytes of each value in order, from both ends, see [`Iter::heads`].
#[derive(Debug)]
pub struct Heads(pub(crate) Iter);

impl Iterator for Heads {
    type Item = Result<(Slice, Slice), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl DoubleEndedIterator for Heads {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back()
    }
}

impl std::iter::FusedIterator for Heads {}

/// Yields the keys and values of a range in order, from both ends, each with its expiry, see [`Iter::with_expiry`].
#[derive(Debug)]
pub struct WithExpiry(pub(crate) Iter);

impl Iterator for WithExpiry {
    type Item = Result<(Slice, Slice, Option<Millis>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|(key, value)| (key, value, self.0.expire_at(false))))
    }
}

impl DoubleEndedIterator for WithExpiry {
    fn next_back(&mut self) -> Option<Self::Item> {
        Some(self.0.next_back()?.map(|(key, value)| (key, value, self.0.expire_at(true))))
    }
}

impl std::iter::FusedIterator for WithExpiry {}
