//! Looking into the files of a database: what the manifest says there is, and what lies in one table, log segment or blob file.
//!
//! Everything here reads and nothing writes: not a byte on the disk is changed. Whatever the bytes of a file are, the outcome
//! is a value or an [`Error`] that names file and offset. The structs are for people and tools; what the engine goes by is
//! documented in `docs/format.md`, and may say more in later versions.
//!
//! ```
//! use kv_lsm::inspect::Files;
//! use kv_lsm::{Database, KeyspaceOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let directory = tempfile::tempdir()?;
//! let db = Database::open(directory.path())?;
//! let users = db.keyspace("users", KeyspaceOptions::default())?;
//! users.put("7", "ada")?;
//! db.flush()?;
//! drop((db, users));
//!
//! let manifest = Files::default().manifest(directory.path())?;
//! let users = &manifest.keyspaces[0];
//! let table = &users.levels[0][0];
//! assert_eq!((users.name.as_str(), table.entries), ("users", 1));
//! assert_eq!(Files::default().table(&table.file)?.properties.sequence_max, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # A database in use
//!
//! [`Files::manifest`] takes the lock as [`Builder::read_only`](crate::Builder::read_only) does, beside others who only read, and
//! is refused with [`Error::Locked`] while the database is open to be written: take a
//! [checkpoint](crate::Database::checkpoint), and look at that. The others take no lock. Tables and blob files never change, and
//! of a segment of the log that is being written they see what is there at the moment.

mod blob;
mod log;
mod manifest;
mod options;
mod table;

pub use blob::{Blob, BlobRecord};
pub use log::{LogRecord, LogSegment};
pub use manifest::{BlobFile, Keyspace, Manifest, Table, UpperKey};
pub use options::{Options, decode_options, encode_options};
pub use table::{BlobPointer, Block, BlockCompression, DeletedRange, Kind, Place, Properties, TableFile, Version};

use std::path::Path;
use std::sync::Arc;

use crate::builder::IntoDisk;
use crate::disk::{Disk, OsDisk};
use crate::error::Error;

/// The files of a disk, to be looked at. By default those of the operating system.
#[derive(Clone)]
pub struct Files {
    disk: Arc<dyn Disk>,
}

impl Default for Files {
    fn default() -> Self {
        Self::on(OsDisk::new())
    }
}

impl Files {
    /// The files of this disk.
    #[must_use]
    pub fn on(disk: impl IntoDisk) -> Self {
        Self { disk: disk.into_disk() }
    }

    /// What the manifest of the database in a directory says there is. What the log holds beyond that is not in it.
    ///
    /// # Errors
    /// [`Error::NoDatabase`], [`Error::Locked`], [`Error::Corrupt`], [`Error::Unsupported`], and the disk's.
    pub fn manifest(&self, directory: impl AsRef<Path>) -> Result<Manifest, Error> {
        manifest::read(&self.disk, directory.as_ref())
    }

    /// What a table says about itself, and its data blocks. Reads and checks all of it but the filter.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`], and the disk's.
    pub fn table(&self, file: impl AsRef<Path>) -> Result<TableFile, Error> {
        self.table_versions(file, |_| {})
    }

    /// The same, calling `each` with every version of every key that it holds, in order.
    ///
    /// # Errors
    /// As [`Files::table`]; `each` may have been called before.
    pub fn table_versions(
        &self,
        file: impl AsRef<Path>,
        mut each: impl FnMut(&Version<'_>),
    ) -> Result<TableFile, Error> {
        table::read(&self.disk, file.as_ref(), &mut each)
    }

    /// Calls `each` with every whole record of one segment of the log, in order, and says where the last one ends.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file without the header of a segment and for records that are whole and cannot be read,
    /// [`Error::Unsupported`], and the disk's. That the file goes on behind the last whole record is no error: only the segments
    /// together tell whether something was lost, see [`Database::verify`](crate::Database::verify).
    pub fn log(&self, file: impl AsRef<Path>, mut each: impl FnMut(&LogRecord<'_>)) -> Result<LogSegment, Error> {
        log::read(self.disk.as_ref(), file.as_ref(), &mut each)
    }

    /// Reads a whole blob file and calls `each` with every record of it, in order.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`], and the disk's.
    pub fn blob(&self, file: impl AsRef<Path>, mut each: impl FnMut(&BlobRecord<'_>)) -> Result<Blob, Error> {
        blob::read(self.disk.as_ref(), file.as_ref(), &mut each)
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}
