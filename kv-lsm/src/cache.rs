//! The cache of decoded blocks, shared by all tables of a database.
//!
//! A table that is open has a slot for each of its blocks. To look for a block is to load a pointer: no hash, no lock, and no
//! line that readers write to. All blocks that are there stand in one list in the order in which they came. When there is no
//! room a hand walks it from the oldest on; it passes by what was read since it came by last, and takes the first that was not
//! (SIEVE: Zhang, Yang, Yue, Vigfusson, Rashmi, NSDI 2024). So what a scan touches once goes soon, and goes first.
//!
//! `kv_core::evict` has this policy for maps. There the marks lie with the policy; here each lies in its block, which a reader has at
//! hand anyway, so that a hit touches nothing else.

use std::ops::Deref;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;

use crate::block_memory::BlockMemory;
use crate::held::Held;
use crate::prefetch::{LINE_BYTES, prefetch, prefetch_lines};
use crate::table::block::{Block, HeadsHint};

/// What a block costs beside its bytes: its place in the list, and what is known of it.
const BLOCK_BYTES: u64 = 192;
/// After so many slots whoever waits for the cache has a turn.
const SLOTS_AT_ONCE: usize = 256;
/// No place in the list.
const NONE: u32 = u32::MAX;

/// A block, and what the cache knows of it.
pub(crate) struct CachedBlock {
    block: Block,
    /// Its place in the list.
    place: u32,
    /// Read since the hand came by. Written only when it changes, so that readers share the line.
    touched: AtomicBool,
}

impl CachedBlock {
    /// One that the cache knows nothing of.
    pub(crate) const fn apart(block: Block) -> Self {
        Self { block, place: NONE, touched: AtomicBool::new(false) }
    }
}

impl Deref for CachedBlock {
    type Target = Block;

    fn deref(&self) -> &Block {
        &self.block
    }
}

/// A place for a block.
#[derive(Default)]
struct Place {
    block: ArcSwapOption<CachedBlock>,
    /// A [`HeadsHint`], so that they are on their way while the block is still looked for. Only a hint: the block may be gone.
    heads: AtomicPtr<u8>,
}

impl Place {
    fn set(&self, block: Option<Arc<CachedBlock>>) {
        let heads = block.as_ref().map_or(HeadsHint::NONE, |block| block.heads_hint());
        self.heads.store(heads.to_ptr(), Ordering::Relaxed);
        self.block.store(block);
    }

    fn prefetch_heads(&self) {
        HeadsHint::from_ptr(self.heads.load(Ordering::Relaxed)).prefetch();
    }
}

type Slots = Box<[Place]>;

/// The blocks of one table that is open, as far as they are in the cache. They leave it with the table.
pub(crate) struct TableBlocks {
    slots: Arc<Slots>,
    cache: Arc<BlockCache>,
}

