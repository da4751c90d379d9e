//! The order in which runs become whole tables. A repair without a manifest takes a whole table for all that was written before what
//! it holds, so a run that is complete must not stand beside an earlier one that is not.

use std::io;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::error::Error;

/// Whose turn it is to make tables whole.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Runs whose tables are all written.
    done: usize,
    /// One of them could not be written, and none that follows may be.
    failed: bool,
}

/// That of one run. Unless it ends, none comes after it.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    number: usize,
    ended: bool,
}

impl Turns {
    pub(super) const fn of(&self, number: usize) -> Turn<'_> {
        Turn { turns: self, number, ended: false }
    }
}

impl Turn<'_> {
    /// Waits for the runs before.
    ///
    /// # Errors
    /// When one of them failed.
    pub(super) fn wait(&self, directory: &Path) -> Result<(), Error> {
        let state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        let comes = |state: &mut State| state.done < self.number && !state.failed;
        let state = self.turns.changed.wait_while(state, comes).unwrap_or_else(PoisonError::into_inner);
        if state.done < self.number {
            return Err(Error::io("write", directory, io::Error::other("an earlier part of the log was not written")));
        }
        Ok(())
    }

    /// # Errors
    /// As [`Turn::wait`].
    pub(super) fn end(mut self, directory: &Path) -> Result<(), Error> {
        self.wait(directory)?;
        self.ended = true;
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.ended {
            state.done += 1;
        } else {
            state.failed = true;
        }
        self.turns.changed.notify_all();
    }
}
