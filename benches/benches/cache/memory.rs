//! What an entry takes, counted by the allocator of this program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;

use crate::subjects::{self, POLICIES, Subject, cost};

/// The system's allocator, which counts the bytes that are held while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static HELD: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    if COUNTS.load(Ordering::Relaxed) {
        HELD.fetch_add(sign * i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to the system's allocator as it came, whose contract is the same; counting allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's promise about the layout is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the pointer came from `alloc` above, that is from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ENTRIES: u32 = 200_000;
const VALUE_BYTES: usize = 100;

/// Bytes beside key and value that each entry holds, after twice as many keys as fit have been put.
fn overhead(make: &dyn Fn(u64, usize) -> Box<dyn Subject>) -> f64 {
    HELD.store(0, Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    let subject = make(cost(16, VALUE_BYTES) * u64::from(ENTRIES), ENTRIES as usize);
    for number in 0..ENTRIES * 2 {
        subject.put(format!("user:{number:011}").as_bytes(), Bytes::from(vec![7; VALUE_BYTES]));
    }
    let entries = subject.entries();
    COUNTS.store(false, Ordering::Relaxed);
    let held = HELD.load(Ordering::Relaxed) as f64 / entries as f64;
    drop(subject);
    held - (16 + VALUE_BYTES) as f64
}

pub(crate) fn report() {
    println!("\nbytes per entry beside its 16 bytes of key and {VALUE_BYTES} of value, full, {ENTRIES} entries");
    for (name, kind) in POLICIES {
        let bytes = overhead(&|capacity_bytes, _| Box::new(subjects::ours(kind, capacity_bytes)));
        println!("{name:<12}{bytes:>8.1}");
    }
    let bytes = overhead(&|capacity_bytes, entries| Box::new(subjects::quick_cache(capacity_bytes, entries)));
    println!("{:<12}{bytes:>8.1}", "quick_cache");
    let bytes = overhead(&|capacity_bytes, _| Box::new(subjects::moka(capacity_bytes)));
    println!("{:<12}{bytes:>8.1}", "moka");
}
