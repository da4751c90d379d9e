//! Key-value separation: values apart from their keys, in files that come and go with what points into them.

mod append;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_lsm::disk::{CallKind, Disk, Effect, Fault, OpenMode, SimDisk, Survival, read_exact_at};
use kv_lsm::{Background, CompactionStrategy, Database, Error, Keyspace, KeyspaceMetrics, KeyspaceOptions};

use append::Append;

const DIRECTORY: &str = "/db";
const SEPARATE_FROM: u32 = 100;
const PREFIX: u32 = 8;

fn options() -> KeyspaceOptions {
    KeyspaceOptions::default().separate_values_from(SEPARATE_FROM).inline_prefix_bytes(PREFIX)
}

fn open(disk: &SimDisk) -> Result<Database, Error> {
    Database::builder(Path::new(DIRECTORY))
        .disk(disk.clone())
        .background(Background::Manual)
        .level0_tables(2)
        .table_bytes(4096)
        .level1_bytes(1 << 20)
        .block_bytes(256)
        .blob_file_bytes(512)
        .cache_bytes(0)
        .open()
}

fn database(disk: &SimDisk) -> (Database, Keyspace) {
    let db = open(disk).unwrap();
    let keyspace = db.keyspace("photos", options()).unwrap();
    (db, keyspace)
}

fn blob_files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter().map(|(path, _)| path);
    files.filter(|path| path.extension().is_some_and(|extension| extension == "blob")).collect()
}

fn metrics(db: &Database) -> KeyspaceMetrics {
    db.metrics().keyspaces.remove(0)
}

fn key(number: usize) -> Vec<u8> {
    format!("key {number:03}").into_bytes()
}

/// Every third value is small.
fn value(number: usize, round: usize) -> Vec<u8> {
    let text = format!("{number:03} {round:03} ");
    text.repeat(if number.is_multiple_of(3) { 3 } else { 40 + number }).into_bytes()
}

fn fill(keyspace: &Keyspace, numbers: impl Iterator<Item = usize>, round: usize) {
    numbers.for_each(|number| keyspace.put(key(number), value(number, round)).unwrap());
}

fn work(db: &Database) {
    while db.step().unwrap() {}
}

fn check(keyspace: &Keyspace, count: usize, round_of: impl Fn(usize) -> usize) {
    let expected: Vec<_> = (0..count).map(|number| (key(number), value(number, round_of(number)))).collect();
    let owned = |entry: Result<(kv_lsm::Slice, kv_lsm::Slice), Error>| {
        let (key, value) = entry.unwrap();
        (key.to_vec(), value.to_vec())
    };
    assert_eq!(keyspace.iter().map(owned).collect::<Vec<_>>(), expected, "forward");
    let mut reversed: Vec<_> = keyspace.iter().rev().map(owned).collect();
    reversed.reverse();
    assert_eq!(reversed, expected, "reverse");
    let found = keyspace.multi_get(expected.iter().map(|(key, _)| key)).unwrap();
    for (found, (key, value)) in found.iter().zip(&expected) {
        assert_eq!(found.as_deref(), Some(value.as_slice()), "{key:?}");
        assert_eq!(keyspace.get(key).unwrap().as_deref(), Some(value.as_slice()), "{key:?}");
    }
    let heads: Vec<_> = keyspace.iter().heads().map(owned).collect();
    let cut = |(key, value): &(Vec<u8>, Vec<u8>)| (key.clone(), value[..value.len().min(PREFIX as usize)].to_vec());
    assert_eq!(heads, expected.iter().map(cut).collect::<Vec<_>>(), "heads");
}

