//! The version of a layout.

use std::fmt;

/// The version of a layout. Each change decided by the cluster is one epoch later than the layout it was made from; the
/// first is 1. Requests carry it, so that a node can tell an old view of ownership from its own.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The epoch of a cluster that was just founded.
    pub const FIRST: Self = Self(1);

    /// The latest that is taken from bytes. No cluster gets there, so a later one is damage; and it must not come in,
    /// because the last of all has no next.
    pub(crate) const RECEIVED_MAX: Self = Self(1 << 63);

    /// The epoch of the next change.
    ///
    /// # Panics
    /// After 2^64 changes.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("2^64 changes of one cluster"))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}
