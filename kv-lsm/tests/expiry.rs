//! What expires: hidden from every read once its time has come, freed although nobody writes, and never in the way of what
//! it hid.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_core::time::Millis;
use kv_lsm::disk::{Disk, MemDisk};
use kv_lsm::{
    Background, Batch, CompactionStrategy, Database, Durability, Error, Keyspace, KeyspaceMetrics, KeyspaceOptions,
    Snapshot, WriteOptions,
};

/// A database on a disk and a clock of its own.
struct World {
    disk: MemDisk,
    clock: Arc<AtomicU64>,
    db: Database,
}

impl World {
    fn new() -> Self {
        Self::with(MemDisk::new(), 100, Background::Manual)
    }

    fn with(disk: MemDisk, now: u64, background: Background) -> Self {
        let clock = Arc::new(AtomicU64::new(now));
        let source = Arc::clone(&clock);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let db = Database::builder(Path::new("/db"))
            .disk(shared)
            .background(background)
            .durability(Durability::Buffered)
            .block_bytes(256)
            .level1_bytes(1 << 14)
            .table_bytes(4096)
            .clock(Arc::new(move || Millis(source.load(Ordering::Relaxed))))
            .open()
            .unwrap();
        Self { disk, clock, db }
    }

    fn at(&self, now: u64) {
        self.clock.store(now, Ordering::Relaxed);
    }

    fn reopened_at(self, now: u64) -> Self {
        let Self { disk, db, .. } = self;
        drop(db);
        Self::with(disk, now, Background::Manual)
    }

    fn keyspace(&self) -> Keyspace {
        self.db.keyspace("k", KeyspaceOptions::default()).unwrap()
    }

    /// Does all background work, of which there must not be more than `most`.
    fn settle(&self, most: usize) -> usize {
        let done = (0..=most).take_while(|_| self.db.step().unwrap()).count();
        assert!(done <= most, "background work without end");
        done
    }

    fn metrics(&self, keyspace: &Keyspace) -> KeyspaceMetrics {
        self.db.metrics().keyspaces.into_iter().find(|metrics| metrics.name == keyspace.name()).unwrap()
    }

    fn entries(&self, keyspace: &Keyspace) -> u64 {
        self.metrics(keyspace).levels.iter().map(|level| level.entries).sum()
    }

    fn tables(&self, keyspace: &Keyspace) -> usize {
        self.metrics(keyspace).levels.iter().map(|level| level.tables).sum()
    }
}

/// Every way to read one key, which must agree.
fn read(keyspace: &Keyspace, snapshot: Option<&Snapshot>, key: &str) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (point, present, forward, backward) = match snapshot {
        None => (
            keyspace.get(key).unwrap(),
            keyspace.contains_key(key).unwrap(),
            keyspace.prefix(key).next(),
            keyspace.prefix(key).next_back(),
        ),
        Some(snapshot) => (
            snapshot.get(keyspace, key).unwrap(),
            snapshot.contains_key(keyspace, key).unwrap(),
            snapshot.prefix(keyspace, key).next(),
            snapshot.prefix(keyspace, key).next_back(),
        ),
    };
    let point = point.map(|value| text(&value));
    assert_eq!(present, point.is_some());
    for scanned in [forward, backward] {
        assert_eq!(scanned.map(|entry| text(&entry.unwrap().1)), point, "a scan disagrees with a point read");
    }
    if snapshot.is_none() {
        let several = keyspace.multi_get([key, "absent"]).unwrap();
        assert_eq!(several[0].as_deref().map(text), point, "multi_get disagrees");
    }
    point
}

fn is(value: &str) -> Option<String> {
    Some(value.to_owned())
}