#[test]
fn open_blob_files_are_bounded() {
    let disk = SimDisk::new(1);
    let (db, photos) = database(&disk);
    for number in 0..40_u8 {
        photos.put([number], vec![number; 400]).unwrap();
        if number % 4 == 3 {
            db.flush().unwrap();
        }
    }
    drop((db, photos));
    let builder = Database::builder(Path::new(DIRECTORY)).disk(disk.clone()).background(Background::Manual);
    let db = builder.open_tables_max(8).open().unwrap();
    let photos = db.keyspace("photos", options()).unwrap();
    assert!(blob_files(&disk).len() >= 10, "many files: {:?}", blob_files(&disk));
    for number in (0..40_u8).chain((0..40).rev()) {
        assert_eq!(photos.get([number]).unwrap().as_deref(), Some(&[number; 400][..]));
        assert!((1..=2).contains(&db.metrics().open_blob_files), "{}", db.metrics().open_blob_files);
    }
}

#[test]
fn values_of_all_sizes_survive_flush_compaction_and_reopening() {
    let disk = SimDisk::new(1);
    let (mut db, mut keyspace) = database(&disk);
    for round in 0..4 {
        fill(&keyspace, 0..30, round);
        check(&keyspace, 30, |_| round);
        db.flush().unwrap();
        check(&keyspace, 30, |_| round);
        work(&db);
        check(&keyspace, 30, |_| round);
        if round % 2 == 0 {
            drop((keyspace, db));
            (db, keyspace) = database(&disk);
            check(&keyspace, 30, |_| round);
        }
    }
    keyspace.compact_range(..).unwrap();
    check(&keyspace, 30, |_| 3);
    let metrics = metrics(&db);
    assert!(metrics.blob_files > 1, "a full file is followed by another: {metrics:?}");
    assert_eq!(metrics.blob_files, blob_files(&disk).len(), "what is not named is not there");
    assert!(db.metrics().blob_written_bytes > 0);
}

#[test]
fn what_the_log_still_holds_is_separated_by_recovery() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..10, 0);
    assert_eq!(blob_files(&disk), Vec::<PathBuf>::new());
    drop((keyspace, db));
    let (_db, keyspace) = database(&disk.reboot(Survival::None));
    check(&keyspace, 10, |_| 0);
}

#[test]
fn engine_rule_13_what_is_not_asked_for_is_not_read() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..20, 0);
    let snapshot = db.snapshot();
    fill(&keyspace, 0..20, 1);
    db.flush().unwrap();
    disk.inject(Fault::new(Effect::Fail(std::io::ErrorKind::Other)).on(CallKind::Read).named(".blob").for_ever());
    let keys = |keys: kv_lsm::Keys| keys.map(|key| key.unwrap().to_vec()).collect::<Vec<_>>();
    let expected: Vec<_> = (0..20).map(key).collect();
    assert_eq!(keys(keyspace.iter().keys()), expected);
    assert_eq!(keys(snapshot.iter(&keyspace).keys()), expected);
    let backward: Vec<_> = keyspace.iter().keys().rev().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(backward, expected.iter().rev().cloned().collect::<Vec<_>>());
    for (number, head) in keyspace.iter().heads().enumerate() {
        assert_eq!(head.unwrap().1[..], value(number, 1)[..PREFIX as usize]);
    }
    for number in 0..20 {
        assert!(keyspace.contains_key(key(number)).unwrap());
        assert!(snapshot.contains_key(&keyspace, key(number)).unwrap());
        let small = number % 3 == 0;
        assert_eq!(keyspace.get(key(number)).is_ok(), small, "only a value that is asked for is read");
    }
    // Compactions do not read what they only move.
    db.step().unwrap();
    keyspace.compact_range(..).unwrap();
    disk.clear_faults();
    check(&keyspace, 20, |_| 1);
}

