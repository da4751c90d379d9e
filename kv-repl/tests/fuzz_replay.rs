//! Replays the corpus of the fuzzers, and every near miss of it.

use std::fs;
use std::path::Path;

use kv_repl::fuzzing;

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
fn frames() {
    replay("frame", fuzzing::frame);
}

#[test]
fn hints() {
    replay("hint", fuzzing::hint);
}

#[test]
fn sessions() {
    replay("session", fuzzing::session);
}

#[test]
fn cursors() {
    replay("cursor", fuzzing::cursor);
}

#[test]
fn gossip() {
    replay("gossip", fuzzing::gossip);
}
