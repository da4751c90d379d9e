//! What `kv_lsm::inspect` says of files is what was written into them; any bytes are refused or read; nothing is changed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::store::{Fold, Folded, MergeOperator, Operation};
use kv_core::time::Millis;
use kv_lsm::disk::{Disk, MemDisk, OpenMode, read_exact_at};
use kv_lsm::inspect::{BlockCompression, Files, Kind, UpperKey, decode_options, encode_options};
use kv_lsm::{Background, Batch, CompactionStrategy, Compression, Database, Error, KeyspaceOptions};

const DIRECTORY: &str = "/db";

struct Last;

impl MergeOperator for Last {
    fn fold(
        &self,
        _: &[u8],
        _: Option<&[u8]>,
        operands: &[&[u8]],
        _: Fold,
        out: &mut Vec<u8>,
    ) -> Result<Folded, kv_core::store::Corrupt> {
        out.extend_from_slice(operands.last().expect("there is an operand"));
        Ok(Folded::Value)
    }
}

fn open(disk: &MemDisk) -> Database {
    let builder = Database::builder(DIRECTORY).disk(disk.clone()).background(Background::Manual);
    builder.clock(Arc::new(|| Millis(1_000))).block_bytes(256).open().unwrap()
}

/// Three keyspaces in tables, two blob values, and three operations in the log.
fn fill(disk: &MemDisk) {
    let db = open(disk);
    let lz4 = KeyspaceOptions::default().compression([Compression::Lz4]).default_ttl(std::time::Duration::from_secs(9));
    let users = db.keyspace("users", lz4).unwrap();
    let photos = db.keyspace("photos", KeyspaceOptions::default().separate_values_from(100).inline_prefix_bytes(3));
    let photos = photos.unwrap();
    let counts = db.keyspace("counts", KeyspaceOptions::default().merge(Arc::new(Last))).unwrap();
    // What is flushed next must keep its deletes, since it hides something.
    users.put("user 29x", "below").unwrap();
    users.put("user 94", "below").unwrap();
    db.flush().unwrap();
    for number in 0..40 {
        users.put_expiring(format!("user {number:02}"), [b'x'; 50], Millis(5_000 + number)).unwrap();
    }
    users.delete("user 29x").unwrap();
    users.delete_range("user 30".."user 95").unwrap();
    photos.put("a", [7; 500]).unwrap();
    photos.put("b", [8; 600]).unwrap();
    counts.merge("n", "1").unwrap();
    db.flush().unwrap();
    let mut batch = Batch::new();
    batch.put_expiring(&users, "late", "value", Millis(9_000));
    batch.merge(&counts, "n", "2");
    db.write(batch).unwrap();
    users.delete("late").unwrap();
}

