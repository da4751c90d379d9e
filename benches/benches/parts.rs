//! The parts of the engine, each as nearly alone as its users can reach it: the memtable, the commit pipeline, a block, filters,
//! the merging of sorted runs, and what many keyspaces cost. Tables as a whole are in `table`, the log on a disk in `log`.
//!
//! `cargo bench --bench parts`; with `-- --quick` for a first impression. Everything lies in memory, also the files, so that no
//! disk is measured. Nothing runs in the background.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use kv_lsm::disk::MemDisk;
use kv_lsm::{Background, Batch, Database, Durability, Error, Keyspace, KeyspaceOptions, Slice};

/// As many entries of 20 + 100 bytes as a memtable of 64 MiB holds.
const MEMTABLE_KEYS: u64 = 480_000;
/// Keys in all sorted runs together.
const RUN_KEYS: u64 = 200_000;
/// Few enough to lie in one block.
const BLOCK_KEYS: u64 = 100;

fn open() -> (Database, Keyspace) {
    let builder = Database::builder("/").disk(MemDisk::new()).background(Background::Manual);
    let builder =
        builder.durability(Durability::Buffered).memtable_bytes(1 << 30).cache_bytes(1 << 30).level0_tables(1000);
    let db = builder.open().expect("a disk in memory can be written");
    let keyspace = db.keyspace("k", KeyspaceOptions::default()).expect("it was just opened");
    (db, keyspace)
}

/// Even numbers are written, odd ones are not.
fn key(number: u64) -> [u8; 20] {
    let mut key = [b'0'; 20];
    let mut rest = number;
    for digit in key.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
    }
    key
}

const VALUE: [u8; 100] = [7; 100];

fn shuffled(count: u64) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..count).map(|number| 2 * number).collect();
    fastrand::Rng::with_seed(5).shuffle(&mut numbers);
    numbers
}

fn put_all(db: &Database, keyspace: &Keyspace, numbers: &[u64], batch_entries: usize) {
    for numbers in numbers.chunks(batch_entries) {
        let mut batch = Batch::new();
        for number in numbers {
            batch.put(keyspace, key(*number), VALUE);
        }
        db.write(batch).expect("there is room");
    }
}

/// The time that `iterations` writes take, in batches, into memtables that are filled anew each time.
fn filling(numbers: &[u64], batch_entries: usize, iterations: u64) -> Duration {
    let mut time = Duration::ZERO;
    let mut left = usize::try_from(iterations).expect("fewer writes than memory");
    while left > 0 {
        let (db, keyspace) = open();
        let numbers = &numbers[..left.min(numbers.len())];
        let begin = Instant::now();
        put_all(&db, &keyspace, numbers, batch_entries);
        time += begin.elapsed();
        left -= numbers.len();
    }
    time
}

fn memtable(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memtable");
    group.sample_size(10).throughput(Throughput::Elements(1));
    let random = shuffled(MEMTABLE_KEYS);
    let mut sequential = random.clone();
    sequential.sort_unstable();
    // In batches of a thousand next to nothing of the commit pipeline is left in it.
    for (name, numbers) in [("insert random", &random), ("insert sequential", &sequential)] {
        group.bench_function(name, |bencher| bencher.iter_custom(|iterations| filling(numbers, 1000, iterations)));
    }
    let (db, keyspace) = open();
    put_all(&db, &keyspace, &random, 1000);
    gets(&mut group, &keyspace, MEMTABLE_KEYS);
    group.throughput(Throughput::Elements(MEMTABLE_KEYS));
    group.bench_function("scan", |bencher| bencher.iter(|| scan(&keyspace, MEMTABLE_KEYS)));
    assert_eq!(db.metrics().flushes, 0, "all of it was in the memtable");
    group.finish();
}

/// A key that is there and one that is not.
fn gets(group: &mut BenchmarkGroup<'_, WallTime>, keyspace: &Keyspace, keys: u64) {
    let mut random = fastrand::Rng::with_seed(11);
    group.bench_function("get", |bencher| {
        bencher.iter(|| assert!(keyspace.get(key(2 * random.u64(..keys))).expect("nothing is wrong").is_some()));
    });
    group.bench_function("get missing", |bencher| {
        bencher.iter(|| assert!(keyspace.get(key(2 * random.u64(..keys) + 1)).expect("nothing is wrong").is_none()));
    });
}

