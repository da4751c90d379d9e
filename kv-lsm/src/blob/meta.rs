//! What the manifest knows about a blob file.

use super::format::{FOOTER_BYTES, HEADER_BYTES};
use crate::file_format::FileFormat;

/// One blob file. How much of it is live follows from the tables: each names the files it points into, with bytes.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct BlobMeta {
    pub(crate) number: u64,
    pub(crate) identity: u64,
    pub(crate) format: FileFormat,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) records: u64,
}

impl BlobMeta {
    /// Bytes of the records alone.
    pub(crate) const fn record_bytes(&self) -> u64 {
        self.bytes.saturating_sub((HEADER_BYTES + FOOTER_BYTES) as u64)
    }
}

/// How much of a blob file one table points to.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct BlobUse {
    /// Number of the blob file.
    pub(crate) number: u64,
    /// Bytes of the records that entries of the table point to.
    pub(crate) bytes: u64,
}
