//! Which unsynced changes a power cut leaves behind.

use super::random::Random;

/// What survives of the changes that were not synced.
///
/// The changes are counted in units, in the order in which they happened: one sector of one write, one change of a
/// length, or one change of a name (a rename is one unit, with both its effects). What was synced always survives.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Survival {
    /// Nothing.
    None,
    /// Everything: as if the machine had been shut down in order.
    All,
    /// Everything but the unit of that number, counted from zero.
    AllBut(u64),
    /// The unit of that number and nothing else.
    Only(u64),
    /// So many of the oldest units: a disk that writes in order.
    Prefix(u64),
    /// Any subset, chosen by this seed. Each file, and the names, get odds of their own, from nothing to everything,
    /// so that one file may be lost whole while another is kept.
    Random(u64),
}

/// Decides unit after unit.
pub(super) struct Lottery {
    survival: Survival,
    drawn: u64,
    random: Random,
}

impl Lottery {
    pub(super) fn new(survival: Survival) -> Self {
        let seed = if let Survival::Random(seed) = survival { seed } else { 0 };
        Self { survival, drawn: 0, random: Random::new(seed) }
    }

    /// Whether the next unit survives; `group` tells files and names apart.
    pub(super) fn draw(&mut self, group: u64) -> bool {
        let unit = self.drawn;
        self.drawn += 1;
        match self.survival {
            Survival::None => false,
            Survival::All => true,
            Survival::AllBut(lost) => unit != lost,
            Survival::Only(kept) => unit == kept,
            Survival::Prefix(kept) => unit < kept,
            Survival::Random(seed) => {
                let odds = Random::new(seed ^ group.wrapping_mul(0xa076_1d64_78bd_642f)).below(5);
                self.random.chance([0, 1, 4, 7, 8][usize::try_from(odds).expect("below five")])
            }
        }
    }
}
