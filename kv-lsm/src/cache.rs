//! The cache of decoded blocks, shared by all tables of a database.

use std::hash::BuildHasher;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use crate::table::block::Block;

/// Number of a table, and offset of the block in it.
type Key = (u64, u64);

/// Blocks by table and offset, least useful evicted first when their bytes exceed the capacity.
pub(crate) struct BlockCache {
    cache: Cache<Key, Arc<Block>, BlockBytes, Mixer>,
}

#[derive(Clone)]
struct BlockBytes;

impl Weighter<Key, Arc<Block>> for BlockBytes {
    fn weight(&self, _: &Key, block: &Arc<Block>) -> u64 {
        block.bytes() as u64 + 64
    }
}

impl BlockCache {
    pub(crate) fn new(capacity_bytes: u64) -> Self {
        let items = usize::try_from(capacity_bytes / 16_384).unwrap_or(usize::MAX).clamp(16, 1 << 24);
        Self { cache: Cache::with(items, capacity_bytes, BlockBytes, Mixer, DefaultLifecycle::default()) }
    }

    /// Evicts what is too much.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        if self.cache.capacity() != bytes {
            self.cache.set_capacity(bytes);
        }
    }

    pub(crate) fn get(&self, table: u64, offset: u64) -> Option<Arc<Block>> {
        self.cache.get(&(table, offset))
    }

    pub(crate) fn insert(&self, table: u64, offset: u64, block: Arc<Block>) {
        self.cache.insert((table, offset), block);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.cache.weight()
    }
}

/// A hash without a random seed: what is evicted, and so what is read again, must not differ from run to run.
#[derive(Clone, Default)]
struct Mixer;

impl BuildHasher for Mixer {
    type Hasher = MixerState;

    fn build_hasher(&self) -> MixerState {
        MixerState(0)
    }
}

struct MixerState(u64);

impl std::hash::Hasher for MixerState {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = kv_core::hash::seeded(bytes, self.0);
    }

    fn write_u64(&mut self, number: u64) {
        // The finalizer of MurmurHash3: every bit of the input reaches every bit of the output.
        let mut mixed = self.0.rotate_left(29) ^ number;
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        self.0 = mixed ^ (mixed >> 33);
    }
}
