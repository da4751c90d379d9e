//! What it costs to make a write durable: in a file that grows against one that is written again, and alone against in company.
//!
//! `cargo bench --bench log`. The files lie where the system keeps temporary ones (`TMPDIR`): figures are those of that disk.
//! A sync is mostly waiting: on a machine that does other work as well, what is measured is how soon a thread that was
//! woken runs again, unless the bench has a real-time priority (`chrt -r 10`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kv_lsm::{Database, Durability, Keyspace, KeyspaceOptions, WriteOptions};

const SEGMENT_BYTES: u64 = 1 << 20;
const VALUE: [u8; 100] = [7; 100];

fn open(directory: &std::path::Path, spare_segments: usize) -> (Database, Keyspace) {
    let db = Database::builder(directory)
        .log_segment_bytes(SEGMENT_BYTES)
        .memtable_bytes(SEGMENT_BYTES)
        .log_spare_segments(spare_segments)
        .open()
        .expect("a temporary directory can be written");
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).expect("it was just opened");
    // A few segments are filled and retired, so that there is something to recycle.
    let mut filled = 0_u64;
    while filled < 6 * SEGMENT_BYTES {
        let mut batch = kv_lsm::Batch::new();
        for _ in 0..100 {
            batch.put(&keyspace, filled.to_be_bytes(), VALUE);
            filled += 128;
        }
        db.write_with(batch, WriteOptions::durability(Durability::Buffered)).expect("there is room");
    }
    db.flush().expect("there is room");
    (db, keyspace)
}

fn segments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("synced_put");
    group.sample_size(20).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(1));
    for (name, spare_segments) in [("fresh", 0), ("recycled", 2)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (db, keyspace) = open(directory.path(), spare_segments);
        let mut number = 0_u64;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                number += 1;
                keyspace.put(number.to_be_bytes(), VALUE).expect("there is room");
            });
        });
        let metrics = db.metrics();
        println!("{name}: {} of the segments were begun in the file of an earlier one", metrics.recycled_segments);
    }
    group.finish();
}

fn writers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("synced_put_by_writers");
    group.sample_size(10).measurement_time(Duration::from_secs(8)).throughput(Throughput::Elements(1));
    for writers in [1_u64, 8, 64] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (db, keyspace) = open(directory.path(), 2);
        let syncs_before = db.metrics().syncs;
        let written = AtomicU64::new(0);
        group.bench_function(writers.to_string(), |bencher| {
            bencher.iter_custom(|puts| {
                let next = AtomicU64::new(0);
                let begin = Instant::now();
                thread::scope(|scope| {
                    for _ in 0..writers {
                        scope.spawn(|| {
                            loop {
                                let number = next.fetch_add(1, Ordering::Relaxed);
                                if number >= puts {
                                    break;
                                }
                                keyspace.put(number.to_be_bytes(), VALUE).expect("there is room");
                            }
                        });
                    }
                });
                written.fetch_add(puts, Ordering::Relaxed);
                begin.elapsed()
            });
        });
        let syncs = db.metrics().syncs - syncs_before;
        let written = written.load(Ordering::Relaxed);
        println!("{writers} writers: {written} puts shared {syncs} syncs");
    }
    group.finish();
}

criterion_group!(benches, segments, writers);
criterion_main!(benches);
