//! A cursor on one table. A block is read when the cursor reaches it.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::block::EntryPlace;
use super::reader::{Opened, Table};
use crate::cache::CachedBlock;
use crate::counters::ReadTally;
use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::{Trailer, compare};

pub(crate) struct TableCursor {
    table: Arc<Table>,
    opened: Option<Arc<Opened>>,
    /// Whether blocks that are read go into the cache: not those of a compaction.
    keep: bool,
    block: Option<(usize, Arc<CachedBlock>)>,
    approached: Approached,
    at: usize,
    /// Of the entry it stands on, which a merge looks at several times before it steps.
    trailer: Trailer,
    value: Range<usize>,
    /// The whole key it stands on; its first `common` bytes are those that all keys of the block begin with.
    key: Vec<u8>,
    common: usize,
    /// The key before, for what is not kept.
    previous: Vec<u8>,
}

/// How far a seek to come was prepared.
#[derive(Copy, Clone)]
enum Approached {
    Nothing,
    /// The block is one of these.
    Group(usize),
    Block(usize),
    /// A block, and where in it.
    Entry(usize, usize),
}

impl TableCursor {
    pub(crate) const fn new(table: Arc<Table>, keep: bool) -> Self {
        Self {
            table,
            opened: None,
            keep,
            block: None,
            approached: Approached::Nothing,
            at: 0,
            trailer: Trailer::NEWEST,
            value: 0..0,
            key: Vec::new(),
            common: 0,
            previous: Vec::new(),
        }
    }

    fn opened(&mut self) -> Result<Arc<Opened>, Error> {
        if self.opened.is_none() {
            self.opened = Some(self.table.keep_open()?);
        }
        Ok(Arc::clone(self.opened.as_ref().expect("just opened")))
    }

    fn enter(&mut self, index: usize) -> Result<(), Error> {
        if !matches!(&self.block, Some((present, _)) if *present == index) {
            self.block = None;
            let opened = self.opened()?;
            let block = self.table.block_of_opened(&opened, index, self.keep, &mut ReadTally::default())?;
            self.block = Some((index, block.keep()));
        }
        let (_, block) = self.block.as_ref().expect("just entered");
        self.key.clear();
        self.key.extend_from_slice(block.common_prefix());
        self.common = self.key.len();
        Ok(())
    }

    fn stand(&mut self, at: usize) {
        let (_, block) = self.block.as_ref().expect("a cursor stands in a block");
        let EntryPlace { trailer, key, value } = block.place(at);
        self.key.truncate(self.common);
        self.key.extend_from_slice(block.part(key));
        (self.at, self.trailer, self.value) = (at, trailer, value);
    }
}

impl TableCursor {
    fn step(&mut self) -> Result<(), Error> {
        let Some((index, block)) = &self.block else { return Ok(()) };
        if self.at + 1 < block.count() {
            self.stand(self.at + 1);
            return Ok(());
        }
        let index = index + 1;
        let blocks = self.opened()?.blocks();
        if index == blocks {
            self.block = None;
            return Ok(());
        }
        if sabotaged!(SkipUnreadableBlock) && self.enter(index).is_err() && index + 1 < blocks {
            self.enter(index + 1)?;
        } else {
            self.enter(index)?;
        }
        self.stand(0);
        Ok(())
    }

    /// Keys of a damaged table whose checksums are right may be in any order. Whoever seeks until they are past a place relies
    /// on this.
    fn check_place(&self, place: (&[u8], Trailer), is_right: fn(Ordering) -> bool) -> Result<(), Error> {
        let (Some(entry), Some((index, _))) = (self.entry(), &self.block) else { return Ok(()) };
        if is_right(compare((entry.key, entry.trailer), place)) {
            return Ok(());
        }
        let (_, _, handle) = self.table.index_entry(*index)?;
        Err(self.table.corrupt(handle.offset, "keys in order, and in the block that the index says"))
    }

    /// What is rewritten must be in order, and no newer than the manifest says, whatever its checksums say: else damage would be
    /// compacted into something that looks whole.
    fn check(&self, previous: Option<Trailer>) -> Result<(), Error> {
        let (Some(entry), Some((index, _))) = (self.entry(), &self.block) else { return Ok(()) };
        let behind =
            previous.is_none_or(|trailer| compare((&self.previous, trailer), (entry.key, entry.trailer)).is_lt());
        if behind && entry.trailer.sequence() <= self.table.meta().sequence_max {
            return Ok(());
        }
        let (_, _, handle) = self.table.index_entry(*index)?;
        Err(self.table.corrupt(handle.offset, "versions in order, and no newer than the manifest says"))
    }
}

