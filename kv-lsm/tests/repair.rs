//! A database is made whole again from what is left, and nothing that was there is deleted.

mod append;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::time::Millis;
use kv_lsm::disk::{CallKind, Disk, Effect, Fault, OpenMode, SimDisk, Survival, read_exact_at};
use kv_lsm::{
    Background, Batch, Builder, CompactionStrategy, Database, Durability, Error, KeyspaceOptions, RepairReport,
    WriteOptions,
};

use append::Append;

fn builder(disk: &SimDisk) -> Builder {
    Database::builder("/db")
        .disk(disk.clone())
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .clock(Arc::new(|| Millis(1_000_000)))
        .log_segment_bytes(1500)
        .manifest_bytes(1000)
        .level0_tables(2)
        .table_bytes(3000)
        .level1_bytes(8000)
        .block_bytes(256)
}

fn merged() -> KeyspaceOptions {
    KeyspaceOptions::default().merge(Arc::new(Append)).filter_bits_per_key(12)
}

fn rounds(db: &Database, numbers: std::ops::Range<usize>) -> Result<(), Error> {
    let plain = db.keyspace("plain", KeyspaceOptions::default())?;
    let appended = db.keyspace("appended", merged())?;
    for round in numbers {
        for number in 0..40 {
            plain.put(format!("{:03}", number * 7 % 61), format!("value {round} {number}"))?;
            appended.merge(format!("{:02}", number % 9), format!("{round}.{number},"))?;
        }
        let large =
            db.keyspace("large", KeyspaceOptions::default().separate_values_from(100).inline_prefix_bytes(8))?;
        for number in 0..6 {
            large.put(format!("{:02}", (round + number) % 9), format!("{round} {number}").repeat(60))?;
        }
        plain.delete_range(format!("{:03}", round * 3)..format!("{:03}", round * 3 + 2))?;
        plain.delete(format!("{round:03}"))?;
        if round % 2 == 0 {
            appended.delete_range("03".."05")?;
        }
        db.flush()?;
        db.step()?;
    }
    Ok(())
}

/// Tables on several levels and a log of several segments, left by a process that died.
fn victim() -> (SimDisk, Content) {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    db.keyspace("doomed", KeyspaceOptions::default()).unwrap().put("k", "v").unwrap();
    rounds(&db, 0..7).unwrap();
    db.drop_keyspace("doomed").unwrap();
    let plain = db.keyspace("plain", KeyspaceOptions::default()).unwrap();
    for number in 0..60 {
        plain.put(format!("{number:03} log"), "in the log").unwrap();
    }
    plain.delete("010").unwrap();
    db.sync().unwrap();
    let content = content(&db);
    assert!(content.len() > 100);
    (disk.reboot(Survival::All), content)
}

type Content = BTreeMap<(String, Vec<u8>), Vec<u8>>;

fn content(db: &Database) -> Content {
    let mut content = Content::new();
    for name in db.keyspaces() {
        let options = db.keyspace_options(&name).unwrap();
        let keyspace = db.keyspace(&name, options).or_else(|_| db.keyspace(&name, merged())).unwrap();
        let keyspace = if name == "appended" { db.keyspace(&name, merged()).unwrap() } else { keyspace };
        for entry in keyspace.iter() {
            let (key, value) = entry.unwrap();
            content.insert((name.clone(), key.to_vec()), value.to_vec());
        }
    }
    content
}

fn files(disk: &SimDisk, part: &str) -> Vec<PathBuf> {
    let all = disk.files().into_iter().map(|(path, _)| path);
    all.filter(|path| path.parent() == Some(Path::new("/db")) && path.to_string_lossy().contains(part)).collect()
}

