//! What a database may use at most: memory, open files, log.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use kv_lsm::disk::{Disk, MemDisk};
use kv_lsm::{Background, Batch, Compression, Database, Durability, Error, Keyspace, KeyspaceOptions};

/// Counts what is allocated at the moment.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is handed to the system's allocator unchanged, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The tests of this file run one after the other: they look at the memory of the process.
static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Keys so long, and blocks so small, that the index is larger than the data.
fn key(number: u32) -> Vec<u8> {
    let mut key = format!("{:08x}", number.wrapping_mul(0x9e37_79b9)).into_bytes();
    key.resize(240, b'.');
    key
}

const KEYS: u32 = 24_000;

fn fill(directory: &Path) {
    let db = Database::builder(directory)
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .block_bytes(256)
        .table_bytes(16 << 10)
        .memtable_bytes(1 << 20)
        .open()
        .unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    for start in (0..KEYS).step_by(200) {
        let mut batch = Batch::new();
        (start..start + 200).for_each(|number| batch.put(&keyspace, key(number), number.to_be_bytes()));
        db.write(batch).unwrap();
    }
    keyspace.compact_range(..).unwrap();
    while db.step().unwrap() {}
}

fn read_at_random(keyspace: &Keyspace, reads: u32, mut each: impl FnMut()) {
    let mut number = 1_u32;
    for _ in 0..reads {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wanted = (number >> 8) % (2 * KEYS);
        let found = keyspace.get(key(wanted)).unwrap();
        let expected = (wanted < KEYS).then(|| wanted.to_be_bytes());
        assert_eq!(found.as_deref(), expected.as_ref().map(<[u8; 4]>::as_slice));
        each();
    }
}

#[test]
fn lesson_50_indexes_and_filters_stay_within_the_budget() {
    const BUDGET: u64 = 2 << 20;
    const SLACK: u64 = 1536 << 10;
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let read = |memory_bytes: u64| {
        let before = LIVE.load(Ordering::Relaxed);
        let builder = Database::builder(directory.path()).background(Background::Manual);
        let db = builder.memory_bytes(memory_bytes).open().unwrap();
        let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
        let (mut most, mut most_allocated) = (0, 0);
        let mut reads = 0_u32;
        read_at_random(&keyspace, 3000, || {
            reads += 1;
            if reads.is_multiple_of(50) {
                most = most.max(db.metrics().memory_bytes());
                most_allocated = most_allocated.max(LIVE.load(Ordering::Relaxed).saturating_sub(before));
            }
        });
        // Scans hold what they walk over, one table per level at a time.
        assert_eq!(keyspace.iter().count(), KEYS as usize);
        let metrics = db.metrics();
        assert!(metrics.keyspaces[0].levels.iter().map(|level| level.tables).sum::<usize>() > 50, "{metrics}");
        assert!(metrics.filter_negatives > 500 && metrics.cache_misses > 0 && metrics.open_tables > 0, "{metrics}");
        (most, most_allocated)
    };
    // A large cache has memory that no allocator counts. This is not one.
    let (most, allocated) = read(12 * BUDGET);
    assert!(most > 2 * BUDGET, "with another budget it would be more: {most}");
    assert!(allocated as u64 > 2 * BUDGET, "{allocated} really allocated");
    let (most, allocated) = read(BUDGET);
    assert!(most <= BUDGET, "{most}");
    assert!(allocated as u64 <= BUDGET + SLACK, "{allocated} really allocated");
    assert!(most > BUDGET / 4, "what there is is used: {most}");
}

#[test]
fn open_files_are_bounded() {
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let db = Database::builder(directory.path()).background(Background::Manual).open_tables_max(5).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    read_at_random(&keyspace, 500, || {
        let open = db.metrics().open_tables;
        assert!((1..=5).contains(&open), "{open} open");
    });
    keyspace.compact_range(..).unwrap();
    drop(keyspace);
    assert!(db.metrics().open_tables <= 5);
}

