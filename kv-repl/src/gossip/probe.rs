//! Whom to ask next whether it lives, and how that question stands.
//!
//! 1. Everybody is asked once before anybody is asked again, in an order that is drawn anew each time. So a dead node is
//!    asked by everybody within two rounds, and by somebody within a few periods.
//! 2. Who does not answer in half a period is asked through a few others, for the rest of it.
//! 3. A helper that reaches nobody either says so. So silence of the helpers, too, speaks of this node's own health and not
//!    of the one that was asked.
//!
//! Sources: SWIM (see [`crate::liveness`]), sections 3.1 and 4.3; Lifeguard (see [`super::health`]), section 3.A.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::time::Millis;

use super::pace::RELAYS_MAX;
use crate::liveness::Claim;

/// The order in which members are asked.
#[derive(Debug, Default)]
pub(super) struct Round {
    left: Vec<NodeId>,
}

impl Round {
    /// The next one of `members` that is to be asked, if any is.
    pub(super) fn next(
        &mut self,
        random: &mut fastrand::Rng,
        members: impl Fn() -> Vec<NodeId>,
        fits: impl Fn(NodeId) -> bool,
    ) -> Option<NodeId> {
        for _ in 0..2 {
            while let Some(node) = self.left.pop() {
                if fits(node) {
                    return Some(node);
                }
            }
            self.left = members();
            random.shuffle(&mut self.left);
        }
        None
    }
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) target: NodeId,
    /// The target's latest claim when it was asked.
    pub(super) claim: Claim,
    pub(super) sequence: u64,
    asked_at: Millis,
    /// When to ask for help.
    direct_until: Millis,
    /// When it is over.
    pub(super) until: Millis,
    helpers: Option<BTreeSet<NodeId>>,
    /// Helpers that have said they reached nobody either.
    nacks: usize,
    answered: bool,
}

/// What a question that is over says.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Verdict {
    /// It lives.
    Answered,
    /// It did not answer.
    Silent {
        /// So many things that were to come did not come.
        missing: usize,
    },
    /// Nobody who was asked has answered: this says nothing of the target, but that this node is slow or cut off.
    Unheard {
        /// So many things that were to come did not come.
        missing: usize,
    },
}

impl Probe {
    pub(super) const fn new(
        now: Millis,
        target: NodeId,
        claim: Claim,
        sequence: u64,
        direct: Millis,
        whole: Millis,
    ) -> Self {
        Self {
            target,
            claim,
            sequence,
            asked_at: now,
            direct_until: now.saturating_add(direct),
            until: now.saturating_add(whole),
            helpers: None,
            nacks: 0,
            answered: false,
        }
    }

    /// Whether it is time to ask for help.
    pub(super) const fn needs_help(&self, now: Millis) -> bool {
        !self.answered && self.helpers.is_none() && self.direct_until.0 <= now.0
    }

    pub(super) fn helped_by(&mut self, helpers: &[NodeId]) {
        self.helpers = Some(helpers.iter().copied().collect());
    }

    /// Takes an answer. Returns how long it took, when it came from the target itself and is the first one.
    pub(super) fn answered(&mut self, now: Millis, from: NodeId) -> Option<Millis> {
        let by_helper = self.helpers.as_ref().is_some_and(|helpers| helpers.contains(&from));
        let first = !self.answered;
        self.answered |= from == self.target || by_helper;
        (first && from == self.target).then(|| now.saturating_sub(self.asked_at))
    }

    pub(super) const fn is_answered(&self) -> bool {
        self.answered
    }

    /// A helper reached nobody.
    pub(super) fn nack(&mut self, from: NodeId) {
        if self.helpers.as_mut().is_some_and(|helpers| helpers.remove(&from)) {
            self.nacks += 1;
        }
    }

    /// What it came to. `is_cut_off` says that no message at all has come from anybody for long.
    pub(super) fn verdict(&self, is_cut_off: bool) -> Verdict {
        let silent_helpers = self.helpers.as_ref().map_or(0, BTreeSet::len);
        match (self.answered, silent_helpers, self.nacks) {
            (true, ..) => Verdict::Answered,
            // There was nobody to ask: all that is known is that this one is silent.
            (false, 0, 0) => Verdict::Silent { missing: 1 },
            (false, missing, 0) if !is_cut_off && !sabotaged!(NoLocalHealth) => Verdict::Unheard { missing },
            (false, missing, _) => Verdict::Silent { missing },
        }
    }

    /// When something is to be done about it.
    pub(super) const fn next_deadline(&self) -> Millis {
        if self.answered || self.helpers.is_some() { self.until } else { self.direct_until }
    }
}

/// Questions that are carried out for others, by the number of the question to the target.
#[derive(Debug, Default)]
pub(super) struct Relays {
    under_way: BTreeMap<u64, Relay>,
}

