//! Every schedule, up to a length, of what may happen in the middle of a read or a write: publish, seal, flush, compact,
//! snapshots taken and let go.
//!
//! A read is interrupted where another thread could make a difference to it, between taking hold of the version and of the
//! visible number (rule E9); a write after it was applied and before it is published (lesson 45). All sequences of up to three
//! operations run there, in one thread, so that a schedule is the same every time. Interleavings inside the memtable's tree are
//! those of loom, beside it; of threads that switch at any other place only chance ones are tried, in `concurrency`.

mod append;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use kv_lsm::battery::{Sabotage, interleave};
use kv_lsm::disk::MemDisk;
use kv_lsm::{Background, Batch, Database, Durability, Keyspace, KeyspaceOptions, Snapshot};

use append::Append;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

/// What may happen in the middle.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Act {
    Put,
    Merge,
    Delete,
    DeleteRange,
    Flush,
    Compact,
    TakeSnapshot,
    DropSnapshots,
    Read,
}
use Act::{Compact, Delete, DeleteRange, DropSnapshots, Flush, Merge, Put, Read, TakeSnapshot};

/// What is interrupted.
#[derive(Copy, Clone, Debug)]
enum Interrupted {
    Get,
    Scan,
    ReadAtSnapshot,
    WriteBatch,
}

const KEY: &[u8] = b"key";
const OTHER: &[u8] = b"other";

struct World {
    db: Database,
    keyspace: Keyspace,
    /// The state after each write.
    states: Vec<State>,
    snapshots: Vec<(Snapshot, State)>,
    /// What was read in the middle and never was.
    wrong: Vec<String>,
}

impl World {
    fn new() -> Self {
        let builder = Database::builder("/db").disk(MemDisk::new()).background(Background::Manual);
        let db = builder.durability(Durability::Buffered).open().unwrap();
        let keyspace = db.keyspace("a", KeyspaceOptions::default().merge(Arc::new(Append))).unwrap();
        Self { db, keyspace, states: vec![State::new()], snapshots: Vec::new(), wrong: Vec::new() }
    }

    fn act(&mut self, act: Act) {
        let mut next = self.states.last().unwrap().clone();
        let number = self.states.len().to_string().into_bytes();
        match act {
            Put => {
                self.keyspace.put(KEY, &number).unwrap();
                next.insert(KEY.to_vec(), number);
            }
            Merge => {
                self.keyspace.merge(KEY, &number).unwrap();
                next.entry(KEY.to_vec()).or_default().extend(number);
            }
            Delete => {
                self.keyspace.delete(KEY).unwrap();
                next.remove(KEY);
            }
            DeleteRange => {
                self.keyspace.delete_range(KEY..OTHER).unwrap();
                next.remove(KEY);
            }
            Flush => return self.db.flush().unwrap(),
            Compact => return self.keyspace.compact_range(..).unwrap(),
            TakeSnapshot => return self.snapshots.push((self.db.snapshot(), next)),
            DropSnapshots => return self.snapshots.clear(),
            // No panic in the middle of a write, whose consequences would hide the cause.
            Read => {
                let found = all(&self.keyspace);
                return self.wrong.extend((found != next).then(|| format!("{found:?} instead of {next:?}")));
            }
        }
        self.states.push(next);
    }

    fn check(&self) {
        assert_eq!(self.wrong, Vec::<String>::new(), "read in the middle");
        assert_eq!(all(&self.keyspace), *self.states.last().unwrap(), "the last state");
        for (snapshot, state) in &self.snapshots {
            let found = snapshot.iter(&self.keyspace).map(|entry| entry.unwrap());
            assert_eq!(
                found.map(|(key, value)| (key.to_vec(), value.to_vec())).collect::<State>(),
                *state,
                "a snapshot"
            );
        }
    }
}