fn bytes(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

/// Repairs, checks that nothing is gone, and opens.
fn repaired(disk: &SimDisk) -> (RepairReport, Database) {
    let before: Vec<Vec<u8>> = ["MANIFEST", ".table", ".blob", ".log"]
        .iter()
        .flat_map(|part| files(disk, part))
        .map(|path| bytes(disk, &path))
        .collect();
    let report = builder(disk).repair().unwrap();
    let after: Vec<Vec<u8>> = disk.files().into_iter().map(|(path, _)| bytes(disk, &path)).collect();
    assert!(before.iter().all(|bytes| after.contains(bytes)), "a file is gone");
    let verified = builder(disk).verify_files(|_| {}).unwrap();
    assert!(verified.is_sound(), "{verified:?}");
    assert!(builder(disk).repair().unwrap().problems.is_empty(), "there is nothing to do twice");
    (report, builder(disk).open().unwrap())
}

#[test]
fn what_is_sound_is_left_alone() {
    let (disk, expected) = victim();
    let (hash, calls) = (disk.durable_hash(), disk.mutating_calls());
    let report = builder(&disk).repair().unwrap();
    assert_eq!((report.problems.len(), report.quarantined.len()), (0, 0), "{report:?}");
    assert_eq!((disk.durable_hash(), disk.mutating_calls()), (hash, calls));
    assert_eq!(content(&builder(&disk).open().unwrap()), expected);
}

#[test]
fn a_lost_or_damaged_manifest_is_made_again() {
    let (disk, expected) = victim();
    let manifest = files(&disk, "MANIFEST").pop().unwrap();
    let length = bytes(&disk, &manifest).len() as u64;
    let damages: [&dyn Fn(&SimDisk); 4] = [
        &|disk| disk.remove(&manifest).unwrap(),
        &|disk| disk.damage(&manifest, 0, &[0; 36]).unwrap(),
        &|disk| disk.flip_bit(&manifest, length / 2, 3).unwrap(),
        &|disk| disk.damage(&manifest, 0, &vec![0; usize::try_from(length).unwrap()]).unwrap(),
    ];
    for (which, damage) in damages.iter().enumerate() {
        let damaged = disk.reboot(Survival::All);
        damage(&damaged);
        assert!(builder(&damaged).open().is_err());
        let (report, db) = repaired(&damaged);
        assert!(report.manifest_lost && !report.problems.is_empty(), "{report:?}");
        let mut found = content(&db);
        // Without any edit that tells of the drop, what the log and tables still hold of it is back.
        found.retain(|(name, _), _| name != "doomed" && !name.starts_with("recovered"));
        assert_eq!(found, expected, "damage {which}");
        assert!(!files(&damaged, ".blob").is_empty(), "large values are kept apart as before");
        let options = format!("{:?}", db.keyspace_options("appended").unwrap());
        assert!(options.contains("filter_bits_per_key: Some(12)") && options.contains("merge: true"), "{options}");
        // It goes on, and numbers go on above those that were given.
        rounds(&db, 50..53).unwrap();
        let more = content(&db);
        drop(db);
        assert_eq!(content(&builder(&damaged).open().unwrap()), more);
    }
}

#[test]
fn an_unreadable_block_costs_its_keys_and_no_others() {
    let (disk, expected) = victim();
    let largest = files(&disk, ".table").into_iter().max_by_key(|path| bytes(&disk, path).len()).unwrap();
    disk.flip_bit(&largest, 40, 1).unwrap();
    let (report, db) = repaired(&disk);
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert_eq!((&report.problems[0].file, report.manifest_lost), (&largest, false));
    let found = content(&db);
    let right = expected.iter().filter(|(key, value)| found.get(*key) == Some(value)).count();
    assert!(right < expected.len() && right > expected.len() / 2, "{right} of {}", expected.len());
}

#[test]
fn damaged_and_missing_blob_files_cost_their_values_and_no_others() {
    let (disk, expected) = victim();
    let blobs = files(&disk, ".blob");
    assert!(!blobs.is_empty());
    for path in blobs {
        for missing in [false, true] {
            let damaged = disk.reboot(Survival::All);
            if missing {
                damaged.remove(&path).unwrap();
            } else {
                damaged.flip_bit(&path, 200, 2).unwrap();
            }
            let (report, db) = repaired(&damaged.reboot(Survival::All));
            assert!(report.problems.iter().any(|problem| problem.file == path), "{report:?}");
            let found = content(&db);
            assert!(
                expected
                    .iter()
                    .filter(|((name, _), _)| name != "large")
                    .all(|(key, value)| found.get(key) == Some(value))
            );
            // Not every record is still pointed to, and an older value may be back in place of one that is lost.
            assert!(found != expected || !missing, "{}", path.display());
        }
    }
}

#[test]
fn a_damaged_log_is_kept_up_to_the_damage() {
    let (disk, expected) = victim();
    let log = files(&disk, ".log").remove(0);
    let end = kv_lsm::inspect::Files::on(disk.clone()).log(&log, |_| {}).unwrap().end;
    disk.flip_bit(&log, end / 2, 1).unwrap();
    assert!(builder(&disk).open().is_err());
    let (report, db) = repaired(&disk);
    assert!(report.batches > 0 && report.batches < 61, "{report:?}");
    let found = content(&db);
    let of_log = |content: &Content| content.keys().filter(|(_, key)| key.ends_with(b"log")).count();
    assert!(of_log(&found) > 0 && of_log(&found) < 60, "{} of 60", of_log(&found));
    for (key, value) in expected.iter().filter(|((_, key), _)| !key.ends_with(b"log")) {
        assert_eq!(found.get(key), Some(value));
    }
}

#[test]
fn missing_and_broken_tables_are_done_without() {
    let (disk, _) = victim();
    for path in files(&disk, ".table") {
        let length = bytes(&disk, &path).len() as u64;
        for cut in [None, Some(length - 1), Some(3)] {
            let damaged = disk.reboot(Survival::All);
            match cut {
                None => damaged.remove(&path).unwrap(),
                Some(keep) => damaged.open(&path, OpenMode::ReadWrite).unwrap().truncate(keep).unwrap(),
            }
            let damaged = damaged.reboot(Survival::All);
            let (report, db) = repaired(&damaged);
            assert!(report.problems.iter().any(|problem| problem.file == path), "{report:?}");
            content(&db);
        }
    }
}

/// The process dies at any call of a compaction, and then the manifest is lost: operands must not count twice.
#[test]
fn what_compactions_leave_behind_does_not_count_twice() {
    let script = |disk: &SimDisk| -> Result<(Content, u64), Error> {
        let db = builder(disk).open()?;
        rounds(&db, 0..3)?;
        for number in 0..40 {
            db.keyspace("appended", merged())?.merge(format!("{:02}", number % 9), format!("l.{number},"))?;
        }
        db.sync()?;
        let before = (content(&db), disk.mutating_calls());
        db.flush()?;
        db.keyspace("appended", merged())?.compact_range(..)?;
        db.keyspace("plain", KeyspaceOptions::default())?.compact_range(..)?;
        Ok(before)
    };
    let whole = SimDisk::new(1);
    let (expected, begin) = script(&whole).unwrap();
    let mut mixtures = 0;
    for call in begin..=whole.mutating_calls() {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        let _ = script(&disk);
        for survival in [Survival::None, Survival::All, Survival::Random(call), Survival::Random(call + 1000)] {
            let after = disk.reboot(survival);
            let tables = files(&after, ".table").len();
            for manifest in files(&after, "MANIFEST") {
                after.remove(&manifest).unwrap();
            }
            let (report, db) = repaired(&after.reboot(Survival::All));
            mixtures += u64::from(report.tables < tables as u64);
            assert_eq!(content(&db), expected, "call {call} {:?}, {survival:?}", disk.power_cut_at());
        }
    }
    assert!(mixtures > 5, "only {mixtures} states held a table that did not count");
}

/// What a power cut during a flush can leave: a table with a block that never reached the disk, of what the log still holds.
#[test]
fn a_table_that_was_not_finished_does_not_hide_the_log() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).open().unwrap();
    let plain = db.keyspace("plain", KeyspaceOptions::default()).unwrap();
    for number in 0..60 {
        plain.put(format!("{number:03}"), format!("value {number}")).unwrap();
    }
    db.sync().unwrap();
    let expected = content(&db);
    let before = disk.reboot(Survival::All);
    db.flush().unwrap();
    let table = files(&disk, ".table").pop().unwrap();
    let mut unfinished = bytes(&disk, &table);
    unfinished[100..200].fill(0);
    before.open(&table, OpenMode::CreateNew).unwrap().write_at(&unfinished, 0).unwrap();
    before.remove(&files(&before, "MANIFEST")[0]).unwrap();
    let (report, db) = repaired(&before.reboot(Survival::All));
    assert!(report.problems.iter().any(|problem| problem.file == table), "{report:?}");
    assert_eq!(content(&db), expected);
}

