//! What a node holds of cache tables, in memory and nowhere else (rule P19).
//!
//! - Values may be evicted at any time, as the table's policy chooses. Tombstones may not: they have a part of the memory
//!   to themselves, and stay until nothing older can still be visible anywhere, also beneath a value that was written since,
//!   which may go at any time.
//! - A node that starts may have forgotten a delete. For as long as anything can be visible that such a delete hides, it holds,
//!   as it were, a tombstone of its start under every key: what was born before is not shown where this node is asked.
//! - No delete is taken that such a tombstone would not hide: one that is born further ahead of this clock than any stamp may be.
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
    /// Whether there may be something that expires.
    holds_any: bool,
}

/// Why a change cannot be taken.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum NotTaken {
    /// There is no room: for another tombstone, or for a value that is larger than all there is.
    Full,
    /// It is a delete which the next life of this node could not hide.
    Early,
}

struct Table {
    options: CacheOptions,
    name: String,
    values: Cache,
    tombstones: Cache,
    /// Deletes that did not fit.
    refused: u64,
    /// Nothing born before is shown either: when a new storage has learned of the table.
    joined: Option<Stamp>,
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
        Self {
            tables: BTreeMap::new(),
            wall: Arc::default(),
            drift_max,
            start: None,
            swept: Millis::ZERO,
            holds_any: false,
        }
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
            values: build(options.memory_bytes - tombstone_bytes, Eviction::AllKeys(options.policy)),
            tombstones: build(tombstone_bytes, Eviction::Never),
            options,
            refused: 0,
            joined: None,
        };
        self.tables.insert(id, table);
    }

    /// A node whose storage is new has just learned of a table that may have been there before: it has missed the deletes of
    /// until now.
    pub(crate) fn join_late(&mut self, table: TableId) {
        let now = self.latest();
        if let Some(table) = self.tables.get_mut(&table) {
            table.joined = Some(now).filter(|_| !sabotaged!(ForgetColdStart));
        }
    }

    /// No delete that was taken until now was born later, here or by another clock that is right.
    fn latest(&self) -> Stamp {
        Stamp::at(self.wall().saturating_add(self.drift_max))
    }

    /// It is so late.
    pub(crate) fn tick(&mut self, now: Now) {
        self.wall.store(now.wall.0, Ordering::Relaxed);
        // Every delete that an earlier life has taken was born earlier, unless this clock was set back in between.
        let latest = self.latest();
        self.start.get_or_insert(latest);
        if self.next_sweep().is_some_and(|at| at <= now.monotonic) {
            self.swept = now.monotonic;
            for table in self.tables.values() {
                table.values.expire(SWEEP_STEPS);
                table.tombstones.expire(SWEEP_STEPS);
            }
            self.holds_any = self.tables.values().any(|table| table.bytes() > 0);
        }
    }

    /// When to look for what has expired, if there is anything.
    pub(crate) fn next_sweep(&self) -> Option<Millis> {
        self.holds_any.then(|| self.swept.saturating_add(SWEEP_EVERY))
    }

    /// Whether a table is a cache that this node holds a part of.
    pub(crate) fn are_of(&self, table: TableId) -> bool {
        self.tables.contains_key(&table)
    }

    /// What a reader of a key is shown; `me` is who says so of the start of this life.
    pub(crate) fn read(&self, key: &RecordKey, me: Actor) -> Option<Bytes> {
        let table = self.tables.get(&key.table())?;
        table.values.get(key.as_bytes()).or_else(|| self.beneath(table, key, me))
    }

    /// The same for who is no reader: the key is not used more often by that.
    pub(crate) fn peek(&self, key: &RecordKey, me: Actor) -> Option<Bytes> {
        let table = self.tables.get(&key.table())?;
        table.values.peek(key.as_bytes()).or_else(|| self.beneath(table, key, me))
    }

    /// The tombstone of a key. A value that is held is newer.
    fn beneath(&self, table: &Table, key: &RecordKey, me: Actor) -> Option<Bytes> {
        let held = table.tombstones.peek(key.as_bytes());
        held.or_else(|| self.of_the_start(table, me).map(|record| record.to_bytes()))
    }

    /// The tombstone that stands under every key for a while after the start.
    fn of_the_start(&self, table: &Table, me: Actor) -> Option<Record> {
        let birth = table.joined.or(self.start)?;
        let is_needed = self.wall() < self.tombstone_until(table, birth) && !sabotaged!(ForgetColdStart);
        let version = Version { birth, payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None };
        is_needed.then(|| Record::last_write(me, version))
    }

    /// Whether a change can be taken.
    pub(crate) fn admits(&self, key: &RecordKey, record: &Record, record_bytes: usize) -> Result<(), NotTaken> {
        let Some(table) = self.tables.get(&key.table()) else { return Err(NotTaken::Full) };
        let cost = ENTRY_BYTES + (key.as_bytes().len() + record_bytes) as u64;
        if !is_tombstone(record) {
            return if cost <= table.values.entry_bytes_max() { Ok(()) } else { Err(NotTaken::Full) };
        }
        let latest = self.wall().saturating_add(self.drift_max);
        if record.birth_max().wall() > latest && !sabotaged!(TakeEarlyDeletes) {
            return Err(NotTaken::Early);
        }
        let replaced = table.tombstones.peek(key.as_bytes());
        let replaced = replaced.map_or(0, |held| ENTRY_BYTES + (key.as_bytes().len() + held.len()) as u64);
        let has_room = table.tombstones.bytes() + cost <= table.tombstones.capacity_bytes() + replaced;
        if has_room { Ok(()) } else { Err(NotTaken::Full) }
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

    /// Joins a change that was [admitted](Caches::admits) to what is held.
    pub(crate) fn join(&mut self, key: &RecordKey, change: &Record, me: Actor) {
        self.holds_any = true;
        let Some(table) = self.tables.get(&key.table()) else { return };
        if is_tombstone(change) && !sabotaged!(EvictTombstones) {
            self.join_tombstone(table, key, change, me);
        } else {
            self.join_value(table, key, change, me);
        }
    }

    fn join_tombstone(&self, table: &Table, key: &RecordKey, change: &Record, me: Actor) {
        let Some(tombstone) = newer(change, self.beneath(table, key, me)) else { return };
        let left = self.tombstone_until(table, tombstone.birth_max()).saturating_sub(self.wall());
        let put = table.tombstones.put_with_ttl(key.as_bytes(), bytes_of(&tombstone), left);
        // One whose time is over hides nothing any more.
        assert!(put.is_ok() || left == Millis::ZERO, "whoever puts a tombstone has asked for room: {put:?}");
        let newest = newer(&tombstone, table.values.peek(key.as_bytes()));
        if newest.is_some_and(|newest| is_tombstone(&newest)) {
            table.values.remove(key.as_bytes());
        }
    }

    fn join_value(&self, table: &Table, key: &RecordKey, change: &Record, me: Actor) {
        let Some(value) = newer(change, self.peek(key, me)) else { return };
        let Some((_, version)) = value.versions().first() else { return };
        if sabotaged!(ForgetReplacedDeletes) {
            table.tombstones.remove(key.as_bytes());
        }
        let end = version.birth.wall().saturating_add(table.options.ttl_max);
        let end = version.expiry.time().map_or(end, |expiry| expiry.min(end));
        let left = end.saturating_sub(self.wall());
        if table.values.put_with_ttl(key.as_bytes(), bytes_of(&value), left).is_err() {
            // Expired, or too large: as if it had been evicted at once, and what was there before with it.
            table.values.remove(key.as_bytes());
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

/// What `change` and what is held come to, if that is more than what is held.
fn newer(change: &Record, held: Option<Bytes>) -> Option<Record> {
    let held = held.and_then(|bytes| Record::decode(&bytes).ok());
    let held = held.unwrap_or_else(|| Record::empty(Rule::LastWriteWins));
    // One that is no last write was refused before.
    held.join(change).ok().filter(|joined| *joined != held)
}

/// A copy of its own, which keeps no frame alive.
fn bytes_of(record: &Record) -> Bytes {
    Bytes::from(record.to_bytes().to_vec())
}

fn is_tombstone(record: &Record) -> bool {
    record.versions().first().is_some_and(|(_, version)| version.payload == Payload::Tombstone)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kv_core::NodeId;
    use kv_core::evict::PolicyKind;
    use kv_core::key::Key;
    use kv_core::version::Incarnation;
    use kv_ring::{Layout, Weight, Zone};

    use super::*;
    use crate::table_options::TableOptions;

    const ME: Actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };
    const START: u64 = 1_000_000;

    fn caches() -> Caches {
        let mut caches = Caches::new(Millis(500));
        let options = TableOptions::cache(PolicyKind::Fifo).memory_bytes(64 << 10).ttl_max(Duration::from_secs(60));
        let layout = Layout::builder(1).partitions(1).node(NodeId(1), Weight(1), Zone::default()).build().unwrap();
        caches.add(&TableSchema { id: TableId(1), name: "cache".to_owned(), options, layout: layout.into() }, 0);
        caches.tick(Now { monotonic: Millis(0), wall: Millis(START) });
        caches.tick(Now { monotonic: Millis(5_000), wall: Millis(START + 5_000) });
        caches
    }

    fn record(payload: Payload, birth: u64) -> Record {
        let birth = Stamp::at(Millis(START + birth));
        Record::last_write(ME, Version { birth, payload, expiry: Expiry::NEVER, operation: None })
    }

    fn value(birth: u64) -> Record {
        record(Payload::Value(Bytes::from_static(b"value")), birth)
    }

    /// A delete is kept whichever arrives first, and shows when the value after it has gone.
    #[test]
    fn protocol_rule_19_a_delete_is_kept_beside_the_value_after_it() {
        let key = RecordKey::new(TableId(1), &Key::from("k")).unwrap();
        let (earlier, later) = (record(Payload::Tombstone, 4_000), value(4_500));
        for changes in [[&earlier, &later], [&later, &earlier]] {
            let mut caches = caches();
            for change in changes {
                assert_eq!(caches.admits(&key, change, change.to_bytes().len()), Ok(()));
                caches.join(&key, change, ME);
            }
            let held = |caches: &Caches| caches.read(&key, ME).map(|bytes| Record::decode(&bytes).unwrap());
            assert_eq!(held(&caches).as_ref(), Some(&later));
            caches.tables[&TableId(1)].values.remove(key.as_bytes());
            assert_eq!(held(&caches).as_ref(), Some(&earlier), "the value was evicted");
            caches.join(&key, &value(3_500), ME);
            assert_eq!(held(&caches).as_ref(), Some(&earlier), "what it hides has arrived late");
            caches.join(&key, &record(Payload::Tombstone, 4_800), ME);
            caches.join(&key, &later, ME);
            assert_eq!(held(&caches), Some(record(Payload::Tombstone, 4_800)), "the last of them stands");
        }
    }

    #[test]
    fn protocol_rule_19_a_new_storage_hides_what_was_deleted_before_it_knew_the_table() {
        let key = RecordKey::new(TableId(1), &Key::from("k")).unwrap();
        let shown = || {
            let mut caches = caches();
            caches.join_late(TableId(1));
            // A straggler of a write whose delete this node was never told of.
            caches.join(&key, &value(4_000), ME);
            let before = caches.read(&key, ME).map(|bytes| Record::decode(&bytes).unwrap());
            caches.join(&key, &value(5_501), ME);
            (before, caches.read(&key, ME).map(|bytes| Record::decode(&bytes).unwrap()))
        };
        assert_eq!(shown(), (Some(record(Payload::Tombstone, 5_500)), Some(value(5_501))));
        let careless = crate::sabotage::Sabotage::ForgetColdStart.during(shown);
        assert_eq!(careless.0, Some(value(4_000)));
    }

    #[test]
    fn protocol_rule_19_no_delete_is_taken_that_the_next_start_would_not_hide() {
        let (caches, key) = (caches(), RecordKey::new(TableId(1), &Key::from("k")).unwrap());
        let admitted = |change: &Record| caches.admits(&key, change, change.to_bytes().len());
        assert_eq!(admitted(&record(Payload::Tombstone, 5_500)), Ok(()));
        assert_eq!(admitted(&record(Payload::Tombstone, 5_501)), Err(NotTaken::Early));
        assert_eq!(admitted(&value(9_000)), Ok(()), "nothing is lost with a value");
    }
}
