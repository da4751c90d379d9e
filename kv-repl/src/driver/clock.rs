//! Where time comes in.

use std::time::{Duration, Instant, SystemTime};

use kv_core::time::Now;

/// The host's clocks.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
}

#[expect(clippy::disallowed_methods, reason = "the driver is where time comes in")]
impl Clock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Since it was started.
    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.elapsed().into(), wall: wall.into() }
    }

    pub(super) fn instant() -> Instant {
        Instant::now()
    }

    pub(super) fn sleep(span: Duration) {
        std::thread::sleep(span);
    }
}
