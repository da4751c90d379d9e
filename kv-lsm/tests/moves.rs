//! What overlaps nothing goes down as it is: a load in the order of the keys is written once to the log and once to tables.

use std::path::Path;

use kv_lsm::disk::MemDisk;
use kv_lsm::{Background, Database, Durability, Keyspace, KeyspaceOptions, Metrics};

const TABLE_BYTES: u64 = 16 << 10;

fn open() -> (Database, Keyspace) {
    let builder = Database::builder(Path::new("/db")).disk(MemDisk::new()).background(Background::Manual);
    let builder = builder.durability(Durability::Buffered).memtable_bytes(32 << 10).table_bytes(TABLE_BYTES);
    let db = builder.block_bytes(1024).level1_bytes(64 << 10).level0_tables(4).open().unwrap();
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).unwrap();
    (db, keyspace)
}

fn settle(db: &Database) -> Metrics {
    while db.step().unwrap() {}
    db.metrics()
}

fn key(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// Half of it can be compressed away.
fn value(number: u32) -> Vec<u8> {
    let mut noise = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = vec![b'~'; 100];
    for byte in &mut value[..50] {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        *byte = noise.to_le_bytes()[0];
    }
    value
}

fn fill(db: &Database, keyspace: &Keyspace, numbers: impl Iterator<Item = u32>) -> Metrics {
    for number in numbers {
        keyspace.put(key(number), value(number)).unwrap();
    }
    settle(db)
}

const COUNT: u32 = 20_000;

#[test]
fn a_load_in_the_order_of_the_keys_rewrites_nothing() {
    for downwards in [false, true] {
        let (db, keyspace) = open();
        let metrics = match downwards {
            false => fill(&db, &keyspace, 0..COUNT),
            true => fill(&db, &keyspace, (0..COUNT).rev()),
        };
        assert_eq!((metrics.compactions, metrics.compaction_written_bytes), (0, 0), "{metrics}");
        let levels = &metrics.keyspaces[0].levels;
        assert!(levels[0].tables < 4 && metrics.moved_tables > 50, "{metrics}");
        assert!(levels[5].tables > 0 && levels[6].tables > 0, "two levels are in use: {metrics}");
        // As the level where they end would have them.
        assert!(metrics.flush_bytes * 10 < metrics.batch_bytes * 8, "what is moved is compressed: {metrics}");
        let found: Vec<_> = keyspace.range(..).map(|entry| entry.unwrap()).collect();
        assert_eq!(found.len(), COUNT as usize);
        assert!(found.iter().zip(0..).all(|((found, read), number)| **found == key(number) && **read == value(number)));
    }
}

#[test]
fn keys_behind_all_others_do_not_rewrite_those_that_are_there() {
    let (db, keyspace) = open();
    let shuffled = (0..COUNT).map(|number| number * 7919 % COUNT);
    let before = fill(&db, &keyspace, shuffled);
    assert!(before.compaction_written_bytes > 0, "what overlaps is merged: {before}");
    db.flush().unwrap();
    keyspace.compact_range(..).unwrap();
    let before = settle(&db);
    let after = fill(&db, &keyspace, COUNT..2 * COUNT);
    assert_eq!(after.compaction_written_bytes, before.compaction_written_bytes, "{after}");
    for number in 0..2 * COUNT {
        assert_eq!(keyspace.get(key(number)).unwrap().as_deref(), Some(value(number).as_slice()));
    }
}

#[test]
fn a_table_does_not_pass_an_older_one_nor_a_deleted_range() {
    let (db, keyspace) = open();
    fill(&db, &keyspace, 0..1000);
    db.flush().unwrap();
    keyspace.compact_range(..).unwrap();
    // By its keys each of these is alone on level 0; the second deletes what the first wrote.
    fill(&db, &keyspace, 1000..1200);
    db.flush().unwrap();
    keyspace.delete_range(key(900)..key(1100)).unwrap();
    keyspace.put(key(5000), "behind").unwrap();
    db.flush().unwrap();
    for round in 2..6 {
        fill(&db, &keyspace, round * 5000..round * 5000 + 200);
        db.flush().unwrap();
        settle(&db);
    }
    for number in [0, 899, 900, 999, 1000, 1099, 1100, 1199] {
        let deleted = (900..1100).contains(&number);
        assert_eq!(keyspace.get(key(number)).unwrap().is_none(), deleted, "{number}");
    }
    db.verify().map(|report| assert!(report.is_sound(), "{report:?}")).unwrap();
}

#[test]
fn very_small_tables_are_merged_with_one_another() {
    let (db, keyspace) = open();
    for number in 0..400 {
        keyspace.put(key(number), value(number)).unwrap();
        db.flush().unwrap();
        settle(&db);
    }
    let metrics = settle(&db);
    let tables: usize = metrics.keyspaces[0].levels.iter().map(|level| level.tables).sum();
    assert!(tables <= 400 / 4 + 4, "four at a time: {metrics}");
}
