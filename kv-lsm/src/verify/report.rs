//! What a verification finds.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Something in a file that is not as it must be.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What was expected there, or what the disk said when asked for it.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}: {}", self.file.display(), self.offset, self.expected)
    }
}

impl Problem {
    pub(crate) fn new(file: &Path, offset: u64, expected: impl Into<String>) -> Self {
        Self { file: file.to_path_buf(), offset, expected: expected.into() }
    }

    /// What an error that was met while reading `file` says.
    pub(crate) fn of(error: Error, file: &Path) -> Self {
        match error {
            Error::Corrupt { file, offset, what } => Self { file, offset, expected: what },
            other => Self::new(file, 0, other.to_string()),
        }
    }
}

/// What a verification read, and what it found wrong.
#[derive(Clone, Default, Debug)]
pub struct VerifyReport {
    /// Keyspaces that the manifest names.
    pub keyspaces: u64,
    /// Tables.
    pub tables: u64,
    /// Their bytes.
    pub table_bytes: u64,
    /// Data blocks in them.
    pub blocks: u64,
    /// Versions of keys in these.
    pub entries: u64,
    /// Deleted ranges in tables.
    pub range_deletes: u64,
    /// Files of separated values.
    pub blob_files: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Values in them, live or not.
    pub blob_records: u64,
    /// Segments of the log.
    pub log_segments: u64,
    /// Their bytes.
    pub log_bytes: u64,
    /// Batches in these.
    pub batches: u64,
    /// Operations in the batches.
    pub operations: u64,
    /// Tails that a power cut or the death of a process left torn: not a fault, and discarded when the database is next
    /// opened.
    pub torn: Vec<Problem>,
    /// Everything that is wrong. Empty when the database is sound.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }
}

/// How far a verification, an export or another long piece of work has come.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes there are to do.
    pub total_bytes: u64,
}
