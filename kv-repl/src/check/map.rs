//! Checks what clients saw of one last-write-wins map.
//!
//! Its keys are a set whose elements are removed as observed; see there. Moreover:
//!
//! - *Nothing is made up.* A value was put under the key that it is read from.
//! - *The last put wins.* A quorum read gives no value older than one whose put was acknowledged before the read began, unless a
//!   removal may have taken that.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv_core::VersionVector;
use kv_core::hlc::Stamp;
use kv_core::version::Dot;

use super::set::{ChangeIndex, SetHistory, SetReadBegun};
use super::tally::Tally;
use crate::request::Written;

#[derive(Debug)]
struct Put {
    key: Bytes,
    value: Bytes,
    /// When a quorum had acknowledged, under which name, and when it was minted.
    acknowledged: Option<(u64, Dot, Stamp)>,
    retried: bool,
}

/// What clients did to a map and saw of it, in the order in which it began and ended.
#[derive(Default, Debug)]
pub struct MapHistory {
    keys: SetHistory,
    puts: BTreeMap<ChangeIndex, Put>,
}

impl MapHistory {
    /// A put is handed to a node. The value is unique among values.
    pub fn put_begins(&mut self, key: Bytes, value: Bytes) -> ChangeIndex {
        let index = self.keys.insert_begins(key.clone());
        self.puts.insert(index, Put { key, value, acknowledged: None, retried: false });
        index
    }

    /// A removal of a key, or of all, is handed to a node, by a client that had seen `seen`, if it says so.
    pub fn removal_begins(&mut self, key: Option<Bytes>, seen: Option<VersionVector>) -> ChangeIndex {
        self.keys.removal_begins(key.map(|key| [key].into()), seen)
    }

    /// A client asks for a change again, because it does not know what became of it.
    pub fn retried(&mut self, change: ChangeIndex) {
        self.keys.retried(change);
        if let Some(put) = self.puts.get_mut(&change) {
            put.retried = true;
        }
    }

    /// A change was refused, with an error that says that nothing was written.
    pub fn abandoned(&mut self, change: ChangeIndex) {
        self.keys.abandoned(change);
    }

    /// A change was acknowledged by a quorum at time `now`, and its client was told that it covers `told`.
    pub fn acknowledged_at(&mut self, change: ChangeIndex, now: u64, written: &Written, told: VersionVector) {
        self.keys.acknowledged_at(change, now, written.dot, told);
        if let Some(put) = self.puts.get_mut(&change) {
            put.acknowledged.get_or_insert((now, written.dot, written.birth));
        }
    }

    /// A quorum read is handed to a node at time `now`.
    #[must_use]
    pub fn read_begins(&self, now: u64) -> SetReadBegun {
        self.keys.read_begins(now)
    }

    /// A quorum read has ended, having seen these entries and dots.
    pub fn read_ends(&mut self, begun: &SetReadBegun, entries: &BTreeMap<Bytes, Bytes>, seen: &VersionVector) {
        let keys: BTreeSet<Bytes> = entries.keys().cloned().collect();
        self.keys.read_ends(begun, &keys, seen);
        for (key, value) in entries {
            let Some(put) = self.puts.values().find(|put| put.key == *key && put.value == *value) else {
                self.keys.tally.violations.push(format!("{key:?} has a value that nobody put there: {value:?}"));
                continue;
            };
            let Some((_, _, birth)) = put.acknowledged.filter(|_| !put.retried) else { continue };
            let later = self.puts.iter().find(|(index, other)| {
                other.key == *key
                    && other.acknowledged.is_some_and(|(ended, dot, later)| {
                        ended < begun.at() && later > birth && !self.keys.may_be_removed(key, index.number(), dot, seen)
                    })
            });
            if let Some((_, later)) = later {
                let what = format!("{key:?} has {value:?} of {birth:?}, older than {later:?}");
                self.keys.tally.violations.push(what);
            }
        }
    }

    /// What was looked at, and what was wrong.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        self.keys.tally()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::NodeId;
    use kv_core::context::CausalContext;
    use kv_core::key::{Key, RecordKey, TableId};
    use kv_core::version::{Actor, Incarnation};

    fn written(counter: u64) -> Written {
        let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };
        let key = RecordKey::new(TableId(1), &Key::from("k")).unwrap();
        let context = CausalContext::seal(&key, &VersionVector::new());
        Written { dot: Dot { actor, counter }, birth: Stamp(counter), context, acknowledged: 2, fallbacks: 0 }
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn the_last_put_is_read_unless_it_was_removed() {
        let mut history = MapHistory::default();
        for (value, counter) in [("first", 1), ("second", 2)] {
            let put = history.put_begins(bytes("color"), bytes(value));
            history.acknowledged_at(put, counter, &written(counter), VersionVector::of(written(counter).dot));
        }
        let seen: VersionVector = [1, 2].map(|counter| written(counter).dot).into_iter().collect();
        let found = |history: &mut MapHistory, entries: &[(&'static str, &'static str)]| {
            let before = history.tally().violations.len();
            let begun = history.read_begins(5);
            let entries = entries.iter().map(|(key, value)| (bytes(key), bytes(value))).collect();
            history.read_ends(&begun, &entries, &seen);
            history.tally().violations.len() - before
        };
        assert_eq!(found(&mut history, &[("color", "second")]), 0);
        assert_eq!(found(&mut history, &[("color", "first")]), 1, "older");
        assert_eq!(found(&mut history, &[("color", "third")]), 1, "made up");
        assert_eq!(found(&mut history, &[]), 1, "nobody removed it");
        history.removal_begins(Some(bytes("color")), Some(VersionVector::of(written(2).dot)));
        assert_eq!(found(&mut history, &[("color", "first")]), 0, "the removal never saw it");
        assert_eq!(found(&mut history, &[]), 1, "the same");
    }
}
