//! Replays the corpus of the fuzzers, and every near miss of it.

use std::fs;
use std::path::Path;

use kv_core::fuzzing;

fn replay(target: &str, body: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&directory).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        inputs += 1;
        body(&bytes);
        for at in 0..bytes.len() {
            body(&bytes[..at]);
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] = value;
                body(&changed);
            }
        }
    }
    assert!(inputs >= 3, "{target}: only {inputs} inputs");
}

#[test]
fn version_vectors() {
    replay("version_vector", fuzzing::version_vector);
}

#[test]
fn contexts() {
    replay("context", fuzzing::context);
}

#[test]
fn records() {
    replay("record", fuzzing::record);
}

#[test]
fn data_types() {
    replay("crdt", fuzzing::crdt);
}

#[test]
fn updates() {
    replay("update", fuzzing::update);
}
