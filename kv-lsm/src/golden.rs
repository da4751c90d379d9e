//! The examples of `docs/format.md` are what the engine writes, byte for byte, and what it reads.

use std::path::Path;
use std::sync::{Arc, Mutex};

use kv_core::store::{Batch, Space};
use kv_core::time::Millis;

use crate::blob::format::Pointer;
use crate::blob::reader::{BlobFile, inspect};
use crate::blob::writer::{BlobSettings, BlobWriter};
use crate::disk::{Disk, MemDisk, OpenMode, read_exact_at};
use crate::files;
use crate::internal_key::{Kind, Trailer, split_expiry};
use crate::keyspace_options::stored::StoredOptions;
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{Edit, Item, KeyspaceRecord};
use crate::manifest::log::{self, Manifest};
use crate::options::Compression;
use crate::range_delete::RangeDelete;
use crate::table::block::{Block, BlockBuilder};
use crate::table::filter;
use crate::table::format::{FOOTER_BYTES, Footer, Origin};
use crate::table::reader::{Table, TableEnvironment};
use crate::table::residents::TableMemory;
use crate::table::writer::{TableSettings, TableWriter};
use crate::wal::format::SegmentEnd;
use crate::wal::reader::{LogStart, replay};
use crate::wal::segment::records;
use crate::wal::spare::Spare;
use crate::wal::writer::LogWriter;

const DATABASE: u64 = 0x0123_4567_89ab_cdef;

/// The bytes of the example `name`: what stands before the bar in each line of the block that begins with `hex NAME`.
fn example(name: &str) -> Vec<u8> {
    let document = include_str!("../../docs/format.md");
    let begin = format!("```hex {name}\n");
    let at = document.find(&begin).unwrap_or_else(|| panic!("docs/format.md has no example {name}")) + begin.len();
    let block = &document[at..at + document[at..].find("```").expect("the example ends")];
    let digits = block.lines().flat_map(|line| line.split('|').next().unwrap_or_default().split_whitespace());
    digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect()
}

fn disk() -> Arc<dyn Disk> {
    let disk = MemDisk::new();
    disk.create_dir(Path::new("/db")).unwrap();
    Arc::new(disk)
}

fn content(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    let file = disk.open(path, OpenMode::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    read_exact_at(file.as_ref(), &mut bytes, 0).unwrap();
    bytes
}

fn place(disk: &dyn Disk, path: &Path, bytes: &[u8]) {
    disk.open(path, OpenMode::CreateNew).unwrap().write_at(bytes, 0).unwrap();
}

/// Compares line by line, so that a difference can be found.
fn assert_same(name: &str, written: &[u8]) {
    let hex = |bytes: &[u8]| -> Vec<String> {
        bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect()).collect()
    };
    assert_eq!(hex(written), hex(&example(name)), "the example {name} of docs/format.md");
}

#[test]
fn the_log_of_the_document_is_what_is_written_and_read() {
    let directory = Path::new("/db");
    let mut batch = Batch::new();
    batch.put(Space(256), b"k", b"v");
    batch.delete(Space(256), b"gone");
    let (written, path) = (disk(), files::log(directory, 7));
    let end = SegmentEnd { number: 5, length: 4096, chain: 0xaabb_ccdd };
    let mut log = LogWriter::create(Arc::clone(&written), directory, 7, 10_000, end, 9_000, None).unwrap();
    log.append(9_000, 41, batch.as_bytes()).unwrap();
    log.mark(log.position()).unwrap();
    assert_same("log", &content(written.as_ref(), &path));

    let read = disk();
    place(read.as_ref(), &path, &example("log"));
    let begin = LogStart { segment: 7, position: 10_000, sequence: 41 };
    let mut batches = Vec::new();
    let replayed = replay(read.as_ref(), directory, &[7], begin, &mut |first, batch| {
        batches.push((first, batch.clone()));
        Ok(())
    });
    assert_eq!(replayed.unwrap().last_sequence, 42);
    assert_eq!(batches, [(41, batch)]);
}

