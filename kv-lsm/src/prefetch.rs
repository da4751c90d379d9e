//! Asking the processor for memory that will be looked at soon.
//!
//! A read of data much larger than the processor's caches is a chain of waits for memory, each for an address that the one before
//! told. Where an address can be told earlier, or guessed, two waits become one.

/// Bytes that come from memory together.
pub(crate) const LINE_BYTES: usize = 64;

/// Has the line that holds an address loaded, if there is such an address; else nothing happens.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing that the program could see, and cannot fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// The same for so many lines from an address on.
#[inline]
pub(crate) fn prefetch_lines(start: *const u8, lines: usize) {
    for line in 0..lines {
        prefetch(start.wrapping_add(line * LINE_BYTES));
    }
}
