//! What a process that died had only in its log is all there when the database is opened again, in as many tables as it takes.

mod append;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use append::Append;
use kv_lsm::disk::{CallKind, Disk, Effect, Fault, SimDisk, Survival};
use kv_lsm::{Background, Batch, Builder, Database, Durability, Error, Keyspace, KeyspaceOptions};

/// Of an open database, so that all stays in its log.
const LARGE: u64 = 16 << 20;
/// Of one that is opened again: it takes many of them.
const SMALL: u64 = 20_000;

const NAMES: [&str; 3] = ["first", "second", "third"];

fn builder(disk: &SimDisk, memtable_bytes: u64, background: Background) -> Builder {
    let builder = Database::builder("/db").disk(disk.clone()).durability(Durability::Buffered);
    builder.background(background).memtable_bytes(memtable_bytes)
}

fn keyspaces(db: &Database) -> [Keyspace; 3] {
    NAMES.map(|name| db.keyspace(name, KeyspaceOptions::default().merge(Arc::new(Append))).unwrap())
}

type Content = Vec<Vec<(Vec<u8>, Vec<u8>)>>;

fn content(db: &Database) -> Content {
    let entry = |entry: Result<(kv_lsm::Slice, kv_lsm::Slice), Error>| {
        let (key, value) = entry.unwrap();
        (key.to_vec(), value.to_vec())
    };
    let of = |keyspace: Keyspace| {
        let forward: Vec<_> = keyspace.iter().map(entry).collect();
        assert!(forward.iter().all(|(key, value)| keyspace.get(key).unwrap().as_deref() == Some(value)));
        forward
    };
    keyspaces(db).map(of).into()
}

fn tables(disk: &SimDisk) -> usize {
    disk.list(Path::new("/db")).unwrap().iter().filter(|name| name.ends_with(".table")).count()
}

fn remove_manifests(disk: &SimDisk) {
    for name in disk.list(Path::new("/db")).unwrap().iter().filter(|name| name.starts_with("MANIFEST")) {
        disk.remove(&Path::new("/db").join(name)).unwrap();
    }
}

/// Batches of every kind of operation, on few keys of many lengths in three keyspaces.
fn write(db: &Database, mut state: u64) {
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let keyspaces = keyspaces(db);
    for number in 0..1500 {
        let mut batch = Batch::new();
        for _ in 0..=random(4) {
            let keyspace = &keyspaces[random(3)];
            let [a, b] = [(); 2].map(|()| format!("common{}{}", &"0123456789abcdef"[..random(17)], random(9)));
            match random(8) {
                _ if number % 97 == 96 => batch.delete_range(keyspace, a.clone().min(b.clone())..a.max(b)),
                0 => batch.delete(keyspace, a),
                1..4 => batch.merge(keyspace, a, format!("+{number}")),
                _ => batch.put(keyspace, a, format!("{number}").repeat(10)),
            }
        }
        db.write(batch).unwrap();
    }
}

/// What a process left that died with all in its log, synced, but for a table of each keyspace, which know how they are called.
fn died(seed: u64) -> (SimDisk, Content) {
    let disk = SimDisk::new(seed);
    let db = builder(&disk, LARGE, Background::Manual).open().unwrap();
    keyspaces(&db).iter().for_each(|keyspace| keyspace.put("first", "of all").unwrap());
    db.flush().unwrap();
    write(&db, seed);
    db.sync().unwrap();
    (disk.restart(), content(&db))
}

#[test]
fn all_that_was_in_the_log_is_there_with_and_without_threads_and_durable() {
    for seed in 0..4 {
        let disk = SimDisk::new(seed);
        let db = builder(&disk, LARGE, Background::Manual).open().unwrap();
        write(&db, seed);
        let expected = content(&db);
        assert!(expected.iter().all(|keyspace| keyspace.len() > 20), "there is something left to find");
        assert_eq!(tables(&disk), 0, "all is in the log");
        for background in [Background::Manual, Background::Threads] {
            for memtable_bytes in [SMALL, LARGE] {
                let context = format!("seed {seed}, {background:?}, memtables of {memtable_bytes} bytes");
                let disk = disk.restart();
                // So that nothing is compacted.
                let again = builder(&disk, memtable_bytes, background).level0_tables(1000).open().unwrap();
                // Rule E1: recovery has written it all again.
                let power_cut = disk.reboot(Survival::None);
                assert_eq!(tables(&disk) > NAMES.len(), memtable_bytes == SMALL, "{context}");
                assert_eq!(content(&again), expected, "{context}");
                assert!(again.verify().unwrap().is_sound(), "{context}");
                // A batch on top is newer than all of it.
                let [first, ..] = keyspaces(&again);
                first.delete_range("".as_bytes()..b"z").unwrap();
                assert!(content(&again)[0].is_empty(), "{context}");
                drop(again);
                let again = builder(&power_cut, LARGE, Background::Manual).open().unwrap();
                assert_eq!(content(&again), expected, "{context}, after a power cut");
                for keyspace in keyspaces(&again) {
                    keyspace.compact_range(..).unwrap();
                }
                assert_eq!(content(&again), expected, "{context}, in one piece");
            }
        }
    }
}

