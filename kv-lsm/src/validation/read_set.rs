//! What a transaction has read, and so what nobody else may have changed when it commits: keys, and ranges of keys, whether
//! there was anything in them or not.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;

/// What a tracked key or range costs beside its bytes: the node of the tree that it is kept in.
const ENTRY_BYTES: usize = 64;

/// The smallest key behind `key`.
pub(crate) fn successor(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Keys from `start` up to, but not including, `end`, or to the last one.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct ReadRange {
    pub(crate) start: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl ReadRange {
    pub(crate) fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.start.len() + self.end.as_ref().map_or(0, Vec::len)
    }
}

/// The read set, as it grows.
pub(crate) struct Reads {
    keys: BTreeMap<u32, BTreeSet<Vec<u8>>>,
    ranges: Vec<(u32, ReadRange)>,
    bytes: usize,
    bytes_max: usize,
}

impl Reads {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { keys: BTreeMap::new(), ranges: Vec::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.iter().all(|(_, range)| range.is_empty())
    }

    fn grow(&mut self, before: usize, after: usize) -> Result<(), Error> {
        let bytes = self.bytes - before + after;
        if bytes > self.bytes_max {
            return Err(Error::TooLarge { what: "read set", bytes, bytes_max: self.bytes_max });
        }
        self.bytes = bytes;
        Ok(())
    }

    /// # Errors
    /// [`Error::TooLarge`]; then the key is not tracked, and what is under it must not be told.
    pub(crate) fn add_key(&mut self, keyspace: u32, key: &[u8]) -> Result<(), Error> {
        if self.keys.get(&keyspace).is_some_and(|keys| keys.contains(key)) {
            return Ok(());
        }
        self.grow(0, ENTRY_BYTES + key.len())?;
        self.keys.entry(keyspace).or_default().insert(key.to_vec());
        Ok(())
    }

    /// Tracks a range, in place of the one at `slot` when there is one. Returns the slot.
    ///
    /// # Errors
    /// As [`Reads::add_key`].
    pub(crate) fn set_range(&mut self, slot: Option<usize>, keyspace: u32, range: ReadRange) -> Result<usize, Error> {
        let before = slot.map_or(0, |slot| self.ranges[slot].1.bytes());
        self.grow(before, range.bytes())?;
        match slot {
            Some(slot) => {
                self.ranges[slot].1 = range;
                Ok(slot)
            }
            None => {
                self.ranges.push((keyspace, range));
                Ok(self.ranges.len() - 1)
            }
        }
    }

    /// Ready for questions.
    pub(crate) fn into_set(self) -> ReadSet {
        let mut spaces: BTreeMap<u32, ReadSpace> = BTreeMap::new();
        for (keyspace, keys) in self.keys {
            spaces.entry(keyspace).or_default().keys = keys;
        }
        for (keyspace, range) in self.ranges {
            if !range.is_empty() {
                spaces.entry(keyspace).or_default().ranges.push(range);
            }
        }
        for space in spaces.values_mut() {
            space.ranges = disjoint(std::mem::take(&mut space.ranges));
            let ReadSpace { keys, ranges } = space;
            keys.retain(|key| !contains(ranges, key));
        }
        ReadSet { spaces }
    }
}

/// The same keys as ranges that are in order and do not touch.
fn disjoint(mut ranges: Vec<ReadRange>) -> Vec<ReadRange> {
    ranges.sort_by(|a, b| a.start.cmp(&b.start));
    let mut apart: Vec<ReadRange> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if last.end.as_ref().is_none_or(|end| *end >= range.start) => {
                let longer = match (&last.end, &range.end) {
                    (Some(a), Some(b)) => b > a,
                    (Some(_), None) => true,
                    (None, _) => false,
                };
                if longer {
                    last.end = range.end;
                }
            }
            _ => apart.push(range),
        }
    }
    apart
}

