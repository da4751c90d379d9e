//! Single faults of the disk, and what the engine makes of them. The systematic search is `crash`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kv_lsm::disk::{CallKind, Disk, Effect, Fault, OpenMode, SimDisk, Survival};
use kv_lsm::{Background, Builder, Database, Durability, Error, Keyspace, KeyspaceOptions};

fn builder(disk: &SimDisk) -> Builder {
    Database::builder(Path::new("/db")).disk(disk.clone()).background(Background::Manual)
}

fn keyspace(db: &Database) -> Keyspace {
    db.keyspace("a", KeyspaceOptions::default()).unwrap()
}

fn only(disk: &SimDisk, suffix: &str) -> (PathBuf, u64) {
    let mut found: Vec<(PathBuf, u64)> =
        disk.files().into_iter().filter(|(path, _)| path.to_string_lossy().ends_with(suffix)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// A closed database whose last synced record is damaged, with or without the marker behind it.
fn damaged_last_record(keep_marker: bool) -> (SimDisk, PathBuf) {
    const MARKER_BYTES: u64 = 15;
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    let keyspace = keyspace(&db);
    keyspace.put("first", "value").unwrap();
    keyspace.put("last", "value").unwrap();
    drop((db, keyspace));
    let (log, length) = only(&disk, ".log");
    disk.flip_bit(&log, length - MARKER_BYTES - 3, 2).unwrap();
    if !keep_marker {
        disk.open(&log, OpenMode::ReadWrite).unwrap().truncate(length - MARKER_BYTES).unwrap();
    }
    (disk, log)
}

#[test]
fn engine_rule_04_the_marker_tells_a_damaged_last_record_from_a_torn_tail() {
    let (disk, log) = damaged_last_record(true);
    let opened = builder(&disk).open();
    assert!(matches!(&opened, Err(Error::Corrupt { file, .. }) if *file == log), "{opened:?}");
}

#[test]
fn engine_rule_04_without_a_successor_the_damage_is_the_documented_torn_tail() {
    let (disk, log) = damaged_last_record(false);
    let db = builder(&disk).open().unwrap();
    let keyspace = keyspace(&db);
    assert_eq!(keyspace.get("first").unwrap().unwrap(), b"value");
    assert_eq!(keyspace.get("last").unwrap(), None);
    let kept = disk.list(Path::new("/db/quarantine")).unwrap();
    let name = log.file_name().unwrap().to_string_lossy().into_owned();
    assert!(kept.iter().any(|kept| kept.starts_with(&name)), "what is discarded is kept aside: {kept:?}");
}

#[test]
fn engine_rule_03_what_is_in_tables_is_durable_though_its_log_was_never_synced() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).durability(Durability::Buffered).log_segment_bytes(1 << 10).open().unwrap();
    let flushed = keyspace(&db);
    for number in 0..100_u32 {
        flushed.put(number.to_be_bytes(), [7; 100]).unwrap();
    }
    let syncs = db.metrics().syncs;
    assert_eq!(db.durable_sequence().unwrap(), 0, "a table that is not written yet makes nothing durable");
    db.flush().unwrap();
    assert_eq!((db.durable_sequence().unwrap(), db.metrics().syncs), (100, syncs));

    // Recovery finds the log as it was never synced: without its first segment's header.
    let left = disk.reboot(Survival::None);
    let db = builder(&left).open().unwrap();
    assert_eq!(keyspace(&db).iter().filter_map(Result::ok).count(), 100);
    keyspace(&db).put("later", "synced").unwrap();
    assert!(db.durable_sequence().unwrap() > 100);
}

#[test]
fn lesson_52_nothing_follows_an_error() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).durability(Durability::Buffered).block_bytes(256).cache_bytes(0).open().unwrap();
    let keyspace = keyspace(&db);
    for number in 0..300_u32 {
        keyspace.put(format!("{number:05}"), [1; 20]).unwrap();
    }
    db.flush().unwrap();
    assert_eq!(keyspace.iter().count(), 300);
    for reads in 0..30 {
        for reverse in [false, true] {
            disk.inject(Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::Read).after(reads));
            let mut iterator = keyspace.iter();
            let mut step = || if reverse { iterator.next_back() } else { iterator.next() };
            let mut good = 0_u32;
            let failed = loop {
                match step() {
                    Some(Ok((key, _))) => {
                        let number = if reverse { 299 - good } else { good };
                        assert_eq!(key, format!("{number:05}").as_bytes(), "nothing is left out before the error");
                        good += 1;
                    }
                    Some(Err(error)) => break error,
                    None => panic!("the error was swallowed after {good} entries"),
                }
            };
            assert!(matches!(failed, Error::Io { .. }), "{failed}");
            assert!(iterator.next().is_none() && iterator.next_back().is_none());
            disk.clear_faults();
        }
    }
}

#[test]
fn a_damaged_block_hides_its_own_keys_only() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).durability(Durability::Buffered).block_bytes(256).cache_bytes(0).open().unwrap();
    let keyspace = keyspace(&db);
    for number in 0..100_u32 {
        keyspace.put(format!("{number:05}"), [1; 20]).unwrap();
    }
    db.flush().unwrap();
    let (table, _) = only(&disk, ".table");
    disk.flip_bit(&table, 10, 0).unwrap();
    let read = keyspace.get("00000");
    assert!(matches!(&read, Err(Error::Corrupt { file, offset: 0, .. }) if *file == table), "{read:?}");
    assert_eq!(keyspace.get("00099").unwrap().unwrap(), [1; 20]);
    assert!(keyspace.compact_range(..).is_err(), "damage is not compacted into something that looks whole");
    assert_eq!(keyspace.get("00099").unwrap().unwrap(), [1; 20]);
}

#[test]
fn an_unknown_required_feature_is_refused_by_name() {
    let disk = SimDisk::new(1);
    drop(builder(&disk).open().unwrap());
    let manifest =
        disk.files().into_iter().map(|(path, _)| path).find(|path| path.to_string_lossy().contains("MANIFEST"));
    let manifest = manifest.unwrap();
    let mut header = [0; 36];
    kv_lsm::disk::read_exact_at(disk.open(&manifest, OpenMode::Read).unwrap().as_ref(), &mut header, 0).unwrap();
    header[12] |= 1;
    let crc = kv_core::checksum::crc32(&[&header[..32]]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    disk.damage(&manifest, 0, &header).unwrap();
    let opened = builder(&disk).open();
    assert!(matches!(&opened, Err(Error::Unsupported { file, .. }) if *file == manifest), "{opened:?}");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).memtable_bytes(4000).open().unwrap();
    let keyspace = keyspace(&db);
    let used: u64 = disk.files().iter().map(|(_, length)| length).sum();
    disk.set_capacity_bytes(Some(used + 6000));
    let mut written = 0;
    let refused = loop {
        match keyspace.put(format!("{written:05}"), [1; 100]) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace { .. }), "no space while writing poisons nothing: {refused}");
    assert!(written > 3);
    disk.set_capacity_bytes(None);
    keyspace.put("after", "room").unwrap();
    assert_eq!(keyspace.iter().count(), written + 1);
    drop((db, keyspace));
    let db = builder(&disk).open().unwrap();
    assert_eq!(self::keyspace(&db).iter().count(), written + 1);
}
