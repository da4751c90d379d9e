//! A hybrid logical clock.
//!
//! Source: Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical physical clocks" (OPODIS 2014). A stamp is wall time in
//! milliseconds with a count below it, so it orders like time and like causality at once.
//!
//! Two rules keep one bad clock from poisoning the rest: a stamp too far ahead of the wall is refused where it would be
//! *minted*, never where it is replicated; and what is replicated moves this clock no further than the same bound.

use std::fmt;

use thiserror::Error;

use crate::time::Millis;

/// A point in hybrid time: 48 bits of milliseconds since the Unix epoch, then 16 bits of count.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Stamp(pub u64);

const COUNT_BITS: u32 = 16;

impl Stamp {
    /// Before every minted stamp.
    pub const ZERO: Self = Self(0);

    /// The first stamp of a millisecond.
    #[must_use]
    pub const fn at(wall: Millis) -> Self {
        // Forty-eight bits last until the year 10889; a clock beyond that stays at the end.
        let capped = if wall.0 > u64::MAX >> COUNT_BITS { u64::MAX >> COUNT_BITS } else { wall.0 };
        Self(capped << COUNT_BITS)
    }

    /// The millisecond it lies in.
    #[must_use]
    pub const fn wall(self) -> Millis {
        Millis(self.0 >> COUNT_BITS)
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall().0, self.0 & 0xffff)
    }
}

/// A stamp would have to be minted too far ahead of the wall clock. Nothing was changed.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
#[error("the clock would run {ahead:?} ahead of the wall, more than {drift_max:?}")]
pub struct ClockDrift {
    /// How far.
    pub ahead: Millis,
    /// The bound.
    pub drift_max: Millis,
}

/// Mints stamps that only ascend.
#[derive(Clone, Debug)]
pub struct Hlc {
    last: Stamp,
    drift_max: Millis,
}

impl Hlc {
    /// How far a minted stamp may lie ahead of the wall, unless chosen otherwise.
    pub const DRIFT_MAX: Millis = Millis(500);

    /// A clock that continues above `high_water`, the durable bound of what an earlier life has minted.
    #[must_use]
    pub const fn new(high_water: Stamp, drift_max: Millis) -> Self {
        Self { last: high_water, drift_max }
    }

    /// The highest stamp minted or observed.
    #[must_use]
    pub const fn last(&self) -> Stamp {
        self.last
    }

    /// A stamp above all before, above `after`, and not below the wall.
    ///
    /// # Errors
    /// [`ClockDrift`] when it would lie more than the bound ahead of `wall`; the clock is as before.
    pub fn mint(&mut self, wall: Millis, after: Stamp) -> Result<Stamp, ClockDrift> {
        let above = Stamp(self.last.max(after).0.saturating_add(1));
        let stamp = Stamp::at(wall).max(above);
        let ahead = stamp.wall().saturating_sub(wall);
        if ahead > self.drift_max || stamp == Stamp(u64::MAX) {
            return Err(ClockDrift { ahead, drift_max: self.drift_max });
        }
        self.last = stamp;
        Ok(stamp)
    }

    /// Learns of a stamp minted elsewhere, but goes no further than the bound ahead of `wall`.
    pub fn observe(&mut self, stamp: Stamp, wall: Millis) {
        self.last = self.last.max(stamp.min(Stamp::at(wall.saturating_add(self.drift_max))));
    }
}

/// The durable bound of what a clock has minted, so that the next life of a node begins above the stamps of this one.
///
/// It is kept ahead of the stamps, so that not every one of them costs a write: a new bound must be stored, in the batch of
/// the write that was stamped or before it, each time that a stamp passes the old one.
#[derive(Clone, Debug)]
pub struct HighWater {
    stored: Stamp,
    ahead: Millis,
}

impl HighWater {
    /// Continues from what is stored. A restart may begin `ahead` of the wall, so that must be less than the bound on drift.
    #[must_use]
    pub const fn new(stored: Stamp, ahead: Millis) -> Self {
        Self { stored, ahead }
    }

    /// The bound to store before `minted` is used, if it passes the one before. It counts as stored from here on.
    pub fn raise(&mut self, minted: Stamp) -> Option<Stamp> {
        if minted <= self.stored {
            return None;
        }
        // A stamp of the last millisecond there is may lie above every bound that time can give.
        self.stored = Stamp::at(minted.wall().saturating_add(self.ahead)).max(minted);
        Some(self.stored)
    }