#[test]
fn the_recycled_segment_of_the_document_is_what_is_written_and_read() {
    let directory = Path::new("/db");
    let written = disk();
    place(written.as_ref(), &files::log(directory, 7), &example("log"));
    let spare = Spare::retire(written.as_ref(), directory, 7, 1 << 20).expect("small enough");
    let chain = records(&example("log"), 7, 117, &mut |_, _| Ok(())).unwrap().chain;
    let end = SegmentEnd { number: 7, length: 117, chain };
    let mut log = LogWriter::create(Arc::clone(&written), directory, 8, 10_117, end, 10_102, Some(spare)).unwrap();
    let mut batch = Batch::new();
    batch.delete(Space(256), b"k");
    log.append(10_102, 43, batch.as_bytes()).unwrap();
    assert_same("recycled", &content(written.as_ref(), &files::log(directory, 8)));

    let read = disk();
    place(read.as_ref(), &files::log(directory, 8), &example("recycled"));
    let begin = LogStart { segment: 8, position: 10_117, sequence: 43 };
    let mut batches = Vec::new();
    let replayed = replay(read.as_ref(), directory, &[8], begin, &mut |first, batch| {
        batches.push((first, batch.clone()));
        Ok(())
    });
    let replayed = replayed.unwrap();
    assert_eq!(
        (replayed.last_sequence, replayed.discarded.len()),
        (43, 0),
        "what is left of segment 7 is no torn tail"
    );
    assert_eq!(batches, [(43, batch)]);
}

#[test]
fn the_expiring_put_of_the_document_is_what_is_written_and_read() {
    let expire_at = Millis(1_700_000_060_000);
    let mut batch = Batch::new();
    batch.put_expiring(Space(256), b"ash", expire_at, b"red");
    assert_same("expiring put", batch.as_bytes());
    assert_eq!(Batch::from_bytes(example("expiring put")).unwrap(), batch);

    let mut block = BlockBuilder::default();
    let value = [&expire_at.0.to_le_bytes()[..], b"red"].concat();
    block.push(b"ash", Trailer::expiring(7), &value);
    block.push(b"asp", Trailer::new(6, Kind::Put), b"");
    let mut bytes = Vec::new();
    block.finish(&mut bytes);
    let entry = example("expiring entry");
    assert_same("expiring entry", &bytes[..entry.len()]);
    let block = Block::new([&entry[..], &bytes[entry.len()..]].concat()).unwrap();
    let read = block.entry(0);
    assert_eq!((block.common_prefix(), read.key, read.trailer.sequence()), (&b"as"[..], &b"h"[..], 7));
    assert_eq!(split_expiry(read.trailer, read.value), (Some(expire_at), &b"red"[..]));
}