fn contains(ranges: &[ReadRange], key: &[u8]) -> bool {
    let behind = ranges.partition_point(|range| range.start.as_slice() <= key);
    let before = behind.checked_sub(1).map(|at| &ranges[at]);
    before.is_some_and(|range| range.end.as_ref().is_none_or(|end| key < end.as_slice()))
}

/// What was read of one keyspace.
#[derive(Default)]
pub(crate) struct ReadSpace {
    /// Keys that lie in none of the ranges.
    pub(crate) keys: BTreeSet<Vec<u8>>,
    /// In order, and apart from each other.
    pub(crate) ranges: Vec<ReadRange>,
}

/// The whole read set.
pub(crate) struct ReadSet {
    pub(crate) spaces: BTreeMap<u32, ReadSpace>,
}

impl ReadSet {
    pub(crate) fn holds_key(&self, keyspace: u32, key: &[u8]) -> bool {
        self.spaces.get(&keyspace).is_some_and(|space| space.keys.contains(key) || contains(&space.ranges, key))
    }

    /// Whether anything was read from `start` up to, but not including, `end`.
    pub(crate) fn holds_any(&self, keyspace: u32, start: &[u8], end: &[u8]) -> bool {
        let Some(space) = self.spaces.get(&keyspace).filter(|_| start < end) else { return false };
        let reaches = |range: &ReadRange| range.end.as_ref().is_none_or(|range_end| start < range_end.as_slice());
        let first = space.ranges.partition_point(|range| !reaches(range));
        space.ranges.get(first).is_some_and(|range| range.start.as_slice() < end)
            || space
                .keys
                .range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Excluded(end)))
                .next()
                .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> ReadRange {
        let end = (!end.is_empty()).then(|| end.as_bytes().to_vec());
        ReadRange { start: start.as_bytes().to_vec(), end }
    }

    #[test]
    fn ranges_that_touch_are_one_and_questions_are_answered() {
        let mut reads = Reads::new(10_000);
        for (start, end) in [("m", "p"), ("a", "c"), ("b", "d"), ("d", "e"), ("x", "x"), ("o", "")] {
            reads.set_range(None, 1, range(start, end)).unwrap();
        }
        for key in ["b", "g", "z"] {
            reads.add_key(1, key.as_bytes()).unwrap();
        }
        let set = reads.into_set();
        assert_eq!(set.spaces[&1].ranges, [range("a", "e"), range("m", "")]);
        assert_eq!(set.spaces[&1].keys.len(), 1, "keys inside a range need no tracking of their own");
        let held = ["a", "dz", "g", "m", "zz"];
        let not_held = ["", "A", "e", "f", "h", "l"];
        assert!(held.iter().all(|key| set.holds_key(1, key.as_bytes())));
        assert!(!not_held.iter().any(|key| set.holds_key(1, key.as_bytes())));
        assert!(!set.holds_key(2, b"a"), "another keyspace");
        for (start, end, held) in [
            ("0", "a", false),
            ("0", "b", true),
            ("d", "f", true),
            ("e", "g", false),
            ("e", "h", true),
            ("h", "m", false),
            ("h", "n", true),
            ("y", "zz", true),
            ("b", "b", false),
        ] {
            assert_eq!(set.holds_any(1, start.as_bytes(), end.as_bytes()), held, "{start}..{end}");
        }
    }

    #[test]
    fn a_read_set_over_its_limit_is_refused_and_keeps_what_it_had() {
        let mut reads = Reads::new(3 * (ENTRY_BYTES + 1));
        let slot = reads.set_range(None, 1, range("a", "")).unwrap();
        reads.add_key(1, b"k").unwrap();
        reads.add_key(1, b"k").unwrap();
        reads.add_key(2, b"k").unwrap();
        assert!(matches!(reads.add_key(1, b"l"), Err(Error::TooLarge { what: "read set", .. })));
        assert!(matches!(reads.set_range(Some(slot), 1, range("a", "b")), Err(Error::TooLarge { .. })));
        let set = reads.into_set();
        assert!(set.holds_key(1, b"zzz") && set.holds_key(2, b"k") && !set.holds_key(2, b"l"));
    }
}
