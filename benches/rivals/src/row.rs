//! What is written down: one line of JSON for each thing.

use serde::{Deserialize, Serialize};

use crate::engine::Name;
use crate::measure::Memory;

/// Latencies in microseconds.
#[derive(Copy, Clone, Default, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// One workload of one engine in one round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) engine: Name,
    pub(crate) workload: String,
    pub(crate) round: u32,
    /// Operations that were counted; of a scan, entries.
    pub(crate) operations: u64,
    /// From the first to the last of them, without what the background still did.
    pub(crate) seconds: f64,
    /// Of each operation, batch or reopening; of scans of everything there are none.
    pub(crate) latency: Option<Latency>,
    /// Processor time of the whole process for each operation, until the background was at rest.
    pub(crate) cpu_us: f64,
    pub(crate) memory: Memory,
    /// How much of that memory is the bench's own: what is to be done, and what must be there.
    pub(crate) bench_bytes: u64,
    /// Bytes of keys and values that were handed to the engine.
    pub(crate) user_bytes: u64,
    /// Bytes that it wrote, until the background was at rest.
    pub(crate) written_bytes: u64,
    /// What its files take afterwards.
    pub(crate) disk_bytes: u64,
    /// How long the background went on; nothing when the workload leaves it nothing to do.
    pub(crate) settle_seconds: Option<f64>,
    /// Whether it came to its end in time, or, in a long run, to a steady state.
    pub(crate) settled: bool,
    /// Ended by the clock before all operations were done.
    pub(crate) cut: bool,
    /// Of writes that were acknowledged before a kill, how many were gone.
    pub(crate) lost: u64,
    /// Of a long run: operations per second, second by second.
    pub(crate) series: Vec<f64>,
    /// Of a long run: the longest that a plain write of 4 KiB beside it took, in milliseconds.
    pub(crate) probe_max_ms: Option<f64>,
}

impl Row {
    pub(crate) fn per_second(&self) -> f64 {
        self.operations as f64 / self.seconds
    }

    /// With the time that the background needed to catch up.
    pub(crate) fn per_second_with_debt(&self) -> f64 {
        self.operations as f64 / (self.seconds + self.settle_seconds.unwrap_or(0.0))
    }

    /// The most that was resident, without what is the bench's own.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.memory.peak_bytes.saturating_sub(self.bench_bytes)
    }

    pub(crate) fn write_amplification(&self) -> Option<f64> {
        (self.user_bytes > 0).then(|| self.written_bytes as f64 / self.user_bytes as f64)
    }
}

/// What a process tells the one that started it, and what the file of results is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Line {
    /// What was run, and on what. The first line.
    Run(Run),
    /// How an engine was opened.
    Options {
        engine: Name,
        group: String,
        options: String,
    },
    /// What came of killing a process that wrote without syncs.
    Kill {
        engine: Name,
        acknowledged: u64,
        lost: u64,
    },
    /// A process has begun with something; not kept.
    Phase {
        what: String,
    },
    Row(Box<Row>),
    /// An answer was wrong, or the engine failed.
    Failed {
        engine: Name,
        what: String,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) keys: u32,
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    pub(crate) machine: String,
    pub(crate) versions: Vec<(Name, String)>,
}
