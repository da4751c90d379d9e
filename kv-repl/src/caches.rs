//! What a node holds of cache tables, in memory and nowhere else (rule P19).
//!
//! - Values may be evicted at any time, as the table's policy chooses. Tombstones may not: they have a part of the memory
//!   to themselves, and stay until nothing older can still be visible anywhere.
//! - A node that starts may have forgotten a delete. For as long as anything can be visible that such a delete hides, it holds,
//!   as it were, a tombstone of its start under every key: what was born before is not shown where this node is asked.
//!
//! Time is the wall time of the last event. Everything that is told here happens in the order of events.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kv_core::Cache;
use kv_core::Expiry;
use kv_core::cache::{ENTRY_BYTES, Eviction};
use kv_core::hlc::Stamp;
use kv_core::key::{RecordKey, TableId};
use kv_core::record::{Payload, Record, Rule, Version};
use kv_core::time::{Millis, Now};
use kv_core::version::Actor;

use crate::catalog::TableSchema;
use crate::status::CacheStatus;
use crate::table_options::CacheOptions;

/// Tombstones have one part in so many of a table's memory.
const TOMBSTONE_SHARE: u64 = 8;
/// How often what has expired is looked for.
const SWEEP_EVERY: Millis = Millis(1_000);
/// Steps of one such look.
const SWEEP_STEPS: usize = 4_096;

/// All cache tables of a node.
pub(crate) struct Caches {
    tables: BTreeMap<TableId, Table>,
    /// The wall time of the last event.
    wall: Arc<AtomicU64>,
    drift_max: Millis,
    /// Nothing born before is shown.
    start: Option<Stamp>,
    swept: Millis,
}

struct Table {
    options: CacheOptions,
    name: String,
    values: Cache,
    tombstones: Cache,
    /// Deletes that did not fit.
    refused: u64,
}