/// A flush syncs no log: of a segment whose records are in tables, and that could not be removed, anything may be left.
#[test]
fn engine_rule_03_a_torn_segment_whose_records_are_in_tables_hides_none_behind_it() {
    let disk = SimDisk::new(1);
    let db = builder(&disk).log_segment_bytes(1 << 20).open().unwrap();
    let plain = db.keyspace("plain", KeyspaceOptions::default()).unwrap();
    let put = |key: &str, durability: Durability| {
        let mut batch = Batch::new();
        batch.put(&plain, key, key);
        db.write_with(batch, WriteOptions::durability(durability)).unwrap();
    };
    put("first", Durability::Sync);
    for number in 0..10 {
        put(&format!("never synced {number}"), Durability::Buffered);
    }
    for kind in [CallKind::Rename, CallKind::Remove] {
        disk.inject(Fault::new(Effect::Fail(std::io::ErrorKind::Other)).on(kind).for_ever());
    }
    let segments = files(&disk, ".log").len();
    db.flush().unwrap();
    assert_eq!((disk.faults_met(), files(&disk, ".log").len()), (2, segments + 1), "the segment is still there");
    put("later", Durability::Sync);
    let expected = content(&db);
    let left = disk.reboot(Survival::None);
    left.remove(&files(&left, "MANIFEST")[0]).unwrap();
    let (report, db) = repaired(&left.reboot(Survival::All));
    assert!(report.manifest_lost, "{report:?}");
    assert_eq!(content(&db), expected);
}

