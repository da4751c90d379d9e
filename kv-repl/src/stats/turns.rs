//! What the turns of a node take.

use std::collections::VecDeque;
use std::time::Duration;

use kv_core::store::{Batch, Sequence};

use super::Histogram;

/// Turns, and what they write, in this life of a node. Times are in microseconds.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct TurnStats {
    /// How many requests and frames each turn took in; one for each turn, so their number is that of the turns.
    pub inputs: Histogram,
    /// How long turns took.
    pub took: Histogram,
    /// How long commits took: one for each turn that wrote something, and one more for each time that it answered itself with a
    /// write.
    pub commits: Histogram,
    /// How many writes each commit made at a time.
    pub commit_operations: Histogram,
    /// Bytes of all commits.
    pub commit_bytes: u64,
    /// Commits that the store refused.
    pub commit_failures: u64,
    /// How long it took from a commit until a turn knew that it was durable: what an acknowledged write waits for.
    pub sync_waits: Histogram,
}

/// Keeps [`TurnStats`].
#[derive(Debug, Default)]
pub(crate) struct Turns {
    stats: TurnStats,
    /// Commits that are not durable, and when each of them returned.
    waiting: VecDeque<(Sequence, Duration)>,
}

impl Turns {
    pub(crate) const fn stats(&self) -> &TurnStats {
        &self.stats
    }

    pub(crate) fn ended(&mut self, inputs: u64, took: Duration) {
        self.stats.inputs.record(inputs);
        self.stats.took.record_time(took);
    }

    pub(crate) fn committed(&mut self, batch: &Batch, sequence: Sequence, began: Duration, now: Duration) {
        self.stats.commits.record_time(now.saturating_sub(began));
        self.stats.commit_operations.record(batch.len() as u64);
        self.stats.commit_bytes += batch.as_bytes().len() as u64;
        self.waiting.push_back((sequence, now));
    }

    pub(crate) const fn refused(&mut self) {
        self.stats.commit_failures += 1;
    }

    /// The store is durable up to `durable`. Asks for the time only if somebody has waited for that.
    pub(crate) fn durable(&mut self, durable: Sequence, now: impl FnOnce() -> Duration) {
        if self.waiting.front().is_none_or(|(sequence, _)| *sequence > durable) {
            return;
        }
        let now = now();
        while let Some((_, since)) = self.waiting.front().filter(|(sequence, _)| *sequence <= durable) {
            self.stats.sync_waits.record_time(now.saturating_sub(*since));
            self.waiting.pop_front();
        }
    }

    /// Nothing will ever be durable that is not.
    pub(crate) fn halt(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_waits_until_it_is_known_to_be_durable() {
        let at = |ms: u64| Duration::from_millis(ms);
        let (mut turns, mut batch) = (Turns::default(), Batch::new());
        batch.put(kv_core::store::Space::META, b"key", b"value");
        turns.committed(&batch, Sequence(7), at(1), at(3));
        turns.committed(&batch, Sequence(9), at(4), at(4));
        turns.durable(Sequence(6), || panic!("nobody has waited for that"));
        turns.durable(Sequence(8), || at(13));
        assert_eq!((turns.stats().sync_waits.count(), turns.stats().sync_waits.max()), (1, 10_000));
        turns.durable(Sequence(9), || at(24));
        assert_eq!((turns.stats().sync_waits.count(), turns.stats().sync_waits.max()), (2, 20_000));
        turns.durable(Sequence(9), || panic!("nothing waits any more"));
        assert_eq!((turns.stats().commits.max(), turns.stats().commit_operations.sum()), (2_000, 2));
        assert_eq!(turns.stats().commit_bytes, 2 * batch.as_bytes().len() as u64);
    }
}
