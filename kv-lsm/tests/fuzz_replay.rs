//! Replays the corpus of the fuzzers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::time::Millis;
use kv_lsm::disk::{Disk, MemDisk, OpenMode, read_exact_at};
use kv_lsm::{Background, Database, KeyspaceOptions, fuzzing};

fn corpus(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn replay(target: &str, body: fn(&[u8])) {
    let files = corpus(target);
    assert!(files.len() >= 3, "{target}: only {} inputs", files.len());
    for file in files {
        let bytes = fs::read(&file).unwrap();
        println!("{}", file.display());
        body(&bytes);
        // Near misses as well: each byte changed, each prefix.
        for at in 0..bytes.len().min(600) {
            body(&bytes[..at]);
            for flip in [0x01, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                body(&changed);
            }
        }
    }
}

#[test]
fn batches() {
    replay("batch", fuzzing::batch);
}

#[test]
fn log_segments() {
    replay("log_segment", fuzzing::log_segment);
}

#[test]
fn manifests() {
    replay("manifest", fuzzing::manifest);
}

#[test]
fn data_blocks() {
    replay("data_block", fuzzing::data_block);
}

#[test]
fn index_blocks() {
    replay("index_block", fuzzing::index_block);
}

#[test]
fn compressed_blocks() {
    replay("compressed_block", fuzzing::compressed_block);
}

/// With `KV_LSM_WRITE_CORPUS=1` the examples are first written anew, after a change of a format.
#[test]
fn inspected_files() {
    if std::env::var_os("KV_LSM_WRITE_CORPUS").is_some() {
        write_files();
    }
    replay("inspect", fuzzing::inspect);
}

/// One small file of each kind, each behind the byte that says of which.
fn write_files() {
    let disk = MemDisk::new();
    let builder = Database::builder("/db").disk(disk.clone()).background(Background::Manual);
    let db = builder.clock(Arc::new(|| Millis(1))).block_bytes(256).open().unwrap();
    let keyspace =
        db.keyspace("a", KeyspaceOptions::default().separate_values_from(100).inline_prefix_bytes(3)).unwrap();
    keyspace.put("large", [7; 120]).unwrap();
    keyspace.put_expiring("expiring", "value", Millis(9)).unwrap();
    keyspace.delete_range("b".."c").unwrap();
    db.flush().unwrap();
    keyspace.put("logged", "value").unwrap();
    for name in disk.list(Path::new("/db")).unwrap() {
        let kinds = [("manifest", "MANIFEST"), ("table", ".table"), ("log", ".log"), ("blob", ".blob")];
        let Some(kind) = kinds.iter().position(|(_, part)| name.contains(part)) else { continue };
        let file = disk.open(&Path::new("/db").join(&name), OpenMode::Read).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap() + 1];
        bytes[0] = u8::try_from(kind).unwrap();
        read_exact_at(file.as_ref(), &mut bytes[1..], 0).unwrap();
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/inspect");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(kinds[kind].0), bytes).unwrap();
    }
}

#[test]
fn blobs() {
    replay("blob", fuzzing::blob);
}

#[test]
fn filters() {
    replay("filter", fuzzing::filter);
}

#[test]
fn footers() {
    replay("footer", fuzzing::footer);
}
