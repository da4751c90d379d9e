//! The parts of a run, and what its threads tell each other about them.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A part of a run.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum Phase {
    /// All nodes serve.
    Before,
    /// One is dead, or has not come as far as serving yet.
    Down,
    /// It serves again.
    After,
    /// Nothing is written any more; everything is read.
    ReadBack,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 4] = [Self::Before, Self::Down, Self::After, Self::ReadBack];

    /// Its place in [`Phase::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Before => "before the kill",
            Self::Down => "one node down",
            Self::After => "back again",
            Self::ReadBack => "reading back",
        })
    }
}

/// Where a run stands.
pub struct Progress {
    phase: AtomicU8,
    began: Mutex<[Option<Instant>; Phase::ALL.len()]>,
    acknowledged: AtomicU64,
    acknowledged_while_down: AtomicU64,
}

impl Progress {
    /// The first phase begins.
    #[must_use]
    pub fn begin() -> Self {
        let progress = Self {
            phase: AtomicU8::default(),
            began: Mutex::default(),
            acknowledged: AtomicU64::default(),
            acknowledged_while_down: AtomicU64::default(),
        };
        progress.enter(Phase::Before);
        progress
    }

    /// The part that is under way.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    /// Another part begins.
    pub fn enter(&self, phase: Phase) {
        let mut began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        began[phase.index()] = Some(Instant::now());
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// How long each part took; zero for those that were left out. The last ends now.
    #[must_use]
    pub fn took(&self) -> [Duration; Phase::ALL.len()] {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let mut end = Instant::now();
        let mut took = [Duration::ZERO; Phase::ALL.len()];
        for (took, began) in took.iter_mut().zip(began.iter()).rev() {
            if let Some(began) = *began {
                *took = end - began;
                end = began;
            }
        }
        took
    }

    /// A write that began in phase `began` was acknowledged.
    pub fn acknowledge(&self, began: Phase) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        if began == Phase::Down && self.phase() == Phase::Down {
            self.acknowledged_while_down.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Those of them that began and ended while a node was down.
    #[must_use]
    pub fn acknowledged_while_down(&self) -> u64 {
        self.acknowledged_while_down.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_counts_as_made_without_the_node_only_if_it_began_and_ended_so() {
        let progress = Progress::begin();
        progress.acknowledge(Phase::Before);
        progress.enter(Phase::Down);
        progress.acknowledge(Phase::Before);
        progress.acknowledge(Phase::Down);
        progress.enter(Phase::After);
        progress.acknowledge(Phase::Down);
        assert_eq!((progress.acknowledged(), progress.acknowledged_while_down()), (4, 1));
    }

    #[test]
    fn a_part_that_is_left_out_takes_no_time() {
        let progress = Progress::begin();
        std::thread::sleep(Duration::from_millis(2));
        progress.enter(Phase::ReadBack);
        let [before, down, after, _] = progress.took();
        assert!(before >= Duration::from_millis(2));
        assert_eq!((down, after), (Duration::ZERO, Duration::ZERO));
    }
}
