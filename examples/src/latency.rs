//! How long requests took, by phase.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::phase::Phase;

/// Longer than any request is tried; what exceeds it counts as this.
const MICROSECONDS_MAX: u64 = 300_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// What a request was.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kind {
    /// A write.
    Put,
    /// A read.
    Get,
}

/// Times from the first attempt of a request to its answer, retries included.
#[derive(Clone)]
pub struct Latencies {
    histograms: [[Histogram<u64>; 2]; Phase::ALL.len()],
}

/// What a histogram comes to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Percentiles {
    /// How many requests.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// All but one of a hundred took no longer.
    pub p99: Duration,
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, MICROSECONDS_MAX, SIGNIFICANT_DIGITS).expect("the bounds are in order");
        Self { histograms: std::array::from_fn(|_| [histogram(), histogram()]) }
    }
}

impl Latencies {
    /// Counts one request in the phase in which it was answered.
    pub fn record(&mut self, phase: Phase, kind: Kind, took: Duration) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.histograms[phase.index()][kind as usize].saturating_record(microseconds.max(1));
    }

    /// Adds what another thread has measured.
    pub fn add(&mut self, other: &Self) {
        for (mine, others) in self.histograms.iter_mut().flatten().zip(other.histograms.iter().flatten()) {
            mine.add(others).expect("all have the same bounds");
        }
    }

    /// What is known of one kind in one phase.
    #[must_use]
    pub fn percentiles(&self, phase: Phase, kind: Kind) -> Percentiles {
        let histogram = &self.histograms[phase.index()][kind as usize];
        let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
        Percentiles { count: histogram.len(), p50: at(0.5), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_one_kind_and_phase() {
        let mut latencies = Latencies::default();
        for microseconds in 1..=1_000 {
            latencies.record(Phase::Before, Kind::Put, Duration::from_micros(microseconds));
        }
        latencies.record(Phase::Before, Kind::Get, Duration::from_secs(1_000_000));
        let mut sum = Latencies::default();
        sum.add(&latencies);
        sum.add(&latencies);
        let puts = sum.percentiles(Phase::Before, Kind::Put);
        assert_eq!((puts.count, puts.p50, puts.p99), (2_000, Duration::from_micros(500), Duration::from_micros(990)));
        assert_eq!(sum.percentiles(Phase::Before, Kind::Get).count, 2);
        assert_eq!(sum.percentiles(Phase::Down, Kind::Put).count, 0);
    }
}
