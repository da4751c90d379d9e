//! A database in a running process loses its power: what was acknowledged as synced is there afterwards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kv_lsm::disk::{OsDisk, VolatileDisk};
use kv_lsm::{Batch, Database, Durability, KeyspaceOptions, WriteOptions};

const WRITERS: usize = 3;

/// Writers count upwards, each in keys of its own, every eighth write synced; the power goes while they are at it, again
/// and again on the same files.
#[test]
fn a_database_loses_its_power_while_threads_write() {
    let directory = tempfile::tempdir().unwrap();
    let mut disk = VolatileDisk::new(OsDisk::new());
    let mut synced = [0; WRITERS];
    let mut bytes_lost = 0;
    for round in 0..6_u64 {
        let database = Database::builder(directory.path())
            .disk(disk.clone())
            .memtable_bytes(64 << 10)
            .log_segment_bytes(64 << 10)
            .level0_tables(2)
            .open()
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        let left = database.keyspace("left", KeyspaceOptions::default()).unwrap();
        let right = database.keyspace("right", KeyspaceOptions::default()).unwrap();
        let number = |slice: &[u8]| u64::from_be_bytes(slice[..8].try_into().unwrap());
        let mut started = [0; WRITERS];
        for writer in 0..WRITERS {
            let key = |name: &str| format!("{name} {writer}");
            let last = left.get(key("last")).unwrap().map_or(0, |value| number(&value));
            let same = right.get(key("last")).unwrap().map_or(0, |value| number(&value));
            assert_eq!(last, same, "round {round}: half a batch of writer {writer}");
            let promised = synced[writer];
            assert!(last >= promised, "round {round}: writer {writer} lost {promised}, found {last}");
            for earlier in (1..=last).rev().take(300) {
                let value = left.get(key(&format!("{earlier:08}"))).unwrap();
                assert!(value.is_some(), "round {round}: writer {writer} has a gap at {earlier} below {last}");
            }
            started[writer] = last;
        }
        let acknowledged = [const { AtomicU64::new(0) }; WRITERS];
        let off = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (database, left, right, off) = (&database, &left, &right, &off);
                let (begin, acknowledged) = (started[writer], &acknowledged[writer]);
                scope.spawn(move || {
                    for count in begin + 1.. {
                        let mut value = count.to_be_bytes().to_vec();
                        value.resize(200, b'.');
                        let mut batch = Batch::new();
                        batch.put(left, format!("last {writer}"), &value);
                        batch.put(left, format!("{count:08} {writer}"), &value);
                        batch.put(right, format!("last {writer}"), &value);
                        let durability = if count % 8 == 0 { Durability::Sync } else { Durability::Buffered };
                        match database.write_with(batch, WriteOptions::durability(durability)) {
                            Ok(()) if durability == Durability::Sync => acknowledged.store(count, Ordering::SeqCst),
                            Ok(()) => {}
                            Err(error) => {
                                assert!(off.load(Ordering::SeqCst), "round {round}: {error}");
                                return;
                            }
                        }
                    }
                });
            }
            // On a busy machine a writer may get its turn late.
            for _ in 0..60_000 {
                if acknowledged.iter().all(|count| count.load(Ordering::SeqCst) > 0) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(60 + round * 25));
            off.store(true, Ordering::SeqCst);
            bytes_lost += disk.cut_power().unwrap().bytes;
        });
        drop((left, right, database));
        for (promised, acknowledged) in synced.iter_mut().zip(&acknowledged) {
            *promised = (*promised).max(acknowledged.load(Ordering::SeqCst));
        }
        assert!(synced.iter().all(|&count| count > 0), "round {round}: nothing was acknowledged");
        disk = disk.reboot();
    }
    assert!(bytes_lost > 0, "the power cuts threw nothing away");
}
