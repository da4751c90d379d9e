//! What a cache table is made with.

use std::time::Duration;

use kv_core::evict::PolicyKind;
use kv_core::record::Rule;
use kv_core::time::Millis;

use super::{InvalidOptions, TableOptions};

/// Bounds of a cache table, once they are known to be possible.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct CacheOptions {
    pub(crate) policy: PolicyKind,
    pub(crate) memory_bytes: u64,
    pub(crate) ttl_max: Millis,
}

/// Unless chosen otherwise.
const MEMORY_BYTES: u64 = 64 << 20;
/// Tombstones have an eighth, which holds some seventy of short keys then.
const MEMORY_BYTES_MIN: u64 = 64 << 10;
/// A month: the tombstones of so long fill memory that nothing else can use.
const TTL_MAX: Millis = Millis(31 * 24 * 3_600_000);

impl TableOptions {
    /// A cache: values live in the memory of each of their replicas, at most so many [bytes](TableOptions::memory_bytes) of them,
    /// and go when there is no room, as `policy` chooses, or when their time is over. [`TableOptions::ttl_max`] must be given.
    ///
    /// **Anything in it may be gone at any time.** An acknowledgement says that so many replicas have taken the write into
    /// memory, and nothing about durability; a node that starts again starts empty. Nothing that is missing is brought back: no
    /// read repair, no hints, no anti-entropy. (What one replica evicts, they would have another send back.)
    ///
    /// What is promised, of two writes the one with the later stamp counts as in
    /// [last-write-wins](TableOptions::last_write_wins) tables:
    ///
    /// - A read gives what somebody wrote there, within its time to live.
    /// - A read at a quorum gives nothing older than a delete that a quorum had acknowledged before it began, also when
    ///   replicas have evicted and started again since, as long as clocks differ by less than
    ///   [`Config::clock_drift_max`](crate::config::Config::clock_drift_max), and none is set back while its node is down. For
    ///   this, deletes stay in memory until all that they hide has expired, within an eighth of the memory; a replica that
    ///   has no room takes no more of them, and [`WriteError::CacheFull`](crate::request::WriteError::CacheFull) says what
    ///   becomes of the request. A node that has started does not show what was written before, even where others hold
    ///   it, because it may have forgotten a delete.
    #[must_use]
    pub const fn cache(policy: PolicyKind) -> Self {
        let mut options = Self::of(Rule::LastWriteWins);
        options.cache = Some(policy);
        options.memory_bytes = Some(MEMORY_BYTES);
        options
    }

    /// Of a [cache](TableOptions::cache): how much memory of each node its entries may take, tombstones and what each entry
    /// costs beside key and value ([`kv_core::cache::ENTRY_BYTES`]) included; 64 MiB unless said otherwise. At least 64 KiB.
    #[must_use]
    pub const fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = Some(bytes);
        self
    }

    /// Of a [cache](TableOptions::cache), which must have one: the longest time to live of a value, at most 31 days. Writes that ask
    /// for more are refused; those that ask for nothing get the [default](TableOptions::default_ttl), or this.
    ///
    /// Deletes stay in memory for so long: the shorter, the more of them there may be.
    #[must_use]
    pub fn ttl_max(mut self, ttl: Duration) -> Self {
        self.ttl_max = Some(ttl.into());
        self
    }

    /// Whether values are stored durably by their replicas, and brought to those that lack them. What is not is no business of
    /// hints, repair and moves.
    #[must_use]
    pub const fn is_replicated_durably(&self) -> bool {
        self.cache.is_none()
    }

    /// The bounds of a cache table that passed [`TableOptions::check`].
    pub(crate) fn cache_options(&self) -> Option<CacheOptions> {
        Some(CacheOptions { policy: self.cache?, memory_bytes: self.memory_bytes?, ttl_max: self.ttl_max? })
    }

    pub(super) fn check_cache(&self) -> Result<(), InvalidOptions> {
        if self.cache.is_none() {
            let none = self.memory_bytes.is_none() && self.ttl_max.is_none();
            return if none { Ok(()) } else { Err(InvalidOptions::NotACache) };
        }
        if self.rule != Rule::LastWriteWins {
            return Err(InvalidOptions::NotACache);
        }
        if self.sloppy {
            return Err(InvalidOptions::SloppyCache);
        }
        let ttl_max = self.ttl_max.ok_or(InvalidOptions::CacheWithoutTtlMax)?;
        if ttl_max == Millis::ZERO || ttl_max > TTL_MAX {
            return Err(InvalidOptions::CacheTtlMax { ttl_max_limit: TTL_MAX });
        }
        if self.ttl.is_some_and(|ttl| ttl > ttl_max) {
            return Err(InvalidOptions::DefaultOverTtlMax);
        }
        if self.memory_bytes.is_some_and(|bytes| bytes < MEMORY_BYTES_MIN) {
            return Err(InvalidOptions::CacheTooSmall { memory_bytes_min: MEMORY_BYTES_MIN });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_must_say_how_long_its_values_live_at_most() {
        let cache = TableOptions::cache(PolicyKind::Lru);
        let second = Duration::from_secs(1);
        assert_eq!(cache.check(), Err(InvalidOptions::CacheWithoutTtlMax));
        assert_eq!(cache.clone().ttl_max(second).check(), Ok(()));
        assert!(matches!(cache.clone().ttl_max(Duration::ZERO).check(), Err(InvalidOptions::CacheTtlMax { .. })));
        assert!(matches!(cache.clone().ttl_max(Duration::MAX).check(), Err(InvalidOptions::CacheTtlMax { .. })));
        let over = cache.clone().ttl_max(second).default_ttl(second * 2);
        assert_eq!(over.check(), Err(InvalidOptions::DefaultOverTtlMax));
        let small = cache.clone().ttl_max(second).memory_bytes(1000);
        assert!(matches!(small.check(), Err(InvalidOptions::CacheTooSmall { .. })));
        assert_eq!(TableOptions::siblings().ttl_max(second).check(), Err(InvalidOptions::NotACache));
        let sloppy = cache.clone().ttl_max(second).sloppy();
        assert_eq!(sloppy.check(), Err(InvalidOptions::SloppyCache));
        assert_eq!(TableOptions::last_write_wins().memory_bytes(1 << 20).check(), Err(InvalidOptions::NotACache));
        assert!(!cache.is_replicated_durably() && TableOptions::last_write_wins().is_replicated_durably());
    }
}
