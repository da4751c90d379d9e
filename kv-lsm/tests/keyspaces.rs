//! Keyspaces come and go.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kv_lsm::disk::{Disk, MemDisk, SimDisk, Survival};
use kv_lsm::{
    Background, Batch, Builder, CompactionStrategy, Database, Durability, Error, Keyspace, KeyspaceOptions, LsmStore,
};

fn builder(disk: impl Disk) -> Builder {
    Database::builder("/db").disk(disk).background(Background::Manual).level0_tables(2).block_bytes(256)
}

fn open(db: &Database, name: &str) -> Keyspace {
    db.keyspace(name, KeyspaceOptions::default()).unwrap()
}

fn tables(disk: &impl Disk) -> usize {
    disk.list(Path::new("/db")).unwrap().iter().filter(|name| name.ends_with(".table")).count()
}

fn fill(keyspace: &Keyspace, value: &str) {
    for number in 0..50 {
        keyspace.put(format!("{number:03}"), value).unwrap();
    }
}

#[expect(clippy::needless_pass_by_value, reason = "results are made in place")]
fn is_unknown<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::UnknownKeyspace { .. }))
}

#[test]
fn handles_and_snapshots_of_a_dropped_keyspace_get_a_typed_error() {
    let db = builder(MemDisk::new()).open().unwrap();
    let (doomed, kept) = (open(&db, "doomed"), open(&db, "kept"));
    fill(&doomed, "old");
    db.flush().unwrap();
    doomed.put("in memory", "old").unwrap();
    let snapshot = db.snapshot();
    db.drop_keyspace("doomed").unwrap();
    assert_eq!(db.keyspaces(), ["kept"]);
    assert!(
        is_unknown(doomed.get("001")) && is_unknown(doomed.contains_key("none")) && is_unknown(doomed.put("k", "v"))
    );
    assert!(is_unknown(doomed.multi_get(["001"])) && is_unknown(snapshot.get(&doomed, "001")));
    assert!(is_unknown(doomed.iter().next().unwrap()) && is_unknown(snapshot.iter(&doomed).next_back().unwrap()));
    let mut batch = Batch::new();
    batch.put(&kept, "k", "v");
    batch.put(&doomed, "k", "v");
    assert!(is_unknown(db.write(batch)));
    assert_eq!(kept.get("k").unwrap(), None, "nothing of the batch was applied");
    for name in ["doomed", "never"] {
        let refused = db.drop_keyspace(name);
        assert!(matches!(&refused, Err(Error::NoSuchKeyspace { name: other }) if other == name), "{refused:?}");
        assert!(matches!(db.keyspace_options(name), Err(Error::NoSuchKeyspace { .. })));
    }
}

#[test]
fn iterators_read_on_what_they_pinned_and_its_files_go_with_the_last_of_them() {
    let disk = MemDisk::new();
    let db = builder(disk.clone()).open().unwrap();
    let doomed = open(&db, "doomed");
    fill(&doomed, "old");
    db.flush().unwrap();
    doomed.put("in memory", "old").unwrap();
    let (mut begun, fresh) = (doomed.iter(), doomed.iter());
    begun.next().unwrap().unwrap();
    db.drop_keyspace("doomed").unwrap();
    assert_eq!(tables(&disk), 1, "somebody reads it");
    let keys: Vec<_> = fresh.rev().map(|entry| entry.unwrap().0.to_vec()).collect();
    assert_eq!((keys.len(), keys[0].as_slice()), (51, &b"in memory"[..]));
    assert_eq!(begun.by_ref().filter(|entry| entry.is_ok()).count(), 50);
    drop(begun);
    while db.step().unwrap() {}
    assert_eq!(tables(&disk), 0);
    // What the memtable held of it is written nowhere.
    db.flush().unwrap();
    assert_eq!(tables(&disk), 0);
}

