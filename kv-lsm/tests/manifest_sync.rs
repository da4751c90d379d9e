//! While the manifest is being synced, reads and writes go on.

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

/// Syncs of the manifest stop here as long as it is closed.
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
    let passes = Arc::clone(&gate);
    let disk = Watched::new(move |about: About, path: &Path| {
        if about == About::Sync && path.to_string_lossy().contains("MANIFEST") {
            passes.pass();
        }
    });
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