fn all(keyspace: &Keyspace) -> State {
    keyspace.iter().map(|entry| entry.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// One schedule.
fn run(before: &[Act], interrupted: Interrupted, meanwhile: &[Act]) {
    let mut world = World::new();
    before.iter().for_each(|&act| world.act(act));
    let first = world.states.len() - 1;
    let (db, keyspace) = (world.db.clone(), world.keyspace.clone());
    // A snapshot that is alive keeps what it sees: only who asks for one may have it.
    let snapshot = matches!(interrupted, Interrupted::ReadAtSnapshot).then(|| db.snapshot());
    let world = Rc::new(RefCell::new(world));
    let acts = (Rc::clone(&world), Rc::new(Cell::new(false)), meanwhile.to_vec());
    let happened = Rc::clone(&acts.1);
    let meanwhile = move || {
        acts.2.iter().for_each(|&act| acts.0.borrow_mut().act(act));
        acts.1.set(true);
    };
    let was = |found: &State| world.borrow().states[first..].contains(found);
    match interrupted {
        Interrupted::Get => {
            let found = interleave(meanwhile, || keyspace.get(KEY)).unwrap().map(|value| value.to_vec());
            let was = world.borrow().states[first..].iter().any(|state| state.get(KEY) == found.as_ref());
            assert!(was, "{found:?} was never so");
        }
        Interrupted::Scan => {
            let found = interleave(meanwhile, || all(&keyspace));
            assert!(was(&found), "{found:?} was never so");
        }
        Interrupted::ReadAtSnapshot => {
            let snapshot = snapshot.as_ref().expect("it was taken");
            let found = interleave(meanwhile, || snapshot.get(&keyspace, KEY)).unwrap().map(|value| value.to_vec());
            assert_eq!(found.as_ref(), world.borrow().states[first].get(KEY), "a snapshot moved");
        }
        Interrupted::WriteBatch => {
            let mut batch = Batch::new();
            batch.put(&keyspace, KEY, "batch");
            batch.put(&keyspace, OTHER, "batch");
            interleave(meanwhile, || db.write(batch)).unwrap();
            let mut next = world.borrow().states.last().unwrap().clone();
            next.extend([KEY, OTHER].map(|key| (key.to_vec(), b"batch".to_vec())));
            world.borrow_mut().states.push(next);
        }
    }
    assert!(happened.get(), "nothing was interrupted");
    drop(snapshot);
    let mut world = world.borrow_mut();
    world.check();
    world.act(Flush);
    world.act(Compact);
    world.check();
}

/// All sequences of one to three of some operations.
fn sequences(acts: &[Act]) -> Vec<Vec<Act>> {
    let mut all: Vec<Vec<Act>> = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..3 {
        let longer: Vec<Vec<Act>> = all[from..]
            .iter()
            .flat_map(|sequence| acts.iter().map(|&act| [sequence.as_slice(), &[act]].concat()))
            .collect();
        from = all.len();
        all.extend(longer);
    }
    all.split_off(1)
}

/// Runs every schedule, and returns how many there were.
fn run_all() -> usize {
    let before: [&[Act]; 3] = [&[], &[Put, Flush, Merge], &[Put, TakeSnapshot, Merge, Flush, Delete, Flush]];
    let anything = sequences(&[Put, Merge, Delete, DeleteRange, Flush, Compact, TakeSnapshot, DropSnapshots]);
    // Whoever writes holds the log meanwhile.
    let reads = sequences(&[Read, TakeSnapshot, DropSnapshots]);
    let mut schedules = 0;
    for before in before {
        for (interrupted, sequences) in [
            (Interrupted::Get, &anything),
            (Interrupted::Scan, &anything),
            (Interrupted::ReadAtSnapshot, &anything),
            (Interrupted::WriteBatch, &reads),
        ] {
            for meanwhile in sequences {
                let outcome = catch_unwind(AssertUnwindSafe(|| run(before, interrupted, meanwhile)));
                assert!(outcome.is_ok(), "after {before:?}, {interrupted:?} interrupted by {meanwhile:?}");
                schedules += 1;
            }
        }
    }
    schedules
}

#[test]
fn engine_rule_09_no_schedule_shows_what_never_was() {
    assert!(run_all() > 5000);
}

#[test]
fn schedules_show_a_rule_that_is_broken() {
    for sabotage in [Sabotage::PinAfterVisible, Sabotage::PublishHalfBatch, Sabotage::FoldAcrossSnapshot] {
        let outcome = sabotage.during(|| catch_unwind(run_all));
        assert!(outcome.is_err(), "{sabotage:?} was not noticed");
    }
}
