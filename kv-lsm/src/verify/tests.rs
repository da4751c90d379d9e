//! Tables that are wrong although every checksum is right.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Problem, ages};
use crate::disk::{Disk, MemDisk, OpenMode, read_exact_at};
use crate::files;
use crate::internal_key::{Kind, Trailer};
use crate::options::Compression;
use crate::range_delete::RangeDelete;
use crate::table::describe::Description;
use crate::table::format::{BLOCK_TRAILER_BYTES, Handle, load_block, store_block};
use crate::table::meta::TableMeta;
use crate::table::reader::{Table, TableEnvironment};
use crate::table::residents::TableMemory;
use crate::table::writer::{TableSettings, TableWriter};
use crate::version::Tree;

const DIRECTORY: &str = "/";

fn write(disk: &MemDisk, number: u64, versions: &[(&str, u64)], deletes: &[(&str, &str, u64)]) -> TableMeta {
    let settings = TableSettings {
        keyspace: 256,
        block_bytes: 64,
        compression: Compression::None,
        filter_bits_per_key: 10,
        database: 1,
        unsynced: false,
    };
    let mut writer = TableWriter::create(disk, Path::new(DIRECTORY), number, settings).unwrap();
    for (key, sequence) in versions {
        writer.push(key.as_bytes(), Trailer::new(*sequence, Kind::Put), b"value").unwrap();
    }
    for (start, end, sequence) in deletes {
        let delete = RangeDelete { start: start.as_bytes().into(), end: end.as_bytes().into(), sequence: *sequence };
        writer.push_range_delete(delete);
    }
    writer.finish().unwrap().meta
}

fn table(disk: &MemDisk, meta: TableMeta) -> Arc<Table> {
    let environment = TableEnvironment {
        disk: Arc::new(disk.clone()),
        memory: Arc::new(TableMemory::new(0, 100)),
        graveyard: Arc::new(Mutex::new(Vec::new())),
    };
    let path = files::table(Path::new(DIRECTORY), meta.number);
    Arc::new(Table::new(meta, path, environment))
}

/// Changes the payload of a block and makes its checksum right again.
fn tamper(disk: &MemDisk, number: u64, handle: Handle, change: impl FnOnce(&mut Vec<u8>)) {
    let file = disk.open(&files::table(Path::new(DIRECTORY), number), OpenMode::ReadWrite).unwrap();
    let identity = Description::read(disk, &files::table(Path::new(DIRECTORY), number)).unwrap().footer.identity;
    let mut stored = vec![0; usize::try_from(handle.length).unwrap()];
    read_exact_at(file.as_ref(), &mut stored, handle.offset).unwrap();
    let mut payload = load_block(&stored, identity, handle.offset).unwrap();
    change(&mut payload);
    let mut stored = Vec::new();
    store_block(&mut stored, &payload, Compression::None, identity, handle.offset);
    assert_eq!(stored.len() as u64, handle.length, "{BLOCK_TRAILER_BYTES} bytes behind a payload as long as before");
    file.write_at(&stored, handle.offset).unwrap();
}

fn problems(disk: &MemDisk, meta: &TableMeta) -> Vec<String> {
    let table = table(disk, meta.clone());
    let description = Description::read(disk, table.path()).unwrap();
    let mut problems = super::table::disagreements(256, meta, &description);
    let result =
        super::table::check(&table, &description, true, &mut |_, expected| problems.push(expected), &mut |_| {});
    problems.extend(result.err().map(|error| error.to_string()));
    problems
}

/// A sound table of several blocks, and what is said of it once one block was changed.
fn tampered(pick: impl FnOnce(&Description, &Table) -> Handle, change: impl FnOnce(&mut Vec<u8>)) -> Vec<String> {
    let disk = MemDisk::new();
    let versions: Vec<(String, u64)> = (0..40).map(|number| (format!("key {number:02}"), number + 10)).collect();
    let versions: Vec<(&str, u64)> = versions.iter().map(|(key, number)| (key.as_str(), *number)).collect();
    let meta = write(&disk, 7, &versions, &[("a", "b", 99)]);
    assert_eq!(problems(&disk, &meta), Vec::<String>::new(), "a table is sound as it is written");
    let handle = {
        let table = table(&disk, meta.clone());
        pick(&Description::read(&disk, table.path()).unwrap(), &table)
    };
    tamper(&disk, 7, handle, change);
    problems(&disk, &meta)
}

