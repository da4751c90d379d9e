//! One part of a cache, as one thread at a time sees it, or many that only read.

use bytes::Bytes;
use hashbrown::HashTable;

use super::entry::{Entry, Key, PackedExpiry, cost};
use super::error::PutError;
use super::statistics::Statistics;
use crate::evict::{Candidate, Policy};
use crate::expiry::Expiry;
use crate::hash::seeded;
use crate::slot::Slot;
use crate::time::Millis;
use crate::wheel::{Progress, TimingWheel};

/// Steps of the wheel that each put makes: more than the eleven that an entry can cost, so that puts outrun what they
/// bring in.
const EXPIRY_STEPS_PER_PUT: usize = 32;

/// Entries in a slab, found by hash; what expires is in the wheel, and what may be evicted is known to the policy.
#[derive(Debug)]
pub(super) struct Shard {
    table: HashTable<Slot>,
    entries: Vec<Option<Entry>>,
    free: Vec<Slot>,
    wheel: TimingWheel,
    policy: Option<Box<dyn Policy>>,
    only_expiring: bool,
    seed: u64,
    capacity_bytes: u64,
    /// Of the entries that the policy knows.
    evictable_bytes: u64,
    statistics: Statistics,
}

impl Shard {
    pub(super) fn new(
        capacity_bytes: u64,
        seed: u64,
        policy: Option<Box<dyn Policy>>,
        only_expiring: bool,
        now: Millis,
    ) -> Self {
        Self {
            table: HashTable::new(),
            entries: Vec::new(),
            free: Vec::new(),
            wheel: TimingWheel::new(now),
            policy,
            only_expiring,
            seed,
            capacity_bytes,
            evictable_bytes: 0,
            statistics: Statistics::default(),
        }
    }

    /// All but hits and misses, which readers count.
    pub(super) fn statistics(&self) -> Statistics {
        self.statistics
    }

