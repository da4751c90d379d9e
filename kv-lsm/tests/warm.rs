//! What readers have in the cache stays there when it is hidden by a flush or replaced by a compaction.

use std::path::Path;

use kv_lsm::disk::MemDisk;
use kv_lsm::{Background, Database, Durability, Keyspace, KeyspaceOptions};

const COUNT: u32 = 4000;

fn open() -> (Database, Keyspace) {
    let builder = Database::builder(Path::new("/db")).disk(MemDisk::new()).background(Background::Manual);
    let builder = builder.durability(Durability::Buffered).memtable_bytes(8 << 20).cache_bytes(64 << 20);
    let db = builder.table_bytes(64 << 10).block_bytes(1024).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    (db, keyspace)
}

fn write(keyspace: &Keyspace, fill: u8) {
    for number in 0..COUNT {
        keyspace.put(number.to_be_bytes(), [fill; 100]).unwrap();
    }
}

/// How many blocks had to be read for it.
fn read(db: &Database, keyspace: &Keyspace, numbers: std::ops::Range<u32>, fill: u8) -> u64 {
    let before = db.metrics().cache_misses;
    for number in numbers {
        assert_eq!(keyspace.get(number.to_be_bytes()).unwrap().unwrap(), &[fill; 100][..]);
    }
    db.metrics().cache_misses - before
}

#[test]
fn what_is_read_stays_in_memory_through_flushes_and_compactions() {
    let (db, keyspace) = open();
    write(&keyspace, 1);
    db.flush().unwrap();
    assert!(read(&db, &keyspace, 0..COUNT, 1) > 100, "nobody had read it");
    write(&keyspace, 2);
    db.flush().unwrap();
    assert_eq!(read(&db, &keyspace, 0..COUNT, 2), 0, "what the flush hid was read");
    keyspace.compact_range(..).unwrap();
    assert_eq!(db.metrics().keyspaces[0].levels[0].tables, 0, "it was rewritten");
    assert_eq!(read(&db, &keyspace, 0..COUNT, 2), 0, "what the compaction replaced was read");
}

#[test]
fn what_nobody_reads_takes_no_memory() {
    let (db, keyspace) = open();
    for fill in 1..4 {
        write(&keyspace, fill);
        db.flush().unwrap();
    }
    keyspace.compact_range(..).unwrap();
    assert_eq!(db.metrics().cache_bytes, 0);
    read(&db, &keyspace, 0..COUNT / 4, 3);
    let quarter = db.metrics().cache_bytes;
    for fill in 4..8 {
        write(&keyspace, fill);
        db.flush().unwrap();
        keyspace.compact_range(..).unwrap();
        let now = db.metrics().cache_bytes;
        assert!(now > quarter * 9 / 10 && now < quarter * 11 / 10, "of a quarter {quarter} bytes, then {now}");
        assert_eq!(read(&db, &keyspace, 2..COUNT / 4 - 20, fill), 0, "still in memory");
    }
    // Compactions read everything, and are no readers.
    for fill in 8..10 {
        write(&keyspace, fill);
        db.flush().unwrap();
        keyspace.compact_range(..).unwrap();
    }
    assert_eq!(db.metrics().cache_bytes, 0, "nobody has read it since the compaction before the last");
    assert!(read(&db, &keyspace, 0..COUNT, 9) > 50);
}