impl TableBlocks {
    /// A slot for each of so many blocks, all of them empty.
    pub(crate) fn new(cache: &Arc<BlockCache>, blocks: usize) -> Self {
        let slots = (0..blocks).map(|_| Place::default()).collect();
        Self { slots: Arc::new(slots), cache: Arc::clone(cache) }
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> usize {
        self.slots.len()
    }

    /// The same blocks in another number of slots. What has none any more leaves the cache.
    pub(crate) fn resized(self, count: usize) -> Self {
        let resized = Self::new(&self.cache, count);
        for (slots, others) in self.slots.chunks(SLOTS_AT_ONCE).zip(resized.slots.chunks(SLOTS_AT_ONCE)) {
            let mut sieve = self.cache.sieve();
            for (slot, other) in slots.iter().zip(others) {
                if let Some(block) = slot.block.load_full() {
                    let node = sieve.node(block.place);
                    node.slots = Arc::clone(&resized.slots);
                    other.set(Some(block));
                    slot.set(None);
                }
            }
        }
        resized
    }

    /// What the slots take.
    pub(crate) fn slot_bytes(&self) -> u64 {
        size_of_val::<[_]>(&self.slots) as u64
    }

    /// A block, if it is there.
    pub(crate) fn get(&self, index: usize) -> Option<Held<CachedBlock>> {
        let place = self.slots.get(index)?;
        place.prefetch_heads();
        let block = Held::load(&place.block)?;
        if !block.touched.load(Ordering::Relaxed) {
            block.touched.store(true, Ordering::Relaxed);
        }
        Some(block)
    }

    /// Asks for what [`TableBlocks::get`] and [`TableBlocks::approach_block`] look at, for so many blocks from one on.
    pub(crate) fn approach(&self, from: usize, count: usize) {
        let lines = (count * size_of::<Place>()).div_ceil(LINE_BYTES);
        prefetch_lines(self.slots.as_ptr().wrapping_add(from).cast(), lines);
    }

    /// Asks for what a search of a block looks at first.
    pub(crate) fn approach_block(&self, index: usize) {
        if let Some(place) = self.slots.get(index) {
            place.prefetch_heads();
            if let Some(block) = Held::load(&place.block) {
                prefetch(ptr::from_ref::<CachedBlock>(&block).cast());
            }
        }
    }

    /// As [`TableBlocks::get`], for who does not count as a reader.
    pub(crate) fn peek(&self, index: usize) -> Option<Held<CachedBlock>> {
        Held::load(&self.slots.get(index)?.block)
    }

    /// Whether a block is there, and was read.
    pub(crate) fn is_read(&self, index: usize) -> bool {
        self.peek(index).is_some_and(|block| block.touched.load(Ordering::Relaxed))
    }

    /// Takes the block of a slot away if nobody has read it since this was asked last. Returns whether the slot is empty now.
    pub(crate) fn make_way(&self, index: usize) -> bool {
        let mut sieve = self.cache.sieve();
        let Some(block) = self.peek(index) else { return true };
        if block.touched.swap(false, Ordering::Relaxed) {
            return false;
        }
        sieve.remove(block.place);
        true
    }

    /// Puts a block of so many bytes, which is made where the room for it is, into its slot, if it has one and there is room for it
    /// at all, and hands it back.
    ///
    /// # Errors
    /// Those of `make`.
    pub(crate) fn insert<E>(
        &self,
        index: usize,
        length: usize,
        make: impl FnOnce(&Arc<BlockMemory>) -> Result<Block, E>,
    ) -> Result<Held<CachedBlock>, E> {
        let bytes = length as u64 + BLOCK_BYTES;
        {
            let mut sieve = self.cache.sieve();
            if index >= self.slots.len() || bytes > sieve.bytes_max {
                drop(sieve);
                return Ok(Held::own(Arc::new(CachedBlock::apart(make(&self.cache.memory)?))));
            }
            if let Some(present) = self.get(index) {
                // Somebody else was faster.
                return Ok(present);
            }
            sieve.make_room(bytes);
        }
        // Not while others wait.
        let block = make(&self.cache.memory)?;
        let mut sieve = self.cache.sieve();
        if let Some(present) = self.get(index) {
            return Ok(present);
        }
        let mut block = CachedBlock::apart(block);
        let Some(place) = sieve.place_for(bytes) else { return Ok(Held::own(Arc::new(block))) };
        sieve.push(place, &self.slots, index, bytes);
        block.place = place;
        let block = Arc::new(block);
        self.slots[index].set(Some(Arc::clone(&block)));
        Ok(Held::own(block))
    }
}

impl Drop for TableBlocks {
    fn drop(&mut self) {
        for slots in self.slots.chunks(SLOTS_AT_ONCE) {
            let mut sieve = self.cache.sieve();
            for slot in slots {
                let place = slot.block.load().as_ref().map(|block| block.place);
                if let Some(place) = place {
                    sieve.remove(place);
                }
            }
        }
    }
}

/// A block in the list.
struct Node {
    slots: Arc<Slots>,
    index: usize,
    bytes: u64,
    older: u32,
    newer: u32,
}

struct Sieve {
    nodes: Vec<Option<Node>>,
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    /// Where the next search for room begins; at the oldest when it is nowhere.
    hand: u32,
    bytes: u64,
    bytes_max: u64,
}

impl Sieve {
    fn node(&mut self, place: u32) -> &mut Node {
        self.nodes[place as usize].as_mut().expect("places in the list are taken")
    }

    /// Makes room for so many bytes. `None` when there cannot be enough, or there are more blocks than can be counted.
    fn place_for(&mut self, bytes: u64) -> Option<u32> {
        if bytes > self.bytes_max {
            return None;
        }
        self.make_room(bytes);
        if let Some(place) = self.free.pop() {
            return Some(place);
        }
        let place = u32::try_from(self.nodes.len()).ok().filter(|&place| place < NONE)?;
        self.nodes.push(None);
        Some(place)
    }