#[test]
fn engine_rule_13_operands_stay_inline_and_what_they_fold_to_is_separated() {
    let disk = SimDisk::new(1);
    let db = open(&disk).unwrap();
    let keyspace = db.keyspace("photos", options().merge(Arc::new(Append))).unwrap();
    keyspace.put("far", "x".repeat(1000)).unwrap();
    keyspace.put("near", "n").unwrap();
    db.flush().unwrap();
    assert_eq!(metrics(&db).blob_files, 1);
    let snapshot = db.snapshot();
    keyspace.merge("near", "n".repeat(1000)).unwrap();
    keyspace.merge("far", "f".repeat(1000)).unwrap();
    db.flush().unwrap();
    assert_eq!(metrics(&db).blob_files, 1, "operands are in the table");
    let far = "x".repeat(1000) + &"f".repeat(1000);
    assert_eq!(keyspace.get("far").unwrap().as_deref(), Some(far.as_bytes()));
    assert_eq!(keyspace.get("near").unwrap().as_deref(), Some("n".repeat(1001).as_bytes()));
    keyspace.compact_range(..).unwrap();
    assert_eq!(snapshot.get(&keyspace, "far").unwrap().as_deref(), Some("x".repeat(1000).as_bytes()));
    assert_eq!(keyspace.get("far").unwrap().as_deref(), Some(far.as_bytes()));
    drop(snapshot);
    keyspace.compact_range(..).unwrap();
    work(&db);
    let metrics = metrics(&db);
    assert!(metrics.blob_files > 0 && metrics.blob_garbage_bytes == 0, "{metrics:?}");
    let tables: u64 = metrics.levels.iter().map(|level| level.bytes).sum();
    assert!(tables < 1000, "folded values are no longer in tables of {tables} bytes");
    disk.inject(Fault::new(Effect::Fail(std::io::ErrorKind::Other)).on(CallKind::Read).named(".blob").for_ever());
    assert!(keyspace.contains_key("near").unwrap(), "a folded value need not be read to be there");
    assert!(keyspace.get("near").is_err());
    disk.clear_faults();
    assert_eq!(keyspace.get("far").unwrap().as_deref(), Some(far.as_bytes()));
}

#[test]
fn engine_rule_13_garbage_is_counted_and_collected_inside_compaction() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..60, 0);
    keyspace.compact_range(..).unwrap();
    let before = metrics(&db);
    assert_eq!(before.blob_garbage_bytes, 0);
    let old_files = blob_files(&disk);
    // A pinned reader, and a snapshot of what is now.
    let iterator = keyspace.iter();
    let snapshot = db.snapshot();
    let most = |number: usize| usize::from(!number.is_multiple_of(5));
    fill(&keyspace, (0..60).filter(|&number| most(number) == 1), 1);
    keyspace.compact_range(..).unwrap();
    work(&db);
    let kept = metrics(&db);
    assert_eq!(kept.blob_garbage_bytes, 0, "the snapshot still sees all of it: {kept:?}");
    assert!(kept.blob_bytes > before.blob_bytes);
    drop(snapshot);
    keyspace.compact_range(..).unwrap();
    let counted = metrics(&db);
    assert!(counted.blob_garbage_bytes > 0, "{counted:?}");
    drop((keyspace, db, iterator));
    let (db, keyspace) = database(&disk);
    assert_eq!(metrics(&db).blob_garbage_bytes, counted.blob_garbage_bytes, "the count survives reopening");
    let iterator = keyspace.iter();
    let first = key(0);
    // Nobody writes any more, and the garbage goes.
    work(&db);
    let after = metrics(&db);
    let worst = 2 * after.blob_garbage_bytes <= after.blob_bytes;
    assert!(after.blob_bytes < counted.blob_bytes && worst, "{after:?}");
    assert!(after.blob_files < blob_files(&disk).len(), "the iterator keeps files that nobody else needs");
    let seen: Vec<_> = iterator.map(|entry| entry.unwrap().0.to_vec()).collect();
    assert_eq!((seen.len(), &seen[0]), (60, &first));
    work(&db);
    assert_eq!(after.blob_files, blob_files(&disk).len());
    assert!(old_files.iter().any(|file| !blob_files(&disk).contains(file)), "old files went");
    check(&keyspace, 60, most);
    // What is deleted altogether leaves no file behind.
    keyspace.delete_range(&b"k"[..]..&b"l"[..]).unwrap();
    keyspace.compact_range(..).unwrap();
    work(&db);
    assert_eq!((metrics(&db).blob_files, blob_files(&disk).len()), (0, 0));
}

