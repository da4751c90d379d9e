//! Writing a blob file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{Footer, HEADER_BYTES, Header, KNOWN, Pointer, store_record};
use super::meta::BlobMeta;
use crate::disk::{Disk, File, OpenMode};
use crate::error::Error;
use crate::files;
use crate::identity::file_identity;
use crate::keyspace_options::stored::StoredOptions;
use crate::options::{Compression, Config};

/// Bytes are handed to the disk in runs of about this size.
const RUN_BYTES: usize = 256 * 1024;

#[derive(Copy, Clone, Debug)]
pub(crate) struct BlobSettings {
    pub(crate) keyspace: u32,
    pub(crate) lz4: bool,
    /// Identity of the database, from which that of the file is made.
    pub(crate) database: u64,
}

impl BlobSettings {
    /// Values are compressed, with LZ4, when the deepest tables are: they move no further.
    pub(crate) fn new(config: &Config, options: &StoredOptions, database: u64, keyspace: u32) -> Self {
        let compression = options.compression.as_deref().map_or(Some(&config.compression), <[Compression]>::last);
        let lz4 = compression.is_some_and(|compression| *compression != Compression::None);
        Self { keyspace, lz4, database }
    }
}

/// Takes values and writes them to a new file.
pub(crate) struct BlobWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    number: u64,
    identity: u64,
    lz4: bool,
    pending: Vec<u8>,
    written: u64,
    records: u64,
}

impl BlobWriter {
    /// Creates the blob file `number`.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn create(
        disk: &dyn Disk,
        directory: &Path,
        number: u64,
        settings: BlobSettings,
    ) -> Result<Self, Error> {
        let path = files::blob(directory, number);
        let file = disk.open(&path, OpenMode::CreateNew).map_err(|error| Error::io("create", &path, error))?;
        let identity = file_identity(settings.database, number);
        let mut pending = Vec::new();
        Header { format: KNOWN, identity, keyspace: settings.keyspace }.encode(&mut pending);
        Ok(Self { file, path, number, identity, lz4: settings.lz4, pending, written: 0, records: 0 })
    }

    /// How long the file is up to now.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Adds a value, and returns where it lies; the prefix is left empty.
    ///
    /// # Errors
    /// The disk's; the file is then of no use.
    pub(crate) fn push(&mut self, key: &[u8], sequence: u64, value: &[u8]) -> Result<Pointer<'static>, Error> {
        let offset = self.bytes();
        let length = store_record(&mut self.pending, key, sequence, value, self.lz4, self.identity, offset);
        self.records += 1;
        if self.pending.len() >= RUN_BYTES {
            self.hand_over()?;
        }
        let small = |length: usize| u32::try_from(length).expect("keys and values have limits");
        Ok(Pointer {
            file: self.number,
            offset,
            record_bytes: small(length),
            value_bytes: small(value.len()),
            prefix: &[],
        })
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        let result = self.file.write_at(&self.pending, self.written);
        result.map_err(|error| Error::io("write", &self.path, error))?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is missing and syncs the file. Its name is not durable yet.
    ///
    /// # Errors
    /// The disk's; the file is then of no use. A failed sync is harmless: nothing names the file.
    pub(crate) fn finish(mut self) -> Result<BlobMeta, Error> {
        let record_bytes = self.bytes() - HEADER_BYTES as u64;
        Footer { records: self.records, record_bytes, identity: self.identity }.encode(&mut self.pending);
        self.hand_over()?;
        if !sabotaged!(LeaveBlobsUnsynced) {
            self.file.sync().map_err(|error| Error::io("sync", &self.path, error))?;
        }
        Ok(BlobMeta {
            number: self.number,
            identity: self.identity,
            format: KNOWN,
            bytes: self.written,
            records: self.records,
        })
    }
}
