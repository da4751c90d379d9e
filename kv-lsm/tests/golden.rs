//! Whole databases that are kept byte for byte in `tests/golden/`: they open, hold what is listed here, and the engine that is
//! led through the same life writes the same bytes. `docs/format.md` says how to write them anew when a format changes.

mod append;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{env, fs};

use kv_core::store::Operation;
use kv_core::time::Millis;
use kv_lsm::disk::{Disk, MemDisk, OpenMode, OsDisk, read_exact_at};
use kv_lsm::inspect::{BlockCompression, Files, Kind};
use kv_lsm::{Background, Batch, Builder, CompactionStrategy, Compression, Database, Error, Keyspace, KeyspaceOptions};

use append::Append;

/// Where the databases were made: the path is a part of their identity.
const MADE_IN: &str = "/golden";
const CREATED: u64 = 1_700_000_000_000;
const MINUTE: u64 = 60_000;
/// When they are opened again: between what has expired and what has not.
const REOPENED: u64 = CREATED + 90 * MINUTE;
const NAMES: [&str; 5] = ["plain", "merged", "events", "tuned", "large"];

/// The files of a database, by their paths in its directory.
type Image = BTreeMap<PathBuf, Vec<u8>>;

/// What is in a database: of each keyspace the keys, the values, and when they expire.
type Contents = BTreeMap<&'static str, Vec<(String, Vec<u8>, Option<u64>)>>;

fn builder(directory: &Path, time: u64) -> Builder {
    Database::builder(directory).background(Background::Manual).clock(Arc::new(move || Millis(time)))
}

/// Every option is used.
fn options(name: &str) -> KeyspaceOptions {
    let options = KeyspaceOptions::default();
    let by_level = [Compression::None, Compression::Lz4];
    match name {
        "merged" => options.merge(Arc::new(Append)),
        "events" => options
            .default_ttl(Duration::from_secs(3600))
            .compaction(CompactionStrategy::Fifo { bytes_max: Some(1 << 20) }),
        "tuned" => options.compression(by_level).block_bytes(256).filter_bits_per_key(16),
        "large" => options.compression(by_level).separate_values_from(64).inline_prefix_bytes(8),
        _ => options,
    }
}

fn keyspaces(db: &Database) -> [Keyspace; 5] {
    NAMES.map(|name| db.keyspace(name, options(name)).unwrap())
}

/// A batch with every kind of operation.
fn batch([plain, merged, events, ..]: &[Keyspace; 5], put: &str, operand: &str, delete: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(plain, put, "put");
    batch.put_expiring(events, put, "gone some day", Millis(CREATED + 180 * MINUTE));
    batch.merge(merged, "count", operand);
    batch.delete(plain, delete);
    batch.delete_range(plain, "x".."z");
    batch
}

/// Neither LZ4 nor zstd makes this smaller.
fn incompressible() -> Vec<u8> {
    (0..100).collect()
}

