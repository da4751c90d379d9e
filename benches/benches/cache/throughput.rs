//! Gets in a second, on one thread and on two.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};

use crate::subjects::{self, POLICIES, Subject, cost};
use crate::traces::Zipf;

const KEYS: usize = 100_000;
const EXPONENT: f64 = 0.99;
const VALUE_BYTES: usize = 100;
/// As many draws as a thread goes through before it begins again.
const DRAWS: usize = 1 << 20;
const ROUNDS: usize = 9;

struct Load {
    keys: Vec<Box<[u8]>>,
    draws: Vec<u32>,
}

impl Load {
    fn new(exponent: f64) -> Self {
        let (zipf, mut random) = (Zipf::new(KEYS, exponent), fastrand::Rng::with_seed(5));
        // Popular keys are not neighbours in memory.
        let mut numbers: Vec<usize> = (0..KEYS).collect();
        random.shuffle(&mut numbers);
        Self {
            keys: numbers.iter().map(|number| format!("user:{number:011}").into_bytes().into()).collect(),
            draws: (0..DRAWS).map(|_| zipf.draw(&mut random)).collect(),
        }
    }

    fn fill(&self, subject: &dyn Subject) {
        for key in self.keys.iter().rev() {
            subject.put(key, Bytes::from(vec![7; VALUE_BYTES]));
        }
        subject.entries();
    }

    /// One thread's turn; it begins at a place of its own.
    fn get<S: Subject>(&self, subject: &S, thread: usize, gets: usize) {
        let mut draws = self.draws.iter().cycle().skip(thread * DRAWS / 2);
        for _ in 0..gets {
            let key = &self.keys[*draws.next().expect("it cycles") as usize];
            if black_box(subject.get(key)).is_none() {
                subject.put(key, Bytes::from(vec![7; VALUE_BYTES]));
            }
        }
    }

    fn time<S: Subject>(&self, subject: &S, threads: usize, gets: usize) -> Duration {
        let barrier = Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    self.get(subject, thread, gets);
                    barrier.wait();
                });
            }
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            start.elapsed()
        })
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Nanoseconds per get and thread, in turns, so that a noisy neighbour meets all.
fn compare(load: &Load, capacity_bytes: u64, threads: usize) {
    let entries = usize::try_from(capacity_bytes / cost(16, VALUE_BYTES)).expect("few");
    let ours: Vec<_> = POLICIES.iter().map(|(name, kind)| (*name, subjects::ours(*kind, capacity_bytes))).collect();
    let quick_cache = subjects::quick_cache(capacity_bytes, entries);
    let moka = subjects::moka(capacity_bytes);
    ours.iter().for_each(|(_, cache)| load.fill(cache));
    load.fill(&quick_cache);
    load.fill(&moka);

    let gets = DRAWS / 4;
    let nanoseconds = |time: Duration| time.as_secs_f64() * 1e9 / gets as f64;
    let mut times = vec![Vec::new(); ours.len() + 2];
    for round in 0..=ROUNDS {
        let mut row: Vec<f64> = ours.iter().map(|(_, cache)| nanoseconds(load.time(cache, threads, gets))).collect();
        row.push(nanoseconds(load.time(&quick_cache, threads, gets)));
        row.push(nanoseconds(load.time(&moka, threads, gets)));
        // The first round warms up.
        if round > 0 {
            times.iter_mut().zip(row).for_each(|(times, time)| times.push(time));
        }
    }
    // Ratios within a round, and then their median: what slows a whole round slows both sides.
    let (rival, other) = (times[ours.len()].clone(), times[ours.len() + 1].clone());
    let names = ours.iter().map(|(name, _)| *name).chain(["quick_cache", "moka"]);
    for (name, times) in names.zip(times) {
        let beside = |rival: &[f64]| median(rival.iter().zip(&times).map(|(rival, time)| rival / time).collect());
        println!(
            "{name:<12}{:>8.1} ns{:>10.2} x quick_cache{:>10.2} x moka",
            median(times.clone()),
            beside(&rival),
            beside(&other)
        );
    }
}

/// Prints the throughputs side by side.
pub(crate) fn report() {
    let load = Load::new(EXPONENT);
    let all = cost(16, VALUE_BYTES) * KEYS as u64 * 2;
    for (what, capacity_bytes) in [("every key is in", all), ("a tenth of the keys fits; misses are put", all / 20)] {
        for threads in [1, 2] {
            println!("\ngets, zipf {EXPONENT} over {KEYS} keys, {threads} thread(s), {what}");
            compare(&load, capacity_bytes, threads);
        }
    }
}

/// The same for criterion: its numbers are comparable from one run to the next.
pub(crate) fn bench(criterion: &mut Criterion) {
    let load = Load::new(EXPONENT);
    let capacity_bytes = cost(16, VALUE_BYTES) * KEYS as u64 * 2;
    let mut group = criterion.benchmark_group("get");
    group.throughput(Throughput::Elements(1)).sample_size(20).measurement_time(Duration::from_secs(2));
    for threads in [1, 2] {
        let mut run = |name: &str, time: &dyn Fn(usize) -> Duration| {
            group.bench_function(BenchmarkId::new(name, format!("{threads} threads")), |bencher| {
                bencher.iter_custom(|gets| time(usize::try_from(gets).expect("it fits")));
            });
        };
        for (name, kind) in POLICIES {
            let cache = subjects::ours(kind, capacity_bytes);
            load.fill(&cache);
            run(name, &|gets| load.time(&cache, threads, gets));
        }
        let quick_cache = subjects::quick_cache(capacity_bytes, KEYS * 2);
        load.fill(&quick_cache);
        run("quick_cache", &|gets| load.time(&quick_cache, threads, gets));
        let moka = subjects::moka(capacity_bytes);
        load.fill(&moka);
        run("moka", &|gets| load.time(&moka, threads, gets));
    }
    group.finish();
}
