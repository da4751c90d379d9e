//! A file of a later version, or with a required feature that this one does not know, keeps the database from being opened,
//! whatever kind of file it is; an optional feature does not.

use std::path::{Path, PathBuf};

use kv_core::checksum::crc32;
use kv_core::hash::seeded;
use kv_lsm::disk::{Disk, MemDisk, OpenMode, read_exact_at};
use kv_lsm::{Background, Builder, Database, Error, KeyspaceOptions};

const KINDS: [&str; 4] = ["MANIFEST", ".log", ".table", ".blob"];
const FOOTER_BYTES: usize = 96;

fn builder(disk: &MemDisk) -> Builder {
    Database::builder("/db").disk(disk.clone()).background(Background::Manual)
}

fn options() -> KeyspaceOptions {
    KeyspaceOptions::default().separate_values_from(50)
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

fn content(disk: &MemDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(&*file, &mut bytes, 0).unwrap();
    bytes
}

/// Every file with its content.
fn all(disk: &MemDisk) -> Vec<(String, Vec<u8>)> {
    let names = disk.list(Path::new("/db")).unwrap();
    names.into_iter().map(|name| (name.clone(), content(disk, &Path::new("/db").join(name)))).collect()
}

/// The only file whose name has `part`.
fn the_file(disk: &MemDisk, part: &str) -> PathBuf {
    let names = disk.list(Path::new("/db")).unwrap();
    let found: Vec<&String> = names.iter().filter(|name| name.contains(part)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    Path::new("/db").join(found[0])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Puts version and features into the file of that kind, as a later engine would have written it, and makes its checksum
/// right. Returns the file and, of a table or blob file, its identity.
fn restate_in_file(disk: &MemDisk, kind: &str, format: [u32; 2]) -> (PathBuf, Option<u64>) {
    let path = the_file(disk, kind);
    let mut bytes = content(disk, &path);
    // Where the words lie, what the checksum covers, where it lies, and the identity that it is seeded with.
    let (at, covered, identity_at) = match kind {
        "MANIFEST" => (8, 0..32, None),
        ".log" => (8, 0..60, None),
        ".table" => {
            let footer = bytes.len() - FOOTER_BYTES;
            (footer + 72, footer..footer + 80, Some(footer + 64))
        }
        ".blob" => (8, 0..28, Some(16)),
        other => unreachable!("{other}"),
    };
    bytes[at..at + 4].copy_from_slice(&format[0].to_le_bytes());
    bytes[at + 4..at + 8].copy_from_slice(&format[1].to_le_bytes());
    let identity = identity_at.map(|at| u64_at(&bytes, at));
    let end = covered.end;
    match identity {
        None => {
            let crc = crc32(&[&bytes[covered]]);
            bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        }
        Some(identity) => {
            let checksum = seeded(&bytes[covered], identity);
            bytes[end..end + 8].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    disk.open(&path, OpenMode::ReadWrite).unwrap().write_at(&bytes, 0).unwrap();
    (path, identity)
}

/// Has the manifest say the same of the file with this identity: its format stands in front of its number and identity.
fn restate_in_manifest(disk: &MemDisk, identity: u64, format: [u32; 2]) {
    let path = the_file(disk, "MANIFEST");
    let mut bytes = content(disk, &path);
    let number = u64_at(&bytes, 16);
    let (mut at, mut changed) = (36, 0);
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let payload = &mut bytes[at + 8..at + 8 + length];
        let found = (16..length.saturating_sub(8)).find(|&place| u64_at(payload, place) == identity);
        if let Some(place) = found {
            payload[place - 16..place - 12].copy_from_slice(&format[0].to_le_bytes());
            payload[place - 12..place - 8].copy_from_slice(&format[1].to_le_bytes());
            changed += 1;
        }
        let crc = crc32(&[&number.to_le_bytes(), &(at as u64).to_le_bytes(), &bytes[at + 4..at + 8 + length]]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += 8 + length;
    }
    assert_eq!(changed, 1, "named once");
    disk.open(&path, OpenMode::ReadWrite).unwrap().write_at(&bytes, 0).unwrap();
}

/// Both.
fn restate(disk: &MemDisk, kind: &str, format: [u32; 2]) -> PathBuf {
    let (path, identity) = restate_in_file(disk, kind, format);
    if let Some(identity) = identity {
        restate_in_manifest(disk, identity, format);
    }
    path
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, Error>, path: &Path, format: [u32; 2]) {
    let Err(Error::Unsupported { file, found, known }) = result else { panic!("{}: {result:?}", path.display()) };
    assert_eq!((file.as_path(), found), (path, format!("format version {} with features {:#x}", format[0], format[1])));
    assert!(known.starts_with("format version 1 with features 0x"), "{known}");
}

#[test]
fn what_is_not_known_keeps_the_database_closed_and_unchanged() {
    for kind in KINDS {
        for format in [[1, 0x8000], [1, 0x8001_8000], [2, 0], [u32::MAX, 0], [0, 0]] {
            let disk = database();
            let path = restate(&disk, kind, format);
            let before = all(&disk);
            assert_refused(builder(&disk).open(), &path, format);
            assert_refused(builder(&disk).read_only(true).open(), &path, format);
            assert_refused(builder(&disk).repair(), &path, format);
            assert!(all(&disk) == before, "{kind}: files were changed");
        }
    }
}

#[test]
fn optional_features_are_passed_over() {
    for kind in KINDS {
        let disk = database();
        restate(&disk, kind, [1, 0x8001_0000]);
        // Opening writes a new manifest, which says the same of tables and blob files.
        for _ in 0..2 {
            let db = builder(&disk).open().unwrap();
            let keyspace = db.keyspace("a", options()).unwrap();
            for key in ["small", "log"] {
                assert_eq!(keyspace.get(key).unwrap().unwrap(), b"value", "{kind}");
            }
            assert_eq!(keyspace.get("large").unwrap().unwrap(), [1; 100], "{kind}");
            let report = db.verify().unwrap();
            assert!(report.problems.is_empty(), "{kind}: {:?}", report.problems);
        }
    }
}

/// A file that was put in the place of another.
#[test]
fn what_the_manifest_does_not_know_of_is_refused_when_it_is_read() {
    for (kind, key) in [(".table", "small"), (".blob", "large")] {
        for format in [[1, 0x8000], [2, 0]] {
            let disk = database();
            let (path, _) = restate_in_file(&disk, kind, format);
            let db = builder(&disk).open().unwrap();
            let keyspace = db.keyspace("a", options()).unwrap();
            assert_refused(keyspace.get(key), &path, format);
            assert_eq!(keyspace.get("log").unwrap().unwrap(), b"value", "{kind}: other files are read");
            drop((keyspace, db));
            assert_refused(builder(&disk).repair(), &path, format);
        }
        let disk = database();
        let (path, _) = restate_in_file(&disk, kind, [1, 0x8001_0000]);
        let db = builder(&disk).open().unwrap();
        let other = db.keyspace("a", options()).unwrap().get(key);
        assert!(matches!(&other, Err(Error::Corrupt { file, .. }) if *file == path), "{kind}: {other:?}");
    }
}
