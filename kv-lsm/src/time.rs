//! The time that reads and compactions go by: wall time that never goes back.

use std::sync::atomic::{AtomicU64, Ordering};

use kv_core::time::Millis;

use crate::options::Clock;

/// The injected clock, held at its highest reading. Rule E12: what a read or a compaction took for expired stays expired,
/// even when the wall clock is set back. The manifest keeps the highest reading over a restart.
pub(crate) struct Time {
    clock: Clock,
    highest: AtomicU64,
}

impl Time {
    /// Begins at `at_least`, or later.
    pub(crate) const fn new(clock: Clock, at_least: Millis) -> Self {
        Self { clock, highest: AtomicU64::new(at_least.0) }
    }

    pub(crate) fn now(&self) -> Millis {
        let now = (self.clock)().0;
        // Most readings are of the same millisecond as the one before: then nothing is written, so that readers share the
        // line.
        let highest = self.highest.load(Ordering::Acquire);
        if now <= highest {
            return Millis(highest);
        }
        Millis(self.highest.fetch_max(now, Ordering::AcqRel).max(now))
    }

    /// The latest time that [`Time::now`] has returned.
    pub(crate) fn highest(&self) -> Millis {
        Millis(self.highest.load(Ordering::Acquire))
    }
}

/// What a read sees: everything up to a number, as of a time. Rule E12: a snapshot is both.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub(crate) struct Moment {
    pub(crate) sequence: u64,
    pub(crate) as_of: Millis,
}

/// The time of a read.
#[derive(Copy, Clone)]
pub(crate) enum AsOf<'a> {
    At(Millis),
    /// The clock is read only when something may have expired. For reads of one key that no other read must agree with.
    Now(&'a Time),
}

impl AsOf<'_> {
    pub(crate) fn time(self) -> Millis {
        match self {
            Self::At(time) => time,
            Self::Now(time) => time.now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn engine_rule_12_time_never_goes_back() {
        let wall = Arc::new(AtomicU64::new(50));
        let source = Arc::clone(&wall);
        let time = Time::new(Arc::new(move || Millis(source.load(Ordering::Relaxed))), Millis(60));
        assert_eq!(time.now(), Millis(60), "not before what was stored");
        wall.store(70, Ordering::Relaxed);
        assert_eq!((time.now(), time.highest()), (Millis(70), Millis(70)));
        wall.store(10, Ordering::Relaxed);
        assert_eq!((time.now(), AsOf::Now(&time).time()), (Millis(70), Millis(70)));
    }
}