    fn push(&mut self, place: u32, slots: &Arc<Slots>, index: usize, bytes: u64) {
        let older = self.newest;
        self.nodes[place as usize] = Some(Node { slots: Arc::clone(slots), index, bytes, older, newer: NONE });
        match older {
            NONE => self.oldest = place,
            older => self.node(older).newer = place,
        }
        self.newest = place;
        self.bytes += bytes;
    }

    fn remove(&mut self, place: u32) {
        let node = self.nodes[place as usize].take().expect("places in the list are taken");
        match node.older {
            NONE => self.oldest = node.newer,
            older => self.node(older).newer = node.newer,
        }
        match node.newer {
            NONE => self.newest = node.older,
            newer => self.node(newer).older = node.older,
        }
        if self.hand == place {
            self.hand = node.newer;
        }
        self.bytes -= node.bytes;
        self.free.push(place);
        node.slots[node.index].set(None);
    }

    /// Takes blocks away until so many bytes more would fit.
    fn make_room(&mut self, bytes: u64) {
        // Bits may be set again behind the hand, so twice around must do.
        let mut passed = 2 * (self.nodes.len() - self.free.len());
        while self.bytes + bytes > self.bytes_max && self.oldest != NONE {
            let place = if self.hand == NONE { self.oldest } else { self.hand };
            let node = self.node(place);
            self.hand = node.newer;
            let node = self.node(place);
            let touched = node.slots[node.index].block.load().as_ref().is_some_and(|block| {
                let touched = block.touched.load(Ordering::Relaxed);
                block.touched.store(false, Ordering::Relaxed);
                touched
            });
            if touched && passed > 0 {
                passed -= 1;
            } else {
                self.remove(place);
            }
        }
    }
}

/// Blocks up to so many bytes.
pub(crate) struct BlockCache {
    sieve: Mutex<Sieve>,
    memory: Arc<BlockMemory>,
}

impl BlockCache {
    pub(crate) fn new(bytes_max: u64) -> Self {
        let sieve =
            Sieve { nodes: Vec::new(), free: Vec::new(), oldest: NONE, newest: NONE, hand: NONE, bytes: 0, bytes_max };
        Self { sieve: Mutex::new(sieve), memory: Arc::new(BlockMemory::new(bytes_max)) }
    }

    /// What blocks lie in, and what else is looked at as often may.
    pub(crate) const fn memory(&self) -> &Arc<BlockMemory> {
        &self.memory
    }

