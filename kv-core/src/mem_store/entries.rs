//! The ordered keys of one space, with merge operands folded when they are read.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::ordered_key::{Ordered, OrderedKey, Sought};
use crate::store::{Direction, Fold, Folded, KeyRange, MergeOperator, ScanFn, SpaceOptions, StoreError};
use crate::time::Millis;

/// At each multiple of this many operands under one key they are folded into one, so that reads stay short.
const OPERANDS_UNFOLDED: usize = 8;

/// The keys of a space in order. Cloning copies the tree and shares keys and values.
#[derive(Clone)]
pub(super) struct Entries {
    options: SpaceOptions,
    map: BTreeMap<OrderedKey, Entry>,
}

/// What lies under a key: at least one of base and operands.
#[derive(Clone)]
pub(super) struct Entry {
    base: Option<Arc<[u8]>>,
    /// Merges since the base, oldest first.
    operands: Vec<Arc<[u8]>>,
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
        self.map.get(&Sought::of(key) as &dyn Ordered)
    }

    fn entry_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.map.get_mut(&Sought::of(key) as &dyn Ordered)
    }

    /// Replaces what is under `key`; returns what was there.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Option<Entry> {
        let entry = Entry { base: Some(value.into()), operands: Vec::new() };
        match self.entry_mut(key) {
            Some(known) => Some(std::mem::replace(known, entry)),
            None => self.map.insert(OrderedKey::of(key), entry),
        }
    }

    /// Adds an operand; returns what was there, if somebody wants to know. Operands that do not fold stay as they are: the reads
    /// of the key fail, not the commit.
    pub(super) fn merge(&mut self, key: &[u8], operand: &[u8], wants_before: bool) -> Option<Entry> {
        let operator = self.operator().expect("checked before anything changed");
        let operand = operand.into();
        let Some(entry) = self.entry_mut(key) else {
            return self.map.insert(OrderedKey::of(key), Entry { base: None, operands: vec![operand] });
        };
        let before = wants_before.then(|| entry.clone());
        entry.operands.push(operand);
        if entry.operands.len().is_multiple_of(OPERANDS_UNFOLDED) {
            entry.fold_operands(key, &*operator);
        }
        before
    }

    /// Removes `key`; returns what was there.
    pub(super) fn delete(&mut self, key: &[u8]) -> Option<Entry> {
        self.map.remove(&Sought::of(key) as &dyn Ordered)
    }

    /// Removes the keys from `start` up to, but not including, `end`; returns them and what was there.
    pub(super) fn delete_range(&mut self, start: &[u8], end: &[u8]) -> Vec<(OrderedKey, Entry)> {
        let (start, end) = (Sought::of(start), Sought::of(end));
        let ends = (Bound::Included(&start as &dyn Ordered), Bound::Excluded(&end as &dyn Ordered));
        let keys: Vec<OrderedKey> = self.map.range::<dyn Ordered, _>(ends).map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.map.remove_entry(key)).collect()
    }

    /// Makes `before` what is under `key` again.
    pub(super) fn put_back(&mut self, key: &[u8], before: Option<Entry>) {
        match before {
            Some(entry) => self.map.insert(OrderedKey::of(key), entry),
            None => self.delete(key),
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
        let (start, end) = (range.start.map(Sought::of), range.end.map(Sought::of));
        let ends = (as_ordered(&start), as_ordered(&end));
        let entries = self.map.range::<dyn Ordered, _>(ends);
        let mut visit = |(key, entry): (&OrderedKey, &Entry)| {
            let (key, mut flow) = (key.as_bytes(), ControlFlow::Continue(()));
            entry.read(key, operator, as_of, &mut |value| flow = each(key, value))?;
            Ok(flow)
        };
        match direction {
            Direction::Forward => visit_until_break(entries, &mut visit),
            Direction::Reverse => visit_until_break(entries.rev(), &mut visit),
        }
    }
}

fn as_ordered<'a>(bound: &'a Bound<Sought<'_>>) -> Bound<&'a (dyn Ordered + 'a)> {
    bound.as_ref().map(|sought| sought as &dyn Ordered)
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
            Ok(Folded::Value) => self.operands = vec![folded.into()],
            Ok(Folded::Absent) => panic!("a merge operator must not call a key absent before it has seen all of it"),
            // Left for the read to report.
            Err(_) => {}
        }
    }
}
