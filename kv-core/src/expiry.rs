//! When a version stops being visible.

use thiserror::Error;

use crate::time::Millis;

/// An absolute time inside a version, or never. It never changes after the write: only reads look at the clock, and a join
/// ignores it, so that replicas whose clocks differ still hold equal bytes.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug, Default)]
pub struct Expiry(Option<Millis>);

/// A time to live that cannot be meant.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Error)]
pub enum InvalidTtl {
    /// A version that is never visible.
    #[error("a time to live of zero")]
    Zero,
    /// Past the end of time.
    #[error("a time to live that overflows")]
    Overflow,
}

impl Expiry {
    /// Visible for ever.
    pub const NEVER: Self = Self(None);

    /// Visible before `at` (wall time), and not from then on.
    #[must_use]
    pub const fn at(at: Millis) -> Self {
        Self(Some(at))
    }

    /// Visible for `ttl` from `now` (wall time).
    ///
    /// # Errors
    /// [`InvalidTtl`].
    pub fn after(now: Millis, ttl: Millis) -> Result<Self, InvalidTtl> {
        if ttl == Millis::ZERO {
            return Err(InvalidTtl::Zero);
        }
        now.0.checked_add(ttl.0).map(|at| Self(Some(Millis(at)))).ok_or(InvalidTtl::Overflow)
    }

    /// The time, unless never.
    #[must_use]
    pub const fn time(self) -> Option<Millis> {
        self.0
    }

    /// How long it is until then at `now` (wall time).
    #[must_use]
    pub fn ttl(self, now: Millis) -> Ttl {
        match self.0 {
            None => Ttl::Forever,
            Some(at) if at <= now => Ttl::Expired,
            Some(at) => Ttl::Left(at.saturating_sub(now)),
        }
    }

    /// Whether the time has come at `now` (wall time).
    #[must_use]
    pub fn is_past(self, now: Millis) -> bool {
        self.0.is_some_and(|at| at <= now)
    }
}

/// How long a version stays visible, from shorter to longer.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Ttl {
    /// Not any more.
    Expired,
    /// So long, and at least a millisecond.
    Left(Millis),
    /// For ever.
    Forever,
}

/// What to do about the expiry of a key that is there. The expiry of a version never changes, so the value is written
/// again with the new one: [`Record::expiring`](crate::record::Record::expiring).
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Expiring {
    /// Take the expiry away.
    Persist,
    /// Let it live that long from now on.
    Touch(Millis),
    /// Let it live until that wall time. A time that has come hides it at once.
    At(Millis),
}

impl Expiring {
    /// The new expiry at `now` (wall time).
    ///
    /// # Errors
    /// [`InvalidTtl`], of [`Expiring::Touch`].
    pub fn expiry(self, now: Millis) -> Result<Expiry, InvalidTtl> {
        match self {
            Self::Persist => Ok(Expiry::NEVER),
            Self::Touch(ttl) => Expiry::after(now, ttl),
            Self::At(at) => Ok(Expiry::at(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_absolute_and_checked() {
        let expiry = Expiry::after(Millis(100), Millis(50)).unwrap();
        assert_eq!(expiry, Expiry::at(Millis(150)));
        assert!(!expiry.is_past(Millis(149)));
        assert!(expiry.is_past(Millis(150)));
        assert!(!Expiry::NEVER.is_past(Millis::MAX));
        assert_eq!(Expiry::after(Millis(1), Millis::ZERO), Err(InvalidTtl::Zero));
        assert_eq!(Expiry::after(Millis(1), Millis::MAX), Err(InvalidTtl::Overflow));
        assert_eq!(expiry.ttl(Millis(149)), Ttl::Left(Millis(1)));
        assert_eq!(expiry.ttl(Millis(150)), Ttl::Expired);
        assert!(Ttl::Expired < Ttl::Left(Millis(1)) && Ttl::Left(Millis::MAX) < Ttl::Forever);
        assert_eq!(Expiring::Touch(Millis::ZERO).expiry(Millis(1)), Err(InvalidTtl::Zero));
        assert_eq!(Expiring::Touch(Millis::MAX).expiry(Millis(1)), Err(InvalidTtl::Overflow));
    }
}