#[test]
fn a_changed_threshold_applies_from_then_on() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..10, 0);
    db.flush().unwrap();
    let blob_bytes = metrics(&db).blob_bytes;
    drop((keyspace, db));
    let db = open(&disk).unwrap();
    let keyspace = db.keyspace("photos", KeyspaceOptions::default().inline_prefix_bytes(PREFIX)).unwrap();
    fill(&keyspace, 0..8, 1);
    keyspace.compact_range(..).unwrap();
    work(&db);
    check(&keyspace, 10, |number| usize::from(number < 8));
    assert!(metrics(&db).blob_bytes < blob_bytes, "what was collected went back into tables");
}

#[test]
fn values_of_tables_that_are_dropped_whole_count_and_go_with_them() {
    let disk = SimDisk::new(1);
    let db = open(&disk).unwrap();
    let first_in_first_out = CompactionStrategy::Fifo { bytes_max: Some(10_000) };
    let keyspace = db.keyspace("photos", options().compaction(first_in_first_out)).unwrap();
    for number in 0..40_u8 {
        // Noise, which does not compress.
        let mut state = u32::from(number) + 1;
        let value: Vec<u8> = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        keyspace.put([number], value).unwrap();
        db.flush().unwrap();
        work(&db);
    }
    let metrics = metrics(&db);
    let tables: u64 = metrics.levels.iter().map(|level| level.bytes).sum();
    assert!(tables < 5000 && metrics.blob_bytes + tables <= 10_000, "{metrics:?}");
    assert_eq!((metrics.blob_garbage_bytes, metrics.blob_files), (0, blob_files(&disk).len()));
    assert!(keyspace.get([39]).unwrap().is_some() && keyspace.get([0]).unwrap().is_none());
}

#[test]
fn engine_rule_08_a_checkpoint_takes_its_values_along() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..20, 0);
    db.flush().unwrap();
    fill(&keyspace, 0..5, 1);
    db.checkpoint(Path::new("/copy")).unwrap();
    keyspace.delete_range(&b"k"[..]..&b"l"[..]).unwrap();
    keyspace.compact_range(..).unwrap();
    drop((keyspace, db));
    let copy = Database::builder(Path::new("/copy")).disk(disk).background(Background::Manual).open().unwrap();
    check(&copy.keyspace("photos", options()).unwrap(), 20, |number| usize::from(number < 5));
}

#[test]
fn a_blob_file_that_cannot_be_written_leaves_everything_as_it_was() {
    for kind in [CallKind::Create, CallKind::Write, CallKind::Sync] {
        let disk = SimDisk::new(1);
        let (db, keyspace) = database(&disk);
        fill(&keyspace, 0..20, 0);
        disk.inject(Fault::new(Effect::Fail(std::io::ErrorKind::StorageFull)).on(kind).named(".blob"));
        assert!(matches!(db.flush(), Err(Error::NoSpace { .. })), "{kind:?}");
        assert_eq!((metrics(&db).blob_files, blob_files(&disk).len()), (0, 0), "{kind:?}");
        check(&keyspace, 20, |_| 0);
        db.flush().unwrap();
        check(&keyspace, 20, |_| 0);
        fill(&keyspace, 0..20, 1);
        db.flush().unwrap();
        check(&keyspace, 20, |_| 1);
    }
}

#[test]
fn a_missing_file_is_refused_and_an_unnamed_one_removed() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..5, 0);
    db.flush().unwrap();
    drop((keyspace, db));
    let stray = Path::new(DIRECTORY).join("000900.blob");
    disk.open(&stray, OpenMode::CreateNew).unwrap().write_at(b"of a flush that was cut short", 0).unwrap();
    let (db, keyspace) = database(&disk);
    assert!(!blob_files(&disk).contains(&stray));
    check(&keyspace, 5, |_| 0);
    drop((keyspace, db));
    let named = blob_files(&disk).remove(0);
    disk.remove(&named).unwrap();
    match open(&disk) {
        Err(Error::Corrupt { file, .. }) => assert_eq!(file, named),
        other => panic!("{other:?}"),
    }
}