#[test]
fn engine_rule_12_no_read_sees_what_has_expired() {
    let world = World::new();
    let keyspace = world.keyspace();
    keyspace.put_with_ttl("a", "1", Duration::from_millis(50)).unwrap();
    keyspace.put_expiring("b", "2", Millis(200)).unwrap();
    keyspace.put_expiring("gone", "3", Millis(100)).unwrap();
    let mut batch = Batch::new();
    batch.put_with_ttl(&keyspace, "c", "4", Duration::from_nanos(1)).unwrap();
    batch.put(&keyspace, "stays", "5");
    world.db.write(batch).unwrap();
    for flushed in [false, true] {
        world.at(100);
        let all = ["a", "b", "gone", "c", "stays"].map(|key| read(&keyspace, None, key));
        assert_eq!(all, [is("1"), is("2"), None, is("4"), is("5")], "flushed: {flushed}");
        if !flushed {
            world.db.flush().unwrap();
        }
    }
    let before = world.db.snapshot();
    assert_eq!(before.as_of(), Millis(100));
    for (now, expected) in [
        (101, [is("1"), is("2"), None, is("5")]),
        (149, [is("1"), is("2"), None, is("5")]),
        (150, [None, is("2"), None, is("5")]),
        (200, [None, None, None, is("5")]),
    ] {
        world.at(now);
        assert_eq!(["a", "b", "c", "stays"].map(|key| read(&keyspace, None, key)), expected, "at {now}");
        assert_eq!(["a", "b", "c"].map(|key| read(&keyspace, Some(&before), key)), [is("1"), is("2"), is("4")]);
    }
}

#[test]
fn engine_rule_12_a_snapshot_keeps_what_expires_after_it() {
    let world = World::new();
    let keyspace = world.keyspace();
    keyspace.put_expiring("a", "1", Millis(150)).unwrap();
    let early = world.db.snapshot();
    world.at(160);
    let late = world.db.snapshot();
    keyspace.put("b", "2").unwrap();
    for _ in 0..2 {
        keyspace.compact_range(..).unwrap();
        world.settle(10);
        assert_eq!(read(&keyspace, Some(&early), "a"), is("1"));
        assert_eq!(read(&keyspace, Some(&late), "a"), None);
        assert_eq!(world.entries(&keyspace), 2);
    }
    drop(early);
    keyspace.compact_range(..).unwrap();
    assert_eq!(world.entries(&keyspace), 1, "whoever is left reads at a later time");
    assert_eq!(read(&keyspace, Some(&late), "a"), None);
}

#[test]
fn lesson_49_what_has_expired_never_uncovers_what_it_hid() {
    // The value below lies in the memtable, on level 0, or deeper; the one that expires is written over it; then everything
    // is moved about, before and after its time.
    for deep in 0..3 {
        for late in [false, true] {
            let world = World::new();
            let keyspace = world.keyspace();
            keyspace.put("k", "old").unwrap();
            match deep {
                0 => {}
                1 => world.db.flush().unwrap(),
                _ => keyspace.compact_range(..).unwrap(),
            }
            keyspace.put_expiring("k", "new", Millis(150)).unwrap();
            assert_eq!(read(&keyspace, None, "k"), is("new"));
            if late {
                world.db.flush().unwrap();
            }
            world.at(150);
            let gone = |what: &str| assert_eq!(read(&keyspace, None, "k"), None, "{what}: deep {deep}, late {late}");
            gone("at its time");
            world.db.flush().unwrap();
            gone("flushed");
            world.settle(20);
            gone("settled");
            keyspace.compact_range(..).unwrap();
            gone("compacted");
            assert_eq!(world.entries(&keyspace), 0, "and nothing is left of either: deep {deep}, late {late}");
            drop(keyspace);
            // The clock is set back: time does not.
            let world = world.reopened_at(10);
            assert_eq!(read(&world.keyspace(), None, "k"), None);
        }
    }
}

#[test]
fn engine_rule_12_time_does_not_go_back_over_a_restart() {
    let mut world = World::new();
    let keyspace = world.keyspace();
    keyspace.put_expiring("in a table", "1", Millis(150)).unwrap();
    world.at(300);
    world.db.flush().unwrap();
    keyspace.put_expiring("in the log", "2", Millis(250)).unwrap();
    assert_eq!(read(&keyspace, None, "in the log"), None);
    drop(keyspace);
    for now in [200, 1, 299] {
        world = world.reopened_at(now);
        let keyspace = world.keyspace();
        assert_eq!(read(&keyspace, None, "in a table"), None, "at {now}");
        assert_eq!(read(&keyspace, None, "in the log"), None, "at {now}: the flush had shown that it was 300");
        assert_eq!(world.db.snapshot().as_of(), Millis(300));
    }
}

