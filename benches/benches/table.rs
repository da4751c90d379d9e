//! Reads of what lies in tables: by key, by range, and in whole.
//!
//! `cargo bench --bench table`; with `-- --quick` for a first impression. Times are those that the thread was given, the
//! kernel's share included, so that a busy machine does not show as much. Keys are decimal numbers of 20 digits, values 100
//! bytes, half of them compressible; 19 of 20 keys lie in one deep level, the others were written again and lie in a table
//! above it as well. The rows of `cached` have memory for everything, those of `uncached` for about an eighth.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kv_lsm::{Background, Batch, Database, Durability, Keyspace, KeyspaceOptions};
use rustix::time::{ClockId, clock_gettime};

const KEYS: u64 = 1_000_000;
/// Every so many keys there is one that was written again.
const REWRITTEN: usize = 20;
/// How many different keys the hot row asks for.
const HOT: u64 = KEYS / 100;

/// What the processor spent on this thread.
struct ThreadTime;

impl Measurement for ThreadTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).expect("time since the thread began");
        Duration::new(seconds, u32::try_from(time.tv_nsec).expect("less than a second"))
    }

    fn end(&self, begin: Duration) -> Duration {
        self.start() - begin
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

/// Even numbers are there, odd ones are not.
fn key(number: u64) -> [u8; 20] {
    let mut key = *b"00000000000000000000";
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    key
}

fn value(number: u64, random: &mut fastrand::Rng) -> [u8; 100] {
    let mut value = [b'.'; 100];
    value[..8].copy_from_slice(&number.to_be_bytes());
    random.fill(&mut value[8..50]);
    value
}

fn put(db: &Database, keyspace: &Keyspace, numbers: impl Iterator<Item = u64>) {
    let mut random = fastrand::Rng::with_seed(7);
    let mut batch = Batch::new();
    for number in numbers {
        batch.put(keyspace, key(number), value(number, &mut random));
        if batch.len() == 1000 {
            db.write(std::mem::take(&mut batch)).expect("there is room");
        }
    }
    db.write(batch).expect("there is room");
}

fn open(directory: &std::path::Path, cache_bytes: u64) -> (Database, Keyspace) {
    let builder = Database::builder(directory).background(Background::Manual).durability(Durability::Buffered);
    let db = builder.cache_bytes(cache_bytes).level0_tables(100).open().expect("a temporary directory can be written");
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).expect("it was just opened");
    (db, keyspace)
}

fn fill(directory: &std::path::Path) {
    let (db, keyspace) = open(directory, 64 << 20);
    put(&db, &keyspace, (0..KEYS).map(|number| 2 * number));
    keyspace.compact_range(..).expect("there is room");
    put(&db, &keyspace, (0..KEYS).step_by(REWRITTEN).map(|number| 2 * number));
    db.flush().expect("there is room");
    let bytes = keyspace.approximate_size(..).expect("it is there");
    println!("{} bytes on the disk for each entry", bytes / KEYS);
}

fn point(keyspace: &Keyspace, number: u64) -> bool {
    let found = keyspace.get(key(number)).expect("nothing is wrong");
    found.is_some_and(|value| value[..8] == number.to_be_bytes())
}

fn rows(criterion: &mut Criterion<ThreadTime>, name: &str, keyspace: &Keyspace) {
    let mut random = fastrand::Rng::with_seed(11);
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.bench_function("get random", |bencher| {
        bencher.iter(|| assert!(point(keyspace, 2 * random.u64(..KEYS))));
    });
    group.bench_function("get hot", |bencher| {
        // Spread over all blocks: a hot key has cold neighbours.
        bencher.iter(|| assert!(point(keyspace, 2 * (random.u64(..HOT) * (KEYS / HOT)))));
    });
    group.bench_function("get missing", |bencher| {
        bencher.iter(|| assert!(!point(keyspace, 2 * random.u64(..KEYS) + 1)));
    });
    group.bench_function("seek and 10", |bencher| {
        bencher.iter(|| {
            let start = random.u64(..KEYS - 10);
            let found = keyspace.range(key(2 * start)..).take(10);
            assert_eq!(found.map(|entry| black_box(entry.expect("nothing is wrong")).1.len()).sum::<usize>(), 1000);
        });
    });
    group.sample_size(10).throughput(Throughput::Elements(KEYS));
    let count = |bytes: usize| assert_eq!(bytes as u64, 120 * KEYS);
    let length = |entry: Result<(kv_lsm::Slice, kv_lsm::Slice), kv_lsm::Error>| {
        let (key, value) = entry.expect("nothing is wrong");
        key.len() + value.len()
    };
    group.bench_function("scan forward", |bencher| bencher.iter(|| count(keyspace.iter().map(length).sum())));
    group.bench_function("scan backward", |bencher| bencher.iter(|| count(keyspace.iter().rev().map(length).sum())));
    group.finish();
}

fn reads(criterion: &mut Criterion<ThreadTime>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path());
    for (name, cache_bytes) in [("cached", 1 << 30), ("uncached", 16 << 20)] {
        let (_db, keyspace) = open(directory.path(), cache_bytes);
        assert_eq!(keyspace.iter().count() as u64, KEYS, "all is there, and in the cache if it fits");
        rows(criterion, name, &keyspace);
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadTime);
    targets = reads
}
criterion_main!(benches);