#[test]
fn a_keyspace_that_is_created_again_is_another_one() {
    let disk = MemDisk::new();
    let mut numbers = std::collections::BTreeSet::new();
    let mut db = builder(disk.clone()).open().unwrap();
    for round in 0..4 {
        let doomed = open(&db, "doomed");
        assert!(numbers.insert(format!("{doomed:?}")), "a number is used once");
        assert_eq!(doomed.iter().count(), 0, "round {round}");
        fill(&doomed, "value");
        if round % 2 == 0 {
            db.flush().unwrap();
        }
        db.drop_keyspace("doomed").unwrap();
        if round == 2 {
            drop((db, doomed));
            db = builder(disk.clone()).open().unwrap();
            assert_eq!(db.keyspaces(), Vec::<String>::new());
        }
    }
}

/// A batch over two keyspaces is in the log when one of them is dropped; the power goes; the other part is replayed.
#[test]
fn replay_passes_over_what_was_dropped_and_keeps_the_rest_of_its_batches() {
    let disk = SimDisk::new(1);
    let db = builder(disk.clone()).open().unwrap();
    let (doomed, kept) = (open(&db, "doomed"), open(&db, "kept"));
    for number in 0..20 {
        let mut batch = Batch::new();
        batch.put(&doomed, format!("{number}"), "old");
        batch.put(&kept, format!("{number}"), "kept");
        batch.delete_range(&doomed, "0".."1");
        db.write(batch).unwrap();
    }
    db.drop_keyspace("doomed").unwrap();
    let again = open(&db, "doomed");
    again.put("new", "new").unwrap();
    let report = db.verify().unwrap();
    assert!(report.is_sound(), "{report:?}");
    for survival in [Survival::None, Survival::All] {
        let db = builder(disk.reboot(survival)).open().unwrap();
        let content = |name| open(&db, name).iter().map(|entry| entry.unwrap().0.to_vec()).collect::<Vec<_>>();
        assert_eq!(content("kept").len(), 20, "{survival:?}");
        assert_eq!(content("doomed"), [b"new"], "{survival:?}");
    }
}

/// The power is cut at every call of a script: a keyspace is there as long as its drop was not asked for, gone once it
/// returned, and nothing else is touched.
#[test]
fn dropping_survives_every_power_cut() {
    // How far the script came.
    let script = |disk: &SimDisk, reached: &AtomicU64| -> Result<(), Error> {
        let db = builder(disk.clone()).open()?;
        let doomed = db.keyspace("doomed", KeyspaceOptions::default())?;
        let kept = db.keyspace("kept", KeyspaceOptions::default())?;
        for part in 0..2 {
            for number in 0..4 {
                let mut batch = Batch::new();
                batch.put(&doomed, format!("{part} {number}"), "old");
                batch.put(&kept, format!("{part} {number}"), "kept");
                db.write(batch)?;
            }
            if part == 0 {
                db.flush()?;
            }
        }
        reached.store(1, Ordering::Relaxed);
        db.drop_keyspace("doomed")?;
        reached.store(2, Ordering::Relaxed);
        let again = db.keyspace("doomed", KeyspaceOptions::default())?;
        again.put("new", "new")?;
        reached.store(3, Ordering::Relaxed);
        db.flush()?;
        while db.step()? {}
        Ok(())
    };
    let whole = SimDisk::new(1);
    script(&whole, &AtomicU64::new(0)).unwrap();
    let mut states = [0; 4];
    for call in 0..=whole.mutating_calls() {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        let reached = AtomicU64::new(0);
        let _ = script(&disk, &reached);
        let reached = usize::try_from(reached.load(Ordering::Relaxed)).unwrap();
        let mut survivals = vec![Survival::None, Survival::All];
        survivals.extend((0..6).map(|seed| Survival::Random(call * 10 + seed)));
        for survival in survivals {
            let context = format!("call {call} {:?}, {survival:?}, reached {reached}", disk.power_cut_at());
            let after = disk.reboot(survival);
            let report = builder(after.clone()).verify_files(|_| {});
            if reached > 0 {
                assert!(report.unwrap().is_sound(), "{context}");
            }
            let db = builder(after.clone()).open().unwrap_or_else(|error| panic!("{context}: {error}"));
            let names = db.keyspaces();
            let count = |name: &str| names.iter().any(|other| other == name).then(|| open(&db, name).iter().count());
            let (doomed, kept) = (count("doomed"), count("kept"));
            match reached {
                0 => {}
                1 => assert!(matches!(doomed, Some(8) | None), "{context}: {doomed:?}"),
                2 => assert!(matches!(doomed, None | Some(0 | 1)), "{context}: {doomed:?}"),
                _ => assert_eq!(doomed, Some(1), "{context}"),
            }
            if reached > 0 {
                assert_eq!(kept, Some(8), "{context}");
            }
            states[reached] += 1;
        }
    }
    assert!(states.iter().all(|count| *count > 5), "{states:?}");
}

