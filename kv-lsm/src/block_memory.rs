//! Memory for what is kept of tables: blocks, indexes, filters.
//!
//! A cache of many megabytes is looked at in random places. In pages of 4 KiB most of these looks need a walk through the tables
//! of the processor's memory management as well, and in a virtual machine through two of them. So memory comes in regions of
//! 2 MiB that ask the system for a page each. Blocks of one cache come from and go back to the same regions, whichever thread
//! loads and drops them; an allocator with an arena for each thread may hold what one of them has freed while another
//! takes fresh memory.
//!
//! A region is divided into units, and a piece is the first run of free units that it fits into. A small cache, or what finds no
//! run, has its memory from the heap.
//!
//! # Why the unsafe code is sound
//!
//! A region belongs to its [`BlockMemory`], which every piece keeps alive, and stays where it is until that is dropped. Units are
//! handed out under a lock, each to one piece at a time, so nobody else reaches the bytes of a piece; they are written whole
//! before a [`BlockBytes`] is made of them, and only read from then on. The bytes of one on the heap are a box that it owns.

use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::prefetch::LINE_BYTES;

const REGION_BYTES: usize = 2 << 20;
const UNIT_BYTES: usize = 512;
const UNITS: usize = REGION_BYTES / UNIT_BYTES;
const WORD_BITS: usize = u64::BITS as usize;
/// With memory for less than so many regions, what is left over at their ends would be much of it.
const REGIONS_MIN: usize = 16;

/// Pieces of different lengths leave gaps between them: one region in so many is for these.
const SPARE_PART: usize = 8;

/// Bytes that are written once.
pub(crate) struct BlockBytes {
    start: NonNull<u8>,
    length: usize,
    owner: Owner,
}

enum Owner {
    Heap,
    Region { memory: Arc<BlockMemory>, piece: Piece },
}

// SAFETY: the bytes belong to it alone and are only read, so that it is as a boxed slice.
unsafe impl Send for BlockBytes {}
// SAFETY: as above.
unsafe impl Sync for BlockBytes {}

impl From<Vec<u8>> for BlockBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let bytes = Box::leak(bytes.into_boxed_slice());
        let length = bytes.len();
        Self { start: NonNull::from(bytes).cast(), length, owner: Owner::Heap }
    }
}

impl Deref for BlockBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes lie there, initialised, and nobody writes to them while this lives.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for BlockBytes {
    fn drop(&mut self) {
        match &self.owner {
            Owner::Heap => {
                let bytes = NonNull::slice_from_raw_parts(self.start, self.length);
                // SAFETY: the box that was leaked when this was made, and nobody has a reference to it any more.
                drop(unsafe { Box::from_raw(bytes.as_ptr()) });
            }
            Owner::Region { memory, piece } => memory.regions().put_back(*piece),
        }
    }
}

/// A run of units.
#[derive(Copy, Clone)]
struct Piece {
    region: usize,
    unit: usize,
    units: usize,
}

/// Regions for about so many bytes.
pub(crate) struct BlockMemory {
    regions: Mutex<Regions>,
}

impl BlockMemory {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let count = usize::try_from(bytes_max).unwrap_or(usize::MAX) / REGION_BYTES;
        let regions_max = if count < REGIONS_MIN { 0 } else { count + count / SPARE_PART };
        Self { regions: Mutex::new(Regions { regions_max, list: Vec::new(), longest: Vec::new() }) }
    }

    /// A copy, in a region if there is room. There the byte at `aligned` begins a line of the processor's cache.
    pub(crate) fn copy(self: &Arc<Self>, bytes: &[u8], aligned: usize) -> BlockBytes {
        self.in_region(bytes, aligned).unwrap_or_else(|| bytes.to_vec().into())
    }

    fn in_region(self: &Arc<Self>, bytes: &[u8], aligned: usize) -> Option<BlockBytes> {
        let before = (LINE_BYTES - aligned % LINE_BYTES) % LINE_BYTES;
        let (piece, start) = self.regions().take(before + bytes.len())?;
        // SAFETY: the piece was taken a moment ago for so many bytes, behind those that are left out for the alignment, and is no
        // part of what is copied from.
        let start = unsafe {
            let start = start.add(before);
            start.as_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            start
        };
        Some(BlockBytes { start, length: bytes.len(), owner: Owner::Region { memory: Arc::clone(self), piece } })
    }

    fn regions(&self) -> MutexGuard<'_, Regions> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Regions {
    regions_max: usize,
    list: Vec<Region>,
    /// No longer run of free units lies in the region. The bound may be too high.
    longest: Vec<usize>,
}

impl Regions {
    fn take(&mut self, bytes: usize) -> Option<(Piece, NonNull<u8>)> {
        let units = bytes.div_ceil(UNIT_BYTES).max(1);
        if units > UNITS {
            return None;
        }
        for region in 0..self.list.len() {
            if self.longest[region] < units {
                continue;
            }
            match self.list[region].find(units) {
                Some(unit) => return Some(self.hand_out(Piece { region, unit, units })),
                None => self.longest[region] = units - 1,
            }
        }
        if self.list.len() >= self.regions_max {
            return None;
        }
        self.list.push(Region::new()?);
        self.longest.push(UNITS);
        Some(self.hand_out(Piece { region: self.list.len() - 1, unit: 0, units }))
    }