/// One damaged byte makes at most one value unreadable, or, in the header, those of its file, and never a wrong one.
#[test]
fn engine_rule_14_damage_is_named_and_spares_other_values() {
    let disk = SimDisk::new(1);
    let (db, keyspace) = database(&disk);
    fill(&keyspace, 0..12, 0);
    db.flush().unwrap();
    drop((keyspace, db));
    let disk = disk.reboot(Survival::All);
    let file = blob_files(&disk).remove(0);
    let opened = disk.open(&file, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(opened.len().unwrap()).unwrap()];
    read_exact_at(opened.as_ref(), &mut bytes, 0).unwrap();
    drop(opened);
    for at in (0..bytes.len()).step_by(7) {
        for damage in [vec![bytes[at] ^ 0x20], vec![0; 16]] {
            if bytes[at..].starts_with(&damage) || at + damage.len() > bytes.len() {
                continue;
            }
            let damaged = disk.reboot(Survival::All);
            damaged.damage(&file, at as u64, &damage).unwrap();
            let (_db, keyspace) = database(&damaged);
            let mut unreadable = 0;
            for number in 0..12 {
                match keyspace.get(key(number)) {
                    Ok(found) => assert_eq!(found.as_deref(), Some(value(number, 0).as_slice()), "byte {at}"),
                    Err(Error::Corrupt { file: named, offset, what }) => {
                        assert!(named == file && offset <= at as u64 + 16, "byte {at}: offset {offset}");
                        assert!(what.starts_with("expected"), "{what}");
                        unreadable += 1;
                    }
                    Err(error) => panic!("byte {at}: {error}"),
                }
            }
            assert!(unreadable <= 2 || at < 36, "byte {at}: {unreadable} values are unreadable");
        }
    }
}

/// What was read once is read again without the file, by key and in order, and never in the place of what was written since.
#[test]
fn separated_values_stay_in_the_cache_as_long_as_they_are_what_is_asked_for() {
    let disk = SimDisk::new(1);
    let db = Database::builder(Path::new(DIRECTORY))
        .disk(disk.clone())
        .background(Background::Manual)
        .cache_bytes(1 << 20)
        .open()
        .unwrap();
    let keyspace = db.keyspace("photos", options()).unwrap();
    let all = || keyspace.iter().filter_map(Result::ok).map(|(_, value)| value.to_vec()).collect::<Vec<_>>();
    let expected = |round_of: &dyn Fn(usize) -> usize| (0..30).map(|at| value(at, round_of(at))).collect::<Vec<_>>();
    let without_files = |read: &dyn Fn()| {
        disk.inject(Fault::new(Effect::Fail(std::io::ErrorKind::Other)).on(CallKind::Read).named(".blob").for_ever());
        read();
        assert_eq!(disk.faults_met(), 0, "a blob file was read");
        disk.clear_faults();
    };
    fill(&keyspace, 0..30, 1);
    db.flush().unwrap();
    assert_eq!(all(), expected(&|_| 1));
    without_files(&|| {
        check(&keyspace, 30, |_| 1);
        assert_eq!(keyspace.get_borrowed(key(1), <[u8]>::len).unwrap(), Some(value(1, 1).len()));
    });

    let snapshot = db.snapshot();
    fill(&keyspace, (0..30_usize).filter(|at| at.is_multiple_of(2)), 2);
    keyspace.delete(key(1)).unwrap();
    keyspace.put(key(1), value(1, 3)).unwrap();
    db.flush().unwrap();
    let now = |at: usize| if at == 1 { 3 } else { 1 + usize::from(at.is_multiple_of(2)) };
    assert_eq!(all(), expected(&now));
    without_files(&|| {
        check(&keyspace, 30, now);
        let before = snapshot.iter(&keyspace).filter_map(Result::ok).map(|(_, value)| value.to_vec());
        assert!(before.eq(expected(&|_| 1)));
        assert_eq!(keyspace.iter().keys().filter_map(Result::ok).count(), 30);
    });
    drop(snapshot);
    keyspace.compact_range(..).unwrap();
    check(&keyspace, 30, now);
}
