//! A cursor on one space of a memtable. It takes versions out in runs that grow, so that a short look costs little and a long
//! walk little per version.

use std::sync::Arc;

use super::Memtable;
use super::tree::Run;
use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::Trailer;

const RUN_MIN: usize = 4;
const RUN_MAX: usize = 128;

pub(crate) struct MemtableCursor {
    run: Run,
    at: usize,
    run_length: usize,
}

impl MemtableCursor {
    pub(crate) fn new(memtable: &Memtable, space: u32) -> Self {
        Self { run: Run::new(Arc::clone(&memtable.versions), space), at: 0, run_length: RUN_MIN }
    }

    /// Steps inside the run. Returns whether it is used up and more may follow it.
    fn step(&mut self) -> bool {
        self.at += 1;
        if self.at < self.run.len() || self.run.len() < self.run_length {
            return false;
        }
        self.at = 0;
        self.run_length = (self.run_length * 2).min(RUN_MAX);
        true
    }
}

impl Cursor for MemtableCursor {
    fn entry(&self) -> Option<Entry<'_>> {
        let record = self.run.get(self.at)?;
        Some(Entry { key: record.key, trailer: record.trailer, value: record.value })
    }

    fn next_at_hand(&mut self) -> bool {
        let is_there = self.run.get(self.at + 1).is_some();
        self.at += usize::from(is_there);
        is_there
    }

    fn previous_at_hand(&mut self) -> bool {
        self.next_at_hand()
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        (self.at, self.run_length) = (0, RUN_MIN);
        self.run.fill_from(key, trailer, self.run_length);
        Ok(())
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        (self.at, self.run_length) = (0, RUN_MIN);
        self.run.fill_before(place, self.run_length);
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        if self.step() {
            self.run.go_on(self.run_length);
        }
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Error> {
        if self.step() {
            self.run.go_back(self.run_length);
        }
        Ok(())
    }
}