/// A database on which work went on for a while, and whose process died while it wrote.
fn torn(disk: &MemDisk) {
    let db = builder(Path::new(MADE_IN), CREATED).disk(disk.clone()).open().unwrap();
    let all = keyspaces(&db);
    let [plain, merged, events, tuned, large] = &all;
    let dropped = db.keyspace("dropped", KeyspaceOptions::default()).unwrap();
    // Two tables that a compaction makes one of, so that its blocks are those of a deeper level.
    for half in 0..2 {
        for number in (half..12).step_by(2) {
            tuned.put(format!("key {number:02}"), "a value ".repeat(8)).unwrap();
        }
        large.put(format!("zeros {half}"), [0; 100]).unwrap();
        db.flush().unwrap();
    }
    tuned.compact_range(..).unwrap();
    large.compact_range(..).unwrap();
    for key in ["apple", "banana", "cherry", "corn"] {
        plain.put(key, "first").unwrap();
    }
    plain.put_with_ttl("brief", "for two hours", Duration::from_secs(7200)).unwrap();
    merged.put("count", "1").unwrap();
    events.put("an hour", "the default").unwrap();
    large.put("garbage", [7; 100]).unwrap();
    large.put("raw", incompressible()).unwrap();
    db.flush().unwrap();
    plain.delete("banana").unwrap();
    plain.delete_range("c".."e").unwrap();
    merged.merge("count", "+2").unwrap();
    large.put("garbage", "small").unwrap();
    db.flush().unwrap();
    large.compact_range(..).unwrap();
    dropped.put("in the log", "of a keyspace that is no more").unwrap();
    db.write(batch(&all, "cherry", "+3", "apple")).unwrap();
    db.drop_keyspace("dropped").unwrap();
    drop((all, dropped, db));
    // The beginning of a record that was never acknowledged.
    let files = image_of(disk);
    let (name, _) = files.iter().rfind(|(name, _)| name.extension() == Some("log".as_ref())).unwrap();
    let path = Path::new(MADE_IN).join(name);
    let end = Files::on(disk.clone()).log(&path, |_| {}).unwrap().end;
    disk.open(&path, OpenMode::ReadWrite).unwrap().write_at(b"\xa1\xb2\xc3\xd4 torn off here", end).unwrap();
}

/// What recovery made of it, and more work, up to a segment of the log in the file of another.
fn database(disk: &MemDisk) {
    torn(disk);
    let db = builder(Path::new(MADE_IN), REOPENED).disk(disk.clone()).open().unwrap();
    let all = keyspaces(&db);
    let [plain, _, _, tuned, _] = &all;
    plain.put("date", "d".repeat(400)).unwrap();
    db.flush().unwrap();
    plain.put("elder", "flushed").unwrap();
    db.flush().unwrap();
    db.write(batch(&all, "fig", "+4", "elder")).unwrap();
    tuned.delete_range("key 03".."key 06").unwrap();
    drop((all, db));
    // What a crash leaves while a manifest is being written.
    let files = image_of(disk);
    let (_, manifest) = files.iter().rfind(|(name, _)| is_manifest(name)).unwrap();
    let unfinished = Path::new(MADE_IN).join("MANIFEST-000999.new");
    disk.open(&unfinished, OpenMode::CreateNew).unwrap().write_at(&manifest[..20], 0).unwrap();
}

fn is_manifest(name: &Path) -> bool {
    name.to_string_lossy().starts_with("MANIFEST-")
}

/// A table that was compressed with zstd before its keyspace changed to LZ4.
#[cfg(feature = "zstd")]
fn zstd(disk: &MemDisk) {
    for (compression, work) in [(Compression::Zstd(3), true), (Compression::Lz4, false)] {
        let db = builder(Path::new(MADE_IN), CREATED).disk(disk.clone()).open().unwrap();
        let keyspace = db.keyspace("zstd", KeyspaceOptions::default().compression([compression])).unwrap();
        if work {
            keyspace.put("key", "a value ".repeat(16)).unwrap();
            db.flush().unwrap();
        }
    }
}

fn expected(life: &str) -> Contents {
    let entry = |key: &str, value: &[u8], expiry: Option<u64>| (key.to_owned(), value.to_vec(), expiry);
    let put = |key: &str, value: &str| entry(key, value.as_bytes(), None);
    let later = Some(CREATED + 180 * MINUTE);
    let brief = entry("brief", b"for two hours", Some(CREATED + 120 * MINUTE));
    let tuned = |number: &u32| put(&format!("key {number:02}"), &"a value ".repeat(8));
    let large = vec![
        put("garbage", "small"),
        entry("raw", &incompressible(), None),
        entry("zeros 0", &[0; 100], None),
        entry("zeros 1", &[0; 100], None),
    ];
    match life {
        "torn" => BTreeMap::from([
            ("plain", vec![brief, put("cherry", "put")]),
            ("merged", vec![put("count", "1+2+3")]),
            ("events", vec![entry("cherry", b"gone some day", later)]),
            ("tuned", (0..12).collect::<Vec<_>>().iter().map(tuned).collect()),
            ("large", large),
        ]),
        "database" => BTreeMap::from([
            ("plain", vec![brief, put("cherry", "put"), put("date", &"d".repeat(400)), put("fig", "put")]),
            ("merged", vec![put("count", "1+2+3+4")]),
            ("events", vec![entry("cherry", b"gone some day", later), entry("fig", b"gone some day", later)]),
            ("tuned", [0, 1, 2, 6, 7, 8, 9, 10, 11].iter().map(tuned).collect()),
            ("large", large),
        ]),
        "zstd" => BTreeMap::from([("zstd", vec![put("key", &"a value ".repeat(16))])]),
        other => unreachable!("{other}"),
    }
}

