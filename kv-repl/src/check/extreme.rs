//! Checks what clients saw of one max or min register.
//!
//! - *Nothing acknowledged is lost, and no read goes back.* A quorum read gives a number that no acknowledged offer tops, and none that an
//!   earlier quorum read gave.
//! - *Nothing is made up.* It was offered.

use std::collections::BTreeSet;

use kv_core::crdt::Kind;

use super::tally::Tally;

/// What clients offered to a register that nobody clears, and saw of it.
#[derive(Debug)]
pub struct ExtremeHistory {
    is_max: bool,
    offered: BTreeSet<i64>,
    /// What later quorum reads must reach.
    floor: Option<i64>,
    tally: Tally,
}

/// A quorum read under way.
#[derive(Debug)]
pub struct ExtremeReadBegun {
    floor: Option<i64>,
}

impl ExtremeHistory {
    /// Of a register of this kind: [`Kind::MaxRegister`], or the other one.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self { is_max: kind == Kind::MaxRegister, offered: BTreeSet::new(), floor: None, tally: Tally::default() }
    }

    /// A number is offered, perhaps again.
    pub fn offer_begins(&mut self, number: i64) {
        self.offered.insert(number);
    }

    /// An offer was acknowledged by a quorum.
    pub fn acknowledged(&mut self, number: i64) {
        self.tally.acknowledged += 1;
        self.raise(number);
    }

    /// A quorum read is handed to a node.
    #[must_use]
    pub const fn read_begins(&self) -> ExtremeReadBegun {
        ExtremeReadBegun { floor: self.floor }
    }

    /// A quorum read has ended.
    pub fn read_ends(&mut self, begun: &ExtremeReadBegun, number: Option<i64>) {
        self.tally.reads += 1;
        if let Some(floor) = begun.floor
            && number.is_none_or(|number| self.tops(floor, number))
        {
            self.tally.violations.push(format!("holds {number:?}, which {floor} tops"));
        }
        if let Some(number) = number {
            if !self.offered.contains(&number) {
                self.tally.violations.push(format!("holds {number}, which nobody offered"));
            }
            self.raise(number);
        }
    }

    fn raise(&mut self, number: i64) {
        if self.floor.is_none_or(|floor| self.tops(number, floor)) {
            self.floor = Some(number);
        }
    }

    const fn tops(&self, a: i64, b: i64) -> bool {
        if self.is_max { a > b } else { a < b }
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

    #[test]
    fn what_was_acknowledged_or_seen_is_topped_from_then_on() {
        for (kind, sign) in [(Kind::MaxRegister, 1), (Kind::MinRegister, -1)] {
            let mut history = ExtremeHistory::new(kind);
            let found = |history: &mut ExtremeHistory, number: Option<i64>| {
                let before = history.tally().violations.len();
                let begun = history.read_begins();
                history.read_ends(&begun, number.map(|number| number * sign));
                history.tally().violations.len() - before
            };
            for number in [3, 5, 9] {
                history.offer_begins(number * sign);
            }
            assert_eq!(found(&mut history, None), 0);
            let early = history.read_begins();
            history.acknowledged(5 * sign);
            assert_eq!(found(&mut history, Some(3)), 1);
            assert_eq!(found(&mut history, None), 1);
            assert_eq!(found(&mut history, Some(5)), 0);
            assert_eq!(found(&mut history, Some(6)), 1, "nobody offered it");
            assert_eq!(found(&mut history, Some(9)), 0, "it may have been made");
            assert_eq!(found(&mut history, Some(5)), 1, "back in time");
            let before = history.tally().violations.len();
            history.read_ends(&early, Some(3 * sign));
            assert_eq!(history.tally().violations.len(), before, "it began before");
        }
    }
}
