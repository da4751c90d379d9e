//! The files that a job writes.

use std::path::{Path, PathBuf};

use crate::blob::writer::{BlobSettings, BlobWriter};
use crate::disk::Disk;
use crate::error::Error;
use crate::files;
use crate::table::format::Origin;
use crate::table::keeper::Warming;
use crate::table::writer::{TableSettings, TableWriter};

/// Creates them under numbers that no file had before, and remembers them, for the case that they are not named after all.
pub(crate) struct Outputs<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) directory: &'a Path,
    pub(crate) new_number: &'a mut dyn FnMut() -> u64,
    pub(crate) table: TableSettings,
    pub(crate) origin: Origin,
    pub(crate) blob: BlobSettings,
    pub(crate) created: &'a mut Vec<PathBuf>,
    /// Asked before a table becomes whole, for jobs that must end in an order.
    pub(crate) may_end: &'a dyn Fn() -> Result<(), Error>,
    /// Which blocks of tables go into the cache, if there is one.
    pub(crate) warming: Option<Warming>,
}

impl Outputs<'_> {
    /// # Errors
    /// The disk's.
    pub(crate) fn table(&mut self) -> Result<TableWriter, Error> {
        let number = (self.new_number)();
        self.created.push(files::table(self.directory, number));
        let writer = TableWriter::create(self.disk, self.directory, number, self.table)?.of(&self.origin);
        Ok(match &self.warming {
            Some(warming) => writer.warming(warming),
            None => writer,
        })
    }

    /// # Errors
    /// The disk's.
    pub(crate) fn blob(&mut self) -> Result<BlobWriter, Error> {
        let number = (self.new_number)();
        self.created.push(files::blob(self.directory, number));
        BlobWriter::create(self.disk, self.directory, number, self.blob)
    }
}

/// Of jobs that may end whenever they have to.
pub(crate) const ANY_TIME: &dyn Fn() -> Result<(), Error> = &|| Ok(());

/// Removes files that will not be named, as far as that works: the next recovery removes the rest.
pub(crate) fn discard(disk: &dyn Disk, created: &[PathBuf]) {
    for path in created {
        let _ = disk.remove(path);
    }
}