/// Its name, and how it is led on an empty disk.
type Life = (&'static str, fn(&MemDisk));

/// As far as this build can lead them.
fn lives() -> Vec<Life> {
    vec![
        ("torn", torn),
        ("database", database),
        #[cfg(feature = "zstd")]
        ("zstd", zstd),
    ]
}

fn image_of(disk: &MemDisk) -> Image {
    let mut image = Image::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for name in disk.list(&Path::new(MADE_IN).join(&directory)).unwrap() {
            let name = directory.join(name);
            match disk.open(&Path::new(MADE_IN).join(&name), OpenMode::Read) {
                Ok(file) => {
                    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
                    read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
                    image.insert(name, bytes);
                }
                Err(_) => directories.push(name),
            }
        }
    }
    image
}

fn live(life: fn(&MemDisk)) -> Image {
    let disk = MemDisk::new();
    life(&disk);
    image_of(&disk)
}

fn kept_in(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The files that are kept under this name. They are written first when that was asked for, and this build can.
fn kept(name: &str) -> Image {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap();
    let directory = kept_in(name);
    match (env::var("KV_GOLDEN").as_deref(), lives().into_iter().find(|(life, _)| *life == name)) {
        (Ok("write"), Some((_, life))) => {
            if directory.exists() {
                fs::remove_dir_all(&directory).unwrap();
            }
            for (name, bytes) in live(life) {
                let path = directory.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        }
        (Ok("write") | Err(_), _) => {}
        (Ok(other), _) => panic!("KV_GOLDEN={other}: it is `write`, or not set"),
    }
    let mut image = Image::new();
    let mut directories = vec![directory.clone()];
    while let Some(inside) = directories.pop() {
        for entry in fs::read_dir(&inside).unwrap_or_else(|error| panic!("{}: {error}", inside.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                image.insert(path.strip_prefix(&directory).unwrap().to_path_buf(), fs::read(&path).unwrap());
            }
        }
    }
    image
}

/// Puts the files on a disk, in another directory than they come from.
fn copy(image: &Image, disk: &dyn Disk, directory: &Path) {
    disk.create_dir(directory).unwrap();
    for (name, bytes) in image {
        let path = directory.join(name);
        disk.create_dir(path.parent().unwrap()).unwrap();
        disk.open(&path, OpenMode::CreateNew).unwrap().write_at(bytes, 0).unwrap();
    }
}

fn contents(db: &Database, expected: &Contents) -> Contents {
    let names: BTreeSet<String> = db.keyspaces().into_iter().collect();
    assert_eq!(names, expected.keys().map(|&name| name.to_owned()).collect());
    let read = |name: &'static str| {
        let options = if name == "zstd" { db.keyspace_options(name).unwrap() } else { options(name) };
        let entries = db.keyspace(name, options).unwrap().iter().with_expiry().map(|entry| {
            let (key, value, expiry) = entry.unwrap();
            (String::from_utf8(key.to_vec()).unwrap(), value.to_vec(), expiry.map(|time| time.0))
        });
        (name, entries.collect())
    };
    expected.keys().map(|&name| read(name)).collect()
}

fn check_copy(life: &str, image: &Image, disk: &Arc<dyn Disk>, directory: &Path) {
    copy(image, disk.as_ref(), directory);
    let builder = || builder(directory, REOPENED).disk(Arc::clone(disk));
    let report = builder().verify_files(|_| {}).unwrap();
    assert!(report.problems.is_empty(), "{life}: {:?}", report.problems);
    assert_eq!(report.torn.len(), usize::from(life == "torn"), "{life}: {:?}", report.torn);
    let expected = expected(life);
    let read_only = builder().read_only(true).open().unwrap();
    assert_eq!(contents(&read_only, &expected), expected, "{life}, for reading only");
    drop(read_only);
    // The second time everything comes from tables.
    for _ in 0..2 {
        let db = builder().open().unwrap();
        assert_eq!(contents(&db, &expected), expected, "{life}");
        let report = db.verify().unwrap();
        assert!(report.problems.is_empty() && report.torn.is_empty(), "{life}: {report:?}");
    }
    let quarantine = disk.list(&directory.join("quarantine")).map_or(0, |names| names.len());
    assert_eq!(quarantine, usize::from(life != "zstd"), "{life}: what was torn is kept aside, once");
}

#[test]
fn the_databases_open_and_hold_what_is_listed() {
    for (life, _) in lives() {
        let image = kept(life);
        check_copy(life, &image, &(Arc::new(MemDisk::new()) as Arc<dyn Disk>), Path::new("/elsewhere"));
        let directory = tempfile::tempdir().unwrap();
        check_copy(life, &image, &(Arc::new(OsDisk::new()) as Arc<dyn Disk>), &directory.path().join("copy"));
    }
}

#[test]
fn the_same_life_leaves_the_same_bytes() {
    let anew = "a format has changed? See \"Golden files\" in docs/format.md";
    for (name, life) in lives() {
        let (kept, lived) = (kept(name), live(life));
        let names = |image: &Image| image.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&lived), names(&kept), "files of {name}: {anew}");
        for (file, bytes) in &lived {
            let differs = bytes.iter().zip(&kept[file]).position(|(lived, kept)| lived != kept);
            let differs = differs.or((bytes.len() != kept[file].len()).then(|| bytes.len().min(kept[file].len())));
            assert_eq!(differs, None, "{name}/{} differs at this byte: {anew}", file.display());
        }
    }
}

