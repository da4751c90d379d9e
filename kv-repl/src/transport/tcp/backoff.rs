//! How long to wait before a peer is dialed again.

use std::time::Duration;

/// Waits that double from a least to a most, each shortened by up to half at random, so that the peers of a node that
/// comes back do not all dial in the same instant.
pub(super) struct Backoff {
    least: Duration,
    most: Duration,
    /// Waits since the last success.
    waits: u32,
    random: u64,
}

impl Backoff {
    /// Starts with `least`; equal seeds give equal waits.
    pub(super) const fn new(least: Duration, most: Duration, seed: u64) -> Self {
        Self { least, most, waits: 0, random: seed }
    }

    /// The next wait.
    pub(super) fn next_wait(&mut self) -> Duration {
        let full = self.least.saturating_mul(1 << self.waits.min(16)).min(self.most);
        self.waits = self.waits.saturating_add(1);
        full / 2 + full.mul_f64(self.next_fraction() / 2.0)
    }

    /// A connection held: start again with the least.
    pub(super) const fn reset(&mut self) {
        self.waits = 0;
    }

    /// From 0 up to, but not including, 1; splitmix64 (Steele, Lea and Flood).
    fn next_fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        f64::from(u32::try_from(mixed >> 32).expect("32 bits")) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_with_jitter_and_start_again_after_a_success() {
        let (least, most) = (Duration::from_millis(20), Duration::from_secs(1));
        let mut backoff = Backoff::new(least, most, 7);
        let mut full = least;
        for _ in 0..100 {
            let wait = backoff.next_wait();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} for {full:?}");
            full = (full * 2).min(most);
        }
        backoff.reset();
        assert!(backoff.next_wait() <= least);
    }

    #[test]
    fn seeds_decide_the_jitter() {
        let waits = |seed| {
            let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1), seed);
            (0..10).map(|_| backoff.next_wait()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