#[test]
fn a_default_time_to_live_counts_from_the_write() {
    let mut world = World::new();
    let options = |ttl: u64| KeyspaceOptions::default().default_ttl(Duration::from_millis(ttl));
    let keyspace = world.db.keyspace("k", options(50)).unwrap();
    keyspace.put("a", "1").unwrap();
    world.at(130);
    let mut batch = Batch::new();
    batch.put(&keyspace, "b", "2");
    batch.put_expiring(&keyspace, "c", "3", Millis(1000));
    world.db.write(batch).unwrap();
    world.at(150);
    assert_eq!(["a", "b", "c"].map(|key| read(&keyspace, None, key)), [None, is("2"), is("3")]);
    world.at(180);
    assert_eq!(["a", "b", "c"].map(|key| read(&keyspace, None, key)), [None, None, is("3")]);
    // It may change, and the change is stored: the next opening has it before the keyspace is asked for.
    let changed = world.db.keyspace("k", options(500)).unwrap();
    for handle in [&keyspace, &changed] {
        handle.put("d", "4").unwrap();
    }
    drop((keyspace, changed));
    world = world.reopened_at(600);
    let keyspace = world.db.keyspace("k", options(500)).unwrap();
    assert_eq!(["c", "d"].map(|key| read(&keyspace, None, key)), [is("3"), is("4")]);
    world.at(680);
    assert_eq!(["c", "d"].map(|key| read(&keyspace, None, key)), [is("3"), None]);
}

struct Last;

