//! A verification passes over what is sound, while everything moves, and names the file of whatever is not.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kv_lsm::disk::{Disk, MemDisk, OpenMode, SimDisk, Survival};
use kv_lsm::{Background, Builder, Database, Durability, Error, KeyspaceOptions, VerifyReport};

fn builder(disk: impl Disk) -> Builder {
    Database::builder("/db")
        .disk(disk)
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .log_segment_bytes(2000)
        .manifest_bytes(1000)
        .level0_tables(2)
        .table_bytes(3000)
        .level1_bytes(8000)
        .block_bytes(256)
}

/// Tables on several levels, deleted ranges, and a log of several segments; closed.
fn victim() -> SimDisk {
    let disk = SimDisk::new(1);
    let db = builder(disk.clone()).open().unwrap();
    let plain = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    // Every third value of this one lies in a blob file.
    let keyspaces = [plain, db.keyspace("b", KeyspaceOptions::default().separate_values_from(100)).unwrap()];
    for round in 0..6 {
        for number in 0..60 {
            let key = format!("{:03}", number * 7 % 101);
            keyspaces[number % 2]
                .put(&key, format!("value {round} {number} ").repeat(if number % 3 == 0 { 10 } else { 1 }))
                .unwrap();
        }
        keyspaces[0].delete_range("040".."044").unwrap();
        db.flush().unwrap();
        db.step().unwrap();
    }
    for number in 0..60 {
        keyspaces[1].put(format!("{number:03}"), "in the log").unwrap();
    }
    db.sync().unwrap();
    let report = db.verify().unwrap();
    assert_eq!(report.problems, []);
    // What is in the log of an open database moves to tables when it is opened again, so the process dies here.
    let left = disk.reboot(Survival::All);
    drop(db);
    left
}

/// Files that hold something of the database: room for a later segment of the log does not.
fn files(disk: &SimDisk) -> Vec<(PathBuf, u64)> {
    let holds_something = |(path, length): &(PathBuf, u64)| *length > 0 && path.extension() != Some("spare".as_ref());
    disk.files().into_iter().filter(holds_something).collect()
}

fn is_log(path: &Path) -> bool {
    path.extension() == Some("log".as_ref())
}

fn verify(disk: &SimDisk) -> VerifyReport {
    builder(disk.clone()).verify_files(|_| {}).unwrap()
}

#[test]
fn what_is_sound_is_read_whole_and_passes() {
    let disk = victim();
    let (calls, hash) = (disk.mutating_calls(), disk.durable_hash());
    let mut last = 0;
    let mut total = 0;
    let report = builder(disk.clone())
        .verify_files(|progress| {
            assert!(progress.done_bytes >= last && progress.done_bytes <= progress.total_bytes);
            (last, total) = (progress.done_bytes, progress.total_bytes);
        })
        .unwrap();
    assert_eq!(report.problems, []);
    assert!(report.blob_files > 0 && report.blob_records > 5, "{report:?}");
    assert_eq!((report.keyspaces, report.torn.len()), (2, 0));
    assert!(report.tables > 2 && report.blocks > report.tables && report.entries > 80, "{report:?}");
    assert!(report.range_deletes > 0 && report.log_segments > 1 && report.batches >= 60, "{report:?}");
    assert!(total >= report.table_bytes + report.log_bytes && last > total / 2, "{last} of {total}");
    assert_eq!((disk.mutating_calls(), disk.durable_hash()), (calls, hash), "nothing was written");
}

/// Each byte of each file is covered by a check, and nothing panics.
#[test]
fn every_flipped_bit_is_found_in_its_file() {
    let disk = victim();
    let whole = verify(&disk);
    let newest = |path: &Path| path.to_string_lossy().contains("MANIFEST");
    let files = files(&disk);
    assert_eq!(files.iter().filter(|(path, _)| newest(path)).count(), 1);
    for (path, length) in &files {
        for offset in (0..*length).step_by(usize::try_from(length / 150).unwrap().max(1)) {
            let damaged = disk.reboot(Survival::All);
            damaged.flip_bit(path, offset, u8::try_from(offset % 8).unwrap()).unwrap();
            let report = verify(&damaged);
            // A segment of the log whose header is gone is missed by the one before.
            let same = |file: &Path| file == path || (is_log(file) && is_log(path));
            let mut found = report.problems.iter().chain(&report.torn);
            // Behind its end a segment of the log has room, and what was there before: no check covers that.
            let room = is_log(path) && report.is_sound() && report.operations == whole.operations;
            let found = found.any(|problem| same(&problem.file));
            assert!(found || room, "{} byte {offset}: {report:?}", path.display());
        }
    }
}

#[test]
fn missing_and_cut_files_are_found() {
    let disk = victim();
    for (path, length) in files(&disk) {
        for keep in [None, Some(0), Some(length / 2), Some(length - 1)] {
            let damaged = disk.reboot(Survival::All);
            match keep {
                None => damaged.remove(&path).unwrap(),
                Some(keep) => damaged.open(&path, OpenMode::ReadWrite).unwrap().truncate(keep).unwrap(),
            }
            match builder(damaged).verify_files(|_| {}) {
                Ok(report) => {
                    // The log ends where it ends: a last segment that is cut, or gone, looks like one that was not synced.
                    assert!(is_log(&path) || !report.is_sound(), "{} kept {keep:?}", path.display());
                }
                Err(Error::NoDatabase { .. }) => assert!(path.to_string_lossy().contains("MANIFEST")),
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

#[test]
fn a_database_in_use_is_verified_from_inside_only() {
    let disk = MemDisk::new();
    let db = builder(disk.clone()).background(Background::Threads).memtable_bytes(20_000).open().unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    assert!(matches!(builder(disk).verify_files(|_| {}), Err(Error::Locked { .. })));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                keyspace.put(format!("{:03}", number % 500), format!("value {number}")).unwrap();
                if number % 1000 == 0 {
                    db.keyspace(&format!("of {number}"), KeyspaceOptions::default()).unwrap().put("k", "v").unwrap();
                }
            }
        });
        let mut verified = 0;
        while verified < 20 || db.metrics().compactions < 5 {
            let report = db.verify().unwrap();
            assert_eq!(report.problems, [], "verification {verified}");
            verified += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
}