fn assert_says(problems: &[String], what: &str) {
    assert!(problems.iter().any(|problem| problem.contains(what)), "{what:?} is not among {problems:#?}");
}

fn second_block(_: &Description, table: &Table) -> Handle {
    table.index_entry(1).unwrap().2
}

#[test]
fn a_key_that_its_filter_does_not_know_is_found() {
    let found = tampered(|description, _| description.footer.filter, |filter| filter[..64].fill(0));
    assert_says(&found, "in the filter");
}

/// Where the first byte of the sequence number of a block's first entry lies: behind the kind.
const FIRST_SEQUENCE_AT: usize = 1;

#[test]
fn versions_out_of_order_are_found() {
    let disk = MemDisk::new();
    let meta = write(&disk, 7, &[("key", 9), ("key", 5)], &[]);
    assert_eq!(problems(&disk, &meta), Vec::<String>::new());
    let handle = table(&disk, meta.clone()).index_entry(0).unwrap().2;
    tamper(&disk, 7, handle, |block| block[FIRST_SEQUENCE_AT] = 4);
    assert_says(&problems(&disk, &meta), "in order");
}

#[test]
fn a_sequence_number_that_the_table_does_not_state_is_found() {
    let found = tampered(second_block, |block| block[FIRST_SEQUENCE_AT + 1] = 1);
    assert_says(&found, "highest sequence number");
}

#[test]
fn an_index_that_does_not_fit_its_blocks_is_found() {
    let found = tampered(|description, _| description.footer.index, |index| index[FIRST_SEQUENCE_AT] ^= 1);
    assert_says(&found, "that the index says");
}

#[test]
fn properties_that_are_not_those_of_the_blocks_are_found() {
    let found = tampered(|description, _| description.footer.properties, |properties| properties[4] ^= 1);
    assert_says(&found, "entries");
    let found = tampered(|description, _| description.footer.properties, |properties| properties[0] ^= 1);
    assert_says(&found, "keyspace");
}

#[test]
fn bounds_that_are_not_those_of_the_blocks_are_found() {
    let disk = MemDisk::new();
    let mut meta = write(&disk, 7, &[("b", 1), ("c", 2)], &[]);
    meta.lower = b"a"[..].into();
    assert_says(&problems(&disk, &meta), "first and last key");
}

fn tree(disk: &MemDisk, levels: &[&[&TableMeta]]) -> Tree {
    let mut tree = Tree::default();
    for (level, metas) in levels.iter().enumerate() {
        tree.levels[level] = metas.iter().map(|meta| table(disk, (*meta).clone())).collect();
    }
    tree
}

fn ages_of(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    ages::check(tree, &mut |file, expected| problems.push(Problem { file, offset: 0, expected }), &mut |_| {}).unwrap();
    problems
}

#[test]
fn a_newer_version_below_an_older_one_is_found() {
    let disk = MemDisk::new();
    let shallow = write(&disk, 1, &[("a", 9), ("b", 8)], &[]);
    let deep = write(&disk, 2, &[("a", 5), ("c", 20)], &[]);
    assert_eq!(ages_of(&tree(&disk, &[&[&shallow], &[&deep]])), []);
    // The other way round, on levels and among the tables of level 0.
    for wrong in [tree(&disk, &[&[&deep], &[&shallow]]), tree(&disk, &[&[&deep, &shallow]])] {
        let found = ages_of(&wrong);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].expected.contains("older"), "{found:?}");
    }
}

#[test]
fn a_version_that_is_there_twice_is_found() {
    let disk = MemDisk::new();
    let (one, other) = (write(&disk, 1, &[("a", 9)], &[]), write(&disk, 2, &[("a", 9)], &[]));
    assert!(ages_of(&tree(&disk, &[&[&one], &[&other]]))[0].expected.contains("once"));
}

#[test]
fn a_deleted_range_below_what_it_deletes_is_found() {
    let disk = MemDisk::new();
    let shallow = write(&disk, 1, &[("b", 5)], &[]);
    let older = write(&disk, 2, &[("x", 3)], &[("a", "c", 4)]);
    let newer = write(&disk, 3, &[("x", 3)], &[("a", "c", 6)]);
    assert_eq!(ages_of(&tree(&disk, &[&[&shallow], &[&older]])), []);
    assert!(ages_of(&tree(&disk, &[&[&shallow], &[&newer]]))[0].expected.contains("deleted range"));
}
