//! Comparisons that are owed, because another replica has missed something that was not kept for it. They come before those
//! that are made at intervals, and are made again until they end well.

use std::collections::{BTreeMap, BTreeSet};

use kv_core::NodeId;
use kv_core::time::Millis;

use super::chance::draw;
use crate::comparison::Place;

/// How many times the pause doubles after attempts that did not end well.
const DOUBLINGS_MAX: u32 = 6;

/// The number of a comparison that is owed although the peer has missed nothing: below all others.
const NOTHING_MISSED: u64 = 0;

/// What is owed to whom.
#[derive(Debug)]
pub(super) struct Owed {
    /// The measure of pauses.
    pause: Millis,
    seed: u64,
    owed: BTreeMap<(NodeId, Place), Debt>,
    due: BTreeSet<(Millis, NodeId, Place)>,
}

#[derive(Debug)]
struct Debt {
    /// The number of the latest thing that was missed.
    ticket: u64,
    failures: u32,
    /// When it is due; `None` while it is under way, or while nobody can be asked.
    at: Option<Millis>,
}

impl Owed {
    pub(super) const fn new(pause: Millis, seed: u64) -> Self {
        Self { pause, seed, owed: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// A peer has missed something.
    pub(super) fn owe(&mut self, now: Millis, peer: NodeId, place: Place, ticket: u64) {
        if let Some(debt) = self.owed.get_mut(&(peer, place)) {
            debt.ticket = ticket;
            return;
        }
        self.owed.insert((peer, place), Debt { ticket, failures: 0, at: None });
        self.plan(now, peer, place);
    }

    /// This node lacks something that a peer may have.
    pub(super) fn want(&mut self, now: Millis, peer: NodeId, place: Place) {
        if self.ticket(peer, place).is_none() {
            self.owe(now, peer, place, NOTHING_MISSED);
        }
    }

    /// The number under which something is owed.
    pub(super) fn ticket(&self, peer: NodeId, place: Place) -> Option<u64> {
        self.owed.get(&(peer, place)).map(|debt| debt.ticket)
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Takes the next one that is due and can be made. Those of peers that cannot be reached wait for them to answer a
    /// greeting.
    pub(super) fn pop(
        &mut self,
        now: Millis,
        is_free: impl Fn(Place) -> bool,
        is_reachable: impl Fn(NodeId) -> bool,
    ) -> Option<(Place, NodeId)> {
        while let Some((at, peer, place)) = self.due.first().copied().filter(|(at, ..)| *at <= now) {
            self.due.remove(&(at, peer, place));
            let Some(debt) = self.owed.get_mut(&(peer, place)) else { continue };
            debt.at = None;
            if !is_reachable(peer) {
                continue;
            }
            if is_free(place) {
                return Some((place, peer));
            }
            // Another comparison of the place is under way: a little later.
            self.put(now.saturating_add(Millis(self.pause.0 / 8 + 1)), peer, place);
        }
        None
    }

    /// A peer can be reached: what is owed to it and waits is due soon.
    pub(super) fn reached(&mut self, now: Millis, peer: NodeId, is_under_way: impl Fn(Place) -> bool) {
        let first = Place { table: kv_core::key::TableId(0), partition: kv_ring::PartitionId(0) };
        let of_peer = self.owed.range((peer, first)..).take_while(|((of, _), _)| *of == peer);
        let waiting: Vec<Place> = of_peer.filter(|(_, debt)| debt.at.is_none()).map(|((_, place), _)| *place).collect();
        for place in waiting.into_iter().filter(|place| !is_under_way(*place)) {
            self.plan(now, peer, place);
        }
    }

    /// A comparison has ended. `ticket` is what was owed when it began: what was missed since then is still owed.
    pub(super) fn ended(&mut self, now: Millis, peer: NodeId, place: Place, ticket: Option<u64>, is_equal: bool) {
        let Some(debt) = self.owed.get_mut(&(peer, place)) else { return };
        if is_equal && ticket == Some(debt.ticket) {
            return self.forget(peer, place);
        }
        debt.failures = if is_equal { 0 } else { (debt.failures + 1).min(DOUBLINGS_MAX) };
        if debt.at.is_none() {
            self.plan(now, peer, place);
        }
    }

    /// It is not to be compared any more.
    pub(super) fn forget(&mut self, peer: NodeId, place: Place) {
        if let Some(at) = self.owed.remove(&(peer, place)).and_then(|debt| debt.at) {
            self.due.remove(&(at, peer, place));
        }
    }

    /// Due after half a pause to one and a half, longer after attempts that did not end well.
    fn plan(&mut self, now: Millis, peer: NodeId, place: Place) {
        let failures = self.owed.get(&(peer, place)).map_or(0, |debt| debt.failures);
        let pause = self.pause.0.max(1) << failures;
        let wait = pause / 2 + draw(self.seed, place, peer, now) % pause;
        self.put(now.saturating_add(Millis(wait)), peer, place);
    }

    fn put(&mut self, at: Millis, peer: NodeId, place: Place) {
        if let Some(debt) = self.owed.get_mut(&(peer, place)) {
            debt.at = Some(at);
            self.due.insert((at, peer, place));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kv_core::key::TableId;
    use kv_ring::PartitionId;

    const PEER: NodeId = NodeId(2);

    const fn place(partition: u32) -> Place {
        Place { table: TableId(1), partition: PartitionId(partition) }
    }

    fn pop(owed: &mut Owed, now: u64) -> Option<Place> {
        owed.pop(Millis(now), |_| true, |_| true).map(|(place, _)| place)
    }

    #[test]
    fn a_debt_is_paid_by_a_comparison_that_began_after_it() {
        let mut owed = Owed::new(Millis(1_000), 7);
        owed.owe(Millis(0), PEER, place(1), 1);
        assert_eq!(pop(&mut owed, 499), None, "not at once");
        assert_eq!(pop(&mut owed, 1_500), Some(place(1)));
        assert_eq!((pop(&mut owed, 90_000), owed.next()), (None, None), "it is under way");
        owed.owe(Millis(1_600), PEER, place(1), 2);
        owed.ended(Millis(1_700), PEER, place(1), Some(1), true);
        assert_eq!(owed.ticket(PEER, place(1)), Some(2), "something was missed meanwhile");
        assert_eq!(pop(&mut owed, 1_700 + 1_500), Some(place(1)));
        owed.ended(Millis(3_300), PEER, place(1), Some(2), true);
        assert_eq!((owed.ticket(PEER, place(1)), owed.next()), (None, None));
    }

    #[test]
    fn attempts_that_fail_come_at_growing_pauses() {
        let mut owed = Owed::new(Millis(1_000), 7);
        owed.owe(Millis(0), PEER, place(1), 1);
        let mut now = 0;
        for attempt in 0..12_u32 {
            let next = owed.next().expect("it is owed").0;
            let pause = 1_000 << attempt.min(DOUBLINGS_MAX);
            assert!((pause / 2..pause * 3 / 2).contains(&(next - now)), "attempt {attempt}: {next} after {now}");
            now = next;
            assert_eq!(pop(&mut owed, now), Some(place(1)));
            owed.ended(Millis(now), PEER, place(1), Some(1), false);
        }
    }

    #[test]
    fn what_is_owed_to_somebody_who_is_away_costs_nothing_until_he_is_back() {
        let mut owed = Owed::new(Millis(1_000), 7);
        (0..100).for_each(|partition| owed.owe(Millis(0), PEER, place(partition), 1 + u64::from(partition)));
        assert_eq!(owed.pop(Millis(10_000), |_| true, |_| false), None);
        assert_eq!(owed.next(), None);
        owed.reached(Millis(20_000), PEER, |at| at == place(3));
        let mut due = 0;
        while pop(&mut owed, 21_500).is_some() {
            due += 1;
        }
        assert_eq!(due, 99, "all but the one that is under way");
        owed.reached(Millis(20_000), NodeId(3), |_| false);
        assert_eq!(owed.next(), None, "nothing is owed to somebody else");
    }

    #[test]
    fn what_is_moot_is_not_compared() {
        let mut owed = Owed::new(Millis(1_000), 7);
        (1..=2).for_each(|partition| owed.owe(Millis(0), PEER, place(partition), u64::from(partition)));
        owed.forget(PEER, place(1));
        assert_eq!((owed.ticket(PEER, place(1)), owed.ticket(PEER, place(2))), (None, Some(2)));
        assert_eq!((pop(&mut owed, 1_500), pop(&mut owed, 1_500)), (Some(place(2)), None));
    }

    #[test]
    fn a_place_that_is_busy_comes_a_little_later() {
        let mut owed = Owed::new(Millis(1_000), 7);
        owed.owe(Millis(0), PEER, place(1), 1);
        assert_eq!(owed.pop(Millis(2_000), |_| false, |_| true), None);
        assert_eq!(owed.next(), Some(Millis(2_126)));
        assert_eq!(pop(&mut owed, 2_126), Some(place(1)));
    }
}
