//! How often nodes change their minds about each other.

use super::Histogram;
use crate::liveness::{Liveness, LivenessChange};

/// What this node has believed of others, in this life. Whom it believes what of at the moment is in
/// [`Status::peers`](crate::status::Status::peers).
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct BeliefStats {
    /// How often a peer that was alive was suspected.
    pub suspected: u64,
    /// How often one that was suspected was alive after all.
    pub refuted: u64,
    /// How often one was believed to be dead.
    pub died: u64,
    /// How often one that was believed to be dead came back.
    pub returned: u64,
    /// How often this node has heard that it was suspected itself, and contradicted.
    pub contradicted: u64,
}

impl BeliefStats {
    pub(crate) const fn count(&mut self, change: &LivenessChange) {
        match (change.before, change.after) {
            (_, Liveness::Dead) => self.died += 1,
            (Liveness::Dead, _) => self.returned += 1,
            (_, Liveness::Suspect) => self.suspected += 1,
            (Liveness::Suspect, Liveness::Alive) => self.refuted += 1,
            (Liveness::Alive, Liveness::Alive) => {}
        }
    }
}

/// How long peers take to answer, in microseconds. Protocols know time to the millisecond, so what is below one is zero.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct RoundTrips {
    /// Pings of failure detection, which nothing delays.
    pub pings: Histogram,
    /// Questions of reads to replicas, of those that answered the first time that they were asked.
    pub reads: Histogram,
}
