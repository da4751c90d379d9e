//! What of many files is held open or in memory, and for how long (lesson 50).
//!
//! A file is opened when it is first read, and let go again when there are too many or they take too much: the one that was
//! not read for the longest, as far as a clock with one bit per file can tell (the CLOCK of Corbató 1968). A reader that is
//! inside a file keeps what it uses until it is done.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use crate::held::Held;

/// Where a file keeps what was loaded of it.
pub(crate) struct Slot<T> {
    loaded: ArcSwapOption<T>,
    /// Read since the clock's hand came by. Written only when it changes, so that readers share the line.
    touched: AtomicBool,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { loaded: ArcSwapOption::empty(), touched: AtomicBool::new(false) }
    }
}

impl<T> Slot<T> {
    /// What was loaded, for who does not count as a reader.
    pub(crate) fn peek(&self) -> Option<Held<T>> {
        Held::load(&self.loaded)
    }

    pub(crate) fn get(&self) -> Option<Held<T>> {
        let loaded = self.peek()?;
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        Some(loaded)
    }
}

struct Resident<T> {
    slot: Weak<Slot<T>>,
    bytes: u64,
}

struct Clock<T> {
    /// The hand is at the front.
    residents: VecDeque<Resident<T>>,
    bytes: u64,
}

/// The files of one kind that are loaded.
pub(crate) struct Residents<T> {
    bytes_max: u64,
    files_max: usize,
    clock: Mutex<Clock<T>>,
}

impl<T> Residents<T> {
    /// At most `files_max` are loaded, of at most `bytes_max` together, beside those that somebody is reading at the moment.
    /// The one that was loaded last stays whatever its size.
    pub(crate) const fn new(bytes_max: u64, files_max: usize) -> Self {
        Self { bytes_max, files_max, clock: Mutex::new(Clock { residents: VecDeque::new(), bytes: 0 }) }
    }

    fn clock(&self) -> MutexGuard<'_, Clock<T>> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes are loaded, and of how many files.
    pub(crate) fn loaded(&self) -> (u64, usize) {
        let clock = self.clock();
        (clock.bytes, clock.residents.len())
    }

    /// Keeps what was loaded of a file, and lets others go for it. `share` is told the bytes that are loaded then.
    pub(crate) fn admit(&self, slot: &Arc<Slot<T>>, value: T, bytes: u64, share: impl FnOnce(u64)) -> Held<T> {
        let mut clock = self.clock();
        if let Some(loaded) = slot.get() {
            // Somebody else was faster.
            return loaded;
        }
        let value = Arc::new(value);
        slot.loaded.store(Some(Arc::clone(&value)));
        clock.residents.push_back(Resident { slot: Arc::downgrade(slot), bytes });
        clock.bytes += bytes;
        // Each is met at most twice: with its bit, and without.
        for _ in 0..2 * clock.residents.len() {
            let fits = clock.bytes <= self.bytes_max && clock.residents.len() <= self.files_max;
            if fits || clock.residents.len() == 1 {
                break;
            }
            let Some(first) = clock.residents.pop_front() else { break };
            match first.slot.upgrade() {
                Some(other) if Arc::ptr_eq(&other, slot) || other.touched.swap(false, Ordering::Relaxed) => {
                    clock.residents.push_back(first);
                }
                other => {
                    if let Some(other) = other {
                        other.loaded.store(None);
                    }
                    clock.bytes -= first.bytes;
                }
            }
        }
        share(clock.bytes);
        Held::own(value)
    }

    /// A file is gone. `share` is told the bytes that are loaded then, if that changed them.
    pub(crate) fn forget(&self, slot: &Arc<Slot<T>>, share: impl FnOnce(u64)) {
        if slot.loaded.load().is_none() {
            return;
        }
        let mut clock = self.clock();
        let of_slot = |resident: &Resident<T>| std::ptr::eq(resident.slot.as_ptr(), Arc::as_ptr(slot));
        let at = clock.residents.iter().position(of_slot);
        if let Some(resident) = at.and_then(|at| clock.residents.remove(at)) {
            clock.bytes -= resident.bytes;
            slot.loaded.store(None);
            share(clock.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_read_for_long_goes_first() {
        let residents = Residents::new(100, 3);
        let slots: Vec<Arc<Slot<u32>>> = (0..5).map(|_| Arc::default()).collect();
        let load = |at: u32, bytes| {
            let mut told = None;
            let loaded = residents.admit(&slots[at as usize], at, bytes, |bytes| told = Some(bytes));
            assert_eq!((*loaded, told), (at, Some(residents.loaded().0)));
        };
        let present = || -> Vec<usize> { (0..5).filter(|&at| slots[at].loaded.load().is_some()).collect() };
        (0..3).for_each(|at| load(at, 10));
        assert_eq!(residents.loaded(), (30, 3));
        assert_eq!(*slots[0].get().unwrap(), 0);
        load(3, 10);
        assert_eq!(present(), [0, 2, 3], "one too many: 1 was not read, 0 was");
        let inside = slots[2].get().unwrap().keep();
        load(4, 95);
        assert_eq!((residents.loaded(), present()), ((95, 1), vec![4]), "too large for any other beside it");
        assert_eq!(*inside, 2, "who is inside stays inside");
        load(1, 200);
        assert_eq!(
            (residents.loaded(), present()),
            ((200, 1), vec![1]),
            "the one that is needed is loaded all the same"
        );
        residents.forget(&slots[4], |_| panic!("it was not loaded"));
        residents.forget(&slots[1], |bytes| assert_eq!(bytes, 0));
        assert_eq!((residents.loaded(), present()), ((0, 0), vec![]));
    }

    #[test]
    fn a_file_that_vanished_is_let_go() {
        let residents = Residents::new(100, 1);
        let (first, second) = (Arc::<Slot<u32>>::default(), Arc::<Slot<u32>>::default());
        residents.admit(&first, 1, 10, |_| {});
        drop(first);
        residents.admit(&second, 2, 20, |_| {});
        assert_eq!(residents.loaded(), (20, 1));
    }
}
