//! Replays the corpus of the fuzzers.

use std::fs;
use std::path::{Path, PathBuf};

use kv_lsm::fuzzing;

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
