//! What can go wrong, grouped by what a caller can do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kv_core::store::{CommitError, Corrupt, Poisoned, StoreError};
use thiserror::Error;

/// Why an operation failed. Unless the variant says otherwise nothing was changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused. Nothing was lost; the same call may work later.
    #[error("{operation} {}: {source}", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The disk is full. The write was rolled back and nothing was lost; the same call works once there is room.
    #[error("no space left to {operation} {}", path.display())]
    NoSpace {
        /// What was being done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
    },
    /// Bytes read back are not the bytes that were written. Retrying does not help; other keys can still be read.
    #[error("{} is corrupt at byte {offset}: {what}", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What was expected there.
        what: String,
    },
    /// The files were written by a version of the engine that this one does not understand. Use the newer one.
    #[error("{} has {found}, and this engine knows {known}", file.display())]
    Unsupported {
        /// The file.
        file: PathBuf,
        /// The format or feature that it has.
        found: String,
        /// What this version, built as it is, can read.
        known: String,
    },
    /// A sync failed, so what is on the disk is unknown (the page cache may claim to be clean). Nothing more is
    /// acknowledged or written; open the database again to recover what is really there.
    #[error("the database was poisoned by a failed sync: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The write was applied and may or may not survive: its sync failed. The database is poisoned as well.
    #[error("the write may or may not survive: {reason}")]
    Ambiguous {
        /// The failure.
        reason: String,
    },
    /// Somebody else, perhaps in this process, has the database open.
    #[error("the database is in use: {} is locked", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The database was opened for reading only.
    #[error("the database was opened for reading only")]
    ReadOnly,
    /// There is something under a name that must be free.
    #[error("{} exists already", path.display())]
    AlreadyExists {
        /// The name.
        path: PathBuf,
    },
    /// There is no database in a directory that must hold one.
    #[error("there is no database in {}", path.display())]
    NoDatabase {
        /// The directory.
        path: PathBuf,
    },
    /// A key, value, batch or name is over the [limits](crate::limits).
    #[error("{what} of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A merge on a keyspace that was opened without an operator, or a read that met merge operands there.
    #[error("keyspace {keyspace} has no merge operator")]
    NoMergeOperator {
        /// Number of the keyspace.
        keyspace: u32,
    },
    /// A value with an expiry of its own, in a keyspace with a merge operator. There what expires is decided by the operator
    /// when it folds: a value that vanished below operands would leave them without their base.
    #[error("keyspace {keyspace} has a merge operator, so a value cannot expire by itself")]
    ExpiryWithOperator {
        /// Number of the keyspace.
        keyspace: u32,
    },
    /// A time to live that cannot be kept.
    #[error("a time to live must not be {what}")]
    InvalidTtl {
        /// Why not.
        what: &'static str,
    },
    /// The merge operator does not understand what is stored under a key. Other keys can still be read.
    #[error("the merge operator of keyspace {keyspace} refused: {reason}")]
    Merge {
        /// Number of the keyspace.
        keyspace: u32,
        /// What the operator said.
        reason: String,
    },
    /// A keyspace was opened with an option that differs from what it was created with, and must not.
    #[error("keyspace {name:?} was created with {option} {created}, not {wanted}")]
    OptionsMismatch {
        /// Its name.
        name: String,
        /// Which option.
        option: &'static str,
        /// How it was created.
        created: String,
        /// What was asked for.
        wanted: String,
    },
    /// A batch or handle names a keyspace that this database does not have, or that was dropped.
    #[error("unknown keyspace {keyspace}")]
    UnknownKeyspace {
        /// Its number.
        keyspace: u32,
    },
    /// There is no keyspace of this name.
    #[error("there is no keyspace {name:?}")]
    NoSuchKeyspace {
        /// The name.
        name: String,
    },
    /// What a transaction has read was written by somebody else since it began. Nothing was changed; run it again from the
    /// start.
    #[error("something that the transaction read in keyspace {keyspace} was written meanwhile")]
    Conflict {
        /// Number of the keyspace.
        keyspace: u32,
    },
    /// Background work is behind, and the write was one that does not wait for it. Nothing was changed.
    #[error("background work is behind; there may be room in {retry_after:?}")]
    Stalled {
        /// When to try again. Zero with [`Background::Manual`](crate::Background::Manual): once steps have been done.
        retry_after: Duration,
    },
    /// A setting cannot be used.
    #[error("invalid setting: {what}")]
    InvalidOptions {
        /// Which, and why.
        what: String,
    },
}

impl Error {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            Self::NoSpace { operation, path: path.to_path_buf() }
        } else {
            Self::Io { operation, path: path.to_path_buf(), source }
        }
    }

    pub(crate) fn corrupt(file: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_path_buf(), offset, what: what.into() }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { source, .. } => Self::Io(source),
            Error::Poisoned { reason } | Error::Ambiguous { reason } => Self::Poisoned(Poisoned { reason }),
            Error::UnknownKeyspace { keyspace } => Self::UnknownSpace(keyspace),
            corrupt @ (Error::Corrupt { .. } | Error::Merge { .. } | Error::NoMergeOperator { .. }) => {
                Self::Corrupt(Corrupt::new(corrupt.to_string()))
            }
            Error::NoSpace { .. } => Self::Io(io::ErrorKind::StorageFull.into()),
            Error::Stalled { .. } => Self::Io(io::ErrorKind::WouldBlock.into()),
            other => Self::Io(io::Error::other(other.to_string())),
        }
    }
}

impl From<Error> for CommitError {
    fn from(error: Error) -> Self {
        match error {
            Error::TooLarge { what, bytes, bytes_max } => Self::TooLarge { what, bytes, bytes_max },
            Error::NoSpace { .. } => Self::NoSpace,
            Error::Stalled { .. } => Self::Stalled,
            Error::NoMergeOperator { keyspace } => Self::NoMergeOperator(keyspace),
            Error::ExpiryWithOperator { keyspace } => Self::Expiring(keyspace),
            other => StoreError::from(other).into(),
        }
    }
}
