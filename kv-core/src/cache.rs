//! A hashed concurrent cache in memory, bounded by bytes, that evicts and expires.
//!
//! **A cache forgets.** It may drop any entry at any time, so it holds nothing that a protocol must find again: no
//! versions, no tombstones, no promises. It is not a [`Store`](crate::Store), and cannot be made to look like one; the
//! ordered [`MemStore`](crate::MemStore) evicts nothing. (What one replica evicts, anti-entropy would send back.)
//!
//! # How it works
//! Keys are spread by seeded XXH3 over shards, each with a lock and its part of the bound. A get takes the shard's
//! lock for reading, compares the key in one cache line of its own, clones the value's handle ([`Bytes`]), and tells
//! the [policy](crate::evict) of the hit, which is an atomic store or less. Puts and removals take the lock for
//! writing.
//!
//! Time comes from the [clock](CacheBuilder::clock) that the cache was built with; only calls that concern an entry
//! with a time to live look at it. An expired entry is never returned. Its bytes are reclaimed from a [timing
//! wheel](crate::wheel) a few steps at a time, by every put to its shard and by [`Cache::expire`], which a host calls
//! now and then so that an idle cache shrinks too.
//!
//! # Examples
//! Evicting any key, the default:
//! ```
//! use kv_core::cache::{Cache, ENTRY_BYTES, Eviction};
//! use kv_core::evict::PolicyKind;
//!
//! let cache = Cache::builder(10 * (ENTRY_BYTES + 8)).eviction(Eviction::AllKeys(PolicyKind::Lru)).build()?;
//! for number in 0..12_u32 {
//!     cache.put(&number.to_le_bytes(), "four")?;
//!     cache.get(&0_u32.to_le_bytes());
//! }
//! assert_eq!(cache.len(), 10, "eight bytes each, and what an entry costs");
//! assert_eq!(cache.get(&0_u32.to_le_bytes()).as_deref(), Some(&b"four"[..]), "used all the time");
//! assert_eq!(cache.get(&1_u32.to_le_bytes()), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! Evicting nothing:
//! ```
//! use kv_core::cache::{Cache, ENTRY_BYTES, Eviction, PutError};
//!
//! let cache = Cache::builder(2 * (ENTRY_BYTES + 4)).eviction(Eviction::Never).build()?;
//! cache.put(b"a", "one")?;
//! cache.put(b"b", "two")?;
//! assert!(matches!(cache.put(b"c", "three"), Err(PutError::Full { .. })));
//! assert!(cache.contains_key(b"a") && cache.contains_key(b"b"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! Evicting only what has a time to live, with a clock that the host sets:
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use std::time::Duration;
//!
//! use kv_core::cache::{Cache, ENTRY_BYTES, Eviction, TimeToLive};
//! use kv_core::evict::PolicyKind;
//! use kv_core::time::Millis;
//!
//! let time = Arc::new(AtomicU64::new(1_000));
//! let clock = { let time = Arc::clone(&time); Arc::new(move || Millis(time.load(Relaxed))) };
//! let cache = Cache::builder(2 * (ENTRY_BYTES + 10))
//!     .eviction(Eviction::OnlyExpiring(PolicyKind::Sieve))
//!     .clock(clock)
//!     .build()?;
//! cache.put(b"setting", "on")?;
//! cache.put_with_ttl(b"session", "abc", Duration::from_secs(60))?;
//! cache.put_with_ttl(b"another", "def", Duration::from_secs(30))?;
//! assert!(cache.contains_key(b"setting") && !cache.contains_key(b"session"));
//! assert_eq!(cache.ttl(b"another"), Some(TimeToLive::Left(Millis(30_000))));
//!
//! time.store(31_000, Relaxed);
//! assert_eq!(cache.get(b"another"), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! It is not a store:
//! ```compile_fail,E0277
//! fn needs_a_store(_: impl kv_core::Store) {}
//! needs_a_store(kv_core::Cache::builder(1 << 20).build().unwrap());
//! ```

