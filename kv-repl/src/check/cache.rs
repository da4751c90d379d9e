//! Checks what clients saw of a cache table, in which anything may be missing.
//!
//! - *Nothing is made up.* A value was written under the key that it is read from.
//! - *Deletes hold.* A quorum read gives nothing older than a delete that a quorum had acknowledged before it began.
//! - *Nothing outlives its time.* A value is gone when the longest time that it may have is over.

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_core::hlc::Stamp;
use kv_core::key::RecordKey;

use super::tally::Tally;

/// What clients did to a cache table and saw of it.
#[derive(Debug)]
pub struct CacheHistory {
    /// From when a value is written until when it may be seen at most, in microseconds.
    life_max_us: u64,
    /// When and where each value was last asked to be written.
    written: BTreeMap<Bytes, (RecordKey, u64)>,
    /// The latest delete of each key that a quorum has acknowledged.
    deleted: BTreeMap<RecordKey, Stamp>,
    tally: Tally,
    hits: u64,
}

/// A quorum read under way.
#[derive(Debug)]
pub struct CacheReadBegun {
    key: RecordKey,
    deleted: Option<Stamp>,
}

impl CacheHistory {
    /// Of a table whose values may be seen for so long after they were written, at most: the table's maximum, what a write
    /// may take, and what clocks may differ.
    #[must_use]
    pub fn new(life_max_us: u64) -> Self {
        Self { life_max_us, written: BTreeMap::new(), deleted: BTreeMap::new(), tally: Tally::default(), hits: 0 }
    }

    /// A write of a value, unique among values, is handed to a node at time `now`, perhaps again.
    pub fn write_begins(&mut self, key: &RecordKey, value: Bytes, now: u64) {
        self.written.insert(value, (key.clone(), now));
    }

    /// A quorum has acknowledged a write.
    pub const fn write_acknowledged(&mut self) {
        self.tally.acknowledged += 1;
    }

    /// A quorum has acknowledged a delete, which was born at `birth`.
    pub fn delete_acknowledged(&mut self, key: &RecordKey, birth: Stamp) {
        self.tally.acknowledged += 1;
        let deleted = self.deleted.entry(key.clone()).or_default();
        *deleted = birth.max(*deleted);
    }

    /// A quorum read is handed to a node.
    #[must_use]
    pub fn read_begins(&self, key: &RecordKey) -> CacheReadBegun {
        CacheReadBegun { key: key.clone(), deleted: self.deleted.get(key).copied() }
    }

    /// A quorum read has ended at time `now`, with this value and its birth, or with nothing.
    pub fn read_ends(&mut self, begun: &CacheReadBegun, now: u64, found: Option<(&Bytes, Stamp)>) {
        self.tally.reads += 1;
        let Some((value, birth)) = found else { return };
        self.hits += 1;
        let key = &begun.key;
        if begun.deleted.is_some_and(|deleted| birth < deleted) {
            self.tally.violations.push(format!("{key:?}: {value:?} of {birth:?} was deleted at {:?}", begun.deleted));
        }
        match self.written.get(value) {
            Some((written, at)) if written == key => {
                if now > at.saturating_add(self.life_max_us) {
                    self.tally.violations.push(format!("{key:?}: {value:?} of {at} is seen at {now}"));
                }
            }
            _ => self.tally.violations.push(format!("{key:?} holds a value that nobody wrote there: {value:?}")),
        }
    }

    /// What was looked at, and what was wrong.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many of them found something.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::key::{Key, TableId};

    fn key(name: &str) -> RecordKey {
        RecordKey::new(TableId(1), &Key::from(name)).unwrap()
    }

    #[test]
    fn a_miss_is_always_right_and_a_hit_is_not() {
        let mut history = CacheHistory::new(100);
        let (here, value) = (key("k"), Bytes::from_static(b"value"));
        history.write_begins(&here, value.clone(), 10);
        let other = Bytes::from_static(b"other");
        let found = |history: &mut CacheHistory, key: &RecordKey, now, found| {
            let before = history.tally().violations.len();
            let begun = history.read_begins(key);
            history.read_ends(&begun, now, found);
            history.tally().violations.len() - before
        };
        assert_eq!(found(&mut history, &here, 20, None), 0);
        assert_eq!(found(&mut history, &here, 20, Some((&value, Stamp(5)))), 0);
        assert_eq!(found(&mut history, &key("j"), 20, Some((&value, Stamp(5)))), 1, "written elsewhere");
        assert_eq!(found(&mut history, &here, 20, Some((&other, Stamp(5)))), 1, "made up");
        assert_eq!(found(&mut history, &here, 111, Some((&value, Stamp(5)))), 1, "too old");
        let before = history.read_begins(&here);
        history.delete_acknowledged(&here, Stamp(7));
        assert_eq!(found(&mut history, &here, 20, Some((&value, Stamp(5)))), 1, "deleted");
        assert_eq!(found(&mut history, &here, 20, Some((&value, Stamp(8)))), 0, "written again");
        let violations = history.tally().violations.len();
        history.read_ends(&before, 20, Some((&value, Stamp(5))));
        assert_eq!(history.tally().violations.len(), violations, "the delete was acknowledged later");
    }
}
