//! What happens to a database between two steps of a checkpoint does not reach the checkpoint.

mod watched;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kv_lsm::disk::Disk;
use kv_lsm::{Background, Database, Durability, Keyspace, KeyspaceOptions};
use watched::{About, Watched};

/// Calls back, once and armed, before a file of the database is read or linked for the checkpoint.
#[derive(Clone, Default)]
struct Trigger {
    armed: Arc<AtomicBool>,
    hook: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnMut(&str) + Send>;

impl Trigger {
    fn meet(&self, about: About, path: &Path) {
        let name = path.to_string_lossy();
        if about != About::Sync && name.starts_with("/db/") && self.armed.swap(false, Ordering::SeqCst) {
            if let Some(hook) = self.hook.lock().unwrap().as_mut() {
                hook(&name);
            }
            self.armed.store(true, Ordering::SeqCst);
        }
    }
}

fn open(disk: impl Disk, directory: &str) -> (Database, Keyspace) {
    let db = Database::builder(directory)
        .disk(disk)
        .background(Background::Manual)
        .durability(Durability::Buffered)
        .log_segment_bytes(300)
        .manifest_bytes(200)
        .level0_tables(2)
        .open()
        .unwrap();
    let keyspace = db.keyspace("a", KeyspaceOptions::default()).unwrap();
    (db, keyspace)
}

fn content(keyspace: &Keyspace) -> Vec<(Vec<u8>, Vec<u8>)> {
    keyspace.iter().map(|entry| entry.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

#[test]
fn engine_rule_05_and_08_what_a_checkpoint_refers_to_stays_until_it_is_done() {
    let trigger = Trigger::default();
    let meets = trigger.clone();
    let disk = Watched::new(move |about, path| meets.meet(about, path));
    let (db, keyspace) = open(disk.clone(), "/db");
    for round in 0..3 {
        for number in 0..20 {
            keyspace.put(format!("key {number:02}"), format!("value {round}")).unwrap();
        }
        if round < 2 {
            db.flush().unwrap();
        }
    }
    let expected = content(&keyspace);
    let met = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let (db, keyspace, met) = (db.clone(), keyspace.clone(), Arc::clone(&met));
        move |name: &str| {
            met.lock().unwrap().push(name.to_owned());
            // Everything the checkpoint still needs is written again elsewhere, and the log goes on.
            for number in 0..20 {
                keyspace.put(format!("key {number:02}"), "later").unwrap();
                keyspace.put(format!("new {number:02}"), name).unwrap();
            }
            db.flush().unwrap();
            keyspace.compact_range(..).unwrap();
            while db.step().unwrap() {}
            for number in 0..20 {
                keyspace.put(format!("new {number:02}"), "again").unwrap();
            }
        }
    };
    *trigger.hook.lock().unwrap() = Some(Box::new(hook));
    trigger.armed.store(true, Ordering::SeqCst);
    db.checkpoint("/copy").unwrap();
    trigger.armed.store(false, Ordering::SeqCst);
    *trigger.hook.lock().unwrap() = None;
    let met = met.lock().unwrap().clone();
    let kinds = |ending: &str| met.iter().filter(|name| name.ends_with(ending)).count();
    assert!(kinds(".log") > 2 && kinds(".table") > 1, "{met:?}");
    let (_copy, copied) = open(disk.disk.clone(), "/copy");
    assert_eq!(content(&copied), expected);
    // What was kept for the checkpoint goes when it is done.
    let files = disk.list(Path::new("/db")).unwrap();
    let left = files.iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!(left, db.metrics().log_segments, "{files:?}");
    assert!(left < 8, "{files:?}");
}
