//! Memory of a thread for blocks as they are stored, and as they are decoded, which go elsewhere from there. It is in the fastest
//! memory, and costs neither an allocation nor zeros each time.

use std::cell::Cell;

#[derive(Default)]
struct Scratch {
    stored: Vec<u8>,
    decoded: Vec<u8>,
}

/// What is larger is not kept for the next block.
const SCRATCH_BYTES_MAX: usize = 256 << 10;

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// Calls `use_it` with room for so many stored bytes, and some for what they decode to.
pub(crate) fn with_scratch<R>(length: usize, use_it: impl FnOnce(&mut [u8], &mut Vec<u8>) -> R) -> R {
    // A thread that ends may read as well.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    if scratch.stored.len() < length {
        scratch.stored.resize(length, 0);
    }
    let result = use_it(&mut scratch.stored[..length], &mut scratch.decoded);
    if scratch.stored.len().max(scratch.decoded.len()) <= SCRATCH_BYTES_MAX {
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }
    result
}