    pub(super) fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }

    /// Whether anything in here has a time to live, so that the time matters.
    pub(super) fn expires(&self) -> bool {
        !self.wheel.is_empty()
    }

    /// The entry of a key, which may have expired.
    #[inline]
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<(Slot, &Entry)> {
        let slot = *self.table.find(hash, |slot| self.entry(*slot).key.as_bytes() == key)?;
        Some((slot, self.entry(slot)))
    }

    /// Tells the policy of a use, and says whether it would like to settle.
    #[inline]
    pub(super) fn hit(&self, slot: Slot) -> bool {
        match &self.policy {
            Some(policy) if self.may_evict(self.entry(slot).expiry) => policy.hit(slot),
            _ => false,
        }
    }

    pub(super) fn settle(&mut self) {
        if let Some(policy) = &mut self.policy {
            policy.settle();
        }
    }

    /// The largest entry it takes; sizes are kept in 32 bits.
    pub(super) fn entry_bytes_max(&self) -> u64 {
        self.capacity_bytes.min(u64::from(u32::MAX))
    }

    /// Puts a value, and gives back the one it replaces, for its memory to be freed elsewhere.
    pub(super) fn put(
        &mut self,
        hash: u64,
        key: &[u8],
        value: Bytes,
        expiry: Expiry,
        now: Millis,
    ) -> Result<Option<Bytes>, PutError> {
        let (bytes, bytes_max) = (cost(key, &value), self.entry_bytes_max());
        if bytes > bytes_max {
            self.statistics.rejected += 1;
            return Err(PutError::TooLarge { bytes, bytes_max });
        }
        self.expire(now, EXPIRY_STEPS_PER_PUT);
        let present = self.find_live(hash, key, now);
        self.make_room(present, bytes, now)?;
        // Unless its old value was what had to go, or it expired as room was made.
        match self.find(hash, key).map(|(slot, _)| slot) {
            Some(slot) => Ok(Some(self.replace(slot, value, expiry))),
            None => {
                self.insert(hash, key, value, expiry);
                Ok(None)
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8], now: Millis) -> Option<Bytes> {
        let slot = self.find_live(hash, key, now)?;
        self.statistics.removals += 1;
        Some(self.take(slot).value)
    }

    /// The slot of a key; an entry that has expired is reclaimed instead.
    pub(super) fn find_live(&mut self, hash: u64, key: &[u8], now: Millis) -> Option<Slot> {
        let (slot, entry) = self.find(hash, key)?;
        if entry.expiry.get().is_past(now) {
            self.expire_slot(slot);
            return None;
        }
        Some(slot)
    }

    pub(super) fn expire_slot(&mut self, slot: Slot) {
        self.statistics.expirations += 1;
        self.take(slot);
    }

    pub(super) fn entry(&self, slot: Slot) -> &Entry {
        self.entries[slot.index()].as_ref().expect("a slot that is in the table holds an entry")
    }

    /// Changes when an entry expires, and with it, perhaps, whether it may be evicted.
    pub(super) fn set_expiry(&mut self, slot: Slot, expiry: Expiry) {
        self.change(slot, |entry| entry.expiry = PackedExpiry::new(expiry));
    }

    /// Reclaims what has expired, within a number of steps.
    pub(super) fn expire(&mut self, now: Millis, steps: usize) -> Progress {
        // The wheel is lent out while it names entries, whose removal asks it again.
        let mut wheel = std::mem::replace(&mut self.wheel, TimingWheel::new(Millis::ZERO));
        let progress = wheel.advance(now, steps, |slot| self.expire_slot(slot));
        self.wheel = wheel;
        progress
    }

    pub(super) fn clear(&mut self) {
        let slots: Vec<Slot> = self.table.iter().copied().collect();
        self.statistics.removals += slots.len() as u64;
        for slot in slots {
            self.take(slot);
        }
    }

    /// Evicts until an entry of this size fits in place of the one that is present. Nothing is evicted unless that is
    /// enough.
    fn make_room(&mut self, mut present: Option<Slot>, bytes: u64, now: Millis) -> Result<(), PutError> {
        loop {
            let replaced = present.map_or(0, |slot| u64::from(self.entry(slot).bytes()));
            let evictable = present.filter(|slot| self.may_evict(self.entry(*slot).expiry)).map_or(0, |_| replaced);
            let excess = (self.statistics.bytes - replaced + bytes).saturating_sub(self.capacity_bytes);
            if excess <= self.evictable_bytes - evictable {
                break;
            }
            // Before a refusal all that has expired is reclaimed, however much there is. The present entry is not
            // among it.
            let progress = self.expire(now, EXPIRY_STEPS_PER_PUT);
            if progress.finished && progress.fired == 0 {
                self.statistics.rejected += 1;
                return Err(PutError::Full { bytes });
            }
        }
        loop {
            let replaced = present.map_or(0, |slot| u64::from(self.entry(slot).bytes()));
            if self.statistics.bytes - replaced + bytes <= self.capacity_bytes {
                return Ok(());
            }
            let incoming_bytes = u32::try_from(bytes - replaced.min(bytes)).expect("an entry's cost is bounded");
            let policy = self.policy.as_mut().expect("there is something to evict, so there is a policy");
            let victim = policy.evict(incoming_bytes).expect("the policy knows enough bytes");
            self.evictable_bytes -= u64::from(self.entry(victim).bytes());
            self.statistics.evictions += 1;
            self.take_forgotten(victim);
            present = present.filter(|slot| *slot != victim);
        }
    }

    fn insert(&mut self, hash: u64, key: &[u8], value: Bytes, expiry: Expiry) {
        let entry = Entry { key: Key::new(key), value, expiry: PackedExpiry::new(expiry) };
        let (bytes, packed) = (entry.bytes(), entry.expiry);
        let expiry = packed.get();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot.index()] = Some(entry);
                slot
            }
            None => {
                let slot = Slot(u32::try_from(self.entries.len()).expect("a shard holds fewer than 2^32 entries"));
                if self.entries.len() == self.entries.capacity() {
                    // An eighth at a time: doubling would leave half of it idle in a cache that has reached its size.
                    self.entries.reserve_exact(self.entries.len() / 8 + 8);
                }
                self.entries.push(Some(entry));
                slot
            }
        };
        let (entries, seed) = (&self.entries, self.seed);
        self.table.insert_unique(hash, slot, |slot| {
            entries[slot.index()].as_ref().map_or(0, |entry| seeded(entry.key.as_bytes(), seed))
        });
        if let Some(at) = expiry.time() {
            self.wheel.insert(slot, at);
        }
        if self.may_evict(packed) {
            self.admit(slot, Candidate { hash, bytes, expiry });
        }
        self.statistics.bytes += u64::from(bytes);
        self.statistics.entries += 1;
        self.statistics.insertions += 1;
    }

    fn replace(&mut self, slot: Slot, value: Bytes, expiry: Expiry) -> Bytes {
        let mut replaced = value;
        self.change(slot, |entry| {
            std::mem::swap(&mut entry.value, &mut replaced);
            entry.expiry = PackedExpiry::new(expiry);
        });
        self.hit(slot);
        self.statistics.updates += 1;
        replaced
    }

    /// Changes an entry, but not its key, and tells everyone who keeps something of it.
    fn change(&mut self, slot: Slot, change: impl FnOnce(&mut Entry)) {
        let entry = self.entries[slot.index()].as_mut().expect("it was found");
        let (bytes_before, before) = (entry.bytes(), entry.expiry);
        change(entry);
        let (bytes, after) = (entry.bytes(), entry.expiry);
        let hash = seeded(entry.key.as_bytes(), self.seed);
        self.statistics.bytes = self.statistics.bytes - u64::from(bytes_before) + u64::from(bytes);
        if before != after {
            match after.get().time() {
                Some(at) => self.wheel.reschedule(slot, at),
                None => {
                    self.wheel.cancel(slot);
                }
            }
        }
        let candidate = Candidate { hash, bytes, expiry: after.get() };
        match (self.may_evict(before), self.may_evict(after)) {
            (true, true) => {
                self.evictable_bytes = self.evictable_bytes - u64::from(bytes_before) + u64::from(bytes);
                self.policy.as_mut().expect("it may evict").update(slot, candidate);
            }
            (false, true) => self.admit(slot, candidate),
            (true, false) => self.withdraw(slot, bytes_before),
            (false, false) => {}
        }
    }

    /// Takes an entry out, of which the policy may know.
    fn take(&mut self, slot: Slot) -> Entry {
        let entry = self.entry(slot);
        let (bytes, expiry) = (entry.bytes(), entry.expiry);
        if self.may_evict(expiry) {
            self.withdraw(slot, bytes);
        }
        self.take_forgotten(slot)
    }

    /// Takes an entry out that the policy does not know, or not any more.
    fn take_forgotten(&mut self, slot: Slot) -> Entry {
        let entry = self.entries[slot.index()].take().expect("a slot that is in the table holds an entry");
        let hash = seeded(entry.key.as_bytes(), self.seed);
        self.table.find_entry(hash, |other| *other == slot).expect("every entry is in the table").remove();
        self.wheel.cancel(slot);
        self.free.push(slot);
        self.statistics.bytes -= u64::from(entry.bytes());
        self.statistics.entries -= 1;
        entry
    }

    fn may_evict(&self, expiry: PackedExpiry) -> bool {
        self.policy.is_some() && (!self.only_expiring || expiry != PackedExpiry::NEVER)
    }

    fn admit(&mut self, slot: Slot, candidate: Candidate) {
        self.evictable_bytes += u64::from(candidate.bytes);
        self.policy.as_mut().expect("only what a policy may evict is admitted").insert(slot, candidate);
    }

    fn withdraw(&mut self, slot: Slot, bytes: u32) {
        self.evictable_bytes -= u64::from(bytes);
        self.policy.as_mut().expect("only what was admitted is withdrawn").remove(slot);
    }
}
