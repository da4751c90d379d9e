//! Reading a table: what is asked for is read, checked, decoded and cached.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kv_core::codec::{DecodeError, Reader};

use super::block::{Block, GROUP};
use super::filter;
use super::format::{BlockError, FOOTER_BYTES, Footer, Handle, KNOWN, unpack_block};
use super::index::Index;
use super::meta::TableMeta;
use super::residents::TableMemory;
use super::scratch::with_scratch;
use crate::block_memory::BlockBytes;
use crate::cache::{CachedBlock, TableBlocks};
use crate::counters::ReadTally;
use crate::disk::{Disk, File, OpenMode, read_exact_at};
use crate::error::Error;
use crate::held::Held;
use crate::internal_key::Trailer;
use crate::limits::KEY_BYTES_MAX;
use crate::options::Compression;
use crate::range_delete::{RangeDelete, RangeDeletes};
use crate::residents::Slot;

/// Files that nothing refers to any more and that may be removed.
pub(crate) type Graveyard = Mutex<Vec<PathBuf>>;

/// What all tables of a database share.
#[derive(Clone)]
pub(crate) struct TableEnvironment {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) memory: Arc<TableMemory>,
    pub(crate) graveyard: Arc<Graveyard>,
}

/// A table. Its file is opened when it is read, and closed again when others need the room.
pub(crate) struct Table {
    meta: TableMeta,
    path: PathBuf,
    environment: TableEnvironment,
    slot: Arc<Slot<Opened>>,
    obsolete: AtomicBool,
}

/// What is needed of a table before any of its data: all but the data blocks.
pub(crate) struct Opened {
    file: Arc<dyn File>,
    index: Index,
    /// Those of the data blocks that are in memory.
    pub(super) cached: TableBlocks,
    filter: BlockBytes,
    range_deletes: Arc<RangeDeletes>,
}

impl Opened {
    /// Memory in use.
    pub(super) fn bytes(&self) -> u64 {
        (self.index.bytes() + self.filter.len()) as u64 + self.cached.slot_bytes() + self.range_deletes.bytes()
    }

    /// How many data blocks there are.
    pub(super) fn blocks(&self) -> usize {
        self.index.count()
    }

    /// Which data block holds the first version at or behind a place; the number of blocks when none does.
    pub(super) fn block_of(&self, key: &[u8], trailer: Trailer) -> usize {
        self.index.lower_bound(key, trailer)
    }

    /// As far as [`Opened::block_of`] comes without a wait for memory. Asks for what the rest looks at, and for the slots of those
    /// blocks that it may be.
    #[inline]
    pub(super) fn group_of(&self, key: &[u8]) -> usize {
        let group = self.index.group_of(key);
        self.cached.approach(group, GROUP + 1);
        group
    }

    /// The rest of [`Opened::block_of`].
    #[inline]
    pub(super) fn block_in(&self, group: usize, key: &[u8], trailer: Trailer) -> usize {
        self.index.lower_bound_in(group, key, trailer)
    }
}

impl Table {
    pub(crate) fn new(meta: TableMeta, path: PathBuf, environment: TableEnvironment) -> Self {
        Self { meta, path, environment, slot: Arc::default(), obsolete: AtomicBool::new(false) }
    }