#[test]
fn the_parts_of_a_budget_must_fit() {
    let _turn = turn();
    let builder = || Database::builder(Path::new("/db")).disk(MemDisk::new()).background(Background::Manual);
    let refused = |builder: kv_lsm::Builder| match builder.open() {
        Err(Error::InvalidOptions { what }) => what,
        other => panic!("{other:?}"),
    };
    builder().memory_bytes(64 << 20).open().unwrap();
    builder().memory_bytes(64 << 20).cache_bytes(60 << 20).open().unwrap();
    builder().memory_bytes(64 << 20).memtable_bytes(16 << 20).open().unwrap();
    builder().memory_bytes(64 << 20).memtable_bytes(8 << 20).cache_bytes(32 << 20).open().unwrap();
    refused(builder().memory_bytes(64 << 20).cache_bytes(64 << 20));
    refused(builder().memory_bytes(64 << 20).memtable_bytes(17 << 20));
    refused(builder().memory_bytes(64 << 20).memtable_bytes(8 << 20).cache_bytes(33 << 20));
    refused(builder().memory_bytes(1000));
    refused(builder().open_tables_max(0));
    refused(builder().log_bytes_max(1 << 20));
    let what = refused(builder().memory_bytes(1 << 20).cache_bytes(1 << 20));
    assert!(what.contains("1048576"), "the message has the figures: {what}");
}

/// A keyspace that is written once must not keep the log of all others.
#[test]
fn engine_rule_07_the_log_is_bounded() {
    const LOG_BYTES_MAX: u64 = 64 << 10;
    let _turn = turn();
    for background in [Background::Manual, Background::Threads] {
        for (log_bytes_max, bounded) in [(LOG_BYTES_MAX, true), (16 << 20, false)] {
            let disk = MemDisk::new();
            let db = Database::builder(Path::new("/db"))
                .disk(disk.clone())
                .background(background)
                .durability(Durability::Buffered)
                .log_segment_bytes(8 << 10)
                .log_spare_segments(0)
                .log_bytes_max(log_bytes_max)
                .open()
                .unwrap();
            let cold = db.keyspace("cold", KeyspaceOptions::default()).unwrap();
            let hot = db.keyspace("hot", KeyspaceOptions::default()).unwrap();
            cold.put("once", "1").unwrap();
            let mut most = 0;
            for number in 0..3000_u32 {
                hot.put((number % 10).to_be_bytes(), [7; 100]).unwrap();
                most = most.max(db.metrics().log_bytes);
            }
            assert_eq!(most <= LOG_BYTES_MAX + 200, bounded, "{most} bytes of log, {background:?}");
            let on_disk: u64 = disk
                .list(Path::new("/db"))
                .unwrap()
                .iter()
                .filter(|name| name.ends_with(".log"))
                // The background may have removed it since.
                .filter_map(|name| disk.open(&Path::new("/db").join(name), kv_lsm::disk::OpenMode::Read).ok())
                .map(|file| file.len().unwrap())
                .sum();
            // A flush that has just ended may not have removed its segments yet.
            assert_eq!(on_disk <= 2 * LOG_BYTES_MAX, bounded, "{on_disk} bytes on the disk");
            assert_eq!(cold.get("once").unwrap().as_deref(), Some(&b"1"[..]));
        }
    }
}

#[test]
fn metrics_tell_what_was_done() {
    let _turn = turn();
    let builder = Database::builder(Path::new("/db")).disk(MemDisk::new()).background(Background::Manual);
    let db = builder.compression(Compression::None).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    for number in 0..100_u32 {
        keyspace.put(number.to_be_bytes(), [7; 100]).unwrap();
    }
    keyspace.get(7_u32.to_be_bytes()).unwrap();
    db.flush().unwrap();
    let snapshot = db.snapshot();
    keyspace.get(7_u32.to_be_bytes()).unwrap();
    keyspace.get(7_u32.to_be_bytes()).unwrap();
    keyspace.get([9; 4]).unwrap();
    keyspace.compact_range(..).unwrap();
    keyspace.get(7_u32.to_be_bytes()).unwrap();
    let metrics = db.metrics();
    assert_eq!((metrics.memtable_reads, metrics.level0_reads, metrics.deeper_reads), (1, 2, 1));
    assert_eq!(metrics.exhausted_reads, 1);
    // After the compaction as well: what it replaced was in the cache, and was read.
    assert_eq!((metrics.cache_hits, metrics.cache_misses), (2, 1));
    assert_eq!((metrics.syncs, metrics.sync_us.count(), metrics.sync_batches.counts[1]), (100, 100, 100));
    assert_eq!((metrics.flush_us.count(), metrics.snapshots), (1, 1));
    assert!(metrics.write_amplification() > 1.5, "{metrics}");
    let shown = metrics.to_string();
    for part in ["k, ", "point reads     1 from memtables, 2 from level 0, 1 from deeper", "in order"] {
        assert!(shown.contains(part), "{part:?} in {shown}");
    }
    drop(snapshot);
}
