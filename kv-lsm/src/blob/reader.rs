//! Reading values out of blob files.
//!
//! What reads want again is kept in the cache of blocks ([`crate::value_cache`]): a value of 16 KiB is there in a microsecond, and
//! takes seven out of the page cache of the system, with the call, the copies and the checksum.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use super::format::{
    FOOTER_BYTES, Footer, HEADER_BYTES, Header, KNOWN, Pointer, RECORD_HEADER_BYTES, Record, claimed_record_bytes,
};
use super::meta::BlobMeta;
use crate::disk::{Disk, File, OpenMode, read_exact_at};
use crate::error::Error;
use crate::file_format::FileFormat;
use crate::held::Held;
use crate::residents::Slot;
use crate::table::reader::TableEnvironment;
use crate::table::residents::OpenBlob;
use crate::table::scratch::with_scratch;
use crate::value_cache::{CachedValue, ValuePlace};

/// A blob file that the manifest names. It is opened when a value in it is asked for, and closed again when others need the
/// room.
pub(crate) struct BlobFile {
    meta: BlobMeta,
    path: PathBuf,
    environment: TableEnvironment,
    slot: Arc<Slot<OpenBlob>>,
    obsolete: AtomicBool,
}

impl BlobFile {
    pub(crate) fn new(meta: BlobMeta, path: PathBuf, environment: TableEnvironment) -> Self {
        Self { meta, path, environment, slot: Arc::default(), obsolete: AtomicBool::new(false) }
    }

    pub(crate) const fn meta(&self) -> &BlobMeta {
        &self.meta
    }

    /// Has the file removed once nobody reads it. Only after an edit that no longer names it is durable.
    pub(crate) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    fn corrupt(&self, offset: u64, expected: &str) -> Error {
        corrupt(&self.path, offset, expected)
    }

    fn opened(&self) -> Result<Held<OpenBlob>, Error> {
        if let Some(file) = self.slot.get() {
            return Ok(file);
        }
        let (file, length) = open(self.environment.disk.as_ref(), &self.path)?;
        if length != self.meta.bytes {
            return Err(self.corrupt(length.min(self.meta.bytes), "a file as long as the manifest says"));
        }
        let header = read_header(file.as_ref(), &self.path)?;
        if (header.identity, header.format) != (self.meta.identity, self.meta.format) {
            return Err(self.corrupt(0, "the identity and format that the manifest names"));
        }
        Ok(self.environment.memory.admit_blob(&self.slot, OpenBlob(file)))
    }

    /// The value of `key` that `pointer` leads to.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and the disk's.
    pub(crate) fn read(&self, key: &[u8], pointer: &Pointer<'_>) -> Result<Vec<u8>, Error> {
        self.load(key, pointer, <[u8]>::to_vec)
    }

    /// What `look` makes of that value, which is in the cache or goes there.
    ///
    /// # Errors
    /// As [`BlobFile::read`]; then `look` was not called.
    pub(crate) fn look_at<R>(
        &self,
        key: &[u8],
        pointer: &Pointer<'_>,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        if let Some(value) = self.cached(key, pointer)? {
            return Ok(look(value.bytes()));
        }
        self.load(key, pointer, |value| {
            self.environment.memory.values.insert(self.place_of(pointer), key, value);
            look(value)
        })
    }

    /// That value, if it is in the cache.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn cached(&self, key: &[u8], pointer: &Pointer<'_>) -> Result<Option<CachedValue>, Error> {
        let value = self.environment.memory.values.get(self.place_of(pointer), key);
        if let Some(value) = &value {
            self.check_value(value.bytes(), pointer)?;
        }
        Ok(value)
    }

    const fn place_of(&self, pointer: &Pointer<'_>) -> ValuePlace {
        ValuePlace { file: self.meta.number, offset: pointer.offset }
    }

    /// That a value is the one that a table describes.
    fn check_value(&self, value: &[u8], pointer: &Pointer<'_>) -> Result<(), Error> {
        if value.len() == pointer.value_bytes as usize && value.starts_with(pointer.prefix) {
            return Ok(());
        }
        Err(self.corrupt(pointer.offset, "the value that the table describes"))
    }

    fn load<R>(&self, key: &[u8], pointer: &Pointer<'_>, look: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        let opened = self.opened()?;
        let end = self.meta.bytes.saturating_sub(FOOTER_BYTES as u64);
        if pointer.offset < HEADER_BYTES as u64 || pointer.end().is_none_or(|behind| behind > end) {
            return Err(self.corrupt(pointer.offset, "the record that a table points to inside the file"));
        }
        // No longer than the file, which is as long as the manifest says.
        with_scratch(pointer.record_bytes as usize, |stored, _| {
            read_exact_at(opened.0.as_ref(), stored, pointer.offset)
                .map_err(|error| Error::io("read", &self.path, error))?;
            let refuse = |expected: &'static str| self.corrupt(pointer.offset, expected);
            let record = Record::load(stored, self.meta.identity, pointer.offset).map_err(refuse)?;
            if record.key != key {
                return Err(refuse("a record of the key that points to it"));
            }
            let value = record.value().map_err(refuse)?;
            self.check_value(&value, pointer)?;
            Ok(look(&value))
        })
    }
}

