//! What the loop must look at later.

use std::collections::BTreeSet;
use std::time::Instant;

use kv_core::NodeId;
use mio::Token;

/// Why. A timer is never cancelled: when it fires, whoever set it checks whether it still matters.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(super) enum Timer {
    /// Dial the peer.
    Dial(NodeId),
    /// The connection should have shown its preamble.
    Greeting(Token),
    /// The connection should have taken bytes.
    Stalled(Token),
    /// Accept again, after the system had no room for another socket.
    Accept,
}

/// Timers in order of time.
#[derive(Default)]
pub(super) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// When the first one fires.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// One that has fired by `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        if self.next_at()? <= now { self.0.pop_first().map(|(_, timer)| timer) } else { None }
    }
}