    fn hand_out(&mut self, piece: Piece) -> (Piece, NonNull<u8>) {
        let region = &mut self.list[piece.region];
        region.mark(piece, true);
        // SAFETY: all units lie in the region.
        (piece, unsafe { region.start.add(piece.unit * UNIT_BYTES) })
    }

    fn put_back(&mut self, piece: Piece) {
        self.list[piece.region].mark(piece, false);
        self.longest[piece.region] = UNITS;
    }
}

struct Region {
    start: NonNull<u8>,
    /// A bit for each unit.
    taken: [u64; UNITS / WORD_BITS],
}

// SAFETY: a region owns its memory, as a boxed slice would.
unsafe impl Send for Region {}

impl Region {
    /// `None` when the system has no memory for it, or this is a system for which it is not known how to ask.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn new() -> Option<Self> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // Twice as much, in which a whole region is found that begins where a large page does.
        // SAFETY: a new mapping, at an address that the system chooses, takes nobody's memory.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), 2 * REGION_BYTES, access, MapFlags::PRIVATE) };
        let mapped = NonNull::new(mapped.ok()?.cast::<u8>())?;
        let before = mapped.addr().get().wrapping_neg() % REGION_BYTES;
        // SAFETY: the parts before and behind the region lie in the mapping, and nobody knows of them.
        let start = unsafe {
            let start = mapped.add(before);
            if before > 0 {
                let _ = munmap(mapped.as_ptr().cast(), before);
            }
            let _ = munmap(start.add(REGION_BYTES).as_ptr().cast(), REGION_BYTES - before);
            // Without large pages it is as good as the heap.
            let _ = madvise(start.as_ptr().cast(), REGION_BYTES, Advice::LinuxHugepage);
            start
        };
        Some(Self { start, taken: [0; UNITS / WORD_BITS] })
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn new() -> Option<Self> {
        None
    }

    /// The first of so many free units.
    fn find(&self, units: usize) -> Option<usize> {
        let mut unit = self.next(0, false)?;
        while unit + units <= UNITS {
            let end = self.next(unit, true).unwrap_or(UNITS);
            if end - unit >= units {
                return Some(unit);
            }
            unit = self.next(end, false)?;
        }
        None
    }

    /// The first unit from one on that is taken, or free.
    fn next(&self, from: usize, taken: bool) -> Option<usize> {
        let mut word = from / WORD_BITS;
        let mut masked = u64::MAX << (from % WORD_BITS);
        while word < self.taken.len() {
            let found = (if taken { self.taken[word] } else { !self.taken[word] }) & masked;
            if found != 0 {
                return Some(word * WORD_BITS + found.trailing_zeros() as usize);
            }
            (word, masked) = (word + 1, u64::MAX);
        }
        None
    }

    fn mark(&mut self, piece: Piece, taken: bool) {
        for unit in piece.unit..piece.unit + piece.units {
            let bit = 1 << (unit % WORD_BITS);
            assert!((self.taken[unit / WORD_BITS] & bit == 0) == taken, "a unit belongs to one piece");
            self.taken[unit / WORD_BITS] ^= bit;
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: what `new` has left of its mapping. Every piece keeps the memory, and so its regions, alive: there is none.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        unsafe {
            let _ = rustix::mm::munmap(self.start.as_ptr().cast(), REGION_BYTES);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(regions: usize) -> Arc<BlockMemory> {
        Arc::new(BlockMemory::new((regions * REGION_BYTES) as u64))
    }

    fn is_in_region(bytes: &BlockBytes) -> bool {
        matches!(bytes.owner, Owner::Region { .. })
    }

    #[test]
    fn small_caches_live_on_the_heap() {
        let memory = memory(REGIONS_MIN - 1);
        let bytes = memory.copy(&[7; 100], 0);
        assert!(!is_in_region(&bytes));
        assert_eq!(*bytes, [7; 100]);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn pieces_do_not_overlap_and_come_back() {
        let memory = memory(REGIONS_MIN);
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut kept: Vec<(u8, BlockBytes)> = Vec::new();
        let (mut placed, mut refused) = (0, 0);
        for round in 0..20_000_usize {
            let (fill, length) = (u8::try_from(round % 251).unwrap(), 1 + random(40_000));
            let aligned = random(length);
            let bytes = memory.copy(&vec![fill; length], aligned);
            assert_eq!(bytes.len(), length);
            if is_in_region(&bytes) {
                placed += 1;
                assert_eq!(bytes[aligned..].as_ptr().align_offset(LINE_BYTES), 0);
            } else {
                refused += 1;
            }
            kept.push((fill, bytes));
            if kept.len() > 2000 {
                let (fill, bytes) = kept.swap_remove(random(2000));
                assert!(bytes.iter().all(|&byte| byte == fill), "nobody else wrote there");
            }
        }
        assert!(placed > 10_000 && refused > 0, "both ways were gone: {placed}, {refused}");
        let regions = REGIONS_MIN + REGIONS_MIN / SPARE_PART;
        assert_eq!(memory.regions().list.len(), regions, "and no more");
        drop(kept);
        assert!(memory.regions().list.iter().all(|region| region.taken == [0; UNITS / WORD_BITS]), "all came back");
        let whole: Vec<_> = (0..regions).map(|_| memory.copy(&vec![1; REGION_BYTES], 0)).collect();
        assert!(whole.iter().all(is_in_region), "and lie beside one another again");
        assert!(!is_in_region(&memory.copy(&vec![1; REGION_BYTES + 1], 0)), "larger than a region");
    }
}
