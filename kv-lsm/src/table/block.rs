//! A block: sorted versions, and an array over them that is searched without touching the keys.
//!
//! ```text
//! block   := entry*  common_prefix  head:u64 * count  offset:u32 * (count + 1)  common_bytes:u32  count:u32
//! entry   := trailer:u64  suffix_bytes:u16  suffix  value
//! ```
//!
//! All keys of a block begin with `common_prefix`; entries keep the rest, the suffix. A `head` is the first eight bytes of a
//! suffix as a big-endian number, filled up with zeros, so that most of a binary search is comparisons of integers side by
//! side in memory. An entry ends where the next one begins; the last offset is where all of them end. So a walk in either
//! direction is a step in the array, and an entry is taken apart without a branch. The same shape serves as index: there the
//! keys are the last ones of the data blocks.

use std::ops::Range;
use std::sync::Arc;

use kv_core::codec::DecodeError;

use crate::block_memory::{BlockBytes, BlockMemory};
use crate::cursor::Entry;
use crate::internal_key::{EXPIRY_BYTES, Trailer, compare};
use crate::limits::KEY_BYTES_MAX;
use crate::prefetch::{LINE_BYTES, prefetch_lines};

/// What stands before the suffix of an entry.
const ENTRY_HEADER_BYTES: usize = 8 + 2;
/// About what an entry takes beside key and value.
const ENTRY_BYTES: usize = 26;
/// The length of a suffix has 16 bits.
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);

/// Collects versions in order.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    entries: Vec<(usize, usize, Trailer)>,
    heads: Vec<u8>,
    offsets: Vec<u8>,
}

impl BlockBuilder {
    pub(crate) fn push(&mut self, key: &[u8], trailer: Trailer, value: &[u8]) {
        debug_assert!(
            self.entries.is_empty() || compare(self.last(), (key, trailer)).is_lt(),
            "versions come in order, each once"
        );
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        self.entries.push((self.keys.len(), self.values.len(), trailer));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// About how large the block would be now.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() + self.values.len() + self.entries.len() * ENTRY_BYTES
    }

    /// The version pushed last. There must be one.
    pub(crate) fn last(&self) -> (&[u8], Trailer) {
        let count = self.entries.len();
        let start = if count > 1 { self.entries[count - 2].0 } else { 0 };
        (&self.keys[start..], self.entries[count - 1].2)
    }

    /// Appends the block to `out`, and begins anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let begin = out.len();
        let first_end = self.entries.first().map_or(0, |first| first.0);
        let common = if self.entries.len() > 1 {
            self.keys[..first_end].iter().zip(self.last().0).take_while(|(a, b)| a == b).count()
        } else {
            first_end
        };
        let (mut key_at, mut value_at) = (0, 0);
        self.heads.clear();
        self.offsets.clear();
        for &(key_end, value_end, trailer) in &self.entries {
            let (suffix, value) = (&self.keys[key_at + common..key_end], &self.values[value_at..value_end]);
            self.offsets.extend_from_slice(&size(out.len() - begin));
            self.heads.extend_from_slice(&head(suffix).to_le_bytes());
            out.extend_from_slice(&trailer.to_u64().to_le_bytes());
            let suffix_bytes = u16::try_from(suffix.len()).expect("keys were checked before they came here");
            out.extend_from_slice(&suffix_bytes.to_le_bytes());
            out.extend_from_slice(suffix);
            out.extend_from_slice(value);
            (key_at, value_at) = (key_end, value_end);
        }
        self.offsets.extend_from_slice(&size(out.len() - begin));
        out.extend_from_slice(&self.keys[..common]);
        out.extend_from_slice(&self.heads);
        out.extend_from_slice(&self.offsets);
        out.extend_from_slice(&size(common));
        out.extend_from_slice(&size(self.entries.len()));
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
    }
}

/// About how large a block would be that holds one entry.
pub(super) const fn bytes_of_one(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

/// Appends a block with one entry to `out`: what a [`BlockBuilder`] makes of it, with one copy of the value. The key is in parts.
pub(crate) fn encode_one(key: [&[u8]; 2], trailer: Trailer, value: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    // The key is all common, so that the suffix is empty, and its head zero.
    out.extend_from_slice(&trailer.to_u64().to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    out.extend_from_slice(value);
    let end = size(out.len() - begin);
    key.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&size(0));
    out.extend_from_slice(&end);
    out.extend_from_slice(&size(key[0].len() + key[1].len()));
    out.extend_from_slice(&size(1));
}

fn size(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a block is below 4 GiB").to_le_bytes()
}

/// The first bytes of a suffix as a number.
#[inline]
pub(super) fn head(suffix: &[u8]) -> u64 {
    match suffix.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut padded = [0; 8];
            padded[..suffix.len()].copy_from_slice(suffix);
            u64::from_be_bytes(padded)
        }
    }
}

/// A head as it lies in a block.
pub(crate) type Head = [u8; 8];

/// So many heads are a line of the processor's cache.
pub(super) const GROUP: usize = 8;
/// Up to so many heads one of each line is looked at.
const WIDE: usize = 64 * GROUP;

