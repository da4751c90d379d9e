//! The ordered keys of one space, with merge operands folded when they are read.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Direction, Fold, Folded, KeyRange, MergeOperator, ScanFn, SpaceOptions, StoreError};
use crate::time::Millis;

/// At each multiple of this many operands under one key they are folded into one, so that reads stay short.
const OPERANDS_UNFOLDED: usize = 8;

/// The keys of a space in order. Cloning copies the tree and shares keys and values.
#[derive(Clone)]
pub(super) struct Entries {
    options: SpaceOptions,
    map: BTreeMap<Bytes, Entry>,
}

/// What lies under a key: at least one of base and operands.
#[derive(Clone)]
pub(super) struct Entry {
    base: Option<Bytes>,
    /// Merges since the base, oldest first.
    operands: Vec<Bytes>,
}

impl Entries {
    pub(super) const fn new(options: SpaceOptions) -> Self {
        Self { options, map: BTreeMap::new() }
    }

    pub(super) const fn can_merge(&self) -> bool {
        self.options.merge.is_some()
    }

    pub(super) fn operator(&self) -> Option<Arc<dyn MergeOperator>> {
        self.options.merge.clone()
    }

    pub(super) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.map.get(key)
    }

    /// Replaces what is under `key`; returns the key and what was there.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> (Bytes, Option<Entry>) {
        let key = Bytes::copy_from_slice(key);
        let entry = Entry { base: Some(Bytes::copy_from_slice(value)), operands: Vec::new() };
        let before = self.map.insert(key.clone(), entry);
        (key, before)
    }

    /// Adds an operand; returns the key and what was there. Operands that do not fold stay as they are: the reads of the
    /// key fail, not the commit.
    pub(super) fn merge(&mut self, key: &[u8], operand: &[u8]) -> (Bytes, Option<Entry>) {
        let operator = self.options.merge.as_deref().expect("checked before anything changed");
        let key = Bytes::copy_from_slice(key);
        let before = self.map.get(&key).cloned();
        let entry = self.map.entry(key.clone()).or_insert_with(|| Entry { base: None, operands: Vec::new() });
        entry.operands.push(Bytes::copy_from_slice(operand));
        if entry.operands.len().is_multiple_of(OPERANDS_UNFOLDED) {
            entry.fold_operands(&key, operator);
        }
        (key, before)
    }

    /// Removes `key`; returns it and what was there, if anything.
    pub(super) fn delete(&mut self, key: &[u8]) -> Option<(Bytes, Option<Entry>)> {
        self.map.remove_entry(key).map(|(key, before)| (key, Some(before)))
    }

    /// Removes the keys from `start` up to, but not including, `end`; returns them and what was there.
    pub(super) fn delete_range(&mut self, start: &[u8], end: &[u8]) -> Vec<(Bytes, Option<Entry>)> {
        let ends = (Bound::Included(start), Bound::Excluded(end));
        let keys: Vec<Bytes> = self.map.range::<[u8], _>(ends).map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.delete(key)).collect()
    }

    /// Makes `before` what is under `key` again.
    pub(super) fn put_back(&mut self, key: Bytes, before: Option<Entry>) {
        match before {
            Some(entry) => self.map.insert(key, entry),
            None => self.map.remove(&key),
        };
    }

    pub(super) fn scan(
        &self,
        range: KeyRange<'_>,
        direction: Direction,
        as_of: Millis,
        each: &mut ScanFn<'_>,
    ) -> Result<(), StoreError> {
        if range.is_empty() {
            return Ok(());
        }
        let operator = self.options.merge.as_deref();
        let entries = self.map.range::<[u8], _>((range.start, range.end));
        let mut visit = |(key, entry): (&Bytes, &Entry)| {
            let mut flow = ControlFlow::Continue(());
            entry.read(key, operator, as_of, &mut |value| flow = each(key, value))?;
            Ok(flow)
        };
        match direction {
            Direction::Forward => visit_until_break(entries, &mut visit),
            Direction::Reverse => visit_until_break(entries.rev(), &mut visit),
        }
    }
}

fn visit_until_break<T>(
    items: impl Iterator<Item = T>,
    visit: &mut impl FnMut(T) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    for item in items {
        if visit(item)?.is_break() {
            break;
        }
    }
    Ok(())
}

impl Entry {
    /// Calls `found` with the value at `as_of` and returns whether there is one.
    pub(super) fn read(
        &self,
        key: &[u8],
        operator: Option<&dyn MergeOperator>,
        as_of: Millis,
        found: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, StoreError> {
        if self.operands.is_empty() {
            // What was put is read back as it is, as an engine would hand it out: operators fold merges.
            found(self.base.as_ref().expect("an entry without operands has a base"));
            return Ok(true);
        }
        let operator = operator.expect("operands are taken only by spaces that can merge");
        let operands: Vec<&[u8]> = self.operands.iter().map(|operand| &operand[..]).collect();
        let mut value = Vec::new();
        let folded = operator.fold(key, self.base.as_deref(), &operands, Fold::Complete { as_of }, &mut value)?;
        match folded {
            Folded::Value => {
                found(&value);
                Ok(true)
            }
            Folded::Absent => Ok(false),
        }
    }

    #[cfg(test)]
    pub(super) const fn operands(&self) -> usize {
        self.operands.len()
    }

    fn fold_operands(&mut self, key: &[u8], operator: &dyn MergeOperator) {
        let operands: Vec<&[u8]> = self.operands.iter().map(|operand| &operand[..]).collect();
        let mut folded = Vec::new();
        match operator.fold(key, None, &operands, Fold::Partial, &mut folded) {
            Ok(Folded::Value) => self.operands = vec![Bytes::from(folded)],
            Ok(Folded::Absent) => panic!("a merge operator must not call a key absent before it has seen all of it"),
            // Left for the read to report.
            Err(_) => {}
        }
    }
}
