//! Overwrites random keys until that changes nothing any more: compaction keeps up, and costs the same all the time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::data::Values;
use crate::drive::{Done, Job, ScanLength, histogram, run};
use crate::engine::{Engine, Failure};
use crate::ledger::Ledger;
use crate::measure::Usage;
use crate::stream::{Kind, random, replay, uniform};

/// One point of the series.
const WINDOW: Duration = Duration::from_secs(1);

/// A run is steady when its last three blocks differ by no more than this from their mean.
const STEADY_PERCENT: f64 = 10.0;
/// Blocks are a sixth of the run, and at least so many windows, so that several compactions lie in each.
const BLOCK_WINDOWS_MIN: usize = 5;
/// Before, each key must have been overwritten so many times on average.
const TURNS_MIN: f64 = 2.0;

pub(crate) struct Run<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) values: Values,
    pub(crate) seed: u64,
    pub(crate) time_max: Duration,
    /// A file beside the database for plain writes.
    pub(crate) probe: &'a Path,
}

struct Window {
    seed: u64,
    drawn: u64,
    base: u32,
    operations: u64,
    time: Duration,
    usage: Usage,
}

pub(crate) struct Outcome {
    windows: Vec<Window>,
    numbers: u32,
    latencies: Histogram<u64>,
    /// The longest that a plain write took beside it.
    pub(crate) probe_max: Duration,
}

impl Run<'_> {
    pub(crate) fn overwrite(&self, ledger: &Ledger) -> Result<Outcome, Failure> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let probe = scope.spawn(|| probe(self.probe, &stop));
            let outcome = self.windows(ledger);
            stop.store(true, Ordering::Relaxed);
            let probe_max = probe.join().expect("the probe does not panic")?;
            Ok(Outcome { probe_max, ..outcome? })
        })
    }

    fn windows(&self, ledger: &Ledger) -> Result<Outcome, Failure> {
        let numbers = ledger.numbers();
        let mut outcome = Outcome { windows: Vec::new(), numbers, latencies: histogram(), probe_max: Duration::ZERO };
        let begin = Instant::now();
        let mut base = ledger.last_generation();
        let mut drawn = 200_000;
        while begin.elapsed() < self.time_max && !outcome.is_steady() {
            let seed = self.seed.wrapping_add(outcome.windows.len() as u64);
            let streams = [uniform(Kind::Put, drawn, numbers, &mut random(seed)).into()];
            let job = Job {
                engine: self.engine,
                values: self.values,
                base,
                numbers,
                batch: 1,
                scan: ScanLength::Exactly(1),
                time_max: WINDOW,
            };
            let before = Usage::now()?;
            let done = run(job, &streams)?.pop().ok_or("a run of one stream has one outcome")?;
            let usage = Usage::now()?.since(before);
            let Done { operations, time, latencies } = done;
            outcome.latencies.add(&latencies)?;
            outcome.windows.push(Window { seed, drawn, base, operations, time, usage });
            base += u32::try_from(operations)?;
            // Twice as many as a window needed, so that the clock ends it.
            drawn = (operations * 2).max(drawn);
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// The last half of the windows, in three blocks.
    fn blocks(&self) -> Option<[&[Window]; 3]> {
        let length = self.windows.len() / 6;
        if length < BLOCK_WINDOWS_MIN {
            return None;
        }
        let (_, last) = self.windows.split_at(self.windows.len() - 3 * length);
        let (first, rest) = last.split_at(length);
        let (second, third) = rest.split_at(length);
        Some([first, second, third])
    }

    pub(crate) fn is_steady(&self) -> bool {
        let operations: u64 = self.windows.iter().map(|window| window.operations).sum();
        let turned = operations as f64 >= TURNS_MIN * f64::from(self.numbers);
        turned
            && self.blocks().is_some_and(|blocks| {
                alike(blocks.map(per_second)) && alike(blocks.map(|block| written(block) as f64 / count(block) as f64))
            })
    }

    /// The windows that count: the last half of a run.
    fn last(&self) -> &[Window] {
        self.windows.split_at(self.windows.len() / 2).1
    }

    /// Throughput of the last half, latencies of all.
    pub(crate) fn steady(&self) -> Done {
        let time = self.last().iter().map(|window| window.time).sum();
        Done { operations: count(self.last()), time, latencies: self.latencies.clone() }
    }

    pub(crate) fn steady_written_bytes(&self) -> u64 {
        written(self.last())
    }

    /// Processor time for each write of the last half, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        let time: Duration = self.last().iter().map(|window| window.usage.processor).sum();
        time.as_secs_f64() * 1e6 / count(self.last()) as f64
    }

    /// Operations per second of every window.
    pub(crate) fn series(&self) -> Vec<f64> {
        self.windows.iter().map(|window| window.operations as f64 / window.time.as_secs_f64()).collect()
    }

    pub(crate) fn replay(&self, ledger: &mut Ledger) {
        for window in &self.windows {
            let ops = uniform(Kind::Put, window.drawn, self.numbers, &mut random(window.seed));
            replay(&ops, window.operations, window.base, ledger);
        }
    }
}

fn count(windows: &[Window]) -> u64 {
    windows.iter().map(|window| window.operations).sum()
}

fn written(windows: &[Window]) -> u64 {
    windows.iter().map(|window| window.usage.written_bytes).sum()
}

fn per_second(windows: &[Window]) -> f64 {
    count(windows) as f64 / windows.iter().map(|window| window.time.as_secs_f64()).sum::<f64>()
}

fn alike(three: [f64; 3]) -> bool {
    let mean = three.iter().sum::<f64>() / 3.0;
    three.iter().all(|one| (one - mean).abs() <= mean * STEADY_PERCENT / 100.0)
}

/// Writes 4 KiB every ten milliseconds, over and over in a small file, and returns the longest that it took: stalls that it
/// sees too are the machine's.
fn probe(path: &Path, stop: &AtomicBool) -> io::Result<Duration> {
    const BLOCK: usize = 4096;
    const BLOCKS: u64 = 1024;
    let file = File::create(path)?;
    let mut longest = Duration::ZERO;
    for block in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begin = Instant::now();
        file.write_all_at(&[0x55; BLOCK], block % BLOCKS * BLOCK as u64)?;
        longest = longest.max(begin.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(numbers: u32, counts: &[u64]) -> Outcome {
        let window = |operations: &u64| Window {
            seed: 0,
            drawn: 0,
            base: 0,
            operations: *operations,
            time: WINDOW,
            usage: Usage { processor: WINDOW, written_bytes: operations * 300 },
        };
        Outcome {
            windows: counts.iter().map(window).collect(),
            numbers,
            latencies: histogram(),
            probe_max: Duration::ZERO,
        }
    }

    #[test]
    fn a_run_is_steady_when_its_last_half_is_and_all_was_overwritten() {
        let falling: Vec<u64> = (0..60).map(|second| 1000 - 10 * second).collect();
        assert!(!outcome(10, &falling).is_steady());
        let level = [[900; 30], [500; 30]].concat();
        assert!(outcome(10, &level).is_steady());
        assert_eq!(outcome(10, &level).steady().operations, 15_000);
        assert!(!outcome(100_000, &level).is_steady(), "not all was overwritten");
        assert!(!outcome(10, &level[..20]).is_steady(), "too short");
        let saw: Vec<u64> = (0..60).map(|second| if second % 10 < 5 { 300 } else { 700 }).collect();
        assert!(outcome(10, &saw).is_steady(), "waves shorter than a block");
    }
}
