//! The manifest's file: an append-only log of edits.
//!
//! ```text
//! manifest := header  record*
//! header   := magic:8  version:u32  features:u32  number:u64  database:u64  crc:u32               (HEADER_BYTES)
//! record   := crc:u32  length:u32  payload                                                        payload: an edit
//! ```
//!
//! The checksum of a record (CRC-32) covers the manifest's number, the record's offset, its length and its payload. Each edit
//! is synced before the next is written, so a record that is not whole is torn only when no whole one follows it: else it
//! had been durable, and is corrupt. A manifest is written whole under another name, synced, renamed, and its directory
//! synced, before the one before it goes: the one with the highest number counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kv_core::checksum::crc32;
use kv_core::codec::Reader;

use super::catalog::{BlobRecord, Catalog};
use super::edit::{Edit, KeyspaceRecord};
use crate::disk::{Disk, File, OpenMode, read_exact_at};
use crate::error::Error;
use crate::file_format::FileFormat;
use crate::{blob, files, table};

pub(crate) const MAGIC: [u8; 8] = *b"KVLSMman";
/// What this version reads and writes.
const KNOWN: FileFormat = FileFormat { version: 1, features: 0 };
pub(crate) const HEADER_BYTES: usize = 36;
const RECORD_HEADER_BYTES: usize = 8;

/// A manifest that edits are appended to.
pub(crate) struct Manifest {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    number: u64,
    database: u64,
    offset: u64,
    /// Length when it was written whole.
    whole_bytes: u64,
    catalog: Catalog,
}

/// An edit that did not become durable.
#[derive(Debug)]
pub(crate) enum EditError {
    /// It was rolled back: the manifest is as before.
    RolledBack(Error),
    /// Whether it is durable is unknown: nothing may be written any more.
    Unknown(Error),
}

impl Manifest {
    /// Writes a new manifest that says what `catalog` says, and makes it the one that counts.
    ///
    /// # Errors
    /// See [`EditError`].
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        directory: &Path,
        number: u64,
        database: u64,
        catalog: Catalog,
    ) -> Result<Self, EditError> {
        let unfinished = files::unfinished_manifest(directory, number);
        let path = files::manifest(directory, number);
        let write = || {
            let file = disk.open(&unfinished, OpenMode::CreateNew)?;
            let mut bytes = encode_header(number, database);
            let record = encode_record(number, bytes.len() as u64, &catalog.as_edit().encode());
            bytes.extend_from_slice(&record);
            file.write_at(&bytes, 0)?;
            file.sync()?;
            Ok((file, bytes.len() as u64))
        };
        let (file, offset) = write().map_err(|error| {
            let _ = disk.remove(&unfinished);
            EditError::RolledBack(Error::io("write", &unfinished, error))
        })?;
        // A rename that failed left the names as they were, but a directory whose sync failed may hold either.
        disk.rename(&unfinished, &path)
            .map_err(|error| EditError::RolledBack(Error::io("rename", &unfinished, error)))?;
        disk.sync_dir(directory).map_err(|error| EditError::Unknown(Error::io("sync", directory, error)))?;
        let directory = directory.to_path_buf();
        Ok(Self { disk, directory, path, file, number, database, offset, whole_bytes: offset, catalog })
    }

    /// Appends an edit and syncs it.
    ///
    /// # Errors
    /// See [`EditError`].
    pub(crate) fn append(&mut self, edit: &Edit) -> Result<(), EditError> {
        let mut catalog = self.catalog.clone();
        // What a table said, with checksums that fit, may not be what the manifest says of it.
        catalog.apply(edit).map_err(|what| {
            let what = format!("expected what the edit changes: {what}");
            EditError::RolledBack(Error::corrupt(&self.path, self.offset, what))
        })?;
        let record = encode_record(self.number, self.offset, &edit.encode());
        if let Err(error) = self.file.write_at(&record, self.offset) {
            let error = Error::io("append to", &self.path, error);
            // All of it may have been written. Until the cut is durable a power cut could bring the edit back, and the caller
            // removes the files that it names.
            return Err(match self.file.truncate(self.offset).and_then(|()| self.file.sync()) {
                Ok(()) => EditError::RolledBack(error),
                Err(_) => EditError::Unknown(error),
            });
        }
        self.file.sync().map_err(|error| EditError::Unknown(Error::io("sync", &self.path, error)))?;
        self.offset += record.len() as u64;
        self.catalog = catalog;
        Ok(())
    }

    /// Writes a new, shorter manifest in place of this one when it has grown past `bytes_max`, and past twice its first
    /// length. `number` gives the number of the new one.
    ///
    /// # Errors
    /// See [`EditError`]. After a roll-back this one goes on.
    pub(crate) fn roll(&mut self, bytes_max: u64, number: impl FnOnce() -> u64) -> Result<(), EditError> {
        if self.offset <= bytes_max.max(2 * self.whole_bytes) {
            return Ok(());
        }
        let number = number();
        let mut catalog = self.catalog.clone();
        catalog.next_file = catalog.next_file.max(number + 1);
        let next = Self::create(Arc::clone(&self.disk), &self.directory, number, self.database, catalog)?;
        let before = std::mem::replace(self, next);
        // Harmless when it fails: recovery goes by the highest number and removes the others.
        let _ = before.disk.remove(&before.path);
        Ok(())
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) const fn catalog(&self) -> &Catalog {
        &self.catalog
    }
}

