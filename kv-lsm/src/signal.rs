//! Waiting for something that others do.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Counts how often it was raised, so that whoever read the count before looking for work cannot miss what came since.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    generation: u64,
    /// Nobody is woken, at the cost of a system call, when nobody sleeps.
    sleepers: usize,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often it was raised.
    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    pub(crate) fn raise(&self) {
        let mut state = self.lock();
        state.generation += 1;
        let sleepers = state.sleepers;
        drop(state);
        if sleepers > 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until the signal is raised after `seen` was read, or for so long.
    pub(crate) fn wait(&self, seen: u64, at_most: Duration) {
        let mut state = self.lock();
        if state.generation == seen {
            state.sleepers += 1;
            let woken = self.changed.wait_timeout_while(state, at_most, |now| now.generation == seen);
            woken.unwrap_or_else(PoisonError::into_inner).0.sleepers -= 1;
        }
    }
}