impl Cursor for TableCursor {
    #[inline]
    fn entry(&self) -> Option<Entry<'_>> {
        let (_, block) = self.block.as_ref()?;
        Some(Entry { key: &self.key, trailer: self.trailer, value: block.part(self.value.clone()) })
    }

    #[inline]
    fn place(&self) -> Option<(&[u8], Trailer)> {
        self.block.as_ref().map(|_| (self.key.as_slice(), self.trailer))
    }

    #[inline]
    fn next_at_hand(&mut self) -> bool {
        let is_there = self.keep && self.block.as_ref().is_some_and(|(_, block)| self.at + 1 < block.count());
        if is_there {
            self.stand(self.at + 1);
        }
        is_there
    }

    #[inline]
    fn previous_at_hand(&mut self) -> bool {
        let is_there = self.block.is_some() && self.at > 0;
        if is_there {
            self.stand(self.at - 1);
        }
        is_there
    }

    fn approach(&mut self, part: usize, key: &[u8], trailer: Trailer) {
        if part == 0 {
            self.approached = Approached::Nothing;
            self.opened = self.opened.take().or_else(|| self.table.opened_before());
        }
        // What is not in memory is left to the seek.
        let Some(opened) = self.opened.as_ref().filter(|_| self.keep) else { return };
        match self.approached {
            Approached::Nothing if part == 0 => self.approached = Approached::Group(opened.group_of(key)),
            Approached::Nothing | Approached::Entry(..) => {}
            Approached::Group(group) => {
                let index = opened.block_in(group, key, trailer);
                opened.cached.approach_block(index);
                self.approached = Approached::Block(index);
            }
            Approached::Block(index) => {
                let Some(block) = opened.cached.get(index) else { return };
                let at = block.lower_bound(key, trailer);
                block.prefetch_from(at);
                self.approached = Approached::Entry(index, at);
                self.block = Some((index, block.keep()));
            }
        }
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        let opened = self.opened()?;
        let (index, found) = match std::mem::replace(&mut self.approached, Approached::Nothing) {
            Approached::Nothing => (opened.block_of(key, trailer), None),
            Approached::Group(group) => (opened.block_in(group, key, trailer), None),
            Approached::Block(index) => (index, None),
            Approached::Entry(index, at) => (index, Some(at)),
        };
        if index == opened.blocks() {
            self.block = None;
            return Ok(());
        }
        self.enter(index)?;
        let (_, block) = self.block.as_ref().expect("just entered");
        let at = found.unwrap_or_else(|| block.lower_bound(key, trailer));
        if at == block.count() {
            // Only when the index claims a later last key than the block has.
            self.at = at - 1;
            self.next()?;
            return self.check_place((key, trailer), Ordering::is_ge);
        }
        self.stand(at);
        self.check_place((key, trailer), Ordering::is_ge)?;
        if self.keep { Ok(()) } else { self.check(None) }
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        let opened = self.opened()?;
        let blocks = opened.blocks();
        let index = match place {
            Some((key, trailer)) => opened.block_of(key, trailer),
            None => blocks,
        };
        if let (Some((key, trailer)), true) = (place, index < blocks) {
            self.enter(index)?;
            let (_, block) = self.block.as_ref().expect("just entered");
            if let Some(at) = block.lower_bound(key, trailer).checked_sub(1) {
                self.stand(at);
                return self.check_place((key, trailer), Ordering::is_lt);
            }
        }
        match index.checked_sub(1) {
            Some(index) => {
                self.enter(index)?;
                let last = self.block.as_ref().expect("just entered").1.count() - 1;
                self.stand(last);
            }
            None => self.block = None,
        }
        place.map_or(Ok(()), |place| self.check_place(place, Ordering::is_lt))
    }

    fn next(&mut self) -> Result<(), Error> {
        if self.keep {
            return self.step();
        }
        let Some(trailer) = self.entry().map(|entry| entry.trailer) else { return Ok(()) };
        self.previous.clone_from(&self.key);
        self.step()?;
        self.check(Some(trailer))
    }

    fn previous(&mut self) -> Result<(), Error> {
        let Some((index, _)) = &self.block else { return Ok(()) };
        if let Some(at) = self.at.checked_sub(1) {
            self.stand(at);
            return Ok(());
        }
        match index.checked_sub(1) {
            Some(index) => {
                self.enter(index)?;
                let last = self.block.as_ref().expect("just entered").1.count() - 1;
                self.stand(last);
            }
            None => self.block = None,
        }
        Ok(())
    }
}
