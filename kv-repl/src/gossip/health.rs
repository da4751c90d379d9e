//! How well this node itself is doing.
//!
//! A node whose messages are handled late takes everybody else for dead. So it watches itself: when what it expects does not
//! come, it gives others more time before it blames them.
//!
//! Source: Dadgar, Phillips and Currey, "Lifeguard: local health awareness for more accurate failure detection" (2018),
//! section 3.A, the local health multiplier.

/// The multiplier's last step: nobody is given more than eight times as long.
const WORST: u32 = 7;

/// A score from zero, well, to [`WORST`].
#[derive(Copy, Clone, Default, Debug)]
pub(super) struct Health {
    score: u32,
}

impl Health {
    /// Something that was expected came in time.
    pub(super) const fn better(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    /// So many things that were expected did not come.
    pub(super) fn worse(&mut self, by: usize) {
        self.score = self.score.saturating_add(u32::try_from(by).unwrap_or(WORST)).min(WORST);
    }

    /// How many times as long others are given.
    pub(super) fn multiplier(self) -> u64 {
        if sabotaged!(NoLocalHealth) { 1 } else { u64::from(self.score) + 1 }
    }
}