/// An error of any of the threads is that of the opening, which can be tried again.
#[test]
fn a_table_that_cannot_be_written_fails_the_opening_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let db = builder(&disk, LARGE, Background::Manual).open().unwrap();
    write(&db, 1);
    let expected = content(&db);
    for background in [Background::Manual, Background::Threads] {
        for nth in [0, 1, 5, 9] {
            let disk = disk.restart();
            let fault = Fault::new(Effect::Fail(io::ErrorKind::Other)).on(CallKind::Sync).named(".table");
            disk.inject(fault.after(nth));
            let failed = builder(&disk, SMALL, background).open();
            assert!(matches!(failed, Err(Error::Io { .. })), "{background:?}, sync {nth}: {failed:?}");
            assert_eq!(tables(&disk), 0, "{background:?}, sync {nth}: what is of no use takes no room");
            disk.clear_faults();
            let again = builder(&disk, SMALL, background).open().unwrap();
            assert_eq!(content(&again), expected, "{background:?}, sync {nth}");
        }
    }
}

/// A repair that has no manifest takes a whole table for all that was written before what it holds.
#[test]
fn what_an_interrupted_opening_wrote_hides_nothing_from_a_repair() {
    for seed in 0..8 {
        let (disk, expected) = died(seed);
        for nth in 0..4 {
            let disk = disk.restart();
            // The process dies in the midst of it: what it wrote stays.
            disk.inject(Fault::new(Effect::Fail(io::ErrorKind::Other)).on(CallKind::Write).named(".table").after(nth));
            disk.inject(Fault::new(Effect::Fail(io::ErrorKind::Other)).on(CallKind::Remove).for_ever());
            let failed = builder(&disk, SMALL, Background::Threads).open();
            assert!(failed.is_err(), "seed {seed}, write {nth}");
            disk.clear_faults();
            assert!(tables(&disk) > NAMES.len(), "seed {seed}, write {nth}: something is left");
            remove_manifests(&disk);
            builder(&disk, SMALL, Background::Manual).repair().unwrap();
            let again = builder(&disk, LARGE, Background::Manual).open().unwrap();
            assert!(content(&again) == expected, "seed {seed}, write {nth}");
        }
    }
}

/// Rule E1, at any call of any of the threads: each leaves a disk on which all is still there, for the next opening, and where only the
/// process died also for a repair that has no manifest.
#[test]
fn an_opening_with_threads_may_end_at_any_call() {
    for seed in 0..2 {
        let (disk, expected) = died(seed);
        disk.record_moments();
        drop(builder(&disk, SMALL, Background::Threads).level0_tables(1000).open().unwrap());
        let moments = disk.take_moments();
        assert!(moments.len() > 100, "seed {seed}: {} calls", moments.len());
        for (call, moment) in moments.iter().enumerate() {
            let context = format!("seed {seed}, call {call} of {}", moments.len());
            let background = [Background::Manual, Background::Threads][call % 2];
            for survival in [Survival::None, Survival::All, Survival::Random(call as u64)] {
                let again = builder(&moment.reboot(survival), SMALL, background).open();
                let again = again.unwrap_or_else(|error| panic!("{context}, {survival:?}: {error}"));
                assert!(content(&again) == expected, "{context}, {survival:?}");
            }
            let died = moment.restart();
            remove_manifests(&died);
            builder(&died, SMALL, Background::Manual).repair().unwrap();
            let again = builder(&died, LARGE, Background::Manual).open().unwrap();
            assert!(content(&again) == expected, "{context}, without a manifest");
        }
    }
}

/// What one large memtable would take is written by several threads, but into fewer tables than start a compaction. The old
/// segments of the log go in time.
#[test]
fn a_large_memtables_worth_is_cut_for_threads_alone() {
    const ENTRIES: u32 = 640;
    let value = |number: u32| [&number.to_le_bytes()[..], &vec![7; 64 << 10]].concat();
    let directory = tempfile::tempdir().unwrap();
    let died = directory.path().join("died");
    let open = |path: &Path, background| {
        let builder = Database::builder(path).durability(Durability::Buffered).memtable_bytes(256 << 20);
        let db = builder.background(background).open().unwrap();
        let keyspace = db.keyspace("all", KeyspaceOptions::default()).unwrap();
        (db, keyspace)
    };
    let names = |path: &Path, extension: &str| -> Vec<_> {
        let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    };
    let (db, keyspace) = open(&died, Background::Manual);
    // Each key is written twice, and some are in two of the runs.
    for number in (0..ENTRIES / 2).chain(0..ENTRIES / 2) {
        keyspace.put(number.to_be_bytes(), value(number)).unwrap();
    }
    for (background, expected) in [(Background::Manual, 1), (Background::Threads, 3)] {
        let copy = directory.path().join(format!("{background:?}"));
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(&died).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
        }
        let (again, keyspace) = open(&copy, background);
        assert_eq!(names(&copy, "table").len(), expected, "{background:?}");
        let is_there = |number: u32| keyspace.get(number.to_be_bytes()).unwrap().as_deref() == Some(&value(number));
        assert!((0..ENTRIES / 2).all(is_there), "{background:?}");
        let begin = Instant::now();
        while names(&copy, "log").len() > 1 {
            assert!(begin.elapsed() < Duration::from_secs(30), "{:?} stay, {background:?}", names(&copy, "log"));
            thread::sleep(Duration::from_millis(1));
        }
        drop((again, keyspace));
    }
    drop(db);
}
