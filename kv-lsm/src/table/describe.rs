//! What a table says about itself, without a manifest that speaks of it: for tools, verification and repair.

use std::path::Path;
use std::sync::Arc;

use super::format::{BlockError, FOOTER_BYTES, Footer, KNOWN, Properties, load_block};
use super::meta::{TableMeta, Upper};
use crate::disk::{Disk, OpenMode, read_exact_at};
use crate::error::Error;
use crate::options::Compression;

/// Footer and properties of a table.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) footer: Footer,
    pub(crate) properties: Properties,
}

impl Description {
    /// Reads footer and properties.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`], and the disk's.
    pub(crate) fn read(disk: &dyn Disk, path: &Path) -> Result<Self, Error> {
        let corrupt = |offset: u64, expected: &str| Error::corrupt(path, offset, format!("expected {expected}"));
        let file = disk.open(path, OpenMode::Read).map_err(|error| Error::io("open", path, error))?;
        let bytes = file.len().map_err(|error| Error::io("read", path, error))?;
        let Some(footer_at) = bytes.checked_sub(FOOTER_BYTES as u64) else {
            return Err(corrupt(bytes, "a file that is long enough for a footer"));
        };
        let read = |buffer: &mut [u8], offset| {
            read_exact_at(file.as_ref(), buffer, offset).map_err(|error| Error::io("read", path, error))
        };
        let mut stored = vec![0; FOOTER_BYTES];
        read(&mut stored, footer_at)?;
        let footer = Footer::decode(&stored).map_err(|error| corrupt(footer_at, error.what))?;
        footer.format.check(KNOWN, || path.to_path_buf())?;
        let handle = footer.properties;
        if handle.offset.checked_add(handle.length).is_none_or(|end| end > footer_at) {
            return Err(corrupt(footer_at, "properties inside the file"));
        }
        let length = usize::try_from(handle.length).map_err(|_| corrupt(footer_at, "properties that fit memory"))?;
        let mut stored = vec![0; length];
        read(&mut stored, handle.offset)?;
        let decoded = load_block(&stored, footer.identity, handle.offset).map_err(|error| match error {
            BlockError::Corrupt(expected) => corrupt(handle.offset, expected),
            BlockError::Zstd => Compression::unsupported_zstd(path),
        })?;
        let properties = Properties::decode(&decoded).map_err(|error| corrupt(handle.offset, error.what))?;
        Ok(Self { bytes, footer, properties })
    }

    /// What a manifest would say of the table, but for its first and last key and the blob files that it points into.
    pub(crate) fn meta(&self, number: u64) -> TableMeta {
        TableMeta {
            number,
            identity: self.footer.identity,
            format: self.footer.format,
            bytes: self.bytes,
            entries: self.properties.entries,
            deletes: self.properties.deletes,
            range_deletes: self.properties.range_deletes,
            expiring: self.properties.expiring,
            sequence_min: self.properties.sequence_min,
            sequence_max: self.properties.sequence_max,
            lower: Arc::from([]),
            upper: Upper { key: Arc::from([]), inclusive: true },
            blobs: Vec::new(),
        }
    }
}