/// Tables, blob files and log say enough to do without a manifest.
#[test]
fn the_databases_are_repaired_without_their_manifests() {
    for life in ["torn", "database"] {
        let mut image = kept(life);
        image.retain(|name, _| !is_manifest(name));
        let disk = MemDisk::new();
        let directory = Path::new("/elsewhere");
        copy(&image, &disk, directory);
        // Repair looks for what is left of a manifest, and opens no directory that has none.
        disk.open(&directory.join("MANIFEST-000900"), OpenMode::CreateNew).unwrap();
        builder(directory, REOPENED).disk(disk.clone()).repair().unwrap();
        let db = builder(directory, REOPENED).disk(disk).open().unwrap();
        if life == "torn" {
            // In its log there is a put into a keyspace of which only the manifest said that it was dropped.
            db.drop_keyspace("recovered 261").unwrap();
        }
        let expected = expected(life);
        assert_eq!(contents(&db, &expected), expected, "{life}");
        assert!(db.verify().unwrap().problems.is_empty());
    }
}

/// A build without zstd says at once that it cannot read the database, although no option speaks of zstd any more.
#[test]
fn what_was_compressed_with_zstd_needs_it() {
    let image = kept("zstd");
    let disk = MemDisk::new();
    copy(&image, &disk, Path::new("/elsewhere"));
    let opened = builder(Path::new("/elsewhere"), REOPENED).disk(disk.clone()).open();
    if cfg!(feature = "zstd") {
        drop(opened.unwrap());
        let files = Files::on(disk);
        let table = image.keys().find(|name| name.extension() == Some("table".as_ref())).unwrap();
        let table = files.table(Path::new("/elsewhere").join(table)).unwrap();
        assert_eq!((table.version, table.features, table.blocks[0].compression), (1, 1, BlockCompression::Zstd));
    } else {
        let is_table = |file: &Path| file.extension() == Some("table".as_ref());
        assert!(matches!(&opened, Err(Error::Unsupported { file, .. }) if is_table(file)), "{opened:?}");
    }
}

