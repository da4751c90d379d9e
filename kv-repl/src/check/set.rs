//! Checks what clients saw of one set whose elements are removed as observed.
//!
//! - *Inserts win.* An element is in a quorum read when an insert of it was acknowledged before the read began that no removal
//!   had seen.
//! - *Nothing comes back.* An element is not in a quorum read when every insert of it was seen by a removal that was acknowledged
//!   before the read began.
//! - *No read goes back in time.* A quorum read has seen all that an earlier one had, and every change acknowledged before it began.

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_core::VersionVector;
use kv_core::version::Dot;

use super::tally::Tally;

/// Names a change of a [`SetHistory`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct ChangeIndex(usize);

#[derive(Debug)]
struct Change {
    /// Nothing for a removal of all.
    element: Option<Bytes>,
    what: What,
    /// When a quorum had acknowledged, and under which name.
    acknowledged: Option<(u64, Dot)>,
    /// It may have been made twice.
    retried: bool,
}

#[derive(Debug)]
enum What {
    Insert,
    /// With what its client had seen, if it said so.
    Remove(Option<VersionVector>),
}

/// What clients did to a set and saw of it, in the order in which it began and ended.
#[derive(Default, Debug)]
pub struct SetHistory {
    changes: Vec<Change>,
    /// Every dot that later quorum reads must know of.
    floor: VersionVector,
    tally: Tally,
}

/// A quorum read under way.
#[derive(Debug)]
pub struct SetReadBegun {
    at: u64,
    floor: VersionVector,
}

impl SetHistory {
    /// An insert is handed to a node.
    pub fn insert_begins(&mut self, element: Bytes) -> ChangeIndex {
        self.begin(Some(element), What::Insert)
    }

    /// A removal of an element, or of all, is handed to a node, by a client that had seen `seen`, if it says so.
    pub fn removal_begins(&mut self, element: Option<Bytes>, seen: Option<VersionVector>) -> ChangeIndex {
        self.begin(element, What::Remove(seen))
    }

    fn begin(&mut self, element: Option<Bytes>, what: What) -> ChangeIndex {
        self.changes.push(Change { element, what, acknowledged: None, retried: false });
        ChangeIndex(self.changes.len() - 1)
    }

    /// A client asks for a change again, because it does not know what became of it.
    pub fn retried(&mut self, change: ChangeIndex) {
        self.changes[change.0].retried = true;
    }

    /// A change was acknowledged by a quorum at time `now`.
    pub fn acknowledged_at(&mut self, change: ChangeIndex, now: u64, dot: Dot) {
        self.changes[change.0].acknowledged.get_or_insert((now, dot));
        self.floor.insert(dot);
        self.tally.acknowledged += 1;
    }

    /// A quorum read is handed to a node at time `now`.
    #[must_use]
    pub fn read_begins(&self, now: u64) -> SetReadBegun {
        SetReadBegun { at: now, floor: self.floor.clone() }
    }

    /// A quorum read has ended, having seen these elements and dots.
    pub fn read_ends(&mut self, begun: &SetReadBegun, elements: &BTreeSet<Bytes>, seen: &VersionVector) {
        self.tally.reads += 1;
        if !seen.covers(&begun.floor) {
            let floor = &begun.floor;
            self.tally.violations.push(format!("has seen {seen:?}, less than was seen before: {floor:?}"));
        }
        self.floor = self.floor.join(seen);
        let named: BTreeSet<Bytes> = self.changes.iter().filter_map(|change| change.element.clone()).collect();
        for element in named.union(elements) {
            let is_there = elements.contains(element);
            if is_there && !self.may_be_there(element, begun.at) {
                self.tally.violations.push(format!("holds {element:?}, whose inserts were all removed before {}", begun.at));
            }
            if !is_there && self.must_be_there(element, begun.at) {
                self.tally.violations.push(format!("lacks {element:?}, with an insert before {} that nobody saw", begun.at));
            }
        }
    }

    fn inserts(&self, element: &Bytes) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| matches!(change.what, What::Insert) && change.element.as_ref() == Some(element))
    }

    /// The removals of an element, with what their clients had seen, and when they were acknowledged.
    fn removals(&self, element: &Bytes) -> impl Iterator<Item = (Option<&VersionVector>, Option<u64>)> {
        self.changes.iter().filter_map(move |change| match &change.what {
            What::Remove(seen) if change.element.as_ref().is_none_or(|removed| removed == element) => {
                Some((seen.as_ref(), change.acknowledged.map(|(at, _)| at)))
            }
            _ => None,
        })
    }

    fn must_be_there(&self, element: &Bytes, at: u64) -> bool {
        let acknowledged = self.inserts(element).filter_map(|insert| insert.acknowledged);
        let mut before = acknowledged.filter(|(ended, _)| *ended < at);
        before.any(|(_, dot)| !self.removals(element).any(|(seen, _)| seen.is_none_or(|seen| seen.contains(dot))))
    }

    fn may_be_there(&self, element: &Bytes, at: u64) -> bool {
        self.inserts(element).any(|insert| match insert.acknowledged {
            Some((_, dot)) if !insert.retried => !self.removals(element).any(|(seen, acknowledged)| {
                acknowledged.is_some_and(|ended| ended < at) && seen.is_some_and(|seen| seen.contains(dot))
            }),
            _ => true,
        })
    }

    /// What was looked at, and what was wrong.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::NodeId;
    use kv_core::version::{Actor, Incarnation};

    fn dot(counter: u64) -> Dot {
        Dot { actor: Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 }, counter }
    }

    fn milk() -> Bytes {
        Bytes::from_static(b"milk")
    }

    fn found(history: &mut SetHistory, now: u64, elements: &[Bytes], seen: &VersionVector) -> usize {
        let before = history.tally().violations.len();
        let begun = history.read_begins(now);
        history.read_ends(&begun, &elements.iter().cloned().collect(), seen);
        history.tally().violations.len() - before
    }

    /// Milk was inserted at time 1, under dot 1.
    fn inserted() -> (SetHistory, VersionVector) {
        let mut history = SetHistory::default();
        let insert = history.insert_begins(milk());
        history.acknowledged_at(insert, 1, dot(1));
        (history, VersionVector::of(dot(1)))
    }

    #[test]
    fn an_insert_that_nobody_saw_is_there() {
        let (mut history, seen) = inserted();
        history.removal_begins(Some(milk()), Some(VersionVector::new()));
        assert_eq!(found(&mut history, 2, &[milk()], &seen), 0);
        assert_eq!(found(&mut history, 2, &[], &seen), 1);
        assert_eq!(found(&mut history, 2, &[milk(), Bytes::from_static(b"bread")], &seen), 1, "nobody put in bread");
        assert_eq!(found(&mut history, 2, &[milk()], &VersionVector::new()), 1, "back in time");
    }

    #[test]
    fn an_insert_that_was_seen_and_removed_stays_away() {
        let (mut history, seen) = inserted();
        let removal = history.removal_begins(None, Some(seen.clone()));
        assert_eq!(found(&mut history, 2, &[milk()], &seen), 0, "the removal is under way");
        assert_eq!(found(&mut history, 2, &[], &seen), 0);
        history.acknowledged_at(removal, 3, dot(2));
        let both = seen.join(&VersionVector::of(dot(2)));
        assert_eq!(found(&mut history, 4, &[], &both), 0);
        assert_eq!(found(&mut history, 4, &[milk()], &both), 1);
        history.insert_begins(milk());
        assert_eq!(found(&mut history, 5, &[milk()], &both), 0, "another insert is under way");
    }
}
