//! What a scan gives: pages, and the cursor that the next one goes on from.

pub(crate) mod listing;
pub(crate) mod position;

pub use self::position::InvalidCursor;

use bytes::Bytes;
use kv_core::key::{InvalidKey, Key};
use kv_core::time::Millis;
use thiserror::Error;

use self::position::Position;
use crate::quorum::{Consistency, TooFewReplicas};
use crate::request::{Read, ReadError};
use crate::status::Standing;

/// Most entries in a page.
pub const ENTRIES_MAX: usize = 4096;

/// A page to be read.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Scan {
    pub(crate) position: Position,
    pub(crate) entries_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) consistency: Consistency,
}

impl Scan {
    /// How many keys a page may come across, deleted ones and all: a page over nothing but deletes is empty, not slow.
    pub(crate) fn looks_max(&self) -> usize {
        if sabotaged!(LookWithoutBound) { usize::MAX } else { (16 * self.entries_max).clamp(256, ENTRIES_MAX) }
    }
}

/// A part of what a scan goes through.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Page {
    /// Keys that are there, in the order of the scan. There may be none although more follow.
    pub entries: Vec<Entry>,
    /// What the next page goes on from; nothing when this was the last one. Bytes that can be kept, and used at any node of the
    /// cluster, whatever was started again in between.
    pub cursor: Option<Bytes>,
    /// How many keys replicas held differently, so that they were read, and repaired, one by one.
    pub differed: usize,
}

/// One key of a page.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Entry {
    /// Which.
    pub key: Key,
    /// What a read of it gives.
    pub read: Read,
}

/// Why there is no page. Nothing was changed, except that replicas may have been repaired. The cursor that was used stays good.
#[derive(Clone, Eq, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum ScanError {
    /// The partition key, or an end of the range, is over the limits.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// The cursor cannot be used here.
    #[error(transparent)]
    InvalidCursor(#[from] InvalidCursor),
    /// The table is not known.
    #[error("unknown table")]
    UnknownTable,
    /// What a cache holds may be gone as soon as it is told.
    #[error("a cache table is not scanned")]
    CacheTable,
    /// Keys have fewer replicas than the level asks for, there where it asks for them. Nothing was asked.
    #[error(transparent)]
    TooFewReplicas(#[from] TooFewReplicas),
    /// Too few replicas of the next keys can be reached to try.
    #[error("{reachable} replicas can be reached, {required} are required")]
    Unavailable {
        /// How many can be reached.
        reachable: usize,
        /// How many are needed.
        required: usize,
    },
    /// The deadline passed before anything was found.
    #[error("{answered} of {required} replicas answered in time")]
    Timeout {
        /// How many had answered.
        answered: usize,
        /// How many were asked for.
        required: usize,
    },
    /// A key that replicas hold differently could not be read.
    #[error("a key that replicas hold differently cannot be read: {0}")]
    Read(ReadError),
    /// The node serves no requests; its status says why.
    #[error("the node does not serve: {0}")]
    NotServing(Standing),
    /// The node has too much to do.
    #[error("the node has too much to do; ask again after {retry_after:?}")]
    Overloaded {
        /// Not before this time is it to be asked again.
        retry_after: Millis,
    },
    /// The node stopped before it could answer.
    #[error("the node has stopped")]
    Stopped,
}
