//! The wall clock of every database that the battery opens on this thread. It stands still until it is told to go on.

use std::cell::Cell;

use kv_core::time::Millis;

/// What it shows when a case begins.
pub const START: Millis = Millis(1);

thread_local! {
    static NOW: Cell<Millis> = const { Cell::new(START) };
}

/// The time.
#[must_use]
pub fn now() -> Millis {
    NOW.get()
}

/// Sets the time.
pub fn set(now: Millis) {
    NOW.set(now);
}

/// Lets so much time pass.
pub fn advance(span: Millis) {
    NOW.set(now().saturating_add(span));
}
