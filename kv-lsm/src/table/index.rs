//! The index of a table, as it is searched in memory.
//!
//! It lies in the file as a block: of each data block the last key, and where it is. The last head of each line is kept once more, side
//! by side, where it stays in the fastest memory; those that are left lie in one line.

use super::block::{Block, GROUP, Head, head, heads_below};
use super::format::Handle;
use crate::internal_key::Trailer;
use crate::prefetch::prefetch;

pub(super) struct Index {
    block: Block,
    /// The last head of each line that is whole.
    samples: Vec<Head>,
}

impl Index {
    /// Checks what a block says as an index. `holds` tells whether a data block can lie there.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn new(block: Block, holds: impl Fn(Handle) -> bool) -> Result<Self, &'static str> {
        if !(0..block.count()).all(|index| decode_handle(block.entry(index).value).is_some_and(&holds)) {
            return Err("handles of blocks inside the file");
        }
        let samples = block.heads().chunks_exact(GROUP).map(|group| group[GROUP - 1]).collect();
        Ok(Self { block, samples })
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.block.bytes() + self.samples.len() * size_of::<Head>()
    }

    /// How many data blocks there are.
    pub(super) const fn count(&self) -> usize {
        self.block.count()
    }

    /// Where a data block lies.
    pub(super) fn handle(&self, index: usize) -> Handle {
        decode_handle(self.block.entry(index).value).expect("handles were checked when the index was read")
    }

    /// The last key of a data block, and the trailer there.
    pub(super) fn last(&self, index: usize) -> (Vec<u8>, Trailer) {
        let entry = self.block.entry(index);
        ([self.block.common_prefix(), entry.key].concat(), entry.trailer)
    }

    /// Which data block holds the first version at or behind a place; the number of blocks when none does.
    pub(super) fn lower_bound(&self, key: &[u8], trailer: Trailer) -> usize {
        self.lower_bound_in(self.group_of(key), key, trailer)
    }

    /// Where the group of blocks begins that [`Index::lower_bound`] finds one of, or the one behind it, unless the heads of several
    /// are equal. Asks for what it looks at next.
    #[inline]
    pub(super) fn group_of(&self, key: &[u8]) -> usize {
        // Where all keys are before it, or behind it, it matters not which.
        let Some(suffix) = key.strip_prefix(self.block.common_prefix()) else { return 0 };
        let start = heads_below(&self.samples, head(suffix)) * GROUP;
        prefetch(self.block.heads().as_ptr().wrapping_add(start).cast());
        start
    }

    /// [`Index::lower_bound`], with the key's group.
    #[inline]
    pub(super) fn lower_bound_in(&self, group: usize, key: &[u8], trailer: Trailer) -> usize {
        self.block.lower_bound_by(key, trailer, |heads, wanted| {
            let group_heads = &heads[group..heads.len().min(group + GROUP)];
            group + group_heads.iter().filter(|&&head| u64::from_le_bytes(head) < wanted).count()
        })
    }
}

fn decode_handle(bytes: &[u8]) -> Option<Handle> {
    let (offset, length) = bytes.split_first_chunk::<8>()?;
    let length = <[u8; 8]>::try_from(length).ok()?;
    Some(Handle { offset: u64::from_le_bytes(*offset), length: u64::from_le_bytes(length) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::internal_key::Kind;
    use crate::table::block::BlockBuilder;

    #[test]
    fn two_steps_find_what_one_search_finds() {
        for count in [0_usize, 1, 15, 16, 17, 33, 500] {
            for spread in [1_u64, 3] {
                let mut builder = BlockBuilder::default();
                for number in 0..count as u64 {
                    // Groups of equal heads, and of equal keys.
                    let key = [&b"common"[..], &(number / spread / 5).to_be_bytes(), &(number / spread).to_be_bytes()];
                    let trailer = Trailer::new(1000 - number, Kind::Put);
                    builder.push(&key.concat(), trailer, &[number.to_le_bytes(), [1; 8]].concat());
                }
                let mut bytes = Vec::new();
                builder.finish(&mut bytes);
                let (index, block) =
                    (Index::new(Block::new(bytes.clone()).unwrap(), |_| true).unwrap(), Block::new(bytes).unwrap());
                assert_eq!(index.count(), count);
                for number in 0..count {
                    let (key, trailer) = index.last(number);
                    assert_eq!(index.lower_bound(&key, trailer), number);
                    assert_eq!(index.handle(number), Handle { offset: number as u64, length: 0x0101_0101_0101_0101 });
                    for (key, trailer) in
                        [(&key[..], Trailer::NEWEST), (&key, Trailer::OLDEST), (&key[..9], Trailer::NEWEST)]
                    {
                        assert_eq!(index.lower_bound(key, trailer), block.lower_bound(key, trailer));
                    }
                }
                assert_eq!(index.lower_bound(b"a", Trailer::NEWEST), 0);
                assert_eq!(index.lower_bound(b"x", Trailer::NEWEST), count);
            }
        }
    }

    #[test]
    fn what_is_no_place_in_the_file_is_refused() {
        let of_value = |value: &[u8]| {
            let mut builder = BlockBuilder::default();
            builder.push(b"k", Trailer::new(1, Kind::Put), value);
            let mut bytes = Vec::new();
            builder.finish(&mut bytes);
            Index::new(Block::new(bytes).unwrap(), |handle| handle.length < 10).map(|index| index.handle(0))
        };
        let handle = |offset: u64, length: u64| [offset.to_le_bytes(), length.to_le_bytes()].concat();
        assert_eq!(of_value(&handle(7, 9)), Ok(Handle { offset: 7, length: 9 }));
        assert!(of_value(&handle(7, 10)).is_err());
        assert!(of_value(&[0; 15]).is_err() && of_value(&[0; 17]).is_err() && of_value(&[]).is_err());
    }
}