fn encode_header(number: u64, database: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&MAGIC);
    KNOWN.encode(&mut out);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&database.to_le_bytes());
    let crc = crc32(&[&out]);
    out.extend_from_slice(&crc.to_le_bytes());
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out
}

fn encode_record(number: u64, offset: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("an edit is below 4 GiB").to_le_bytes();
    let crc = crc32(&[&number.to_le_bytes(), &offset.to_le_bytes(), &length, payload]);
    [&crc.to_le_bytes(), &length, payload].concat()
}

fn read_record(content: &[u8], number: u64, offset: usize) -> Option<&[u8]> {
    let mut reader = Reader::new(&content[offset..]);
    let crc = reader.u32().ok()?;
    let length = reader.u32().ok()?;
    let payload = reader.bytes(usize::try_from(length).ok()?).ok()?;
    let parts: [&[u8]; 4] = [&number.to_le_bytes(), &(offset as u64).to_le_bytes(), &length.to_le_bytes(), payload];
    (crc == crc32(&parts)).then_some(payload)
}

/// What a manifest says.
#[derive(Debug)]
pub(crate) struct ReadManifest {
    pub(crate) database: u64,
    pub(crate) catalog: Catalog,
    /// Where a torn record begins, when the file ends with one.
    pub(crate) torn_at: Option<u64>,
}

/// Reads the manifest `number`.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Unsupported`], and the disk's. Nothing on the disk is changed.
pub(crate) fn read(disk: &dyn Disk, directory: &Path, number: u64) -> Result<ReadManifest, Error> {
    let path = files::manifest(directory, number);
    let content = read_file(disk, &path)?;
    let corrupt = |offset: usize, what: &str| Error::corrupt(&path, offset as u64, what);
    let database = read_header(&content, number, &path)?;
    let mut catalog = Catalog::default();
    let mut at = HEADER_BYTES;
    while let Some(payload) = content.get(at..).and_then(|_| read_record(&content, number, at)) {
        let edit =
            Edit::decode(payload).map_err(|error| corrupt(at, &format!("an edit that cannot be read: {error}")))?;
        catalog.apply(&edit).map_err(|what| corrupt(at, &what))?;
        at += RECORD_HEADER_BYTES + payload.len();
    }
    if at == HEADER_BYTES {
        return Err(corrupt(at, "expected the edit that a manifest begins with"));
    }
    check_formats(&catalog, directory, &path)?;
    // A length that is wrong hides what follows, so every offset is tried.
    if (at + 1..content.len()).any(|later| read_record(&content, number, later).is_some()) {
        return Err(corrupt(at, "expected an edit whose checksum fits: a later one was durable"));
    }
    let torn = content[at..].iter().any(|&byte| byte != 0);
    Ok(ReadManifest { database, catalog, torn_at: torn.then_some(at as u64) })
}

