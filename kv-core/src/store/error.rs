//! What can go wrong in a store, grouped by what a caller can do about it.

use thiserror::Error;

/// Bytes read back are not the bytes that were written. Retrying does not help; other keys can still be read.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[error("corrupt data: {what}")]
pub struct Corrupt {
    /// Where, and what was expected there.
    pub what: String,
}

impl Corrupt {
    /// A corruption described by `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }
}

/// A sync failed, so what is on the disk is unknown (the page cache may claim to be clean). Nothing more is acknowledged;
/// reopen the store to recover what is really there.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[error("the store was poisoned by a failed sync: {reason}")]
pub struct Poisoned {
    /// The first failure.
    pub reason: String,
}

/// A read failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// See [`Corrupt`].
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The disk refused; the same read may work later.
    #[error("input or output failed: {0}")]
    Io(#[from] std::io::Error),
    /// See [`Poisoned`].
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The space was not declared when the store was opened.
    #[error("unknown space {0}")]
    UnknownSpace(u32),
}

/// A commit failed. Unless the variant says otherwise nothing was changed.
#[derive(Debug, Error)]
pub enum CommitError {
    /// A key or value is over the limits.
    #[error("{what} of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// "key", "value" or "batch".
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The store cannot take more at the moment; try again later.
    #[error("the store is stalled by background work")]
    Stalled,
    /// The disk is full. Nothing was lost; the same commit works once there is room.
    #[error("no space left")]
    NoSpace,
    /// A merge on a space that has no operator.
    #[error("space {0} has no merge operator")]
    NoMergeOperator(u32),
    /// A put that expires. What a store holds for its host never goes by itself: the host decides when it may.
    #[error("space {0} takes no value that expires by itself")]
    Expiring(u32),
    /// See [`Poisoned`]. Whether the batch survives is unknown until the store is reopened.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The store could not write or read.
    #[error(transparent)]
    Store(StoreError),
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Poisoned(poisoned) => Self::Poisoned(poisoned),
            other => Self::Store(other),
        }
    }
}
