//! The atomics of what readers walk without a lock: those of the standard library, or, in a model check, those of loom.

#[cfg(loom)]
pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
/// Tells the processor, or the model, that only another thread can end a loop.
#[cfg(loom)]
pub(super) use loom::thread::yield_now as spin_loop;
#[cfg(not(loom))]
pub(super) use std::hint::spin_loop;
#[cfg(not(loom))]
pub(super) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};
