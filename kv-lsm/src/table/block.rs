//! A block: sorted versions, and an array over them that is searched without touching the keys.
//!
//! ```text
//! block   := entry*  common_prefix  head:u64 * count  offset:u32 * count  common_bytes:u32  count:u32
//! entry   := suffix_bytes:varint  value_bytes:varint  trailer:u64  suffix  value
//! ```
//!
//! All keys of a block begin with `common_prefix`; entries keep the rest, the suffix. A `head` is the first eight bytes of a
//! suffix as a big-endian number, filled up with zeros, so that most of a binary search is comparisons of integers side by
//! side in memory. The same shape serves as index: there the keys are the last ones of the data blocks.

use std::cmp::Ordering;

use kv_core::codec::{DecodeError, Reader, put_varint};

use crate::cursor::Entry;
use crate::internal_key::{EXPIRY_BYTES, Trailer, compare};

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
        self.keys.len() + self.values.len() + self.entries.len() * 26
    }

    /// The version pushed last. There must be one.
    pub(crate) fn last(&self) -> (&[u8], Trailer) {
        let count = self.entries.len();
        let start = if count > 1 { self.entries[count - 2].0 } else { 0 };
        (&self.keys[start..], self.entries[count - 1].2)
    }

    /// Appends the block to `out`, which is empty, and begins anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        assert!(out.is_empty(), "offsets count from the start of the block");
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
            let offset = u32::try_from(out.len()).expect("a block is below 4 GiB");
            self.offsets.extend_from_slice(&offset.to_le_bytes());
            self.heads.extend_from_slice(&head(suffix).to_le_bytes());
            put_varint(out, suffix.len() as u64);
            put_varint(out, value.len() as u64);
            out.extend_from_slice(&trailer.to_u64().to_le_bytes());
            out.extend_from_slice(suffix);
            out.extend_from_slice(value);
            (key_at, value_at) = (key_end, value_end);
        }
        out.extend_from_slice(&self.keys[..common]);
        out.extend_from_slice(&self.heads);
        out.extend_from_slice(&self.offsets);
        for number in [common, self.entries.len()] {
            out.extend_from_slice(&u32::try_from(number).expect("a block is below 4 GiB").to_le_bytes());
        }
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
    }
}

fn head(suffix: &[u8]) -> u64 {
    match suffix.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut padded = [0; 8];
            padded[..suffix.len()].copy_from_slice(suffix);
            u64::from_be_bytes(padded)
        }
    }
}

/// A decoded block, every length in it checked.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
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
        let wrong = |what| DecodeError { offset: 0, what };
        let tail_at = bytes.len().checked_sub(8).ok_or_else(|| wrong("a block with a tail"))?;
        let mut tail = Reader::new(&bytes[tail_at..]);
        let (common, count) = (tail.u32()? as usize, tail.u32()? as usize);
        let arrays = count.checked_mul(12).and_then(|arrays| arrays.checked_add(common));
        let common_at = arrays.and_then(|arrays| tail_at.checked_sub(arrays));
        let common_at = common_at.ok_or_else(|| wrong("arrays that fit the block"))?;
        let heads_at = common_at + common;
        let block = Self { count, common_at, heads_at, offsets_at: heads_at + count * 8, bytes };
        let mut expected = 0;
        for index in 0..count {
            let offset = block.offset(index);
            if offset != expected {
                return Err(wrong("entries one behind the other"));
            }
            let mut reader = Reader::new(&block.bytes[offset..common_at]);
            let suffix_bytes = usize::try_from(reader.varint()?).map_err(|_| wrong("a suffix length"))?;
            let value_bytes = usize::try_from(reader.varint()?).map_err(|_| wrong("a value length"))?;
            let trailer =
                Trailer::from_u64(reader.u64()?).ok_or_else(|| wrong("a trailer with a sequence number and a kind"))?;
            if trailer.is_expiring() && value_bytes < EXPIRY_BYTES {
                return Err(wrong("an expiry before the value"));
            }
            let suffix = reader.bytes(suffix_bytes)?;
            if head(suffix) != block.head(index) {
                return Err(wrong("the head of the suffix"));
            }
            reader.bytes(value_bytes)?;
            expected = offset + reader.offset();
        }
        if expected != common_at {
            return Err(wrong("nothing behind the last entry"));
        }
        Ok(block)
    }

    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What all keys begin with.
    pub(crate) fn common_prefix(&self) -> &[u8] {
        &self.bytes[self.common_at..self.heads_at]
    }

    fn offset(&self, index: usize) -> usize {
        let at = self.offsets_at + index * 4;
        u32::from_le_bytes(*self.bytes[at..].first_chunk().expect("the array is inside the block")) as usize
    }

    fn head(&self, index: usize) -> u64 {
        let at = self.heads_at + index * 8;
        u64::from_le_bytes(*self.bytes[at..].first_chunk().expect("the array is inside the block"))
    }

    /// The entry at `index`, its key without the common prefix.
    pub(crate) fn entry(&self, index: usize) -> Entry<'_> {
        let mut reader = Reader::new(&self.bytes[self.offset(index)..self.common_at]);
        let mut read = || {
            let (suffix_bytes, value_bytes) = (reader.varint()?, reader.varint()?);
            let trailer = Trailer::from_u64(reader.u64()?).ok_or_else(|| reader.error("trailer"))?;
            let key = reader.bytes(usize::try_from(suffix_bytes).unwrap_or(usize::MAX))?;
            let value = reader.bytes(usize::try_from(value_bytes).unwrap_or(usize::MAX))?;
            Ok::<_, DecodeError>(Entry { key, trailer, value })
        };
        read().expect("entries were checked when the block was read")
    }

    /// Index of the first entry at or behind a place.
    pub(crate) fn lower_bound(&self, key: &[u8], trailer: Trailer) -> usize {
        let common = self.common_prefix();
        let suffix = match key.strip_prefix(common) {
            Some(suffix) => suffix,
            None if key < common => return 0,
            None => return self.count,
        };
        let wanted = head(suffix);
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let before = match self.head(middle).cmp(&wanted) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => {
                    let entry = self.entry(middle);
                    compare((entry.key, entry.trailer), (suffix, trailer)).is_lt()
                }
            };
            if before { low = middle + 1 } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests;