mod builder;
mod entry;
mod error;
mod shard;
mod statistics;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use builder::Parts;
pub use builder::{CacheBuilder, Eviction};
pub use entry::ENTRY_BYTES;
use entry::Entry;
pub use error::{InvalidCache, PutError, TtlError};
pub use statistics::Statistics;

use crate::expiry::Expiry;
use crate::hash::seeded;
use crate::slot::Slot;
use crate::time::{Millis, WallClock};
use shard::Shard;

/// How long an entry has to live.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TimeToLive {
    /// Until it is evicted or removed.
    Forever,
    /// So long, at most. Never zero.
    Left(Millis),
}

/// A bounded map from bytes to bytes. See the [module](self).
///
/// An entry costs [`ENTRY_BYTES`] and the bytes of its key and its value. A value that is a slice of a larger buffer
/// keeps all of that alive, which the cache cannot see: copy such a value before it is put.
pub struct Cache {
    shards: Box<[ShardCell]>,
    seed: u64,
    clock: Option<WallClock>,
    /// The shard where [`Cache::expire`] goes on.
    next_to_expire: AtomicUsize,
}

/// On cache lines of its own, so that the locks of two shards do not travel together.
#[repr(align(128))]
struct ShardCell {
    shard: RwLock<Shard>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl ShardCell {
    fn new(shard: Shard) -> Self {
        Self { shard: RwLock::new(shard), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    // A policy of the caller's that panics may leave a shard that its own assertions refuse, but no invalid memory:
    // the next call meets these, and not a poisoned lock.
    fn read(&self) -> RwLockReadGuard<'_, Shard> {
        self.shard.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shard> {
        self.shard.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheBuilder {
    /// An empty cache.
    ///
    /// # Errors
    /// [`InvalidCache`].
    pub fn build(self) -> Result<Cache, InvalidCache> {
        let Parts { shards, seed, clock } = self.parts()?;
        let shards = shards.into_iter().map(ShardCell::new).collect();
        Ok(Cache { shards, seed, clock, next_to_expire: AtomicUsize::new(0) })
    }
}

impl Cache {
    /// Settings of a cache that holds entries of `capacity_bytes` together, at most.
    pub fn builder(capacity_bytes: u64) -> CacheBuilder {
        CacheBuilder::new(capacity_bytes)
    }

    /// The value of a key, unless it has expired.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.look_up(key, None)
    }

    /// As [`get`](Self::get), at a time that the caller has at hand, instead of the clock's.
    #[must_use]
    pub fn get_at(&self, key: &[u8], now: Millis) -> Option<Bytes> {
        self.look_up(key, Some(now))
    }

    /// As [`get`](Self::get), but neither the policy nor the statistics notice: for looks that are not uses.
    #[must_use]
    pub fn peek(&self, key: &[u8]) -> Option<Bytes> {
        let (hash, cell) = self.locate(key);
        let shard = cell.read();
        self.live(&shard, hash, key, None).map(|(_, entry)| entry.value.clone())
    }

    /// Whether a key has a value that has not expired. Neither the policy nor the statistics notice.
    #[must_use]
    pub fn contains_key(&self, key: &[u8]) -> bool {
        self.ttl(key).is_some()
    }

    /// Sets the value of a key, for ever: an earlier time to live is gone (Redis: `SET`). It evicts what has to go,
    /// and the policy may decide soon after that it is this entry.
    ///
    /// # Errors
    /// [`PutError`]; an earlier value of the key is still there.
    pub fn put(&self, key: &[u8], value: impl Into<Bytes>) -> Result<(), PutError> {
        self.put_expiring(key, value.into(), Expiry::NEVER, None)
    }

    /// Sets the value of a key, for `ttl` from now (Redis: `SET … PX`). A [`Duration`](std::time::Duration) counts in
    /// whole milliseconds.
    ///
    /// # Errors
    /// [`PutError`]; an earlier value of the key is still there.
    pub fn put_with_ttl(&self, key: &[u8], value: impl Into<Bytes>, ttl: impl Into<Millis>) -> Result<(), PutError> {
        let now = self.clock_time()?;
        let expiry = Expiry::after(now, ttl.into()).map_err(TtlError::from)?;
        self.put_expiring(key, value.into(), expiry, Some(now))
    }

    /// Removes a key, and returns the value it had, unless that had expired.
    pub fn remove(&self, key: &[u8]) -> Option<Bytes> {
        let (hash, cell) = self.locate(key);
        let mut shard = cell.write();
        let now = self.time_for(&shard);
        shard.remove(hash, key, now)
    }

    /// How long a key has to live; `None` when it is absent or has expired (Redis: `PTTL`). The policy does not notice.
    #[must_use]
    pub fn ttl(&self, key: &[u8]) -> Option<TimeToLive> {
        let (hash, cell) = self.locate(key);
        let shard = cell.read();
        let (_, entry) = shard.find(hash, key)?;
        let Some(at) = entry.expiry.get().time() else { return Some(TimeToLive::Forever) };
        let left = at.saturating_sub(self.time());
        (left > Millis::ZERO).then_some(TimeToLive::Left(left))
    }

    /// Takes the time to live of a key away, and says whether it had one (Redis: `PERSIST`). Where only expiring
    /// entries are evicted, this one is safe from then on.
    pub fn persist(&self, key: &[u8]) -> bool {
        self.change_expiry(key, |shard, slot, _| {
            let had_one = shard.entry(slot).expiry.get() != Expiry::NEVER;
            shard.set_expiry(slot, Expiry::NEVER);
            had_one
        })
    }

    /// Gives a key `ttl` from now, in place of what it had, and tells the policy of a use; says whether the key is
    /// there (memcached: `touch`; Redis: `PEXPIRE`).
    ///
    /// # Errors
    /// [`TtlError`]; nothing changed.
    pub fn touch(&self, key: &[u8], ttl: impl Into<Millis>) -> Result<bool, TtlError> {
        let expiry = Expiry::after(self.clock_time()?, ttl.into())?;
        Ok(self.change_expiry(key, |shard, slot, _| {
            shard.set_expiry(slot, expiry);
            if shard.hit(slot) {
                shard.settle();
            }
            true
        }))
    }

    /// Lets a key expire at a time; at once if that has come already. Says whether the key was there (Redis:
    /// `PEXPIREAT`).
    ///
    /// # Errors
    /// [`TtlError::NoClock`]; nothing changed.
    pub fn expire_at(&self, key: &[u8], at: Millis) -> Result<bool, TtlError> {
        self.clock_time()?;
        Ok(self.change_expiry(key, |shard, slot, now| {
            if at <= now {
                shard.expire_slot(slot);
            } else {
                shard.set_expiry(slot, Expiry::at(at));
            }
            true
        }))
    }

    /// Reclaims entries that have expired, in at most `budget` steps: one for each entry, and up to ten more for one
    /// with a long life. Says whether all were reclaimed. Shards are visited in turn, and the next call goes on where
    /// this one stopped.
    ///
    /// Every put reclaims a few of its shard anyway. A host calls this from a timer, so that what has expired does not
    /// wait for puts.
    pub fn expire(&self, budget: usize) -> bool {
        let Ok(now) = self.clock_time() else { return true };
        let mut left = budget;
        for _ in 0..self.shards.len() {
            let number = self.next_to_expire.load(Ordering::Relaxed) % self.shards.len();
            let progress = self.shards[number].write().expire(now, left);
            if !progress.finished {
                return false;
            }
            left -= progress.steps;
            self.next_to_expire.store(number + 1, Ordering::Relaxed);
        }
        true
    }

    /// Removes everything.
    pub fn clear(&self) {
        for cell in &self.shards {
            cell.write().clear();
        }
    }

    /// Entries held, expired ones that are not reclaimed yet included. Shards are counted one after another, while
    /// others go on.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.statistics().entries).expect("they are in memory")
    }

    /// Whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the entries cost; never more than [`capacity_bytes`](Self::capacity_bytes).
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.statistics().bytes
    }

    /// The bound: what was asked for, less what does not divide by the number of shards.
    #[must_use]
    pub fn capacity_bytes(&self) -> u64 {
        self.shards.iter().map(|cell| cell.read().capacity_bytes()).sum()
    }

    /// The largest entry it takes: what one shard holds.
    #[must_use]
    pub fn entry_bytes_max(&self) -> u64 {
        self.shards[0].read().entry_bytes_max()
    }

    /// What it has done, and what it holds. Shards are read one after another, while others go on.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let mut sum = Statistics::default();
        for cell in &self.shards {
            sum += cell.read().statistics();
            sum.hits += cell.hits.load(Ordering::Relaxed);
            sum.misses += cell.misses.load(Ordering::Relaxed);
        }
        sum
    }

    #[inline]
    fn look_up(&self, key: &[u8], now: Option<Millis>) -> Option<Bytes> {
        let (hash, cell) = self.locate(key);
        let shard = cell.read();
        let Some((slot, entry)) = self.live(&shard, hash, key, now) else {
            cell.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        cell.hits.fetch_add(1, Ordering::Relaxed);
        let value = entry.value.clone();
        if shard.hit(slot) {
            drop(shard);
            Self::settle(cell);
        }
        Some(value)
    }

    /// The entry of a key, unless it has expired.
    #[inline]
    fn live<'a>(&self, shard: &'a Shard, hash: u64, key: &[u8], now: Option<Millis>) -> Option<(Slot, &'a Entry)> {
        shard.find(hash, key).filter(|(_, entry)| {
            let expiry = entry.expiry.get();
            // The clock is asked only about what can expire.
            expiry == Expiry::NEVER || !expiry.is_past(now.unwrap_or_else(|| self.time()))
        })
    }

    /// Settles unless somebody is in the way, who may do it as well.
    #[cold]
    fn settle(cell: &ShardCell) {
        if let Ok(mut shard) = cell.shard.try_write() {
            shard.settle();
        }
    }

    fn put_expiring(&self, key: &[u8], value: Bytes, expiry: Expiry, now: Option<Millis>) -> Result<(), PutError> {
        let (hash, cell) = self.locate(key);
        let mut shard = cell.write();
        let now = now.unwrap_or_else(|| self.time_for(&shard));
        let replaced = shard.put(hash, key, value, expiry, now);
        // The memory of what was replaced is freed outside of the lock.
        drop(shard);
        replaced.map(drop)
    }

    fn change_expiry(&self, key: &[u8], change: impl FnOnce(&mut Shard, Slot, Millis) -> bool) -> bool {
        let (hash, cell) = self.locate(key);
        let mut shard = cell.write();
        let now = self.time();
        match shard.find_live(hash, key, now) {
            Some(slot) => change(&mut shard, slot, now),
            None => false,
        }
    }

    #[inline]
    fn locate(&self, key: &[u8]) -> (u64, &ShardCell) {
        let hash = seeded(key, self.seed);
        // The low half, scaled to the shards. The table inside of one tells keys apart by the highest bits, and by the
        // lowest.
        let shard = ((hash & u64::from(u32::MAX)) * self.shards.len() as u64) >> 32;
        (hash, &self.shards[usize::try_from(shard).expect("an index")])
    }

    fn clock_time(&self) -> Result<Millis, TtlError> {
        self.clock.as_ref().map(|clock| clock()).ok_or(TtlError::NoClock)
    }

    /// The beginning of time without a clock: nothing has a time to live then.
    fn time(&self) -> Millis {
        self.clock_time().unwrap_or_default()
    }

    fn time_for(&self, shard: &Shard) -> Millis {
        if shard.expires() { self.time() } else { Millis::ZERO }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("shards", &self.shards.len())
            .field("capacity_bytes", &self.capacity_bytes())
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
