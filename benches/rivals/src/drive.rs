//! Runs streams against an engine, one thread each, and checks every answer.

use std::ops::ControlFlow;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::data::{KEY_BYTES, Key, Values, WrongValue, key_of, missing_key, prefix_range};
use crate::engine::{Direction, Engine, Failure};
use crate::stream::{Kind, Op, Stream};

/// Why a run stops.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriveError {
    #[error("wrong answer: {0}")]
    Wrong(String),
    #[error("the engine failed: {0}")]
    Engine(#[from] Failure),
}

impl From<WrongValue> for DriveError {
    fn from(wrong: WrongValue) -> Self {
        Self::Wrong(wrong.to_string())
    }
}

fn wrong<T>(what: String) -> Result<T, DriveError> {
    Err(DriveError::Wrong(what))
}

/// How many entries a scan reads.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum ScanLength {
    Exactly(u32),
    /// From one to so many, as the number of the operation has it.
    UpTo(u32),
}

impl ScanLength {
    fn of(self, index: u64) -> u32 {
        match self {
            Self::Exactly(entries) => entries,
            // A step that has no divisor in common with any usual length.
            Self::UpTo(most) => 1 + (index.wrapping_mul(7919) % u64::from(most)) as u32,
        }
    }
}

/// What is the same for all threads of a run.
#[derive(Copy, Clone)]
pub(crate) struct Job<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) values: Values,
    /// The last generation before this run.
    pub(crate) base: u32,
    /// Keys below this number are all there, at the beginning.
    pub(crate) numbers: u32,
    /// Puts that are written together.
    pub(crate) batch: usize,
    pub(crate) scan: ScanLength,
    /// After this time a thread ends even if its stream does not.
    pub(crate) time_max: Duration,
}

/// What one thread has done.
pub(crate) struct Done {
    pub(crate) operations: u64,
    /// From the first operation to the end of the last.
    pub(crate) time: Duration,
    /// Of each operation, or each batch, in nanoseconds.
    pub(crate) latencies: Histogram<u64>,
}

/// Latencies from a nanosecond to an hour, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are in order")
}

/// Runs all streams at the same time. What each has done comes back in their order.
pub(crate) fn run(job: Job<'_>, streams: &[Stream]) -> Result<Vec<Done>, DriveError> {
    let start = Barrier::new(streams.len());
    let stop = AtomicBool::new(false);
    let counted = AtomicUsize::new(streams.iter().filter(|stream| !stream.beside).count());
    std::thread::scope(|scope| {
        let spawn = |stream| {
            let (start, stop, counted) = (&start, &stop, &counted);
            scope.spawn(move || {
                start.wait();
                let done = Driver::new(job).run(stream, stop);
                if done.is_err() || !stream.beside && counted.fetch_sub(1, Ordering::Relaxed) == 1 {
                    stop.store(true, Ordering::Relaxed);
                }
                done
            })
        };
        let threads: Vec<_> = streams.iter().map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a driving thread does not panic")).collect()
    })
}

struct Driver<'a> {
    job: Job<'a>,
    numbers: u32,
    value: Vec<u8>,
    batch: Vec<(Key, Vec<u8>)>,
}

impl<'a> Driver<'a> {
    fn new(job: Job<'a>) -> Self {
        Self { job, numbers: job.numbers, value: Vec::new(), batch: vec![([0; KEY_BYTES], Vec::new()); job.batch] }
    }

    /// The clock is read once for each operation: the end of one is the beginning of the next, so what the driver itself takes
    /// is in the latency, and is the same for all engines.
    fn run(&mut self, stream: &Stream, stop: &AtomicBool) -> Result<Done, DriveError> {
        let mut latencies = histogram();
        let begin = Instant::now();
        let mut last = begin;
        let mut operations = 0u64;
        'turns: loop {
            for ops in stream.ops.chunks(self.job.batch) {
                if stop.load(Ordering::Relaxed) || last - begin >= self.job.time_max {
                    break 'turns;
                }
                match ops {
                    [op] => self.one(*op, operations)?,
                    several => self.together(several, operations)?,
                }
                operations += ops.len() as u64;
                let now = Instant::now();
                latencies.saturating_record(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
                last = now;
            }
            if !stream.beside {
                break;
            }
        }
        Ok(Done { operations, time: last - begin, latencies })
    }

