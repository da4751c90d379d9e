//! What lies in a blob file.

use std::path::Path;

use crate::blob::reader::inspect;
use crate::disk::Disk;
use crate::error::Error;

/// What a blob file says about itself.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Blob {
    /// Number of the keyspace that its values belong to.
    pub keyspace: u32,
    /// Its identity, which every checksum in it is bound to.
    pub identity: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Values in it.
    pub records: u64,
}

/// A value that is kept apart from its key.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct BlobRecord<'a> {
    /// Where the record begins in the file.
    pub offset: u64,
    /// Number of the version that points to it.
    pub sequence: u64,
    /// The key.
    pub key: &'a [u8],
    /// The value, decoded.
    pub value: &'a [u8],
}

pub(super) fn read(disk: &dyn Disk, path: &Path, each: &mut dyn FnMut(&BlobRecord<'_>)) -> Result<Blob, Error> {
    let found = inspect(disk, path, &mut |offset, record| {
        let refuse = |expected: &str| Error::corrupt(path, offset, format!("expected {expected}"));
        let value = record.value().map_err(refuse)?;
        each(&BlobRecord { offset, sequence: record.sequence, key: record.key, value: &value });
        Ok(())
    })?;
    Ok(Blob { keyspace: found.keyspace, identity: found.identity, bytes: found.bytes, records: found.records })
}