#[test]
fn a_repair_survives_every_power_cut() {
    let (disk, expected) = victim();
    let manifest = files(&disk, "MANIFEST").pop().unwrap();
    disk.flip_bit(&manifest, 50, 3).unwrap();
    for call in 0.. {
        let damaged = disk.reboot(Survival::All);
        damaged.cut_power_after(call);
        let outcome = builder(&damaged).repair();
        let survivals = [Survival::None, Survival::All, Survival::Random(call), Survival::Random(call + 500)];
        for survival in survivals {
            let (_, db) = repaired(&damaged.reboot(survival));
            let mut found = content(&db);
            found.retain(|(name, _), _| name != "doomed" && !name.starts_with("recovered"));
            assert_eq!(found, expected, "call {call} {:?}, {survival:?}", damaged.power_cut_at());
        }
        if damaged.power_cut_at().is_none() {
            assert!(outcome.is_ok() && call > 10);
            break;
        }
    }
}

#[test]
fn a_database_in_use_and_an_empty_directory_are_refused() {
    let (disk, _) = victim();
    let db = builder(&disk).open().unwrap();
    assert!(matches!(builder(&disk).repair(), Err(Error::Locked { .. })));
    drop(db);
    let empty = SimDisk::new(1);
    assert!(matches!(builder(&empty).repair(), Err(Error::NoDatabase { .. })));
    empty.create_dir(Path::new("/db")).unwrap();
    assert!(matches!(builder(&empty).repair(), Err(Error::NoDatabase { .. })));
}

/// Found by the battery: the repair found nothing wrong, and the database still named what was not there.
#[test]
fn a_file_in_the_place_of_another_is_not_taken_for_it() {
    let (disk, expected) = victim();
    for part in [".table", ".blob"] {
        let all = files(&disk, part);
        let [one, .., other] = all.as_slice() else { panic!("only {all:?}") };
        let damaged = disk.reboot(Survival::All);
        damaged.remove(one).unwrap();
        let file = damaged.open(one, OpenMode::CreateNew).unwrap();
        file.write_at(&bytes(&disk, other), 0).unwrap();
        drop(file);
        let (report, db) = repaired(&damaged);
        assert!(!report.manifest_lost && report.problems.iter().all(|problem| problem.file == *one), "{report:?}");
        let found = content(&db);
        let right = expected.iter().filter(|(key, value)| found.get(*key) == Some(value)).count();
        assert!(right < expected.len() && right > expected.len() / 3, "{right} of {}", expected.len());
    }
}

/// What a repair writes of such a keyspace is dropped before what came later, else what that hid is back.
#[test]
fn lesson_49_first_in_first_out_holds_over_a_repair() {
    let disk = SimDisk::new(1);
    let options = || KeyspaceOptions::default().compaction(CompactionStrategy::Fifo { bytes_max: None });
    let at = |now: u64| builder(&disk).clock(Arc::new(move || Millis(now)));
    let db = at(1).open().unwrap();
    db.keyspace("queue", options()).unwrap().put_expiring("key", "old", Millis(1000)).unwrap();
    db.flush().unwrap();
    drop(db);
    disk.remove(&files(&disk, "MANIFEST").pop().unwrap()).unwrap();
    assert!(at(1).repair().unwrap().manifest_lost);
    let db = at(1).open().unwrap();
    db.keyspace("queue", options()).unwrap().put_expiring("key", "new", Millis(10)).unwrap();
    db.flush().unwrap();
    drop(db);
    let db = at(20).open().unwrap();
    let queue = db.keyspace("queue", options()).unwrap();
    while db.step().unwrap() {}
    assert_eq!(queue.get("key").unwrap(), None, "the older value is back");
    drop((db, queue));
    let db = at(2000).open().unwrap();
    while db.step().unwrap() {}
    assert!(files(&disk, ".table").is_empty(), "what has expired is never dropped");
}
