//! Writers, readers, snapshots, flushes and compactions at once.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kv_core::store::{Corrupt, Fold, Folded, MergeOperator};
use kv_lsm::disk::{CallKind, Effect, Fault, MemDisk, SimDisk, Survival};
use kv_lsm::{Batch, Database, Durability, Error, Keyspace, KeyspaceOptions};

const KEYS: u64 = 40;

fn key(number: u64) -> Vec<u8> {
    format!("key {number:04}").into_bytes()
}

fn number(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).unwrap().parse().unwrap()
}

/// Every batch writes one round number under all keys of both keyspaces, so whoever sees two of them saw half a batch.
fn write_round(db: &Database, keyspaces: &[Keyspace; 2], round: u64) {
    let mut batch = Batch::new();
    for keyspace in keyspaces {
        if round.is_multiple_of(7) {
            batch.delete_range(keyspace, key(0)..key(KEYS));
        }
        for number in 0..KEYS {
            batch.put(keyspace, key(number), round.to_string());
        }
    }
    db.write(batch).unwrap();
}

fn rounds(entries: impl Iterator<Item = Result<(kv_lsm::Slice, kv_lsm::Slice), Error>>) -> Vec<u64> {
    let mut rounds: Vec<u64> = entries.map(|entry| number(&entry.unwrap().1)).collect();
    assert_eq!(rounds.len() as u64, KEYS, "no key is missing");
    rounds.dedup();
    rounds
}

#[test]
fn lesson_45_nobody_sees_half_a_batch() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::builder(directory.path())
        .durability(Durability::Buffered)
        .memtable_bytes(60_000)
        .level0_tables(2)
        .table_bytes(20_000)
        .level1_bytes(60_000)
        .block_bytes(512)
        .cache_bytes(100_000)
        .open()
        .unwrap();
    let open = |name| db.keyspace(name, KeyspaceOptions::default()).unwrap();
    let keyspaces = [open("a"), open("b")];
    write_round(&db, &keyspaces, 0);
    let (over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        let (db, keyspaces, over, written, reads) = (&db, &keyspaces, &over, &written, &reads);
        scope.spawn(move || {
            for round in 1.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                write_round(db, keyspaces, round);
                written.store(round, Ordering::Release);
            }
        });
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                db.flush().unwrap();
                keyspaces[0].compact_range(..).unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        for reader in 0..3_u64 {
            scope.spawn(move || {
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    let floor = written.load(Ordering::Acquire);
                    let snapshot = db.snapshot();
                    let mut seen = rounds(snapshot.iter(&keyspaces[0]));
                    seen.extend(rounds(snapshot.iter(&keyspaces[1]).rev()));
                    seen.push(number(&snapshot.get(&keyspaces[1], key(reader)).unwrap().unwrap()));
                    seen.dedup();
                    assert_eq!(seen.len(), 1, "a snapshot is of one moment: {seen:?}");
                    assert!(seen[0] >= floor.max(last), "what was written is seen, and time does not go back");
                    last = seen[0];
                    assert_eq!(rounds(keyspaces[1].iter()).len(), 1, "so is an iterator");
                    let values = keyspaces[0].multi_get((0..KEYS).map(key)).unwrap();
                    let mut seen: Vec<u64> = values.iter().map(|value| number(value.as_ref().unwrap())).collect();
                    seen.dedup();
                    assert_eq!(seen.len(), 1, "so is a get of many: {seen:?}");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(Duration::from_secs(4));
        over.store(true, Ordering::Relaxed);
    });
    let metrics = db.metrics();
    let rounds = written.load(Ordering::Relaxed);
    assert!(metrics.flushes > 3 && metrics.compactions > 3, "there was something to disturb: {metrics:?}");
    assert!(rounds > 20 && reads.load(Ordering::Relaxed) > 20, "{rounds} rounds");
}

/// Checkpoints are taken while a writer writes, memtables are flushed and their logs removed, and tables are compacted. Each
/// opens to the one state whose number was returned.
#[test]
fn engine_rule_08_a_checkpoint_opens_to_one_position_whatever_runs_beside_it() {
    let disk = MemDisk::new();
    let open = |path: &str| {
        Database::builder(path)
            .disk(disk.clone())
            .durability(Durability::Buffered)
            .memtable_bytes(60_000)
            .log_segment_bytes(20_000)
            .manifest_bytes(2000)
            .level0_tables(2)
            .table_bytes(20_000)
            .level1_bytes(60_000)
            .open()
            .unwrap()
    };
    let db = open("/db");
    let keyspaces = ["a", "b"].map(|name| db.keyspace(name, KeyspaceOptions::default()).unwrap());
    write_round(&db, &keyspaces, 0);
    let over = AtomicBool::new(false);
    let (rounds_of, taken) = thread::scope(|scope| {
        let (db, keyspaces, over) = (&db, &keyspaces, &over);
        let writer = scope.spawn(move || {
            let mut rounds = vec![(db.snapshot().sequence(), 0)];
            for round in 1.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                write_round(db, keyspaces, round);
                rounds.push((db.snapshot().sequence(), round));
            }
            rounds
        });
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                db.flush().unwrap();
                keyspaces[0].compact_range(..).unwrap();
            }
        });
        let mut taken = Vec::new();
        while taken.len() < 60 || db.metrics().flushes < 200 {
            taken.push(db.checkpoint(format!("/checkpoints/{}", taken.len())).unwrap());
            thread::sleep(Duration::from_micros(500));
        }
        over.store(true, Ordering::Relaxed);
        (writer.join().unwrap(), taken)
    });
    for (number, sequence) in taken.into_iter().enumerate() {
        let copy = open(&format!("/checkpoints/{number}"));
        let (_, round) = rounds_of.iter().find(|(last, _)| *last == sequence).expect("a boundary between batches");
        for name in ["a", "b"] {
            let keyspace = copy.keyspace(name, KeyspaceOptions::default()).unwrap();
            assert_eq!(rounds(keyspace.iter()), [*round], "checkpoint {number}, keyspace {name}");
        }
    }
    drop(keyspaces);
    drop(db);
    // What was held back for a checkpoint went when it was done.
    assert_eq!(open("/db").metrics().log_segments, 1);
}

