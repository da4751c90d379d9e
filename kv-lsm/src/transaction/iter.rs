//! The iterator of a transaction: its own writes over its snapshot, from both ends.

use std::cmp::Ordering;
use std::collections::btree_map;
use std::ops::Bound;
use std::sync::Arc;

use kv_core::store::MergeOperator;

use super::Transaction;
use super::writes::{Overlay, Pending};
use crate::error::Error;
use crate::iter::Iter;
use crate::keyspace::Keyspace;
use crate::scan::Bounds;
use crate::slice::Slice;
use crate::validation::read_set::{ReadRange, successor};

/// Yields what a transaction sees of a range, in order, from both ends. What it passes, hidden or not, is tracked as read,
/// and no more: what lies behind the last key that it yielded is not. After an error it yields nothing more.
pub struct TransactionIter<'t> {
    transaction: &'t Transaction,
    keyspace: u32,
    operator: Option<Arc<dyn MergeOperator>>,
    whole: ReadRange,
    snapshot: TwoEnds<Iter, (Slice, Slice)>,
    overlay: Option<&'t Overlay>,
    own: TwoEnds<OwnIter<'t>, (&'t [u8], &'t Pending)>,
    front_slot: Option<usize>,
    back_slot: Option<usize>,
    over: bool,
}

/// The next item from each end, taken out to be looked at.
struct TwoEnds<I, T> {
    iter: I,
    front: Option<T>,
    back: Option<T>,
}

/// Like `DoubleEndedIterator`, with errors aside.
trait FromEnds<T> {
    fn take(&mut self, reverse: bool) -> Result<Option<T>, Error>;
}

impl FromEnds<(Slice, Slice)> for Iter {
    fn take(&mut self, reverse: bool) -> Result<Option<(Slice, Slice)>, Error> {
        if reverse { self.next_back() } else { self.next() }.transpose()
    }
}

/// The keys of an overlay in a range.
struct OwnIter<'t>(btree_map::Range<'t, Vec<u8>, Pending>);

impl<'t> FromEnds<(&'t [u8], &'t Pending)> for OwnIter<'t> {
    fn take(&mut self, reverse: bool) -> Result<Option<(&'t [u8], &'t Pending)>, Error> {
        let item = if reverse { self.0.next_back() } else { self.0.next() };
        Ok(item.map(|(key, pending)| (key.as_slice(), pending)))
    }
}

impl<T, I: FromEnds<T>> TwoEnds<I, T> {
    const fn new(iter: I) -> Self {
        Self { iter, front: None, back: None }
    }

    fn end(&mut self, reverse: bool) -> &mut Option<T> {
        if reverse { &mut self.back } else { &mut self.front }
    }

    fn look(&mut self, reverse: bool) -> Result<Option<&T>, Error> {
        if self.end(reverse).is_none() {
            let mut item = self.iter.take(reverse)?;
            if item.is_none() {
                // The last item may have been taken out at the other end.
                item = self.end(!reverse).take();
            }
            *self.end(reverse) = item;
        }
        Ok(self.end(reverse).as_ref())
    }
}

impl<'t> TransactionIter<'t> {
    pub(super) fn new(transaction: &'t Transaction, keyspace: &Keyspace, bounds: Bounds) -> Self {
        let whole = half_open(&bounds);
        let overlay = transaction.writes.overlay(keyspace.id());
        let within = match &whole.end {
            _ if whole.is_empty() => (Bound::Included(&[][..]), Bound::Excluded(&[][..])),
            Some(end) => (Bound::Included(whole.start.as_slice()), Bound::Excluded(end.as_slice())),
            None => (Bound::Included(whole.start.as_slice()), Bound::Unbounded),
        };
        let own = match overlay {
            Some(overlay) => overlay.keys.range::<[u8], _>(within),
            None => btree_map::Range::default(),
        };
        Self {
            operator: transaction.snapshot.handle().operator_of(keyspace.id()),
            snapshot: TwoEnds::new(transaction.snapshot.range(keyspace, bounds)),
            own: TwoEnds::new(OwnIter(own)),
            over: whole.is_empty(),
            keyspace: keyspace.id(),
            front_slot: None,
            back_slot: None,
            transaction,
            whole,
            overlay,
        }
    }

    fn step(&mut self, reverse: bool) -> Result<Option<(Slice, Slice)>, Error> {
        loop {
            let below = self.snapshot.look(reverse)?;
            let own = self.own.look(reverse)?;
            let order = match (below, own) {
                (None, None) => {
                    self.track_all()?;
                    return Ok(None);
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((key, _)), Some((own, _))) if reverse => own.cmp(&&**key),
                (Some((key, _)), Some((own, _))) => (**key).cmp(own),
            };
            let below = if order.is_le() { self.snapshot.end(reverse).take() } else { None };
            let own = if order.is_ge() { self.own.end(reverse).take() } else { None };
            let entry = match (below, own) {
                (below, Some((key, pending))) => {
                    let below = below.as_ref().map(|(_, value)| &**value);
                    let as_of = self.transaction.snapshot.as_of();
                    let value = pending.value(self.keyspace, key, below, self.operator.as_deref(), as_of)?;
                    value.map(|value| (Slice::copy_of(key), Slice::copy_of(&value)))
                }
                (Some((key, _)), None) if self.overlay.is_some_and(|overlay| overlay.hides(&key)) => None,
                (below, None) => below,
            };
            if let Some((key, value)) = entry {
                self.track(reverse, &key)?;
                return Ok(Some((key, value)));
            }
        }
    }

    /// Everything up to `key` was seen from one end.
    fn track(&mut self, reverse: bool, key: &[u8]) -> Result<(), Error> {
        let (slot, range) = if reverse {
            (&mut self.back_slot, ReadRange { start: key.to_vec(), end: self.whole.end.clone() })
        } else {
            (&mut self.front_slot, ReadRange { start: self.whole.start.clone(), end: Some(successor(key)) })
        };
        *slot = Some(self.transaction.reads().set_range(*slot, self.keyspace, range)?);
        Ok(())
    }

    /// The ends have met.
    fn track_all(&mut self) -> Result<(), Error> {
        let slot = self.transaction.reads().set_range(self.front_slot, self.keyspace, self.whole.clone())?;
        self.front_slot = Some(slot);
        Ok(())
    }

    fn yield_one(&mut self, reverse: bool) -> Option<Result<(Slice, Slice), Error>> {
        if self.over {
            return None;
        }
        let item = self.step(reverse).transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

/// The same range as keys from a start up to, but not including, an end.
fn half_open(bounds: &Bounds) -> ReadRange {
    let start = match &bounds.0 {
        Bound::Included(key) => key.clone(),
        Bound::Excluded(key) => successor(key),
        Bound::Unbounded => Vec::new(),
    };
    let end = match &bounds.1 {
        Bound::Included(key) => Some(successor(key)),
        Bound::Excluded(key) => Some(key.clone()),
        Bound::Unbounded => None,
    };
    ReadRange { start, end }
}

impl Iterator for TransactionIter<'_> {
    type Item = Result<(Slice, Slice), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.yield_one(false)
    }
}

impl DoubleEndedIterator for TransactionIter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.yield_one(true)
    }
}

impl std::iter::FusedIterator for TransactionIter<'_> {}

impl std::fmt::Debug for TransactionIter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionIter").field("range", &self.whole).finish_non_exhaustive()
    }
}
