//! Which tables have their file open and their index and filter in memory, and for how long (lesson 50).
//!
//! They are loaded when a table is first read, charged to the memory of the block cache, and let go again when they are too
//! much: the one that was not read for the longest, as far as a clock with one bit per table can tell (the CLOCK of Corbató
//! 1968). Handles of tables stay; a reader that is inside a table keeps what it uses until it is done.
//!
//! The one table that is being read is loaded even when its index alone is over the limit, so tables should be small against
//! the memory: an index has an entry of a key and 24 bytes for each block, a filter ten bits for each key.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::{ArcSwapOption, Guard};

use super::reader::Opened;
use crate::cache::BlockCache;

/// What a loaded table costs beside its index and filter: file, handles, bookkeeping.
const TABLE_BYTES: u64 = 512;

/// Where a table keeps what it has loaded.
#[derive(Default)]
pub(super) struct Slot {
    opened: ArcSwapOption<Opened>,
    /// Read since the clock's hand came by. Written only when it changes, so that readers share the line.
    touched: AtomicBool,
}

/// What a table has loaded, for as long as it is looked at. Costs no reference count that others share.
pub(super) struct Loaded(Guard<Option<Arc<Opened>>>);

impl Deref for Loaded {
    type Target = Opened;

    fn deref(&self) -> &Opened {
        self.0.as_deref().expect("only what is loaded is handed out")
    }
}

impl Loaded {
    /// Keeps it for longer.
    pub(super) fn keep(&self) -> Arc<Opened> {
        self.0.as_ref().map(Arc::clone).expect("only what is loaded is handed out")
    }
}

impl Slot {
    pub(super) fn get(&self) -> Option<Loaded> {
        let opened = self.opened.load();
        opened.as_ref()?;
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        Some(Loaded(opened))
    }
}

struct Resident {
    slot: Weak<Slot>,
    bytes: u64,
}

#[derive(Default)]
struct Residents {
    /// The hand is at the front.
    clock: VecDeque<Resident>,
    bytes: u64,
}

/// The memory for tables: blocks, indexes and filters together stay below one limit.
pub(crate) struct TableMemory {
    pub(crate) blocks: BlockCache,
    bytes_max: u64,
    tables_max: usize,
    residents: Mutex<Residents>,
}

impl TableMemory {
    /// Indexes and filters may take half of `bytes_max`; blocks have what they leave. At most `tables_max` files are open,
    /// beside those that somebody is reading at the moment.
    pub(crate) fn new(bytes_max: u64, tables_max: usize) -> Self {
        let residents = Mutex::new(Residents::default());
        Self { blocks: BlockCache::new(bytes_max), bytes_max, tables_max, residents }
    }

    fn residents(&self) -> std::sync::MutexGuard<'_, Residents> {
        self.residents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of indexes and filters, and how many tables they belong to.
    pub(crate) fn loaded(&self) -> (u64, usize) {
        let residents = self.residents();
        (residents.bytes, residents.clock.len())
    }

    /// Keeps what was loaded for a table, and lets others go for it.
    pub(super) fn admit(&self, slot: &Arc<Slot>, opened: Opened) -> Loaded {
        let mut residents = self.residents();
        if let Some(loaded) = slot.get() {
            // Somebody else was faster.
            return loaded;
        }
        let bytes = opened.bytes() + TABLE_BYTES;
        let opened = Arc::new(opened);
        slot.opened.store(Some(Arc::clone(&opened)));
        residents.clock.push_back(Resident { slot: Arc::downgrade(slot), bytes });
        residents.bytes += bytes;
        // Each is met at most twice: with its bit, and without.
        for _ in 0..2 * residents.clock.len() {
            let fits = residents.bytes <= self.bytes_max / 2 && residents.clock.len() <= self.tables_max;
            if fits || residents.clock.len() == 1 {
                break;
            }
            let Some(first) = residents.clock.pop_front() else { break };
            match first.slot.upgrade() {
                Some(other) if Arc::ptr_eq(&other, slot) || other.touched.swap(false, Ordering::Relaxed) => {
                    residents.clock.push_back(first);
                }
                other => {
                    if let Some(other) = other {
                        other.opened.store(None);
                    }
                    residents.bytes -= first.bytes;
                }
            }
        }
        self.share(&residents);
        Loaded(Guard::from_inner(Some(opened)))
    }

    /// A table is gone.
    pub(super) fn forget(&self, slot: &Arc<Slot>) {
        if slot.opened.load().is_none() {
            return;
        }
        let mut residents = self.residents();
        let at = residents.clock.iter().position(|resident| std::ptr::eq(resident.slot.as_ptr(), Arc::as_ptr(slot)));
        if let Some(resident) = at.and_then(|at| residents.clock.remove(at)) {
            residents.bytes -= resident.bytes;
            slot.opened.store(None);
            self.share(&residents);
        }
    }

    fn share(&self, residents: &Residents) {
        self.blocks.set_capacity(self.bytes_max.saturating_sub(residents.bytes));
    }
}
