//! A cursor on one table. A block is read when the cursor reaches it.

use std::sync::Arc;

use super::block::Block;
use super::reader::{Opened, Table};
use crate::counters::ReadTally;
use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::Trailer;

pub(crate) struct TableCursor {
    table: Arc<Table>,
    opened: Option<Arc<Opened>>,
    /// Whether blocks that are read go into the cache: not those of a compaction.
    keep: bool,
    block: Option<(usize, Arc<Block>)>,
    at: usize,
    /// The whole key it stands on; its first `common` bytes are those that all keys of the block begin with.
    key: Vec<u8>,
    common: usize,
}

impl TableCursor {
    pub(crate) const fn new(table: Arc<Table>, keep: bool) -> Self {
        Self { table, opened: None, keep, block: None, at: 0, key: Vec::new(), common: 0 }
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
            self.block = Some((index, block));
        }
        let (_, block) = self.block.as_ref().expect("just entered");
        self.key.clear();
        self.key.extend_from_slice(block.common_prefix());
        self.common = self.key.len();
        Ok(())
    }

    fn stand(&mut self, at: usize) {
        let (_, block) = self.block.as_ref().expect("a cursor stands in a block");
        self.at = at;
        self.key.truncate(self.common);
        self.key.extend_from_slice(block.entry(at).key);
    }
}

impl Cursor for TableCursor {
    fn entry(&self) -> Option<Entry<'_>> {
        let (_, block) = self.block.as_ref()?;
        let entry = block.entry(self.at);
        Some(Entry { key: &self.key, ..entry })
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        let index = self.opened()?.block_of(key, trailer);
        if index == self.opened()?.blocks() {
            self.block = None;
            return Ok(());
        }
        self.enter(index)?;
        let (_, block) = self.block.as_ref().expect("just entered");
        let at = block.lower_bound(key, trailer);
        if at == block.count() {
            // Only when the index claims a later last key than the block has.
            self.at = at - 1;
            return self.next();
        }
        self.stand(at);
        Ok(())
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        let blocks = self.opened()?.blocks();
        let index = match place {
            Some((key, trailer)) => self.opened()?.block_of(key, trailer),
            None => blocks,
        };
        if let (Some((key, trailer)), true) = (place, index < blocks) {
            self.enter(index)?;
            let (_, block) = self.block.as_ref().expect("just entered");
            if let Some(at) = block.lower_bound(key, trailer).checked_sub(1) {
                self.stand(at);
                return Ok(());
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
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        let Some((index, block)) = &self.block else { return Ok(()) };
        if self.at + 1 < block.count() {
            self.stand(self.at + 1);
            return Ok(());
        }
        let index = index + 1;
        if index == self.opened()?.blocks() {
            self.block = None;
            return Ok(());
        }
        self.enter(index)?;
        self.stand(0);
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Error> {
        let Some((index, block)) = &self.block else { return Ok(()) };
        if let Some(at) = self.at.checked_sub(1) {
            self.stand(at);
            return Ok(());
        }
        let _ = block;
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