#[test]
fn writers_that_wait_together_share_a_sync() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::open(directory.path()).unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    thread::scope(|scope| {
        for writer in 0..8 {
            let (db, keyspace) = (&db, &keyspace);
            scope.spawn(move || {
                for round in 0..100 {
                    keyspace.put(format!("{writer} {round}"), "v").unwrap();
                    let metrics = db.metrics();
                    assert!(metrics.durable_sequence <= metrics.visible_sequence + 800);
                }
            });
        }
    });
    let metrics = db.metrics();
    assert_eq!(metrics.durable_sequence, 800, "each put was acknowledged as durable");
    assert!(metrics.syncs < 800, "{} syncs for 800 puts", metrics.syncs);
    assert_eq!(keyspace.iter().count(), 800);
}

/// All who waited for a sync that failed are told and nobody sleeps on, whoever led; what was acknowledged before is there.
#[test]
fn engine_rule_06_a_sync_that_fails_is_told_to_all_who_waited_for_it() {
    for good_syncs in [0, 1, 7, 40] {
        let disk = SimDisk::new(good_syncs);
        let open = |disk: &SimDisk| {
            let db = Database::builder("/db").disk(disk.clone()).open().unwrap();
            let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
            (db, keyspace)
        };
        let (db, keyspace) = open(&disk);
        let fault = Fault::new(Effect::Fail(ErrorKind::Other)).on(CallKind::Sync).named(".log");
        disk.inject(fault.after(good_syncs));
        let acknowledged: Vec<u64> = thread::scope(|scope| {
            let write = |writer: u64| {
                let mut acknowledged = Vec::new();
                for number in (writer..).step_by(8) {
                    match keyspace.put(key(number), key(number)) {
                        Ok(()) => acknowledged.push(number),
                        Err(Error::Ambiguous { .. } | Error::Poisoned { .. }) => break,
                        Err(other) => panic!("{other}"),
                    }
                }
                acknowledged
            };
            let writers: Vec<_> = (0..8).map(|writer| scope.spawn(move || write(writer))).collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        assert_eq!(disk.faults_met(), 1);
        assert!(acknowledged.len() as u64 >= good_syncs, "{} after {good_syncs} syncs", acknowledged.len());
        let left = disk.reboot(Survival::None);
        drop((keyspace, db));
        let (_db, keyspace) = open(&left);
        for number in acknowledged {
            assert_eq!(keyspace.get(key(number)).unwrap().as_deref(), Some(&key(number)[..]));
        }
    }
}

#[test]
fn a_database_is_open_as_long_as_any_handle_lives_and_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let keyspace = {
        let db = Database::open(directory.path()).unwrap();
        db.keyspace("a", KeyspaceOptions::default()).unwrap()
    };
    keyspace.put("k", "v").unwrap();
    let second = Database::open(directory.path());
    let lock = directory.path().join("LOCK");
    assert!(matches!(&second, Err(Error::Locked { path }) if *path == lock), "{second:?}");
    let iterator = keyspace.iter();
    drop(keyspace);
    assert_eq!(iterator.count(), 1);
    let again = Database::open(directory.path()).unwrap().keyspace("a", KeyspaceOptions::default()).unwrap();
    assert_eq!(again.get("k").unwrap().unwrap(), b"v");
}

struct Panics;

impl MergeOperator for Panics {
    fn fold(&self, _: &[u8], _: Option<&[u8]>, _: &[&[u8]], _: Fold, _: &mut Vec<u8>) -> Result<Folded, Corrupt> {
        panic!("the operator of this test panics, and the flush thread with it");
    }
}

#[test]
fn writers_do_not_wait_for_a_background_thread_that_panicked() {
    let db = Database::builder(Path::new("/db"))
        .disk(MemDisk::new())
        .durability(Durability::Buffered)
        .memtable_bytes(1000)
        .open()
        .unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default().merge(Arc::new(Panics))).unwrap();
    let refused = (0..10_000).find_map(|_| keyspace.merge("k", [7; 100]).err());
    assert!(matches!(refused, Some(Error::Poisoned { .. })), "{refused:?}");
}
