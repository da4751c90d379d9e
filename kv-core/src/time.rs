//! Time as a value. Nothing in this crate reads a clock: whoever drives it does, and passes [`Now`] in.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A point in time or a span, in milliseconds. As wall time it counts from the Unix epoch.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The beginning of time.
    pub const ZERO: Self = Self(0);
    /// Later than every other time.
    pub const MAX: Self = Self(u64::MAX);

    /// `self + span`, stopping at [`Millis::MAX`].
    #[must_use]
    pub const fn saturating_add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// `self - span`, stopping at zero.
    #[must_use]
    pub const fn saturating_sub(self, span: Self) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The same span as a [`Duration`].
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for Millis {
    /// Whole milliseconds, stopping at [`Millis::MAX`].
    fn from(span: Duration) -> Self {
        Self(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// Tells the wall time to a component that is used from many threads, and so cannot be told it with every call.
pub type WallClock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The two clocks of a node at one instant.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Now {
    /// Never goes back while the process lives; deadlines and retries are measured on it. Its zero is arbitrary.
    pub monotonic: Millis,
    /// Since the Unix epoch, as the host believes; may jump in both directions.
    pub wall: Millis,
}
