//! While a file is being synced, whoever needs no sync goes on.

mod watched;

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use kv_lsm::{Background, Batch, Database, Durability, Keyspace, KeyspaceOptions, WriteOptions};
use watched::{About, Watched};

/// Far longer than all that is done behind the gate takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Syncs of some files stop here as long as it is closed.
#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    closed: bool,
    waiting: bool,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        while state.closed {
            state.waiting = true;
            self.changed.notify_all();
            state = self.changed.wait(state).unwrap();
        }
        state.waiting = false;
    }

    /// A disk whose syncs of files with such a name stop at the gate.
    fn before_syncs_of(self: &Arc<Self>, name: &'static str) -> Watched {
        let gate = Arc::clone(self);
        Watched::new(move |about: About, path: &Path| {
            if about == About::Sync && path.to_string_lossy().contains(name) {
                gate.pass();
            }
        })
    }

    fn set_closed(&self, closed: bool) {
        self.state.lock().unwrap().closed = closed;
        self.changed.notify_all();
    }

    /// Whether a sync stops here, perhaps after a while.
    fn stops_somebody(&self) -> bool {
        let state = self.state.lock().unwrap();
        self.changed.wait_timeout_while(state, PATIENCE, |state| !state.waiting).unwrap().0.waiting
    }
}

/// Everything that a reader or writer does.
fn read_and_write(db: &Database, keyspace: &Keyspace) {
    let expected = ["table", "table, too", "sealed"];
    for key in expected {
        assert_eq!(keyspace.get(key).unwrap().unwrap(), key.as_bytes());
    }
    assert_eq!(keyspace.multi_get(expected).unwrap().iter().flatten().count(), 3);
    let sorted = ["sealed", "table", "table, too"];
    let keys = |entry: Result<(kv_lsm::Slice, _), _>| String::from_utf8(entry.unwrap().0.to_vec()).unwrap();
    assert_eq!(keyspace.iter().map(keys).collect::<Vec<_>>(), sorted);
    assert!(keyspace.iter().rev().map(keys).eq(sorted.into_iter().rev()));
    assert_eq!(keyspace.prefix("table").map(keys).collect::<Vec<_>>(), sorted[1..]);
    assert!(keyspace.approximate_size(..).unwrap() > 0);

    let snapshot = db.snapshot();
    for durability in [Durability::Buffered, Durability::Sync] {
        let mut batch = Batch::new();
        batch.put(keyspace, "meanwhile", "written");
        batch.delete(keyspace, "table");
        db.write_with(batch, WriteOptions::durability(durability)).unwrap();
    }
    keyspace.try_put("tried", "written").unwrap();
    let mut transaction = db.transaction();
    assert!(transaction.get(keyspace, "meanwhile").unwrap().is_some());
    transaction.put(keyspace, "transaction", "written");
    transaction.commit().unwrap();
    db.sync().unwrap();

    assert_eq!(snapshot.iter(keyspace).map(keys).collect::<Vec<_>>(), sorted);
    assert_eq!(snapshot.get(keyspace, "table").unwrap().unwrap(), b"table");
    let now = ["meanwhile", "sealed", "table, too", "transaction", "tried"];
    assert_eq!(keyspace.iter().map(keys).collect::<Vec<_>>(), now);
    assert!(db.metrics().memtable_bytes > 0);
}

#[test]
fn lesson_46_a_manifest_that_is_being_synced_holds_up_nobody() {
    let gate = Arc::new(Gate::default());
    let disk = gate.before_syncs_of("MANIFEST");
    let db = Database::builder("/db").disk(disk).background(Background::Manual).open().unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    for key in ["table", "table, too"] {
        keyspace.put(key, key).unwrap();
    }
    db.flush().unwrap();
    keyspace.put("sealed", "sealed").unwrap();
    gate.set_closed(true);
    let (flushed, finished) = thread::scope(|scope| {
        let flush = scope.spawn(|| db.flush());
        let (finish, finished) = channel();
        let stopped = gate.stops_somebody();
        let (db, keyspace) = (&db, &keyspace);
        scope.spawn(move || {
            read_and_write(db, keyspace);
            finish.send(()).unwrap();
        });
        let finished = finished.recv_timeout(PATIENCE);
        let still_stopped = gate.stops_somebody();
        gate.set_closed(false);
        assert!(stopped && still_stopped, "the manifest was not being synced");
        (flush.join().unwrap(), finished)
    });
    flushed.unwrap();
    finished.expect("somebody waited for the sync of the manifest");
}

/// A flush neither waits for the log nor is undone by a sync of it that began before and knows less.
#[test]
fn engine_rule_03_a_flush_counts_while_the_log_is_being_synced() {
    let gate = Arc::new(Gate::default());
    let db = Database::builder("/db")
        .disk(gate.before_syncs_of(".log"))
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .open()
        .unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    keyspace.put("first", "1").unwrap();
    gate.set_closed(true);
    let (synced, during) = thread::scope(|scope| {
        let sync = scope.spawn(|| db.sync());
        let stopped = gate.stops_somebody();
        keyspace.put("second", "2").unwrap();
        let (finish, flushed) = channel();
        let handle = &db;
        scope.spawn(move || finish.send(handle.flush()).unwrap());
        let flushed = flushed.recv_timeout(PATIENCE);
        let durable = db.durable_sequence();
        gate.set_closed(false);
        assert!(stopped, "the log was not being synced");
        flushed.expect("the flush waited for the log").unwrap();
        (sync.join().unwrap(), durable.unwrap())
    });
    synced.unwrap();
    assert_eq!((during, db.durable_sequence().unwrap()), (2, 2));
    // What comes next is synced in the segment that the flush left behind.
    db.write_with(batch_of(&keyspace, "third"), WriteOptions::durability(Durability::Sync)).unwrap();
    assert_eq!(db.durable_sequence().unwrap(), 3);
}

fn batch_of(keyspace: &Keyspace, key: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(keyspace, key, key);
    batch
}