/// A question that somebody else asks through this node.
#[derive(Copy, Clone, Debug)]
pub(super) struct Relay {
    pub(super) asker: NodeId,
    /// The asker's number.
    pub(super) sequence: u64,
    target: NodeId,
    nack_at: Millis,
    said_so: bool,
    forget_at: Millis,
}

impl Relays {
    /// Notes a question. Returns whether it is to be carried out: not when too many are.
    pub(super) fn begin(
        &mut self,
        number: u64,
        asker: NodeId,
        sequence: u64,
        target: NodeId,
        nack_at: Millis,
        forget_at: Millis,
    ) -> bool {
        let room = self.under_way.len() < RELAYS_MAX;
        if room {
            self.under_way.insert(number, Relay { asker, sequence, target, nack_at, said_so: false, forget_at });
        }
        room
    }

    /// The target has answered. Returns whom to tell.
    pub(super) fn answered(&mut self, from: NodeId, number: u64) -> Option<Relay> {
        self.under_way.get(&number).filter(|relay| relay.target == from)?;
        self.under_way.remove(&number)
    }

    /// Those whose askers are to hear that nobody was reached. Their answers, should they still come, are passed on.
    pub(super) fn overdue(&mut self, now: Millis) -> Vec<Relay> {
        self.under_way.retain(|_, relay| relay.forget_at > now);
        let overdue = self.under_way.values_mut().filter(|relay| relay.nack_at <= now && !relay.said_so);
        overdue
            .map(|relay| {
                relay.said_so = true;
                *relay
            })
            .collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let due = |relay: &Relay| if relay.said_so { relay.forget_at } else { relay.nack_at };
        self.under_way.values().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe() -> Probe {
        Probe::new(Millis(100), NodeId(2), Claim::default(), 7, Millis(500), Millis(1000))
    }

    #[test]
    fn help_is_asked_for_when_the_direct_answer_does_not_come() {
        let mut probe = probe();
        assert_eq!(probe.next_deadline(), Millis(600));
        assert!(!probe.needs_help(Millis(599)) && probe.needs_help(Millis(600)));
        probe.helped_by(&[NodeId(3), NodeId(4)]);
        assert!(!probe.needs_help(Millis(700)));
        assert_eq!(probe.next_deadline(), Millis(1100));
        assert_eq!(probe.answered(Millis(800), NodeId(5)), None, "nobody asked that one");
        assert!(!probe.is_answered());
        assert_eq!(probe.answered(Millis(800), NodeId(4)), None, "a helper's answer tells no latency");
        assert_eq!(probe.verdict(false), Verdict::Answered);
    }

    #[test]
    fn the_silence_of_all_helpers_says_nothing_of_the_target() {
        let mut probe = probe();
        probe.helped_by(&[NodeId(3), NodeId(4)]);
        assert_eq!(probe.verdict(false), Verdict::Unheard { missing: 2 });
        assert_eq!(probe.verdict(true), Verdict::Silent { missing: 2 }, "nothing is to be waited for");
        probe.nack(NodeId(3));
        probe.nack(NodeId(3));
        assert_eq!(probe.verdict(false), Verdict::Silent { missing: 1 });
        probe.nack(NodeId(4));
        assert_eq!(probe.verdict(false), Verdict::Silent { missing: 0 }, "all is well here");
    }

    #[test]
    fn everybody_is_asked_once_in_each_round() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut round = Round::default();
        let members = || (1..=10).map(NodeId).collect();
        for _ in 0..5 {
            let mut asked: Vec<NodeId> =
                (0..9).filter_map(|_| round.next(&mut random, members, |node| node != NodeId(4))).collect();
            asked.sort();
            assert_eq!(asked, [1, 2, 3, 5, 6, 7, 8, 9, 10].map(NodeId));
        }
        assert_eq!(round.next(&mut random, members, |_| false), None);
    }

    #[test]
    fn a_helper_says_once_that_it_reached_nobody_and_still_passes_on_a_late_answer() {
        let mut relays = Relays::default();
        assert!(relays.begin(5, NodeId(1), 70, NodeId(2), Millis(400), Millis(1000)));
        assert_eq!(relays.next_deadline(), Some(Millis(400)));
        assert_eq!(relays.overdue(Millis(399)).len(), 0);
        assert_eq!(relays.overdue(Millis(400)).len(), 1);
        assert_eq!(relays.overdue(Millis(400)).len(), 0);
        assert!(relays.answered(NodeId(3), 5).is_none(), "not the one that was asked");
        assert_eq!(relays.answered(NodeId(2), 5).map(|relay| (relay.asker, relay.sequence)), Some((NodeId(1), 70)));
        assert!(relays.answered(NodeId(2), 5).is_none());
        assert!(relays.begin(6, NodeId(1), 71, NodeId(2), Millis(400), Millis(1000)));
        assert_eq!(relays.overdue(Millis(1000)).len(), 0, "forgotten");
        assert_eq!(relays.next_deadline(), None);
    }
}
