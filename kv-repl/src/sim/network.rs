//! What happens to frames between nodes.

use std::collections::BTreeSet;

use kv_core::NodeId;

/// How rough the network is.
#[derive(Copy, Clone, Debug)]
pub struct NetworkFaults {
    /// The share of frames that never arrive.
    pub loss: f64,
    /// The share of frames that arrive twice.
    pub duplication: f64,
    /// The longest usual delay, in microseconds. Frames overtake each other.
    pub delay_max_us: u64,
    /// The share of frames that arrive up to two seconds late.
    pub straggler: f64,
}

impl Default for NetworkFaults {
    /// None.
    fn default() -> Self {
        Self { loss: 0.0, duplication: 0.0, delay_max_us: 300, straggler: 0.0 }
    }
}

const STRAGGLER_DELAY_MAX_US: u64 = 2_000_000;

/// The links between nodes.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) faults: NetworkFaults,
    /// Which way is cut.
    cut: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    pub(super) const fn new(faults: NetworkFaults) -> Self {
        Self { faults, cut: BTreeSet::new() }
    }

    pub(super) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    /// After how many microseconds the copies of a frame arrive.
    pub(super) fn delays(&self, from: NodeId, to: NodeId, random: &mut fastrand::Rng) -> Vec<u64> {
        if self.cut.contains(&(from, to)) || random.f64() < self.faults.loss {
            return Vec::new();
        }
        let copies = if random.f64() < self.faults.duplication { 2 } else { 1 };
        let mut delay = || {
            let straggles = random.f64() < self.faults.straggler;
            random.u64(20..=if straggles { STRAGGLER_DELAY_MAX_US } else { self.faults.delay_max_us.max(20) })
        };
        (0..copies).map(|_| delay()).collect()
    }
}
