//! Work that is done for several at once: one thread does it, and whoever arrives meanwhile shares the next round.
//!
//! 1. Who finds nobody at work leads: it waits a moment for others if there is reason to ([`Group::run`]), begins the round, and
//!    does the work. Nothing is handed to another thread, so one thread alone switches to nobody.
//! 2. Who finds somebody at work sleeps until the next round has ended, which is the first one that begins after its arrival.
//! 3. The end of a round wakes those whose round it was, and one of those who wait for the next, to lead it. Another thread
//!    may come first and lead: then the one that was woken sleeps on, and the end of that round wakes it.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use sync::{Condvar, Mutex, MutexGuard};

#[cfg(loom)]
use loom::sync;
#[cfg(not(loom))]
use std::sync;

#[derive(Default)]
struct State {
    /// Whether somebody leads, be it that the round has not begun.
    is_led: bool,
    /// How many rounds have begun, and how many have ended.
    begun: u64,
    ended: u64,
    /// How many threads the last round was for.
    served: usize,
}

/// The threads that share work.
#[derive(Default)]
pub(crate) struct Group {
    state: Mutex<State>,
    /// Those who wait for rounds with an even and with an odd number: never for more than two different ones.
    rounds: [Condvar; 2],
    /// How many wait for the round that begins next.
    waiting: AtomicUsize,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`, or waits for a round of it that began after the call. Returns what the work came to when this thread did it.
    ///
    /// `is_done` is asked before that, and again whenever this thread was about to lead: a round that has just ended may have
    /// been enough. `gather` is called by the leader before the round begins, outside all locks: with how many threads the
    /// round before was for, and with a way to ask how many this one is for by now.
    pub(crate) fn run<T>(
        &self,
        is_done: impl Fn() -> bool,
        gather: impl FnOnce(usize, &dyn Fn() -> usize),
        work: impl FnOnce() -> T,
    ) -> Option<T> {
        let mut state = self.lock();
        if state.is_led {
            let round = state.begun + 1;
            self.waiting.fetch_add(1, Ordering::Relaxed);
            while state.is_led && state.ended < round {
                state = self.round(round).wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended >= round {
                return None;
            }
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        if is_done() {
            // This one may have been woken to lead the others, who go on waiting for somebody to.
            self.wake_next(state);
            return None;
        }
        state.is_led = true;
        let before = state.served;
        drop(state);
        gather(before, &|| 1 + self.waiting.load(Ordering::Relaxed));
        let mut state = self.lock();
        state.begun += 1;
        state.served = 1 + self.waiting.swap(0, Ordering::Relaxed);
        let round = state.begun;
        drop(state);
        let lead = Lead { group: self, round };
        let result = work();
        drop(lead);
        Some(result)
    }

    /// Wakes one of those who wait for the round that begins next.
    fn wake_next(&self, state: MutexGuard<'_, State>) {
        let next = state.begun + 1;
        let is_needed = !state.is_led && self.waiting.load(Ordering::Relaxed) > 0;
        drop(state);
        if is_needed {
            self.round(next).notify_one();
        }
    }

    fn round(&self, number: u64) -> &Condvar {
        &self.rounds[usize::from(number % 2 == 1)]
    }
}

/// Ends the round, also when the work panics: nobody may wait for ever.
struct Lead<'a> {
    group: &'a Group,
    round: u64,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut state = self.group.lock();
        state.is_led = false;
        state.ended = self.round;
        if state.served > 1 {
            self.group.round(self.round).notify_all();
        }
        self.group.wake_next(state);
    }
}

#[cfg(all(test, loom))]
mod interleavings;
#[cfg(all(test, not(loom)))]
mod tests;