/// What is not in them is not guarded.
#[test]
fn between_them_they_have_everything() {
    let image = kept("database");
    let kinds = ["LOCK", "MANIFEST-", ".new", ".log", ".spare", ".table", ".blob", "quarantine"];
    let missing = kinds.iter().filter(|kind| !image.keys().any(|name| name.to_string_lossy().contains(**kind)));
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    let torn = kept("torn");
    let bytes: usize = image.values().chain(torn.values()).map(Vec::len).sum();
    assert!(bytes < 32 << 10, "{bytes} bytes are a lot to keep");

    let mut operations = BTreeSet::new();
    let mut versions = BTreeSet::new();
    let mut levels = BTreeSet::new();
    let mut blobs = BTreeSet::new();
    for image in [image, torn] {
        let disk = MemDisk::new();
        let directory = Path::new("/elsewhere");
        copy(&image, &disk, directory);
        let files = Files::on(disk.clone());
        let manifest = files.manifest(directory).unwrap();
        for (path, _) in &manifest.log_files {
            let segment = files
                .log(path, |record| {
                    operations.extend(record.batch.iter().map(|operation| match operation {
                        Operation::Put { .. } => "put",
                        Operation::PutExpiring { .. } => "expiring",
                        Operation::Merge { .. } => "merge",
                        Operation::Delete { .. } => "delete",
                        Operation::DeleteRange { .. } => "range delete",
                    }));
                })
                .unwrap();
            operations.extend((segment.end < segment.bytes).then_some("an end before that of the file"));
        }
        for (level, table) in manifest.keyspaces.iter().flat_map(|keyspace| keyspace.levels.iter().enumerate()) {
            for table in table {
                levels.insert(level.min(1));
                let file = files.table_versions(&table.file, |version| {
                    versions.insert(match (version.kind, version.expire_at, version.blob) {
                        (Kind::Put, None, None) => "put",
                        (Kind::Put, Some(_), None) => "expiring",
                        (Kind::Put, _, Some(_)) => "separated",
                        (Kind::Merge, ..) => "merge",
                        (Kind::Delete, ..) => "delete",
                    });
                });
                let file = file.unwrap();
                versions.extend(file.deleted_ranges.first().map(|_| "range delete"));
                versions.extend(file.blocks.iter().map(|block| match block.compression {
                    BlockCompression::None => "uncompressed",
                    BlockCompression::Lz4 => "LZ4",
                    BlockCompression::Zstd => "zstd",
                }));
                versions.extend((file.blocks.len() > 1).then_some("several blocks"));
            }
        }
        for blob in manifest.keyspaces.iter().flat_map(|keyspace| &keyspace.blobs) {
            let mut records = Vec::new();
            files
                .blob(&blob.file, |record| records.push((record.offset, record.key.len() + record.value.len())))
                .unwrap();
            let ends = records.iter().skip(1).map(|record| record.0).chain([blob.bytes - 40]);
            blobs.extend(records.iter().zip(ends).map(|(&(begin, content), end)| {
                if end - begin < 29 + content as u64 { "LZ4" } else { "uncompressed" }
            }));
            blobs.extend((blob.garbage_bytes > 0).then_some("garbage"));
        }
    }
    let all = ["an end before that of the file", "delete", "expiring", "merge", "put", "range delete"];
    assert_eq!(operations, BTreeSet::from(all));
    let kinds = ["put", "expiring", "separated", "merge", "delete", "range delete"];
    let blocks = ["uncompressed", "LZ4", "several blocks"];
    assert_eq!(versions, kinds.into_iter().chain(blocks).collect());
    assert_eq!(levels, BTreeSet::from([0, 1]), "level 0, and one below");
    assert_eq!(blobs, BTreeSet::from(["LZ4", "uncompressed", "garbage"]));
}
