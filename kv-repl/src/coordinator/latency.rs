//! How long each replica takes to answer reads: whom to ask first, and when to ask somebody else instead.
//!
//! Measured on the reads themselves and not on the pings of failure detection: a node with a slow disk answers pings at once.
//! What is not measured for a while is forgotten, so a replica that was slow is tried again.

use std::collections::BTreeMap;

use kv_core::NodeId;
use kv_core::time::Millis;

use crate::round_trip::RoundTrip;

/// What was measured is believed for so long.
const BELIEVED_FOR: Millis = Millis(10_000);
/// Clocks tell milliseconds apart, and a turn takes some: below this, nobody is late.
const LATE_MIN: Millis = Millis(3);
/// A replica is slow beside another one that is expected within a quarter of its time.
const SLOW_FACTOR: u64 = 4;

/// What this coordinator has measured.
#[derive(Default, Debug)]
pub(super) struct Latencies {
    replicas: BTreeMap<NodeId, Measured>,
}

#[derive(Copy, Clone, Debug)]
struct Measured {
    trip: RoundTrip,
    at: Millis,
}

impl Latencies {
    /// A replica answered after `span`.
    pub(super) fn answered(&mut self, now: Millis, replica: NodeId, span: Millis) {
        let fresh = || Measured { trip: RoundTrip::default(), at: now };
        let measured = self.replicas.entry(replica).or_insert_with(fresh);
        if now.saturating_sub(measured.at) > BELIEVED_FOR {
            *measured = fresh();
        }
        measured.trip.sample(span);
        measured.at = now;
    }

    /// A replica has not answered within `span`, and nobody waits for it any more. When it is overdue, it is taken for at least
    /// twice as slow as was thought: how slow it is, nobody will tell. One that was never measured is overdue after
    /// `unmeasured`.
    pub(super) fn silent(&mut self, now: Millis, replica: NodeId, span: Millis, unmeasured: Millis) {
        let expected = self.expected(now, replica).unwrap_or(unmeasured);
        if span > expected {
            self.answered(now, replica, span.max(Millis(expected.0.saturating_mul(2))));
        }
    }

    /// Within which time a replica is to be expected, if that is known.
    pub(super) fn expected(&self, now: Millis, replica: NodeId) -> Option<Millis> {
        let measured = self.replicas.get(&replica)?;
        let expected = measured.trip.expected()?.max(LATE_MIN);
        (now.saturating_sub(measured.at) <= BELIEVED_FOR).then_some(expected)
    }

    /// Tells of a replica whether it takes several times as long as the fastest one of `among`.
    pub(super) fn slow(&self, now: Millis, among: &[NodeId]) -> impl Fn(NodeId) -> bool {
        let fastest = among.iter().filter_map(|node| self.expected(now, *node)).min();
        let late = fastest.map(|fastest| fastest.0.saturating_mul(SLOW_FACTOR));
        move |replica| late.is_some_and(|late| self.expected(now, replica).is_some_and(|expected| expected.0 > late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_replica_is_known_and_forgotten_in_time() {
        let mut latencies = Latencies::default();
        let all = [NodeId(1), NodeId(2), NodeId(3)];
        assert_eq!(latencies.expected(Millis(1), NodeId(1)), None);
        for now in 0..50 {
            latencies.answered(Millis(now), NodeId(1), Millis(1));
            latencies.answered(Millis(now), NodeId(2), Millis(200));
        }
        assert_eq!(latencies.expected(Millis(50), NodeId(1)), Some(LATE_MIN));
        let is_slow = |now: u64| all.map(|node| latencies.slow(Millis(now), &all)(node));
        assert_eq!((is_slow(50), is_slow(11_000)), ([false, true, false], [false; 3]));
        latencies.answered(Millis(11_000), NodeId(2), Millis(2));
        assert!(latencies.expected(Millis(11_000), NodeId(2)).unwrap() < Millis(10), "it begins anew");
    }

    #[test]
    fn silence_counts_when_it_is_longer_than_expected() {
        let mut latencies = Latencies::default();
        for now in 0..50 {
            latencies.answered(Millis(now), NodeId(1), Millis(20));
        }
        let before = latencies.expected(Millis(50), NodeId(1)).unwrap();
        latencies.silent(Millis(50), NodeId(1), Millis(5), Millis(1));
        assert_eq!(latencies.expected(Millis(50), NodeId(1)), Some(before), "it may come in time");
        latencies.silent(Millis(50), NodeId(1), Millis(500), Millis(1));
        assert!(latencies.expected(Millis(50), NodeId(1)).unwrap() > before);
        latencies.silent(Millis(50), NodeId(2), Millis(1), Millis(100));
        assert_eq!(latencies.expected(Millis(50), NodeId(2)), None, "nobody has waited long enough to know");
        latencies.silent(Millis(50), NodeId(2), Millis(101), Millis(100));
        assert!(latencies.expected(Millis(50), NodeId(2)).unwrap() >= Millis(200));
    }
}