/// How many heads, which ascend, are smaller than a number. The loads of each step do not wait for each other, as those of a
/// binary search do: first the last head of each line, then those of one line.
#[inline]
pub(super) fn heads_below(heads: &[Head], wanted: u64) -> usize {
    let is_below = |head: &Head| u64::from_le_bytes(*head) < wanted;
    let (mut below, mut left) = (0, heads.len());
    while left > WIDE {
        let half = left.div_ceil(2);
        if is_below(&heads[below + half - 1]) {
            below += half;
        }
        left -= half;
    }
    let groups = heads[below..below + left].chunks_exact(GROUP).filter(|group| is_below(&group[GROUP - 1])).count();
    below += groups * GROUP;
    let end = heads.len().min(below + GROUP);
    below + heads[below..end].iter().filter(|head| is_below(head)).count()
}

/// Where the heads of a block lie, and how many lines they take: for whoever wants them loaded before he has the block.
#[derive(Copy, Clone)]
pub(crate) struct HeadsHint(*mut u8);

impl HeadsHint {
    /// The address is that of a line, so that its lower bits are free for the number of lines.
    const LINES_MASK: usize = LINE_BYTES - 1;
    /// As many as a block of usual size has. Those behind are not looked at first.
    const LINES_MAX: usize = 18;

    pub(crate) const NONE: Self = Self(std::ptr::null_mut());

    pub(crate) const fn to_ptr(self) -> *mut u8 {
        self.0
    }

    pub(crate) const fn from_ptr(stored: *mut u8) -> Self {
        Self(stored)
    }

    /// Has those heads loaded that a search looks at first.
    #[inline]
    pub(crate) fn prefetch(self) {
        let start = self.0.map_addr(|address| address & !Self::LINES_MASK);
        prefetch_lines(start, self.0.addr() & Self::LINES_MASK);
    }
}

/// Where the heads of a block lie, if it is one.
fn heads_at(bytes: &[u8]) -> usize {
    let count = bytes.last_chunk::<4>().map_or(0, |count| u32::from_le_bytes(*count) as usize);
    bytes.len().saturating_sub(count.saturating_mul(12).saturating_add(12))
}

/// Where the parts of an entry lie in its block; of the key what follows the common prefix.
#[derive(Clone, Debug)]
pub(crate) struct EntryPlace {
    pub(crate) trailer: Trailer,
    pub(crate) key: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// A decoded block, every length in it checked.
pub(crate) struct Block {
    bytes: BlockBytes,
    count: usize,
    common_at: usize,
    heads_at: usize,
    offsets_at: usize,
}

impl Block {
    /// Reads a block and checks it, so that nothing that is done with it later can fail.
    ///
    /// # Errors
    /// When the bytes are not a block.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        Self::of(bytes.into())
    }

    /// The same with a copy of the bytes, in memory that is looked at fast.
    ///
    /// # Errors
    /// When the bytes are not a block.
    pub(crate) fn copy(bytes: &[u8], memory: &Arc<BlockMemory>) -> Result<Self, DecodeError> {
        Self::of(memory.copy(bytes, heads_at(bytes)))
    }