    fn sieve(&self) -> MutexGuard<'_, Sieve> {
        self.sieve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Evicts what is too much.
    pub(crate) fn set_bytes_max(&self, bytes: u64) {
        let mut sieve = self.sieve();
        sieve.bytes_max = bytes;
        sieve.make_room(0);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.sieve().bytes
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::internal_key::{Kind, Trailer};
    use crate::table::block::BlockBuilder;

    /// A block of about a thousand bytes that says which one it is.
    fn block(number: u64) -> Block {
        let mut builder = BlockBuilder::default();
        builder.push(&number.to_be_bytes(), Trailer::new(1, Kind::Put), &[7; 950]);
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        Block::new(bytes).unwrap()
    }

    fn insert(table: &TableBlocks, index: usize, block: Block) -> Held<CachedBlock> {
        let Ok(held) = table.insert::<Infallible>(index, block.bytes(), |_| Ok(block));
        held
    }

    fn number(block: &Block) -> u64 {
        let key = [block.common_prefix(), block.entry(0).key].concat();
        u64::from_be_bytes(key.try_into().unwrap())
    }

    fn room_for(blocks: u64) -> Arc<BlockCache> {
        Arc::new(BlockCache::new(blocks * (block(0).bytes() as u64 + BLOCK_BYTES)))
    }

    fn present(table: &TableBlocks) -> Vec<usize> {
        (0..table.slots.len()).filter(|&index| table.slots[index].block.load().is_some()).collect()
    }

    #[test]
    fn what_is_read_stays_and_what_was_read_once_goes() {
        let cache = room_for(4);
        let table = TableBlocks::new(&cache, 100);
        for index in 0..4 {
            assert!(table.get(index).is_none());
            assert_eq!(number(&insert(&table, index, block(index as u64))), index as u64);
        }
        assert!(table.get(1).is_some() && table.get(3).is_some());
        for index in 4..100 {
            insert(&table, index, block(index as u64));
            assert!(table.get(1).is_some() && table.get(3).is_some(), "read between any two others");
            assert_eq!(present(&table).len(), 4);
            assert!(present(&table).contains(&index));
        }
        assert_eq!(cache.bytes(), cache.sieve().bytes_max);
        cache.set_bytes_max(cache.bytes() / 2);
        assert_eq!(present(&table).len(), 2);
        cache.set_bytes_max(0);
        assert_eq!((present(&table).len(), cache.bytes()), (0, 0), "though all were read");
        insert(&table, 0, block(0));
        assert_eq!((present(&table).len(), cache.bytes()), (0, 0), "there is no room at all");
    }

    #[test]
    fn a_block_larger_than_the_cache_takes_nobodys_place() {
        let cache = room_for(4);
        let table = TableBlocks::new(&cache, 100);
        for index in 0..4 {
            insert(&table, index, block(index as u64));
        }
        let mut builder = BlockBuilder::default();
        builder.push(b"large", Trailer::new(1, Kind::Put), &[7; 5000]);
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        assert_eq!(insert(&table, 50, Block::new(bytes).unwrap()).count(), 1);
        assert_eq!(present(&table), [0, 1, 2, 3]);
    }

    #[test]
    fn blocks_stay_where_there_are_more_slots_and_go_where_there_are_fewer() {
        let cache = room_for(10);
        let table = TableBlocks::new(&cache, 4);
        for index in [0, 2, 3] {
            insert(&table, index, block(index as u64));
        }
        let bytes = cache.bytes();
        let table = table.resized(9);
        insert(&table, 8, block(8));
        assert_eq!((present(&table), cache.bytes()), (vec![0, 2, 3, 8], bytes / 3 * 4));
        let table = table.resized(3);
        assert_eq!((present(&table), cache.bytes()), (vec![0, 2], bytes / 3 * 2));
        assert_eq!(number(&table.get(2).unwrap()), 2);
        assert!(
            !Arc::ptr_eq(&insert(&table, 7, block(7)).keep(), &insert(&table, 7, block(7)).keep()),
            "it has no slot"
        );
        cache.set_bytes_max(0);
        assert_eq!((present(&table), cache.bytes()), (vec![], 0), "the list knows where they are");
    }

    #[test]
    fn a_table_that_is_closed_leaves_nothing() {
        let cache = room_for(10);
        let (one, other) = (TableBlocks::new(&cache, 4), TableBlocks::new(&cache, 4));
        for index in 0..4 {
            insert(&one, index, block(index as u64));
            insert(&other, index, block(index as u64));
        }
        let (bytes, slots, reading) = (cache.bytes(), Arc::downgrade(&one.slots), one.get(2).unwrap().keep());
        drop(one);
        assert_eq!((present(&other).len(), cache.bytes()), (4, bytes / 2));
        assert!(slots.upgrade().is_none(), "the list lets go of it");
        assert_eq!(number(&reading), 2, "who reads it keeps it");
    }

    #[test]
    fn threads_share_it() {
        let cache = room_for(20);
        let tables: Vec<TableBlocks> = (0..3).map(|_| TableBlocks::new(&cache, 64)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (cache, tables) = (&cache, &tables);
                scope.spawn(move || {
                    let mut state = thread;
                    for _ in 0..3000 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let (number_of_table, index) = ((state >> 33) % 3, (state >> 40) % 64);
                        let table = &tables[usize::try_from(number_of_table).unwrap()];
                        let (at, wanted) = (usize::try_from(index).unwrap(), number_of_table << 8 | index);
                        let held = table.get(at).unwrap_or_else(|| insert(table, at, block(wanted)));
                        assert_eq!(number(&held), wanted);
                        assert!(cache.bytes() <= 20 * (held.bytes() as u64 + BLOCK_BYTES));
                    }
                });
            }
        });
        let there: usize = tables.iter().map(|table| present(table).len()).sum();
        assert_eq!(cache.bytes(), there as u64 * (block(0).bytes() as u64 + BLOCK_BYTES));
        drop(tables);
        assert_eq!(cache.bytes(), 0);
    }
}