fn content(disk: &MemDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = disk.list(Path::new(DIRECTORY)).unwrap().into_iter();
    let read = |name: String| {
        let path = Path::new(DIRECTORY).join(name);
        let file = disk.open(&path, OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
        (path, bytes)
    };
    names.map(read).collect()
}

fn overwrite(disk: &MemDisk, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    file.truncate(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

#[test]
fn what_is_said_is_what_was_written() {
    let disk = MemDisk::new();
    fill(&disk);
    let before = content(&disk);
    let files = Files::on(disk.clone());

    let manifest = files.manifest(DIRECTORY).unwrap();
    let names: Vec<&str> = manifest.keyspaces.iter().map(|keyspace| keyspace.name.as_str()).collect();
    assert_eq!(names, ["users", "photos", "counts"]);
    assert_eq!((manifest.flushed_sequence, manifest.next_keyspace, manifest.torn_at), (47, 259, None));
    let [users, photos, counts] = &manifest.keyspaces[..] else { unreachable!("there are three names") };
    assert_eq!(users.options.default_ttl_ms, Some(9_000));
    assert_eq!(users.options.compression, Some(vec![Compression::Lz4]));
    assert_eq!(users.options.compaction, CompactionStrategy::Leveled);
    assert!(counts.options.merge && !users.options.merge);
    assert_eq!((photos.options.separate_values_from, photos.options.inline_prefix_bytes), (Some(100), Some(3)));

    let table = &users.levels[0][0];
    assert_eq!(
        (table.entries, table.deletes, table.range_deletes, table.expiring),
        (31, 1, 1, 30),
        "range deleted ones are folded away"
    );
    assert_eq!(table.expiry, Some((Millis(5_000), Millis(5_029))));
    assert_eq!((&table.lower[..], &table.upper), (&b"user 00"[..], &UpperKey::Excluded(b"user 95".to_vec())));
    let mut versions = Vec::new();
    let found = files.table_versions(&table.file, |version| {
        versions.push((version.key.to_vec(), version.kind, version.expire_at, version.value.len()));
    });
    let found = found.unwrap();
    assert_eq!(versions.len() as u64, table.entries);
    assert_eq!(versions[3], (b"user 03".to_vec(), Kind::Put, Some(Millis(5_003)), 50));
    assert_eq!(versions[30].1, Kind::Delete);
    assert_eq!((found.bytes, found.properties.keyspace, found.properties.entries), (table.bytes, users.id, 31));
    assert_eq!(found.blocks.iter().map(|block| block.entries).sum::<u64>(), 31);
    assert!(found.blocks.len() > 3 && found.blocks[0].compression == BlockCompression::Lz4);
    assert!(found.blocks[0].decoded_bytes > found.blocks[0].place.bytes);
    assert_eq!(found.blocks[1].place.offset, found.blocks[0].place.bytes, "one behind the other");
    assert_eq!(found.deleted_ranges[0].end, b"user 95");

    let [blob] = &photos.blobs[..] else { panic!("one blob file: {:?}", photos.blobs) };
    assert_eq!((blob.records, blob.garbage_bytes), (2, 0));
    assert_eq!(photos.levels[0][0].blobs, [(blob.number, blob.live_bytes)]);
    let mut pointers = Vec::new();
    files
        .table_versions(&photos.levels[0][0].file, |version| pointers.push((version.value.to_vec(), version.blob)))
        .unwrap();
    assert_eq!((&pointers[0].0[..], pointers[0].1.unwrap().value_bytes), (&[7; 3][..], 500));
    let mut records = Vec::new();
    let whole = files.blob(&blob.file, |record| records.push((record.offset, record.value.to_vec()))).unwrap();
    assert_eq!((whole.records, whole.keyspace, &records[1].1[..]), (2, photos.id, &[8; 600][..]));
    assert_eq!(records[0].0, pointers[0].1.unwrap().offset);

    let (log, _) = manifest.log_files.last().unwrap();
    let mut operations = Vec::new();
    let segment = files.log(log, |record| {
        let names = record.batch.iter().map(|operation| match operation {
            Operation::PutExpiring { .. } => "put expiring",
            Operation::Merge { .. } => "merge",
            Operation::Delete { .. } => "delete",
            _ => "other",
        });
        operations.push((record.first_sequence, names.collect::<Vec<_>>()));
        assert_eq!(record.position, manifest.log_position + record.offset);
    });
    assert_eq!(operations, [(48, vec!["put expiring", "merge"]), (50, vec!["delete"])]);
    assert_eq!(segment.unwrap().expected, None);

    assert_eq!(content(&disk), before, "nothing was changed");
}

#[test]
fn a_database_that_is_open_is_locked_and_one_that_is_not_there_is_missed() {
    let disk = MemDisk::new();
    assert!(matches!(Files::on(disk.clone()).manifest(DIRECTORY), Err(Error::NoDatabase { .. })));
    let db = open(&disk);
    assert!(matches!(Files::on(disk.clone()).manifest(DIRECTORY), Err(Error::Locked { .. })));
    drop(db);
    assert!(Files::on(disk).manifest(DIRECTORY).is_ok());
}

#[test]
fn any_bytes_are_a_value_or_an_error() {
    let disk = MemDisk::new();
    fill(&disk);
    let files = Files::on(disk.clone());
    let mut refused = 0;
    let mut look = |path: &Path| {
        let result = match path.extension().and_then(|extension| extension.to_str()) {
            Some("table") => files.table(path).err(),
            Some("blob") => files.blob(path, |_| {}).err(),
            Some("log") => files.log(path, |_| {}).err(),
            _ => files.manifest(DIRECTORY).err(),
        };
        refused += u32::from(result.is_some());
        match result {
            None | Some(Error::Corrupt { .. } | Error::Unsupported { .. } | Error::NoDatabase { .. }) => {}
            Some(other) => panic!("{}: {other}", path.display()),
        }
    };
    for (path, bytes) in content(&disk) {
        for at in (0..bytes.len().min(1_500)).chain(bytes.len().saturating_sub(500)..bytes.len()) {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            overwrite(&disk, &path, &changed);
            look(&path);
            if at % 7 == 0 {
                overwrite(&disk, &path, &bytes[..at]);
                look(&path);
            }
        }
        overwrite(&disk, &path, &bytes);
    }
    assert!(refused > 3_000, "most changes are noticed: {refused}");
}

#[test]
fn options_come_back_and_open_a_keyspace_without_its_operator() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let options = KeyspaceOptions::default().merge(Arc::new(Last)).filter_bits_per_key(12);
    db.keyspace("counts", options.clone()).unwrap().merge("n", "1").unwrap();
    drop(db);
    let bytes = encode_options(&options);
    let read = decode_options(&bytes).unwrap();
    assert_eq!(encode_options(&read), bytes);
    assert!(decode_options(&bytes[..bytes.len() - 1]).is_err());
    let db = open(&disk);
    let counts = db.keyspace("counts", read).unwrap();
    assert!(matches!(counts.get("n"), Err(Error::NoMergeOperator { .. })));
    counts.put("m", "value").unwrap();
    assert_eq!(counts.get("m").unwrap().as_deref(), Some(&b"value"[..]));
}

#[test]
fn expiries_come_with_values_from_both_ends() {
    let disk = MemDisk::new();
    let db = open(&disk);
    let options = KeyspaceOptions::default().separate_values_from(100);
    let keyspace = db.keyspace("k", options).unwrap();
    keyspace.put_expiring("a", [1; 200], Millis(7_000)).unwrap();
    keyspace.put_expiring("b", "old", Millis(8_000)).unwrap();
    db.flush().unwrap();
    keyspace.put("b", "new").unwrap();
    keyspace.put_expiring("c", "gone", Millis(900)).unwrap();
    keyspace.put_expiring("d", "last", Millis(9_000)).unwrap();
    let expected = [(b"a".to_vec(), Some(Millis(7_000))), (b"b".to_vec(), None), (b"d".to_vec(), Some(Millis(9_000)))];
    let part = |entry: Result<(kv_lsm::Slice, kv_lsm::Slice, Option<Millis>), Error>| {
        let (key, _, expire_at) = entry.unwrap();
        (key.to_vec(), expire_at)
    };
    let forward: Vec<_> = keyspace.iter().with_expiry().map(part).collect();
    assert_eq!(forward, expected);
    let mut backward: Vec<_> = keyspace.iter().with_expiry().rev().map(part).collect();
    backward.reverse();
    assert_eq!(backward, expected);
}
