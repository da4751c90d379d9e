//! Checks what clients saw of one counter.
//!
//! Each addition has an amount of its own, a power of four, so that a value tells by its digits which additions it holds, and
//! how often.
//!
//! - *Nothing counts twice, or is made up.* No digit is over one, or below zero, or one of an addition that nobody has begun.
//! - *Nothing acknowledged is lost.* A quorum read holds every addition that was acknowledged before it began, and every one
//!   that an earlier quorum read held, unless somebody who had seen it removed it.

use std::collections::BTreeSet;

use super::tally::Tally;

/// Names an addition of a [`CounterHistory`].
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub struct AddIndex(u32);

/// How many additions a counter can tell apart.
const ADDITIONS_MAX: u32 = 31;

/// What clients did to a counter and saw of it, in the order in which it began and ended.
#[derive(Default, Debug)]
pub struct CounterHistory {
    begun: u32,
    /// Additions that every later quorum read must hold.
    held: BTreeSet<AddIndex>,
    /// Those that a removal may have taken.
    removable: BTreeSet<AddIndex>,
    /// Removals of everything whose end is not known.
    open_removals: u32,
    tally: Tally,
}

/// A quorum read under way.
#[derive(Debug)]
pub struct CounterReadBegun {
    held: BTreeSet<AddIndex>,
}

impl CounterHistory {
    /// An addition is handed to a node: its name and amount. Nothing when the counter can tell no more apart.
    pub fn add_begins(&mut self) -> Option<(AddIndex, i64)> {
        let index = AddIndex(self.begun);
        if self.begun == ADDITIONS_MAX {
            return None;
        }
        self.begun += 1;
        if self.open_removals > 0 {
            self.removable.insert(index);
        }
        Some((index, 1 << (2 * index.0)))
    }

    /// An addition was acknowledged by a quorum, perhaps at a later attempt.
    pub fn add_acknowledged(&mut self, index: AddIndex) {
        self.tally.acknowledged += 1;
        self.held.insert(index);
    }

    /// A removal is handed to a node, by a client that had read `seen`, or that says nothing of what it had seen.
    pub fn removal_begins(&mut self, seen: Option<i128>) {
        match seen {
            Some(seen) => {
                let digits = self.digits(seen);
                self.removable.extend(digits.into_iter().flatten().filter(|(_, digit)| *digit == 1).map(|(at, _)| at));
            }
            None => {
                self.removable.extend((0..self.begun).map(AddIndex));
                self.open_removals += 1;
            }
        }
    }

    /// A removal that says nothing of what its client had seen has ended, for certain.
    pub fn blind_removal_ends(&mut self) {
        self.open_removals -= 1;
    }

    /// The same removal is asked for again, because nobody knows what became of it. The attempt before may be made at any time, also
    /// after this one has ended.
    pub fn blind_removal_retried(&mut self) {
        self.open_removals += 1;
    }

    /// A quorum read is handed to a node.
    #[must_use]
    pub fn read_begins(&self) -> CounterReadBegun {
        CounterReadBegun { held: self.held.clone() }
    }

    /// A quorum read has ended.
    pub fn read_ends(&mut self, begun: &CounterReadBegun, value: i128) {
        self.tally.reads += 1;
        let Some(digits) = self.digits(value) else {
            return self.tally.violations.push(format!("{value} is no sum of what was added"));
        };
        for (index, digit) in digits {
            match digit {
                0 if begun.held.contains(&index) && !self.removable.contains(&index) => {
                    self.tally.violations.push(format!("{index:?} is missing in {value:#x}, and nobody removed it"));
                }
                0 => {}
                1 if index.0 < self.begun => {
                    self.held.insert(index);
                }
                digit => self.tally.violations.push(format!("{index:?} counts {digit} times in {value:#x}")),
            }
        }
    }

    /// How often each addition is in a value.
    fn digits(&self, value: i128) -> Option<Vec<(AddIndex, i128)>> {
        let mut rest = value;
        let mut digits = Vec::new();
        for index in 0..ADDITIONS_MAX {
            // A removal that is done twice shows as less than none.
            let digit = (rest + 1).rem_euclid(4) - 1;
            rest = (rest - digit) / 4;
            digits.push((AddIndex(index), digit));
        }
        (rest == 0).then_some(digits)
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

    /// Three additions, of which the first two are acknowledged.
    fn counted() -> (CounterHistory, [i128; 3]) {
        let mut history = CounterHistory::default();
        let added = [(); 3].map(|()| history.add_begins().unwrap());
        history.add_acknowledged(added[0].0);
        history.add_acknowledged(added[1].0);
        (history, added.map(|(_, amount)| amount.into()))
    }

    fn found(history: &mut CounterHistory, value: i128) -> usize {
        let before = history.tally().violations.len();
        let begun = history.read_begins();
        history.read_ends(&begun, value);
        history.tally().violations.len() - before
    }

    #[test]
    fn what_was_acknowledged_is_there_and_what_was_not_may_be() {
        let (mut history, [a, b, c]) = counted();
        assert_eq!(found(&mut history, a + b), 0);
        assert_eq!(found(&mut history, a + b + c), 0);
        assert_eq!(found(&mut history, a + b), 1, "the third was seen before");
        assert_eq!(found(&mut history, b + c), 1);
    }

    #[test]
    fn what_counts_twice_or_less_than_nothing_or_was_never_added_is_found() {
        let (mut history, [a, b, c]) = counted();
        assert_eq!(found(&mut history, a + 2 * b), 1);
        assert_eq!(found(&mut history, a + b - c), 1);
        assert_eq!(found(&mut history, a + b + 4 * c), 1);
        assert_eq!(found(&mut history, i128::from(i64::MAX) * 4), 1);
    }

    #[test]
    fn a_removal_may_take_what_it_had_seen_and_nothing_else() {
        let (mut history, [a, b, _]) = counted();
        history.removal_begins(Some(a));
        assert_eq!(found(&mut history, b), 0);
        assert_eq!(found(&mut history, a + b), 0, "it may not have happened yet");
        assert_eq!(found(&mut history, a), 1);
        history.removal_begins(None);
        assert_eq!(found(&mut history, 0), 0);
        history.blind_removal_ends();
        let (late, amount) = history.add_begins().unwrap();
        history.add_acknowledged(late);
        assert_eq!(found(&mut history, 0), 1, "{amount} came later");
    }

    #[test]
    fn a_blind_removal_that_was_asked_for_twice_may_take_what_is_added_later() {
        let taken = |twice: bool| {
            let (mut history, _) = counted();
            history.removal_begins(None);
            if twice {
                history.blind_removal_retried();
            }
            history.blind_removal_ends();
            let (later, _) = history.add_begins().unwrap();
            history.add_acknowledged(later);
            found(&mut history, 0) == 0
        };
        assert!(taken(true));
        assert!(!taken(false));
    }
}
