//! Checks what clients saw of one value whose parts are removed as observed: a set, or what can be told as one. A flag is the set of
//! what wins in it; a multi-value register is the set of its values, of which each write removes what it saw and inserts its own; a
//! map is the set of its keys.
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

impl ChangeIndex {
    /// How many changes began before.
    pub(super) const fn number(self) -> usize {
        self.0
    }
}

#[derive(Debug)]
struct Change {
    /// What it inserts or removes; nothing for a removal of all.
    elements: Option<BTreeSet<Bytes>>,
    what: What,
    /// When a quorum had acknowledged, and under which name.
    acknowledged: Option<(u64, Dot)>,
    /// How many changes had begun by then.
    begun_before_its_end: usize,
    /// It may have been made twice.
    retried: bool,
    /// It was refused for certain.
    abandoned: bool,
}

#[derive(Debug)]
enum What {
    Insert,
    /// With what its client had seen, if it said so.
    Remove(Option<VersionVector>),
    /// An insert that removes what its client had seen of everything else, or all that its replica held.
    Write(Option<VersionVector>),
}

/// What clients did to a set and saw of it, in the order in which it began and ended.
#[derive(Default, Debug)]
pub struct SetHistory {
    changes: Vec<Change>,
    /// Every dot that later quorum reads must know of.
    floor: VersionVector,
    pub(super) tally: Tally,
}

/// A quorum read under way.
#[derive(Debug)]
pub struct SetReadBegun {
    at: u64,
    floor: VersionVector,
}

impl SetReadBegun {
    pub(super) const fn at(&self) -> u64 {
        self.at
    }
}

impl SetHistory {
    /// An insert is handed to a node.
    pub fn insert_begins(&mut self, element: Bytes) -> ChangeIndex {
        self.begin(Some([element].into()), What::Insert)
    }

    /// A removal of some elements, or of all, is handed to a node, by a client that had seen `seen`, if it says so.
    pub fn removal_begins(&mut self, elements: Option<BTreeSet<Bytes>>, seen: Option<VersionVector>) -> ChangeIndex {
        self.begin(elements, What::Remove(seen))
    }

    /// A write of a value in place of all others is handed to a node, by a client that had seen `seen`, if it says so.
    pub fn write_begins(&mut self, value: Bytes, seen: Option<VersionVector>) -> ChangeIndex {
        self.begin(Some([value].into()), What::Write(seen))
    }

    fn begin(&mut self, elements: Option<BTreeSet<Bytes>>, what: What) -> ChangeIndex {
        let change =
            Change { elements, what, acknowledged: None, begun_before_its_end: 0, retried: false, abandoned: false };
        self.changes.push(change);
        ChangeIndex(self.changes.len() - 1)
    }

    /// A change was refused, with an error that says that nothing was written.
    pub fn abandoned(&mut self, change: ChangeIndex) {
        self.changes[change.0].abandoned = true;
    }

    /// A client asks for a change again, because it does not know what became of it.
    pub fn retried(&mut self, change: ChangeIndex) {
        self.changes[change.0].retried = true;
    }

    /// A change was acknowledged by a quorum at time `now`.
    pub fn acknowledged_at(&mut self, change: ChangeIndex, now: u64, dot: Dot) {
        let begun = self.changes.len();
        let change = &mut self.changes[change.0];
        if change.acknowledged.is_none() {
            change.acknowledged = Some((now, dot));
            change.begun_before_its_end = begun;
        }
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
        let named: BTreeSet<Bytes> =
            self.changes.iter().filter_map(|change| change.elements.clone()).flatten().collect();
        for element in named.union(elements) {
            let is_there = elements.contains(element);
            if is_there && !self.may_be_there(element, begun.at) {
                self.tally
                    .violations
                    .push(format!("holds {element:?}, whose inserts were all removed before {}", begun.at));
            }
            if !is_there && self.must_be_there(element, begun.at) {
                self.tally
                    .violations
                    .push(format!("lacks {element:?}, with an insert before {} that nobody saw", begun.at));
            }
        }
    }

