//! The blob files of one keyspace, as one version of it names them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::format::Pointer;
use super::reader::BlobFile;
use crate::error::Error;
use crate::files;
use crate::value_cache::CachedValue;

/// A blob file, and how much of it the tables of the version point to.
#[derive(Clone)]
pub(crate) struct LiveBlob {
    pub(crate) file: Arc<BlobFile>,
    pub(crate) live_bytes: u64,
}

impl LiveBlob {
    /// Bytes of records that nothing points to.
    pub(crate) fn garbage_bytes(&self) -> u64 {
        self.file.meta().record_bytes() - self.live_bytes
    }

    /// Whether so little of the file is live that what is should move to another one.
    pub(crate) fn is_worth_collecting(&self, garbage_percent: u8) -> bool {
        let record_bytes = self.file.meta().record_bytes();
        let garbage = self.garbage_bytes();
        garbage > 0 && u128::from(garbage) * 100 >= u128::from(record_bytes) * u128::from(garbage_percent)
    }
}

/// By number. As long as a version lives, the files that its tables point into do.
#[derive(Clone, Default)]
pub(crate) struct BlobFiles {
    pub(crate) directory: PathBuf,
    pub(crate) by_number: BTreeMap<u64, LiveBlob>,
}

impl BlobFiles {
    /// The file `number`, if the version names it.
    pub(crate) fn get(&self, number: u64) -> Option<&Arc<BlobFile>> {
        self.by_number.get(&number).map(|blob| &blob.file)
    }

    /// Reads an entry's pointer. The block that it comes from has passed its checksum.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn pointer<'a>(&self, pointer: &'a [u8]) -> Result<Pointer<'a>, Error> {
        Pointer::decode(pointer).map_err(|error| Error::corrupt(&self.directory, 0, format!("expected {}", error.what)))
    }

    /// The value of `key` that stands behind an entry's pointer, from the disk.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and the disk's.
    pub(crate) fn read(&self, key: &[u8], pointer: &[u8]) -> Result<Vec<u8>, Error> {
        let pointer = self.pointer(pointer)?;
        self.file_of(&pointer)?.read(key, &pointer)
    }

    /// What `look` makes of that value, which is in the cache or goes there.
    ///
    /// # Errors
    /// [`Error::Corrupt`], and the disk's; then `look` was not called.
    pub(crate) fn look_at<R>(&self, key: &[u8], pointer: &[u8], look: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        let pointer = self.pointer(pointer)?;
        self.file_of(&pointer)?.look_at(key, &pointer, look)
    }

    /// That value, if it is in the cache.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub(crate) fn cached(&self, key: &[u8], pointer: &[u8]) -> Result<Option<CachedValue>, Error> {
        let pointer = self.pointer(pointer)?;
        self.file_of(&pointer)?.cached(key, &pointer)
    }

    fn file_of(&self, pointer: &Pointer<'_>) -> Result<&Arc<BlobFile>, Error> {
        self.get(pointer.file).ok_or_else(|| {
            let path = files::blob(&self.directory, pointer.file);
            Error::corrupt(&path, pointer.offset, "a table points into this file, which the manifest does not name")
        })
    }

    /// Numbers of the files that are worth collecting.
    pub(crate) fn worth_collecting(&self, garbage_percent: u8) -> BTreeSet<u64> {
        let worth = self.by_number.iter().filter(|(_, blob)| blob.is_worth_collecting(garbage_percent));
        worth.map(|(&number, _)| number).collect()
    }
}
