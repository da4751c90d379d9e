//! Opening for reading only, and who may open what beside whom.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use kv_lsm::disk::{Disk, OpenMode, SimDisk, Survival};
use kv_lsm::{Background, Batch, Builder, Database, Durability, Error, KeyspaceOptions};

fn builder(disk: &SimDisk) -> Builder {
    Database::builder("/db")
        .disk(disk.clone())
        .background(Background::Manual)
        .memtable_bytes(2000)
        .log_segment_bytes(800)
}

/// A database with tables, and more in its log than one memtable takes.
fn victim() -> SimDisk {
    let disk = SimDisk::new(1);
    let db = builder(&disk).durability(Durability::Buffered).open().unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    for number in 0..100 {
        keyspace.put(format!("{number:03}"), format!("value {number}")).unwrap();
    }
    db.flush().unwrap();
    for number in 50..150 {
        keyspace.put(format!("{number:03}"), format!("later {number}")).unwrap();
    }
    db.sync().unwrap();
    keyspace.put("tail", "not synced").unwrap();
    disk
}

fn content(db: &Database) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    keyspace.iter().map(|entry| entry.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[test]
fn reading_only_changes_not_a_byte_and_sees_what_recovery_would() {
    let before = victim();
    for survival in [Survival::None, Survival::All, Survival::Random(1), Survival::Random(2), Survival::Random(3)] {
        let disk = before.reboot(survival);
        let (files, hash, calls) = (disk.files(), disk.durable_hash(), disk.mutating_calls());
        let db = builder(&disk).read_only(true).open().unwrap();
        let found = content(&db);
        assert!(found.len() >= 150, "{survival:?}: {}", found.len());
        assert!(!db.step().unwrap());
        db.sync().unwrap();
        drop(db);
        assert_eq!(disk.mutating_calls(), calls, "{survival:?}: something was written");
        assert_eq!((disk.files(), disk.durable_hash()), (files, hash));
        assert_eq!(content(&builder(&disk).open().unwrap()), found, "{survival:?}");
    }
}

#[test]
fn writes_are_refused_with_a_typed_error() {
    let disk = victim().reboot(Survival::None);
    let db = builder(&disk).read_only(true).open().unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    let mut batch = Batch::new();
    batch.put(&keyspace, "k", "v");
    let refusals = [
        keyspace.put("k", "v"),
        keyspace.delete("k"),
        keyspace.delete_range("a".."b"),
        db.write(batch),
        db.flush(),
        keyspace.compact_range(..),
        db.checkpoint("/copy").map(drop),
        db.keyspace("new", KeyspaceOptions::default()).map(drop),
    ];
    for (which, refused) in refusals.iter().enumerate() {
        assert!(matches!(refused, Err(Error::ReadOnly)), "call {which}: {refused:?}");
    }
    assert!(disk.list(Path::new("/copy")).is_err());
}

#[test]
fn there_must_be_a_database() {
    let disk = SimDisk::new(1);
    let missing = builder(&disk).read_only(true).open();
    assert!(matches!(&missing, Err(Error::NoDatabase { path }) if path == Path::new("/db")), "{missing:?}");
    disk.create_dir(Path::new("/db")).unwrap();
    disk.open(Path::new("/db/notes.txt"), OpenMode::CreateNew).unwrap();
    let calls = disk.mutating_calls();
    assert!(matches!(builder(&disk).read_only(true).open(), Err(Error::NoDatabase { .. })));
    assert_eq!(disk.mutating_calls(), calls);
}

#[test]
fn readers_keep_a_writer_out_and_the_other_way_round() {
    let directory = tempfile::tempdir().unwrap();
    let open = |read_only| Database::builder(directory.path()).read_only(read_only).open();
    let writer = open(false).unwrap();
    let lock = directory.path().join("LOCK");
    let is_locked = |opened: Result<Database, Error>| matches!(opened, Err(Error::Locked { path }) if path == lock);
    assert!(is_locked(open(true)));
    drop(writer);
    let readers = (open(true).unwrap(), open(true).unwrap());
    assert!(is_locked(open(false)));
    drop(readers);
    open(false).unwrap();
}

const HOLD: &str = "KV_LSM_TEST_HOLDS_DIRECTORY";

/// Not a test of its own: what the second process of the next one runs.
#[test]
fn hold_a_database_open_when_told_to() {
    let Ok(directory) = std::env::var(HOLD) else { return };
    let _db = Database::open(directory).unwrap();
    println!("held");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[test]
fn another_process_is_told_which_file_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hold_a_database_open_when_told_to", "--nocapture"])
        .env(HOLD, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("held")), "the other process opened the database");
    let lock = directory.path().join("LOCK");
    for read_only in [false, true] {
        let refused = Database::builder(directory.path()).read_only(read_only).open();
        let Err(error @ Error::Locked { .. }) = refused else { panic!("{refused:?}") };
        assert!(error.to_string().contains(lock.to_str().unwrap()), "{error}");
    }
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    Database::open(directory.path()).unwrap();
}
