use kv_core::key::{Key, RecordKey};
use kv_core::record::{Payload, Record, Version};
use kv_core::store::SpaceOptions;
use kv_core::time::Millis;
use kv_core::version::{Actor, Incarnation};
use kv_core::{Expiry, MemStore, NodeId, Store};

use super::super::print::Printer;
use super::super::tree::{Reading, check_notes};
use super::super::trees::Trees;
use super::*;
use crate::identity::ClusterId;

const TABLE: TableId = TableId(7);

fn store() -> MemStore {
    MemStore::new([(Space::META, SpaceOptions::default()), (Space::DATA, SpaceOptions::default())])
}

fn whole() -> Span {
    Span { table: TABLE, first: 0, last: u64::MAX }
}

fn reading(store: &MemStore) -> Reading<'_> {
    Reading { view: store, printer: Printer::new(ClusterId(77), Millis::ZERO), budget: usize::MAX }
}

fn check(store: &MemStore) -> Option<String> {
    check_notes(store, reading(store).printer).expect("a store in memory reads")
}

fn commit(store: &MemStore, batch: &Batch) {
    if !batch.is_empty() {
        store.commit(batch).expect("a store in memory takes a batch");
    }
}

/// A write, with what goes with it.
fn write(trees: &mut Trees, number: u64, birth: u64) -> Batch {
    let key = RecordKey::new(TABLE, &Key::from(format!("key {number}"))).expect("a short key");
    let actor = Actor { node: NodeId(1), incarnation: Incarnation(1), epoch: 1 };
    let version = Version { birth: Stamp(birth), payload: Payload::Tombstone, expiry: Expiry::NEVER, operation: None };
    let mut batch = Batch::new();
    batch.put(Space::DATA, key.as_bytes(), &Record::last_write(actor, version).to_bytes());
    let marks = trees.touch(&batch);
    batch.append(&marks);
    batch
}

fn start(store: &MemStore, boot: u64) -> Trees {
    let mut batch = Batch::new();
    let trees = Trees::restore(Boot(boot), store, &mut batch).expect("a store in memory reads");
    commit(store, &batch);
    trees
}

/// Reads all there is and notes it.
fn read_and_note(store: &MemStore, trees: &mut Trees) -> Batch {
    let tree = trees.tree(whole());
    let (question, mut resume) = (tree.ask(), 0);
    tree.summary(whole(), question, &mut resume, &mut reading(store)).expect("a store in memory reads");
    let mut batch = Batch::new();
    while trees.note(3, &mut batch) {}
    batch
}

fn noted(store: &MemStore) -> usize {
    let mut count = 0;
    scan(store, &mut |_, _| count += 1).expect("a store in memory reads");
    count
}

fn filled(store: &MemStore, keys: u64) -> Trees {
    let mut trees = start(store, 1);
    for number in 0..keys {
        let batch = write(&mut trees, number, 1);
        commit(store, &batch);
    }
    trees
}

#[test]
fn what_is_noted_is_not_read_again_and_goes_with_the_first_change() {
    let store = store();
    let mut trees = filled(&store, 3_000);
    let notes = read_and_note(&store, &mut trees);
    commit(&store, &notes);
    let before = noted(&store);
    assert!(before > 4 && before == trees.noted() && check(&store).is_none());
    assert!(read_and_note(&store, &mut trees).is_empty(), "it is noted already");

    let mut trees = start(&store, 2);
    let (tree, mut resume) = (trees.tree(whole()), 0);
    let question = tree.ask();
    let mut nothing = Reading { budget: 0, ..reading(&store) };
    let known = tree.summary(whole(), question, &mut resume, &mut nothing).expect("nothing is read");
    assert_eq!(known.map(|summary| summary.records), Some(3_000));

    let change = write(&mut trees, 17, 2);
    commit(&store, &change);
    assert_eq!((noted(&store), check(&store)), (before - 1, None));
    let again = write(&mut trees, 17, 3);
    assert_eq!(again.len(), 1, "its note has gone");
}

#[test]
fn notes_of_a_life_that_kept_none_are_thrown_away() {
    let store = store();
    let mut trees = filled(&store, 100);
    let notes = read_and_note(&store, &mut trees);
    commit(&store, &notes);
    // The life numbered two knew nothing of notes.
    assert_eq!((start(&store, 3).noted(), noted(&store)), (0, 0));
}

#[test]
fn damaged_and_overlapping_notes_are_thrown_away() {
    let whole_note = (key(whole()), value(Summary::default()));
    let half = key(Span { first: 1 << 63, ..whole() });
    for (damaged, bytes) in [
        (whole_note.0.clone(), vec![9]),
        (whole_note.0[..9].to_vec(), whole_note.1.clone()),
        (half, whole_note.1.clone()),
    ] {
        let store = store();
        let mut batch = Batch::new();
        batch.put(Space::META, &whole_note.0, &whole_note.1);
        batch.put(Space::META, &damaged, &bytes);
        batch.put(Space::META, LIFE_KEY, &life(Boot(1)));
        commit(&store, &batch);
        assert_eq!((start(&store, 2).noted(), noted(&store)), (0, 0), "{damaged:?}");
    }
}

/// Writes, refusals, readings, notes and starts, in any order.
#[test]
fn whatever_happens_a_note_says_what_its_leaf_is() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (store, mut boot) = (store(), 1);
        let mut trees = filled(&store, 1_500);
        for birth in 2..120 {
            match random.u8(0..12) {
                0..6 => {
                    let batch = write(&mut trees, random.u64(0..2_000), birth);
                    commit(&store, &batch);
                }
                6..9 => {
                    let batch = read_and_note(&store, &mut trees);
                    commit(&store, &batch);
                }
                9 => {
                    let batch = write(&mut trees, random.u64(0..2_000), birth);
                    trees.refused(&batch);
                }
                10 => {
                    let batch = read_and_note(&store, &mut trees);
                    trees.refused(&batch);
                }
                _ => {
                    boot += 1;
                    trees = start(&store, boot);
                }
            }
            assert_eq!(check(&store), None, "seed {seed}, after {birth}");
        }
        assert!(boot > 1 && noted(&store) <= trees.noted(), "each is known, to be taken away");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_a_note_or_refused(bytes: Vec<u8>, kept: Vec<u8>) {
        let name = [PREFIX, &bytes].concat();
        if let Ok(leaf) = read_key(&name) {
            assert_eq!(key(leaf), name);
        }
        if let Ok((_, summary)) = read(&key(whole()), &kept) {
            assert_eq!(value(summary), kept);
        }
    }
}

/// The example in `docs/protocol.md`, byte for byte.
#[test]
fn a_note_is_as_documented() {
    let leaf = Span { table: TABLE, first: 1 << 63, last: (1 << 63) + 0xffff };
    let summary = Summary { sum: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, records: 300, dead_at: Stamp(9) };
    let document = include_str!("../../../../docs/protocol.md");
    for (name, bytes) in [
        ("note-key", key(leaf)),
        ("note", value(summary)),
        ("notes-key", LIFE_KEY.to_vec()),
        ("notes", life(Boot(300))),
    ] {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("stored {name}: {}", hex.join(" "));
        assert!(document.contains(&line), "docs/protocol.md lacks\n{line}");
    }
    assert_eq!(read(&key(leaf), &value(summary)), Ok((leaf, summary)));
    assert!(is_note(&key(leaf)) && is_note(LIFE_KEY) && !is_note(b"identity"));
}
