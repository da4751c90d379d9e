//! When the requests of a machine are looked at again: to ask once more, or to give up.

use std::collections::BTreeSet;

use kv_core::time::Millis;

/// Deadlines and retries of requests, by time.
#[derive(Debug)]
pub(super) struct Agenda {
    due: BTreeSet<(Millis, u64)>,
}

impl Agenda {
    pub(super) const fn new() -> Self {
        Self { due: BTreeSet::new() }
    }

    pub(super) fn add(&mut self, at: Millis, tag: u64) {
        self.due.insert((at, tag));
    }

    pub(super) fn remove(&mut self, at: Millis, tag: u64) {
        self.due.remove(&(at, tag));
    }

    pub(super) fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next one that is due.
    pub(super) fn pop(&mut self, now: Millis) -> Option<u64> {
        let first = *self.due.first().filter(|(at, _)| *at <= now)?;
        self.due.remove(&first);
        Some(first.1)
    }
}

/// Doubles its wait each time, and never waits past the deadline.
#[derive(Copy, Clone, Debug)]
pub(super) struct Patience {
    /// When to look again.
    pub(super) at: Millis,
    /// When to give up.
    pub(super) deadline: Millis,
    wait: Millis,
}

impl Patience {
    pub(super) fn new(now: Millis, wait: Millis, deadline: Millis) -> Self {
        Self { at: now.saturating_add(wait).min(deadline), deadline, wait }
    }

    /// How long an answer may take of which nothing is known.
    pub(super) fn unmeasured(&self) -> Millis {
        Millis((self.wait.0 / 2).max(1))
    }

    pub(super) fn again(&mut self, now: Millis) {
        self.wait = self.wait.saturating_add(self.wait);
        self.at = now.saturating_add(self.wait).min(self.deadline);
    }
}
