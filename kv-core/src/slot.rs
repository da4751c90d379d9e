//! Small integers that name entries of a slab, so that links and marks are array elements and not allocations.

/// A place in the owner's slab. Whoever keeps state by slot (a [timing wheel](crate::wheel), an [eviction policy](crate::evict)) uses
/// it as an index into arrays, so an owner hands out low numbers and uses freed ones again.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct Slot(pub u32);

impl Slot {
    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The end of a list of slots. No slot has this number.
pub(crate) const NONE: u32 = u32::MAX;