impl Drop for BlobFile {
    fn drop(&mut self) {
        self.environment.memory.forget_blob(&self.slot);
        if *self.obsolete.get_mut() {
            let mut graveyard = self.environment.graveyard.lock().unwrap_or_else(PoisonError::into_inner);
            graveyard.push(std::mem::take(&mut self.path));
        }
    }
}

fn corrupt(path: &Path, offset: u64, expected: &str) -> Error {
    Error::corrupt(path, offset, format!("expected {expected}"))
}

fn open(disk: &dyn Disk, path: &Path) -> Result<(Arc<dyn File>, u64), Error> {
    let io = |error| Error::io("open", path, error);
    let file = disk.open(path, OpenMode::Read).map_err(io)?;
    let length = file.len().map_err(io)?;
    if length < (HEADER_BYTES + FOOTER_BYTES) as u64 {
        return Err(corrupt(path, length, "a header and a footer"));
    }
    Ok((file, length))
}

fn read_header(file: &dyn File, path: &Path) -> Result<Header, Error> {
    let mut bytes = [0; HEADER_BYTES];
    read_exact_at(file, &mut bytes, 0).map_err(|error| Error::io("read", path, error))?;
    let header = Header::decode(&bytes).map_err(|error| corrupt(path, 0, error.what))?;
    header.format.check(KNOWN, || path.to_path_buf())?;
    Ok(header)
}

/// What a blob file says about itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct Inspected {
    pub(crate) keyspace: u32,
    pub(crate) identity: u64,
    pub(crate) format: FileFormat,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
}

/// Reads a whole blob file alone, front to back, checks every byte of it, and calls `each` with the offset and content of
/// every record.
///
/// # Errors
/// [`Error::Corrupt`], [`Error::Unsupported`], the disk's, and those of `each`.
pub(crate) fn inspect(
    disk: &dyn Disk,
    path: &Path,
    each: &mut dyn FnMut(u64, &Record<'_>) -> Result<(), Error>,
) -> Result<Inspected, Error> {
    let (file, bytes) = open(disk, path)?;
    let header = read_header(file.as_ref(), path)?;
    let end = bytes - FOOTER_BYTES as u64;
    let io = |error| Error::io("read", path, error);
    let mut offset = HEADER_BYTES as u64;
    let (mut stored, mut records) = (Vec::new(), 0);
    while offset < end {
        let refuse = |expected| corrupt(path, offset, expected);
        let mut head = [0; RECORD_HEADER_BYTES];
        if end - offset < RECORD_HEADER_BYTES as u64 {
            return Err(refuse("a whole record"));
        }
        read_exact_at(file.as_ref(), &mut head, offset).map_err(io)?;
        let length = claimed_record_bytes(&head);
        if length > end - offset {
            return Err(refuse("a record that ends before the footer"));
        }
        stored.resize(usize::try_from(length).map_err(|_| refuse("a record that fits memory"))?, 0);
        read_exact_at(file.as_ref(), &mut stored, offset).map_err(io)?;
        let record = Record::load(&stored, header.identity, offset).map_err(refuse)?;
        record.value().map_err(refuse)?;
        each(offset, &record)?;
        records += 1;
        offset += length;
    }
    let mut footer = [0; FOOTER_BYTES];
    read_exact_at(file.as_ref(), &mut footer, end).map_err(io)?;
    let footer = Footer::decode(&footer).map_err(|error| corrupt(path, end, error.what))?;
    let counted = Footer { records, record_bytes: end - HEADER_BYTES as u64, identity: header.identity };
    if footer != counted {
        return Err(corrupt(path, end, "a footer that counts what is in the file"));
    }
    Ok(Inspected { keyspace: header.keyspace, identity: header.identity, format: header.format, bytes, records })
}

#[cfg(test)]
mod tests;
