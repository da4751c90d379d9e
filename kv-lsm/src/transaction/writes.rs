//! What a transaction has written: the batch that it will commit, and the same as an overlay on its snapshot, so that it
//! reads its own writes.

use std::collections::BTreeMap;
use std::ops::Bound;

use kv_core::store::{Fold, Folded, MergeOperator};
use kv_core::time::Millis;

use crate::batch::Batch;
use crate::error::Error;
use crate::internal_key::is_expired;
use crate::keyspace::Keyspace;

/// What the writes to one key come to, as far as it can be said without the snapshot.
pub(super) struct Pending {
    base: Base,
    /// Merge operands behind the base, oldest first.
    operands: Vec<Vec<u8>>,
}

enum Base {
    /// Whatever the snapshot has.
    Snapshot,
    Absent,
    Value(Vec<u8>),
}

impl Pending {
    /// Whether the snapshot has a part in the value.
    pub(super) const fn needs_snapshot(&self) -> bool {
        matches!(self.base, Base::Snapshot)
    }

    /// The value that the transaction sees, when its snapshot has `below`.
    ///
    /// # Errors
    /// [`Error::NoMergeOperator`] and [`Error::Merge`].
    pub(super) fn value(
        &self,
        keyspace: u32,
        key: &[u8],
        below: Option<&[u8]>,
        operator: Option<&dyn MergeOperator>,
        as_of: Millis,
    ) -> Result<Option<Vec<u8>>, Error> {
        let base = match &self.base {
            Base::Snapshot => below,
            Base::Absent => None,
            Base::Value(value) => Some(value.as_slice()),
        };
        if self.operands.is_empty() {
            return Ok(base.map(<[u8]>::to_vec));
        }
        let operator = operator.ok_or(Error::NoMergeOperator { keyspace })?;
        let oldest_first: Vec<&[u8]> = self.operands.iter().map(Vec::as_slice).collect();
        let mut out = Vec::new();
        match operator.fold(key, base, &oldest_first, Fold::Complete { as_of }, &mut out) {
            Ok(Folded::Value) => Ok(Some(out)),
            Ok(Folded::Absent) => Ok(None),
            Err(corrupt) => Err(Error::Merge { keyspace, reason: corrupt.what }),
        }
    }
}

/// The writes to one keyspace.
#[derive(Default)]
pub(super) struct Overlay {
    pub(super) keys: BTreeMap<Vec<u8>, Pending>,
    /// Deleted ranges of the snapshot by their starts, apart from each other. Keys in them that were written since are in
    /// `keys`.
    deleted: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Overlay {
    /// Whether what the snapshot has under `key` was deleted with a range.
    pub(super) fn hides(&self, key: &[u8]) -> bool {
        let before = self.deleted.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, end)| key < end.as_slice())
    }

    fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        if start >= end {
            return;
        }
        let within = (Bound::Included(start), Bound::Excluded(end));
        for (_, pending) in self.keys.range_mut::<[u8], _>(within) {
            *pending = Pending { base: Base::Absent, operands: Vec::new() };
        }
        let (mut first, mut last) = (start.to_vec(), end.to_vec());
        // The one that reaches in from before, and those that begin inside.
        if let Some((before, before_end)) =
            self.deleted.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(start))).next_back()
            && before_end.as_slice() >= start
        {
            first.clone_from(before);
        }
        let up_to = (Bound::Included(first.as_slice()), Bound::Included(end));
        let joined: Vec<Vec<u8>> = self.deleted.range::<[u8], _>(up_to).map(|(start, _)| start.clone()).collect();
        for start in joined {
            last = last.max(self.deleted.remove(&start).expect("found a moment ago"));
        }
        self.deleted.insert(first, last);
    }
}

/// All writes of a transaction.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) batch: Batch,
    spaces: BTreeMap<u32, Overlay>,
}

impl Writes {
    pub(super) fn overlay(&self, keyspace: u32) -> Option<&Overlay> {
        self.spaces.get(&keyspace)
    }

    fn set(&mut self, keyspace: &Keyspace, key: &[u8], base: Base) {
        let overlay = self.spaces.entry(keyspace.id()).or_default();
        overlay.keys.insert(key.to_vec(), Pending { base, operands: Vec::new() });
    }

    pub(super) fn put(&mut self, keyspace: &Keyspace, key: &[u8], value: &[u8]) {
        self.batch.put(keyspace, key, value);
        self.set(keyspace, key, Base::Value(value.to_vec()));
    }

    /// `as_of` is the time of the transaction.
    pub(super) fn put_expiring(
        &mut self,
        keyspace: &Keyspace,
        key: &[u8],
        value: &[u8],
        expire_at: Millis,
        as_of: Millis,
    ) {
        self.batch.put_expiring(keyspace, key, value, expire_at);
        let base = if is_expired(expire_at, as_of) { Base::Absent } else { Base::Value(value.to_vec()) };
        self.set(keyspace, key, base);
    }

    pub(super) fn delete(&mut self, keyspace: &Keyspace, key: &[u8]) {
        self.batch.delete(keyspace, key);
        self.set(keyspace, key, Base::Absent);
    }

    pub(super) fn merge(&mut self, keyspace: &Keyspace, key: &[u8], operand: &[u8]) {
        self.batch.merge(keyspace, key, operand);
        let overlay = self.spaces.entry(keyspace.id()).or_default();
        let base = if overlay.hides(key) { Base::Absent } else { Base::Snapshot };
        let pending = overlay.keys.entry(key.to_vec()).or_insert(Pending { base, operands: Vec::new() });
        pending.operands.push(operand.to_vec());
    }

    pub(super) fn delete_range(&mut self, keyspace: &Keyspace, start: &[u8], end: &[u8]) {
        self.batch.delete_range(keyspace, start..end);
        self.spaces.entry(keyspace.id()).or_default().delete_range(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_ranges_hide_the_union_of_what_was_given() {
        let mut state = 3_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u8::try_from((state >> 33) % below).unwrap()
        };
        for _ in 0..500 {
            let mut overlay = Overlay::default();
            let mut hidden = [false; 12];
            for _ in 0..random(8) {
                let (start, end) = (random(12), random(12));
                overlay.delete_range(&[start], &[end]);
                (start..end).for_each(|key| hidden[usize::from(key)] = true);
            }
            for key in 0..12 {
                assert_eq!(overlay.hides(&[key]), hidden[usize::from(key)], "{:?}", overlay.deleted);
            }
            let ranges: Vec<_> = overlay.deleted.iter().collect();
            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "apart: {ranges:?}");
        }
    }
}
