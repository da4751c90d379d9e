//! How long a suspected node has to contradict.
//!
//! A suspicion begins with a long time-out, because whoever raised it may be the one that is slow. Each further node that
//! suspects the same by itself shortens it, by less each time, down to a floor.
//!
//! Source: Lifeguard (see [`super::health`]), section 3.B, dynamic suspicion time-outs.

use kv_core::NodeId;
use kv_core::time::Millis;

use super::pace::{CONFIRMATIONS, Pace};

/// A suspicion that runs.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    began: Millis,
    /// Who suspects; the first one began it.
    by: Vec<NodeId>,
    /// How many confirmations can come at most, and are counted.
    wanted: usize,
}

impl Suspicion {
    /// One that was raised by `by` in a cluster of `nodes`.
    pub(super) fn new(now: Millis, by: NodeId, nodes: usize) -> Self {
        // The suspected one and the one who suspects confirm nothing; where too few are left, nobody is waited for.
        let others = nodes.saturating_sub(2);
        Self { began: now, by: vec![by], wanted: if others < CONFIRMATIONS { 0 } else { CONFIRMATIONS } }
    }

    /// Counts another node's suspicion. Returns whether it is one that counts, and so is worth passing on.
    pub(super) fn confirm(&mut self, by: NodeId) -> bool {
        let counts = self.by.len() <= self.wanted && !self.by.contains(&by) && !sabotaged!(IgnoreConfirmations);
        if counts {
            self.by.push(by);
        }
        counts
    }

    /// When the node counts as dead.
    pub(super) fn deadline(&self, pace: &Pace) -> Millis {
        let (min, max) = (pace.suspicion_min(), pace.suspicion_max());
        let span = if self.wanted == 0 && !sabotaged!(IgnoreConfirmations) {
            min
        } else {
            let share = (self.by.len() as f64).ln() / (self.wanted.max(1) as f64 + 1.0).ln();
            let shorter = (max.0 - min.0) as f64 * share.min(1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the longest time")]
            Millis(max.0 - shorter as u64)
        };
        let span = if sabotaged!(NoSuspicion) { Millis::ZERO } else { span };
        self.began.saturating_add(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirmations_by_others_shorten_a_suspicion_to_its_floor() {
        let pace = Pace::new(Millis(1000), 100);
        let mut suspicion = Suspicion::new(Millis(500), NodeId(1), 100);
        assert_eq!(suspicion.deadline(&pace), Millis(48_500));
        assert!(!suspicion.confirm(NodeId(1)), "nobody confirms himself");
        assert_eq!(suspicion.deadline(&pace), Millis(48_500));
        assert!(suspicion.confirm(NodeId(2)));
        let once = suspicion.deadline(&pace);
        assert!(once > Millis(8_500) && once < Millis(30_000), "{once:?}");
        assert!(suspicion.confirm(NodeId(3)));
        assert_eq!(suspicion.deadline(&pace), Millis(8_500));
        assert!(!suspicion.confirm(NodeId(4)), "enough is enough");
        assert_eq!(suspicion.deadline(&pace), Millis(8_500));
    }

    #[test]
    fn where_nobody_is_left_to_confirm_a_suspicion_is_short() {
        let pace = Pace::new(Millis(1000), 3);
        assert_eq!(Suspicion::new(Millis(0), NodeId(1), 3).deadline(&pace), Millis(4_000));
        assert_eq!(Suspicion::new(Millis(0), NodeId(1), 4).deadline(&pace), Millis(24_000));
    }
}
