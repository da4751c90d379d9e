//! Checks what clients saw of one value whose parts are removed as observed: a set, or what can be told as one. A flag is the set of
//! what wins in it; a multi-value register is the set of its values, of which each write removes what it saw and inserts its own; a
//! map is the set of its keys.
//!
//! - *Inserts win.* An element is in a quorum read when an insert of it was acknowledged before the read began that no removal
//!   had seen, nor a later insert of it that had taken its place.
//! - *Nothing comes back.* An element is not in a quorum read when every insert of it was seen by a removal that was acknowledged
//!   before the read began.
//! - *No read goes back in time.* A quorum read has seen all that an earlier one had, and every change acknowledged before it began.
//!
//! An attempt whose outcome nobody knows may be made at any time, and then takes what its replica holds, unless it says what its
//! client had seen. It leaves a trace: a quorum read without what it took has seen a dot that names nothing acknowledged, and that nobody
//! had seen when what was taken was put in. Without such a trace it is no excuse.

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
    /// What was known to have been made when it began.
    known: VersionVector,
    acknowledged: Option<Acknowledged>,
    /// It may have been made twice.
    retried: bool,
    /// It was refused for certain.
    abandoned: bool,
}

/// That a quorum had acknowledged a change.
#[derive(Debug)]
struct Acknowledged {
    at: u64,
    /// Under which name.
    dot: Dot,
    /// What its client was told that it covers: its own name, and of an insert also those whose place it took.
    told: VersionVector,
    /// How many changes had begun by then.
    begun: usize,
}

impl Change {
    /// An attempt may be made, or have been made, that was never acknowledged.
    const fn is_open(&self) -> bool {
        !self.abandoned && (self.acknowledged.is_none() || self.retried)
    }
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
    /// What names a change that was acknowledged.
    named: VersionVector,
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
            Change { elements, what, known: self.floor.clone(), acknowledged: None, retried: false, abandoned: false };
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

    /// A change was acknowledged by a quorum at time `now`, and its client was told that it covers `told`.
    pub fn acknowledged_at(&mut self, change: ChangeIndex, now: u64, dot: Dot, told: VersionVector) {
        let begun = self.changes.len();
        let change = &mut self.changes[change.0];
        if change.acknowledged.is_none() {
            change.acknowledged = Some(Acknowledged { at: now, dot, told, begun });
        }
        self.named.insert(dot);
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
            if !is_there && self.must_be_there(element, begun.at, seen) {
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

    /// The changes that remove an element, with their numbers and what their clients had seen.
    fn removals(&self, element: &Bytes) -> impl Iterator<Item = (usize, &Change, Option<&VersionVector>)> {
        let of = move |change: &Change| change.elements.as_ref().map(|elements| elements.contains(element));
        let changes = self.changes.iter().enumerate().filter(|(_, change)| !change.abandoned);
        changes.filter_map(move |(number, change)| match &change.what {
            What::Remove(seen) if of(change) != Some(false) => Some((number, change, seen.as_ref())),
            What::Write(seen) if of(change) == Some(false) => Some((number, change, seen.as_ref())),
            _ => None,
        })
    }

    /// Whether a removal may have taken an element that was inserted by the change of this number, under this dot, from a read that has seen
    /// `seen`.
    pub(super) fn may_be_removed(&self, element: &Bytes, number: usize, dot: Dot, seen: &VersionVector) -> bool {
        let insert = &self.changes[number];
        // Something that was made after it, and that was never acknowledged.
        let shows_more = |seen: &VersionVector| !self.named.join(&insert.known).covers(seen);
        let heirs = self.heirs(element, dot);
        let is_open = self.inserts(element).any(|(_, insert)| insert.is_open());
        self.removals(element).any(|(removed, removal, had_seen)| match had_seen {
            Some(had_seen) => {
                heirs.iter().any(|heir| had_seen.contains(*heir))
                    || (is_open && number < removed && shows_more(had_seen))
            }
            // All that its replica held: nothing that began after it had ended.
            None => {
                let ended = removal.acknowledged.as_ref();
                ended.is_some_and(|ended| number < ended.begun && seen.contains(ended.dot))
                    || (removal.is_open() && shows_more(seen))
            }
        })
    }

    /// The names of an insert and of the later ones of the same element that have taken its place.
    fn heirs(&self, element: &Bytes, dot: Dot) -> Vec<Dot> {
        let mut heirs = vec![dot];
        let acknowledged = || self.inserts(element).filter_map(|(_, insert)| insert.acknowledged.as_ref());
        let mut next = 0;
        while let Some(of) = heirs.get(next).copied() {
            let new: Vec<_> = acknowledged()
                .filter(|heir| heir.told.contains(of) && !heirs.contains(&heir.dot))
                .map(|heir| heir.dot)
                .collect();
            heirs.extend(new);
            next += 1;
        }
        heirs
    }

    fn must_be_there(&self, element: &Bytes, at: u64, seen: &VersionVector) -> bool {
        self.inserts(element).any(|(number, insert)| {
            let before = insert.acknowledged.as_ref().filter(|insert| insert.at < at);
            before.is_some_and(|before| !self.may_be_removed(element, number, before.dot, seen))
        })
    }

    fn may_be_there(&self, element: &Bytes, at: u64) -> bool {
        self.inserts(element).any(|(_, insert)| match &insert.acknowledged {
            Some(Acknowledged { dot, .. }) if !insert.retried => !self.removals(element).any(|(_, removal, seen)| {
                removal.acknowledged.as_ref().is_some_and(|removal| removal.at < at)
                    && seen.is_some_and(|seen| seen.contains(*dot))
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
mod tests;
