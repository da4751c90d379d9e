//! How far long work has come, on standard error while that is a terminal.

use std::cell::Cell;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const DRAWS_PER_SECOND: u8 = 10;

pub(super) struct Bar {
    bar: ProgressBar,
    /// What was done before the position that is told.
    before: Cell<u64>,
}

impl Bar {
    pub(super) fn bytes() -> Self {
        Self::new("{bar:40} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left")
    }

    pub(super) fn entries() -> Self {
        Self::new("{bar:40} {human_pos} of {human_len} entries, {eta} left")
    }

    fn new(template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
        bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
        Self { bar, before: Cell::new(0) }
    }

    pub(super) fn begin(&self, total: u64) {
        self.bar.set_length(total);
    }

    /// What comes next is counted from here.
    pub(super) fn skip(&self, done: u64) {
        self.before.set(done);
    }

    pub(super) fn reach(&self, done: u64) {
        let position = self.before.get().saturating_add(done);
        // What comes through a pipe has no length that is known before.
        if self.bar.length().is_some_and(|length| length < position) {
            self.bar.set_length(position);
        }
        self.bar.set_position(position);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