impl fmt::Debug for Caches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caches")
            .field("tables", &self.tables.keys())
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl Caches {
    pub(crate) fn new(drift_max: Millis) -> Self {
        Self { tables: BTreeMap::new(), wall: Arc::default(), drift_max, start: None, swept: Millis::ZERO }
    }

    /// A table that this node holds a part of.
    pub(crate) fn add(&mut self, table: &TableSchema, seed: u64) {
        let Some(options) = table.options.cache_options() else { return };
        let tombstone_bytes = options.memory_bytes / TOMBSTONE_SHARE;
        let build = |bytes, eviction| {
            let wall = Arc::clone(&self.wall);
            let clock = Arc::new(move || Millis(wall.load(Ordering::Relaxed)));
            // Only this node's loop comes here, so there is nothing to gain from several locks.
            let cache = Cache::builder(bytes).shards(1).seed(seed).eviction(eviction).clock(clock).build();
            cache.expect("the options of a table were checked")
        };
        let id = table.id;
        let table = Table {
            name: table.name.clone(),
            values: build(options.memory_bytes - tombstone_bytes, Eviction::AllKeys(options.policy.kind())),
            tombstones: build(tombstone_bytes, Eviction::Never),
            options,
            refused: 0,
        };
        self.tables.insert(id, table);
    }

    /// It is so late.
    pub(crate) fn tick(&mut self, now: Now) {
        self.wall.store(now.wall.0, Ordering::Relaxed);
        // Whatever was born before this life bears an earlier stamp, unless a clock is further off than any may be.
        self.start.get_or_insert(Stamp::at(now.wall.saturating_add(self.drift_max)));
        if self.next_sweep().is_some_and(|at| at <= now.monotonic) {
            self.swept = now.monotonic;
            for table in self.tables.values() {
                table.values.expire(SWEEP_STEPS);
                table.tombstones.expire(SWEEP_STEPS);
            }
        }
    }

    /// When to look for what has expired, if there is anything.
    pub(crate) fn next_sweep(&self) -> Option<Millis> {
        let holds_any = self.tables.values().any(|table| table.bytes() > 0);
        holds_any.then(|| self.swept.saturating_add(SWEEP_EVERY))
    }

    /// Whether a table is a cache that this node holds a part of.
    pub(crate) fn are_of(&self, table: TableId) -> bool {
        self.tables.contains_key(&table)
    }

    /// What is held under a key; `me` is who says so of the start of this life.
    pub(crate) fn get(&self, key: &RecordKey, me: Actor) -> Option<Bytes> {
        let table = self.tables.get(&key.table())?;
        let held = table.tombstones.get(key.as_bytes()).or_else(|| table.values.get(key.as_bytes()));
        held.or_else(|| self.of_the_start(table, me).map(|record| record.to_bytes()))
    }

    /// The tombstone that stands under every key for a while after the start.
    fn of_the_start(&self, table: &Table, me: Actor) -> Option<Record> {
        let birth = self.start?;
        let is_needed = self.wall() < self.tombstone_until(table, birth) && !sabotaged!(ForgetColdStart);
        let version = Version { birth, payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None };
        is_needed.then(|| Record::last_write(me, version))
    }

    /// Whether a change fits: only a tombstone may not, and a value that is larger than all there is.
    pub(crate) fn has_room(&self, key: &RecordKey, record: &Record, record_bytes: usize) -> bool {
        let Some(table) = self.tables.get(&key.table()) else { return false };
        let cost = ENTRY_BYTES + (key.as_bytes().len() + record_bytes) as u64;
        if !is_tombstone(record) {
            return cost <= table.values.entry_bytes_max();
        }
        let replaced = table.tombstones.get(key.as_bytes());
        let replaced = replaced.map_or(0, |held| ENTRY_BYTES + (key.as_bytes().len() + held.len()) as u64);
        table.tombstones.bytes() + cost <= table.tombstones.capacity_bytes() + replaced
    }

    /// The largest record of a key that fits.
    pub(crate) fn record_bytes_max(&self, key: &RecordKey) -> usize {
        let room = self.tables.get(&key.table()).map_or(0, |table| table.values.entry_bytes_max());
        usize::try_from(room.saturating_sub(ENTRY_BYTES)).unwrap_or(usize::MAX).saturating_sub(key.as_bytes().len())
    }

    /// A delete was refused for want of room.
    pub(crate) fn count_refused(&mut self, table: TableId) {
        if let Some(table) = self.tables.get_mut(&table) {
            table.refused += 1;
        }
    }

    /// Joins a change to what is held.
    pub(crate) fn join(&self, key: &RecordKey, change: &Record, me: Actor) {
        let Some(table) = self.tables.get(&key.table()) else { return };
        let held = self.get(key, me).and_then(|bytes| Record::decode(&bytes).ok());
        let held = held.unwrap_or_else(|| Record::empty(Rule::LastWriteWins));
        // One that is no last write was refused before.
        let Ok(joined) = held.join(change) else { return };
        let Some((_, version)) = joined.versions().first().filter(|_| joined != held) else { return };
        let (key, wall) = (key.as_bytes(), self.wall());
        // A copy of its own, which keeps no frame alive.
        let bytes = Bytes::from(joined.to_bytes().to_vec());
        if is_tombstone(&joined) && !sabotaged!(EvictTombstones) {
            let left = self.tombstone_until(table, version.birth).saturating_sub(wall);
            let put = table.tombstones.put_with_ttl(key, bytes, left);
            // One whose time is over hides nothing any more.
            assert!(put.is_ok() || left == Millis::ZERO, "whoever puts a tombstone has asked for room: {put:?}");
            table.values.remove(key);
            return;
        }
        let end = version.birth.wall().saturating_add(table.options.ttl_max);
        let end = version.expiry.time().map_or(end, |expiry| expiry.min(end));
        table.tombstones.remove(key);
        if table.values.put_with_ttl(key, bytes, end.saturating_sub(wall)).is_err() {
            // Expired, or too large: as if it had been evicted at once, and what was there before with it.
            table.values.remove(key);
        }
    }

    /// Until when a tombstone is needed: whatever it hides was born earlier and has expired by then, by any clock.
    fn tombstone_until(&self, table: &Table, birth: Stamp) -> Millis {
        let margin = self.drift_max.saturating_add(self.drift_max);
        birth.wall().saturating_add(table.options.ttl_max).saturating_add(margin)
    }

    fn wall(&self) -> Millis {
        Millis(self.wall.load(Ordering::Relaxed))
    }

    pub(crate) fn status(&self) -> Vec<CacheStatus> {
        self.tables.values().map(Table::status).collect()
    }
}

impl Table {
    fn bytes(&self) -> u64 {
        self.values.bytes() + self.tombstones.bytes()
    }

    fn status(&self) -> CacheStatus {
        let values = self.values.statistics();
        CacheStatus {
            table: self.name.clone(),
            bytes: self.bytes(),
            bytes_max: self.options.memory_bytes,
            values: values.entries,
            tombstones: self.tombstones.statistics().entries,
            hits: values.hits,
            misses: values.misses,
            evictions: values.evictions,
            expirations: values.expirations,
            deletes_refused: self.refused,
        }
    }
}

fn is_tombstone(record: &Record) -> bool {
    record.versions().first().is_some_and(|(_, version)| version.payload == Payload::Tombstone)
}
