//! What the engine counts, for [`Metrics`](crate::Metrics). Counting must not slow down what is counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::blob::meta::BlobMeta;
use crate::error::Error;

/// Counters of writes and background work: few per batch, or per job.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) batch_bytes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) flush_bytes: AtomicU64,
    pub(crate) flush_time: Distribution,
    pub(crate) compactions: AtomicU64,
    pub(crate) compaction_read_bytes: AtomicU64,
    pub(crate) compaction_written_bytes: AtomicU64,
    pub(crate) compaction_time: Distribution,
    pub(crate) moved_tables: AtomicU64,
    pub(crate) dropped_tables: AtomicU64,
    pub(crate) blob_written_bytes: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) stall_time: Distribution,
    pub(crate) recycled_segments: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(crate) reads: ReadCounters,
}

impl Counters {
    pub(crate) fn count_transaction(&self, result: &Result<u64, Error>) {
        let counter = match result {
            Ok(_) => &self.transactions,
            Err(Error::Conflict { .. }) => &self.conflicts,
            Err(_) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_blobs(&self, blobs: &[BlobMeta]) {
        self.blob_written_bytes.fetch_add(blobs.iter().map(|blob| blob.bytes).sum(), Ordering::Relaxed);
    }
}

/// Values, counted by their powers of two.
#[derive(Default)]
pub(crate) struct Distribution {
    buckets: [AtomicU64; Histogram::BUCKETS],
    sum: AtomicU64,
}

impl Distribution {
    pub(crate) fn add(&self, value: u64) {
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.buckets[Histogram::bucket(value)].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds microseconds.
    pub(crate) fn add_time(&self, duration: Duration) {
        self.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    pub(crate) fn histogram(&self) -> Histogram {
        let counts = std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed));
        Histogram { counts, sum: self.sum() }
    }
}

/// How often which magnitude was met, by powers of two.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub struct Histogram {
    /// In bucket 0 what was 0, in bucket *i* what was at least 2<sup>i - 1</sup> and less than 2<sup>i</sup>; in the last one all
    /// that was more.
    pub counts: [u64; Histogram::BUCKETS],
    /// All values added up.
    pub sum: u64,
}

impl Histogram {
    /// How many buckets there are. The last one begins at 2<sup>26</sup>: 67 s in microseconds.
    pub const BUCKETS: usize = 28;

    fn bucket(value: u64) -> usize {
        ((u64::BITS - value.leading_zeros()) as usize).min(Self::BUCKETS - 1)
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// A value that so many in a hundred do not exceed: the upper end of their bucket. Zero when there are none.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> u64 {
        let wanted = (self.count() * percent).div_ceil(100);
        let mut seen = 0;
        let at = self.counts.iter().position(|&count| {
            seen += count;
            seen >= wanted && count > 0
        });
        at.map_or(0, |at| (1_u64 << at) - 1)
    }
}

/// So many threads, the first of the process, each have a stripe that nobody else writes to …
const OWN_STRIPES: usize = 16;
/// … and all others share these.
const SHARED_STRIPES: usize = 16;

/// Where point reads found what they looked for, and what it took.
#[derive(Copy, Clone, Eq, PartialEq, Default, Debug)]
pub(crate) struct ReadTally {
    pub(crate) memtable: u64,
    pub(crate) level0: u64,
    pub(crate) deeper: u64,
    pub(crate) nowhere: u64,
    pub(crate) filter_checks: u64,
    pub(crate) filter_negatives: u64,
    pub(crate) cache_hits: u64,
    pub(crate) cache_misses: u64,
}

const TALLIES: usize = 8;

impl ReadTally {
    const fn parts(&self) -> [u64; TALLIES] {
        let Self { memtable, level0, deeper, nowhere, filter_checks, filter_negatives, cache_hits, cache_misses } =
            *self;
        [memtable, level0, deeper, nowhere, filter_checks, filter_negatives, cache_hits, cache_misses]
    }
}

impl ReadTally {
    /// How many keys were looked for.
    pub(crate) const fn keys(&self) -> u64 {
        self.memtable + self.level0 + self.deeper + self.nowhere
    }
}

/// One cache line.
#[repr(align(64))]
#[derive(Default)]
struct Stripe([AtomicU64; TALLIES]);

/// Counters of point reads. A thread touches one line for each read, and pays for atomic additions only where it must.
#[derive(Default)]
pub(crate) struct ReadCounters {
    own: [Stripe; OWN_STRIPES],
    shared: [Stripe; SHARED_STRIPES],
}

impl ReadCounters {
    pub(crate) fn add(&self, tally: &ReadTally) {
        let thread = thread_number();
        if let Some(stripe) = self.own.get(thread) {
            for (counter, more) in stripe.0.iter().zip(tally.parts()) {
                // Nobody else writes here.
                counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            }
            return;
        }
        for (counter, more) in self.shared[thread % SHARED_STRIPES].0.iter().zip(tally.parts()) {
            if more > 0 {
                counter.fetch_add(more, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn total(&self) -> ReadTally {
        let stripes = || self.own.iter().chain(&self.shared);
        let sum = |at: usize| stripes().map(|stripe| stripe.0[at].load(Ordering::Relaxed)).sum();
        let [memtable, level0, deeper, nowhere, filter_checks, filter_negatives, cache_hits, cache_misses] =
            std::array::from_fn(sum);
        ReadTally { memtable, level0, deeper, nowhere, filter_checks, filter_negatives, cache_hits, cache_misses }
    }
}

/// A number that no other thread has or had.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_tells_magnitudes() {
        let times = Distribution::default();
        assert_eq!(times.histogram().percentile(99), 0);
        for microseconds in [0, 1, 3, 100, 100, 100, 5_000_000, 900_000_000] {
            times.add_time(Duration::from_micros(microseconds));
        }
        let histogram = times.histogram();
        assert_eq!(histogram.count(), 8);
        assert_eq!(histogram.percentile(50), 127, "100 lies between 64 and 127");
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.counts[2]), (1, 1, 1));
        assert_eq!(histogram.counts[Histogram::BUCKETS - 1], 1, "what is more than the last bucket is in it");
        assert_eq!(times.sum(), 905_000_304);
    }

    #[test]
    fn reads_of_all_threads_are_counted() {
        let counters = ReadCounters::default();
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| counters.add(&ReadTally { memtable: 1, cache_hits: 3, ..ReadTally::default() }));
            }
        });
        assert_eq!(counters.total(), ReadTally { memtable: 40, cache_hits: 120, ..ReadTally::default() });
    }
}