fn value_bytes(entries: impl Iterator<Item = Result<(Slice, Slice), Error>>) -> u64 {
    entries.map(|entry| black_box(entry.expect("nothing is wrong")).1.len() as u64).sum()
}

fn scan(keyspace: &Keyspace, keys: u64) {
    assert_eq!(value_bytes(keyspace.iter()), keys * VALUE.len() as u64);
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.sample_size(10).throughput(Throughput::Elements(1));
    let numbers = shuffled(MEMTABLE_KEYS);
    for batch_entries in [1, 10, 100] {
        let name = format!("put in batches of {batch_entries}");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| filling(&numbers, batch_entries, iterations));
        });
    }
    group.finish();
}

/// A database with the same keys in one sorted run or in several, every run over the whole range.
fn runs(count: usize, keys: u64) -> (Database, Keyspace) {
    let (db, keyspace) = open();
    let numbers = shuffled(keys);
    for numbers in numbers.chunks(numbers.len().div_ceil(count)) {
        put_all(&db, &keyspace, numbers, 1000);
        db.flush().expect("there is room");
    }
    let tables: usize =
        db.metrics().keyspaces.iter().flat_map(|keyspace| &keyspace.levels).map(|level| level.tables).sum();
    assert_eq!(tables, count);
    scan(&keyspace, keys);
    (db, keyspace)
}

/// What a get has to do in a block, when index and filter have next to nothing to do.
fn block(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one block");
    let (_db, keyspace) = runs(1, BLOCK_KEYS);
    gets(&mut group, &keyspace, BLOCK_KEYS);
    group.finish();
}

/// Each more run costs a get one more filter, and a scan one more cursor to merge.
fn sorted_runs(criterion: &mut Criterion) {
    for count in [1, 2, 4, 8, 16] {
        let (_db, keyspace) = runs(count, RUN_KEYS);
        let mut group = criterion.benchmark_group(format!("{count} sorted runs"));
        group.sample_size(10);
        gets(&mut group, &keyspace, RUN_KEYS);
        let mut random = fastrand::Rng::with_seed(13);
        group.bench_function("seek and 10", |bencher| {
            bencher.iter(|| {
                let found = keyspace.range(key(2 * random.u64(..RUN_KEYS - 10))..).take(10);
                assert_eq!(value_bytes(found), 10 * VALUE.len() as u64);
            });
        });
        group.throughput(Throughput::Elements(RUN_KEYS));
        group.bench_function("scan", |bencher| bencher.iter(|| scan(&keyspace, RUN_KEYS)));
        group.finish();
    }
}

/// The same keys in one keyspace and in many: each write and read goes to the next of them.
fn keyspaces(criterion: &mut Criterion) {
    for count in [1, 10, 1000] {
        let mut group = criterion.benchmark_group(format!("{count} keyspaces"));
        group.sample_size(10).throughput(Throughput::Elements(1));
        let (db, _) = open();
        let named = |number: usize| db.keyspace(&number.to_string(), KeyspaceOptions::default());
        let keyspaces: Vec<Keyspace> = (0..count).map(|number| named(number).expect("there is room")).collect();
        let of = |number: u64| &keyspaces[usize::try_from(number).expect("few keys") / 2 % count];
        let numbers = shuffled(RUN_KEYS);
        let put = |number: u64| of(number).put(key(number), VALUE).expect("there is room");
        numbers.iter().copied().for_each(put);
        let mut random = fastrand::Rng::with_seed(17);
        let mut get = |bencher: &mut Bencher<'_>| {
            bencher.iter(|| {
                let number = 2 * random.u64(..RUN_KEYS);
                assert!(of(number).get(key(number)).expect("nothing is wrong").is_some());
            });
        };
        group.bench_function("get from the memtable", &mut get);
        db.flush().expect("there is room");
        group.bench_function("get from tables", &mut get);
        let mut next = numbers.iter().copied().cycle();
        group.bench_function("put", |bencher| bencher.iter(|| put(next.next().expect("a cycle has no end"))));
        group.finish();
    }
}

criterion_group!(benches, memtable, commit, block, sorted_runs, keyspaces);
criterion_main!(benches);