    fn of(bytes: BlockBytes) -> Result<Self, DecodeError> {
        let wrong = |what| DecodeError { offset: 0, what };
        let (rest, count) = bytes.split_last_chunk::<4>().ok_or_else(|| wrong("a block with a tail"))?;
        let (rest, common) = rest.split_last_chunk::<4>().ok_or_else(|| wrong("a block with a tail"))?;
        let (common, count) = (u32::from_le_bytes(*common) as usize, u32::from_le_bytes(*count) as usize);
        let arrays = count.checked_mul(12).and_then(|arrays| arrays.checked_add(common)?.checked_add(4));
        let common_at = arrays.and_then(|arrays| rest.len().checked_sub(arrays));
        let common_at = common_at.ok_or_else(|| wrong("arrays that fit the block"))?;
        let heads_at = common_at + common;
        let offsets_at = heads_at + count * 8;
        let block = Self { count, common_at, heads_at, offsets_at, bytes };
        let (heads, offsets) = (block.heads(), block.offsets());
        let mut start = 0;
        if offset(offsets[0]) != start || offset(offsets[count]) != common_at {
            return Err(wrong("entries from the first byte to the common prefix"));
        }
        for (head_of, end) in heads.iter().zip(&offsets[1..]) {
            let end = offset(*end);
            let entry = block.bytes[..common_at].get(start..end).and_then(split_entry);
            let (trailer, suffix, value) = entry.ok_or_else(|| wrong("entries one behind the other"))?;
            let trailer = Trailer::from_u64(trailer);
            let trailer = trailer.ok_or_else(|| wrong("a trailer with a sequence number and a kind"))?;
            if trailer.is_expiring() && value.len() < EXPIRY_BYTES {
                return Err(wrong("an expiry before the value"));
            }
            if head(suffix) != u64::from_le_bytes(*head_of) {
                return Err(wrong("the head of the suffix"));
            }
            start = end;
        }
        Ok(block)
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What all keys begin with.
    #[inline]
    pub(crate) fn common_prefix(&self) -> &[u8] {
        &self.bytes[self.common_at..self.heads_at]
    }

    #[inline]
    pub(crate) fn heads(&self) -> &[Head] {
        self.bytes[self.heads_at..self.offsets_at].as_chunks().0
    }

    pub(crate) fn heads_hint(&self) -> HeadsHint {
        let heads = self.heads().as_ptr_range();
        let lines = heads.end.addr().div_ceil(LINE_BYTES) - heads.start.addr() / LINE_BYTES;
        let lines = lines.min(HeadsHint::LINES_MAX);
        HeadsHint(heads.start.cast_mut().cast::<u8>().map_addr(|address| address & !HeadsHint::LINES_MASK | lines))
    }

    /// One more than there are entries.
    #[inline]
    fn offsets(&self) -> &[[u8; 4]] {
        self.bytes[self.offsets_at..self.bytes.len() - 8].as_chunks().0
    }

    /// Where the parts of the entry at `index` lie, for whoever looks at it more than once.
    #[inline]
    pub(crate) fn place(&self, index: usize) -> EntryPlace {
        let offsets = self.offsets();
        let (start, end) = (offset(offsets[index]), offset(offsets[index + 1]));
        let entry = split_entry(&self.bytes[start..end]);
        let (trailer, suffix, _) = entry.expect("entries were checked when the block was read");
        let key_at = start + ENTRY_HEADER_BYTES;
        let value_at = key_at + suffix.len();
        EntryPlace { trailer: Trailer::from_raw(trailer), key: key_at..value_at, value: value_at..end }
    }

    /// A part of an entry.
    #[inline]
    pub(crate) fn part(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// The entry at `index`, its key without the common prefix.
    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Entry<'_> {
        let offsets = self.offsets();
        let entry = split_entry(&self.bytes[offset(offsets[index])..offset(offsets[index + 1])]);
        let (trailer, key, value) = entry.expect("entries were checked when the block was read");
        Entry { key, trailer: Trailer::from_raw(trailer), value }
    }

    /// Has an entry loaded from about where it lies, while what tells the place exactly is loaded as well: most blocks have
    /// entries of about one size.
    #[inline]
    fn prefetch_entry(&self, index: usize) {
        const LINES: usize = 3;
        // Only a guess, also where it is cut.
        let about = self.common_at.wrapping_mul(index) / self.count.max(1);
        prefetch_lines(self.bytes.as_ptr().wrapping_add(about), LINES);
    }

    /// Has the first entry loaded.
    #[inline]
    pub(crate) fn prefetch_first(&self) {
        prefetch_lines(self.bytes.as_ptr(), 1);
    }

    /// Has entries from one on loaded, for who will walk over some of them.
    #[inline]
    pub(crate) fn prefetch_from(&self, index: usize) {
        const LINES: usize = 10;
        prefetch_lines(self.bytes.as_ptr().wrapping_add(offset(self.offsets()[index])), LINES);
    }

    /// Index of the first entry at or behind a place.
    pub(crate) fn lower_bound(&self, key: &[u8], trailer: Trailer) -> usize {
        self.lower_bound_by(key, trailer, heads_below)
    }

    /// The same with another way to tell how many heads are below a number.
    #[inline]
    pub(super) fn lower_bound_by(
        &self,
        key: &[u8],
        trailer: Trailer,
        heads_below: impl FnOnce(&[Head], u64) -> usize,
    ) -> usize {
        let common = self.common_prefix();
        let suffix = match key.strip_prefix(common) {
            Some(suffix) => suffix,
            None if key < common => return 0,
            None => return self.count,
        };
        let (heads, wanted) = (self.heads(), head(suffix));
        let is_before = |index: usize| {
            let entry = self.entry(index);
            compare((entry.key, entry.trailer), (suffix, trailer)).is_lt()
        };
        // Where heads are equal, the entries decide: there is seldom more than one.
        let mut low = heads_below(heads, wanted);
        self.prefetch_entry(low);
        let (mut high, mut step) = (low, 1);
        while high < self.count && u64::from_le_bytes(heads[high]) == wanted && is_before(high) {
            low = high + 1;
            high = (high + step).min(self.count);
            step *= 2;
        }
        while low < high {
            let middle = low.midpoint(high);
            if is_before(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[inline]
const fn offset(stored: [u8; 4]) -> usize {
    u32::from_le_bytes(stored) as usize
}

/// Trailer, suffix and value of an entry.
#[inline]
fn split_entry(entry: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (header, rest) = entry.split_first_chunk::<ENTRY_HEADER_BYTES>()?;
    let [trailer @ .., low, high] = header;
    let (suffix, value) = rest.split_at_checked(usize::from(u16::from_le_bytes([*low, *high])))?;
    Some((u64::from_le_bytes(*trailer), suffix, value))
}

#[cfg(test)]
mod tests;