    fn generation(&self, index: u64) -> u32 {
        self.job.base + 1 + u32::try_from(index).expect("fewer operations than generations")
    }

    fn one(&mut self, op: Op, index: u64) -> Result<(), DriveError> {
        let number = op.number();
        match op.kind() {
            Kind::Get => self.get(number),
            Kind::Miss => self.miss(number),
            Kind::Put => self.put(number, index),
            Kind::Delete => Ok(self.job.engine.delete(&key_of(number))?),
            Kind::Scan => {
                let most = self.job.scan.of(index);
                self.scan(number, None, most.min(self.numbers - number))
            }
            Kind::PrefixScan => {
                let (first, end) = prefix_range(number);
                let first = crate::data::number_of(&first).expect("a range begins with a key");
                let most = crate::data::number_of(&end).expect("a range ends with a key").min(self.numbers);
                self.scan(first, Some(&end), most - first)
            }
            Kind::Modify => {
                self.get(number)?;
                self.put(number, index)
            }
        }
    }

    fn put(&mut self, number: u32, index: u64) -> Result<(), DriveError> {
        self.job.values.fill(number, self.generation(index), &mut self.value);
        self.job.engine.put(&key_of(number), &self.value)?;
        self.numbers = self.numbers.max(number + 1);
        Ok(())
    }

    /// Only puts come in batches.
    fn together(&mut self, ops: &[Op], index: u64) -> Result<(), DriveError> {
        for ((op, index), entry) in ops.iter().zip(index..).zip(&mut self.batch) {
            assert_eq!(op.kind(), Kind::Put, "only puts are batched");
            entry.0 = key_of(op.number());
            self.job.values.fill(
                op.number(),
                self.job.base + 1 + u32::try_from(index).expect("as above"),
                &mut entry.1,
            );
        }
        Ok(self.job.engine.put_all(&self.batch[..ops.len()])?)
    }

    fn get(&self, number: u32) -> Result<(), DriveError> {
        let mut checked = Ok(0);
        let found =
            self.job.engine.get(&key_of(number), &mut |value| checked = self.job.values.check(number, value))?;
        checked?;
        if found { Ok(()) } else { wrong(format!("key {number} was not found")) }
    }

    fn miss(&self, number: u32) -> Result<(), DriveError> {
        let found = self.job.engine.get(&missing_key(number), &mut |_| {})?;
        if found { wrong(format!("a key after {number} was found that was never written")) } else { Ok(()) }
    }

    /// Reads exactly `count` entries, those of the numbers from `first` on, and to the end when there is one.
    fn scan(&self, first: u32, end: Option<&Key>, count: u32) -> Result<(), DriveError> {
        let mut seen = 0;
        let mut failed = Ok(());
        self.job.engine.scan(&key_of(first), end.map(|end| &end[..]), Direction::Forward, &mut |key, value| {
            failed = check_entry(self.job.values, first + seen, key, value);
            seen += 1;
            let go_on = failed.is_ok() && (seen < count || end.is_some());
            if go_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed?;
        if seen == count { Ok(()) } else { wrong(format!("a scan from {first} on gave {seen} entries, not {count}")) }
    }
}

/// Checks one entry of a scan quickly: the whole value's ends, and of the key what tells it from its neighbours.
fn check_entry(values: Values, number: u32, key: &[u8], value: &[u8]) -> Result<(), DriveError> {
    values.check(number, value)?;
    if key == key_of(number) {
        Ok(())
    } else {
        wrong(format!("a scan gave the key {} in place of {number}", String::from_utf8_lossy(key)))
    }
}

/// Reads everything once, and checks that it is all the numbers in order.
pub(crate) fn full_scan(job: &Job<'_>, direction: Direction) -> Result<u64, DriveError> {
    let mut seen = 0;
    let mut failed = Ok(());
    job.engine.scan(&[], None, direction, &mut |key, value| {
        let number = match direction {
            Direction::Forward => Some(seen),
            Direction::Backward => job.numbers.checked_sub(seen + 1),
        };
        failed = match number {
            Some(number) => check_entry(job.values, number, key, value),
            None => wrong("a scan went on before the first key".to_owned()),
        };
        seen += 1;
        if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    failed?;
    let all = job.numbers;
    if seen == all { Ok(u64::from(seen)) } else { wrong(format!("a full scan gave {seen} entries, not {all}")) }
}

#[cfg(test)]
mod tests;