/// All that the manifest names must be readable: else a read would find out long after the database was opened.
fn check_formats(catalog: &Catalog, directory: &Path, path: &Path) -> Result<(), Error> {
    let unsupported = |record: &KeyspaceRecord| record.options.unsupported();
    if let Some((found, known)) = catalog.keyspaces.values().find_map(unsupported) {
        return Err(Error::Unsupported { file: path.to_path_buf(), found, known });
    }
    for table in catalog.tables() {
        table.format.check(table::format::KNOWN, || files::table(directory, table.number))?;
    }
    for BlobRecord { blob, .. } in catalog.blobs.values() {
        blob.format.check(blob::format::KNOWN, || files::blob(directory, blob.number))?;
    }
    Ok(())
}

/// The edits of a manifest that are whole, wherever they are: of one that cannot be read as a whole.
pub(crate) fn whole_edits(disk: &dyn Disk, directory: &Path, number: u64) -> Vec<Edit> {
    let Ok(content) = read_file(disk, &files::manifest(directory, number)) else { return Vec::new() };
    let mut edits = Vec::new();
    let mut at = 0;
    while at < content.len() {
        match read_record(&content, number, at) {
            Some(payload) => {
                edits.extend(Edit::decode(payload).ok());
                at += RECORD_HEADER_BYTES + payload.len();
            }
            None => at += 1,
        }
    }
    edits
}

fn read_header(content: &[u8], number: u64, path: &Path) -> Result<u64, Error> {
    let mut reader = Reader::new(content);
    let mut fields = || {
        let covered = reader.clone().bytes(HEADER_BYTES - 4)?;
        let magic: [u8; 8] = reader.array()?;
        let format = FileFormat::decode(&mut reader)?;
        let (stated, database) = (reader.u64()?, reader.u64()?);
        let whole = reader.u32()? == crc32(&[covered]) && magic == MAGIC && stated == number;
        Ok::<_, kv_core::codec::DecodeError>((whole, format, database))
    };
    match fields() {
        Ok((true, format, database)) => format.check(KNOWN, || path.to_path_buf()).map(|()| database),
        _ => Err(Error::corrupt(path, 0, "expected the header of this manifest")),
    }
}

fn read_file(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let file = disk.open(path, OpenMode::Read)?;
        let mut content = vec![0; usize::try_from(file.len()?).map_err(std::io::Error::other)?];
        read_exact_at(file.as_ref(), &mut content, 0)?;
        Ok(content)
    };
    read().map_err(|error| Error::io("read", path, error))
}

#[cfg(test)]
mod tests {
    use super::super::edit::Item;
    use super::*;
    use crate::disk::MemDisk;
    use crate::keyspace_options::stored::StoredOptions;
    use crate::options::Compression;

    #[test]
    fn a_keyspace_with_options_of_a_later_version_is_refused() {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let directory = Path::new("/");
        let later = StoredOptions { unknown: vec![(200, b"?".to_vec())], ..StoredOptions::default() };
        let zstd = StoredOptions { compression: Some(vec![Compression::Zstd(3)]), ..StoredOptions::default() };
        for (number, options) in [(1, later), (2, zstd)] {
            let mut manifest =
                Manifest::create(Arc::clone(&disk), directory, number, 7, Catalog::default()).expect("the disk works");
            let record = KeyspaceRecord { id: 256, name: "users".to_owned(), options: StoredOptions::default() };
            manifest.append(&Edit(vec![Item::Keyspace(record)])).expect("the disk works");
            assert!(read(disk.as_ref(), directory, number).is_ok());
            manifest.append(&Edit(vec![Item::Options { id: 256, options: options.clone() }])).expect("the disk works");
            let refused = read(disk.as_ref(), directory, number);
            if options.unsupported().is_some() {
                assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
            } else {
                assert_eq!(refused.expect("this build can").catalog.keyspaces[&256].options, options);
            }
        }
    }
}
