//! The interleavings of threads that share work, up to a number of preemptions, under the model checker loom:
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test --release -p kv-lsm --lib interleavings
//! ```

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use loom::thread;

use super::*;

const PREEMPTIONS: usize = 3;

/// A log that nothing is written to.
#[derive(Default)]
struct Log {
    group: Group,
    appended: AtomicU64,
    durable: AtomicU64,
    /// How many sync at this moment.
    syncing: AtomicUsize,
    syncs: AtomicU64,
}

impl Log {
    /// Appends, and returns once that is durable.
    fn write(&self) {
        let number = self.appended.fetch_add(1, Ordering::AcqRel) + 1;
        let is_durable = || self.durable.load(Ordering::Acquire) >= number;
        while !is_durable() {
            self.group.run(is_durable, |_, _| {}, || self.sync());
        }
    }

    fn sync(&self) {
        assert_eq!(self.syncing.fetch_add(1, Ordering::AcqRel), 0, "one at a time");
        let through = self.appended.load(Ordering::Acquire);
        thread::yield_now();
        assert!(self.durable.swap(through, Ordering::AcqRel) <= through, "never back");
        self.syncs.fetch_add(1, Ordering::AcqRel);
        self.syncing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Loom tells when a thread sleeps for ever.
fn check(threads: usize, writes: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(move || {
        let log = Arc::new(Log::default());
        let spawn = || {
            let log = Arc::clone(&log);
            thread::spawn(move || (0..writes).for_each(|_| log.write()))
        };
        let others: Vec<_> = (1..threads).map(|_| spawn()).collect();
        (0..writes).for_each(|_| log.write());
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(log.durable.load(Ordering::Acquire), (threads * writes) as u64);
        assert!(log.syncs.load(Ordering::Acquire) <= (threads * writes) as u64, "nobody syncs what is durable");
    });
}

#[test]
fn two_threads_write_twice() {
    check(2, 2);
}

#[test]
fn three_threads_write() {
    check(3, 1);
}