#[test]
fn the_table_of_the_document_is_what_is_written_and_read() {
    let directory = Path::new("/db");
    let (written, path) = (disk(), files::table(directory, 9));
    let settings = TableSettings {
        keyspace: 256,
        block_bytes: 4096,
        compression: Compression::None,
        filter_bits_per_key: 10,
        database: DATABASE,
        unsynced: false,
    };
    let options = StoredOptions { merge: true, ..StoredOptions::default() };
    let origin = Origin { name: "users".to_owned(), options, replaces: vec![4, 6] };
    let mut writer = TableWriter::create(written.as_ref(), directory, 9, settings).unwrap().of(&origin);
    writer.push(b"apple", Trailer::new(5, Kind::Merge), b"+1").unwrap();
    writer.push(b"apple", Trailer::new(3, Kind::Put), b"7").unwrap();
    writer.push(b"apricot", Trailer::new(4, Kind::Delete), b"").unwrap();
    writer.push_range_delete(RangeDelete { start: b"b"[..].into(), end: b"c"[..].into(), sequence: 6 });
    let meta = writer.finish().unwrap().meta;
    assert_same("table", &content(written.as_ref(), &path));

    let read = disk();
    place(read.as_ref(), &path, &example("table"));
    let environment = TableEnvironment {
        disk: read,
        memory: Arc::new(TableMemory::new(0, 100)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    };
    let table = Table::new(meta, path, environment);
    let mut versions = Vec::new();
    let each = &mut |trailer: Trailer, value: &[u8]| {
        versions.push((trailer.sequence(), trailer.kind(), value.to_vec()));
        std::ops::ControlFlow::Continue(())
    };
    table.of_key(b"apple", filter::hash(b"apple"), 100, &mut crate::counters::ReadTally::default(), each).unwrap();
    assert_eq!(versions, [(5, Kind::Merge, b"+1".to_vec()), (3, Kind::Put, b"7".to_vec())]);
    let ranges = table.range_deletes().unwrap().unwrap();
    assert_eq!((ranges.newest(b"b", 100), ranges.newest(b"c", 100), ranges.newest(b"b", 5)), (6, 0, 0));
    let bytes = example("table");
    assert!(Footer::decode(&bytes[bytes.len() - FOOTER_BYTES..]).is_ok());
}

#[test]
fn the_blob_file_of_the_document_is_what_is_written_and_read() {
    let directory = Path::new("/db");
    let (written, path) = (disk(), files::blob(directory, 11));
    let settings = BlobSettings { keyspace: 256, lz4: true, database: DATABASE };
    let mut writer = BlobWriter::create(written.as_ref(), directory, 11, settings).unwrap();
    let values = [(b"pear", 5, b"green".to_vec()), (b"plum", 7, b"blue".repeat(8))];
    let mut pointers = Vec::new();
    for (key, sequence, value) in &values {
        let pointer = writer.push(*key, *sequence, value).unwrap();
        pointers.push(Pointer { prefix: &value[..2], ..pointer });
    }
    let meta = writer.finish().unwrap();
    assert_same("blob", &content(written.as_ref(), &path));
    let mut encoded = Vec::new();
    pointers[1].encode(&mut encoded);
    assert_same("pointer", &encoded);

    let read = disk();
    place(read.as_ref(), &path, &example("blob"));
    let environment = TableEnvironment {
        disk: Arc::clone(&read),
        memory: Arc::new(TableMemory::new(0, 100)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    };
    let file = BlobFile::new(meta, path.clone(), environment);
    assert_eq!(file.read(b"pear", &pointers[0]).unwrap(), b"green");
    assert_eq!(file.read(b"plum", &Pointer::decode(&example("pointer")).unwrap()).unwrap(), b"blue".repeat(8));
    let mut records = Vec::new();
    let inspected = inspect(read.as_ref(), &path, &mut |_, record| {
        records.push((record.key.to_vec(), record.sequence, record.value().unwrap().into_owned()));
        Ok(())
    });
    assert_eq!(inspected.unwrap().identity, meta.identity);
    assert_eq!(records, values.map(|(key, sequence, value)| (key.to_vec(), sequence, value)));
}

#[test]
fn the_manifest_of_the_document_is_what_is_written_and_read() {
    let directory = Path::new("/db");
    let (written, path) = (disk(), files::manifest(directory, 2));
    let created = Edit(vec![Item::Log { segment: 1, position: 0, sequence: 0 }, Item::Next { file: 3, keyspace: 256 }]);
    let mut catalog = Catalog::default();
    catalog.apply(&created).unwrap();
    let mut manifest = Manifest::create(Arc::clone(&written), directory, 2, DATABASE, catalog).unwrap();
    let options = StoredOptions { merge: true, ..StoredOptions::default() };
    let keyspace = KeyspaceRecord { id: 256, name: "users".to_owned(), options };
    manifest.append(&Edit(vec![Item::Keyspace(keyspace), Item::Next { file: 3, keyspace: 257 }])).unwrap();
    assert_same("manifest", &content(written.as_ref(), &path));

    let read = disk();
    place(read.as_ref(), &path, &example("manifest"));
    let found = log::read(read.as_ref(), directory, 2).unwrap();
    assert_eq!((found.database, found.torn_at), (DATABASE, None));
    assert_eq!(&found.catalog, manifest.catalog());
}
