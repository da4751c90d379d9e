//! What a flush or compaction does with the values of the versions it keeps.
//!
//! 1. A put of at least the keyspace's size goes to a blob file, and a pointer with the inline prefix into the table. Merge
//!    operands stay where they are: only what they fold to is separated (rule E13).
//! 2. A pointer is kept as it is, unless the file that it leads into is worth collecting: then the value is copied as if it
//!    had just been written, at the same number.
//!
//! Blob files of one job are filled one after the other, whatever tables the pointers end up in.

use std::collections::BTreeSet;

use super::files::BlobFiles;
use super::meta::BlobMeta;
use super::writer::BlobWriter;
use crate::error::Error;
use crate::internal_key::{EXPIRY_BYTES, Kind, Trailer};
use crate::keyspace_options::stored::StoredOptions;

/// Which values are separated, and how.
#[derive(Copy, Clone, Debug)]
pub(crate) struct SeparateRules {
    /// Values of so many bytes and more; `None`: no value.
    pub(crate) from_bytes: Option<usize>,
    pub(crate) prefix_bytes: usize,
    /// A blob file that has grown to this is not added to.
    pub(crate) file_bytes: u64,
}

impl SeparateRules {
    pub(crate) fn new(options: &StoredOptions, file_bytes: u64) -> Self {
        Self {
            from_bytes: options.separate_from_bytes.map(|bytes| bytes as usize),
            prefix_bytes: options.inline_prefix_bytes.map_or(0, |bytes| bytes as usize),
            file_bytes,
        }
    }
}

/// Separates the values of one job.
pub(crate) struct Separator {
    rules: SeparateRules,
    /// Where the pointers of the input lead.
    sources: BlobFiles,
    /// Those of them that are worth collecting.
    collected: BTreeSet<u64>,
    writer: Option<BlobWriter>,
    finished: Vec<BlobMeta>,
    /// What stands for the value in the table.
    stored: Vec<u8>,
}

/// Creates the next blob file of a job.
pub(crate) type CreateBlob<'a> = dyn FnMut() -> Result<BlobWriter, Error> + 'a;

impl Separator {
    pub(crate) const fn new(rules: SeparateRules, sources: BlobFiles, collected: BTreeSet<u64>) -> Self {
        Self { rules, sources, collected, writer: None, finished: Vec::new(), stored: Vec::new() }
    }

    /// The value that a pointer of the input leads to.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and the disk's.
    pub(crate) fn read(&self, key: &[u8], pointer: &[u8]) -> Result<Vec<u8>, Error> {
        self.sources.read(key, pointer)
    }

    /// What the table holds for a version whose stored bytes are `stored`.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and the disk's.
    pub(crate) fn place<'a>(
        &'a mut self,
        key: &[u8],
        trailer: Trailer,
        stored: &'a [u8],
        create: &mut CreateBlob<'_>,
    ) -> Result<(Trailer, &'a [u8]), Error> {
        if trailer.kind() != Kind::Put {
            return Ok((trailer, stored));
        }
        let (expiry, content) = stored.split_at(if trailer.is_expiring() { EXPIRY_BYTES } else { 0 });
        let copied;
        let value = if trailer.is_separated() {
            if !self.collected.contains(&self.sources.pointer(content)?.file) {
                return Ok((trailer, stored));
            }
            copied = self.read(key, content)?;
            &copied
        } else {
            content
        };
        let separated = self.rules.from_bytes.is_some_and(|bytes| value.len() >= bytes);
        if !separated && !trailer.is_separated() {
            return Ok((trailer, stored));
        }
        self.stored.clear();
        self.stored.extend_from_slice(expiry);
        if separated {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                None => self.writer.insert(create()?),
            };
            let mut pointer = writer.push(key, trailer.sequence(), value)?;
            pointer.prefix = &value[..value.len().min(self.rules.prefix_bytes)];
            pointer.encode(&mut self.stored);
            if let Some(full) = self.writer.take_if(|writer| writer.bytes() >= self.rules.file_bytes) {
                self.finished.push(full.finish()?);
            }
        } else {
            self.stored.extend_from_slice(value);
        }
        Ok((trailer.with_separated(separated), &self.stored))
    }

    /// Ends the last file. All files are synced, but for their names.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn finish(mut self) -> Result<Vec<BlobMeta>, Error> {
        if let Some(writer) = self.writer.take() {
            self.finished.push(writer.finish()?);
        }
        Ok(self.finished)
    }
}