impl MergeOperator for Last {
    fn fold(
        &self,
        _key: &[u8],
        _base: Option<&[u8]>,
        oldest_first: &[&[u8]],
        _how: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, Corrupt> {
        out.extend_from_slice(oldest_first.last().copied().unwrap_or_default());
        Ok(Folded::Value)
    }
}

#[test]
fn times_that_cannot_be_kept_are_refused() {
    let world = World::new();
    let keyspace = world.keyspace();
    for ttl in [Duration::ZERO, Duration::MAX, Duration::from_millis(u64::MAX - 99)] {
        let refused = keyspace.put_with_ttl("k", "v", ttl);
        assert!(matches!(refused, Err(Error::InvalidTtl { .. })), "{ttl:?}: {refused:?}");
        let mut batch = Batch::new();
        assert!(matches!(batch.put_with_ttl(&keyspace, "k", "v", ttl), Err(Error::InvalidTtl { .. })));
        assert!(batch.is_empty());
    }
    keyspace.put_with_ttl("k", "v", Duration::from_millis(u64::MAX - 100)).unwrap();
    assert_eq!(read(&keyspace, None, "k"), is("v"));
    let merged = world.db.keyspace("m", KeyspaceOptions::default().merge(Arc::new(Last))).unwrap();
    let refused = merged.put_with_ttl("k", "v", Duration::from_secs(1));
    assert!(matches!(refused, Err(Error::ExpiryWithOperator { .. })), "{refused:?}");
    let mut batch = Batch::new();
    batch.put(&keyspace, "other", "v");
    batch.put_expiring(&merged, "k", "v", Millis(1000));
    assert!(matches!(world.db.write(batch), Err(Error::ExpiryWithOperator { .. })));
    assert_eq!(
        (read(&keyspace, None, "other"), read(&merged, None, "k")),
        (None, None),
        "nothing of the batch is there"
    );
}

/// Many entries, each with its expiry.
fn fill(keyspace: &Keyspace, expiries: impl IntoIterator<Item = u64>) {
    for (number, expire_at) in expiries.into_iter().enumerate() {
        keyspace.put_expiring(format!("{number:05}"), [7; 50], Millis(expire_at)).unwrap();
    }
}

#[test]
fn lesson_48_what_has_expired_is_freed_although_nobody_writes() {
    let world = World::new();
    let keyspace = world.keyspace();
    fill(&keyspace, (0..400).map(|number| 1000 + number));
    keyspace.compact_range(..).unwrap();
    world.settle(10);
    fill(&keyspace, (0..100).map(|_| 1200));
    world.db.flush().unwrap();
    assert_eq!(world.settle(10), 0, "nothing has expired");
    assert_eq!(world.entries(&keyspace), 500);
    world.at(999);
    assert_eq!(world.settle(10), 0);
    world.at(1300);
    assert!(world.settle(100) > 0);
    assert!(world.entries(&keyspace) < 150, "{} entries are left", world.entries(&keyspace));
    world.at(2000);
    world.settle(100);
    assert_eq!((world.entries(&keyspace), world.tables(&keyspace)), (0, 0));
}

#[test]
fn lesson_48_an_idle_database_with_threads_wakes_by_itself() {
    let world = World::with(MemDisk::new(), 100, Background::Threads);
    let keyspace = world.keyspace();
    fill(&keyspace, (0..400).map(|_| 1000));
    world.db.flush().unwrap();
    assert_eq!(world.entries(&keyspace), 400);
    world.at(1000);
    let patience = std::time::Instant::now();
    while world.tables(&keyspace) > 0 {
        assert!(patience.elapsed() < Duration::from_secs(30), "nobody noticed that time has passed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn lesson_48_tables_of_deletes_are_freed_although_nobody_writes() {
    let world = World::new();
    let keyspace = world.keyspace();
    let key = |number: u32| format!("{number:05}");
    for number in 0..400 {
        keyspace.put(key(number), [7; 50]).unwrap();
    }
    keyspace.compact_range(..).unwrap();
    let snapshot = world.db.snapshot();
    for number in 0..400 {
        keyspace.delete(key(number)).unwrap();
    }
    world.db.flush().unwrap();
    world.settle(50);
    assert!(world.entries(&keyspace) >= 800, "the snapshot sees what was deleted, and the others that it was");
    assert_eq!(snapshot.iter(&keyspace).count(), 400);
    drop(snapshot);
    assert!(world.settle(50) > 0);
    assert_eq!((world.entries(&keyspace), world.tables(&keyspace)), (0, 0));
}

#[test]
fn lesson_48_rewriting_for_room_comes_to_an_end() {
    // The worst case for a guess by the earliest and the latest expiry: one entry after the other expires, long before
    // all the rest.
    let world = World::new();
    let keyspace = world.keyspace();
    fill(&keyspace, (0..200).map(|number| if number < 30 { 1000 + number * 10 } else { 1_000_000 + number }));
    keyspace.compact_range(..).unwrap();
    world.settle(10);
    let snapshot = world.db.snapshot();
    let mut rewritten = 0;
    let mut now = 900_u64;
    while now < 1_000_300 {
        world.at(now);
        let done = world.settle(20);
        assert_eq!(world.settle(0), 0, "at {now}: the same again, with nothing gained");
        rewritten += done;
        assert_eq!(done, 0, "at {now}: a snapshot of an earlier time sees everything, so there is nothing to gain");
        now += 1 + (now - 900) / 7;
    }
    world.at(1_000_300);
    drop(snapshot);
    world.settle(20);
    assert_eq!((world.entries(&keyspace), rewritten), (0, 0));

    let world = World::new();
    let keyspace = world.keyspace();
    fill(&keyspace, (0..200).map(|number| if number < 30 { 1000 + number * 10 } else { 1_000_000 + number }));
    keyspace.compact_range(..).unwrap();
    world.settle(10);
    let tables = world.tables(&keyspace);
    now = 900;
    while now < 1_000_300 {
        world.at(now);
        rewritten += world.settle(20);
        assert_eq!(world.settle(0), 0, "at {now}: the same again, with nothing gained");
        now += 1 + (now - 900) / 7;
    }
    world.at(1_000_300);
    rewritten += world.settle(20);
    assert_eq!(world.entries(&keyspace), 0);
    assert!(rewritten <= tables * 25, "{rewritten} rewrites of {tables} tables in a life of a million milliseconds");
}

const FIFO: CompactionStrategy = CompactionStrategy::Fifo { bytes_max: None };

fn fifo(world: &World, bytes_max: Option<u64>) -> Keyspace {
    let options = KeyspaceOptions::default().compaction(CompactionStrategy::Fifo { bytes_max });
    world.db.keyspace("fifo", options.default_ttl(Duration::from_millis(100))).unwrap()
}

#[test]
fn first_in_first_out_drops_whole_tables_unread() {
    let world = World::new();
    let keyspace = fifo(&world, None);
    for round in 0..20_u64 {
        world.at(100 + round * 10);
        for number in 0..10 {
            keyspace.put(format!("{number}-{round:03}"), [7; 50]).unwrap();
        }
        world.db.flush().unwrap();
        world.settle(10);
        // What was written in the last hundred milliseconds is there, and so are at most the tables that hold it.
        let expected = usize::try_from(round + 1).unwrap().min(10);
        assert_eq!((keyspace.iter().count(), world.tables(&keyspace)), (expected * 10, expected), "round {round}");
    }
    world.at(1000);
    world.settle(20);
    assert_eq!(world.tables(&keyspace), 0);
    let metrics = world.db.metrics();
    assert_eq!((metrics.dropped_tables, metrics.compactions, metrics.compaction_read_bytes), (20, 0, 0));
    assert_eq!(metrics.stalls, 0, "any number of tables is no reason to wait");
}

#[test]
fn lesson_49_first_in_first_out_never_uncovers_what_was_overwritten_or_deleted() {
    let world = World::new();
    let keyspace = fifo(&world, None);
    for key in ["overwritten", "deleted", "swept"] {
        keyspace.put_expiring(key, "old", Millis(10_000)).unwrap();
    }
    world.db.flush().unwrap();
    keyspace.put_expiring("overwritten", "new", Millis(150)).unwrap();
    keyspace.delete("deleted").unwrap();
    keyspace.delete_range("s".."t").unwrap();
    world.db.flush().unwrap();
    for now in [150, 5000] {
        world.at(now);
        world.settle(10);
        keyspace.compact_range(..).unwrap();
        assert_eq!(["overwritten", "deleted", "swept"].map(|key| read(&keyspace, None, key)), [None, None, None]);
    }
    assert_eq!(world.tables(&keyspace), 2, "the older table holds the newer back");
    world.at(10_000);
    world.settle(10);
    assert_eq!(world.tables(&keyspace), 0);
}

#[test]
fn first_in_first_out_holds_to_its_bound() {
    let world = World::new();
    let keyspace = fifo(&world, Some(10_000));
    for round in 0..40 {
        for number in 0..10 {
            keyspace.put(format!("{round:03}-{number}"), [7; 50]).unwrap();
        }
        world.db.flush().unwrap();
        world.settle(10);
        let bytes: u64 = world.metrics(&keyspace).levels.iter().map(|level| level.bytes).sum();
        assert!(bytes <= 10_000, "{bytes} bytes");
    }
    let left: Vec<_> = keyspace.iter().map(|entry| entry.unwrap().0.to_vec()).collect();
    assert!(left.len() > 20 && left.len() < 200, "{} entries are left", left.len());
    assert_eq!(left.last().unwrap(), b"039-9", "the newest are");
    let merged = KeyspaceOptions::default().compaction(FIFO).merge(Arc::new(Last));
    assert!(matches!(world.db.keyspace("merged", merged), Err(Error::InvalidOptions { .. })));
    assert!(matches!(keyspace.merge("k", "+"), Err(Error::NoMergeOperator { .. })));
}

#[test]
fn lesson_47_who_must_not_wait_is_told() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let db = Database::builder(Path::new("/db"))
        .disk(disk)
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .memtable_bytes(1 << 16)
        .level0_tables(1)
        .open()
        .unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    let mut taken = 0_u32;
    let refused = loop {
        match keyspace.try_put(taken.to_be_bytes(), [7; 1000]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1000, "there is no end to it");
    };
    assert!(matches!(refused, Error::Stalled { retry_after: Duration::ZERO }), "{refused:?}");
    let before = db.metrics();
    let mut batch = Batch::new();
    batch.put(&keyspace, "batch", "1");
    for _ in 0..3 {
        assert!(matches!(db.try_write(&batch, WriteOptions::default()), Err(Error::Stalled { .. })));
    }
    let after = db.metrics();
    assert_eq!((before.visible_sequence, before.batches), (after.visible_sequence, after.batches), "nothing changed");
    assert_eq!(keyspace.iter().count(), usize::try_from(taken).unwrap());
    // A write that may wait does the work itself (rule E16), and then there is room for all.
    keyspace.put("waits", "1").unwrap();
    db.try_write(&batch, WriteOptions::default()).unwrap();
    keyspace.try_put("again", "1").unwrap();
    assert_eq!(keyspace.iter().count(), usize::try_from(taken).unwrap() + 3);
}