#[test]
fn keyspaces_are_created_dropped_written_and_compacted_at_once() {
    let disk = MemDisk::new();
    let open_database = || {
        builder(disk.clone())
            .background(Background::Threads)
            .durability(Durability::Buffered)
            .memtable_bytes(8000)
            .log_segment_bytes(4000)
            .manifest_bytes(3000)
            .table_bytes(4000)
            .open()
            .unwrap()
    };
    let db = open_database();
    let over = AtomicBool::new(false);
    let (dropped, written) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        let (db, over, dropped, written) = (&db, &over, &dropped, &written);
        for thread in 0..3_u64 {
            scope.spawn(move || {
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    // All threads fight over two names.
                    let name = format!("contested {}", (thread + round) % 2);
                    let keyspace = open(db, &name);
                    let mine = open(db, &format!("own {thread}"));
                    for number in 0..40 {
                        let mut batch = Batch::new();
                        batch.put(&keyspace, format!("{number}"), format!("{thread} {round}"));
                        batch.put(&mine, format!("{round} {number}"), "own");
                        match db.write(batch) {
                            Ok(()) => drop(written.fetch_add(1, Ordering::Relaxed)),
                            Err(Error::UnknownKeyspace { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                        match keyspace.iter().next() {
                            None | Some(Ok(_) | Err(Error::UnknownKeyspace { .. })) => {}
                            Some(Err(error)) => panic!("{error}"),
                        }
                    }
                    match db.drop_keyspace(&name) {
                        Ok(()) => drop(dropped.fetch_add(1, Ordering::Relaxed)),
                        Err(Error::NoSuchKeyspace { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        scope.spawn(move || {
            for copy in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                db.checkpoint(format!("/copy {copy}")).unwrap();
                assert!(db.verify().unwrap().is_sound());
            }
        });
        thread::sleep(Duration::from_millis(1500));
        over.store(true, Ordering::Relaxed);
    });
    assert!(dropped.load(Ordering::Relaxed) > 20, "{dropped:?} dropped, {written:?} written");
    let counts = |db: &Database| -> Vec<(String, usize)> {
        db.keyspaces().into_iter().map(|name| (name.clone(), open(db, &name).iter().count())).collect()
    };
    let expected = counts(&db);
    let own: usize = expected.iter().filter(|(name, _)| name.starts_with("own")).map(|(_, count)| count).sum();
    assert_eq!(own as u64, written.load(Ordering::Relaxed), "no part of a batch was lost with another's keyspace");
    drop(db);
    let db = open_database();
    assert_eq!(counts(&db), expected);
    assert!(db.verify().unwrap().is_sound());
    assert!(Database::builder("/copy 0").disk(disk.clone()).verify_files(|_| {}).unwrap().is_sound());
}

#[test]
fn options_are_told_as_they_were_given() {
    let db = builder(MemDisk::new()).open().unwrap();
    let options = || {
        KeyspaceOptions::default()
            .default_ttl(Duration::from_secs(60))
            .compaction(CompactionStrategy::Fifo { bytes_max: Some(1 << 20) })
    };
    db.keyspace("events", options()).unwrap();
    let told = db.keyspace_options("events").unwrap();
    assert_eq!(format!("{told:?}"), format!("{:?}", options()));
    db.keyspace("events", told).unwrap();
}

#[test]
fn the_spaces_of_a_store_are_not_dropped() {
    use kv_core::store::{Space, SpaceOptions};
    let store = LsmStore::open(builder(MemDisk::new()), &[(Space::META, "meta", SpaceOptions::default())]).unwrap();
    let refused = store.database().drop_keyspace("meta");
    assert!(matches!(refused, Err(Error::InvalidOptions { .. })), "{refused:?}");
}

#[test]
fn the_size_of_a_range_is_told_within_a_block_for_each_end() {
    let db = builder(MemDisk::new()).compression(kv_lsm::Compression::None).open().unwrap();
    let sized = open(&db, "sized");
    for number in 0..1000 {
        sized.put(format!("{number:04}"), [7; 100]).unwrap();
    }
    assert_eq!(sized.approximate_size(..).unwrap(), 0, "what is in memory is not counted");
    db.flush().unwrap();
    let all = sized.approximate_size(..).unwrap();
    assert!(all > 1000 * 104, "{all}");
    assert_eq!(sized.approximate_size("0000"..="0999").unwrap(), all);
    assert_eq!(sized.approximate_size("1".."2").unwrap(), 0);
    assert_eq!(sized.approximate_size(.."0000").unwrap(), 0);
    for (begin, end) in [(0, 500), (250, 260), (999, 1000), (100, 900), (501, 1000)] {
        let told = sized.approximate_size(format!("{begin:04}")..format!("{end:04}")).unwrap();
        let right = all * (end - begin) / 1000;
        // A block of 256 bytes has three entries here, and its share of filter and index.
        let bound = 2 * 4 * all / 1000;
        assert!(told >= right && told - right <= bound, "{begin}..{end}: {told}, not {right}");
    }

    let apart = db.keyspace("apart", KeyspaceOptions::default().separate_values_from(50)).unwrap();
    apart.put("k", [1; 5000]).unwrap();
    db.flush().unwrap();
    assert!(apart.approximate_size("k"..="k").unwrap() > 5000, "values that are kept apart count");
    db.drop_keyspace("apart").unwrap();
    assert!(is_unknown(apart.approximate_size(..)));
}

/// From a memtable, from blocks that are not cached and go through the thread's own memory, and from a blob file.
#[test]
fn a_value_is_looked_at_where_it_lies_and_the_database_may_be_used_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let db = Database::builder(directory.path()).cache_bytes(0).open().unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default().separate_values_from(1000)).unwrap();
    let values = [("one", vec![1; 10]), ("two", vec![2; 5000]), ("three", vec![3; 20])];
    let look_at_all = |keyspace: &Keyspace| {
        for (key, value) in &values {
            let found = keyspace.get_borrowed(key, |found| {
                for (other, value) in &values {
                    assert_eq!(keyspace.get(other).unwrap().unwrap(), value[..]);
                }
                keyspace.put("meanwhile", found).unwrap();
                (found.to_vec(), keyspace.get_borrowed("meanwhile", <[u8]>::len).unwrap())
            });
            assert_eq!(found.unwrap(), Some((value.clone(), Some(value.len()))));
        }
        assert!(keyspace.get_borrowed("absent", |_| panic!("there is none")).unwrap().is_none());
    };
    for (key, value) in &values {
        keyspace.put(key, value).unwrap();
    }
    let snapshot = db.snapshot();
    look_at_all(&keyspace);
    db.flush().unwrap();
    look_at_all(&keyspace);
    keyspace.delete("two").unwrap();
    assert_eq!(keyspace.get_borrowed("two", <[u8]>::len).unwrap(), None);
    assert_eq!(snapshot.get_borrowed(&keyspace, "two", <[u8]>::len).unwrap(), Some(5000));
    assert_eq!(snapshot.get_borrowed(&keyspace, "meanwhile", <[u8]>::len).unwrap(), None);
}