    /// What was to be stored was not.
    pub const fn lost(&mut self) {
        self.stored = Stamp::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_was_not_stored_is_asked_for_again() {
        let mut bound = HighWater::new(Stamp::ZERO, Millis(1_000));
        let minted = Stamp::at(Millis(50));
        assert!(bound.raise(minted).is_some());
        assert_eq!(bound.raise(minted), None, "it counts as stored");
        bound.lost();
        assert!(bound.raise(minted).is_some());
    }
    use proptest::prelude::*;

    #[test]
    fn stamps_ascend_through_a_clock_that_goes_back() {
        let mut clock = Hlc::new(Stamp::ZERO, Hlc::DRIFT_MAX);
        let mut last = Stamp::ZERO;
        for wall in [1000, 1000, 1001, 990, 990, 1400, 1000] {
            let stamp = clock.mint(Millis(wall), Stamp::ZERO).unwrap();
            assert!(stamp > last);
            last = stamp;
        }
    }

    #[test]
    fn protocol_rule_16_drift_is_refused_at_minting_only() {
        let mut clock = Hlc::new(Stamp::ZERO, Hlc::DRIFT_MAX);
        let year_ahead = Stamp::at(Millis(1_000_000_000));
        clock.observe(year_ahead, Millis(1000));
        assert_eq!(
            clock.last(),
            Stamp::at(Millis(1500)),
            "an observed stamp moves the clock no further than the bound"
        );
        assert!(clock.mint(Millis(1000), Stamp::ZERO).is_ok());
        let refused = clock.mint(Millis(1000), year_ahead).unwrap_err();
        assert_eq!(refused.drift_max, Hlc::DRIFT_MAX);
        assert!(clock.last() < year_ahead, "a refusal leaves the clock as it was");
    }

    #[test]
    fn a_clock_continues_above_its_durable_mark() {
        let mut clock = Hlc::new(Stamp::at(Millis(1250)), Hlc::DRIFT_MAX);
        assert!(clock.mint(Millis(1000), Stamp::ZERO).unwrap() > Stamp::at(Millis(1250)));
    }

    #[test]
    fn the_end_of_time_is_an_error_and_not_a_wrap() {
        let mut clock = Hlc::new(Stamp(u64::MAX), Hlc::DRIFT_MAX);
        assert!(clock.mint(Millis(u64::MAX), Stamp::ZERO).is_err());
    }

    proptest! {
        /// Clocks that jump, peers that lie, power cuts: what is minted ascends through all lives, is never further ahead
        /// of the wall than the bound, and covers every stamp that was to be topped.
        #[test]
        fn stamps_ascend_through_all_lives_and_stay_within_the_bound(
            steps in prop::collection::vec((0_u8..8, 0_u64..3000, 0_u64..5000), 1..60)
        ) {
            const AHEAD: Millis = Millis(400);
            let (mut clock, mut stored) = (Hlc::new(Stamp::ZERO, Hlc::DRIFT_MAX), Stamp::ZERO);
            let mut high_water = HighWater::new(stored, AHEAD);
            let mut last = Stamp::ZERO;
            for (what, wall, other) in steps {
                let (wall, other) = (Millis(wall), Stamp::at(Millis(other)));
                match what {
                    0 => {
                        clock = Hlc::new(stored, Hlc::DRIFT_MAX);
                        high_water = HighWater::new(stored, AHEAD);
                    }
                    1 | 2 => {
                        let before = clock.last();
                        clock.observe(other, wall);
                        prop_assert!(clock.last() >= before);
                        prop_assert!(clock.last() <= before.max(Stamp::at(Millis(wall.0 + 500))));
                    }
                    _ => {
                        let after = if what == 3 { other } else { Stamp::ZERO };
                        let before = clock.last();
                        match clock.mint(wall, after) {
                            Ok(stamp) => {
                                prop_assert!(stamp > last && stamp > after && stamp >= Stamp::at(wall));
                                prop_assert!(stamp.wall() <= Millis(wall.0 + 500));
                                last = stamp;
                                if let Some(bound) = high_water.raise(stamp) {
                                    stored = bound;
                                }
                                prop_assert!(stored >= stamp, "durable before it is used");
                            }
                            Err(refused) => {
                                prop_assert!(refused.ahead > refused.drift_max);
                                prop_assert_eq!(clock.last(), before, "a refusal changes nothing");
                            }
                        }
                    }
                }
            }
        }
    }
}
