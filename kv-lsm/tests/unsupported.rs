//! A file that needs a feature which this version does not know is refused, whatever kind of file it is.

use std::path::{Path, PathBuf};

use kv_core::checksum::crc32;
use kv_core::hash::seeded;
use kv_lsm::disk::{Disk, MemDisk, OpenMode, read_exact_at};
use kv_lsm::{Background, Builder, Database, Error, KeyspaceOptions};

fn builder(disk: &MemDisk) -> Builder {
    Database::builder("/db").disk(disk.clone()).background(Background::Manual)
}

fn options() -> KeyspaceOptions {
    KeyspaceOptions::default().separate_values_from(50)
}

/// Changes the only file whose name has `part`, and returns its path.
fn change(disk: &MemDisk, part: &str, change: impl FnOnce(&mut [u8])) -> PathBuf {
    let names = disk.list(Path::new("/db")).unwrap();
    let found: Vec<&String> = names.iter().filter(|name| name.contains(part)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    let path = Path::new("/db").join(found[0]);
    let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    change(&mut bytes);
    file.write_at(&bytes, 0).unwrap();
    path
}

/// A closed database with one file of each kind.
fn database() -> MemDisk {
    let disk = MemDisk::new();
    let db = builder(&disk).open().unwrap();
    let keyspace = db.keyspace("a", options()).unwrap();
    keyspace.put("small", "value").unwrap();
    keyspace.put("large", [1; 100]).unwrap();
    db.flush().unwrap();
    keyspace.put("log", "value").unwrap();
    disk
}

fn is_refused<T>(result: Result<T, Error>, path: &Path) -> bool {
    matches!(result, Err(Error::Unsupported { file, .. }) if file == path)
}

#[test]
fn a_manifest_with_an_unknown_feature() {
    let disk = database();
    let path = change(&disk, "MANIFEST", |bytes| {
        bytes[12] = 1;
        let crc = crc32(&[&bytes[..32]]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(is_refused(builder(&disk).open(), &path));
    assert!(is_refused(builder(&disk).repair(), &path), "repair must not guess at it either");
}

#[test]
fn a_log_segment_with_an_unknown_feature() {
    let disk = database();
    let path = change(&disk, ".log", |bytes| {
        bytes[12] = 1;
        let crc = crc32(&[&bytes[..60]]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(is_refused(builder(&disk).open(), &path));
    assert!(is_refused(builder(&disk).repair(), &path));
}

#[test]
fn a_table_with_an_unknown_feature() {
    let disk = database();
    let path = change(&disk, ".table", |bytes| {
        let footer = bytes.len() - 100;
        let footer = &mut bytes[footer..];
        footer[72] = 1;
        let identity = u64::from_le_bytes(footer[64..72].try_into().unwrap());
        let checksum = seeded(&footer[..84], identity);
        footer[84..92].copy_from_slice(&checksum.to_le_bytes());
    });
    // Tables are opened when they are first read.
    let keyspace = builder(&disk).open().and_then(|db| db.keyspace("a", options())).unwrap();
    assert!(is_refused(keyspace.get("small"), &path));
    drop(keyspace);
    assert!(is_refused(builder(&disk).repair(), &path));
}

#[test]
fn a_blob_file_with_an_unknown_feature() {
    let disk = database();
    let path = change(&disk, ".blob", |bytes| {
        bytes[12] = 1;
        let identity = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
        let checksum = seeded(&bytes[..28], identity);
        bytes[28..36].copy_from_slice(&checksum.to_le_bytes());
    });
    let keyspace = builder(&disk).open().and_then(|db| db.keyspace("a", options())).unwrap();
    assert_eq!(keyspace.get("small").unwrap().unwrap(), b"value");
    assert!(is_refused(keyspace.get("large"), &path));
    drop(keyspace);
    assert!(is_refused(builder(&disk).repair(), &path));
}
