//! How fast something that nobody waits for may send and receive: anti-entropy, hints.

use kv_core::time::Millis;

/// About what frame, message and acknowledgement take up around what is sent.
pub(crate) const ENVELOPE_BYTES: usize = 64;

/// A budget of bytes for each second. What is spent is spent; then nothing more is begun until the time for it has passed.
#[derive(Debug)]
pub(crate) struct Throttle {
    bytes_per_second: u64,
    /// When all that was spent has been made up for.
    clear_at: Millis,
    /// What was spent and takes less than a millisecond to make up for.
    rest: u64,
}

impl Throttle {
    pub(crate) const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, clear_at: Millis::ZERO, rest: 0 }
    }

    pub(crate) fn spend(&mut self, now: Millis, bytes: usize) {
        let milli = (bytes as u64).saturating_mul(1000).saturating_add(self.rest);
        self.rest = milli % self.bytes_per_second;
        self.clear_at = self.clear_at.max(now).saturating_add(Millis(milli / self.bytes_per_second));
    }

    /// From when on something more may be begun.
    pub(crate) const fn clear_at(&self) -> Millis {
        self.clear_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_it_takes_is_that_of_the_bytes_spent() {
        let mut throttle = Throttle::new(3_000);
        for _ in 0..10_000 {
            throttle.spend(Millis(5), 1);
        }
        assert_eq!(throttle.clear_at(), Millis(5 + 3_333));
        // What was not spent in time is not saved up.
        throttle.spend(Millis(100_000), 300);
        assert_eq!(throttle.clear_at(), Millis(100_100));
    }
}