    pub(crate) const fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// Has the file removed once nobody reads it. Only after an edit that no longer names it is durable.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    pub(super) fn corrupt(&self, offset: u64, expected: &str) -> Error {
        Error::corrupt(&self.path, offset, format!("expected {expected}"))
    }

    fn opened(&self) -> Result<Held<Opened>, Error> {
        match self.slot.get() {
            Some(loaded) => Ok(loaded),
            None => Ok(self.environment.memory.admit(&self.slot, self.open(None)?)),
        }
    }

    /// Opens it with blocks of it that are in the cache already.
    ///
    /// # Errors
    /// The disk's, and corruption.
    pub(crate) fn open_with(&self, blocks: TableBlocks) -> Result<(), Error> {
        self.environment.memory.admit(&self.slot, self.open(Some(blocks))?);
        Ok(())
    }

    /// Whether the block at a place is in the cache, and was read.
    pub(crate) fn is_read_at(&self, key: &[u8], trailer: Trailer) -> bool {
        self.slot.peek().is_some_and(|opened| opened.cached.is_read(opened.block_of(key, trailer)))
    }

    /// What was opened, if it was.
    pub(super) fn opened_before(&self) -> Option<Arc<Opened>> {
        self.slot.get().map(|opened| opened.keep())
    }

    /// For a walk over many blocks, which must not load the index for each of them.
    pub(super) fn keep_open(&self) -> Result<Arc<Opened>, Error> {
        self.opened().map(|opened| opened.keep())
    }

    fn open(&self, warm: Option<TableBlocks>) -> Result<Opened, Error> {
        let io = |error| Error::io("open", &self.path, error);
        let file = self.environment.disk.open(&self.path, OpenMode::Read).map_err(io)?;
        let length = file.len().map_err(io)?;
        if length != self.meta.bytes || length < FOOTER_BYTES as u64 {
            return Err(self.corrupt(length.min(self.meta.bytes), "a file as long as the manifest says"));
        }
        let footer_at = length - FOOTER_BYTES as u64;
        let mut bytes = [0; FOOTER_BYTES];
        read_exact_at(file.as_ref(), &mut bytes, footer_at).map_err(|error| Error::io("read", &self.path, error))?;
        let footer = Footer::decode(&bytes).map_err(|error| self.corrupt(footer_at, error.what))?;
        footer.format.check(KNOWN, || self.path.clone())?;
        if (footer.identity, footer.format) != (self.meta.identity, self.meta.format) {
            return Err(self.corrupt(footer_at, "the identity and format that the manifest names"));
        }
        let memory = self.environment.memory.blocks.memory();
        let index = self.load_with(file.as_ref(), footer.index, |payload| {
            let block = Block::copy(payload, memory).map_err(|error| error.what);
            let index = block.and_then(|block| Index::new(block, |handle| self.holds(handle)));
            index.map_err(|expected| self.corrupt(footer.index.offset, expected))
        })?;
        let filter = if footer.filter.is_none() {
            Vec::new().into()
        } else {
            self.load_with(file.as_ref(), footer.filter, |payload| Ok(memory.copy(payload, 0)))?
        };
        if filter.len() % filter::LINE_BYTES != 0 || (filter.is_empty() && index.count() > 0) {
            return Err(self.corrupt(footer.filter.offset, "whole lines of a filter"));
        }
        let deletes =
            if footer.range_deletes.is_none() { Vec::new() } else { self.load(file.as_ref(), footer.range_deletes)? };
        let range_deletes = decode_range_deletes(&deletes)
            .ok_or_else(|| self.corrupt(footer.range_deletes.offset, "a list of deleted ranges"))?;
        if range_deletes.iter().any(|delete| delete.sequence > self.meta.sequence_max) {
            return Err(self.corrupt(footer.range_deletes.offset, "deleted ranges no newer than the manifest says"));
        }
        let cached = match warm {
            Some(warm) if warm.count() >= index.count() => warm,
            Some(warm) => warm.resized(index.count()),
            None => TableBlocks::new(&self.environment.memory.blocks, index.count()),
        };
        Ok(Opened { file, index, cached, filter, range_deletes: Arc::new(RangeDeletes::new(range_deletes)) })
    }

    fn holds(&self, handle: Handle) -> bool {
        handle.offset.checked_add(handle.length).is_some_and(|end| end <= self.meta.bytes - FOOTER_BYTES as u64)
    }

    fn load(&self, file: &dyn File, handle: Handle) -> Result<Vec<u8>, Error> {
        self.load_with(file, handle, |payload| Ok(payload.to_vec()))
    }

    /// Reads a block and hands on what it holds.
    fn load_with<R>(
        &self,
        file: &dyn File,
        handle: Handle,
        each: impl FnOnce(&[u8]) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if !self.holds(handle) {
            return Err(self.corrupt(handle.offset, "a block inside the file"));
        }
        let length =
            usize::try_from(handle.length).map_err(|_| self.corrupt(handle.offset, "a block that fits memory"))?;
        with_scratch(length, |stored, decoded| {
            read_exact_at(file, stored, handle.offset).map_err(|error| Error::io("read", &self.path, error))?;
            let payload = unpack_block(stored, self.meta.identity, handle.offset, decoded);
            each(payload.map_err(|error| match error {
                BlockError::Corrupt(expected) => self.corrupt(handle.offset, expected),
                BlockError::Zstd => Compression::unsupported_zstd(&self.path),
            })?)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the index says of a data block: its last key, the trailer there, and where it lies.
    pub(crate) fn index_entry(&self, index: usize) -> Result<(Vec<u8>, Trailer, Handle), Error> {
        let opened = self.opened()?;
        let (key, trailer) = opened.index.last(index);
        Ok((key, trailer, opened.index.handle(index)))
    }

    /// Asks for what the filter is asked, if it is in memory.
    pub(crate) fn approach_filter(&self, hash: u64) {
        if let Some(opened) = self.slot.peek() {
            filter::approach(&opened.filter, hash);
        }
    }

    /// Whether the filter lets a key with this hash through.
    pub(crate) fn may_contain(&self, hash: u64) -> Result<bool, Error> {
        Ok(filter::may_contain(&self.opened()?.filter, hash))
    }

    /// The deleted ranges as they lie in the file, in the block that the footer names.
    pub(crate) fn stored_range_deletes(&self, handle: Handle) -> Result<Vec<RangeDelete>, Error> {
        if handle.is_none() {
            return Ok(Vec::new());
        }
        let bytes = self.load(self.opened()?.file.as_ref(), handle)?;
        decode_range_deletes(&bytes).ok_or_else(|| self.corrupt(handle.offset, "a list of deleted ranges"))
    }

    /// How many data blocks there are.
    pub(crate) fn blocks(&self) -> Result<usize, Error> {
        Ok(self.opened()?.index.count())
    }

    /// A data block, from the cache when it is there. `keep` has it cached when it is not.
    pub(crate) fn block(&self, index: usize, keep: bool) -> Result<Arc<CachedBlock>, Error> {
        self.block_of_opened(&*self.opened()?, index, keep, &mut ReadTally::default()).map(|block| block.keep())
    }

    /// The same with what was opened before. Only who would `keep` it counts as a reader.
    pub(super) fn block_of_opened(
        &self,
        opened: &Opened,
        index: usize,
        keep: bool,
        tally: &mut ReadTally,
    ) -> Result<Held<CachedBlock>, Error> {
        if let Some(block) = if keep { opened.cached.get(index) } else { opened.cached.peek(index) } {
            tally.cache_hits += 1;
            return Ok(block);
        }
        tally.cache_misses += 1;
        let handle = opened.index.handle(index);
        let checked = |block: Result<Block, DecodeError>| {
            let block = block.map_err(|error| self.corrupt(handle.offset, error.what))?;
            if block.count() == 0 {
                return Err(self.corrupt(handle.offset, "a data block that is not empty"));
            }
            Ok(block)
        };
        self.load_with(opened.file.as_ref(), handle, |payload| {
            if !keep {
                return checked(Block::new(payload.to_vec()))
                    .map(|block| Held::own(Arc::new(CachedBlock::apart(block))));
            }
            opened.cached.insert(index, payload.len(), |memory| checked(Block::copy(payload, memory)))
        })
    }

    /// The deleted ranges, or `None` when there are none.
    pub(crate) fn range_deletes(&self) -> Result<Option<Arc<RangeDeletes>>, Error> {
        if self.meta.range_deletes == 0 { Ok(None) } else { Ok(Some(Arc::clone(&self.opened()?.range_deletes))) }
    }

    /// Calls `each` with the versions of a key that a read at `sequence` may see, newest first, until it breaks. The key's
    /// `hash` is that of [`filter::hash`].
    pub(crate) fn of_key(
        &self,
        key: &[u8],
        hash: u64,
        sequence: u64,
        tally: &mut ReadTally,
        each: &mut dyn FnMut(Trailer, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let opened = self.opened()?;
        // All at once: the line of the filter, and what comes next if it lets the key through.
        filter::approach(&opened.filter, hash);
        let group = opened.group_of(key);
        tally.filter_checks += 1;
        if !filter::may_contain(&opened.filter, hash) {
            tally.filter_negatives += 1;
            return Ok(());
        }
        let place = Trailer::at(sequence);
        for index in opened.block_in(group, key, place)..opened.index.count() {
            let block = self.block_of_opened(&opened, index, true, tally)?;
            let Some(suffix) = key.strip_prefix(block.common_prefix()) else { return Ok(()) };
            for at in block.lower_bound(key, place)..block.count() {
                let entry = block.entry(at);
                if entry.key != suffix || each(entry.trailer, entry.value).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.environment.memory.forget(&self.slot);
        if *self.obsolete.get_mut() {
            let mut graveyard = self.environment.graveyard.lock().unwrap_or_else(PoisonError::into_inner);
            graveyard.push(std::mem::take(&mut self.path));
        }
    }
}

fn decode_range_deletes(bytes: &[u8]) -> Option<Vec<RangeDelete>> {
    let mut reader = Reader::new(bytes);
    let mut deletes = Vec::new();
    while reader.remaining() > 0 {
        let sequence = reader.u64().ok().filter(|&sequence| sequence > 0)?;
        let start = reader.prefixed(KEY_BYTES_MAX).ok()?.into();
        let end = reader.prefixed(KEY_BYTES_MAX).ok()?.into();
        deletes.push(RangeDelete { start, end, sequence });
    }
    Some(deletes)
}
