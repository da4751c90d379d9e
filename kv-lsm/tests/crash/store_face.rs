//! Power cuts under the face that the protocols use: commits that never wait, and syncs that are asked for.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kv_core::store::{Batch, Direction, KeyRange, Sequence, Space, SpaceOptions};
use kv_core::{Store, View};
use kv_lsm::battery::content::{Content, MERGED, Operation};
use kv_lsm::battery::history::History;
use kv_lsm::battery::inspect::survivals;
use kv_lsm::battery::subject::{Append, DIRECTORY};
use kv_lsm::disk::{SimDisk, Survival};
use kv_lsm::{Background, Database, Error, LsmStore};

fn open(disk: &SimDisk) -> Result<LsmStore, Error> {
    let builder = Database::builder(Path::new(DIRECTORY))
        .disk(disk.clone())
        .background(Background::Manual)
        .memtable_bytes(1500)
        .log_segment_bytes(1000)
        .level0_tables(2);
    let joined = SpaceOptions { merge: Some(Arc::new(Append)) };
    LsmStore::open(builder, &[(Space::META, "meta", SpaceOptions::default()), (Space::DATA, "data", joined)])
}

fn content(store: &LsmStore) -> Content {
    let mut content = Content::new();
    for (space, index) in [(Space::META, 0), (Space::DATA, MERGED)] {
        let mut each = |key: &[u8], value: &[u8]| {
            content.insert(index, key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        };
        store.scan(space, KeyRange::ALL, Direction::Forward, &mut each).unwrap();
    }
    content
}

/// What a worker of kv-repl does: turns of one commit and a request each, background work in between.
fn turns(disk: &SimDisk) -> History {
    let mut history = History::starting_with(Content::new());
    let Ok(store) = open(disk) else { return history };
    let wakes = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&wakes);
    store.on_durable(Arc::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    }));
    let mut durable = Sequence(0);
    for turn in 0..40_u64 {
        let (key, operand) = (format!("k{}", turn % 4), format!("{turn},"));
        let mut batch = Batch::new();
        batch.put(Space::META, b"turn", &turn.to_be_bytes());
        batch.merge(Space::DATA, key.as_bytes(), operand.as_bytes());
        let operations = [
            Operation::Put(0, b"turn".to_vec(), turn.to_be_bytes().to_vec()),
            Operation::Merge(key.into(), operand.into()),
        ];
        let Ok(sequence) = store.commit(&batch) else {
            history.attempt(&operations);
            return history;
        };
        history.acknowledge(&operations, false);
        history.numbered(sequence.0);
        if turn % 3 != 2 {
            store.request_sync(sequence);
        }
        if turn % 2 == 1 {
            let before = wakes.load(Ordering::Relaxed);
            let worked = (0..5).try_for_each(|_| store.step().map(drop));
            if let Ok(now) = store.durable_sequence() {
                assert!(now >= durable, "the durable number went back");
                assert!(now == durable || wakes.load(Ordering::Relaxed) > before, "it moved and nobody was woken");
                durable = now;
                history.observe_durable(now.0);
            }
            if worked.is_err() {
                assert!(
                    wakes.load(Ordering::Relaxed) > before || store.durable_sequence().is_ok(),
                    "poisoned in silence"
                );
                return history;
            }
        }
    }
    history
}

#[test]
fn engine_rule_17_what_durable_sequence_covers_survives_every_power_cut() {
    let whole = SimDisk::new(1);
    let history = turns(&whole);
    assert!(history.extent().0 > 30, "most turns became durable: {:?}", history.extent());
    let mut states = 0;
    for call in 0..=whole.mutating_calls() {
        let disk = SimDisk::new(1);
        disk.cut_power_after(call);
        let history = turns(&disk);
        for survival in survivals(&disk, call, 2) {
            let after = disk.reboot(survival);
            let context = format!("power cut at call {call} {:?}, {survival:?}", disk.power_cut_at());
            let store = open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
            let found = content(&store);
            history.check_recovered(&found, &context);
            // A reply may rest on what recovery shows.
            let again = open(&after.reboot(Survival::None)).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(content(&again), found, "{context}, cut after recovery");
            states += 1;
        }
    }
    assert!(states > 300, "{states} states");
}
