//! A cursor on one space of a memtable. It takes versions out in runs that grow, so that it holds no place inside the list
//! and a long walk still costs little per version.

use std::sync::Arc;

use super::{Memtable, Place, Version};
use crate::cursor::{Cursor, Entry};
use crate::error::Error;
use crate::internal_key::Trailer;

const RUN_MIN: usize = 4;
const RUN_MAX: usize = 128;

pub(crate) struct MemtableCursor {
    memtable: Arc<Memtable>,
    space: u32,
    run: Vec<Version>,
    at: usize,
    run_length: usize,
}

impl MemtableCursor {
    pub(crate) const fn new(memtable: Arc<Memtable>, space: u32) -> Self {
        Self { memtable, space, run: Vec::new(), at: 0, run_length: RUN_MIN }
    }

    /// The version behind which the next run begins, when this run is used up and was not the last.
    fn used_up(&mut self) -> Option<Version> {
        self.at += 1;
        if self.at < self.run.len() || self.run.len() < self.run_length {
            return None;
        }
        let last = self.run.pop();
        self.run.clear();
        self.at = 0;
        self.run_length = (self.run_length * 2).min(RUN_MAX);
        last
    }
}

impl Cursor for MemtableCursor {
    fn entry(&self) -> Option<Entry<'_>> {
        let version = self.run.get(self.at)?;
        Some(Entry { key: version.key(), trailer: version.trailer(), value: version.value() })
    }

    fn seek(&mut self, key: &[u8], trailer: Trailer) -> Result<(), Error> {
        (self.at, self.run_length) = (0, RUN_MIN);
        self.run.clear();
        self.memtable.versions.from(Place { space: self.space, key, trailer }, self.run_length, &mut self.run);
        Ok(())
    }

    fn seek_before(&mut self, place: Option<(&[u8], Trailer)>) -> Result<(), Error> {
        (self.at, self.run_length) = (0, RUN_MIN);
        self.run.clear();
        let place = place.map(|(key, trailer)| Place { space: self.space, key, trailer });
        self.memtable.versions.before(self.space, place, self.run_length, &mut self.run);
        Ok(())
    }

    fn next(&mut self) -> Result<(), Error> {
        if let Some(last) = self.used_up() {
            // The place right behind a version is that of the version one older: sequence numbers begin at one.
            let trailer = last.trailer().just_older();
            let place = Place { space: last.space(), key: last.key(), trailer };
            self.memtable.versions.from(place, self.run_length, &mut self.run);
        }
        Ok(())
    }

    fn previous(&mut self) -> Result<(), Error> {
        if let Some(last) = self.used_up() {
            let place = Place { space: last.space(), key: last.key(), trailer: last.trailer() };
            self.memtable.versions.before(self.space, Some(place), self.run_length, &mut self.run);
        }
        Ok(())
    }
}