    fn inserts(&self, element: &Bytes) -> impl Iterator<Item = (usize, &Change)> {
        self.changes.iter().enumerate().filter(move |(_, change)| {
            let inserts = matches!(change.what, What::Insert | What::Write(_));
            inserts && !change.abandoned && change.elements.as_ref().is_some_and(|inserted| inserted.contains(element))
        })
    }

    /// The changes that remove an element, with what their clients had seen.
    fn removals(&self, element: &Bytes) -> impl Iterator<Item = (&Change, Option<&VersionVector>)> {
        let of = move |change: &Change| change.elements.as_ref().map(|elements| elements.contains(element));
        self.changes.iter().filter(|change| !change.abandoned).filter_map(move |change| match &change.what {
            What::Remove(seen) if of(change) != Some(false) => Some((change, seen.as_ref())),
            What::Write(seen) if of(change) == Some(false) => Some((change, seen.as_ref())),
            _ => None,
        })
    }

    /// Whether a removal may have taken an element that was inserted by the change of this number, under this dot.
    pub(super) fn may_be_removed(&self, element: &Bytes, number: usize, dot: Dot) -> bool {
        self.removals(element).any(|(removal, seen)| match seen {
            Some(seen) => seen.contains(dot),
            // All that its replica held: nothing that began after it had ended.
            None => removal.acknowledged.is_none() || number < removal.begun_before_its_end,
        })
    }

    fn must_be_there(&self, element: &Bytes, at: u64) -> bool {
        self.inserts(element).any(|(number, insert)| {
            let before = insert.acknowledged.filter(|(ended, _)| *ended < at);
            before.is_some_and(|(_, dot)| !self.may_be_removed(element, number, dot))
        })
    }

    fn may_be_there(&self, element: &Bytes, at: u64) -> bool {
        self.inserts(element).any(|(_, insert)| match insert.acknowledged {
            Some((_, dot)) if !insert.retried => !self.removals(element).any(|(removal, seen)| {
                removal.acknowledged.is_some_and(|(ended, _)| ended < at) && seen.is_some_and(|seen| seen.contains(dot))
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
        history.removal_begins(Some([milk()].into()), Some(VersionVector::new()));
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

    #[test]
    fn a_blind_removal_may_take_what_began_before_it_ended() {
        let (mut history, seen) = inserted();
        let blind = history.removal_begins(None, None);
        assert_eq!(found(&mut history, 2, &[], &seen), 0);
        history.acknowledged_at(blind, 3, dot(2));
        assert_eq!(found(&mut history, 4, &[milk()], &seen.join(&VersionVector::of(dot(2)))), 0, "nobody knows");
        let later = history.insert_begins(milk());
        history.acknowledged_at(later, 5, dot(3));
        let all = [1, 2, 3].map(dot).into_iter().collect();
        assert_eq!(found(&mut history, 6, &[], &all), 1);
    }

    #[test]
    fn what_was_refused_is_not_there() {
        let mut history = SetHistory::default();
        let refused = history.insert_begins(milk());
        assert_eq!(found(&mut history, 1, &[milk()], &VersionVector::new()), 0);
        history.abandoned(refused);
        assert_eq!(found(&mut history, 2, &[milk()], &VersionVector::new()), 1);
    }

    #[test]
    fn a_write_replaces_what_its_writer_saw_and_nothing_else() {
        let [left, right] = ["left", "right"].map(|value| Bytes::from_static(value.as_bytes()));
        let (mut history, seen) = inserted();
        for (value, counter) in [(&left, 2), (&right, 3)] {
            let write = history.write_begins(value.clone(), Some(seen.clone()));
            history.acknowledged_at(write, 3, dot(counter));
        }
        let all = [1, 2, 3].map(dot).into_iter().collect();
        assert_eq!(found(&mut history, 4, &[left.clone(), right.clone()], &all), 0);
        assert_eq!(found(&mut history, 4, std::slice::from_ref(&left), &all), 1, "neither writer saw the other");
        assert_eq!(found(&mut history, 4, &[left, right, milk()], &all), 1, "both saw the milk");
    }
}
