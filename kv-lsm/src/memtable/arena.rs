//! Memory for the records of a memtable: written once, never moved, freed all at once. Chunks go back to a pool, because the
//! first touch of a fresh page costs as much as five inserts.
//!
//! ```text
//! record := trailer:u64  key_bytes:u32  value_bytes:u32  space:u32  key  value                  in the machine's byte order
//! ```
//!
//! # Why the unsafe code is sound
//!
//! A [`RecordAt`] is made by [`Arena::push`] alone, after the whole record was written, and nothing writes there again until
//! the arena is dropped. It reaches other threads only through a [`RecordCell`], stored with `Release` and loaded with
//! `Acquire`, or by what hands a value to another thread anyway, so whoever holds one sees the whole record. What is left to
//! the caller of [`RecordAt::record`] is that the arena is still there.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use super::sync::{AtomicPtr, Ordering};
use crate::internal_key::Trailer;
use crate::prefetch::prefetch;

/// Chunks begin small, for the many small memtables of tests, and double up to this.
const CHUNK_BYTES_MIN: usize = 4 << 10;
/// Only chunks of this size are pooled.
const CHUNK_BYTES: usize = 1 << 20;
const HEADER_BYTES: usize = 20;

/// One version of a key.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) trailer: Trailer,
    pub(crate) space: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Where a record lies.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct RecordAt(NonNull<u8>);

// SAFETY: it is an address of bytes that nobody writes any more.
unsafe impl Send for RecordAt {}
// SAFETY: as above.
unsafe impl Sync for RecordAt {}

impl RecordAt {
    /// Has the record loaded, or the first of it.
    pub(super) fn prefetch(self) {
        prefetch(self.0.as_ptr());
    }

    /// The record.
    ///
    /// # Safety
    /// The arena that made this must live for `'a`.
    pub(super) unsafe fn record<'a>(self) -> Record<'a> {
        let start = self.0.as_ptr();
        // SAFETY: `push` wrote a header of this size here, then as many bytes of key and value as it states. They are
        // initialised, not written any more, and live for `'a`.
        unsafe {
            let number = |at: usize| start.add(at).cast::<u32>().read_unaligned();
            let raw = start.cast::<u64>().read_unaligned();
            let (key_bytes, value_bytes, space) = (number(8) as usize, number(12) as usize, number(16));
            let key = slice::from_raw_parts(start.add(HEADER_BYTES), key_bytes);
            let value = slice::from_raw_parts(start.add(HEADER_BYTES + key_bytes), value_bytes);
            Record { trailer: Trailer::from_raw(raw), space, key, value }
        }
    }
}

/// A place that holds a [`RecordAt`] or nothing, and that threads share.
#[derive(Default)]
pub(super) struct RecordCell(AtomicPtr<u8>);

impl RecordCell {
    pub(super) fn load(&self) -> Option<RecordAt> {
        NonNull::new(self.0.load(Ordering::Acquire)).map(RecordAt)
    }

    pub(super) fn store(&self, at: Option<RecordAt>) {
        self.0.store(at.map_or(ptr::null_mut(), |at| at.0.as_ptr()), Ordering::Release);
    }
}

struct Chunk {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a chunk owns its memory, as a boxed slice would.
unsafe impl Send for Chunk {}

impl Chunk {
    fn layout(bytes: usize) -> Layout {
        Layout::array::<u8>(bytes).expect("a record fits memory")
    }

    fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        assert!(layout.size() > 0, "a chunk has room");
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc(layout) };
        Self { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), bytes }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and freed once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
    }
}

/// Chunks that a memtable left behind, for the next one.
pub(crate) struct ChunkPool {
    free: Mutex<Vec<Chunk>>,
    bytes_max: u64,
}

impl ChunkPool {
    /// A pool that keeps at most `bytes_max`.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { free: Mutex::new(Vec::new()), bytes_max }
    }

    /// The most that it keeps, which is what one memtable holds.
    pub(super) const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    fn take(&self) -> Option<Chunk> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, chunks: Vec<Chunk>) {
        let chunks_max = usize::try_from(self.bytes_max).unwrap_or(usize::MAX) / CHUNK_BYTES;
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in chunks {
            if chunk.bytes == CHUNK_BYTES && free.len() < chunks_max {
                free.push(chunk);
            }
        }
    }
}

pub(super) struct Arena {
    pool: Arc<ChunkPool>,
    chunks: Vec<Chunk>,
    /// Where the last chunk is free.
    used: usize,
    record_bytes: u64,
}

impl Arena {
    pub(super) const fn new(pool: Arc<ChunkPool>) -> Self {
        Self { pool, chunks: Vec::new(), used: 0, record_bytes: 0 }
    }

    /// Bytes of all records.
    pub(super) const fn record_bytes(&self) -> u64 {
        self.record_bytes
    }

    /// Copies a record into the arena.
    pub(super) fn push(&mut self, record: Record<'_>) -> RecordAt {
        let Record { trailer, space, key, value } = record;
        let bytes = HEADER_BYTES + key.len() + value.len();
        let start = self.room(bytes);
        let length = |part: &[u8]| u32::try_from(part.len()).expect("keys and values are below 4 GiB");
        // SAFETY: `room` returned as many bytes that nobody else knows of.
        unsafe {
            start.cast::<u64>().write_unaligned(trailer.to_u64());
            for (at, number) in [(8, length(key)), (12, length(value)), (16, space)] {
                start.add(at).cast::<u32>().write_unaligned(number);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), start.add(HEADER_BYTES).as_ptr(), key.len());
            ptr::copy_nonoverlapping(value.as_ptr(), start.add(HEADER_BYTES + key.len()).as_ptr(), value.len());
        }
        self.record_bytes += bytes as u64;
        RecordAt(start)
    }

    /// The next `bytes`, all in one chunk.
    fn room(&mut self, bytes: usize) -> NonNull<u8> {
        let fits = self.chunks.last().is_some_and(|chunk| chunk.bytes - self.used >= bytes);
        if !fits {
            let next = self.chunks.last().map_or(CHUNK_BYTES_MIN, |last| (last.bytes * 2).min(CHUNK_BYTES));
            let pooled = if next == CHUNK_BYTES && bytes <= CHUNK_BYTES { self.pool.take() } else { None };
            self.chunks.push(pooled.unwrap_or_else(|| Chunk::new(next.max(bytes))));
            self.used = 0;
        }
        let chunk = self.chunks.last().expect("just looked");
        // SAFETY: `used + bytes` is at most the chunk's size.
        let start = unsafe { chunk.start.add(self.used) };
        self.used += bytes;
        start
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.chunks));
    }
}
